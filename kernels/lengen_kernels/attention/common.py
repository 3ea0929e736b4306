"""What the attention kernels share: which work a program does, where rows lie, and how a tile of logits is made.

Names inside kernels: ``i_`` index of a program or tile, ``o_`` offsets along an axis, ``p_`` pointer, ``b_`` block of
values, ``m_`` mask. Logits are natural numbers times log2(e), so that exponentials are powers of two; the factor is
applied after the dot product. Tiles of rows are loaded as fp32 where the interpreter has no arithmetic for their dtype.

Every kernel reads a table of biases over distance in one of three ways: in a tile whose distances all reach the table's
end (``FAR``) one value serves for all cells, or a line; elsewhere each cell reads the table.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)  # of a running maximum: finite, so that a row that has seen no key yet gives no NaN
LAST, ZERO, LINE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what holds beyond the table


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
        if SHAPE.BEYOND != ZERO:
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
    """Positions [BLOCK] int32 of a tile's queries in their sequence, and the first and last among those that exist.

    The tile begins at query ``i_first`` of the sequence. Without chosen rows every row is a query.
    """
    if places.query_rows is None:
        return i_first + o_tile, i_first, tl.minimum(i_first + o_tile.shape[0], head.queries) - 1
    else:
        p_tile = places.query_rows + head.first_query + i_first
        last = tl.minimum(o_tile.shape[0], head.queries - i_first) - 1
        earliest = (tl.load(p_tile).to(tl.int64) - head.begin).to(tl.int32)
        latest = (tl.load(p_tile + last).to(tl.int64) - head.begin).to(tl.int32)
        b_rows = tl.load(p_tile + o_tile, mask=o_tile <= last, other=0).to(tl.int64)
        return tl.where(o_tile <= last, (b_rows - head.begin).to(tl.int32), latest), earliest, latest


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
def load_gradients(out, grad_out, head, i_query, o_tile, SHAPE: tl.constexpr):
    """Gradients of a tile of the output and their delta, the sum of each row's product with the output."""
    b_out = load_tile(out, i_query, o_tile, head.queries, SHAPE, tl.float32)
    b_grad_out = load_tile(grad_out, i_query, o_tile, head.queries, SHAPE, tl.float32)
    return b_grad_out.to(SHAPE.COMPUTE), tl.sum(b_out * b_grad_out, axis=1)


# ---- logits ----


@triton.jit
def bias_at(b_distance, terms, head, sizes, SHAPE: tl.constexpr, FAR: tl.constexpr):
    """Biases at distances, in base 2; one number for all of them if all reach the table's end and it holds there."""
    if FAR:
        if SHAPE.BEYOND == LINE:
            return (head.last + head.slope * (b_distance - (sizes.width - 1)).to(tl.float32)) * LOG2E
        else:
            return head.last * LOG2E
    else:
        b_bias = tl.load(terms.table + head.table + tl.maximum(tl.minimum(b_distance, sizes.width - 1), 0))
        if SHAPE.BEYOND == ZERO:
            b_bias = tl.where(b_distance < sizes.width, b_bias, 0.0)
        if SHAPE.BEYOND == LINE:
            b_bias += head.slope * tl.maximum(b_distance - (sizes.width - 1), 0).to(tl.float32)
        return b_bias * LOG2E


@triton.jit
def key_biases(terms, head, o_keys):
    """[BLOCK] biases of keys in base 2, or None without that term."""
    if terms.key_bias is not None:
        return load_column(terms.key_bias, head.begin, o_keys, head.rows, head, 0.0) * LOG2E


@triton.jit
def tile_logits(
    b_left,
    b_right,
    b_factor,
    b_key_bias,
    b_distance,
    terms,
    head,
    sizes,
    SHAPE: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Logits in base 2 of a tile: the products of its left and right rows and their terms; -inf where a key is unseen.

    Args:
        b_factor: what multiplies the products, log2(e) included. b_key_bias: in base 2, or None.
        b_distance: position of the query minus position of the key.
        FAR: all distances reach the table's end. CAUSAL: some are negative.
    """
    b_logits = tl.dot(b_left, tl.trans(b_right), input_precision=SHAPE.PRECISION) * b_factor
    if terms.table is not None:
        b_logits += bias_at(b_distance, terms, head, sizes, SHAPE, FAR)
    if b_key_bias is not None:
        b_logits += b_key_bias
    if CAUSAL:
        b_logits = tl.where(b_distance >= 0, b_logits, float("-inf"))
    if sizes.window is not None:
        b_logits = tl.where(b_distance < sizes.window, b_logits, float("-inf"))
    return b_logits


@triton.jit
def logit_gradient(b_p, b_left, b_right, b_delta, SHAPE: tl.constexpr):
    """Gradient of a tile of logits, from its weights and the rows whose products are the weights' gradient."""
    return b_p * (tl.dot(b_left, tl.trans(b_right), input_precision=SHAPE.PRECISION) - b_delta)


@triton.jit
def key_range(earliest, latest, sizes, BLOCK: tl.constexpr):
    """Where the keys of a tile of queries at positions ``earliest`` to ``latest`` begin, change their kind, and end.

    Keys in [begin, far) are beyond the table for every query, those in [far, full) are seen by every query as far as
    causality goes, those in [full, end) by some. All but ``end`` are multiples of ``BLOCK``.
    """
    begin = earliest * 0
    if sizes.window is not None:
        begin = tl.maximum(earliest - sizes.window + 1, 0) // BLOCK * BLOCK
    far = tl.maximum(tl.maximum(earliest + 1 - sizes.width, 0) // BLOCK * BLOCK, begin)
    return begin, far, (earliest + 1) // BLOCK * BLOCK, latest + 1


@triton.jit
def part_of_keys(i_part, parts, first, far, full, end, BLOCK: tl.constexpr):
    """The same four bounds for one of several parts of the keys, as equal as whole tiles allow."""
    part = tl.cdiv(tl.cdiv(end - first, BLOCK), parts) * BLOCK
    first = tl.minimum(first + i_part * part, end)
    end = tl.minimum(first + part, end)
    return first, tl.minimum(tl.maximum(far, first), end), tl.minimum(tl.maximum(full, first), end), end
