"""Backward pass without atomics: one kernel owns tiles of queries, another owns tiles of keys.

With p the weights, o the output and g its gradient, the gradient of a logit is ``p_ij (g_i . v_j - delta_i)``, where
``delta_i = g_i . o_i``. The kernel of the queries goes first, for it leaves delta to the others. Where queries are few
its programs take parts of the keys, and ``split.sum_kernel`` joins what they leave.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    LOG2E,
    Sizes,
    assignment,
    dense_rows,
    head_of_sequence,
    key_biases,
    key_range,
    load_column,
    load_gradients,
    load_queries,
    load_tile,
    logit_gradient,
    part_of_keys,
    queries_before,
    query_positions,
    rows_of_keys,
    rows_of_queries,
    store_column,
    store_tile,
    tile_logits,
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
        b_distance = o_position[:, None] - (i_key + o_tile)[None, :]
        b_s = tile_logits(b_q, b_k, b_factor[:, None], b_key_bias, b_distance, terms, head, sizes, SHAPE, FAR, CAUSAL)
        b_p = tl.exp2(b_s - b_lse[:, None])
        b_grad_s = logit_gradient(b_p, b_grad_out, b_v, b_delta[:, None], SHAPE)
        if NEEDS_BEYOND:
            if FAR:
                b_beyond += tl.sum(b_grad_s, axis=1)
            else:
                b_beyond += tl.sum(tl.where(b_distance >= sizes.width, b_grad_s, 0.0), axis=1)
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
    p_delta,
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
    SHAPE: tl.constexpr,
):
    """Gradient of one tile of queries, with their delta and the gradient of their logit scale; or what one of several
    parts of the keys gives to them.

    Args:
        q, k, v, out, grad_out, terms, places, SHAPE: the tuples of ``common``. width to longest: ``common.Sizes``.
        p_lse: [Nq, H] fp32, base 2. p_delta: [Nq, H] fp32, written.
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
    o_queries = i_query + o_tile
    o_position, earliest, latest = query_positions(places, head, i_query, o_tile)
    head_out = rows_of_queries(out, places, head)
    head_grad_out = rows_of_queries(grad_out, places, head)
    b_grad_out, b_delta = load_gradients(head_out, head_grad_out, head, i_query, o_tile, SHAPE)
    store_column(p_delta, b_delta, head.first_query, o_queries, tl.where(i_part == 0, head.queries, 0), head)
    b_q, b_lse, b_logit_scale = load_queries(
        rows_of_queries(q, places, head), p_lse, terms, head, i_query, o_tile, SHAPE
    )
    b_factor = b_logit_scale * (scale * LOG2E)
    head_k = rows_of_keys(k, places, head, SHAPE)
    head_v = rows_of_keys(v, places, head, SHAPE)
    bounds = key_range(earliest, latest, sizes, SHAPE.BLOCK_N)
    if p_sums is not None:
        bounds = part_of_keys(i_part, parts, bounds[0], bounds[1], bounds[2], bounds[3], SHAPE.BLOCK_N)

    b_grad_q = tl.zeros([SHAPE.BLOCK_M, SHAPE.BLOCK_D], tl.float32)
    b_beyond = tl.zeros([SHAPE.BLOCK_M], tl.float32)
    for kind in tl.static_range(3):  # keys beyond the table, others that all queries see, those that some see
        if kind != 1 or terms.table is not None:
            b_grad_q, b_beyond = gather_query_gradient(
                b_grad_q, b_beyond, b_q, b_grad_out, b_lse, b_delta, b_factor, o_position, head_k, head_v, head, terms,
                sizes, bounds[kind], bounds[kind + 1], SHAPE, p_beyond is not None, kind == 0, kind == 2,
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
    o_keys,
    q,
    grad_out,
    p_lse,
    p_delta,
    head,
    terms,
    places,
    sizes,
    scale,
    first,
    end,
    SHAPE: tl.constexpr,
    NEEDS_KEY_BIAS: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Add what queries ``first`` to ``end`` of a head give to the gradients of the keys, values and key biases.

    Tiles are transposed, [BLOCK_N, BLOCK_M], so that weights are a left operand just as they are computed.
    """
    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    for i_query in range(first, end, SHAPE.BLOCK_M):
        o_queries = i_query + o_tile
        b_q, b_lse, b_logit_scale = load_queries(q, p_lse, terms, head, i_query, o_tile, SHAPE)
        b_grad_out = load_tile(grad_out, i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
        b_delta = load_column(p_delta, head.first_query, o_queries, head.queries, head, 0.0)
        b_factor = b_logit_scale * (scale * LOG2E)
        o_position = o_queries
        if places.query_rows is not None:
            b_rows = tl.load(places.query_rows + head.first_query + o_queries, mask=o_queries < head.queries, other=0)
            o_position = (b_rows.to(tl.int64) - head.begin).to(tl.int32)
        b_distance = o_position[None, :] - o_keys[:, None]
        b_s = tile_logits(b_k, b_q, b_factor[None, :], b_key_bias, b_distance, terms, head, sizes, SHAPE, FAR, CAUSAL)
        b_p = tl.exp2(b_s - b_lse[None, :])
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
    [far, end) see them beyond the table. All but ``end`` are whole tiles from ``begin``.
    """
    furthest = i_key + SHAPE.BLOCK_N - 1
    begin = queries_before(places, head, i_key)
    full = queries_before(places, head, furthest)
    far = queries_before(places, head, furthest + sizes.width)
    end = head.queries
    if sizes.window is not None:
        end = queries_before(places, head, furthest + sizes.window)
    full = tl.minimum(begin + tl.cdiv(full - begin, SHAPE.BLOCK_M) * SHAPE.BLOCK_M, end)
    return begin, full, tl.minimum(begin + tl.cdiv(far - begin, SHAPE.BLOCK_M) * SHAPE.BLOCK_M, end), end


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group"])
def key_gradient_kernel(
    q,
    k,
    v,
    grad_out,
    p_lse,
    p_delta,
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
    SHAPE: tl.constexpr,
):
    """Gradients of one tile of keys and values, and of their biases; sums over the heads that share them.

    Args:
        q, k, v, grad_out, terms, places, SHAPE: the tuples of ``common``. width to longest: ``common.Sizes``.
        p_lse, p_delta: [Nq, H] fp32.
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
            if kind != 1 or terms.table is not None:
                b_grad_k, b_grad_v, b_grad_bias = gather_key_gradient(
                    b_grad_k, b_grad_v, b_grad_bias, b_k, b_v, b_key_bias, o_keys, head_q, head_grad_out, p_lse,
                    p_delta, shared, terms, places, sizes, scale, bounds[kind], bounds[kind + 1], SHAPE,
                    p_grad_key_bias is not None, kind == 2, kind == 0,
                )  # fmt: skip
        if p_grad_key_bias is not None:
            store_column(p_grad_key_bias, b_grad_bias, head.begin, o_keys, head.rows, shared)

    key_heads = heads // SHAPE.SHARE
    rows_k = dense_rows(p_grad_k, head.begin, i_key_head, key_heads, SHAPE)
    rows_v = dense_rows(p_grad_v, head.begin, i_key_head, key_heads, SHAPE)
    store_tile(rows_k, b_grad_k * scale, i_key, o_tile, head.rows, SHAPE)
    store_tile(rows_v, b_grad_v, i_key, o_tile, head.rows, SHAPE)
