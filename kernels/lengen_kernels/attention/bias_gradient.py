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
    Sizes,
    bias_of_distances,
    head_of_sequence,
    key_biases,
    load_query_terms,
    load_tile,
    logit_gradient,
    query_terms,
    rows_of_keys,
    rows_of_queries,
    weights,
)


@triton.jit
def owner(lanes, parts, strips, heads):
    """Block of distances, lane, model, head, part of the sequences and strip of their rows of this program."""
    i_lane = tl.program_id(0) % lanes
    i_pair = i_lane // (strips * parts)
    return tl.program_id(0) // lanes, i_lane, i_pair // heads, i_pair % heads, i_lane // strips % parts, i_lane % strips


@triton.jit
def seen_biases(b_distance, i_model, i_head, heads, places, terms, sizes, SHAPE: tl.constexpr):
    """Bias, -inf at distances that are never seen."""
    head = head_of_sequence(i_model * sizes.per_model, i_head, heads, places, terms, sizes, SHAPE)
    b_bias = bias_of_distances(b_distance, terms, head, sizes, SHAPE, True)
    b_bias = tl.where(b_distance >= 0, b_bias, float("-inf"))
    if sizes.window is not None:
        b_bias = tl.where(b_distance < sizes.window, b_bias, float("-inf"))
    return b_bias


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "lanes", "parts", "strips"])
def diagonal_kernel(
    q,
    k,
    v,
    grad_out,
    p_terms,
    p_partial,
    terms,
    places,
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
    capacity,
    SHAPE: tl.constexpr,
    IS_FILLED: tl.constexpr,
):
    """Sums over the tiles of one offset, for every diagonal of them.

    Distance ``d`` lies on a diagonal at or below the main one of offset ``d // BLOCK``, and above that of the next.

    Args:
        q, k, v, grad_out, terms, places, SHAPE: the tuples of ``common``. width to longest: ``common.Sizes``.
        p_terms: [3, H, capacity] fp32, see ``common.query_terms``.
        p_partial: [lanes, 2, partial_width] fp32. Row 0 takes at ``d`` the sum of the lower diagonal; row 1 takes at
            ``d + BLOCK`` that of the upper one.
        lanes: models x heads x parts x strips. BLOCK_M = BLOCK_N.
    """
    i_offset, i_lane, i_model, i_head, i_part, i_strip = owner(lanes, parts, strips, heads)
    sizes = Sizes(width, window, per_model, longest)
    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    b_local = o_tile[:, None] - o_tile[None, :]
    b_distance = i_offset * SHAPE.BLOCK_M + b_local
    b_bias = seen_biases(b_distance, i_model, i_head, heads, places, terms, sizes, SHAPE)

    b_sum = tl.zeros([SHAPE.BLOCK_M, SHAPE.BLOCK_M], tl.float32)
    for i_turn in range(i_part, per_model, parts):
        head = head_of_sequence(i_model * per_model + i_turn, i_head, heads, places, terms, sizes, SHAPE)
        head_q = rows_of_queries(q, places, head)
        head_k = rows_of_keys(k, places, head, SHAPE)
        head_v = rows_of_keys(v, places, head, SHAPE)
        head_grad_out = rows_of_queries(grad_out, places, head)
        for i_tile in range(i_offset + i_strip, tl.cdiv(head.rows, SHAPE.BLOCK_M), strips):
            i_query = i_tile * SHAPE.BLOCK_M
            i_key = i_query - i_offset * SHAPE.BLOCK_M
            b_lse, b_delta, b_logit_scale = load_query_terms(p_terms, i_query, o_tile, terms, head, capacity, IS_FILLED)
            b_q = load_tile(head_q, i_query, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
            b_k = load_tile(head_k, i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
            b_v = load_tile(head_v, i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
            b_grad_out = load_tile(head_grad_out, i_query, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
            b_factor = b_logit_scale * scale
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=SHAPE.PRECISION) * b_factor[:, None] + b_bias
            if terms.key_bias is not None:
                b_s += key_biases(terms, head, i_key + o_tile)[None, :]
            b_sum += logit_gradient(weights(b_s, b_lse[:, None], terms), b_grad_out, b_v, b_delta[:, None], SHAPE)

    b_column = b_local & (SHAPE.BLOCK_M - 1)  # of row i and diagonal c: i - c, or around the edge of the tile
    b_diagonals = tl.gather(b_sum, b_column, axis=1)
    b_lower = tl.sum(tl.where(b_local >= 0, b_diagonals, 0.0), axis=0)
    b_upper = tl.sum(tl.where(b_local < 0, b_diagonals, 0.0), axis=0)
    p_lane = p_partial + i_lane.to(tl.int64) * 2 * partial_width + i_offset * SHAPE.BLOCK_M
    tl.store(p_lane + o_tile, b_lower)
    tl.store(p_lane + partial_width + o_tile, b_upper)


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "lanes", "parts", "strips"])
def chosen_rows_kernel(
    q,
    k,
    v,
    grad_out,
    p_terms,
    p_partial,
    terms,
    places,
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
    capacity,
    SHAPE: tl.constexpr,
    IS_FILLED: tl.constexpr,
):
    """Sums over chosen rows for a block of BLOCK_N distances; arguments as in ``diagonal_kernel``, row 1 is unused."""
    i_block, i_lane, i_model, i_head, i_part, i_strip = owner(lanes, parts, strips, heads)
    sizes = Sizes(width, window, per_model, longest)
    o_distance = i_block * SHAPE.BLOCK_N + tl.arange(0, SHAPE.BLOCK_N)
    o_columns = tl.arange(0, SHAPE.BLOCK_D)
    m_columns = o_columns < SHAPE.D
    b_bias = seen_biases(o_distance, i_model, i_head, heads, places, terms, sizes, SHAPE)

    b_sum = tl.zeros([SHAPE.BLOCK_N], tl.float32)
    for i_turn in range(i_part, per_model, parts):
        head = head_of_sequence(i_model * per_model + i_turn, i_head, heads, places, terms, sizes, SHAPE)
        head_q = rows_of_queries(q, places, head)
        head_k = rows_of_keys(k, places, head, SHAPE)
        head_v = rows_of_keys(v, places, head, SHAPE)
        head_grad_out = rows_of_queries(grad_out, places, head)
        for i_query in range(i_strip, head.queries, strips):
            query = tl.cast(i_query, tl.int64)
            row = tl.load(places.query_rows + head.first_query + query).to(tl.int64)
            o_keys = (row - head.begin).to(tl.int32) - o_distance
            m_keys = o_keys >= 0
            m_cells = m_keys[:, None] & m_columns[None, :]
            p_k_cells = head_k.pointer + (o_keys.to(tl.int64) * head_k.stride)[:, None] + o_columns[None, :]
            p_v_cells = head_v.pointer + (o_keys.to(tl.int64) * head_v.stride)[:, None] + o_columns[None, :]
            b_q = tl.load(head_q.pointer + query * head_q.stride + o_columns, mask=m_columns, other=0.0)
            p_grad_out = head_grad_out.pointer + query * head_grad_out.stride
            b_grad_out = tl.load(p_grad_out + o_columns, mask=m_columns, other=0.0)
            b_k = tl.load(p_k_cells, mask=m_cells, other=0.0).to(tl.float32)
            b_v = tl.load(p_v_cells, mask=m_cells, other=0.0).to(tl.float32)
            p_query = query_terms(p_terms, head, capacity) + query
            part = tl.cast(heads, tl.int64) * capacity
            factor = scale
            if terms.logit_scale is not None:
                factor *= tl.load(p_query + 2 * part)
            b_s = tl.sum(b_k * b_q.to(tl.float32)[None, :], axis=1) * factor + b_bias
            if terms.key_bias is not None:
                p_key_bias = terms.key_bias + (head.begin + o_keys) * heads + i_head
                b_s += tl.load(p_key_bias, mask=m_keys, other=0.0)
            b_p = tl.where(m_keys, weights(b_s, tl.load(p_query), terms), 0.0)
            b_grad_p = tl.sum(b_v * b_grad_out.to(tl.float32)[None, :], axis=1)
            b_sum += b_p * (b_grad_p - tl.load(p_query + part))
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
