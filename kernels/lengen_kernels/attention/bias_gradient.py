"""Gradient of a table over distance, without atomics and without a matrix of all pairs.

In tiles of BLOCK queries and BLOCK keys whose numbers differ by a fixed offset, a cell always has the same distance.
So one program owns an offset of a head: it adds up the gradients of the logits of all such tiles, of many sequences, in
one tile of registers, and at its end sums that tile along its diagonals. A second kernel adds the programs' sums in a
fixed order. Distances beyond the table are summed by the kernel of the queries' gradient, which visits them anyway.

Chosen rows stand at no regular distance: there a program owns a block of distances and visits row after row.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    LOG2E,
    distance_bias,
    head_rows,
    head_table,
    load_column,
    load_rows,
    sequence_queries,
    sequence_rows,
)


@triton.jit
def owner(lanes, parts, strips, heads):
    """Block of distances, lane, model, head, part of the sequences and strip of their rows of this program."""
    i_lane = tl.program_id(0) % lanes
    i_pair = i_lane // (strips * parts)
    return tl.program_id(0) // lanes, i_lane, i_pair // heads, i_pair % heads, i_lane // strips % parts, i_lane % strips


@triton.jit
def bias_of_distances(b_distance, p_table, last, slope, width, window, BEYOND: tl.constexpr):
    """Bias in base 2, -inf at distances that are never seen."""
    b_bias = distance_bias(b_distance, p_table, last, slope, width, BEYOND, False) * LOG2E
    b_bias = tl.where(b_distance >= 0, b_bias, float("-inf"))
    if window is not None:
        b_bias = tl.where(b_distance < window, b_bias, float("-inf"))
    return b_bias


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "lanes", "parts", "strips"])
def diagonal_kernel(
    p_q,
    p_k,
    p_v,
    p_grad_out,
    p_lse,
    p_delta,
    p_partial,
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
    lanes,
    parts,
    strips,
    partial_width,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Sums over the tiles of one offset, for every diagonal of them.

    Distance ``d`` lies on a diagonal at or below the main one of offset ``d // BLOCK``, and above that of the next.

    Args:
        p_partial: [lanes, 2, partial_width] fp32. Row 0 takes at ``d`` the sum of the lower diagonal; row 1 takes at
            ``d + BLOCK`` that of the upper one.
        lanes: models x heads x parts x strips. BLOCK_M = BLOCK_N.
    """
    i_offset, i_lane, i_model, i_head, i_part, i_strip = owner(lanes, parts, strips, heads)
    o_tile = tl.arange(0, BLOCK_M)
    o_columns = tl.arange(0, BLOCK_D)
    b_local = o_tile[:, None] - o_tile[None, :]
    first_sequence = i_model * per_model
    p_head_table, last, slope = head_table(p_table, p_slope, first_sequence, i_head, per_model, heads, width, BEYOND)
    b_bias = bias_of_distances(i_offset * BLOCK_M + b_local, p_head_table, last, slope, width, window, BEYOND)

    b_sum = tl.zeros([BLOCK_M, BLOCK_M], tl.float32)
    for i_turn in range(i_part, per_model, parts):
        i_sequence = first_sequence + i_turn
        begin, rows = sequence_rows(p_bounds, i_sequence, longest)
        p_q_head = head_rows(p_q, q_strides, p_bounds, i_sequence, begin, i_head)
        p_k_head = head_rows(p_k, k_strides, p_bounds, i_sequence, begin, i_head // SHARE)
        p_v_head = head_rows(p_v, v_strides, p_bounds, i_sequence, begin, i_head // SHARE)
        p_grad_head = head_rows(p_grad_out, grad_strides, p_bounds, i_sequence, begin, i_head)
        for i_tile in range(i_offset + i_strip, tl.cdiv(rows, BLOCK_M), strips):
            i_query = i_tile * BLOCK_M
            i_key = i_query - i_offset * BLOCK_M
            p_q_tile = p_q_head + tl.cast(i_query, tl.int64) * q_strides[1]
            p_k_tile = p_k_head + tl.cast(i_key, tl.int64) * k_strides[1]
            p_v_tile = p_v_head + tl.cast(i_key, tl.int64) * v_strides[1]
            p_grad_tile = p_grad_head + tl.cast(i_query, tl.int64) * grad_strides[1]
            b_q = load_rows(p_q_tile, o_tile, o_columns, q_strides[1], rows - i_query, D, COMPUTE)
            b_k = load_rows(p_k_tile, o_tile, o_columns, k_strides[1], rows - i_key, D, COMPUTE)
            b_v = load_rows(p_v_tile, o_tile, o_columns, v_strides[1], rows - i_key, D, COMPUTE)
            b_grad_out = load_rows(p_grad_tile, o_tile, o_columns, grad_strides[1], rows - i_query, D, COMPUTE)
            b_lse = load_column(p_lse, begin, i_query + o_tile, rows, i_head, heads, float("inf"))
            b_delta = load_column(p_delta, begin, i_query + o_tile, rows, i_head, heads, 0.0)
            b_factor = tl.full([BLOCK_M], 1.0, tl.float32) * (scale * LOG2E)
            if p_logit_scale is not None:
                b_factor *= load_column(p_logit_scale, begin, i_query + o_tile, rows, i_head, heads, 0.0)
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * b_factor[:, None] + b_bias
            if p_key_bias is not None:
                b_s += load_column(p_key_bias, begin, i_key + o_tile, rows, i_head, heads, 0.0)[None, :] * LOG2E
            b_p = tl.exp2(b_s - b_lse[:, None])
            b_grad_p = tl.dot(b_grad_out, tl.trans(b_v), input_precision=PRECISION)
            b_sum += b_p * (b_grad_p - b_delta[:, None])

    b_column = b_local & (BLOCK_M - 1)  # of row i and diagonal c: i - c, or around the edge of the tile
    b_diagonals = tl.gather(b_sum, b_column, axis=1)
    b_lower = tl.sum(tl.where(b_local >= 0, b_diagonals, 0.0), axis=0)
    b_upper = tl.sum(tl.where(b_local < 0, b_diagonals, 0.0), axis=0)
    p_lane = p_partial + i_lane.to(tl.int64) * 2 * partial_width + i_offset * BLOCK_M
    tl.store(p_lane + o_tile, b_lower)
    tl.store(p_lane + partial_width + o_tile, b_upper)


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "lanes", "parts", "strips"])
def chosen_rows_kernel(
    p_q,
    p_k,
    p_v,
    p_grad_out,
    p_lse,
    p_delta,
    p_partial,
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
    lanes,
    parts,
    strips,
    partial_width,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BEYOND: tl.constexpr,
    PRECISION: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """Sums over chosen rows for a block of BLOCK_N distances; arguments as in ``diagonal_kernel``, row 1 is unused."""
    i_block, i_lane, i_model, i_head, i_part, i_strip = owner(lanes, parts, strips, heads)
    o_distance = i_block * BLOCK_N + tl.arange(0, BLOCK_N)
    o_columns = tl.arange(0, BLOCK_D)
    m_columns = o_columns < D
    first_sequence = i_model * per_model
    p_head_table, last, slope = head_table(p_table, p_slope, first_sequence, i_head, per_model, heads, width, BEYOND)
    b_bias = bias_of_distances(o_distance, p_head_table, last, slope, width, window, BEYOND)

    b_sum = tl.zeros([BLOCK_N], tl.float32)
    for i_turn in range(i_part, per_model, parts):
        i_sequence = first_sequence + i_turn
        begin, rows = sequence_rows(p_bounds, i_sequence, longest)
        first_query, queries = sequence_queries(p_cu_queries, i_sequence, begin, rows)
        p_q_head = head_rows(p_q, q_strides, p_bounds, i_sequence, first_query, i_head)
        p_k_head = head_rows(p_k, k_strides, p_bounds, i_sequence, begin, i_head // SHARE)
        p_v_head = head_rows(p_v, v_strides, p_bounds, i_sequence, begin, i_head // SHARE)
        p_grad_head = head_rows(p_grad_out, grad_strides, p_bounds, i_sequence, first_query, i_head)
        for i_query in range(i_strip, queries, strips):
            query = tl.cast(i_query, tl.int64)
            o_keys = (tl.load(p_query_rows + first_query + query).to(tl.int64) - begin).to(tl.int32) - o_distance
            m_keys = o_keys >= 0
            m_cells = m_keys[:, None] & m_columns[None, :]
            p_k_cells = p_k_head + (o_keys.to(tl.int64) * k_strides[1])[:, None] + o_columns[None, :]
            p_v_cells = p_v_head + (o_keys.to(tl.int64) * v_strides[1])[:, None] + o_columns[None, :]
            b_q = tl.load(p_q_head + query * q_strides[1] + o_columns, mask=m_columns, other=0.0)
            b_grad_out = tl.load(p_grad_head + query * grad_strides[1] + o_columns, mask=m_columns, other=0.0)
            b_k = tl.load(p_k_cells, mask=m_cells, other=0.0).to(tl.float32)
            b_v = tl.load(p_v_cells, mask=m_cells, other=0.0).to(tl.float32)
            o_cell = (first_query + query) * heads + i_head
            factor = scale * LOG2E
            if p_logit_scale is not None:
                factor *= tl.load(p_logit_scale + o_cell)
            b_s = tl.sum(b_k * b_q.to(tl.float32)[None, :], axis=1) * factor + b_bias
            if p_key_bias is not None:
                b_s += tl.load(p_key_bias + (begin + o_keys) * heads + i_head, mask=m_keys, other=0.0) * LOG2E
            b_p = tl.where(m_keys, tl.exp2(b_s - tl.load(p_lse + o_cell)), 0.0)
            b_grad_p = tl.sum(b_v * b_grad_out.to(tl.float32)[None, :], axis=1)
            b_sum += b_p * (b_grad_p - tl.load(p_delta + o_cell))
    tl.store(p_partial + i_lane.to(tl.int64) * 2 * partial_width + o_distance, b_sum)


@triton.jit(do_not_specialize=["width", "per_model", "partials", "partial_width", "tiles"])
def table_gradient_kernel(
    p_partial,
    p_beyond,
    p_grad_table,
    width,
    per_model,
    heads,
    partials,
    partial_width,
    tiles,
    BLOCK: tl.constexpr,
    BLOCK_W: tl.constexpr,
    UPPER: tl.constexpr,
):
    """Add the partial sums of BLOCK_W distances of one model and head, in their order.

    Args:
        p_partial: [models, heads, partials, 2, partial_width] fp32. UPPER: row 1 counts, and begins at -BLOCK.
        p_beyond: [models x per_model, heads, tiles] fp32 or None, added to the last entry.
        p_grad_table: [models, heads, width] fp32.
    """
    blocks = tl.cdiv(width, BLOCK_W)
    i_table = tl.program_id(0) // blocks
    i_block = tl.program_id(0) % blocks
    o_distance = i_block * BLOCK_W + tl.arange(0, BLOCK_W)
    b_sum = tl.zeros([BLOCK_W], tl.float32)
    for i_partial in range(partials):
        row = (i_table.to(tl.int64) * partials + i_partial) * 2 * partial_width
        b_sum += tl.load(p_partial + row + o_distance, mask=o_distance < partial_width, other=0.0)
        if UPPER:
            o_upper = o_distance + BLOCK
            b_sum += tl.load(p_partial + row + partial_width + o_upper, mask=o_upper < partial_width, other=0.0)
    if p_beyond is not None:
        i_model = i_table // heads
        i_head = i_table % heads
        b_beyond = tl.zeros([BLOCK_W], tl.float32)
        o_cell = tl.arange(0, BLOCK_W)
        count = tl.where(i_block == blocks - 1, per_model * tiles, 0)
        for i_cell in range(0, count, BLOCK_W):
            o_cells = i_cell + o_cell
            row = (i_model * per_model + o_cells // tiles).to(tl.int64) * heads + i_head
            b_beyond += tl.load(p_beyond + row * tiles + o_cells % tiles, mask=o_cells < count, other=0.0)
        b_sum += tl.where(o_distance == width - 1, tl.sum(b_beyond, axis=0), 0.0)
    tl.store(p_grad_table + i_table.to(tl.int64) * width + o_distance, b_sum, mask=o_distance < width)
