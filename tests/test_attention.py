"""``lengen_fast.ops.attention`` against its definition, on packed and batched rows, and its memory."""

import importlib
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lengen_fast.ops import Packing, attention, reference
from lengen_fast.ops.packing import RowSelection

lengths_of_sequences = st.one_of(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.builds(lambda length, count: [length] * count, st.integers(0, 9), st.integers(1, 5)),
    st.lists(st.sampled_from([0, 1, 15, 16, 17, 33]), min_size=1, max_size=3),
)
seeds = st.integers(0, 2**32 - 1)
MODULE = importlib.import_module("lengen_fast.ops.attention")  # the package shows the function under this name
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def bounds_of(lengths, device=None):
    return torch.tensor([0, *lengths], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)


def draw(*shape, seed=0, dtype=torch.float64, device=None):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def ulp(largest, dtype):
    """Distance of neighbouring numbers of ``dtype`` at ``largest``."""
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(largest)) if largest else 0.0


def error_of(actual, exact):
    assert actual.shape == exact.shape
    return float((actual.cpu().double() - exact).abs().max()) if exact.numel() else 0.0


def results(function, *operands):
    """Output and gradients of a random projection of it."""
    leaves = [operand.detach().clone().requires_grad_() for operand in operands]
    out = function(*leaves)
    weights = draw(*out.shape, seed=99, dtype=out.dtype, device=out.device)
    gradients = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)
    return [out.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True))]


def assert_agrees(operands, compute, define):
    """``compute`` is as exact as ``define`` in the same dtype, both judged by ``define`` in fp64 on the CPU.

    The output may have twice the error and 4 ulp of its largest value; a gradient twice the error and 8 ulp of the
    largest value of all gradients, for it may be exactly 0 (one key, weight 1) where two sums that cancel are computed.
    """
    dtype = operands[0].dtype
    exact = results(define, *(operand.cpu().double() for operand in operands))
    eager = results(define, *(operand.cpu() for operand in operands))
    largest = [max((float(x.abs().max()) for x in part if x.numel()), default=0.0) for part in (exact[:1], exact[1:])]
    for i, actual in enumerate(results(compute, *operands)):
        assert actual.dtype == dtype
        slack = 4 * ulp(largest[0], dtype) if i == 0 else 8 * ulp(largest[1], dtype)
        allowed = 1e-12 if dtype == torch.float64 else 2 * error_of(eager[i], exact[i]) + slack
        assert error_of(actual, exact[i]) <= allowed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(lengths_of_sequences, st.sampled_from([(1, 1), (2, 8), (3, 16)]), seeds)
@example([0, 0], (2, 8), 0)
@example([1], (2, 8), 0)
@example([1, 0, 130], (1, 16), 0)
def test_packed_sequences_follow_the_definition(dtype, device, lengths, heads_and_width, seed):
    operands = draw(3, sum(lengths), *heads_and_width, seed=seed, dtype=dtype, device=device).unbind()
    bounds = bounds_of(lengths, device)
    assert_agrees(
        operands,
        lambda q, k, v: attention(q, k, v, cu_seqlens=bounds),
        lambda q, k, v: reference.attention(q, k, v, cu_seqlens=bounds),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(st.data(), seeds)
def test_chosen_rows_follow_the_definition_however_small_the_mask(dtype, device, data, seed):
    lengths = data.draw(lengths_of_sequences)
    rows = data.draw(st.sets(st.integers(0, sum(lengths) - 1)) if sum(lengths) else st.just(set()))
    budget = data.draw(st.sampled_from([1, 7, 64, 1 << 24]))
    assert_chosen_rows_agree(lengths, sorted(rows), budget, seed, dtype, device)


@pytest.mark.parametrize("budget", [1, 20, 1 << 24])
@pytest.mark.parametrize(
    ("lengths", "rows"),
    [
        ([3, 5, 1, 4], range(13)),
        ([3, 5, 1, 4], [2, 7, 8, 12]),
        ([3, 5, 1, 4], [12]),
        ([3, 5, 0, 4], [0]),
        ([4, 4, 4], [3, 7, 11]),
        ([4, 4, 4], [0, 4, 9]),
        ([4, 4, 4], []),
        ([40], [0, 1, 38, 39]),
    ],
    ids=["all", "last of each", "last of all", "first of all", "alike", "unlike", "none", "one sequence"],
)
def test_usual_choices_of_rows(lengths, rows, budget, device):
    assert_chosen_rows_agree(lengths, list(rows), budget, 0, torch.float32, device)


def assert_chosen_rows_agree(lengths, rows, budget, seed, dtype, device):
    q, k, v = draw(3, sum(lengths), 2, 8, seed=seed, dtype=dtype, device=device).unbind()
    bounds, rows = bounds_of(lengths, device), torch.tensor(rows, dtype=torch.int64, device=device)

    def define(q, k, v):
        whole_q = q.new_zeros(k.shape).index_copy(0, rows.cpu(), q)
        return reference.attention(whole_q, k, v, cu_seqlens=bounds, query_rows=rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "MASK_BUDGET", budget)
        assert_agrees(
            (q[rows], k, v), lambda q, k, v: attention(q, k, v, cu_seqlens=bounds, query_rows=rows), define
        )
