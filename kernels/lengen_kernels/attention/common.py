"""What the attention kernels share: which work a program does, where rows lie, and how a tile of logits is made.

Names inside kernels: ``i_`` index of a program or tile, ``o_`` offsets along an axis, ``p_`` pointer, ``b_`` block of
values, ``m_`` mask. Logits are natural numbers times log2(e), so that exponentials are powers of two; the factor is
applied after the dot product. Tiles of rows are loaded as fp32 where the interpreter has no arithmetic for their dtype.

Every kernel reads a table of biases over distance in one of three ways: in a tile whose distances all reach the table's
end (``FAR``) one value serves for all cells, or a line; elsewhere each cell reads the table.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-1.0e38)  # of a running maximum: finite, so that a row that has seen no key yet gives no NaN
LAST, ZERO, LINE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what holds beyond the table


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
def sequence_rows(p_bounds, i_sequence, longest):
    """First packed row (int64) and number of rows (int32) of a sequence; without bounds all have ``longest`` rows."""
    if p_bounds is None:
        return i_sequence.to(tl.int64) * longest, longest
    else:
        begin = tl.load(p_bounds + i_sequence).to(tl.int64)
        return begin, (tl.load(p_bounds + i_sequence + 1).to(tl.int64) - begin).to(tl.int32)


@triton.jit
def head_rows(p_rows, strides, p_bounds, i_sequence, begin, i_head):
    """Pointer to row 0 of a sequence in one head of a tensor [N, H, D], or [B, T, H, D] if there are no bounds.

    ``strides``: of a sequence, a row and a head; the last dimension is dense.
    """
    if p_bounds is None:
        return p_rows + i_sequence.to(tl.int64) * strides[0] + i_head.to(tl.int64) * strides[2]
    else:
        return p_rows + begin * strides[1] + i_head.to(tl.int64) * strides[2]


@triton.jit
def cells(o_rows, o_columns, rows, D: tl.constexpr):
    """Mask of the first ``rows`` rows and D columns."""
    if o_columns.shape[0] == D:
        return (o_rows < rows)[:, None]
    else:
        return (o_rows < rows)[:, None] & (o_columns < D)[None, :]


@triton.jit
def load_rows(p_tile, o_rows, o_columns, stride, rows, D: tl.constexpr, COMPUTE: tl.constexpr):
    """[BLOCK, BLOCK_D] in dtype ``COMPUTE``: the first ``rows`` rows from ``p_tile``, zeros beyond them and D."""
    p_cells = p_tile + (o_rows.to(tl.int64) * stride)[:, None] + o_columns[None, :]
    return tl.load(p_cells, mask=cells(o_rows, o_columns, rows, D), other=0.0).to(COMPUTE)


@triton.jit
def store_rows(p_tile, b_rows, o_rows, o_columns, stride, rows, D: tl.constexpr):
    """The reverse of ``load_rows``."""
    p_cells = p_tile + (o_rows.to(tl.int64) * stride)[:, None] + o_columns[None, :]
    tl.store(p_cells, b_rows.to(p_tile.dtype.element_ty), mask=cells(o_rows, o_columns, rows, D))


@triton.jit
def load_column(p_column, begin, o_rows, rows, i_head, heads, other):
    """[BLOCK] fp32: rows of one head of a dense tensor [N, H], ``other`` from row ``rows`` on."""
    p_cells = p_column + (begin + o_rows) * heads + i_head
    return tl.load(p_cells, mask=o_rows < rows, other=other)


@triton.jit
def store_column(p_column, b_column, begin, o_rows, rows, i_head, heads):
    """The reverse of ``load_column``."""
    tl.store(p_column + (begin + o_rows) * heads + i_head, b_column, mask=o_rows < rows)


@triton.jit
def query_positions(p_query_rows, begin, first_query, i_first, queries, o_tile):
    """Positions [BLOCK] int32 of a tile's queries in their sequence, and the first and last among those that exist.

    The tile begins at query ``i_first`` of the sequence's ``queries``; ``begin`` is the sequence's first packed row,
    ``first_query`` where its chosen rows begin in ``query_rows``. Without chosen rows every row is a query.
    """
    if p_query_rows is None:
        return i_first + o_tile, i_first, tl.minimum(i_first + o_tile.shape[0], queries) - 1
    else:
        p_tile = p_query_rows + first_query + i_first
        last = tl.minimum(o_tile.shape[0], queries - i_first) - 1
        earliest = (tl.load(p_tile).to(tl.int64) - begin).to(tl.int32)
        latest = (tl.load(p_tile + last).to(tl.int64) - begin).to(tl.int32)
        b_rows = tl.load(p_tile + o_tile, mask=o_tile <= last, other=0).to(tl.int64)
        return tl.where(o_tile <= last, (b_rows - begin).to(tl.int32), latest), earliest, latest


@triton.jit
def sequence_queries(p_cu_queries, i_sequence, begin, rows):
    """First query (int64) and number of queries (int32) of a sequence; all its rows if none were chosen."""
    if p_cu_queries is None:
        return begin, rows
    else:
        first = tl.load(p_cu_queries + i_sequence).to(tl.int64)
        return first, (tl.load(p_cu_queries + i_sequence + 1).to(tl.int64) - first).to(tl.int32)


@triton.jit
def queries_before(p_query_rows, begin, first_query, queries, position):
    """How many of a sequence's queries stand before ``position``, at most ``queries``."""
    if p_query_rows is None:
        return tl.minimum(position, queries)
    else:
        p_rows = p_query_rows + first_query
        low = queries * 0
        high = queries
        while low < high:
            middle = (low + high) // 2
            is_before = tl.load(p_rows + middle).to(tl.int64) < begin + position
            low = tl.where(is_before, middle + 1, low)
            high = tl.where(is_before, high, middle)
        return low


@triton.jit
def head_table(p_table, p_slope, i_sequence, i_head, per_model, heads, width, BEYOND: tl.constexpr):
    """Pointer to a head's table, the value at its end that holds beyond it, and the slope from there."""
    i_table = (i_sequence // per_model).to(tl.int64) * heads + i_head
    p_head = p_table + i_table * width
    last = 0.0
    slope = 0.0
    if BEYOND != ZERO:
        last = tl.load(p_head + width - 1)
    if BEYOND == LINE:
        slope = tl.load(p_slope + i_table)
    return p_head, last, slope


@triton.jit
def distance_bias(b_distance, p_table, last, slope, width, BEYOND: tl.constexpr, FAR: tl.constexpr):
    """Bias of the cells at ``b_distance``, in natural units; one number where it is the same for all ``FAR`` cells."""
    if FAR:
        if BEYOND == LINE:
            return last + slope * (b_distance - (width - 1)).to(tl.float32)
        else:
            return last
    else:
        b_bias = tl.load(p_table + tl.maximum(tl.minimum(b_distance, width - 1), 0))
        if BEYOND == ZERO:
            b_bias = tl.where(b_distance < width, b_bias, 0.0)
        if BEYOND == LINE:
            b_bias += slope * tl.maximum(b_distance - (width - 1), 0).to(tl.float32)
        return b_bias


@triton.jit
def logits(
    b_dot,
    b_factor,
    b_key_bias,
    b_distance,
    p_table,
    last,
    slope,
    width,
    window,
    BEYOND: tl.constexpr,
    FAR: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """Logits in base 2 of a tile, -inf where a key is not seen.

    Args:
        b_dot: the products q . k; ``b_factor``: what multiplies them, log2(e) included.
        b_key_bias: in base 2, or None.
        b_distance: position of the query minus position of the key.
        FAR: all distances reach the table's end; CAUSAL: some are negative.
    """
    b_logits = b_dot * b_factor
    if p_table is not None:
        b_logits += distance_bias(b_distance, p_table, last, slope, width, BEYOND, FAR) * LOG2E
    if b_key_bias is not None:
        b_logits += b_key_bias
    if CAUSAL:
        b_logits = tl.where(b_distance >= 0, b_logits, float("-inf"))
    if window is not None:
        b_logits = tl.where(b_distance < window, b_logits, float("-inf"))
    return b_logits


@triton.jit
def key_range(earliest, latest, width, window, BLOCK: tl.constexpr):
    """Where the keys of a tile of queries at positions ``earliest`` to ``latest`` begin, change their kind, and end.

    Keys in [begin, far) are beyond the table for every query, those in [far, full) are seen by every query as far as
    causality goes, those in [full, end) by some. All but ``end`` are multiples of ``BLOCK``.
    """
    begin = earliest * 0
    if window is not None:
        begin = tl.maximum(earliest - window + 1, 0) // BLOCK * BLOCK
    far = tl.maximum(tl.maximum(earliest + 1 - width, 0) // BLOCK * BLOCK, begin)
    return begin, far, (earliest + 1) // BLOCK * BLOCK, latest + 1
