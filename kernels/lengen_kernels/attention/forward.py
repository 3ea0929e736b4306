"""Forward pass: one program holds a tile of queries of one head and visits its keys from the first to the last.

With several splits each program takes a part of the keys and leaves unnormalised sums, which ``split.merge`` joins.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    FLOOR,
    LOG2E,
    assignment,
    head_rows,
    head_table,
    key_range,
    load_column,
    load_rows,
    logits,
    query_positions,
    sequence_queries,
    sequence_rows,
    store_column,
    store_rows,
)


@triton.jit
def attend(
    b_sum,
    b_total,
    b_max,
    b_q,
    b_factor,
    o_position,
    p_k,
    p_v,
    k_stride,
    v_stride,
    p_key_bias,
    begin,
    rows,
    i_head,
    heads,
    p_table,
    last,
    slope,
    width,
    window,
    first,
    end,
    o_columns,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Let the queries see keys ``first`` to ``end``: sums of values [BLOCK_M, BLOCK_D], of weights and the maxima."""
    o_keys = tl.arange(0, BLOCK_N)
    for i_key in range(first, end, BLOCK_N):
        b_k = load_rows(
            p_k + tl.cast(i_key, tl.int64) * k_stride, o_keys, o_columns, k_stride, rows - i_key, D, COMPUTE
        )
        b_v = load_rows(
            p_v + tl.cast(i_key, tl.int64) * v_stride, o_keys, o_columns, v_stride, rows - i_key, D, COMPUTE
        )
        b_key_bias = None
        if p_key_bias is not None:
            b_key_bias = load_column(p_key_bias, begin, i_key + o_keys, rows, i_head, heads, 0.0)[None, :] * LOG2E
        b_dot = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)
        b_distance = o_position[:, None] - (i_key + o_keys)[None, :]
        b_s = logits(
            b_dot, b_factor[:, None], b_key_bias, b_distance, p_table, last, slope, width, window, BEYOND, FAR, CAUSAL
        )
        b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1))
        b_rescale = tl.exp2(b_max - b_new_max)
        b_p = tl.exp2(b_s - b_new_max[:, None])
        b_total = b_total * b_rescale + tl.sum(b_p, axis=1)
        b_sum = tl.dot(b_p.to(b_v.dtype), b_v, b_sum * b_rescale[:, None], input_precision=PRECISION)
        b_max = b_new_max
    return b_sum, b_total, b_max


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group", "all_queries"])
def forward_kernel(
    p_q,
    p_k,
    p_v,
    p_out,
    p_lse,
    p_sums,
    p_totals,
    p_maxima,
    q_strides,
    k_strides,
    v_strides,
    p_table,
    p_slope,
    p_key_bias,
    p_logit_scale,
    p_bounds,
    p_query_rows,
    p_cu_queries,
    scale,
    width,
    window,
    per_model,
    sequences,
    heads,
    longest,
    tiles,
    group,
    all_queries,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Output and log-sum-exp of one tile of queries, or with ``SPLITS`` the sums over one part of their keys.

    Args:
        p_out: [Nq, H, D]; p_lse: [Nq, H] fp32, base 2.
        p_sums: [SPLITS, Nq, H, D] fp32, p_totals and p_maxima: [SPLITS, Nq, H] fp32; only with several splits.
        all_queries: Nq. SHARE: heads of q for each head of k.
    """
    i_tile, i_sequence, i_head = assignment(tiles * SPLITS, sequences, heads, group)
    i_split = i_tile % SPLITS
    i_query = (tiles - 1 - i_tile // SPLITS) * BLOCK_M
    begin, rows = sequence_rows(p_bounds, i_sequence, longest)
    first_query, queries = sequence_queries(p_cu_queries, i_sequence, begin, rows)
    if i_query >= queries:
        return

    o_tile = tl.arange(0, BLOCK_M)
    o_columns = tl.arange(0, BLOCK_D)
    o_position, earliest, latest = query_positions(p_query_rows, begin, first_query, i_query, queries, o_tile)
    p_q_head = head_rows(p_q, q_strides, p_bounds, i_sequence, first_query, i_head)
    p_k_head = head_rows(p_k, k_strides, p_bounds, i_sequence, begin, i_head // SHARE)
    p_v_head = head_rows(p_v, v_strides, p_bounds, i_sequence, begin, i_head // SHARE)
    p_q_tile = p_q_head + i_query.to(tl.int64) * q_strides[1]
    b_q = load_rows(p_q_tile, o_tile, o_columns, q_strides[1], queries - i_query, D, COMPUTE)
    b_factor = tl.full([BLOCK_M], 1.0, tl.float32) * (scale * LOG2E)
    if p_logit_scale is not None:
        b_factor *= load_column(p_logit_scale, first_query, i_query + o_tile, queries, i_head, heads, 0.0)
    p_head_table, last, slope = p_table, 0.0, 0.0
    if p_table is not None:
        p_head_table, last, slope = head_table(p_table, p_slope, i_sequence, i_head, per_model, heads, width, BEYOND)

    first, far, full, end = key_range(earliest, latest, width, window, BLOCK_N)
    if SPLITS > 1:
        part = tl.cdiv(tl.cdiv(end - first, BLOCK_N), SPLITS) * BLOCK_N
        first = tl.minimum(first + i_split * part, end)
        end = tl.minimum(first + part, end)
        far = tl.minimum(tl.maximum(far, first), end)
        full = tl.minimum(tl.maximum(full, first), end)

    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_total = tl.zeros([BLOCK_M], tl.float32)
    b_max = tl.full([BLOCK_M], FLOOR, tl.float32)
    b_sum, b_total, b_max = attend(
        b_sum, b_total, b_max, b_q, b_factor, o_position, p_k_head, p_v_head, k_strides[1], v_strides[1],
        p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, window, first, far, o_columns,
        D, BLOCK_N, BEYOND, True, False, PRECISION, COMPUTE,
    )  # fmt: skip
    if p_table is not None:
        b_sum, b_total, b_max = attend(
            b_sum, b_total, b_max, b_q, b_factor, o_position, p_k_head, p_v_head, k_strides[1], v_strides[1],
            p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, window, far, full, o_columns,
            D, BLOCK_N, BEYOND, False, False, PRECISION, COMPUTE,
        )  # fmt: skip
    b_sum, b_total, b_max = attend(
        b_sum, b_total, b_max, b_q, b_factor, o_position, p_k_head, p_v_head, k_strides[1], v_strides[1],
        p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, window, full, end, o_columns,
        D, BLOCK_N, BEYOND, False, True, PRECISION, COMPUTE,
    )  # fmt: skip

    out_stride = tl.cast(heads, tl.int64) * D
    row = first_query + i_query
    if SPLITS > 1:
        row += tl.cast(i_split, tl.int64) * all_queries
        p_sums_tile = p_sums + row * out_stride + i_head * D
        store_rows(p_sums_tile, b_sum, o_tile, o_columns, out_stride, queries - i_query, D)
        store_column(p_totals, b_total, row, o_tile, queries - i_query, i_head, heads)
        store_column(p_maxima, b_max, row, o_tile, queries - i_query, i_head, heads)
    else:
        p_out_tile = p_out + row * out_stride + i_head * D
        b_out = tl.div_rn(b_sum, b_total[:, None])
        store_rows(p_out_tile, b_out, o_tile, o_columns, out_stride, queries - i_query, D)
        store_column(p_lse, b_max + tl.log2(b_total), row, o_tile, queries - i_query, i_head, heads)
