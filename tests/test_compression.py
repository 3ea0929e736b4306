"""Lower rank, smaller matrices, fewer bits: what is kept, and what gets smaller."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.theory import Regularizer
from lengen_fast.theory.compression import (
    compress,
    shrink,
    with_context,
    with_least_precision,
    with_least_rank,
    with_precision,
    with_rank,
)
from lengen_fast.theory.regularizer import fractional_bits

TASK = lf.task("binary_majority")
OPTIONS = dict(normalization="none", tied_embeddings=False, log_n_scaling=True, mlp_width=5, activation="relu")


def build(seed=0, layers=2, heads=2):
    config = lf.ModelConfig(TASK.vocab_size, layers, heads, 8, context=24, init_std=0.5, **OPTIONS)
    model = lf.Transformer(config, seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def answers(model):
    batch = TASK.sample(16, (1, 20), context=24)
    with torch.no_grad():
        return model(batch.tokens, cu_seqlens=batch.packing, offsets=batch.offsets)


def value_matrices(model):
    for block in model.blocks:
        attention = block.attention
        values = attention.qkv.weight.chunk(3)[2].chunk(attention.heads)
        for out, value in zip(attention.out.weight.chunk(attention.heads, dim=1), values, strict=True):
            yield (out @ value).detach()


@settings(max_examples=20)
@given(st.integers(0, 24), st.integers(0, 1000))
def test_rounding_moves_every_parameter_by_at_most_half_a_step(bits, seed):
    model = build(seed, layers=1)
    rounded = with_precision(model, bits)
    assert fractional_bits(rounded) <= bits
    for before, after in zip(model.parameters(), rounded.parameters(), strict=True):
        assert float((before - after).detach().abs().max()) <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_values_become_the_nearest_of_that_rank(rank):
    model = build()
    cut = with_rank(model, rank)
    for before, after in zip(value_matrices(model), value_matrices(cut), strict=True):
        left, singular, right = torch.linalg.svd(before)
        nearest = left[:, :rank] @ torch.diag(singular[:rank]) @ right[:rank]
        torch.testing.assert_close(after, nearest, atol=1e-5, rtol=0)
    assert Regularizer.of(cut).value_rank == rank
    assert Regularizer.of(with_precision(cut, 3)).value_rank <= rank


def test_full_rank_changes_no_answer():
    model = build()
    torch.testing.assert_close(answers(with_rank(model, 4)), answers(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("context", [10, 24, 30])
def test_another_context_keeps_the_first_positions_and_adds_zeros(context):
    model = build()
    other = with_context(model, context)
    table, new = model.embedding.positions, other.embedding.positions
    kept = min(context, 24)
    assert other.config.context == len(new) == context
    assert torch.equal(new[:kept], table[:kept])
    assert not new[kept:].any()
    tokens = TASK.sample(1, 5).tokens
    torch.testing.assert_close(other(tokens), model(tokens))


def test_the_model_itself_stays_as_it_is():
    model = build(layers=1, heads=1)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    compress(model, lambda _: True)
    shrink(model, lambda _: True)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


@pytest.mark.parametrize("least", [0, 1, 2, 3, 4])
def test_the_least_rank_is_found(least):
    assert Regularizer.of(with_least_rank(build(), lambda m: Regularizer.of(m).value_rank >= least)).value_rank == least


@pytest.mark.parametrize("least", [1, 7, 24])
def test_the_least_precision_is_found(least):
    assert fractional_bits(with_least_precision(build(), lambda m: fractional_bits(m) >= least)) == least
    assert with_least_precision(build(), lambda m: False) is None
    assert compress(build(), lambda m: False) is None


def test_nothing_is_left_of_a_model_of_which_nothing_is_asked():
    smallest, terms = shrink(build(layers=1, heads=1), lambda _: True)
    assert terms.total == terms.size
    assert not any(parameter.any() for parameter in smallest.parameters())


def test_shrinking_keeps_what_is_asked_and_lowers_the_regularizer():
    model = build(heads=1)
    wanted = answers(model).argmax(-1)

    def accept(candidate):
        return torch.equal(answers(candidate).argmax(-1), wanted)

    compressed, before = compress(model, accept)
    smaller, after = shrink(compressed, accept)
    assert accept(smaller)
    assert after == Regularizer.of(smaller)
    assert after.total < before.total < Regularizer.of(model).total


def test_numbers_of_one_size_are_scaled_apart_from_others():
    """A table of few sizes, of which the greater one is needed: the smaller one goes."""
    model = build(layers=1, heads=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.tokens[:2] = 2.0
        model.embedding.tokens[2:] = 0.5
    smaller, terms = shrink(model, lambda candidate: float(candidate.embedding.tokens.detach().max()) >= 1)
    tokens = smaller.embedding.tokens.detach()
    assert set(tokens.unique().tolist()) == {0.0, 1.0}
    assert tokens[0].any()
    assert not tokens[2:].any()
    assert terms.precision == 0


def test_a_matrix_is_halved_and_another_doubled_where_that_is_less():
    """Only the product of two sizes is asked for; 8 and 1/2 add up to more than 2 and 2."""
    model = build(layers=1, heads=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embedding.unembedding[0, 0], model.embedding.tokens[0, 0] = 8.0, 0.5

    def product(candidate):
        return float((candidate.embedding.unembedding[0, 0] * candidate.embedding.tokens[0, 0]).detach())

    smaller, terms = shrink(model, lambda candidate: product(candidate) >= 4)
    assert product(smaller) == 4
    assert terms.unembedding_norm + terms.token_norm == 4
    assert terms.precision == 0


def test_a_model_that_is_not_accepted_cannot_be_shrunk():
    with pytest.raises(ValueError, match="accept"):
        shrink(build(), lambda _: False)
