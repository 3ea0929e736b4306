"""``lengen_fast.ops.attention`` against its definition, on packed and batched rows, and its memory."""

import math
import os

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from lengen_fast import _cpu
from lengen_fast.ops import DistanceBias, Packing, attention, attention_op, attention_torch, reference
from lengen_fast.ops.packing import RowSelection

lengths_of_sequences = st.one_of(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    st.builds(lambda length, count: [length] * count, st.integers(0, 7), st.integers(1, 4)),
    st.lists(st.sampled_from([0, 1, 15, 16, 17]), min_size=1, max_size=2),
)
seeds = st.integers(0, 2**32 - 1)
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


OPTIONS = ("bias", "key_bias", "logit_scale")


def draw_terms(which, rows, heads, width, seed=0, dtype=torch.float64, device=None):
    """Those of bias [H, W], key_bias [rows, H] and logit_scale [rows, H] that are named in ``which``."""
    shapes = {"bias": (heads, width), "key_bias": (*rows, heads), "logit_scale": (*rows, heads)}
    terms = {name: draw(*shapes[name], seed=seed + i, dtype=dtype, device=device) for i, name in enumerate(OPTIONS)}
    return {name: terms[name] for name in OPTIONS if name in which}


def with_beyond(terms, beyond):
    """``terms`` as arguments of attention, the bias with what holds beyond its table."""
    if "bias" not in terms or beyond == "last":
        return terms
    if beyond == "line":
        beyond = -0.3 * torch.arange(1, len(terms["bias"]) + 1).to(terms["bias"])
    return terms | {"bias": DistanceBias(terms["bias"], beyond)}


def assert_terms_agree(q, k, v, terms, beyond="last", rows=None, **options):
    """Output and all gradients, with ``rows`` of the chosen rows alone, against the definition."""
    names = list(terms)

    def compute(q, k, v, *values):
        given = with_beyond(dict(zip(names, values, strict=True)), beyond)
        return attention(q, k, v, **given, **options, query_rows=rows)

    def define(q, k, v, *values):
        given = with_beyond(dict(zip(names, values, strict=True)), beyond)
        plain = {name: x.cpu() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        if rows is None:
            return reference.attention(q, k, v, **given, **plain)
        whole = [
            x.new_zeros(len(k), *x.shape[1:]).index_copy(0, rows.cpu(), x)
            for x in (q, *([given["logit_scale"]] if "logit_scale" in given else []))
        ]
        given |= dict(zip(("logit_scale",), whole[1:], strict=False))
        return reference.attention(whole[0], k, v, **given, **plain, query_rows=rows.cpu())

    assert_agrees((q, k, v, *terms.values()), compute, define)


beyonds = st.sampled_from(["last", "zero", "line"])
some_options = st.sets(st.sampled_from(OPTIONS))


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
    "length", [0, 1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 47, 48, 49, 63, 64, 65, 96, 97, 255, 256, 257, 300]
)
@pytest.mark.parametrize("window", [None, 1, 16, 17])
def test_lengths_around_the_edges_of_a_tile(length, window, dtype, device):
    q, k, v = draw(3, length, 2, 4, dtype=dtype, device=device).unbind()
    terms = draw_terms(OPTIONS, (length,), 2, 33, dtype=dtype, device=device)
    assert_terms_agree(q, k, v, terms, window=window)


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
        error, allowed = ours.cpu().double() - true, theirs.double() - true
        slack = 4 * ulp(float(true.abs().max()), dtype)
        assert float(error.abs().max()) <= 2 * float(allowed.abs().max()) + slack
        rms = float(error.square().mean().sqrt())
        assert rms <= 2 * float(allowed.square().mean().sqrt()) + slack
        assert abs(float(error.mean())) <= 0.1 * rms + 4 * rms / error.numel() ** 0.5


@pytest.mark.parametrize("which", [[], ["bias"], ["key_bias"], ["logit_scale"], OPTIONS], ids=" ".join)
@pytest.mark.parametrize("beyond", ["last", "zero", "line"])
@pytest.mark.parametrize("function", [attention, reference.attention], ids=["attention", "definition"])
def test_gradients_of_every_term_by_finite_differences(function, which, beyond):
    lengths, rows = [1, 0, 4], 5
    terms = draw_terms(which, (rows,), 2, 2)
    operands = [x.detach().requires_grad_() for x in (*draw(3, rows, 2, 2).unbind(), *terms.values())]

    def compute(q, k, v, *values):
        given = with_beyond(dict(zip(terms, values, strict=True)), beyond)
        return function(q, k, v, **given, window=3, cu_seqlens=bounds_of(lengths))

    assert torch.autograd.gradcheck(compute, operands)


def test_gradients_of_every_term_of_chosen_rows_by_finite_differences():
    rows = torch.tensor([0, 2, 3])
    terms = draw_terms(OPTIONS, (4,), 2, 3)
    terms["logit_scale"] = terms["logit_scale"][rows]
    operands = [x.detach().requires_grad_() for x in (*draw(3, 4, 2, 2).unbind(), *terms.values())]
    assert torch.autograd.gradcheck(
        lambda q, k, v, *values: attention(q[rows], k, v, query_rows=rows, **dict(zip(OPTIONS, values, strict=True))),
        operands,
    )


@pytest.mark.parametrize("beyond", ["last", "zero", "line"])
def test_a_table_for_each_model_of_a_stack(beyond):
    """The operator takes M tables; sequence b reads table b // (B // M)."""
    lengths, models = [3, 1, 0, 5, 2, 2], 3
    q, k, v = draw(3, sum(lengths), 2, 4).unbind()
    tables = draw(models, 2, 3, seed=7).requires_grad_()
    slope = draw(models, 2, seed=8) if beyond == "line" else None
    options = slope, bounds_of(lengths), None, None, 5, 0.5, beyond, None, "auto", None
    out, _ = attention_op.Attention.apply(q, k, v, tables, None, None, *options)
    gradient = torch.autograd.grad((out * draw(*out.shape, seed=9)).sum(), tables)[0]
    parts = []
    for i, rows in enumerate([slice(0, 4), slice(4, 9), slice(9, 13)]):
        term = DistanceBias(tables[i], slope[i] if beyond == "line" else beyond)
        bounds = bounds_of(lengths[2 * i : 2 * i + 2])
        parts.append(reference.attention(q[rows], k[rows], v[rows], bias=term, cu_seqlens=bounds, softmax_scale=0.5))
    expected = torch.cat(parts)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * draw(*out.shape, seed=9)).sum(), tables)[0])


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


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
@pytest.mark.parametrize("rows", [None, [0, 3, 9, 29]], ids=["all rows", "chosen rows"])
def test_equal_bits_from_run_to_run_whatever_memory_held(which, rows, device):
    """Fresh memory is NaN under deterministic algorithms: an output that nobody wrote would show."""
    lengths = [17, 1, 12]
    rows = None if rows is None else torch.tensor(rows, device=device)
    terms = draw_terms(which, (30,), 2, 9, dtype=torch.float32, device=device)
    if rows is not None and "logit_scale" in terms:
        terms["logit_scale"] = terms["logit_scale"][rows]

    def compute(q, k, v, *values):
        q = q if rows is None else q[rows]
        given = dict(zip(terms, values, strict=True))
        return attention(q, k, v, **given, cu_seqlens=bounds_of(lengths, device), query_rows=rows)

    operands = [*draw(3, 30, 2, 8, dtype=torch.float32, device=device).unbind(), *terms.values()]
    first = results(compute, *operands)
    assert all(bool(x.isfinite().all()) for x in first)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(20):
            assert all(map(torch.equal, first, results(compute, *operands)))
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("lengths", [[3, 0, 70, 9], [1300]], ids=["several sequences", "one in parts"])
def test_equal_bits_from_any_number_of_threads(lengths, threads):
    rows = sum(lengths)
    operands = [*draw(3, rows, 2, 8, dtype=torch.float32).unbind(), *draw_terms(OPTIONS, (rows,), 2, 9).values()]
    operands = [x.float() for x in operands]

    def compute(q, k, v, *values):
        return attention(q, k, v, **dict(zip(OPTIONS, values, strict=True)), cu_seqlens=bounds_of(lengths))

    threads(1)
    alone = results(compute, *operands)
    for count in (2, 3):
        threads(count)
        assert all(map(torch.equal, alone, results(compute, *operands)))


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("spread", ["summed heads", "transposed", "every second"])
def test_gradients_of_the_output_may_have_any_strides(heads, spread):
    rows = torch.tensor([0, 2, 5, 6])
    operands = draw(4, heads, 8), draw(7, 1, 8, seed=1), draw(7, 1, 8, seed=2)
    shapes = {
        "summed heads": lambda x: x.sum(1).square(),
        "transposed": lambda x: x.transpose(0, 1) * draw(heads, 4, 8, seed=3).to(x),
        "every second": lambda x: x[..., ::2] * 2,
    }

    def gradients(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in operands]
        out = function(*leaves, cu_seqlens=bounds_of([3, 4]), query_rows=rows)
        return torch.autograd.grad(shapes[spread](out).sum(), leaves)

    def define(q, k, v, **options):
        return reference.attention(q.new_zeros(7, heads, 8).index_copy(0, rows, q), k, v, **options)

    for one, other in zip(gradients(attention, torch.float32), gradients(define, torch.float64), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_computes_the_same():
    q = draw(5, 1, 8, dtype=torch.float32).requires_grad_()
    loss = torch.utils.checkpoint.checkpoint(lambda q: attention(q, q, q).square().sum(), q, use_reentrant=False)
    (gradient,) = torch.autograd.grad(loss, q)
    assert torch.equal(gradient, torch.autograd.grad(attention(q, q, q).square().sum(), q)[0])


@pytest.mark.parametrize("given", [
    {"cu_seqlens": torch.tensor([0, 5], device="meta")},
    {"query_rows": torch.tensor([0, 1, 2, 3, 4], device="meta")},
])  # fmt: skip
def test_rows_elsewhere_are_refused(given):
    with pytest.raises(ValueError, match="must be on the device of k"):
        attention(*draw(3, 5, 1, 4).unbind(), **given)


@pytest.fixture
def plain_code():
    before = _cpu.vector_code()
    _cpu.use_vector_code(False)
    yield
    _cpu.use_vector_code(before)


@pytest.mark.parametrize("width", [4, 8, 20])
def test_plain_code_follows_the_definition_too(width, plain_code):
    assert not _cpu.vector_code()
    q, k, v = draw(3, 60, 2, width, dtype=torch.float32).unbind()
    terms = draw_terms(OPTIONS, (60,), 2, 9, dtype=torch.float32)
    assert_terms_agree(q, k, v, terms, cu_seqlens=bounds_of([49, 0, 11]))


def test_what_a_row_does_not_see_does_not_reach_it(device):
    """Neither later keys nor those before the window, however large."""
    q, k, v = draw(3, 40, 1, 4, device=device).unbind()
    table = draw(1, 6, seed=5, device=device)
    before = attention(q, k, v, bias=table, window=7)
    for x in (k, v):
        x[:10], x[30:] = 1e30, -1e30
    after = attention(q, k, v, bias=table, window=7)
    torch.testing.assert_close(after[16:30], before[16:30])


# ---- transforms ----


def everything(q, k, v, table, key_bias, logit_scale):
    """A loss through all terms on packed rows, of which some are chosen, and on batched ones."""
    bounds, rows = bounds_of([4, 0, 5]), torch.tensor([1, 3, 8])
    packed = attention(q, k, v, bias=table, key_bias=key_bias, logit_scale=logit_scale, cu_seqlens=bounds)
    term = DistanceBias(table, "zero")
    chosen = attention(q[rows], k, v, bias=term, window=3, cu_seqlens=bounds, query_rows=rows)
    q, k, v, key_bias = (x.unflatten(0, (3, 3)) for x in (q, k, v, key_bias))
    batched = attention(q, k, v, key_bias=key_bias, bias=table)
    plain = attention(q, k, v)
    parts = torch.cat([x.flatten() for x in (packed, chosen, batched, plain)])
    return (parts * (1 + torch.arange(len(parts)).sin())).sum()


def operands_of_everything(seed=0):
    terms = draw_terms(OPTIONS, (9,), 2, 3, seed + 10)
    return [*draw(3, 9, 2, 4, seed=seed).unbind(), *terms.values()]


def gradients_of(function, operands):
    leaves = [x.detach().clone().requires_grad_() for x in operands]
    return torch.autograd.grad(function(*leaves), leaves)


def assert_all_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_without_a_break_in_the_graph(backend):
    operands = operands_of_everything()
    compiled = torch.compile(everything, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(*operands), everything(*operands))
    assert_all_close(gradients_of(compiled, operands), gradients_of(everything, operands))


@pytest.mark.parametrize("bias", [None, torch.linspace(0, 1, 8, dtype=torch.float64).view(2, 4)], ids=["plain", "bias"])
def test_compiled_with_one_tensor_as_queries_keys_and_values(bias):
    x, packing = draw(9, 2, 4), Packing.from_cu_seqlens(bounds_of([4, 5]), 9)

    def loss(x):
        return attention(x, x, x, bias=bias, cu_seqlens=packing).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_all_close(gradients_of(compiled, [x]), gradients_of(loss, [x]))


def test_gradients_by_torch_func():
    operands = operands_of_everything()
    gradients = torch.func.grad(everything, argnums=tuple(range(6)))(*operands)
    assert_all_close(gradients, gradients_of(everything, operands))


@pytest.mark.parametrize("shared", [(), (3,), (3, 4, 5), (0,), (1, 2)], ids=str)
def test_models_by_vmap_of_gradients_and_gradients_of_vmap(shared):
    """Operands that are ``shared`` by the models are not stacked."""
    models, each = 3, [operands_of_everything(seed) for seed in range(3)]
    for i in shared:
        for operands in each[1:]:
            operands[i] = each[0][i]
    stacked = [each[0][i] if i in shared else torch.stack([x[i] for x in each]) for i in range(6)]
    dims = tuple(None if i in shared else 0 for i in range(6))
    expected = [gradients_of(everything, operands) for operands in each]

    over = torch.func.vmap(torch.func.grad(everything, argnums=tuple(range(6))), in_dims=dims)(*stacked)
    for model in range(models):
        assert_all_close([x[model] for x in over], expected[model])

    def total(*stacked):
        return torch.func.vmap(everything, in_dims=dims)(*stacked).sum()

    under = torch.func.grad(total, argnums=tuple(range(6)))(*stacked)
    for i, gradient in enumerate(under):
        every = torch.stack([gradients[i] for gradients in expected])
        torch.testing.assert_close(gradient, every.sum(0) if i in shared else every)


def test_models_with_rows_of_different_lengths_by_vmap():
    q, k, v = draw(3, 2, 7, 2, 4).unbind()
    bounds = torch.stack([bounds_of([3, 4]), bounds_of([7, 0])])
    rows = torch.tensor([[0, 4], [2, 6]])
    table = draw(2, 3, seed=4)
    out = torch.func.vmap(
        lambda q, k, v, bounds, rows: attention(q[rows], k, v, bias=table, cu_seqlens=bounds, query_rows=rows)
    )(q, k, v, bounds, rows)
    for i in range(2):
        expected = reference.attention(q[i], k[i], v[i], bias=table, cu_seqlens=bounds[i], query_rows=rows[i])
        torch.testing.assert_close(out[i], expected)


def test_vmap_inside_vmap():
    q, k, v = draw(3, 2, 3, 5, 2, 4).unbind()
    tables = draw(2, 2, 3, seed=4)
    per_model = torch.func.vmap(lambda q, k, v, table: attention(q, k, v, bias=table), in_dims=(0, 0, 0, None))
    out = torch.func.vmap(per_model)(q, k, v, tables)
    for i in range(2):
        for j in range(3):
            expected = reference.attention(q[i, j], k[i, j], v[i, j], bias=tables[i])
            torch.testing.assert_close(out[i, j], expected)


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
def test_shapes_without_values(which):
    with FakeTensorMode():
        q, k, v = (torch.empty(9, 2, 4, requires_grad=True) for _ in range(3))
        terms = {name: torch.empty(x.shape) for name, x in draw_terms(which, (9,), 2, 3).items()}
        out = attention(q, k, v, **terms, cu_seqlens=torch.empty(3, dtype=torch.int64))
        out.sum().backward()
    assert out.shape == q.grad.shape == (9, 2, 4)
    meta = attention(*(torch.empty(9, 2, 4, device="meta") for _ in range(3)))
    assert meta.shape == (9, 2, 4)


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
def test_autocast_casts_as_for_pytorch(which, device):
    q, k, v = draw(3, 9, 2, 4, dtype=torch.float32, device=device).unbind()
    terms = draw_terms(which, (9,), 2, 3, dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        out = attention(q, k, v, **terms)
    expected = attention(*(x.bfloat16() for x in (q, k, v)), **terms)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)


def test_activation_checkpointing():
    operands = operands_of_everything()

    def checkpointed(*operands):
        return torch.utils.checkpoint.checkpoint(everything, *operands, use_reentrant=False)

    assert_all_close(gradients_of(checkpointed, operands), gradients_of(everything, operands))


@pytest.mark.parametrize("which", [[], ["bias"]], ids=["plain", "bias"])
def test_second_derivatives_are_refused(which):
    operands = [x.requires_grad_() for x in draw(3, 5, 2, 4).unbind()]
    out = attention(*operands, **draw_terms(which, (5,), 2, 3))
    (gradient,) = torch.autograd.grad(out.square().sum(), operands[:1], create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative|is not implemented"):
        gradient.sum().backward()


def operator_arguments(requires_grad=False):
    q, k, v, *terms = (x.float().requires_grad_(requires_grad) for x in operands_of_everything())
    q, k, v = (x.permute(1, 0, 2).contiguous().permute(1, 0, 2) for x in (q, k, v))
    terms[0] = terms[0].unsqueeze(0)
    return q, k, v, *terms, None, bounds_of([4, 0, 5]), None, None, 5, 0.5, "zero", 3, "auto", None


@pytest.mark.parametrize("requires_grad", [False, True])
def test_operators_pass_the_checks_of_pytorch(requires_grad):
    arguments = operator_arguments(requires_grad)
    torch.library.opcheck(torch.ops.lengen.attention_forward, arguments)
    plain = (*arguments[:3], None, None, None, *arguments[6:13], None, *arguments[14:])
    torch.library.opcheck(torch.ops.lengen.attention_forward, plain)


def test_backward_operator_passes_the_checks_of_pytorch():
    arguments = operator_arguments()
    out, lse = torch.ops.lengen.attention_forward(*arguments)
    grad_out = draw(*out.shape, dtype=torch.float32)
    for needs in ((True, True, True), (False, True, False)):
        backward = grad_out, *arguments[:3], out, lse, *arguments[3:-1], *needs
        torch.library.opcheck(torch.ops.lengen.attention_backward, backward)


# ---- launchers ----


class Launchers:
    """Stands in for ``lengen_kernels.attention``: the same signatures, computed in PyTorch."""

    def __init__(self):
        self.calls = []

    def forward(self, *operands, **options):
        self._note("forward", options)
        return attention_torch.forward(*operands, **options)

    def backward(self, *operands, **options):
        self._note("backward", options)
        return attention_torch.backward(*operands, **options)

    def _note(self, name, options):
        self.calls.append((name, *(options[each] for each in ("longest", "precision", "cu_queries"))))


def test_operands_for_a_gpu_go_through_the_launchers(monkeypatch):
    """With what is known on the host alone; fp64 stays with PyTorch."""
    launchers = Launchers()
    monkeypatch.setattr(attention_op, "launchers", lambda: launchers)
    operands = [x.float() for x in operands_of_everything()]
    expected = gradients_of(everything, operands)
    assert not launchers.calls
    with attention_op.launchers_on_cpu():
        for one, other in zip(gradients_of(everything, operands), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert [name for name, *_ in launchers.calls] == ["forward"] * 4 + ["backward"] * 4
        assert launchers.calls[0][1:] == (5, "ieee", None)
        launchers.calls.clear()
        attention(*draw(3, 4, 2, 4, dtype=torch.float32).unbind(), precision="tf32x3", bias=torch.zeros(2, 1))
        assert launchers.calls == [("forward", 4, "tf32x3", None)]
        launchers.calls.clear()
        everything(*(x.double() for x in operands))
        assert not launchers.calls


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="TRITON_INTERPRET=1 is not set")
def test_kernels_under_the_interpreter_agree_with_pytorch():
    assert attention_op.launchers() is not None
    operands = [x.float() for x in operands_of_everything()]
    expected = gradients_of(everything, operands)
    with attention_op.launchers_on_cpu():
        for one, other in zip(gradients_of(everything, operands), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("lengths", [[3], [2, 2], [1, 3, 0], [2, 0, 2, 1]], ids=str)
def test_gradients_by_finite_differences(lengths, device):
    operands = draw(3, sum(lengths), 2, 2, device=device).requires_grad_().unbind()
    bounds = bounds_of(lengths, device)
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, cu_seqlens=bounds), operands)


@pytest.mark.parametrize("rows", [[0], [1, 3], [0, 1, 2, 3, 4]], ids=str)
def test_gradients_of_chosen_rows_by_finite_differences(rows, device):
    q, k, v = draw(3, 5, 1, 2, device=device).requires_grad_().unbind()
    bounds, rows = bounds_of([2, 3], device), torch.tensor(rows, device=device)
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q[rows], k, v, cu_seqlens=bounds, query_rows=rows), (q, k, v)
    )


def test_nothing_to_compute_stays_in_the_graph():
    """A batch without rows can go through a training step."""
    q, k, v = torch.zeros(3, 0, 2, 4, requires_grad=True).unbind()
    out = attention(q, k, v, cu_seqlens=bounds_of([0, 0]))
    assert out.shape == (0, 2, 4)
    out.sum().backward()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 150, 1000, 4095, 4096, 4097])
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


@pytest.mark.slow
def test_uniform_attention_of_every_row_counts_at_65536(device):
    ones = draw(65_536, 1, 1) > 0.5
    v = ones.to(device, torch.float32)
    out = attention(torch.zeros_like(v), torch.zeros_like(v), v)
    assert_counts(out, ones.long().cumsum(0), torch.arange(1, 65_537).view(-1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
@pytest.mark.parametrize(("length", "chosen"), [(150, None), (4096, None), (65_536, 200), (1 << 20, 3)], ids=str)
def test_constant_terms_change_no_count(length, chosen, which, dtype, device):
    """Whatever all scores have in common: count / n to one ulp of fp32, and majority by one vote is decided right."""
    ones = torch.arange(length) % 2 == 0  # at odd lengths one more than half
    v = ones.to(device, dtype).view(-1, 1, 1)
    rows = None
    if chosen is not None:
        rows = torch.linspace(0, length - 1, chosen, device=device).long().clamp(max=length - 1)
        rows[-1] = length - 2  # the last odd length
    count = length if rows is None else len(rows)
    terms = {
        "bias": torch.full((1, 9), 0.7, device=device),
        "key_bias": torch.full((length, 1), -1.3, device=device),
        "logit_scale": torch.full((count, 1), 3.1, device=device),
    }
    q = torch.zeros(count, 1, 1, dtype=dtype, device=device)
    given = {name: terms[name] for name in which}
    out = attention(q, torch.zeros_like(v), v, **given, query_rows=rows, out_dtype=torch.float32)
    seen = torch.arange(1, length + 1) if rows is None else rows.cpu() + 1
    counts = ones.long().cumsum(0)[seen - 1]
    assert_counts(out.flatten(), counts, seen)
    assert torch.equal(out.flatten().cpu() > 0.5, 2 * counts > seen)


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
        (dict.fromkeys("qkv", torch.zeros(2, 1, 257)), "head width D of at least 1 and at most 256, got .2, 1, 257"),
        ({"bias": torch.zeros(3, 4)}, "bias must have a table for the 2 heads of q.*3 heads"),
        ({"bias": torch.zeros(4)}, r"table of a bias must be .* shape \[H, W\]"),
        ({"bias": torch.zeros(2, 3).long()}, "table of a bias must be of a floating dtype.*int64"),
        ({"bias": torch.zeros(2, 3, device="meta")}, "bias must have a table .* on cpu.*on meta"),
        ({"bias": DistanceBias(torch.zeros(1, 3))}, "bias must have a table for the 2 heads"),
        ({"key_bias": torch.zeros(6)}, "key_bias must be .* shape .6, 2. .*6,"),
        ({"key_bias": torch.zeros(5, 2)}, "key_bias must be .* shape .6, 2.*5, 2"),
        ({"key_bias": torch.zeros(6, 2).long()}, "key_bias must be of a floating dtype.*int64"),
        ({"logit_scale": torch.zeros(6, 1)}, "logit_scale must be .* shape .6, 2.*6, 1"),
        ({"logit_scale": torch.zeros(6, 2, device="meta")}, "logit_scale must be .*on cpu.*on meta"),
        (
            {"q": X[:1], "query_rows": torch.tensor([1]), "logit_scale": torch.zeros(6, 2)},
            "logit_scale must be .* shape .1, 2",
        ),
        ({"window": 0}, "window must be a whole number of keys, at least 1.*0"),
        ({"window": 2.5}, "window must be a whole number.*2.5"),
        ({"precision": "fp32"}, "precision must be one of auto, ieee, tf32x3, tf32, got 'fp32'"),
        ({"out_dtype": torch.float16}, "out_dtype must be torch.float32 or the dtype of q"),
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


@pytest.mark.parametrize("option", ["cu_seqlens", "query_rows", "bias"])
def test_lists_are_refused(option):
    with pytest.raises(TypeError, match=f"{option} must be a tensor.*got list"):
        attention(X, X, X, **{option: [0, 6]})


BAD_ROWS = [
    ({"cu_seqlens": torch.tensor([1, 6])}, "cu_seqlens must start at 0.*starts at 1"),
    ({"cu_seqlens": torch.tensor([0, 4, 3, 6])}, "cu_seqlens must never decrease"),
    ({"q": X[:1], "query_rows": torch.tensor([6])}, "query_rows must lie in 0..5"),
    ({"q": X[:2], "query_rows": torch.tensor([3, 1])}, "query_rows must increase"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ROWS)
def test_rows_are_checked_inside_transforms_and_operators_too(changes, message):
    given = GOOD | changes
    x = given.pop("q")
    for term in (None, torch.zeros(2, 1)):
        with pytest.raises(ValueError, match=message):
            torch.func.grad(lambda x, term=term: attention(x, **given, bias=term).sum())(x)
    with pytest.raises(ValueError, match=message):
        torch.compile(attention, backend="eager", fullgraph=True)(x, **given)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("changes", "message"), BAD_ROWS)
def test_rows_on_a_gpu_are_checked_when_debugging(changes, message, monkeypatch):
    monkeypatch.setenv("LENGEN_DEBUG", "1")
    with pytest.raises(ValueError, match=message):
        attention(**{name: x.cuda() for name, x in (GOOD | changes).items()})


ATTEND = """
import torch
from lengen_fast.ops import attention
def run(rows, length):
    q, k, v = (torch.randn(count, 4, 16, requires_grad=True) for count in (rows or length, length, length))
    chosen = torch.arange(length - rows, length) if rows else None
    attention(q, k, v, query_rows=chosen).sum().backward()
run(0, 64), run(2, 64)
"""


TERMS = """
import torch
from lengen_fast.ops import attention
def run(length, backward):
    q, k, v = (torch.randn(length, 1, 16, requires_grad=backward) for _ in range(3))
    table = torch.randn(1, length, requires_grad=backward)
    out = attention(q, k, v, bias=table)
    if backward:
        out.sum().backward()
run(64, True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("length", "backward"), [(32_768, False), (16_384, True)], ids=["forward", "backward"])
def test_no_bias_of_all_pairs_in_memory(length, backward, memory_growth):
    """One head's scores or biases of all pairs are 1 GiB or more; a table bias takes a tenth of that."""
    assert memory_growth(TERMS, f"run({length}, {backward})") < 100 << 20


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length"), [(0, 16_384), (2, 262_144)], ids=["all rows", "two rows"])
def test_no_scores_of_all_pairs_in_memory(rows, length, memory_growth):
    """Forward and backward stay below 24 tensors of the size of q; one head's scores of all pairs are 1 GiB or more."""
    assert memory_growth(ATTEND, f"run({rows}, {length})") < 24 * (length * 4 * 16 * 4)
