"""Backward pass without atomics: one kernel owns tiles of queries, another owns tiles of keys.

With p the weights, o the output and g its gradient, the gradient of a logit is ``p_ij (g_i . v_j - delta_i)``, where
``delta_i = g_i . o_i``. The kernel of the queries goes first, for it leaves delta to the others.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    LOG2E,
    assignment,
    head_rows,
    head_table,
    key_range,
    load_column,
    load_rows,
    logits,
    queries_before,
    query_positions,
    sequence_queries,
    sequence_rows,
    store_column,
    store_rows,
)


@triton.jit
def gather_query_gradient(
    b_grad_q,
    b_beyond,
    b_q,
    b_grad_out,
    b_lse,
    b_delta,
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
    NEEDS_BEYOND: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Add what keys ``first`` to ``end`` give to the gradient of the queries, before the factor of their logits.

    ``b_beyond`` [BLOCK_M] takes the gradient of the logits at distances beyond the table.
    """
    o_keys = tl.arange(0, BLOCK_N)
    for i_key in range(first, end, BLOCK_N):
        p_k_tile = p_k + tl.cast(i_key, tl.int64) * k_stride
        p_v_tile = p_v + tl.cast(i_key, tl.int64) * v_stride
        b_k = load_rows(p_k_tile, o_keys, o_columns, k_stride, rows - i_key, D, COMPUTE)
        b_v = load_rows(p_v_tile, o_keys, o_columns, v_stride, rows - i_key, D, COMPUTE)
        b_key_bias = None
        if p_key_bias is not None:
            b_key_bias = load_column(p_key_bias, begin, i_key + o_keys, rows, i_head, heads, 0.0)[None, :] * LOG2E
        b_dot = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)
        b_distance = o_position[:, None] - (i_key + o_keys)[None, :]
        b_s = logits(
            b_dot, b_factor[:, None], b_key_bias, b_distance, p_table, last, slope, width, window, BEYOND, FAR, CAUSAL
        )
        b_p = tl.exp2(b_s - b_lse[:, None])
        b_grad_p = tl.dot(b_grad_out, tl.trans(b_v), input_precision=PRECISION)
        b_grad_s = b_p * (b_grad_p - b_delta[:, None])
        if NEEDS_BEYOND:
            if FAR:
                b_beyond += tl.sum(b_grad_s, axis=1)
            else:
                b_beyond += tl.sum(tl.where(b_distance >= width, b_grad_s, 0.0), axis=1)
        b_grad_q = tl.dot(b_grad_s.to(b_k.dtype), b_k, b_grad_q, input_precision=PRECISION)
    return b_grad_q, b_beyond


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group"])
def query_gradient_kernel(
    p_q,
    p_k,
    p_v,
    p_out,
    p_grad_out,
    p_lse,
    p_delta,
    p_grad_q,
    p_grad_logit_scale,
    p_beyond,
    q_strides,
    k_strides,
    v_strides,
    out_strides,
    grad_strides,
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
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Gradient of one tile of queries, with their delta and the gradient of their logit scale.

    Args:
        p_out, p_grad_out: [Nq, H, D] in any dtype; p_lse: [Nq, H] fp32, base 2.
        p_delta: [Nq, H] fp32, written. p_grad_q: [Nq, H, D]. p_grad_logit_scale: [Nq, H] fp32 or None.
        p_beyond: [B, H, tiles] fp32 or None: gradient of the logits beyond the table, summed over a tile.
    """
    i_tile, i_sequence, i_head = assignment(tiles, sequences, heads, group)
    i_tile = tiles - 1 - i_tile
    i_query = i_tile * BLOCK_M
    begin, rows = sequence_rows(p_bounds, i_sequence, longest)
    first_query, queries = sequence_queries(p_cu_queries, i_sequence, begin, rows)
    o_beyond = (i_sequence.to(tl.int64) * heads + i_head) * tiles + i_tile
    if i_query >= queries:
        if p_beyond is not None:
            tl.store(p_beyond + o_beyond, 0.0)
        return

    o_tile = tl.arange(0, BLOCK_M)
    o_columns = tl.arange(0, BLOCK_D)
    left = queries - i_query
    row = first_query + i_query
    o_position, earliest, latest = query_positions(p_query_rows, begin, first_query, i_query, queries, o_tile)
    p_k_head = head_rows(p_k, k_strides, p_bounds, i_sequence, begin, i_head // SHARE)
    p_v_head = head_rows(p_v, v_strides, p_bounds, i_sequence, begin, i_head // SHARE)
    p_q_tile = head_rows(p_q, q_strides, p_bounds, i_sequence, first_query, i_head)
    p_q_tile += i_query.to(tl.int64) * q_strides[1]
    p_out_tile = head_rows(p_out, out_strides, p_bounds, i_sequence, first_query, i_head)
    p_out_tile += i_query.to(tl.int64) * out_strides[1]
    p_grad_tile = head_rows(p_grad_out, grad_strides, p_bounds, i_sequence, first_query, i_head)
    p_grad_tile += i_query.to(tl.int64) * grad_strides[1]

    b_out = load_rows(p_out_tile, o_tile, o_columns, out_strides[1], left, D, tl.float32)
    b_grad_out = load_rows(p_grad_tile, o_tile, o_columns, grad_strides[1], left, D, tl.float32)
    b_delta = tl.sum(b_out * b_grad_out, axis=1)
    store_column(p_delta, b_delta, row, o_tile, left, i_head, heads)
    b_grad_out = b_grad_out.to(COMPUTE)
    b_q = load_rows(p_q_tile, o_tile, o_columns, q_strides[1], left, D, COMPUTE)
    b_lse = load_column(p_lse, row, o_tile, left, i_head, heads, float("inf"))
    b_logit_scale = tl.full([BLOCK_M], 1.0, tl.float32)
    if p_logit_scale is not None:
        b_logit_scale = load_column(p_logit_scale, row, o_tile, left, i_head, heads, 0.0)
    b_factor = b_logit_scale * (scale * LOG2E)  # as in the forward pass, to the bit
    p_head_table, last, slope = p_table, 0.0, 0.0
    if p_table is not None:
        p_head_table, last, slope = head_table(p_table, p_slope, i_sequence, i_head, per_model, heads, width, BEYOND)

    first, far, full, end = key_range(earliest, latest, width, window, BLOCK_N)
    b_grad_q = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_beyond = tl.zeros([BLOCK_M], tl.float32)
    b_grad_q, b_beyond = gather_query_gradient(
        b_grad_q, b_beyond, b_q, b_grad_out, b_lse, b_delta, b_factor, o_position, p_k_head, p_v_head,
        k_strides[1], v_strides[1], p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, window,
        first, far, o_columns, D, BLOCK_N, BEYOND, p_beyond is not None, True, False, PRECISION, COMPUTE,
    )  # fmt: skip
    if p_table is not None:
        b_grad_q, b_beyond = gather_query_gradient(
            b_grad_q, b_beyond, b_q, b_grad_out, b_lse, b_delta, b_factor, o_position, p_k_head, p_v_head,
            k_strides[1], v_strides[1], p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width,
            window, far, full, o_columns, D, BLOCK_N, BEYOND, p_beyond is not None, False, False, PRECISION, COMPUTE,
        )  # fmt: skip
    b_grad_q, b_beyond = gather_query_gradient(
        b_grad_q, b_beyond, b_q, b_grad_out, b_lse, b_delta, b_factor, o_position, p_k_head, p_v_head,
        k_strides[1], v_strides[1], p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, window,
        full, end, o_columns, D, BLOCK_N, BEYOND, p_beyond is not None, False, True, PRECISION, COMPUTE,
    )  # fmt: skip

    out_stride = tl.cast(heads, tl.int64) * D
    p_grad_q_tile = p_grad_q + row * out_stride + i_head * D
    store_rows(p_grad_q_tile, b_grad_q * (b_logit_scale * scale)[:, None], o_tile, o_columns, out_stride, left, D)
    if p_grad_logit_scale is not None:
        b_grad_scale = tl.sum(b_grad_q * b_q.to(tl.float32), axis=1) * scale
        store_column(p_grad_logit_scale, b_grad_scale, row, o_tile, left, i_head, heads)
    if p_beyond is not None:
        tl.store(p_beyond + o_beyond, tl.sum(b_beyond, axis=0))


@triton.jit
def gather_key_gradient(
    b_grad_k,
    b_grad_v,
    b_grad_bias,
    b_k,
    b_v,
    b_key_bias,
    o_keys,
    p_q,
    p_grad_out,
    q_stride,
    grad_stride,
    p_lse,
    p_delta,
    p_logit_scale,
    p_query_rows,
    begin,
    first_query,
    queries,
    i_head,
    heads,
    p_table,
    last,
    slope,
    scale,
    width,
    window,
    first,
    end,
    o_columns,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BEYOND: tl.constexpr,
    NEEDS_KEY_BIAS: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Add what queries ``first`` to ``end`` of a head give to the gradients of the keys, values and key biases.

    Tiles are transposed, [BLOCK_N, BLOCK_M], so that weights are a left operand just as they are computed.
    """
    o_tile = tl.arange(0, BLOCK_M)
    for i_query in range(first, end, BLOCK_M):
        p_q_tile = p_q + tl.cast(i_query, tl.int64) * q_stride
        p_grad_tile = p_grad_out + tl.cast(i_query, tl.int64) * grad_stride
        b_q = load_rows(p_q_tile, o_tile, o_columns, q_stride, queries - i_query, D, COMPUTE)
        b_grad_out = load_rows(p_grad_tile, o_tile, o_columns, grad_stride, queries - i_query, D, COMPUTE)
        o_queries = i_query + o_tile
        b_lse = load_column(p_lse, first_query, o_queries, queries, i_head, heads, float("inf"))
        b_delta = load_column(p_delta, first_query, o_queries, queries, i_head, heads, 0.0)
        b_factor = tl.full([BLOCK_M], 1.0, tl.float32) * (scale * LOG2E)
        if p_logit_scale is not None:
            b_logit_scale = load_column(p_logit_scale, first_query, o_queries, queries, i_head, heads, 0.0)
            b_factor *= b_logit_scale
        o_position = o_queries
        if p_query_rows is not None:
            b_rows = tl.load(p_query_rows + first_query + o_queries, mask=o_queries < queries, other=0)
            o_position = (b_rows.to(tl.int64) - begin).to(tl.int32)
        b_dot = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)
        b_distance = o_position[None, :] - o_keys[:, None]
        b_s = logits(
            b_dot, b_factor[None, :], b_key_bias, b_distance, p_table, last, slope, width, window, BEYOND, FAR, CAUSAL
        )
        b_p = tl.exp2(b_s - b_lse[None, :])
        b_grad_v = tl.dot(b_p.to(b_q.dtype), b_grad_out, b_grad_v, input_precision=PRECISION)
        b_grad_p = tl.dot(b_v, tl.trans(b_grad_out), input_precision=PRECISION)
        b_grad_s = b_p * (b_grad_p - b_delta[None, :])
        if NEEDS_KEY_BIAS:
            b_grad_bias += tl.sum(b_grad_s, axis=1)
        if p_logit_scale is not None:
            b_grad_s *= b_logit_scale[None, :]
        b_grad_k = tl.dot(b_grad_s.to(b_q.dtype), b_q, b_grad_k, input_precision=PRECISION)
    return b_grad_k, b_grad_v, b_grad_bias


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group"])
def key_gradient_kernel(
    p_q,
    p_k,
    p_v,
    p_grad_out,
    p_lse,
    p_delta,
    p_grad_k,
    p_grad_v,
    p_grad_key_bias,
    q_strides,
    k_strides,
    v_strides,
    grad_strides,
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
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Gradients of one tile of keys and values, and of their biases; sums over the heads that share them.

    Args:
        p_grad_out: [Nq, H, D]; p_lse, p_delta: [Nq, H] fp32.
        p_grad_k, p_grad_v: [N, H / SHARE, D]; p_grad_key_bias: [N, H] fp32 or None.
    """
    i_tile, i_sequence, i_key_head = assignment(tiles, sequences, heads // SHARE, group)
    i_key = i_tile * BLOCK_N
    begin, rows = sequence_rows(p_bounds, i_sequence, longest)
    if i_key >= rows:
        return

    first_query, queries = sequence_queries(p_cu_queries, i_sequence, begin, rows)
    o_tile = tl.arange(0, BLOCK_N)
    o_columns = tl.arange(0, BLOCK_D)
    left = rows - i_key
    p_k_tile = head_rows(p_k, k_strides, p_bounds, i_sequence, begin, i_key_head)
    p_k_tile += i_key.to(tl.int64) * k_strides[1]
    p_v_tile = head_rows(p_v, v_strides, p_bounds, i_sequence, begin, i_key_head)
    p_v_tile += i_key.to(tl.int64) * v_strides[1]
    b_k = load_rows(p_k_tile, o_tile, o_columns, k_strides[1], left, D, COMPUTE)
    b_v = load_rows(p_v_tile, o_tile, o_columns, v_strides[1], left, D, COMPUTE)

    furthest = i_key + BLOCK_N - 1
    first = queries_before(p_query_rows, begin, first_query, queries, i_key)
    full = queries_before(p_query_rows, begin, first_query, queries, furthest)
    far = queries_before(p_query_rows, begin, first_query, queries, furthest + width)
    end = queries
    if window is not None:
        end = queries_before(p_query_rows, begin, first_query, queries, furthest + window)
    full = tl.minimum(first + tl.cdiv(full - first, BLOCK_M) * BLOCK_M, end)
    far = tl.minimum(first + tl.cdiv(far - first, BLOCK_M) * BLOCK_M, end)

    b_grad_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    b_grad_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for i_share in range(SHARE):
        i_head = i_key_head * SHARE + i_share
        b_key_bias = None
        if p_key_bias is not None:
            b_key_bias = load_column(p_key_bias, begin, i_key + o_tile, rows, i_head, heads, 0.0)[:, None] * LOG2E
        p_head_table, last, slope = p_table, 0.0, 0.0
        if p_table is not None:
            p_head_table, last, slope = head_table(
                p_table, p_slope, i_sequence, i_head, per_model, heads, width, BEYOND
            )
        p_q_head = head_rows(p_q, q_strides, p_bounds, i_sequence, first_query, i_head)
        p_grad_head = head_rows(p_grad_out, grad_strides, p_bounds, i_sequence, first_query, i_head)
        b_grad_bias = tl.zeros([BLOCK_N], tl.float32)
        b_grad_k, b_grad_v, b_grad_bias = gather_key_gradient(
            b_grad_k, b_grad_v, b_grad_bias, b_k, b_v, b_key_bias, i_key + o_tile, p_q_head, p_grad_head,
            q_strides[1], grad_strides[1], p_lse, p_delta, p_logit_scale, p_query_rows, begin, first_query, queries,
            i_head, heads, p_head_table, last, slope, scale, width, window, first, full, o_columns,
            D, BLOCK_M, BEYOND, p_grad_key_bias is not None, False, True, PRECISION, COMPUTE,
        )  # fmt: skip
        if p_table is not None:
            b_grad_k, b_grad_v, b_grad_bias = gather_key_gradient(
                b_grad_k, b_grad_v, b_grad_bias, b_k, b_v, b_key_bias, i_key + o_tile, p_q_head, p_grad_head,
                q_strides[1], grad_strides[1], p_lse, p_delta, p_logit_scale, p_query_rows, begin, first_query, queries,
                i_head, heads, p_head_table, last, slope, scale, width, window, full, far, o_columns,
                D, BLOCK_M, BEYOND, p_grad_key_bias is not None, False, False, PRECISION, COMPUTE,
            )  # fmt: skip
        b_grad_k, b_grad_v, b_grad_bias = gather_key_gradient(
            b_grad_k, b_grad_v, b_grad_bias, b_k, b_v, b_key_bias, i_key + o_tile, p_q_head, p_grad_head,
            q_strides[1], grad_strides[1], p_lse, p_delta, p_logit_scale, p_query_rows, begin, first_query, queries,
            i_head, heads, p_head_table, last, slope, scale, width, window, far, end, o_columns,
            D, BLOCK_M, BEYOND, p_grad_key_bias is not None, True, False, PRECISION, COMPUTE,
        )  # fmt: skip
        if p_grad_key_bias is not None:
            store_column(p_grad_key_bias, b_grad_bias, begin, i_key + o_tile, rows, i_head, heads)

    grad_stride = tl.cast(heads // SHARE, tl.int64) * D
    offset = (begin + i_key) * grad_stride + i_key_head * D
    store_rows(p_grad_k + offset, b_grad_k * scale, o_tile, o_columns, grad_stride, left, D)
    store_rows(p_grad_v + offset, b_grad_v, o_tile, o_columns, grad_stride, left, D)
