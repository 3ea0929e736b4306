"""The positional-product penalty: its blocked sums against the plain definition, and what it does in training."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.ops import reference
from lengen_fast.theory import positional_product_penalty, regularizer
from lengen_fast.training import training_loss

TASK = lf.task("binary_majority")


def build(context, layers=1, heads=2, width=8, positions="ape", dtype=torch.float64):
    config = lf.ModelConfig(TASK.vocab_size, layers, heads, width, positions, context, init_std=0.5)
    return lf.Transformer(config).to(dtype)


def define(model):
    weights = [block.attention.qkv.weight.chunk(3)[:2] for block in model.blocks]
    return reference.positional_product_penalty(
        model.embedding.positions, *map(list, zip(*weights, strict=True)), model.config.heads
    )


def table_and_projections(model):
    return [model.embedding.positions, *(block.attention.qkv.weight for block in model.blocks)]


@settings(max_examples=25)
@given(
    st.one_of(st.integers(1, 20), st.integers(125, 131), st.integers(254, 259)),
    st.sampled_from([(1, 1), (1, 4), (2, 8), (4, 8)]),
    st.integers(1, 3),
)
@example(1, (1, 1), 1)
@example(128, (2, 8), 2)
@example(129, (2, 8), 2)
@example(256, (2, 8), 1)
def test_blocked_sums_follow_the_definition(context, heads_and_width, layers):
    model = build(context, layers, *heads_and_width)
    leaves = table_and_projections(model)
    penalty, expected = positional_product_penalty(model), define(model)
    torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=0)
    for actual, plain in zip(torch.autograd.grad(penalty, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(actual, plain, rtol=0, atol=1e-12 * float(plain.abs().max()))


def test_the_size_of_the_blocks_changes_nothing(monkeypatch):
    model = build(40)
    whole = positional_product_penalty(model)
    for block in (1, 7, 39, 40):
        monkeypatch.setattr(regularizer, "BLOCK", block)
        torch.testing.assert_close(positional_product_penalty(model), whole, rtol=1e-13, atol=0)


def test_single_precision_is_close_to_double():
    single = positional_product_penalty(build(300, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(positional_product_penalty(build(300)).item(), rel=1e-5)


def test_without_positions_there_is_no_penalty():
    model = build(50, positions="nope")
    assert positional_product_penalty(model).item() == 0.0
    batch = TASK.sample(4, (1, 20))
    assert torch.equal(training_loss(model, batch, regularize=10.0), training_loss(model, batch))


def test_training_loss_adds_the_penalty_and_its_gradient():
    model, batch = build(60, layers=2), TASK.sample(8, (1, 40), context=60)
    leaves = table_and_projections(model)
    losses = [training_loss(model, batch), training_loss(model, batch, regularize=0.25), 0.25 * define(model)]
    torch.testing.assert_close(losses[1], losses[0] + losses[2], rtol=1e-12, atol=0)
    for plain, regularized, penalty in zip(*(torch.autograd.grad(loss, leaves) for loss in losses), strict=True):
        torch.testing.assert_close(regularized, plain + penalty, rtol=1e-9, atol=1e-12)
        assert float(penalty.abs().max()) > 1e-6


def test_training_with_a_large_coefficient_lowers_the_penalty():
    before, after = {}, {}
    for coefficient in (0.0, 10.0):
        model, batch = build(60, dtype=torch.float32), TASK.sample(8, (1, 40), context=60)
        before[coefficient] = positional_product_penalty(model).item()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            training_loss(model, batch, coefficient).backward()
            optimizer.step()
        after[coefficient] = positional_product_penalty(model).item()
    assert after[10.0] < 0.1 * before[10.0]
    assert after[10.0] < 0.1 * after[0.0]
