"""``lengen_fast.ops.attention`` against its definition, on packed and batched rows, and its memory."""

import contextlib
import importlib
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lengen_fast.ops import Packing, attention, attention_cpu, packing, reference
from lengen_fast.ops.packing import RowSelection

lengths_of_sequences = st.one_of(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    st.builds(lambda length, count: [length] * count, st.integers(0, 7), st.integers(1, 4)),
    st.lists(st.sampled_from([0, 1, 15, 16, 17]), min_size=1, max_size=2),
)
seeds = st.integers(0, 2**32 - 1)
MODULE = importlib.import_module("lengen_fast.ops.attention")  # the package shows the function under this name
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@contextlib.contextmanager
def padded_in(short, mask_budget=1 << 24):
    """Attention that pads in buckets, the first of sequences up to ``short``, with masks no larger than that budget."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "SHORT", short)
        patch.setattr(attention_cpu, "BUCKETED_WORK", 0 if short else 1 << 60)
        patch.setattr(MODULE, "MASK_BUDGET", mask_budget)
        yield


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
    if not out.numel():
        return [out, *map(torch.zeros_like, leaves)]
    weights = draw(*out.shape, seed=99, dtype=out.dtype, device=out.device)
    gradients = torch.autograd.grad((out * weights).sum(), leaves)
    return [out.detach(), *gradients]


def assert_agrees(operands, compute, define):
    """``compute`` is as exact as ``define`` in the same dtype, both judged by ``define`` in fp64 on the CPU.

    The output may have twice the error and 4 ulp of its largest value; a gradient twice the error and 8 ulp of the
    largest value of all gradients, for it may be exactly 0 (one key, weight 1) where two sums that cancel are computed.
    """
    dtype = operands[0].dtype
    exact = results(define, *(operand.cpu().double() for operand in operands))
    eager = exact if dtype == torch.float64 else results(define, *(operand.cpu() for operand in operands))
    largest = [max((float(x.abs().max()) for x in part if x.numel()), default=0.0) for part in (exact[:1], exact[1:])]
    for i, actual in enumerate(results(compute, *operands)):
        assert actual.dtype == dtype
        slack = 4 * ulp(largest[0], dtype) if i == 0 else 8 * ulp(largest[1], dtype)
        allowed = 1e-12 if dtype == torch.float64 else 2 * error_of(eager[i], exact[i]) + slack
        assert error_of(actual, exact[i]) <= allowed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(lengths_of_sequences, st.sampled_from([(1, 1), (2, 8), (3, 16)]), st.integers(1, 4), seeds)
@example([0, 0], (2, 8), 1, 0)
@example([0, 0], (2, 8), 2, 0)
@example([1], (2, 8), 1, 0)
@example([1, 0, 130], (1, 16), 1, 0)
@example([1, 0, 130], (1, 16), 3, 0)
def test_packed_sequences_follow_the_definition(dtype, device, lengths, heads_and_width, short, seed):
    operands = draw(3, sum(lengths), *heads_and_width, seed=seed, dtype=dtype, device=device).unbind()
    bounds = bounds_of(lengths, device)
    with padded_in(short):
        assert_agrees(
            operands,
            lambda q, k, v: attention(q, k, v, cu_seqlens=bounds),
            lambda q, k, v: reference.attention(q, k, v, cu_seqlens=bounds),
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(st.data(), seeds)
def test_chosen_rows_follow_the_definition_however_small_the_mask(dtype, device, data, seed):
    lengths = data.draw(lengths_of_sequences)
    rows = data.draw(st.sets(st.integers(0, sum(lengths) - 1)) if sum(lengths) else st.just(set()))
    with padded_in(data.draw(st.integers(0, 4)), data.draw(st.sampled_from([1, 7, 64, 1 << 24]))):
        assert_chosen_rows_agree(lengths, sorted(rows), seed, dtype, device)


@pytest.mark.parametrize("short", [0, 1, 2])
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
def test_usual_choices_of_rows(lengths, rows, budget, short, device):
    with padded_in(short, budget):
        assert_chosen_rows_agree(lengths, list(rows), 0, torch.float32, device)


def assert_chosen_rows_agree(lengths, rows, seed, dtype, device):
    q, k, v = draw(3, sum(lengths), 2, 8, seed=seed, dtype=dtype, device=device).unbind()
    bounds, rows = bounds_of(lengths, device), torch.tensor(rows, dtype=torch.int64, device=device)

    def define(q, k, v):
        whole_q = q.new_zeros(k.shape).index_copy(0, rows.cpu(), q)
        return reference.attention(whole_q, k, v, cu_seqlens=bounds, query_rows=rows)

    assert_agrees((q[rows], k, v), lambda q, k, v: attention(q, k, v, cu_seqlens=bounds, query_rows=rows), define)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(0, 9), seeds)
def test_batched_layout_is_the_packed_one_with_equal_lengths(device, batch, length, seed):
    q, k, v = draw(3, batch, length, 2, 8, seed=seed, dtype=torch.float32, device=device).unbind()
    bounds = bounds_of([length] * batch)

    def define(q, k, v):
        q, k, v = (operand.flatten(0, 1) for operand in (q, k, v))
        return reference.attention(q, k, v, cu_seqlens=bounds).unflatten(0, (batch, length))

    assert_agrees((q, k, v), attention, define)


@pytest.mark.parametrize("lengths", [[4, 4], [5, 2, 1], [9]], ids=str)
def test_views_of_a_fused_projection(lengths, device):
    """q, k and v as slices of one [N, 3, H, D] tensor, and heads as slices of a wider one."""
    bounds, rows = bounds_of(lengths), sum(lengths)
    fused = draw(rows, 3, 2, 8, dtype=torch.float32, device=device)
    wide = draw(3, rows, 5, 2, 16, dtype=torch.float32, device=device)
    for views in (fused.unbind(1), wide[:, :, 3, :, ::2].unbind()):
        assert not views[0].is_contiguous()
        expected = reference.attention(*(view.cpu() for view in views), cu_seqlens=bounds)
        actual = attention(*views, cu_seqlens=bounds.to(device)).cpu()
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)

    assert_agrees(
        (fused,),
        lambda x: attention(*x.unbind(1), cu_seqlens=bounds.to(device)),
        lambda x: reference.attention(*x.unbind(1), cu_seqlens=bounds),
    )


@pytest.mark.parametrize("rows", [None, [2, 3, 7]], ids=["all rows", "chosen rows"])
def test_one_tensor_as_queries_keys_and_values(rows, device):
    """Its gradient is the sum of the three."""
    x, bounds = draw(8, 2, 4, device=device), bounds_of([3, 5], device)
    rows = None if rows is None else torch.tensor(rows, device=device)
    assert_agrees(
        (x,),
        lambda x: attention(x if rows is None else x[rows], x, x, cu_seqlens=bounds, query_rows=rows),
        lambda x: reference.attention(x, x, x, cu_seqlens=bounds, query_rows=None if rows is None else rows.cpu()),
    )


def test_no_sequence_bounds_mean_one_sequence():
    q, k, v = draw(3, 6, 2, 4).unbind()
    rows = torch.tensor([0, 5])
    assert torch.equal(attention(q, k, v), attention(q, k, v, cu_seqlens=bounds_of([6])))
    chosen = attention(q[rows], k, v, cu_seqlens=bounds_of([6]), query_rows=rows)
    assert torch.equal(attention(q[rows], k, v, query_rows=rows), chosen)


@pytest.mark.parametrize("scale", [0.0, 1.0, -3.0])
def test_softmax_scale_of_any_sign(scale, device):
    operands, rows = draw(3, 6, 2, 4, device=device).unbind(), torch.tensor([0, 3, 5], device=device)
    assert_agrees(
        operands,
        lambda q, k, v: attention(q, k, v, softmax_scale=scale),
        lambda q, k, v: reference.attention(q, k, v, softmax_scale=scale),
    )
    assert_agrees(
        operands,
        lambda q, k, v: attention(q[rows], k, v, softmax_scale=scale, query_rows=rows),
        lambda q, k, v: reference.attention(q, k, v, softmax_scale=scale, query_rows=rows.cpu()),
    )


def test_prepared_packing_and_selection_change_nothing():
    q, k, v = draw(3, 7, 2, 4).unbind()
    bounds, rows = bounds_of([4, 0, 3]), torch.tensor([1, 3, 6])
    packing = Packing.from_cu_seqlens(bounds, 7)
    assert torch.equal(attention(q, k, v, cu_seqlens=packing), attention(q, k, v, cu_seqlens=bounds))
    prepared = attention(q[rows], k, v, cu_seqlens=packing, query_rows=RowSelection.from_rows(rows, packing))
    assert torch.equal(prepared, attention(q[rows], k, v, cu_seqlens=bounds, query_rows=rows))


@pytest.mark.parametrize(
    ("lengths", "short"), [([3], 0), ([2, 2], 1), ([1, 3, 0], 0), ([1, 3, 0], 1), ([2, 0, 2, 1], 1)], ids=str
)
def test_gradients_by_finite_differences(lengths, short, device):
    operands = draw(3, sum(lengths), 2, 2, device=device).requires_grad_().unbind()
    bounds = bounds_of(lengths, device)
    with padded_in(short):
        assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, cu_seqlens=bounds), operands)


@pytest.mark.parametrize("short", [0, 1, 2])
@pytest.mark.parametrize("rows", [[0], [1, 3], [0, 1, 2, 3, 4]], ids=str)
def test_gradients_of_chosen_rows_by_finite_differences(rows, short, device):
    q, k, v = draw(3, 5, 1, 2, device=device).requires_grad_().unbind()
    bounds, rows = bounds_of([2, 3], device), torch.tensor(rows, device=device)
    with padded_in(short, mask_budget=3):
        assert torch.autograd.gradcheck(
            lambda q, k, v: attention(q[rows], k, v, cu_seqlens=bounds, query_rows=rows), (q, k, v)
        )


def test_nothing_to_compute_stays_in_the_graph():
    """A batch without rows can go through a training step."""
    q, k, v = torch.zeros(3, 0, 2, 4, requires_grad=True).unbind()
    out = attention(q, k, v, cu_seqlens=bounds_of([0, 0]))
    assert out.shape == (0, 2, 4)
    out.sum().backward()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 1000, 4095, 4097])
def test_uniform_attention_counts(length, device):
    """With q = k = 0 every row averages v over what it sees: for v in {0, 1}, count / n to one ulp."""
    ones = draw(length, 1, 1, seed=length) > 0.5
    v = ones.to(device, torch.float32)
    out = attention(torch.zeros_like(v), torch.zeros_like(v), v)
    assert_counts(out, ones.long().cumsum(0), torch.arange(1, length + 1).view(-1, 1, 1))


@pytest.mark.parametrize("length", [1, 65_536, 262_145, 1 << 20])
def test_uniform_attention_of_a_last_row_counts(length, device):
    ones = draw(length, 1, 1, seed=length) > 0.5
    v = ones.to(device, torch.float32)
    last = torch.tensor([length - 1], device=device)
    out = attention(torch.zeros_like(v[last]), torch.zeros_like(v), v, query_rows=last)
    assert_counts(out, ones.sum(), length)


def assert_counts(actual, counts, of):
    """``actual`` is ``counts / of`` in fp32 or the number next to it."""
    share = (counts.double() / of).float()
    below, above = (torch.nextafter(share, torch.tensor(limit)) for limit in (-torch.inf, torch.inf))
    assert bool(((below <= actual.cpu()) & (actual.cpu() <= above)).all())


X = torch.zeros(6, 2, 4)
GOOD = {"q": X, "k": X, "v": X}
OTHER_SELECTION = RowSelection.from_rows(torch.tensor([1]), Packing.uniform(3, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v": X[:5]}, "k and v must have one shape.*6, 2, 4.*5, 2, 4"),
        ({"q": X[0], "k": X[0], "v": X[0]}, "k and v must have one shape"),
        ({"k": X[..., :0], "v": X[..., :0]}, "k and v must have a head width D of at least 1"),
        ({"q": X[:5]}, "q must have shape .6, 2, 4. .*5, 2, 4"),
        ({"q": X[:, :1]}, "q must have shape"),
        ({"q": X.long(), "k": X.long(), "v": X.long()}, "floating dtype, got torch.int64"),
        ({"k": X.double()}, "share dtype.*k is torch.float64"),
        ({"v": X.half()}, "share dtype.*v is torch.float16"),
        ({"k": X.to("meta")}, "share dtype and device.*k is .* on meta"),
        ({"cu_seqlens": torch.tensor([1, 6])}, "cu_seqlens must start at 0.*starts at 1"),
        ({"cu_seqlens": torch.tensor([0, 7])}, "cu_seqlens must .* end at .*6.*ends at 7"),
        ({"cu_seqlens": torch.tensor([0, 5])}, "cu_seqlens must .* end at .*6.*ends at 5"),
        ({"cu_seqlens": torch.tensor([0, 4, 3, 6])}, "cu_seqlens must never decrease"),
        ({"cu_seqlens": torch.tensor([0.0, 6.0])}, "cu_seqlens must be a vector.*float32"),
        ({"cu_seqlens": torch.tensor([0])}, "cu_seqlens must be a vector of at least two"),
        ({"cu_seqlens": torch.tensor([[0, 6]])}, "cu_seqlens must be a vector"),
        ({"cu_seqlens": Packing.uniform(2, 4)}, "cu_seqlens packs 8 rows.*6"),
        ({"q": X[:1], "query_rows": torch.tensor([6])}, "query_rows must lie in 0..5"),
        ({"q": X[:1], "query_rows": torch.tensor([-1])}, "query_rows must lie in 0..5"),
        ({"q": X[:2], "query_rows": torch.tensor([3, 1])}, "query_rows must increase"),
        ({"q": X[:2], "query_rows": torch.tensor([3, 3])}, "query_rows must increase"),
        ({"q": X[:1], "query_rows": torch.tensor([1.0])}, "query_rows must be an int64 vector.*float32"),
        ({"q": X[:1], "query_rows": torch.tensor(1)}, "query_rows must be an int64 vector"),
        ({"q": X[:3], "query_rows": torch.tensor([1, 2])}, "q must have shape .2, 2, 4. .* query_rows"),
        ({"q": X[:1], "query_rows": OTHER_SELECTION}, "query_rows were chosen from other packed rows"),
    ],
)
def test_what_does_not_fit_together_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        attention(**GOOD | changes)


@pytest.mark.parametrize(
    ("option", "value"), [("cu_seqlens", torch.tensor([0, 3])), ("query_rows", torch.tensor([1]))], ids=str
)
def test_packed_arguments_with_batched_operands_are_refused(option, value):
    x = torch.zeros(1, 3, 2, 4)
    with pytest.raises(ValueError, match="cu_seqlens and query_rows need packed q, k and v"):
        attention(x, x, x, **{option: value})


@pytest.mark.parametrize("option", ["cu_seqlens", "query_rows"])
def test_lists_are_refused(option):
    with pytest.raises(TypeError, match=f"{option} must be a tensor.*got list"):
        attention(X, X, X, **{option: [0, 6]})


ATTEND = """
import torch
from lengen_fast.ops import attention
def run(rows, length):
    q, k, v = (torch.randn(count, 4, 16, requires_grad=True) for count in (rows or length, length, length))
    chosen = torch.arange(length - rows, length) if rows else None
    attention(q, k, v, query_rows=chosen).sum().backward()
run(0, 64), run(2, 64)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length"), [(0, 16_384), (2, 262_144)], ids=["all rows", "two rows"])
def test_no_scores_of_all_pairs_in_memory(rows, length, memory_growth):
    """Forward and backward stay below 16 tensors of the size of q; one head's scores of all pairs are 1 GiB or more."""
    assert memory_growth(ATTEND, f"run({rows}, {length})") < 16 * (length * 4 * 16 * 4)
