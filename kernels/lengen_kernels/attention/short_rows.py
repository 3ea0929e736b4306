"""Short rows, up to 256 tokens: one program holds a sequence of one head, or as many tiny sequences as fill its tile.

Sequences in one tile are one row to the program, for packed rows are neighbours in memory: each query has a window that
ends where its own sequence begins. The forward pass takes a program for each tile of queries. The backward pass is one
launch: a program visits tiles of keys and, for each, the tiles of queries that see them, computes the weights once and
takes every gradient from them. Gradients of keys and values end with a tile of keys; those of queries wait in memory
that the program alone writes, as do those of the biases in 16 bits, two numbers for each distance; in fp32 they stay in
registers, one for each.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import (
    ALL,
    NONE,
    ZERO,
    Sizes,
    assignment,
    dense_rows,
    head_of,
    key_biases,
    key_range,
    load_gradients,
    load_logit_scale,
    load_queries,
    load_tile,
    logit_gradient,
    rows_of_keys,
    rows_of_queries,
    store_column,
    store_tile,
    tile_logits,
    weights,
)
from lengen_kernels.attention.forward import attend, nothing_seen, with_positive_factor


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
def head_of_group(i_first, i_next, i_head, heads, places, terms, sizes, SHAPE: tl.constexpr):
    """One head of a group of sequences as if they were one."""
    begin = first_row(places.bounds, i_first, sizes.longest)
    rows = (first_row(places.bounds, i_next, sizes.longest) - begin).to(tl.int32)
    first_query, queries = begin, rows
    if places.cu_queries is not None:
        first_query = first_row(places.cu_queries, i_first, sizes.longest)
        queries = (first_row(places.cu_queries, i_next, sizes.longest) - first_query).to(tl.int32)
    return head_of(i_first, i_head, heads, begin, rows, first_query, queries, terms, sizes, SHAPE)


@triton.jit
def positions(places, head, i_query, o_tile):
    """Where queries stand in their group: a position, and how far [BLOCK] int32 each is behind it.

    Those that do not exist have positions of the group, too.
    """
    o_queries = i_query + o_tile
    if places.query_rows is None:
        return i_query, tl.minimum(o_tile, head.rows - 1 - i_query)
    else:
        m_queries = o_queries < head.queries
        b_rows = tl.load(places.query_rows + head.first_query + o_queries, mask=m_queries, other=0)
        return 0, tl.where(m_queries, b_rows.to(tl.int64) - head.begin, 0).to(tl.int32)


@triton.jit
def sequence_windows(places, i_next, head, o_position, sizes, PACK: tl.constexpr):
    """[BLOCK, 1] int32: how many keys of its own sequence each query of a group sees."""
    o_members = tl.minimum(head.i_sequence + tl.arange(0, PACK), i_next)
    if places.bounds is None:
        b_starts = (o_members - head.i_sequence) * sizes.longest
    else:
        b_starts = (tl.load(places.bounds + o_members).to(tl.int64) - head.begin).to(tl.int32)
    b_begun = tl.where(b_starts[None, :] <= o_position[:, None], b_starts[None, :], 0)
    b_window = o_position - tl.max(b_begun, axis=1) + 1
    if sizes.window is not None:
        b_window = tl.minimum(b_window, sizes.window)
    return b_window[:, None]


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest", "tiles"])
def short_forward_kernel(
    q,
    k,
    v,
    p_out,
    p_lse,
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
    SHAPE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Output and log-sum-exp of one tile of queries of one group of sequences.

    Args:
        q, k, v, terms, places, SHAPE: the tuples of ``common``. width to longest: see ``common.Sizes``.
        p_out: [Nq, H, D]; p_lse: [Nq, H] fp32, base 2. sequences: number of groups.
        PACK: sequences of a group, which fit one tile if there are several. BLOCKS: tiles of the longest row.
    """
    i_tile, i_group, i_head = assignment(tiles, sequences, heads, sequences * heads)
    i_query = (tiles - 1 - i_tile) * SHAPE.BLOCK_M
    i_first, i_next = members(i_group, per_model, PACK)
    sizes = Sizes(width, window, per_model, longest)
    head = head_of_group(i_first, i_next, i_head, heads, places, terms, sizes, SHAPE)
    if i_query >= head.queries:
        return

    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    i_position, o_position = positions(places, head, i_query, o_tile)
    o_position = tl.maximum(o_position, 0)  # which says that addresses below are of small offsets
    seen = sizes
    if PACK > 1:
        b_window = sequence_windows(places, i_next, head, i_position + o_position, sizes, PACK)
        seen = Sizes(width, b_window, per_model, longest)
    head_k = rows_of_keys(k, places, head, SHAPE)
    head_v = rows_of_keys(v, places, head, SHAPE)
    b_q = load_tile(rows_of_queries(q, places, head), i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
    b_q, b_factor = with_positive_factor(b_q, load_logit_scale(terms, head, i_query + o_tile) * scale)

    b_sum, b_total, b_max = nothing_seen(SHAPE)
    if BLOCKS == 1:
        first, end = 0, SHAPE.BLOCK_N
    elif places.query_rows is not None:
        first, end = 0, head.rows
    else:
        latest = tl.minimum(i_query + SHAPE.BLOCK_M, head.rows) - 1
        begin, first, full, end = key_range(i_query, latest, sizes, SHAPE)
        if SHAPE.INSIDE == ALL:
            first = full
        b_sum, b_total, b_max = attend(
            b_sum, b_total, b_max, b_q, b_factor, i_position, o_position, head_k, head_v, head, terms, seen,
            begin, first, SHAPE, SHAPE.INSIDE != ALL, False,
        )  # fmt: skip
    b_sum, b_total, b_max = attend(
        b_sum, b_total, b_max, b_q, b_factor, i_position, o_position, head_k, head_v, head, terms, seen,
        first, end, SHAPE, SHAPE.INSIDE == NONE, True,
    )  # fmt: skip

    b_out = tl.div_rn(b_sum, b_total[:, None])
    store_tile(dense_rows(p_out, head.first_query, i_head, heads, SHAPE), b_out, i_query, o_tile, head.queries, SHAPE)
    store_column(p_lse, b_max + tl.log2(b_total), head.first_query, i_query + o_tile, head.queries, head)


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
def product_with_ones(b_ones, b_cells, ONES_FIRST: tl.constexpr, PARTS: tl.constexpr):
    """The product of a tile of fp32 numbers with one of ones and zeros, as ``PARTS`` products in the dtype of the ones:
    of the numbers rounded to it, and, if there are two, of what rounding took away."""
    b_sums = None
    for i_part in tl.static_range(PARTS):
        b_part = b_cells.to(b_ones.dtype)
        if ONES_FIRST:
            b_sums = tl.dot(b_ones, b_part, b_sums, input_precision="ieee")
        else:
            b_sums = tl.dot(b_part, b_ones, b_sums, input_precision="ieee")
        if i_part + 1 < PARTS:
            b_cells -= b_part.to(tl.float32)
    return b_sums


@triton.jit
def add_squares(p_squares, b_grad_s, ahead, SQUARE: tl.constexpr, CELLS: tl.constexpr, PARTS: tl.constexpr):
    """Add to ``p_squares`` [distances / SQUARE, 2 SQUARE] the sums of a tile over its cells of equal distance, which is
    SQUARE x row + column - SQUARE; only for queries that follow one another, the first of them ``ahead`` of the first
    key, a multiple of SQUARE.

    The tile is cut into squares. In each of them cells are (column - SQUARE) apart, and squares are a multiple of
    SQUARE apart from each other. Both sums are products with ones and zeros; to turn each row, as ``sums_by_distance``
    does, takes longer than all the rest. Squares whose queries are all before their keys have masked cells alone.
    ``CELLS``: the dtype of the factors. bf16 has the range of fp32; ``PARTS`` of its numbers stand for a cell, and two
    for a square's sum.
    """
    BLOCK_M: tl.constexpr = b_grad_s.shape[0]
    BLOCK_N: tl.constexpr = b_grad_s.shape[1]
    ACROSS: tl.constexpr = BLOCK_N // SQUARE
    DOWN: tl.constexpr = BLOCK_M // SQUARE
    SQUARES: tl.constexpr = DOWN * ACROSS
    o_own = tl.arange(0, 2 * ACROSS)
    o_rows = o_own + (ahead // SQUARE - ACROSS)
    p_sums = p_squares + (o_rows[:, None] * 2 * SQUARE + tl.arange(0, 2 * SQUARE)[None, :])
    m_sums = ((o_rows >= 0) & (o_own < ACROSS + DOWN))[:, None]
    tl.debug_barrier()  # other threads may have stored what this one takes up
    b_before = tl.load(p_sums, mask=m_sums, other=0.0)
    b_squares = b_grad_s.reshape(DOWN, SQUARE, ACROSS, SQUARE)
    b_squares = b_squares.permute(0, 2, 1, 3).reshape(SQUARES, SQUARE * SQUARE)
    o_cell = tl.arange(0, SQUARE * SQUARE)
    o_column = o_cell // SQUARE - o_cell % SQUARE + SQUARE
    b_is_column = (o_column[:, None] == tl.arange(0, 2 * SQUARE)[None, :]).to(CELLS)
    b_sums = product_with_ones(b_is_column, b_squares, False, PARTS)
    o_square = tl.arange(0, SQUARES)
    o_row = o_square // ACROSS - o_square % ACROSS + ACROSS
    b_is_row = (o_own[:, None] == o_row[None, :]).to(CELLS)
    tl.store(p_sums, b_before + product_with_ones(b_is_row, b_sums, True, 2), mask=m_sums)


@triton.jit
def gather_gradients(
    b_grad_k,
    b_grad_v,
    b_grad_bias,
    b_grad_table,
    p_squares,
    b_k,
    b_v,
    b_key_bias,
    i_key,
    q,
    out,
    grad_out,
    p_lse,
    grad_q,
    sums,
    p_grad_logit_scale,
    head,
    i_next,
    terms,
    places,
    sizes,
    scale,
    first,
    end,
    SHAPE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
    SQUARE: tl.constexpr,
    CELLS: tl.constexpr,
    NEEDS_TABLE: tl.constexpr,
    NEEDS_KEY_BIAS: tl.constexpr,
):
    """Add what queries ``first`` to ``end`` give to the gradients of a tile of keys, and what these give to theirs."""
    o_tile = tl.arange(0, SHAPE.BLOCK_M)
    for i_query in range(first, end, SHAPE.BLOCK_M):
        o_queries = i_query + o_tile
        i_existing = i_query
        if places.query_rows is None:  # a tile beyond the group stands where its last query does
            i_existing = tl.minimum(i_query, tl.maximum(head.rows - 1, 0))
        i_position, o_position = positions(places, head, i_existing, o_tile)
        o_position = tl.maximum(o_position, 0)  # which says that addresses below are of small offsets
        seen = sizes
        if PACK > 1:
            b_window = sequence_windows(places, i_next, head, i_position + o_position, sizes, PACK)
            seen = Sizes(sizes.width, b_window, sizes.per_model, sizes.longest)
        b_q, b_lse, b_logit_scale = load_queries(q, p_lse, terms, head, 0, o_queries, SHAPE)
        b_grad_out, b_delta = load_gradients(out, grad_out, head, 0, o_queries, SHAPE)
        b_factor = b_logit_scale * scale

        ahead = i_position - i_key
        b_query = o_position[:, None]
        b_key = tl.arange(0, SHAPE.BLOCK_N)[None, :]
        is_far: tl.constexpr = SHAPE.INSIDE == NONE
        b_s = tile_logits(
            b_q, b_k, b_factor[:, None], b_key_bias, ahead, b_query, b_key, terms, head, seen, SHAPE, is_far, True
        )
        b_p = weights(b_s, b_lse[:, None], terms)
        b_grad_v = tl.dot(tl.trans(b_p.to(SHAPE.COMPUTE)), b_grad_out, b_grad_v, input_precision=SHAPE.PRECISION)
        b_grad_s = logit_gradient(b_p, b_grad_out, b_v, b_delta[:, None], SHAPE)
        if NEEDS_KEY_BIAS:
            b_grad_bias += tl.sum(b_grad_s, axis=0)
        if NEEDS_TABLE:
            if SQUARE > 0:
                PARTS: tl.constexpr = 1 if tl.bfloat16 == SHAPE.COMPUTE else 2
                add_squares(p_squares, b_grad_s, i_query - i_key, SQUARE, CELLS, PARTS)
            elif SHAPE.INSIDE == NONE:  # one sum, among the largest distances
                is_largest = (tl.arange(0, BLOCKS) == BLOCKS - 1)[:, None]
                b_grad_table += tl.where(is_largest, tl.sum(b_grad_s, axis=0)[None, :], 0.0)
            else:
                is_regular: tl.constexpr = places.query_rows is None
                b_grad_table += sums_by_distance(b_grad_s, i_position + o_position, i_key, i_query, BLOCKS, is_regular)
        b_scaled = b_q
        if terms.logit_scale is not None:
            b_scaled = (b_q * b_logit_scale[:, None]).to(SHAPE.COMPUTE)
        b_grad_k = tl.dot(tl.trans(b_grad_s.to(SHAPE.COMPUTE)), b_scaled, b_grad_k, input_precision=SHAPE.PRECISION)

        b_grad_q = tl.zeros(b_q.shape, tl.float32)
        done = head.queries
        if BLOCKS > 1:
            is_begun = i_key > 0
            is_done = i_key + SHAPE.BLOCK_N >= head.rows
            if places.query_rows is None:
                is_done = i_query < i_key + SHAPE.BLOCK_N
                if sizes.window is not None:
                    is_begun = i_key > tl.maximum(i_query - sizes.window + 1, 0)
            begun = tl.where(is_begun, head.queries, 0)
            b_grad_q = load_tile(sums, 0, o_queries, begun, SHAPE, tl.float32)
            done = tl.where(is_done, head.queries, 0)
        b_grad_q = tl.dot(b_grad_s.to(SHAPE.COMPUTE), b_k, b_grad_q, input_precision=SHAPE.PRECISION)
        if BLOCKS > 1:
            store_tile(sums, b_grad_q, 0, o_queries, head.queries - done, SHAPE)
        store_tile(grad_q, b_grad_q * (b_logit_scale * scale)[:, None], 0, o_queries, done, SHAPE)
        if p_grad_logit_scale is not None:
            b_grad_scale = tl.sum(b_grad_q * b_q.to(tl.float32), axis=1) * scale
            store_column(p_grad_logit_scale, b_grad_scale, head.first_query, o_queries, done, head)
    return b_grad_k, b_grad_v, b_grad_bias, b_grad_table


@triton.jit(do_not_specialize=["width", "window", "per_model", "sequences", "longest"])
def short_backward_kernel(
    q,
    k,
    v,
    out,
    grad_out,
    p_lse,
    p_grad_q,
    p_grad_k,
    p_grad_v,
    p_sums,
    p_partial,
    p_grad_key_bias,
    p_grad_logit_scale,
    terms,
    places,
    scale,
    width,
    window,
    per_model,
    sequences,
    heads,
    longest,
    SHAPE: tl.constexpr,
    PACK: tl.constexpr,
    BLOCKS: tl.constexpr,
    SQUARE: tl.constexpr,
    CELLS: tl.constexpr,
):
    """Every gradient of one group of sequences in one head.

    Args:
        p_lse: [Nq, H] fp32, base 2.
        p_grad_q: [Nq, H, D]. p_grad_k, p_grad_v: [N, H, D], of each head that shares a key on its own.
        p_sums: [Nq, H, D] fp32, what is known of the queries' gradients; ``p_grad_q`` if that is fp32; or None if a
            row is no longer than a tile.
        p_partial: [sequences, H, ...] fp32 or None: gradient of the biases by distance, BLOCKS x BLOCK_N numbers; or
            with ``SQUARE`` > 0 the twice as many that ``add_squares`` adds up by products in ``CELLS``.
        p_grad_key_bias: [N, H] fp32 or None. p_grad_logit_scale: [Nq, H] fp32 or None.
        BLOCK_N is a multiple of BLOCK_M. The others as in ``short_forward_kernel``.
    """
    i_head = tl.program_id(0) % heads
    i_first, i_next = members(tl.program_id(0) // heads, per_model, PACK)
    sizes = Sizes(width, window, per_model, longest)
    head = head_of_group(i_first, i_next, i_head, heads, places, terms, sizes, SHAPE)
    head_q = rows_of_queries(q, places, head)
    head_k = rows_of_keys(k, places, head, SHAPE)
    head_v = rows_of_keys(v, places, head, SHAPE)
    head_out = rows_of_queries(out, places, head)
    head_grad_out = rows_of_queries(grad_out, places, head)
    grad_q = dense_rows(p_grad_q, head.first_query, i_head, heads, SHAPE)
    grad_k = dense_rows(p_grad_k, head.begin, i_head, heads, SHAPE)
    grad_v = dense_rows(p_grad_v, head.begin, i_head, heads, SHAPE)
    sums = grad_q
    if p_sums is not None:
        sums = dense_rows(p_sums, head.first_query, i_head, heads, SHAPE)

    DISTANCES: tl.constexpr = BLOCKS * SHAPE.BLOCK_N
    b_grad_table = tl.zeros([BLOCKS, SHAPE.BLOCK_N], tl.float32)
    p_squares = p_partial
    if SQUARE > 0:
        p_squares += tl.program_id(0).to(tl.int64) * 2 * DISTANCES
        tl.store(p_squares + tl.arange(0, 2 * DISTANCES), tl.zeros([2 * DISTANCES], tl.float32))
    for i_key in range(0, SHAPE.BLOCK_N if BLOCKS == 1 else head.rows, SHAPE.BLOCK_N):
        o_keys = i_key + tl.arange(0, SHAPE.BLOCK_N)
        b_k = load_tile(head_k, 0, o_keys, head.rows, SHAPE, SHAPE.COMPUTE)
        b_v = load_tile(head_v, 0, o_keys, head.rows, SHAPE, SHAPE.COMPUTE)
        b_key_bias = None
        if terms.key_bias is not None:
            b_key_bias = key_biases(terms, head, o_keys)[None, :]
        if BLOCKS == 1:
            first, end = 0, SHAPE.BLOCK_N
        elif places.query_rows is not None:
            first, end = 0, head.queries
        else:
            first, end = i_key, head.queries
            if window is not None:
                # the window first: the interpreter of Triton 3.7 adds no tensor to a constexpr
                end = tl.minimum(window + (i_key + SHAPE.BLOCK_N - 1), head.queries)
        b_grad_k = tl.zeros([SHAPE.BLOCK_N, SHAPE.BLOCK_D], tl.float32)
        b_grad_v = tl.zeros([SHAPE.BLOCK_N, SHAPE.BLOCK_D], tl.float32)
        b_grad_bias = tl.zeros([SHAPE.BLOCK_N], tl.float32)
        b_grad_k, b_grad_v, b_grad_bias, b_grad_table = gather_gradients(
            b_grad_k, b_grad_v, b_grad_bias, b_grad_table, p_squares, b_k, b_v, b_key_bias, i_key, head_q, head_out,
            head_grad_out, p_lse, grad_q, sums, p_grad_logit_scale, head, i_next, terms, places, sizes, scale,
            first, end, SHAPE, PACK, BLOCKS, SQUARE, CELLS, p_partial is not None, p_grad_key_bias is not None,
        )  # fmt: skip
        store_tile(grad_k, b_grad_k * scale, 0, o_keys, head.rows, SHAPE)
        store_tile(grad_v, b_grad_v, 0, o_keys, head.rows, SHAPE)
        if p_grad_key_bias is not None:
            store_column(p_grad_key_bias, b_grad_bias, head.begin, o_keys, head.rows, head)
        if BLOCKS > 1:
            tl.debug_barrier()  # other threads may take up the sums of the queries' gradients

    if p_partial is not None and SQUARE == 0:
        o_distances = tl.arange(0, BLOCKS)[:, None] * SHAPE.BLOCK_N + tl.arange(0, SHAPE.BLOCK_N)[None, :]
        tl.store(p_partial + tl.program_id(0).to(tl.int64) * DISTANCES + o_distances, b_grad_table)


@triton.jit
def sums_at_distances(p_parts, o_distance, m_cells, DISTANCES: tl.constexpr, SQUARE: tl.constexpr):
    """[parts, distances]: what parts [parts, 1], each as ``add_squares`` leaves it, have at distances [BLOCK].

    It is one number of squares that are as far from each other, and one of squares that are farther by one.
    """
    b_sums = tl.zeros(m_cells.shape, tl.float32)
    for i_more in tl.static_range(2):
        o_row = o_distance // SQUARE + i_more
        o_column = o_distance % SQUARE + SQUARE * (1 - i_more)
        m_row = (o_row < DISTANCES // SQUARE)[None, :]
        b_sums += tl.load(p_parts + (o_row * 2 * SQUARE + o_column)[None, :], mask=m_cells & m_row, other=0.0)
    return b_sums


@triton.jit(do_not_specialize=["width", "groups"])
def distance_gradient_kernel(
    p_partial,
    p_grad_table,
    width,
    groups,
    heads,
    DISTANCES: tl.constexpr,
    SQUARE: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BEYOND: tl.constexpr,
):
    """Add what groups of sequences give to BLOCK_W entries of a table, in a fixed order; the last takes what is beyond.

    Args:
        p_partial: [models, groups, heads, ...] fp32, see ``short_backward_kernel``, as are DISTANCES, the number of
            them, and SQUARE. p_grad_table: [models, heads, width] fp32.
    """
    NUMBERS: tl.constexpr = 2 * DISTANCES if SQUARE > 0 else DISTANCES  # of a group and head
    blocks = tl.cdiv(width, BLOCK_W)
    i_table = tl.program_id(0) // blocks
    i_own = tl.program_id(0) % blocks * BLOCK_W
    o_column = tl.arange(0, BLOCK_W)
    o_groups = tl.arange(0, BLOCK_G)
    p_table_sums = p_partial + ((i_table // heads).to(tl.int64) * groups * heads + i_table % heads) * NUMBERS
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
            p_parts = p_table_sums + (o_part.to(tl.int64) * heads * NUMBERS)[:, None]
            if SQUARE > 0:
                b_sums += sums_at_distances(p_parts, o_distance, m_cells, DISTANCES, SQUARE)
            else:
                b_sums += tl.load(p_parts + o_distance[None, :], mask=m_cells, other=0.0)
        b_sum = tl.sum(b_sums, axis=0)
        b_own += tl.where((o_distance < width) & (i_column == i_own), b_sum, 0.0)
        b_beyond += tl.where(o_distance >= width, b_sum, 0.0)
    if BEYOND != ZERO:
        b_own += tl.where(i_own + o_column == width - 1, tl.sum(b_beyond, axis=0), 0.0)
    p_own = p_grad_table + i_table.to(tl.int64) * width + i_own
    tl.store(p_own + o_column, b_own, mask=i_own + o_column < width)
