"""Short rows, up to 256 tokens: one program holds a sequence of one head, or as many tiny sequences as fill its tile.

Sequences in one tile are one row to the program, for packed rows are neighbours in memory: each query has a window that
ends where its own sequence begins. The forward pass takes a program for each tile of queries. The backward pass is one
launch: a program visits tiles of keys and, for each, the tiles of queries that see them, computes the weights once and
takes every gradient from them. Gradients of keys and values end with a tile of keys; those of queries wait in memory
that the program alone writes; those of the biases stay in registers, one number for each distance.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    FLOOR,
    LINE,
    LOG2E,
    ZERO,
    assignment,
    distance_bias,
    head_rows,
    head_table,
    key_range,
    load_column,
    load_rows,
    logits,
    store_column,
    store_rows,
)
from lengen_kernels.attention.forward import attend


@triton.jit
def first_row(p_bounds, i_sequence, longest):
    """Where a sequence begins, int64; also where the last one ends."""
    if p_bounds is None:
        return i_sequence.to(tl.int64) * longest
    else:
        return tl.load(p_bounds + i_sequence).to(tl.int64)


@triton.jit
def members(i_group, per_model, PACK: tl.constexpr):
    """First sequence of a group of up to PACK of one model, and the first of the next group."""
    groups = tl.cdiv(per_model, PACK)
    i_model = i_group // groups
    i_first = i_model * per_model + i_group % groups * PACK
    return i_first, tl.minimum(i_first + PACK, (i_model + 1) * per_model)


@triton.jit
def group_rows(p_bounds, p_cu_queries, i_first, i_next, longest):
    """First packed row (int64) and number of rows (int32) of a group; first query and number of queries."""
    begin = first_row(p_bounds, i_first, longest)
    rows = (first_row(p_bounds, i_next, longest) - begin).to(tl.int32)
    if p_cu_queries is None:
        return begin, rows, begin, rows
    else:
        first_query = first_row(p_cu_queries, i_first, longest)
        return begin, rows, first_query, (first_row(p_cu_queries, i_next, longest) - first_query).to(tl.int32)


@triton.jit
def positions(p_query_rows, begin, first_query, o_queries, queries):
    """Positions [BLOCK] int32 of queries in their group; 0 for those that do not exist, if rows were chosen."""
    if p_query_rows is None:
        return o_queries
    else:
        b_rows = tl.load(p_query_rows + first_query + o_queries, mask=o_queries < queries, other=0)
        return tl.where(o_queries < queries, b_rows.to(tl.int64) - begin, 0).to(tl.int32)


@triton.jit
def sequence_windows(p_bounds, i_first, i_next, begin, o_position, longest, window, PACK: tl.constexpr):
    """[BLOCK] int32: how many keys of its own sequence each query of a group sees."""
    o_members = tl.minimum(i_first + tl.arange(0, PACK), i_next)
    if p_bounds is None:
        b_starts = (o_members - i_first) * longest
    else:
        b_starts = (tl.load(p_bounds + o_members).to(tl.int64) - begin).to(tl.int32)
    b_begun = tl.where(b_starts[None, :] <= o_position[:, None], b_starts[None, :], 0)
    b_window = o_position - tl.max(b_begun, axis=1) + 1
    if window is not None:
        b_window = tl.minimum(b_window, window)
    return b_window


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles"])
def short_forward_kernel(
    p_q,
    p_k,
    p_v,
    p_out,
    p_lse,
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
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
    IS_FAR: tl.constexpr,
):
    """Output and log-sum-exp of one tile of queries of one group of sequences.

    Args:
        p_out: [Nq, H, D]; p_lse: [Nq, H] fp32, base 2. sequences: number of groups.
        PACK: sequences of a group, which fit one tile if there are several. BLOCKS: tiles of the longest row.
        IS_FAR: every distance reaches the table's end.
    """
    i_tile, i_group, i_head = assignment(tiles, sequences, heads, sequences * heads)
    i_query = (tiles - 1 - i_tile) * BLOCK_M
    i_first, i_next = members(i_group, per_model, PACK)
    begin, rows, first_query, queries = group_rows(p_bounds, p_cu_queries, i_first, i_next, longest)
    if i_query >= queries:
        return

    o_tile = tl.arange(0, BLOCK_M)
    o_columns = tl.arange(0, BLOCK_D)
    left = queries - i_query
    row = first_query + i_query
    o_position = positions(p_query_rows, begin, first_query, i_query + o_tile, queries)
    b_window = window
    if PACK > 1:
        b_window = sequence_windows(p_bounds, i_first, i_next, begin, o_position, longest, window, PACK)[:, None]
    p_k_head = head_rows(p_k, k_strides, p_bounds, i_first, begin, i_head // SHARE)
    p_v_head = head_rows(p_v, v_strides, p_bounds, i_first, begin, i_head // SHARE)
    p_q_tile = head_rows(p_q, q_strides, p_bounds, i_first, first_query, i_head)
    p_q_tile += i_query.to(tl.int64) * q_strides[1]
    b_q = load_rows(p_q_tile, o_tile, o_columns, q_strides[1], left, D, COMPUTE)
    b_factor = tl.full([BLOCK_M], 1.0, tl.float32) * (scale * LOG2E)
    if p_logit_scale is not None:
        b_factor *= load_column(p_logit_scale, first_query, i_query + o_tile, queries, i_head, heads, 0.0)
    p_head_table, last, slope = p_table, 0.0, 0.0
    if p_table is not None:
        p_head_table, last, slope = head_table(p_table, p_slope, i_first, i_head, per_model, heads, width, BEYOND)

    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_total = tl.zeros([BLOCK_M], tl.float32)
    b_max = tl.full([BLOCK_M], FLOOR, tl.float32)
    if BLOCKS == 1:
        first, end = 0, BLOCK_N
    elif p_query_rows is not None:
        first, end = 0, rows
    else:
        first, far, _, end = key_range(i_query, tl.minimum(i_query + BLOCK_M, rows) - 1, width, window, BLOCK_N)
        if p_table is not None and not IS_FAR:
            b_sum, b_total, b_max = attend(
                b_sum, b_total, b_max, b_q, b_factor, o_position, p_k_head, p_v_head, k_strides[1], v_strides[1],
                p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, b_window, first, far,
                o_columns, D, BLOCK_N, BEYOND, True, False, PRECISION, COMPUTE,
            )  # fmt: skip
            first = far
    b_sum, b_total, b_max = attend(
        b_sum, b_total, b_max, b_q, b_factor, o_position, p_k_head, p_v_head, k_strides[1], v_strides[1],
        p_key_bias, begin, rows, i_head, heads, p_head_table, last, slope, width, b_window, first, end,
        o_columns, D, BLOCK_N, BEYOND, IS_FAR, True, PRECISION, COMPUTE,
    )  # fmt: skip

    out_stride = tl.cast(heads, tl.int64) * D
    b_out = tl.div_rn(b_sum, b_total[:, None])
    store_rows(p_out + row * out_stride + i_head * D, b_out, o_tile, o_columns, out_stride, left, D)
    store_column(p_lse, b_max + tl.log2(b_total), row, o_tile, left, i_head, heads)


@triton.jit
def tile_bias(b_distance, p_table, last, slope, width, BEYOND: tl.constexpr, IS_FAR: tl.constexpr):
    """Biases of a tile in natural units; cells beyond the table, all of them if ``IS_FAR``, do not read it."""
    if IS_FAR:
        return distance_bias(b_distance, p_table, last, slope, width, BEYOND, True)
    else:
        m_table = (b_distance >= 0) & (b_distance < width)
        b_bias = tl.load(p_table + b_distance, mask=m_table, other=last)
        if BEYOND == LINE:
            b_bias += slope * tl.maximum(b_distance - (width - 1), 0).to(tl.float32)
        return b_bias


@triton.jit
def sums_by_distance(b_grad_s, o_position, i_key, i_query, BLOCKS: tl.constexpr, REGULAR: tl.constexpr):
    """[BLOCKS, BLOCK_N]: sums of a tile [BLOCK_M, BLOCK_N] over its cells of distance ``row * BLOCK_N + column``.

    Turned by its query's position, a row has all cells of equal distance, but for multiples of BLOCK_N, in one column.
    ``REGULAR``: queries follow one another, so that only two of these multiples occur.
    """
    BLOCK_M: tl.constexpr = b_grad_s.shape[0]
    BLOCK_N: tl.constexpr = b_grad_s.shape[1]
    b_ahead = (o_position - i_key)[:, None] - tl.arange(0, BLOCK_N)[None, :]
    b_key = b_ahead & (BLOCK_N - 1)
    b_turned = tl.gather(b_grad_s, b_key, axis=1)
    b_block = (b_ahead - b_key) // BLOCK_N
    b_sums = tl.zeros([BLOCKS, BLOCK_N], tl.float32)
    for i in tl.static_range(2 if REGULAR and BLOCKS > 1 else BLOCKS):
        i_block = i
        if REGULAR:
            i_block = (i_query - i_key + BLOCK_M - 1) // BLOCK_N - i
        b_sum = tl.sum(tl.where(b_block == i_block, b_turned, 0.0), axis=0)
        b_sums += tl.where((tl.arange(0, BLOCKS) == i_block)[:, None], b_sum[None, :], 0.0)
    return b_sums


@triton.jit
def gather_gradients(
    b_grad_k,
    b_grad_v,
    b_grad_bias,
    b_grad_table,
    b_k,
    b_v,
    b_key_bias,
    i_key,
    p_q,
    p_out,
    p_grad_out,
    p_lse,
    p_grad_q,
    p_sums,
    p_grad_logit_scale,
    q_stride,
    out_stride,
    grad_stride,
    p_logit_scale,
    p_bounds,
    p_query_rows,
    i_first,
    i_next,
    begin,
    rows,
    first_query,
    queries,
    longest,
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
    IS_FAR: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
    NEEDS_TABLE: tl.constexpr,
    NEEDS_KEY_BIAS: tl.constexpr,
):
    """Add what queries ``first`` to ``end`` give to the gradients of a tile of keys, and what these give to theirs."""
    BLOCK_N: tl.constexpr = b_k.shape[0]
    o_keys = i_key + tl.arange(0, BLOCK_N)
    dense_stride = tl.cast(heads, tl.int64) * D
    for i_query in range(first, end, BLOCK_M):
        o_queries = i_query + tl.arange(0, BLOCK_M)
        o_position = positions(p_query_rows, begin, first_query, o_queries, queries)
        b_window = window
        if PACK > 1:
            b_window = sequence_windows(p_bounds, i_first, i_next, begin, o_position, longest, window, PACK)[:, None]
        b_q = load_rows(p_q, o_queries, o_columns, q_stride, queries, D, COMPUTE)
        b_out = load_rows(p_out, o_queries, o_columns, out_stride, queries, D, tl.float32)
        b_grad_out = load_rows(p_grad_out, o_queries, o_columns, grad_stride, queries, D, tl.float32)
        b_delta = tl.sum(b_out * b_grad_out, axis=1)
        b_grad_out = b_grad_out.to(COMPUTE)
        b_lse = load_column(p_lse, first_query, o_queries, queries, i_head, heads, float("inf"))
        b_logit_scale = tl.full([BLOCK_M], 1.0, tl.float32)
        if p_logit_scale is not None:
            b_logit_scale = load_column(p_logit_scale, first_query, o_queries, queries, i_head, heads, 0.0)
        b_factor = b_logit_scale * (scale * LOG2E)  # as in the forward pass, to the bit

        b_dot = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)
        b_distance = o_position[:, None] - o_keys[None, :]
        b_s = b_dot * b_factor[:, None]
        if p_table is not None:
            b_s += tile_bias(b_distance, p_table, last, slope, width, BEYOND, IS_FAR) * LOG2E
        b_s = logits(b_s, 1.0, b_key_bias, b_distance, None, 0.0, 0.0, 0, b_window, BEYOND, IS_FAR, True)
        b_p = tl.exp2(b_s - b_lse[:, None])
        b_grad_v = tl.dot(tl.trans(b_p.to(COMPUTE)), b_grad_out, b_grad_v, input_precision=PRECISION)
        b_grad_p = tl.dot(b_grad_out, tl.trans(b_v), input_precision=PRECISION)
        b_grad_s = b_p * (b_grad_p - b_delta[:, None])
        if NEEDS_KEY_BIAS:
            b_grad_bias += tl.sum(b_grad_s, axis=0)
        if NEEDS_TABLE:
            if IS_FAR:  # one sum, among the largest distances
                is_largest = (tl.arange(0, BLOCKS) == BLOCKS - 1)[:, None]
                b_grad_table += tl.where(is_largest, tl.sum(b_grad_s, axis=0)[None, :], 0.0)
            else:
                is_regular: tl.constexpr = p_query_rows is None
                b_grad_table += sums_by_distance(b_grad_s, o_position, i_key, i_query, BLOCKS, is_regular)
        b_scaled = b_grad_s
        if p_logit_scale is not None:
            b_scaled = b_grad_s * b_logit_scale[:, None]
        b_grad_k = tl.dot(tl.trans(b_scaled.to(COMPUTE)), b_q, b_grad_k, input_precision=PRECISION)

        b_grad_q = tl.zeros(b_q.shape, tl.float32)
        offset = first_query * dense_stride + i_head * D
        done = queries
        if BLOCKS > 1:
            is_begun = i_key > 0
            is_done = i_key + BLOCK_N >= rows
            if p_query_rows is None:
                is_done = i_query < i_key + BLOCK_N
                if window is not None:
                    is_begun = i_key > tl.maximum(i_query - window + 1, 0)
            begun = tl.where(is_begun, queries, 0)
            b_grad_q = load_rows(p_sums + offset, o_queries, o_columns, dense_stride, begun, D, tl.float32)
            done = tl.where(is_done, queries, 0)
        b_grad_q = tl.dot(b_grad_s.to(COMPUTE), b_k, b_grad_q, input_precision=PRECISION)
        if BLOCKS > 1:
            store_rows(p_sums + offset, b_grad_q, o_queries, o_columns, dense_stride, queries - done, D)
        b_scaled_q = b_grad_q * (b_logit_scale * scale)[:, None]
        store_rows(p_grad_q + offset, b_scaled_q, o_queries, o_columns, dense_stride, done, D)
        if p_grad_logit_scale is not None:
            b_grad_scale = tl.sum(b_grad_q * b_q.to(tl.float32), axis=1) * scale
            store_column(p_grad_logit_scale, b_grad_scale, first_query, o_queries, done, i_head, heads)
    return b_grad_k, b_grad_v, b_grad_bias, b_grad_table


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest"])
def short_backward_kernel(
    p_q,
    p_k,
    p_v,
    p_out,
    p_grad_out,
    p_lse,
    p_grad_q,
    p_grad_k,
    p_grad_v,
    p_sums,
    p_partial,
    p_grad_key_bias,
    p_grad_logit_scale,
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
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
    IS_FAR: tl.constexpr,
):
    """Every gradient of one group of sequences in one head.

    Args:
        p_out, p_grad_out: [Nq, H, D] in any dtype; p_lse: [Nq, H] fp32, base 2.
        p_grad_q: [Nq, H, D]. p_grad_k, p_grad_v: [N, H, D], of each head that shares a key on its own.
        p_sums: [Nq, H, D] fp32, what is known of the queries' gradients; ``p_grad_q`` if that is fp32; or None if a
            row is no longer than a tile.
        p_partial: [sequences, H, BLOCKS x BLOCK_N] fp32 or None: gradient of the biases by distance.
        p_grad_key_bias: [N, H] fp32 or None. p_grad_logit_scale: [Nq, H] fp32 or None.
        BLOCK_N is a multiple of BLOCK_M. The others as in ``short_forward_kernel``.
    """
    i_group = tl.program_id(0) // heads
    i_head = tl.program_id(0) % heads
    i_first, i_next = members(i_group, per_model, PACK)
    begin, rows, first_query, queries = group_rows(p_bounds, p_cu_queries, i_first, i_next, longest)
    o_columns = tl.arange(0, BLOCK_D)
    dense_stride = tl.cast(heads, tl.int64) * D
    p_q_head = head_rows(p_q, q_strides, p_bounds, i_first, first_query, i_head)
    p_k_head = head_rows(p_k, k_strides, p_bounds, i_first, begin, i_head // SHARE)
    p_v_head = head_rows(p_v, v_strides, p_bounds, i_first, begin, i_head // SHARE)
    p_out_head = head_rows(p_out, out_strides, p_bounds, i_first, first_query, i_head)
    p_grad_head = head_rows(p_grad_out, grad_strides, p_bounds, i_first, first_query, i_head)
    p_head_table, last, slope = p_table, 0.0, 0.0
    if p_table is not None:
        p_head_table, last, slope = head_table(p_table, p_slope, i_first, i_head, per_model, heads, width, BEYOND)

    b_grad_table = tl.zeros([BLOCKS, BLOCK_N], tl.float32)
    for i_key in range(0, BLOCK_N if BLOCKS == 1 else rows, BLOCK_N):
        o_keys = i_key + tl.arange(0, BLOCK_N)
        b_k = load_rows(p_k_head, o_keys, o_columns, k_strides[1], rows, D, COMPUTE)
        b_v = load_rows(p_v_head, o_keys, o_columns, v_strides[1], rows, D, COMPUTE)
        b_key_bias = None
        if p_key_bias is not None:
            b_key_bias = load_column(p_key_bias, begin, o_keys, rows, i_head, heads, 0.0)[None, :] * LOG2E
        if BLOCKS == 1:
            first, end = 0, BLOCK_N
        elif p_query_rows is not None:
            first, end = 0, queries
        else:
            first, end = i_key, queries
            if window is not None:
                end = tl.minimum(i_key + BLOCK_N - 1 + window, queries)
        b_grad_k = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        b_grad_v = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
        b_grad_bias = tl.zeros([BLOCK_N], tl.float32)
        b_grad_k, b_grad_v, b_grad_bias, b_grad_table = gather_gradients(
            b_grad_k, b_grad_v, b_grad_bias, b_grad_table, b_k, b_v, b_key_bias, i_key, p_q_head, p_out_head,
            p_grad_head, p_lse, p_grad_q, p_sums, p_grad_logit_scale, q_strides[1], out_strides[1], grad_strides[1],
            p_logit_scale, p_bounds, p_query_rows, i_first, i_next, begin, rows, first_query, queries, longest, i_head,
            heads, p_head_table, last, slope, scale, width, window, first, end, o_columns, D, BLOCK_M, BEYOND,
            IS_FAR, PRECISION, COMPUTE, PACK, BLOCKS, p_partial is not None, p_grad_key_bias is not None,
        )  # fmt: skip
        offset = begin * dense_stride + i_head * D
        store_rows(p_grad_k + offset, b_grad_k * scale, o_keys, o_columns, dense_stride, rows, D)
        store_rows(p_grad_v + offset, b_grad_v, o_keys, o_columns, dense_stride, rows, D)
        if p_grad_key_bias is not None:
            store_column(p_grad_key_bias, b_grad_bias, begin, o_keys, rows, i_head, heads)
        if BLOCKS > 1:
            tl.debug_barrier()  # other threads may take up the sums of the queries' gradients

    if p_partial is not None:
        o_distance = tl.arange(0, BLOCKS)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
        tl.store(p_partial + tl.program_id(0).to(tl.int64) * BLOCKS * BLOCK_N + o_distance, b_grad_table)


@triton.jit(do_not_specialize=["width", "groups"])
def distance_gradient_kernel(
    p_partial,
    p_grad_table,
    width,
    groups,
    heads,
    DISTANCES: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BEYOND: tl.constexpr,
):
    """Add what groups of sequences give to BLOCK_W entries of a table, in a fixed order; the last takes what is beyond.

    Args:
        p_partial: [models, groups, heads, DISTANCES] fp32. p_grad_table: [models, heads, width] fp32.
    """
    blocks = tl.cdiv(width, BLOCK_W)
    i_table = tl.program_id(0) // blocks
    i_own = tl.program_id(0) % blocks * BLOCK_W
    o_column = tl.arange(0, BLOCK_W)
    o_groups = tl.arange(0, BLOCK_G)
    p_table_sums = p_partial + ((i_table // heads).to(tl.int64) * groups * heads + i_table % heads) * DISTANCES
    end = i_own + BLOCK_W
    if BEYOND != ZERO:
        end = tl.where(end >= width, tl.maximum(end, DISTANCES), end)
    b_own = tl.zeros([BLOCK_W], tl.float32)
    b_beyond = tl.zeros([BLOCK_W], tl.float32)
    for i_column in range(i_own, end, BLOCK_W):
        o_distance = i_column + o_column
        b_sums = tl.zeros([BLOCK_G, BLOCK_W], tl.float32)
        for i_part in range(0, groups, BLOCK_G):
            o_part = i_part + o_groups
            m_cells = (o_part < groups)[:, None] & (o_distance < DISTANCES)[None, :]
            p_cells = p_table_sums + (o_part.to(tl.int64) * heads * DISTANCES)[:, None] + o_distance[None, :]
            b_sums += tl.load(p_cells, mask=m_cells, other=0.0)
        b_sum = tl.sum(b_sums, axis=0)
        b_own += tl.where((o_distance < width) & (i_column == i_own), b_sum, 0.0)
        b_beyond += tl.where(o_distance >= width, b_sum, 0.0)
    if BEYOND != ZERO:
        b_own += tl.where(i_own + o_column == width - 1, tl.sum(b_beyond, axis=0), 0.0)
    p_own = p_grad_table + i_table.to(tl.int64) * width + i_own
    tl.store(p_own + o_column, b_own, mask=i_own + o_column < width)
