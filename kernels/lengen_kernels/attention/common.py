"""What the attention kernels share: which work a program does, where rows lie, and how a tile of logits is made.

Names inside kernels: ``i_`` index of a program or tile, ``o_`` offsets along an axis, ``p_`` pointer, ``b_`` block of
values, ``m_`` mask. Exponentials are powers of two, so maxima and log-sum-exps are in base 2, the natural ones times
log2(e). The factor of a logit is applied after the dot product; log2(e) goes with it where nothing else is added, and
else into the power, where it takes no instruction of its own: see ``weights``. Tiles of rows are loaded as fp32 where
the interpreter has no arithmetic for their dtype.

Every kernel reads a table of biases over distance in one of two ways: in a tile whose distances all reach the table's
end (``FAR``) one value serves for all cells, or a line; elsewhere each cell reads the table.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)  # of a running maximum: finite, so that a row that has seen no key yet gives no NaN
SMALLEST = tl.constexpr(2.0**-100)  # factor of a logit in the forward pass
LAST, ZERO, LINE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what holds beyond the table
NONE, SOME, ALL = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # of the distances that are before a table's end
NOWHERE = tl.constexpr(-(1 << 30))  # a position before that of any key
ALIGNED = tl.constexpr(128)  # rows, a multiple of every tile: see ``query_terms``


# ---- what a launch hands over ----


class Operand(NamedTuple):
    """Rows of all heads, [N, H, D] or [B, T, H, D], the last dimension dense: a pointer, and strides in elements."""

    pointer: Any
    sequence_stride: Any
    row_stride: Any
    head_stride: Any


class Terms(NamedTuple):
    """Pointers to the terms of a logit beside the product, all fp32; None where there is no such term."""

    table: Any  # [M, H, W]
    slope: Any  # [M, H]
    key_bias: Any  # [N, H]
    logit_scale: Any  # [Nq, H]


class Places(NamedTuple):
    """Pointers to where rows belong."""

    bounds: Any  # [B + 1] first row of each sequence; None: all sequences have as many
    query_rows: Any  # [Nq] the rows that are queries; None: every row is one
    cu_queries: Any  # [B + 1] first query of each sequence, where rows were chosen


class Sizes(NamedTuple):
    """Numbers for which no kernel is compiled anew."""

    width: Any  # W of the table
    window: Any  # last keys that a query sees; None: all
    per_model: Any  # sequences for each table
    longest: Any  # rows of a sequence


class Shape(NamedTuple):
    """What a kernel is compiled for. The members are ``tl.constexpr``."""

    SHARE: Any  # heads of q for each head of k
    D: Any
    BLOCK_D: Any  # power of two, at least 16
    BLOCK_M: Any  # queries of a tile
    BLOCK_N: Any  # keys of a tile
    BEYOND: Any
    INSIDE: Any  # which distances are before the end of the table, where there is a value of its own for each
    PRECISION: Any
    COMPUTE: Any  # dtype of the factors of a product


# ---- what a program works on ----


class Head(NamedTuple):
    """One head of one sequence."""

    i_sequence: Any
    i_head: Any
    heads: Any
    begin: Any  # first packed row, int64
    rows: Any
    first_query: Any  # int64
    queries: Any
    table: Any  # where the head's table begins, int64
    last: Any  # the bias at the end of the table, and
    slope: Any  # what each step beyond it adds


class Rows(NamedTuple):
    """Rows of one head of one sequence: a pointer to the first, and the stride of a row."""

    pointer: Any
    stride: Any


@triton.jit
def assignment(tiles, sequences, heads, group):
    """Tile, sequence and head of program ``i`` of ``tiles x sequences x heads``.

    Heads go in groups whose keys fit the cache together; inside a group all heads' first tiles come first, so that the
    largest tiles can be made the earliest.
    """
    i_program = tl.program_id(0)
    i_group = i_program // (group * tiles)
    members = tl.minimum(group, sequences * heads - i_group * group)
    i_rest = i_program - i_group * group * tiles
    i_pair = i_group * group + i_rest % members
    return i_rest // members, i_pair // heads, i_pair % heads


@triton.jit
def sequence_rows(places, i_sequence, longest):
    """First packed row (int64) and number of rows (int32) of a sequence, and the same of its queries."""
    if places.bounds is None:
        begin = i_sequence.to(tl.int64) * longest
        rows = longest
    else:
        begin = tl.load(places.bounds + i_sequence).to(tl.int64)
        rows = (tl.load(places.bounds + i_sequence + 1).to(tl.int64) - begin).to(tl.int32)
    if places.cu_queries is None:
        return begin, rows, begin, rows
    else:
        first = tl.load(places.cu_queries + i_sequence).to(tl.int64)
        return begin, rows, first, (tl.load(places.cu_queries + i_sequence + 1).to(tl.int64) - first).to(tl.int32)


@triton.jit
def head_of(i_sequence, i_head, heads, begin, rows, first_query, queries, terms, sizes, SHAPE: tl.constexpr):
    """The head with its table, of a sequence that lies in these rows."""
    table = 0
    last = 0.0
    slope = 0.0
    if terms.table is not None:
        i_table = (i_sequence // sizes.per_model).to(tl.int64) * heads + i_head
        table = i_table * sizes.width
        if SHAPE.BEYOND != ZERO and SHAPE.INSIDE != ALL:
            last = tl.load(terms.table + table + sizes.width - 1)
        if SHAPE.BEYOND == LINE:
            slope = tl.load(terms.slope + i_table)
    return Head(i_sequence, i_head, heads, begin, rows, first_query, queries, table, last, slope)


@triton.jit
def head_of_sequence(i_sequence, i_head, heads, places, terms, sizes, SHAPE: tl.constexpr):
    begin, rows, first_query, queries = sequence_rows(places, i_sequence, sizes.longest)
    return head_of(i_sequence, i_head, heads, begin, rows, first_query, queries, terms, sizes, SHAPE)


# ---- rows ----


@triton.jit
def rows_of(operand, places, i_sequence, first, i_head):
    """Rows of one head from packed row ``first``, where the sequence begins."""
    if places.bounds is None:
        p_sequence = operand.pointer + i_sequence.to(tl.int64) * operand.sequence_stride
    else:
        p_sequence = operand.pointer + first * operand.row_stride
    return Rows(p_sequence + i_head.to(tl.int64) * operand.head_stride, operand.row_stride)


@triton.jit
def rows_of_queries(operand, places, head):
    """Rows of a tensor [Nq, H, D]."""
    return rows_of(operand, places, head.i_sequence, head.first_query, head.i_head)


@triton.jit
def rows_of_keys(operand, places, head, SHAPE: tl.constexpr):
    """Rows of a tensor [N, H / SHARE, D]."""
    return rows_of(operand, places, head.i_sequence, head.begin, head.i_head // SHAPE.SHARE)


@triton.jit
def dense_rows(pointer, first, i_head, heads, SHAPE: tl.constexpr):
    """Rows of one head of a dense tensor [N, H, D] from row ``first``."""
    stride = tl.cast(heads, tl.int64) * SHAPE.D
    return Rows(pointer + first * stride + i_head * SHAPE.D, stride)


@triton.jit
def tile_cells(rows, i_row, o_tile, count, SHAPE: tl.constexpr):
    """Pointers to rows ``i_row + o_tile``, and the mask of those before row ``count`` in the first D columns."""
    o_columns = tl.arange(0, SHAPE.BLOCK_D)
    p_tile = rows.pointer + tl.cast(i_row, tl.int64) * rows.stride
    p_cells = p_tile + (o_tile.to(tl.int64) * rows.stride)[:, None] + o_columns[None, :]
    m_cells = (o_tile < count - i_row)[:, None]
    if SHAPE.D != SHAPE.BLOCK_D:
        m_cells = m_cells & (o_columns < SHAPE.D)[None, :]
    return p_cells, m_cells


@triton.jit
def load_tile(rows, i_row, o_tile, count, SHAPE: tl.constexpr, DTYPE: tl.constexpr):
    """[BLOCK, BLOCK_D]: rows ``i_row + o_tile``, zeros from row ``count`` on and beyond D."""
    p_cells, m_cells = tile_cells(rows, i_row, o_tile, count, SHAPE)
    return tl.load(p_cells, mask=m_cells, other=0.0).to(DTYPE)


@triton.jit
def store_tile(rows, b_tile, i_row, o_tile, count, SHAPE: tl.constexpr):
    """The reverse of ``load_tile``."""
    p_cells, m_cells = tile_cells(rows, i_row, o_tile, count, SHAPE)
    tl.store(p_cells, b_tile.to(rows.pointer.dtype.element_ty), mask=m_cells)


@triton.jit
def load_column(p_column, first, o_rows, count, head, other):
    """[BLOCK] fp32: rows ``first + o_rows`` of one head of a dense tensor [N, H], ``other`` from row ``count`` on."""
    p_cells = p_column + (first + o_rows) * head.heads + head.i_head
    return tl.load(p_cells, mask=o_rows < count, other=other)


@triton.jit
def store_column(p_column, b_column, first, o_rows, count, head):
    """The reverse of ``load_column``."""
    tl.store(p_column + (first + o_rows) * head.heads + head.i_head, b_column, mask=o_rows < count)


# ---- queries ----


@triton.jit
def query_positions(places, head, i_first, o_tile):
    """Where a tile's queries stand in their sequence: a position, and how far [BLOCK] int32 each is behind it; and the
    positions of the first and the last query among those that exist.

    The tile begins at query ``i_first`` of the sequence. Without chosen rows every row is a query. Queries that do not
    exist stand where the last one does, so that no distance is greater than those of the sequence.
    """
    if places.query_rows is None:
        latest = tl.minimum(i_first + o_tile.shape[0], head.queries) - 1
        return i_first, tl.maximum(tl.minimum(o_tile, latest - i_first), 0), i_first, latest
    else:
        p_tile = places.query_rows + head.first_query + i_first
        last = tl.minimum(o_tile.shape[0], head.queries - i_first) - 1
        earliest = (tl.load(p_tile).to(tl.int64) - head.begin).to(tl.int32)
        latest = (tl.load(p_tile + last).to(tl.int64) - head.begin).to(tl.int32)
        b_rows = tl.load(p_tile + o_tile, mask=o_tile <= last, other=0).to(tl.int64)
        return 0, tl.where(o_tile <= last, (b_rows - head.begin).to(tl.int32), latest), earliest, latest


@triton.jit
def queries_before(places, head, position):
    """How many of a sequence's queries stand before ``position``."""
    if places.query_rows is None:
        return tl.minimum(position, head.queries)
    else:
        p_rows = places.query_rows + head.first_query
        low = head.queries * 0
        high = head.queries
        while low < high:
            middle = (low + high) // 2
            is_before = tl.load(p_rows + middle).to(tl.int64) < head.begin + position
            low = tl.where(is_before, middle + 1, low)
            high = tl.where(is_before, high, middle)
        return low


@triton.jit
def load_logit_scale(terms, head, o_queries):
    """[BLOCK] fp32 factors of the queries' logits, 1 without that term."""
    if terms.logit_scale is None:
        return tl.full(o_queries.shape, 1.0, tl.float32)
    else:
        return load_column(terms.logit_scale, head.first_query, o_queries, head.queries, head, 0.0)


@triton.jit
def load_queries(q, p_lse, terms, head, i_query, o_tile, SHAPE: tl.constexpr):
    """What a backward pass needs of a tile of queries: their rows, log-sum-exp and factors."""
    b_q = load_tile(q, i_query, o_tile, head.queries, SHAPE, SHAPE.COMPUTE)
    b_lse = load_column(p_lse, head.first_query, i_query + o_tile, head.queries, head, float("inf"))
    return b_q, b_lse, load_logit_scale(terms, head, i_query + o_tile)


@triton.jit
def query_terms(p_terms, head, capacity):
    """Where the terms of a head's queries begin, in a tensor [3, H, capacity] fp32.

    The three are the log-sum-exp, delta and the factor of the logits. Each sequence begins at a multiple of ``ALIGNED``
    and is followed by as many rows as fill its last tile, so that a tile is read at once and without a mask.
    """
    first = (head.first_query // ALIGNED + head.i_sequence) * ALIGNED
    return p_terms + (head.i_head * tl.cast(capacity, tl.int64) + tl.multiple_of(first, ALIGNED))


@triton.jit
def store_query_terms(p_terms, i_query, o_tile, b_lse, b_delta, b_logit_scale, terms, head, capacity, is_stored):
    """Write a tile of what ``load_query_terms`` reads; queries that do not exist have weights of zero."""
    p_tile = query_terms(p_terms, head, capacity) + i_query + o_tile
    part = tl.cast(head.heads, tl.int64) * capacity
    m_tile = o_tile < tl.where(is_stored, o_tile.shape[0], 0)
    tl.store(p_tile, b_lse, mask=m_tile)
    tl.store(p_tile + part, b_delta, mask=m_tile)
    if terms.logit_scale is not None:
        tl.store(p_tile + 2 * part, b_logit_scale, mask=m_tile)


@triton.jit
def load_query_terms(p_terms, i_query, o_tile, terms, head, capacity, IS_FILLED: tl.constexpr):
    """[BLOCK] fp32 each: log-sum-exp, delta and factor of the logits of queries ``i_query + o_tile``.

    ``IS_FILLED``: the tile is one of those that ``store_query_terms`` has written, or within one.
    """
    p_tile = query_terms(p_terms, head, capacity) + i_query + o_tile
    part = tl.cast(head.heads, tl.int64) * capacity
    m_tile = None
    inf = None
    zero = None
    if not IS_FILLED:
        m_tile = o_tile < head.queries - i_query
        inf = float("inf")
        zero = 0.0
    b_logit_scale = tl.full(o_tile.shape, 1.0, tl.float32)
    if terms.logit_scale is not None:
        b_logit_scale = tl.load(p_tile + 2 * part, mask=m_tile, other=zero)
    return tl.load(p_tile, mask=m_tile, other=inf), tl.load(p_tile + part, mask=m_tile, other=zero), b_logit_scale


@triton.jit
def load_gradients(out, grad_out, head, i_query, o_tile, SHAPE: tl.constexpr):
    """Gradients of a tile of the output and their delta, the sum of each row's product with the output."""
    b_out = load_tile(out, i_query, o_tile, head.queries, SHAPE, tl.float32)
    b_grad_out = load_tile(grad_out, i_query, o_tile, head.queries, SHAPE, tl.float32)
    return b_grad_out.to(SHAPE.COMPUTE), tl.sum(b_out * b_grad_out, axis=1)


# ---- logits ----


@triton.jit
def bias_of_distances(b_distance, terms, head, sizes, SHAPE: tl.constexpr, CAUSAL: tl.constexpr):
    """Biases at any distances, of which some are negative if ``CAUSAL``: those have any finite bias."""
    o_cells = tl.minimum(b_distance, sizes.width - 1)
    if CAUSAL:
        o_cells = tl.maximum(o_cells, 0)
    b_bias = tl.load(terms.table + head.table + o_cells)
    if SHAPE.BEYOND == ZERO:
        b_bias = tl.where(b_distance < sizes.width, b_bias, 0.0)
    if SHAPE.BEYOND == LINE:
        b_bias += head.slope * tl.maximum(b_distance - (sizes.width - 1), 0).to(tl.float32)
    return b_bias


@triton.jit
def bias_at(ahead, b_query, b_key, terms, head, sizes, SHAPE: tl.constexpr, FAR: tl.constexpr, CAUSAL: tl.constexpr):
    """Biases of queries and keys at these positions; one number if all reach the table's end and it holds.

    The address in a table that covers all distances, and the distance beyond a table, which fp32 holds exactly up to
    2^24, have one part that is the same for all tiles and one for the tile or its rows: so a cell takes little.

    Args:
        ahead, b_query, b_key, FAR, CAUSAL: see ``tile_logits``.
    """
    if FAR:
        if SHAPE.BEYOND == LINE:
            if b_query.shape[0] == 1:
                b_distance = (ahead - (sizes.width - 1) - b_key).to(tl.float32) + b_query.to(tl.float32)
            else:
                b_distance = (ahead - (sizes.width - 1) + b_query).to(tl.float32) - b_key.to(tl.float32)
            return head.last + head.slope * b_distance
        else:
            return head.last
    elif SHAPE.INSIDE == ALL:
        p_cells = (terms.table + head.table + ahead) + (b_query - b_key)
        if CAUSAL:
            return tl.load(p_cells, mask=ahead + b_query >= b_key, other=0.0)
        else:
            return tl.load(p_cells)
    else:
        return bias_of_distances(ahead + b_query - b_key, terms, head, sizes, SHAPE, CAUSAL)


@triton.jit
def key_biases(terms, head, o_keys):
    """[BLOCK] biases of keys, or None without that term."""
    if terms.key_bias is not None:
        return load_column(terms.key_bias, head.begin, o_keys, head.rows, head, 0.0)


@triton.jit
def where_seen(b_cells, other, ahead, b_query, b_key, sizes, CAUSAL: tl.constexpr):
    """Cells of a tile, ``other`` where the query does not see the key; arguments as in ``tile_logits``."""
    if CAUSAL:
        b_cells = tl.where(ahead + b_query >= b_key, b_cells, other)
    if sizes.window is not None:
        b_cells = tl.where(ahead + b_query - b_key < sizes.window, b_cells, other)
    return b_cells


@triton.jit
def tile_logits(
    b_left,
    b_right,
    b_factor,
    b_key_bias,
    ahead,
    b_query,
    b_key,
    terms,
    head,
    sizes,
    SHAPE: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Logits of a tile: the products of its left and right rows and their terms; -inf where a key is unseen.

    They are in base 2 where no bias is added; ``weights`` knows.

    Args:
        b_factor: what multiplies the products. b_key_bias: of the keys, or None.
        ahead, b_query, b_key: int32; a query and a key are ``ahead + b_query - b_key`` apart. One of the two blocks is
            [BLOCK, 1] and the other [1, BLOCK]; they are the same for all tiles of a loop, unless rows were chosen.
        FAR: all distances reach the table's end. CAUSAL: some are negative.
    """
    if terms.table is None and terms.key_bias is None:
        b_factor *= LOG2E
    b_logits = tl.dot(b_left, tl.trans(b_right), input_precision=SHAPE.PRECISION) * b_factor
    if terms.table is not None:
        b_logits += bias_at(ahead, b_query, b_key, terms, head, sizes, SHAPE, FAR, CAUSAL)
    if b_key_bias is not None:
        b_logits += b_key_bias
    return where_seen(b_logits, float("-inf"), ahead, b_query, b_key, sizes, CAUSAL)


@triton.jit
def weights(b_logits, b_reference, terms):
    """Exponentials of what ``tile_logits`` gives, relative to a maximum or log-sum-exp in base 2."""
    if terms.table is None and terms.key_bias is None:
        return tl.exp2(b_logits - b_reference)
    else:
        return tl.exp2(b_logits * LOG2E - b_reference)


@triton.jit
def logit_gradient(b_p, b_left, b_right, b_delta, SHAPE: tl.constexpr):
    """Gradient of a tile of logits, from its weights and the rows whose products are the weights' gradient."""
    return b_p * (tl.dot(b_left, tl.trans(b_right), input_precision=SHAPE.PRECISION) - b_delta)


@triton.jit
def key_range(earliest, latest, sizes, SHAPE: tl.constexpr):
    """Where the keys of a tile of queries at positions ``earliest`` to ``latest`` begin, change their kind, and end.

    Keys in [begin, far) are beyond the table for every query, those in [far, full) are seen by every query as far as
    causality goes, those in [full, end) by some. All but ``end`` are multiples of ``BLOCK_N``.
    """
    BLOCK: tl.constexpr = SHAPE.BLOCK_N
    begin = earliest * 0
    if sizes.window is not None:
        begin = tl.maximum(earliest - sizes.window + 1, 0) // BLOCK * BLOCK
    full = (earliest + 1) // BLOCK * BLOCK
    far = begin
    if SHAPE.INSIDE == NONE:
        far = full
    elif SHAPE.INSIDE == SOME:
        far = tl.maximum(tl.maximum(earliest + 1 - sizes.width, 0) // BLOCK * BLOCK, begin)
    return begin, far, full, latest + 1


@triton.jit
def part_of_keys(i_part, parts, first, far, full, end, BLOCK: tl.constexpr):
    """The same four bounds for one of several parts of the keys, as equal as whole tiles allow."""
    part = tl.cdiv(tl.cdiv(end - first, BLOCK), parts) * BLOCK
    first = tl.minimum(first + i_part * part, end)
    end = tl.minimum(first + part, end)
    return first, tl.minimum(tl.maximum(far, first), end), tl.minimum(tl.maximum(full, first), end), end
