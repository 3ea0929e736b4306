"""Programs as ordinary transformers with learned positions: the same answers, for products that are invariant."""

import numpy as np
import pytest
import torch

import lengen_fast as lf
from lengen_fast.theory import Regularizer, parse, program_for
from lengen_fast.theory.compiler.verification import differences, hard_strings
from lengen_fast.theory.product_functions import translation_variation
from lengen_fast.theory.realization import from_program, realized, with_lines
from lengen_fast.theory.regularizer import positional_logits

PROGRAMS = {
    "counting": "alphabet a b\nNEXT_a := #Q_a < #Q_b\nNEXT_b := #Q_b < #Q_a",
    "local": "alphabet a b\nNEXT_a := exists[j <= i, j = i - 1] Q_b\nNEXT_b := exists[j <= i, j = i - 2] Q_a",
    "periodic": "alphabet a b\nNEXT_a := REL(3, 1)\nNEXT_b := Q_a and REL(2, 0)",
}
CONTEXT = 24


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_value_is_that_of_the_program_at_every_offset(name):
    program = parse(PROGRAMS[name])
    model = realized(program.compile(CONTEXT), CONTEXT)
    for tokens in list(zip(range(6), hard_strings(program, 20, np.random.default_rng(0)), strict=False)):
        for offset in range(CONTEXT - 20):
            assert not differences(program, model, tokens[1], offset).any()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_is_an_ordinary_one_of_the_theorem_s_class(name):
    model = realized(parse(PROGRAMS[name]).compile(CONTEXT), CONTEXT)
    config = model.config
    assert (config.positions, config.longest, config.period, config.local_reach) == ("ape", CONTEXT, None, 0)
    assert translation_variation(model) == 0
    assert len(model.embedding.positions) == CONTEXT


def test_a_bias_by_distance_becomes_a_product_of_positions():
    compiled = parse(PROGRAMS["local"]).compile(CONTEXT)
    model = realized(compiled, CONTEXT)
    expected = positional_logits(compiled, CONTEXT)  # of a model without a table: the biases
    for layer, block in enumerate(compiled.blocks):
        (width,) = block.attention.local_bias.shape[1:]
        found = positional_logits(model)[layer]
        for distance in range(CONTEXT):
            bias = block.attention.local_bias[:, distance] if distance < width else torch.zeros(1)
            assert torch.allclose(found.diagonal(-distance, 1, 2), bias[:, None].double())
    assert expected is not None


@pytest.mark.parametrize("longer", [CONTEXT, 4 * CONTEXT])
def test_the_regularizer_does_not_grow_with_the_context(longer):
    """What differs is how far phi reaches from the first position, which is the same for all contexts."""
    compiled = parse(PROGRAMS["local"]).compile(4 * CONTEXT)
    small, large = (Regularizer.of(realized(compiled, context)) for context in (CONTEXT, longer))
    assert small.total == pytest.approx(large.total, rel=1e-3)


def test_lines_in_place_of_steps_change_the_kind_of_units_alone():
    model = parse(PROGRAMS["counting"]).compile(CONTEXT)
    lines = with_lines(model)
    assert lines.config.heaviside_units == 0 < model.config.heaviside_units
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), lines.parameters(), strict=True))


def test_a_table_of_its_own_cannot_be_continued():
    with pytest.raises(ValueError, match="cannot be continued"):
        realized(lf.Transformer(lf.ModelConfig(5, 1, 1, 8, context=10)), 20)


def test_the_program_of_a_task_is_right_and_a_task_without_one_has_no_model():
    task = lf.task("unique_copy", symbols=5)
    model = from_program(task, task.context_for(5), lambda _: True)
    assert model.config.heaviside_units == 0
    assert from_program(task, task.context_for(5), lambda _: False).config.heaviside_units > 0
    assert from_program(lf.task("parity"), 20, lambda _: True) is None
    batch = task.sample(64, (1, 5), context=task.context_for(5))
    with torch.no_grad():
        logits = model(batch.tokens, cu_seqlens=batch.packing, offsets=batch.offsets, rows=batch.selection)
    assert torch.equal(logits.argmax(-1), batch.targets)


def test_values_are_dealt_out_to_more_heads_of_lower_rank():
    task = lf.task("unique_copy", symbols=12)
    plain = program_for(task).compile(task.tokens_at(8), task=task)
    model = from_program(task, task.context_for(8), lambda _: True)
    before, after = Regularizer.of(plain), Regularizer.of(model)
    assert after.value_rank < before.value_rank
    assert after.size + after.value_rank < before.size + before.value_rank
