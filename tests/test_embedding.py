"""``lengen_fast.ops.embed`` against its definition: tokens, positions, offsets, and what does not fit."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from lengen_fast.ops import Packing, embed, reference

VOCABULARY, WIDTH, CONTEXT = 5, 3, 12


def tables(device=None, dtype=torch.float64):
    numbers = torch.Generator().manual_seed(0)
    shapes = ((VOCABULARY, WIDTH), (CONTEXT, WIDTH))
    return [torch.randn(shape, generator=numbers, dtype=dtype).to(device).requires_grad_() for shape in shapes]


def packed(lengths, device=None):
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0)
    tokens = torch.randint(VOCABULARY, (sum(lengths),), generator=torch.Generator().manual_seed(1)).to(device)
    return tokens, Packing.from_cu_seqlens(bounds, sum(lengths))


def with_gradients(compute, leaves):
    out = compute()
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return [out, *torch.autograd.grad((out * weights).sum(), leaves)]


@st.composite
def lengths_and_offsets(draw):
    """Lengths of sequences, at least one row in all, and offsets that keep each inside the table."""
    lengths = draw(st.lists(st.integers(0, CONTEXT), min_size=1, max_size=4).filter(any))
    return lengths, draw(st.none() | st.tuples(*(st.integers(0, CONTEXT - length) for length in lengths)))


@given(lengths_and_offsets())
@example(([CONTEXT, 0, 1], (0, CONTEXT, CONTEXT - 1)))
def test_sums_follow_the_definition(device, drawn):
    lengths, offsets = drawn
    offsets = None if offsets is None else torch.tensor(offsets, device=device)
    (tokens, packing), leaves = packed(lengths, device), tables(device)
    actual = with_gradients(lambda: embed(tokens, *leaves, cu_seqlens=packing, offsets=offsets), leaves)
    expected = with_gradients(
        lambda: reference.embed(tokens, *leaves, cu_seqlens=packing.cu_seqlens, offsets=offsets), leaves
    )
    assert torch.equal(actual[0], expected[0])
    for gradient, definition in zip(actual[1:], expected[1:], strict=True):
        torch.testing.assert_close(gradient, definition, rtol=0, atol=1e-12)


@pytest.mark.parametrize("offsets", [None, torch.tensor([3, 400])], ids=["none", "far"])
def test_without_positions_only_tokens_count(offsets):
    tokens, packing = packed([4, 2])
    token_table, _ = tables()
    assert torch.equal(embed(tokens, token_table, cu_seqlens=packing, offsets=offsets), token_table[tokens])


def test_without_a_packing_the_rows_are_one_sequence():
    tokens, packing = packed([6])
    assert torch.equal(embed(tokens, *tables()), embed(tokens, *tables(), cu_seqlens=packing))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_of_either_width_give_the_same(dtype, device):
    (tokens, packing), leaves = packed([3, 0, 5], device), tables(device, dtype)
    offsets = torch.tensor([0, 1, 4], device=device)
    wide, narrow = (
        with_gradients(lambda each=each: embed(each, *leaves, cu_seqlens=packing, offsets=offsets), leaves)
        for each in (tokens, tokens.int())
    )
    assert all(map(torch.equal, wide, narrow))


def test_no_rows():
    tokens, packing = packed([0, 0])
    assert embed(tokens, *tables(), cu_seqlens=packing).shape == (0, WIDTH)


def test_gradients_by_finite_differences(device):
    tokens, packing = packed([3, 0, 2], device)
    offsets = torch.tensor([0, 12, 10], device=device)
    assert torch.autograd.gradcheck(
        lambda *leaves: embed(tokens, *leaves, cu_seqlens=packing, offsets=offsets), tables(device)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.bool])
def test_tokens_of_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=r"tokens must be packed, .N., int32 or int64, got shape .3,. and torch"):
        embed(torch.zeros(3, dtype=dtype), *tables())


@pytest.mark.parametrize(
    ("lengths", "offsets", "needed"),
    [([CONTEXT + 1], None, 13), ([2, CONTEXT], [0, 1], 13), ([3], [CONTEXT], 15), ([CONTEXT, 1], [0, 30], 31)],
    ids=str,
)
def test_a_sequence_past_the_table_is_refused_with_advice(lengths, offsets, needed):
    tokens, packing = packed(lengths)
    offsets = None if offsets is None else torch.tensor(offsets)
    message = f"a sequence needs {needed} positions and the position table has 12: .*context.*nope"
    with pytest.raises(ValueError, match=message):
        embed(tokens, *tables(), cu_seqlens=packing, offsets=offsets)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0], "offsets must be one for each of 2 sequences"),
        ([0, 0, 0], "offsets must be one for each of 2 sequences"),
        ([0, -1], "offsets must not be negative, got -1"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(offsets, message):
    tokens, packing = packed([3, 2])
    with pytest.raises(ValueError, match=message):
        embed(tokens, *tables(), cu_seqlens=packing, offsets=torch.tensor(offsets))


@pytest.mark.parametrize("token", [-1, VOCABULARY])
def test_a_token_outside_the_vocabulary_is_refused(token):
    with pytest.raises(ValueError, match=r"tokens must lie in 0\.\.4"):
        embed(torch.tensor([0, token]), *tables())


def test_a_packing_of_other_rows_is_refused():
    with pytest.raises(ValueError, match="packs 5 rows and is given with 4"):
        embed(torch.zeros(4, dtype=torch.int64), *tables(), cu_seqlens=Packing.uniform(1, 5))


# ---- what may not reach the kernel ----

TOKENS = torch.arange(5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((TOKENS, torch.rand(10, 40), torch.rand(100, 1)), {}, r"position_table must be \[context, 40\]"),
        ((TOKENS.view(1, 5), torch.rand(10, 4)), {}, r"tokens must be packed, \[N\]"),
        ((TOKENS, torch.rand(10)), {}, r"token_table must be \[V, C\]"),
        ((TOKENS.to("meta"), torch.rand(10, 4)), {}, "must be on one device"),
        ((TOKENS, torch.rand(10, 4), torch.rand(20, 4)), {"offsets": torch.tensor([2**63 - 1])}, "positions"),
        ((TOKENS, torch.rand(10, 4), torch.rand(20, 4)), {"offsets": torch.tensor([1.0])}, "whole numbers"),
        ((TOKENS, torch.rand(10, 4)), {"cu_seqlens": torch.arange(6), "offsets": torch.tensor([7])}, "offsets must be"),
    ],
)
def test_operands_that_do_not_fit_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        embed(*arguments, **options)


def test_tokens_changed_before_the_backward_pass_are_noticed():
    numbers = np.arange(5)
    out = embed(torch.from_numpy(numbers), torch.rand(10, 4, requires_grad=True))
    numbers[:] = 10**12
    with pytest.raises(RuntimeError, match="were changed"):
        out.sum().backward()


def test_transforms_and_second_derivatives():
    token_table, position_table = torch.rand(10, 4), torch.rand(20, 4)
    loss = lambda a, b: embed(TOKENS, a, b, offsets=torch.tensor([3])).pow(3).sum()  # noqa: E731
    leaves = [token_table.clone().requires_grad_(), position_table.clone().requires_grad_()]
    expected = torch.autograd.grad(loss(*leaves), leaves, create_graph=True)
    for one, other in zip(torch.func.grad(loss, (0, 1))(token_table, position_table), expected, strict=True):
        torch.testing.assert_close(one, other)
    second = torch.autograd.grad(sum(x.sum() for x in expected), leaves[0])[0]
    rows = token_table[TOKENS] + position_table[3:8]
    torch.testing.assert_close(second[:5], 12 * rows)
    with FakeTensorMode():
        assert embed(torch.zeros(5, dtype=torch.int64), torch.rand(10, 4)).shape == (5, 4)
