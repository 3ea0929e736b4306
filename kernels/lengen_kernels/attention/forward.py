"""Forward pass: one program holds a tile of queries of one head and visits its keys from the first to the last.

With several parts each program takes a part of the keys and leaves unnormalised sums, which ``split.merge_kernel``
joins.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    ALL,
    FLOOR,
    LOG2E,
    NONE,
    SMALLEST,
    Sizes,
    assignment,
    dense_rows,
    head_of_sequence,
    key_biases,
    key_range,
    load_logit_scale,
    load_tile,
    part_of_keys,
    query_positions,
    rows_of_keys,
    rows_of_queries,
    store_column,
    store_tile,
    tile_logits,
    weights,
    where_seen,
)


@triton.jit
def nothing_seen(SHAPE: tl.constexpr):
    """Sums of values [BLOCK_M, BLOCK_D] and of weights [BLOCK_M], and the maxima, before the first key."""
    b_sum = tl.zeros([SHAPE.BLOCK_M, SHAPE.BLOCK_D], tl.float32)
    return b_sum, tl.zeros([SHAPE.BLOCK_M], tl.float32), tl.full([SHAPE.BLOCK_M], FLOOR, tl.float32)


@triton.jit
def with_positive_factor(b_q, b_factor):
    """Queries and factors of their logits with the same products, of which no factor is negative.

    Nor is one 0, with which the -inf of an unseen key would give NaN: 2^-100 makes no other weights.
    """
    return tl.where((b_factor < 0)[:, None], -b_q, b_q), tl.maximum(tl.abs(b_factor), SMALLEST)


@triton.jit
def attend(
    b_sum,
    b_total,
    b_max,
    b_q,
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
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Let a tile of queries see keys ``first`` to ``end``: the sums and maxima of ``nothing_seen`` after that.

    ``b_factor`` is positive. Where logits are products times the factor of their row, the largest is that of the
    largest product, and a cell takes one instruction less. All tiles compute the weight of a logit in the same way, so
    that equal logits of a row have equal weights.
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
        if terms.table is None and terms.key_bias is None:
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=SHAPE.PRECISION)
            b_s = where_seen(b_s, float("-inf"), ahead, b_query, b_key, sizes, CAUSAL)
            b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1) * (b_factor * LOG2E))
            b_p = tl.exp2(b_s * (b_factor * LOG2E)[:, None] - b_new_max[:, None])
        else:
            b_s = tile_logits(
                b_q, b_k, b_factor[:, None], b_key_bias, ahead, b_query, b_key, terms, head, sizes, SHAPE, FAR, CAUSAL
            )
            b_new_max = tl.maximum(b_max, tl.max(b_s, axis=1) * LOG2E)
            b_p = weights(b_s, b_new_max[:, None], terms)
        b_rescale = tl.exp2(b_max - b_new_max)
        b_total = b_total * b_rescale + tl.sum(b_p, axis=1)
        b_sum = tl.dot(b_p.to(b_v.dtype), b_v, b_sum * b_rescale[:, None], input_precision=SHAPE.PRECISION)
        b_max = b_new_max
    return b_sum, b_total, b_max


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles", "group", "all_queries"])
def forward_kernel(
    q,
    k,
    v,
    p_out,
    p_lse,
    p_sums,
    p_totals,
    p_maxima,
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
    """Output and log-sum-exp of one tile of queries, or of several parts of its keys the sums over one.

    Args:
        q, k, v, terms, places, SHAPE: the tuples of ``common``. width to longest: see ``common.Sizes``.
        p_out: [Nq, H, D]; p_lse: [Nq, H] fp32, base 2; None if there are parts.
        p_sums: [parts, Nq, H, D] fp32, p_totals and p_maxima: [parts, Nq, H] fp32; None if all keys are one part.
        tiles: of queries in the longest sequence. all_queries: Nq. group: see ``common.assignment``.
    """
    i_tile, i_sequence, i_head = assignment(tiles * parts, sequences, heads, group)
    i_query = (tiles - 1 - i_tile // parts) * SHAPE.BLOCK_M
    sizes = Sizes(width, window, per_model, longest)
    head = head_of_sequence(i_sequence, i_head, heads, places, terms, sizes, SHAPE)
    if i_query >= head.queries:
        return

    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    i_position, o_position, earliest, latest = query_positions(places, head, i_query, o_tile)
    b_q = load_tile(rows_of_queries(q, places, head), i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
    b_q, b_factor = with_positive_factor(b_q, load_logit_scale(terms, head, i_query + o_tile) * scale)
    head_k = rows_of_keys(k, places, head, SHAPE)
    head_v = rows_of_keys(v, places, head, SHAPE)
    bounds = key_range(earliest, latest, sizes, SHAPE)
    if p_sums is not None:
        bounds = part_of_keys(i_tile % parts, parts, bounds[0], bounds[1], bounds[2], bounds[3], SHAPE.BLOCK_N)

    b_sum, b_total, b_max = nothing_seen(SHAPE)
    for kind in tl.static_range(3):  # keys beyond the table, others that all queries see, those that some see
        if (kind != 0 or SHAPE.INSIDE != ALL) and (kind != 1 or SHAPE.INSIDE != NONE):
            b_sum, b_total, b_max = attend(
                b_sum, b_total, b_max, b_q, b_factor, i_position, o_position, head_k, head_v, head, terms, sizes,
                bounds[kind], bounds[kind + 1], SHAPE, kind == 0 or SHAPE.INSIDE == NONE, kind == 2,
            )  # fmt: skip

    row = head.first_query + i_query
    left = head.queries - i_query
    if p_sums is not None:
        row += (i_tile % parts).to(tl.int64) * all_queries
        store_tile(dense_rows(p_sums, row, i_head, heads, SHAPE), b_sum, 0, o_tile, left, SHAPE)
        store_column(p_totals, b_total, row, o_tile, left, head)
        store_column(p_maxima, b_max, row, o_tile, left, head)
    else:
        b_out = tl.div_rn(b_sum, b_total[:, None])
        store_tile(dense_rows(p_out, row, i_head, heads, SHAPE), b_out, 0, o_tile, left, SHAPE)
        store_column(p_lse, b_max + tl.log2(b_total), row, o_tile, left, head)
