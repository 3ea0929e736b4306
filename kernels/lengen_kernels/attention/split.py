"""Few queries and many keys: the forward kernel on parts of the keys, and the merge of the parts."""

import triton
import triton.language as tl

from lengen_kernels.attention.common import FLOOR


@triton.jit
def merge_kernel(
    p_sums,
    p_totals,
    p_maxima,
    p_out,
    p_lse,
    pairs,
    SPLITS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
):
    """Join the parts of ``BLOCK_M`` pairs (query, head).

    Each part's sums are relative to its own maximum; all are brought to the largest and divided once, so that equal
    weights stay exactly equal.

    Args:
        p_sums: [SPLITS, pairs, D] fp32; p_totals, p_maxima: [SPLITS, pairs] fp32.
        p_out: [pairs, D]; p_lse: [pairs] fp32, base 2.
    """
    o_pairs = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_splits = tl.arange(0, BLOCK_SPLITS)
    o_columns = tl.arange(0, BLOCK_D)
    m_pairs = o_pairs < pairs
    m_parts = m_pairs[:, None] & (o_splits < SPLITS)[None, :]
    o_parts = o_splits.to(tl.int64)[None, :] * pairs + o_pairs[:, None]
    b_maxima = tl.load(p_maxima + o_parts, mask=m_parts, other=FLOOR)
    b_max = tl.max(b_maxima, axis=1)
    b_totals = tl.load(p_totals + o_parts, mask=m_parts, other=0.0)
    b_total = tl.where(m_pairs, tl.sum(b_totals * tl.exp2(b_maxima - b_max[:, None]), axis=1), 1.0)

    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    m_cells = m_pairs[:, None] & (o_columns < D)[None, :]
    for i_split in range(SPLITS):
        o_part = tl.cast(i_split, tl.int64) * pairs + o_pairs
        b_weight = tl.exp2(tl.load(p_maxima + o_part, mask=m_pairs, other=FLOOR) - b_max)
        b_part = tl.load(p_sums + (o_part * D)[:, None] + o_columns[None, :], mask=m_cells, other=0.0)
        b_sum += b_part * b_weight[:, None]
    b_out = tl.div_rn(b_sum, b_total[:, None])
    p_cells = p_out + (o_pairs * D)[:, None] + o_columns[None, :]
    tl.store(p_cells, b_out.to(p_out.dtype.element_ty), mask=m_cells)
    tl.store(p_lse + o_pairs, b_max + tl.log2(b_total), mask=m_pairs)
