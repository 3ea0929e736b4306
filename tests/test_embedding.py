"""``lengen_fast.ops.embed`` against its definition: tokens, positions, offsets, and what does not fit."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

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


def test_no_rows():
    tokens, packing = packed([0, 0])
    assert embed(tokens, *tables(), cu_seqlens=packing).shape == (0, WIDTH)


def test_gradients_by_finite_differences(device):
    tokens, packing = packed([3, 0, 2], device)
    offsets = torch.tensor([0, 12, 10], device=device)
    assert torch.autograd.gradcheck(
        lambda *leaves: embed(tokens, *leaves, cu_seqlens=packing, offsets=offsets), tables(device)
    )


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
