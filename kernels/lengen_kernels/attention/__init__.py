"""Launchers of causal attention: tensors in, tensors out. No checks beyond what keeps a kernel inside its operands.

Row i (its index inside its sequence), head h, keys j of the same sequence with max(0, i - window + 1) <= j <= i:

    s_ij = softmax_scale * logit_scale[i, h] * (q_i . k_j) + key_bias[j, h] + b_h(i - j)
    out_i = sum_j softmax_j(s_ij) v_j

where b_h(d) is table[h, d] for d < W, and beyond that the last value, zero, or a line through the last value.

Nothing in a launch depends on a value on the device, so every launch can be captured in a CUDA graph; equal inputs give
equal bits, for no kernel uses atomics.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from lengen_kernels import launch
from lengen_kernels.attention.forward import forward_kernel
from lengen_kernels.attention.problem import Problem, processors
from lengen_kernels.attention.split import merge_kernel

WAVES = 2  # of programs on every processor, below which a forward pass is split over keys
SHORTEST_PART = 512  # keys, at capacity, of one split
MOST_SPLITS = 512


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor | None,
    longest: int,
    softmax_scale: float,
    table: Tensor | None = None,
    beyond: str = "last",
    slope: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_scale: Tensor | None = None,
    window: int | None = None,
    query_rows: Tensor | None = None,
    cu_queries: Tensor | None = None,
    precision: str = "ieee",
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention and the logarithm of each row's sum of exponentials.

    Args:
        q: [Nq, H, D] or [B, T, H, D] in fp32, fp16 or bf16, any strides but the last, which is 1.
        k, v: [N, Hk, D] or [B, T, Hk, D] like q; Hk divides H, and head h of q takes head h // (H / Hk).
        cu_seqlens: [B+1] int32 or int64, first packed row of each sequence, then N; None for four dimensions.
        longest: rows of the longest sequence, or more: the grid's capacity. Unused with four dimensions.
        softmax_scale: factor of the products q . k.
        table: [M, H, W] fp32, bias over distance; sequence b takes table b // (B / M).
        beyond: "last", "zero" or "line": the bias at distances from W on.
        slope: [M, H] fp32, of the line.
        key_bias: [N, H] or [B, T, H] fp32. logit_scale: [Nq, H] or [B, T, H] fp32.
        window: number of last keys that a row sees; all if None.
        query_rows: [Nq] int32 or int64, increasing packed rows of k to which the rows of q belong; all if None.
        cu_queries: [B+1], where each sequence's chosen rows begin in ``query_rows``; computed if None.
        precision: "ieee", "tf32x3" or "tf32", of products of fp32 operands.
        out_dtype: dtype of the output, by default that of q.

    Returns:
        out [Nq, H, D] or [B, T, H, D]; lse [Nq, H] or [B, T, H] fp32, in base 2.

    Raises:
        ValueError: operands that the kernels do not serve.
    """
    problem = Problem.of(
        q,
        k,
        v,
        cu_seqlens=cu_seqlens,
        longest=longest,
        softmax_scale=softmax_scale,
        table=table,
        beyond=beyond,
        slope=slope,
        key_bias=key_bias,
        logit_scale=logit_scale,
        window=window,
        query_rows=query_rows,
        cu_queries=cu_queries,
        precision=precision,
    )
    out = torch.empty(q.shape, dtype=out_dtype or q.dtype, device=q.device)
    lse = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
    FORWARD[choose_forward(problem)](problem, out, lse)
    return out, lse


def choose_forward(problem: Problem) -> str:
    """Which of ``FORWARD`` serves a call. Kernels for short rows belong here."""
    return "split" if splits(problem) > 1 else "tiles"


def splits(problem: Problem) -> int:
    """Parts of the keys, so that few queries fill the device; no part is shorter than ``SHORTEST_PART`` at capacity."""
    programs = problem.sequences * problem.heads * triton.cdiv(problem.most, problem.tile("split").block_m)
    wanted = WAVES * processors(problem.q.device) // max(1, programs)
    return max(1, min(wanted, reach(problem) // SHORTEST_PART, MOST_SPLITS))


def reach(problem: Problem) -> int:
    """The largest number of keys that a query may see."""
    return problem.longest if problem.window is None else min(problem.window, problem.longest)


def _forward_by_tiles(problem: Problem, out: Tensor, lse: Tensor) -> None:
    tile = problem.tile("forward")
    count = triton.cdiv(problem.most, tile.block_m)
    launch.launch(
        forward_kernel,
        count * problem.sequences * problem.heads,
        p_out=out,
        p_lse=lse,
        p_sums=None,
        p_totals=None,
        p_maxima=None,
        tiles=count,
        group=problem.group,
        all_queries=problem.queries,
        SPLITS=1,
        **problem.arguments(tile),
    )


def _forward_by_parts(problem: Problem, out: Tensor, lse: Tensor) -> None:
    tile = problem.tile("split")
    count, parts = triton.cdiv(problem.most, tile.block_m), splits(problem)
    sums = torch.empty(parts, *problem.q.shape, dtype=torch.float32, device=out.device)
    totals, maxima = (torch.empty(parts, *lse.shape, dtype=torch.float32, device=out.device) for _ in range(2))
    launch.launch(
        forward_kernel,
        count * parts * problem.sequences * problem.heads,
        p_out=None,
        p_lse=None,
        p_sums=sums,
        p_totals=totals,
        p_maxima=maxima,
        tiles=count,
        group=problem.sequences * problem.heads,
        all_queries=problem.queries,
        SPLITS=parts,
        **problem.arguments(tile),
    )
    block = problem.tile("merge").block_m
    launch.launch(
        merge_kernel,
        triton.cdiv(lse.numel(), block),
        p_sums=sums,
        p_totals=totals,
        p_maxima=maxima,
        p_out=out,
        p_lse=lse,
        pairs=lse.numel(),
        SPLITS=parts,
        D=problem.width,
        BLOCK_D=problem.block_d,
        BLOCK_M=block,
        BLOCK_SPLITS=triton.next_power_of_2(parts),
        num_warps=4,
    )


FORWARD = {"tiles": _forward_by_tiles, "split": _forward_by_parts}
