"""Backward pass without atomics: one kernel owns tiles of queries, another owns tiles of keys.

With p the weights, o the output and g its gradient, the gradient of a logit is ``p_ij (g_i . v_j - delta_i)``, where
``delta_i = g_i . o_i``. The kernel of the queries goes first, for it leaves delta to the others, with other terms of
the queries, in an order in which a tile of keys, whose columns are queries, reads them fast. Where queries are few its
programs take parts of the keys, and ``split.sum_kernel`` joins what they leave.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    ALL,
    NONE,
    NOWHERE,
    SOME,
    Sizes,
    assignment,
    dense_rows,
    head_of_sequence,
    key_biases,
    key_range,
    load_gradients,
    load_queries,
    load_query_terms,
    load_tile,
    logit_gradient,
    part_of_keys,
    queries_before,
    query_positions,
    rows_of_keys,
    rows_of_queries,
    store_column,
    store_query_terms,
    store_tile,
    tile_logits,
    weights,
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
    i_position,
    o_position,
    k,
    v,
    head,
    terms,
    sizes,
    first,
    end,
    SHAPE: tl.constexpr,
    NEEDS_BEYOND: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Add what keys ``first`` to ``end`` give to the gradient of the queries, before the factor of their logits.

    ``b_beyond`` [BLOCK_M] takes the gradient of the logits at distances beyond the table.
    """
    o_tile = tl.arange(0, SHAPE.BLOCK_N)
    for i_key in range(first, end, SHAPE.BLOCK_N):
        b_k = load_tile(k, i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
        b_v = load_tile(v, i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
        b_key_bias = None
        if terms.key_bias is not None:
            b_key_bias = key_biases(terms, head, i_key + o_tile)[None, :]
        ahead = i_position - i_key
        b_query = o_position[:, None]
        b_key = o_tile[None, :]
        b_s = tile_logits(
            b_q, b_k, b_factor[:, None], b_key_bias, ahead, b_query, b_key, terms, head, sizes, SHAPE, FAR, CAUSAL
        )
        b_p = weights(b_s, b_lse[:, None], terms)
        b_grad_s = logit_gradient(b_p, b_grad_out, b_v, b_delta[:, None], SHAPE)
        if NEEDS_BEYOND:
            if FAR:
                b_beyond += tl.sum(b_grad_s, axis=1)
            else:
                b_beyond += tl.sum(tl.where(ahead + b_query - b_key >= sizes.width, b_grad_s, 0.0), axis=1)
        b_grad_q = tl.dot(b_grad_s.to(b_k.dtype), b_k, b_grad_q, input_precision=SHAPE.PRECISION)
    return b_grad_q, b_beyond


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group", "all_queries"])
def query_gradient_kernel(
    q,
    k,
    v,
    out,
    grad_out,
    p_lse,
    p_terms,
    p_grad_q,
    p_grad_logit_scale,
    p_sums,
    p_beyond,
    terms,
    places,
    scale,
    width,
    window,
    per_model,
    sequences,
    heads,
    longest,
    tiles,
    parts,
    group,
    all_queries,
    capacity,
    SHAPE: tl.constexpr,
):
    """Gradient of one tile of queries, with the terms that others need of them and the gradient of their logit scale;
    or what one of several parts of the keys gives to them.

    Args:
        q, k, v, out, grad_out, terms, places, SHAPE: the tuples of ``common``. width to longest: ``common.Sizes``.
        p_lse: [Nq, H] fp32, base 2. p_terms: [3, H, capacity] fp32, written; see ``common.query_terms``.
        p_grad_q: [Nq, H, D]; None if there are parts.
        p_grad_logit_scale: [parts, Nq, H] fp32; None if that is not needed.
        p_sums: [parts, Nq, H, D] fp32, gradients before the factor of the logits; None if all keys are one part.
        p_beyond: [B, H, tiles x parts] fp32 or None: gradient of the logits beyond the table, summed over a tile.
        tiles: of queries in the longest sequence. all_queries: Nq.
    """
    i_tile, i_sequence, i_head = assignment(tiles * parts, sequences, heads, group)
    i_tile = tiles * parts - 1 - i_tile
    i_part = i_tile % parts
    i_query = i_tile // parts * SHAPE.BLOCK_M
    sizes = Sizes(width, window, per_model, longest)
    head = head_of_sequence(i_sequence, i_head, heads, places, terms, sizes, SHAPE)
    o_beyond = (i_sequence.to(tl.int64) * heads + i_head) * (tiles * parts) + i_tile
    if i_query >= head.queries:
        if p_beyond is not None:
            tl.store(p_beyond + o_beyond, 0.0)
        return

    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    i_position, o_position, earliest, latest = query_positions(places, head, i_query, o_tile)
    head_out = rows_of_queries(out, places, head)
    head_grad_out = rows_of_queries(grad_out, places, head)
    b_grad_out, b_delta = load_gradients(head_out, head_grad_out, head, i_query, o_tile, SHAPE)
    b_q, b_lse, b_logit_scale = load_queries(
        rows_of_queries(q, places, head), p_lse, terms, head, i_query, o_tile, SHAPE
    )
    store_query_terms(p_terms, i_query, o_tile, b_lse, b_delta, b_logit_scale, terms, head, capacity, i_part == 0)
    b_factor = b_logit_scale * scale
    head_k = rows_of_keys(k, places, head, SHAPE)
    head_v = rows_of_keys(v, places, head, SHAPE)
    bounds = key_range(earliest, latest, sizes, SHAPE)
    if p_sums is not None:
        bounds = part_of_keys(i_part, parts, bounds[0], bounds[1], bounds[2], bounds[3], SHAPE.BLOCK_N)

    b_grad_q = tl.zeros([SHAPE.BLOCK_M, SHAPE.BLOCK_D], tl.float32)
    b_beyond = tl.zeros([SHAPE.BLOCK_M], tl.float32)
    for kind in tl.static_range(3):  # keys beyond the table, others that all queries see, those that some see
        if (kind != 0 or SHAPE.INSIDE != ALL) and (kind != 1 or SHAPE.INSIDE != NONE):
            b_grad_q, b_beyond = gather_query_gradient(
                b_grad_q, b_beyond, b_q, b_grad_out, b_lse, b_delta, b_factor, i_position, o_position, head_k,
                head_v, head, terms, sizes, bounds[kind], bounds[kind + 1], SHAPE, p_beyond is not None,
                kind == 0 or SHAPE.INSIDE == NONE, kind == 2,
            )  # fmt: skip

    left = head.queries - i_query
    row = head.first_query + i_query
    row_of_part = row + i_part.to(tl.int64) * all_queries
    if p_sums is not None:
        store_tile(dense_rows(p_sums, row_of_part, i_head, heads, SHAPE), b_grad_q, 0, o_tile, left, SHAPE)
    else:
        b_scaled = b_grad_q * (b_logit_scale * scale)[:, None]
        store_tile(dense_rows(p_grad_q, row, i_head, heads, SHAPE), b_scaled, 0, o_tile, left, SHAPE)
    if p_grad_logit_scale is not None:
        b_grad_scale = tl.sum(b_grad_q * b_q.to(tl.float32), axis=1) * scale
        store_column(p_grad_logit_scale, b_grad_scale, row_of_part, o_tile, left, head)
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
    i_key,
    q,
    grad_out,
    p_terms,
    head,
    terms,
    places,
    sizes,
    scale,
    capacity,
    first,
    end,
    tail,
    SHAPE: tl.constexpr,
    IS_FILLED: tl.constexpr,
    NEEDS_KEY_BIAS: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Add what queries ``first`` to ``end`` of a head give to the gradients of the keys, values and key biases.

    If ``CAUSAL`` and ``tail`` is not negative, the tile of queries from there on, too.
    Tiles are transposed, [BLOCK_N, BLOCK_M], so that weights are a left operand just as they are computed.
    """
    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    HAS_TAIL: tl.constexpr = CAUSAL and SHAPE.INSIDE == ALL and places.query_rows is None
    stop = end
    if HAS_TAIL:
        stop = tl.where(tail >= 0, end + SHAPE.BLOCK_M, end)
    for i_step in range(first, stop, SHAPE.BLOCK_M):
        i_query = i_step
        if HAS_TAIL:
            i_query = tl.where(i_step < end, i_step, tail)
        if IS_FILLED:
            i_query = tl.multiple_of(i_query, SHAPE.BLOCK_M)
        b_lse, b_delta, b_logit_scale = load_query_terms(p_terms, i_query, o_tile, terms, head, capacity, IS_FILLED)
        b_q = load_tile(q, i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
        b_grad_out = load_tile(grad_out, i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
        b_factor = b_logit_scale * scale
        ahead = i_query - i_key
        o_position = o_tile
        if places.query_rows is not None:
            m_queries = o_tile < head.queries - i_query
            b_rows = tl.load(places.query_rows + head.first_query + i_query + o_tile, mask=m_queries, other=0)
            o_position = tl.where(m_queries, (b_rows.to(tl.int64) - head.begin).to(tl.int32), head.rows - 1)
            ahead = 0 - i_key
        elif HAS_TAIL:  # queries that do not exist see nothing, and have no address beyond the table
            o_position = tl.where(o_tile < head.queries - i_query, o_tile, NOWHERE)
        b_query = o_position[None, :]
        b_key = tl.arange(0, SHAPE.BLOCK_N)[:, None]
        b_s = tile_logits(
            b_k, b_q, b_factor[None, :], b_key_bias, ahead, b_query, b_key, terms, head, sizes, SHAPE, FAR, CAUSAL
        )
        b_p = weights(b_s, b_lse[None, :], terms)
        b_grad_v = tl.dot(b_p.to(b_q.dtype), b_grad_out, b_grad_v, input_precision=SHAPE.PRECISION)
        b_grad_s = logit_gradient(b_p, b_v, b_grad_out, b_delta[None, :], SHAPE)
        if NEEDS_KEY_BIAS:
            b_grad_bias += tl.sum(b_grad_s, axis=1)
        if terms.logit_scale is not None:
            b_grad_s *= b_logit_scale[None, :]
        b_grad_k = tl.dot(b_grad_s.to(b_q.dtype), b_q, b_grad_k, input_precision=SHAPE.PRECISION)
    return b_grad_k, b_grad_v, b_grad_bias


@triton.jit
def query_range(places, head, sizes, i_key, SHAPE: tl.constexpr):
    """Where the queries that see a tile of keys begin, change their kind, and end.

    Queries in [begin, full) see some of the keys, those in [full, far) all of them as far as causality goes, those in
    [far, end) see them beyond the table. All but ``end`` are whole tiles from ``begin``. Where a table covers all
    distances a last tile with queries that do not exist is none of these: it begins at a fifth number, else -1.
    """
    furthest = i_key + SHAPE.BLOCK_N - 1
    begin = queries_before(places, head, i_key)
    full = queries_before(places, head, furthest)
    end = head.queries
    if sizes.window is not None:
        end = queries_before(places, head, furthest + sizes.window)
    full = tl.minimum(begin + tl.cdiv(full - begin, SHAPE.BLOCK_M) * SHAPE.BLOCK_M, end)
    far = end
    if SHAPE.INSIDE == NONE:
        far = full
    elif SHAPE.INSIDE == SOME:
        far = queries_before(places, head, furthest + sizes.width)
        far = tl.minimum(begin + tl.cdiv(far - begin, SHAPE.BLOCK_M) * SHAPE.BLOCK_M, end)
    elif places.query_rows is None:
        tail = begin + (end - begin) // SHAPE.BLOCK_M * SHAPE.BLOCK_M
        has_tail = (full <= tail) & (tail < end)
        end = tl.where(has_tail, tail, end)
        return begin, full, end, end, tl.where(has_tail, tail, -1)
    return begin, full, far, end, -1


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group"])
def key_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    p_terms,
    p_grad_k,
    p_grad_v,
    p_grad_key_bias,
    terms,
    places,
    scale,
    width,
    window,
    per_model,
    sequences,
    heads,
    longest,
    tiles,
    group,
    capacity,
    SHAPE: tl.constexpr,
    IS_FILLED: tl.constexpr,
):
    """Gradients of one tile of keys and values, and of their biases; sums over the heads that share them.

    Args:
        q, k, v, grad_out, terms, places, SHAPE: the tuples of ``common``. width to longest: ``common.Sizes``.
        p_terms: [3, H, capacity] fp32, see ``common.query_terms``; IS_FILLED: see ``common.load_query_terms``.
        p_grad_k, p_grad_v: [N, H / SHARE, D]; p_grad_key_bias: [N, H] fp32 or None.
        tiles: of keys in the longest sequence.
    """
    i_tile, i_sequence, i_key_head = assignment(tiles, sequences, heads // SHAPE.SHARE, group)
    i_key = i_tile * SHAPE.BLOCK_N
    sizes = Sizes(width, window, per_model, longest)
    head = head_of_sequence(i_sequence, i_key_head * SHAPE.SHARE, heads, places, terms, sizes, SHAPE)
    if i_key >= head.rows:
        return

    o_tile = tl.arange(0, SHAPE.BLOCK_N)
    o_keys = i_key + o_tile
    b_k = load_tile(rows_of_keys(k, places, head, SHAPE), i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
    b_v = load_tile(rows_of_keys(v, places, head, SHAPE), i_key, o_tile, head.rows, SHAPE, SHAPE.COMPUTE)
    bounds = query_range(places, head, sizes, i_key, SHAPE)

    b_grad_k = tl.zeros([SHAPE.BLOCK_N, SHAPE.BLOCK_D], tl.float32)
    b_grad_v = tl.zeros([SHAPE.BLOCK_N, SHAPE.BLOCK_D], tl.float32)
    for i_share in range(SHAPE.SHARE):
        i_head = i_key_head * SHAPE.SHARE + i_share
        shared = head_of_sequence(i_sequence, i_head, heads, places, terms, sizes, SHAPE)
        b_key_bias = None
        if terms.key_bias is not None:
            b_key_bias = key_biases(terms, shared, o_keys)[:, None]
        head_q = rows_of_queries(q, places, shared)
        head_grad_out = rows_of_queries(grad_out, places, shared)
        b_grad_bias = tl.zeros([SHAPE.BLOCK_N], tl.float32)
        for kind in tl.static_range(3):  # queries that see some of the keys, all of them, and from beyond the table
            if (kind != 2 or SHAPE.INSIDE != ALL) and (kind != 1 or SHAPE.INSIDE != NONE):
                b_grad_k, b_grad_v, b_grad_bias = gather_key_gradient(
                    b_grad_k, b_grad_v, b_grad_bias, b_k, b_v, b_key_bias, i_key, head_q, head_grad_out, p_terms,
                    shared, terms, places, sizes, scale, capacity, bounds[kind], bounds[kind + 1], bounds[4], SHAPE,
                    IS_FILLED, p_grad_key_bias is not None, kind == 2 or SHAPE.INSIDE == NONE, kind == 0,
                )  # fmt: skip
        if p_grad_key_bias is not None:
            store_column(p_grad_key_bias, b_grad_bias, head.begin, o_keys, head.rows, shared)

    key_heads = heads // SHAPE.SHARE
    rows_k = dense_rows(p_grad_k, head.begin, i_key_head, key_heads, SHAPE)
    rows_v = dense_rows(p_grad_v, head.begin, i_key_head, key_heads, SHAPE)
    store_tile(rows_k, b_grad_k * scale, i_key, o_tile, head.rows, SHAPE)
    store_tile(rows_v, b_grad_v, i_key, o_tile, head.rows, SHAPE)
