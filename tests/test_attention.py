"""``lengen_fast.ops.attention`` against its definition, on packed and batched rows."""

import pytest
import torch
from attention_cases import (
    DTYPES,
    OPTIONS,
    assert_agrees,
    assert_terms_agree,
    beyonds,
    bounds_of,
    draw,
    draw_terms,
    lengths_of_sequences,
    results,
    seeds,
    some_options,
)
from attention_oracle import assert_errors_are_small_and_lean_to_no_side, ulp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lengen_fast.ops import Packing, attention, reference
from lengen_fast.ops.packing import RowSelection


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(lengths_of_sequences, st.sampled_from([(1, 1), (2, 8), (3, 16)]), seeds)
@example([0, 0], (2, 8), 0)
@example([1], (2, 8), 0)
@example([1, 0, 130], (1, 16), 0)
@example([6, 600], (1, 20), 0)
def test_packed_sequences_follow_the_definition(dtype, device, lengths, heads_and_width, seed):
    operands = draw(3, sum(lengths), *heads_and_width, seed=seed, dtype=dtype, device=device).unbind()
    bounds = bounds_of(lengths, device)
    assert_agrees(
        operands,
        lambda q, k, v: attention(q, k, v, cu_seqlens=bounds),
        lambda q, k, v: reference.attention(q, k, v, cu_seqlens=bounds),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=30)
@given(st.data(), seeds)
def test_chosen_rows_follow_the_definition(dtype, device, data, seed):
    lengths = data.draw(lengths_of_sequences)
    rows = data.draw(st.sets(st.integers(0, sum(lengths) - 1)) if sum(lengths) else st.just(set()))
    assert_chosen_rows_agree(lengths, sorted(rows), seed, dtype, device)


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
def test_usual_choices_of_rows(lengths, rows, device):
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=40)
@given(
    lengths_of_sequences,
    st.sampled_from([(1, 1), (2, 8), (3, 5)]),
    some_options,
    st.integers(1, 20),
    beyonds,
    st.none() | st.integers(1, 20),
    seeds,
)
@example([1, 0, 130], (1, 16), set(OPTIONS), 40, "last", 70, 0)
@example([1100], (2, 4), set(OPTIONS), 300, "line", None, 0)
def test_every_term_follows_the_definition(dtype, device, lengths, heads_and_width, which, width, beyond, window, seed):
    rows, heads = sum(lengths), heads_and_width[0]
    q, k, v = draw(3, rows, *heads_and_width, seed=seed, dtype=dtype, device=device).unbind()
    terms = draw_terms(which, (rows,), heads, width, seed % 1000, dtype, device)
    assert_terms_agree(q, k, v, terms, beyond, window=window, cu_seqlens=bounds_of(lengths, device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=40)
@given(st.data(), some_options, st.integers(1, 20), beyonds, st.none() | st.integers(1, 9), seeds)
def test_every_term_of_chosen_rows_follows_the_definition(dtype, device, data, which, width, beyond, window, seed):
    lengths = data.draw(lengths_of_sequences)
    chosen = sorted(data.draw(st.sets(st.integers(0, sum(lengths) - 1)))) if sum(lengths) else []
    rows = torch.tensor(chosen, dtype=torch.int64, device=device)
    heads, key_heads = data.draw(st.sampled_from([(1, 1), (2, 2), (3, 1)]))
    q, k, v = (draw(sum(lengths), n, 4, seed=seed, dtype=dtype, device=device) for n in (heads, key_heads, key_heads))
    terms = draw_terms(which, (sum(lengths),), heads, width, seed % 1000, dtype, device)
    if "logit_scale" in terms:
        terms["logit_scale"] = terms["logit_scale"][rows]
    assert_terms_agree(q[rows], k, v, terms, beyond, rows=rows, window=window, cu_seqlens=bounds_of(lengths, device))


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(0, 9), some_options, st.none() | st.integers(1, 9), st.data(), seeds)
def test_every_term_of_the_batched_layout_in_any_strides(device, batch, length, which, window, data, seed):
    shape, order = (batch, length, 2, 4), data.draw(st.permutations(range(4)))
    spread = draw(3, *(shape[i] for i in order), 2, seed=seed, device=device)[..., 0]
    q, k, v = spread.permute(0, *(1 + order.index(i) for i in range(4))).unbind()
    terms = draw_terms(which, (batch, length), 2, 5, seed % 1000, device=device)
    assert_terms_agree(q, k, v, terms, window=window)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "length", [0, 1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 47, 48, 49, 63, 64, 65, 95, 96, 97, 255, 256, 257, 300, 513]
)
@pytest.mark.parametrize("window", [None, 1, 16, 17, 150])
def test_lengths_around_the_edges_of_a_tile(length, window, dtype, device):
    q, k, v = draw(3, length, 2, 4, dtype=dtype, device=device).unbind()
    terms = draw_terms(OPTIONS, (length,), 2, 33, dtype=dtype, device=device)
    assert_terms_agree(q, k, v, terms, window=window)


@pytest.mark.parametrize("rise", [0.5, -0.5])
def test_the_largest_logit_may_come_first_or_last(rise, device):
    """However far apart the logits of a long row are, and in whichever order they come."""
    q, k, v = draw(3, 700, 2, 4, dtype=torch.float32, device=device).unbind()
    key_bias = rise * torch.arange(700.0, device=device).unsqueeze(1).expand(700, 2)
    assert_terms_agree(q, k, v, {"key_bias": key_bias})


def test_keys_that_no_row_may_see(device):
    """A bias of minus infinity for the first 300 keys: those behind them get all the weight."""
    q, k, v = draw(3, 700, 2, 4, dtype=torch.float32, device=device).unbind()
    key_bias = torch.zeros(700, 2, device=device).index_fill(0, torch.arange(300, device=device), -torch.inf)
    rows = torch.arange(300, 700, device=device)
    out = attention(q[rows], k, v, key_bias=key_bias, query_rows=rows)
    torch.testing.assert_close(out, attention(q[300:], k[300:], v[300:]))


def test_a_row_that_may_see_nothing_spoils_its_own_key_alone():
    q, k, v = (x.requires_grad_() for x in draw(3, 24, 1, 8, dtype=torch.float32).unbind())
    key_bias = torch.zeros(24, 1).index_fill(0, torch.tensor([0]), -torch.inf)
    attention(q, k, v, key_bias=key_bias)[1:].sum().backward()
    for gradient in (q.grad, k.grad, v.grad):
        assert gradient[1:].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_errors_of_a_long_row_are_small_and_lean_to_no_side(dtype, device):
    """Twice the error of the definition in the same dtype, as maximum and as root mean square; mean a tenth of that."""
    length, width = 257, 200
    q, k, v = draw(3, length, 2, 16, dtype=dtype, device=device).unbind()
    terms = draw_terms(OPTIONS, (length,), 2, width, dtype=dtype, device=device)
    operands = [q, k, v, *terms.values()]

    def of(function):
        return lambda q, k, v, *terms: function(q, k, v, **dict(zip(OPTIONS, terms, strict=True)), softmax_scale=0.1)

    exact = results(of(reference.attention), *(x.cpu().double() for x in operands))
    eager = results(of(reference.attention), *(x.cpu() for x in operands))
    actual = results(of(attention), *operands)
    for ours, theirs, true in zip(actual, eager, exact, strict=True):
        assert_errors_are_small_and_lean_to_no_side(ours, theirs, true, 4 * ulp(float(true.abs().max()), dtype))


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
def test_output_in_fp32_is_rounded_nowhere(dtype, which, device):
    """16-bit operands and fp32 output: as if the operands had been fp32 from the start."""
    q, k, v = draw(3, 40, 2, 8, dtype=dtype, device=device).unbind()
    terms = draw_terms(which, (40,), 2, 9, dtype=torch.float32, device=device)
    out = attention(q, k, v, **terms, out_dtype=torch.float32)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, attention(q.float(), k.float(), v.float(), **terms), rtol=1e-5, atol=1e-6)
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    attention(*leaves, **terms, out_dtype=torch.float32).sum().backward()
    assert all(leaf.grad.dtype == dtype for leaf in leaves)


@pytest.mark.parametrize("width", [4, 8, 20, 64])
def test_the_code_for_every_processor_follows_the_definition(width, path):
    q, k, v = draw(3, 260, 2, width, dtype=torch.float32).unbind()
    terms = draw_terms(OPTIONS, (260,), 2, 9, dtype=torch.float32)
    assert_terms_agree(q, k, v, terms, cu_seqlens=bounds_of([49, 0, 11, 200]))


@pytest.mark.parametrize("length", [50, 300])
def test_the_code_for_every_processor_gives_the_same_bits_for_any_number_of_threads(length, path):
    q, k, v = (x.requires_grad_() for x in draw(3, 3, length, 2, 32, dtype=torch.float32).unbind())

    def bits(threads):
        torch.set_num_threads(threads)
        out = attention(q, k, v)
        return out.detach(), *torch.autograd.grad(out.square().sum(), (q, k, v))

    before = torch.get_num_threads()
    try:
        assert all(map(torch.equal, bits(1), bits(2)))
    finally:
        torch.set_num_threads(before)


def test_what_a_row_does_not_see_does_not_reach_it(device):
    """Neither later keys nor those before the window, however large."""
    q, k, v = draw(3, 40, 1, 4, device=device).unbind()
    table = draw(1, 6, seed=5, device=device)
    before = attention(q, k, v, bias=table, window=7)
    for x in (k, v):
        x[:10], x[30:] = 1e30, -1e30
    after = attention(q, k, v, bias=table, window=7)
    torch.testing.assert_close(after[16:30], before[16:30])


def test_no_sequence_bounds_mean_one_sequence():
    q, k, v = draw(3, 6, 2, 4).unbind()
    rows = torch.tensor([0, 5])
    assert torch.equal(attention(q, k, v), attention(q, k, v, cu_seqlens=bounds_of([6])))
    chosen = attention(q[rows], k, v, cu_seqlens=bounds_of([6]), query_rows=rows)
    assert torch.equal(attention(q[rows], k, v, query_rows=rows), chosen)


def test_row_numbers_of_either_width_give_the_same(device):
    leaves = [x.requires_grad_() for x in draw(3, 7, 2, 4, device=device).unbind()]
    bounds, rows = bounds_of([4, 0, 3], device), torch.tensor([1, 3, 6], device=device)

    def with_gradients(rows):
        chosen = RowSelection.from_rows(rows, Packing.from_cu_seqlens(bounds, 7))
        out = attention(chosen.take(leaves[0]), *leaves[1:], cu_seqlens=bounds, query_rows=rows)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    assert all(map(torch.equal, with_gradients(rows), with_gradients(rows.int())))


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
