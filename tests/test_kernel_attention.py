"""The attention kernels against the definition in fp64: every option and gradient, tile edges, poison and repeats."""

import itertools

import attention_oracle as oracle
import pytest
import torch
from attention_oracle import ulp
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DEVICE,
    DTYPES,
    EVERYTHING,
    ON_GPU,
    OPTIONS,
    TABLE,
    Case,
    assert_follows_definition,
    by_dtype,
    by_kernel,
    use_kernel,
    use_tiles,
)
from lengen_kernels import attention as kernels
from lengen_kernels import tiles
from lengen_kernels.attention.common import ALIGNED
from lengen_kernels.attention.problem import BEYOND

pytestmark = pytest.mark.usefixtures("kernel")


@by_kernel
@by_dtype
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_follows_the_definition(options, dtype):
    assert_follows_definition(Case([1, 0, 35], 1, 8, dtype=dtype, **options))


@by_kernel
@by_dtype
@pytest.mark.parametrize(("tile", "options"), [((16, 32), dict(table_width=40)), ((32, 16), EVERYTHING)])
def test_lengths_around_the_edges_of_tiles(monkeypatch, options, tile, dtype):
    use_tiles(monkeypatch, *tile)
    assert_follows_definition(Case([15, 16, 17, 31, 32, 33], 1, 4, dtype=dtype, **options))


@by_kernel
@by_dtype
@pytest.mark.parametrize(
    "options",
    [{}, dict(table_width=203), EVERYTHING | dict(table_width=90, window=150)],
    ids=["plain", "table", "everything"],
)
def test_errors_of_a_long_row_lean_to_no_side(monkeypatch, options, dtype):
    use_tiles(monkeypatch, 64, 64)
    case = Case([203], 2, 16, dtype=dtype, softmax_scale=0.1, **options)
    actual, exact, eager = case.compute(), case.define(torch.float64), case.define(dtype)
    for name in exact.keys() - {"lse"}:
        slack = 4 * ulp(float(exact[name].abs().max()), dtype)
        oracle.assert_errors_are_small_and_lean_to_no_side(actual[name], eager[name], exact[name], slack)


@by_dtype
@pytest.mark.parametrize("tile", [(32, 64), (64, 32)])
@pytest.mark.parametrize("options", [{}, dict(table_width=270, logit_scale=True)], ids=["plain", "table"])
def test_terms_of_queries_of_many_long_sequences(monkeypatch, options, tile, dtype):
    """Which are kept in tiles, from a multiple of 128 rows on for each sequence."""
    use_tiles(monkeypatch, *tile)
    assert_follows_definition(Case([127, 1, 0, 130, 128, 2], 2, 16, dtype=dtype, key_heads=1, **options))


@by_dtype
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_tiles_of_the_table(monkeypatch, options, dtype):
    monkeypatch.setattr(tiles, "choose", TABLE)
    assert_follows_definition(Case([70, 130], 1, 16, dtype=dtype, **options))


def test_every_row_of_the_tile_table_is_a_tile():
    for kernel, width, operands, longest in itertools.product(
        ("forward", "query_gradient", "key_gradient", "diagonal", "chosen_rows", "split", "merge", "table_gradient"),
        tiles.WIDTHS,
        ("16", "ieee", "tf32", "tf32x3"),
        (1, 128, 129, 1 << 20),
    ):
        for name in (kernel, f"{kernel} with a bias", f"{kernel} with options"):
            tile = TABLE(name, width, operands, longest, "sm90")
            assert all(size >= 16 and size.bit_count() == 1 for size in tile[:2])
            assert kernel != "diagonal" or tile.block_m == tile.block_n
            assert kernel != "query_gradient" or ALIGNED.value % tile.block_m == 0
            assert kernel != "key_gradient" or tile.block_n % tile.block_m == 0


def test_the_interpreter_computes_bf16_in_fp32():
    q, k, v = torch.randn(3, 20, 1, 8, generator=torch.Generator().manual_seed(0)).bfloat16().to(DEVICE).unbind()
    bounds = torch.tensor([0, 20], device=DEVICE)
    options = dict(cu_seqlens=bounds, longest=20, softmax_scale=1.0)
    out, _ = kernels.forward(q, k, v, out_dtype=torch.float32, **options)
    exact, _ = oracle.attention(*(x.cpu().double() for x in (q, k, v)), cu_seqlens=bounds.cpu(), softmax_scale=1.0)
    assert torch.allclose(out.cpu().double(), exact, atol=2e-2 if ON_GPU else 1e-6)


@by_dtype
@pytest.mark.parametrize(
    ("width", "kernel"),
    [*((width, "tiles") for width in (1, 3, 16, 20, 130, 256)), *((width, "short") for width in (1, 20, 64))],
    indirect=["kernel"],
)
def test_every_head_width(width, dtype):
    assert_follows_definition(Case([17], 2, width, dtype=dtype, table_width=4))


@by_kernel
@by_dtype
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_heads_of_queries_may_share_keys(key_heads, dtype):
    assert_follows_definition(Case([3, 18], 4, 8, dtype=dtype, key_heads=key_heads, table_width=4, key_bias=True))


@by_kernel
@by_dtype
@pytest.mark.parametrize(
    "options",
    [{}, dict(window=3), dict(table_width=40), dict(table_width=4), EVERYTHING],
    ids=["plain", "window", "long table", "short table", "everything"],
)
def test_chosen_rows_see_the_keys_up_to_their_own_position(options, dtype):
    rows = [2, 4, *range(5, 30, 3), 34, 35, 36, 38, 66]
    assert_follows_definition(Case([5, 0, 30, 4, 1, 27], 1, 8, dtype=dtype, rows=rows, **options))


@by_kernel
@pytest.mark.parametrize("window", [35, 36, 2**31 - 20, 2**31 - 1])
def test_a_window_beyond_the_longest_row_bounds_nothing(window):
    assert_follows_definition(Case([35, 7], 1, 8, dtype=torch.float32, table_width=40, window=window))


@by_kernel
def test_no_chosen_rows():
    case = Case([3, 4], 2, 8, dtype=torch.float32, rows=[], table_width=3, key_bias=True, logit_scale=True)
    assert_follows_definition(case)


@by_kernel
@pytest.mark.parametrize("lengths", [[0], [0, 0]], ids=str)
def test_no_rows(lengths):
    case = Case(lengths, 2, 8, dtype=torch.float32, table_width=3, key_bias=True, logit_scale=True)
    assert_follows_definition(case)


@by_kernel
@by_dtype
@pytest.mark.parametrize("rows", [None, [0, 5, 20, 41, 42, 43]], ids=["all rows", "chosen rows"])
def test_stacked_models_have_tables_of_their_own(rows, dtype):
    options = dict(table_width=6, beyond="line", models=2)
    assert_follows_definition(Case([3, 18, 21, 2], 2, 8, dtype=dtype, rows=rows, **options))


@by_kernel
@by_dtype
def test_repeats_give_equal_bits(dtype):
    case = Case([1, 35], 2, 8, dtype=dtype, **EVERYTHING)
    first = case.compute()
    for _ in range(20 if ON_GPU else 1):
        again = case.compute()
        assert all(torch.equal(first[name], again[name]) for name in first)


@by_kernel
def test_capacity_beyond_the_longest_row_changes_no_bit():
    case = Case([1, 35], 1, 8, dtype=torch.float32, **EVERYTHING)
    first = case.compute()
    case.longest = 80
    again = case.compute()
    assert all(torch.equal(first[name], again[name]) for name in ("out", "lse", "q", "k", "v", "key_bias"))
    assert_follows_definition(case, lambda: again)


@by_kernel
@pytest.mark.parametrize("needed", ["table", "key_bias", "logit_scale"])
def test_only_needed_gradients_are_computed(needed):
    case = Case([17], 1, 8, dtype=torch.float32, **EVERYTHING)
    exact = case.compute()
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    out, lse = kernels.forward(*qkv, **operands)
    flags = {f"needs_{name}": name == needed for name in ("table", "key_bias", "logit_scale")}
    grads = dict(
        zip(
            ("q", "k", "v", "table", "key_bias", "logit_scale"),
            kernels.backward(case.grad_out.to(out), *qkv, out, lse, **operands, **flags),
            strict=True,
        )
    )
    assert {name for name, grad in grads.items() if grad is not None} == {"q", "k", "v", needed}
    assert all(torch.equal(grad.cpu(), exact[name]) for name, grad in grads.items() if grad is not None)


@settings(max_examples=10 if not ON_GPU else 20)  # most of them are compiled anew on a GPU
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    heads=st.sampled_from([(1, 1), (2, 2), (2, 1)]),
    width=st.integers(1, 20),
    kernel=st.sampled_from(["tiles", "short"]),
    tile=st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32])),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_drawn_cases_follow_the_definition(lengths, heads, width, kernel, tile, dtype, seed, data):
    total = sum(lengths)
    rows = data.draw(st.none() | st.sets(st.integers(0, max(0, total - 1)), max_size=total).map(sorted))
    options = dict(key_bias=data.draw(st.booleans()), logit_scale=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        options |= dict(table_width=data.draw(st.integers(1, 45)), beyond=data.draw(st.sampled_from(list(BEYOND))))
    if data.draw(st.booleans()):
        options["window"] = data.draw(st.integers(1, 45))
    case = Case(lengths, heads[0], width, key_heads=heads[1], rows=rows, dtype=dtype, seed=seed, **options)
    with pytest.MonkeyPatch.context() as patch:
        use_tiles(patch, *tile)
        use_kernel(patch, kernel)
        assert_follows_definition(case)
