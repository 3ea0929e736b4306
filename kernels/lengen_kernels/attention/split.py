"""Few queries and many keys: programs take parts of the keys, and these kernels join what they leave, in a fixed order.

A pair is a query and a head. Both kernels hold ``BLOCK_M`` pairs in a program.
"""

import triton
import triton.language as tl

from lengen_kernels.attention.common import FLOOR


@triton.jit
def tile_of_pairs(pairs, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr):
    """Pairs of this program (int64), which of them exist, their cells in a tensor [pairs, D], and which of those do."""
    o_pairs = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_columns = tl.arange(0, BLOCK_D)
    m_pairs = o_pairs < pairs
    return o_pairs, m_pairs, (o_pairs * D)[:, None] + o_columns[None, :], m_pairs[:, None] & (o_columns < D)[None, :]


@triton.jit(do_not_specialize=["pairs", "parts"])
def merge_kernel(
    p_sums,
    p_totals,
    p_maxima,
    p_out,
    p_lse,
    pairs,
    parts,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Output and log-sum-exp from those of the parts.

    Each part's sums are relative to its own maximum; all are brought to the largest and divided once, so that equal
    weights stay exactly equal.

    Args:
        p_sums: [parts, pairs, D] fp32; p_totals, p_maxima: [parts, pairs] fp32.
        p_out: [pairs, D]; p_lse: [pairs] fp32, base 2.
    """
    o_pairs, m_pairs, o_cells, m_cells = tile_of_pairs(pairs, D, BLOCK_D, BLOCK_M)
    b_max = tl.full([BLOCK_M], FLOOR, tl.float32)
    for i_part in range(parts):
        o_part = tl.cast(i_part, tl.int64) * pairs
        b_max = tl.maximum(b_max, tl.load(p_maxima + o_part + o_pairs, mask=m_pairs, other=FLOOR))
    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_total = tl.zeros([BLOCK_M], tl.float32)
    for i_part in range(parts):
        o_part = tl.cast(i_part, tl.int64) * pairs
        b_weight = tl.exp2(tl.load(p_maxima + o_part + o_pairs, mask=m_pairs, other=FLOOR) - b_max)
        b_total += tl.load(p_totals + o_part + o_pairs, mask=m_pairs, other=1.0) * b_weight
        b_sum += tl.load(p_sums + o_part * D + o_cells, mask=m_cells, other=0.0) * b_weight[:, None]
    b_out = tl.div_rn(b_sum, b_total[:, None])
    tl.store(p_out + o_cells, b_out.to(p_out.dtype.element_ty), mask=m_cells)
    tl.store(p_lse + o_pairs, b_max + tl.log2(b_total), mask=m_pairs)


@triton.jit(do_not_specialize=["pairs", "parts"])
def sum_kernel(
    p_sums,
    p_scale_sums,
    p_logit_scale,
    p_grad_q,
    p_grad_logit_scale,
    scale,
    pairs,
    parts,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Gradients of queries and of their logit scales from those of the parts.

    Args:
        p_sums: [parts, pairs, D] fp32, before the factor of the logits; p_grad_q: [pairs, D].
        p_scale_sums: [parts, pairs] fp32; p_grad_logit_scale: [pairs] fp32; both None if that is not needed.
        p_logit_scale: [pairs] fp32 or None.
    """
    o_pairs, m_pairs, o_cells, m_cells = tile_of_pairs(pairs, D, BLOCK_D, BLOCK_M)
    b_sum = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    b_scale_sum = tl.zeros([BLOCK_M], tl.float32)
    for i_part in range(parts):
        o_part = tl.cast(i_part, tl.int64) * pairs
        b_sum += tl.load(p_sums + o_part * D + o_cells, mask=m_cells, other=0.0)
        if p_scale_sums is not None:
            b_scale_sum += tl.load(p_scale_sums + o_part + o_pairs, mask=m_pairs, other=0.0)
    b_factor = tl.full([BLOCK_M], 1.0, tl.float32)
    if p_logit_scale is not None:
        b_factor = tl.load(p_logit_scale + o_pairs, mask=m_pairs, other=0.0)
    b_grad_q = b_sum * (b_factor * scale)[:, None]
    tl.store(p_grad_q + o_cells, b_grad_q.to(p_grad_q.dtype.element_ty), mask=m_cells)
    if p_scale_sums is not None:
        tl.store(p_grad_logit_scale + o_pairs, b_scale_sum, mask=m_pairs)
