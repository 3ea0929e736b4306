"""Launchers of causal attention: tensors in, tensors out. No checks beyond what keeps a kernel inside its operands.

Row i (its index inside its sequence), head h, keys j of the same sequence with max(0, i - window + 1) <= j <= i:

    s_ij = softmax_scale * logit_scale[i, h] * (q_i . k_j) + key_bias[j, h] + b_h(i - j)
    out_i = sum_j softmax_j(s_ij) v_j

where b_h(d) is table[h, d] for d < W, and beyond that the last value, zero, or a line through the last value.

Nothing in a launch depends on a value on the device, so every launch can be captured in a CUDA graph; equal inputs give
equal bits, for no kernel uses atomics.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lengen_kernels import launch, tiles
from lengen_kernels.attention.backward import key_gradient_kernel, query_gradient_kernel
from lengen_kernels.attention.bias_gradient import chosen_rows_kernel, diagonal_kernel, table_gradient_kernel
from lengen_kernels.attention.common import ALIGNED, ALL, NONE, SOME
from lengen_kernels.attention.forward import forward_kernel
from lengen_kernels.attention.problem import SMALLEST_TILE, Problem, cells_dtype, operand, power_of_two, processors
from lengen_kernels.attention.short_rows import distance_gradient_kernel, short_backward_kernel, short_forward_kernel
from lengen_kernels.attention.split import merge_kernel, sum_kernel

WAVES = 2  # of programs on every processor, below which keys are divided into parts
SQUARE = 8  # cells on a side of what the gradient of a table takes from a short row
SHORTEST_PART = 512  # keys, at capacity, of one split
MOST_SPLITS = 512
LONGEST_SHORT_ROW = 256  # tokens, and
WIDEST_SHORT_ROW = 64  # padded head width, of which one program holds a whole sequence of a head


def forward(
    q: Tensor, k: Tensor, v: Tensor, *, out_dtype: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Attention and the logarithm of each row's sum of exponentials.

    Args:
        q: [Nq, H, D] or [B, T, H, D] in fp32, fp16 or bf16, any strides but the last, which is 1.
        k, v: [N, Hk, D] or [B, T, Hk, D] like q; Hk divides H, and head h of q takes head h // (H / Hk).
        out_dtype: dtype of the output, by default that of q.
        cu_seqlens: [B+1] int32 or int64, first packed row of each sequence, then N; None for four dimensions.
        longest: rows of the longest sequence, or more: the grid's capacity. Unused with four dimensions.
        softmax_scale: factor of the products q . k.
        table: [M, H, W] fp32, bias over distance; sequence b takes table b // (B / M). None, as for what follows: not
            there.
        beyond: "last", "zero" or "line": the bias at distances from W on.
        slope: [M, H] fp32, of the line.
        key_bias: [N, H] or [B, T, H] fp32. logit_scale: [Nq, H] or [B, T, H] fp32.
        window: number of last keys that a row sees; all if None.
        query_rows: [Nq] int32 or int64, increasing packed rows of k to which the rows of q belong; all if None.
        cu_queries: [B+1], where each sequence's chosen rows begin in ``query_rows``; computed if None.
        precision: "ieee", "tf32x3" or "tf32", of products of fp32 operands.

    Returns:
        out [Nq, H, D] or [B, T, H, D]; lse [Nq, H] or [B, T, H] fp32, in base 2.

    Raises:
        ValueError: operands that the kernels do not serve.
    """
    problem = _problem(q, k, v, **options)
    out = torch.empty(q.shape, dtype=out_dtype or q.dtype, device=q.device)
    lse = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
    shape = problem.q.shape
    rows = (out, lse) if q.shape == shape else (out.view(shape), lse.view(shape[:-1]))  # heads are folded into rows
    FORWARD[choose_forward(problem)](problem, *rows)
    return out, lse


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    needs_table: bool = True,
    needs_key_bias: bool = True,
    needs_logit_scale: bool = True,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``forward``.

    Args:
        grad_out: like out, any dtype and strides. out, lse: what ``forward`` returned.
        needs_table, needs_key_bias, needs_logit_scale: whether to compute these; ignored where they were not given.
        The others as in ``forward``.

    Returns:
        Gradients of q, k and v in their dtype and shape; of table, key_bias and logit_scale in fp32 and their shape,
        None where not given or not needed. Gradients of logits enter the products for q and k in the dtype of the
        operands; in short rows of bf16 also the sums for the table, whose error is then about 0.2% of its greatest
        number.

    Raises:
        ValueError: operands that the kernels do not serve.
    """
    problem = _problem(q, k, v, **options)
    if grad_out.stride(-1) != 1:
        grad_out = grad_out.contiguous()
    wanted = Wanted(
        needs_table and problem.table is not None,
        needs_key_bias and problem.key_bias is not None,
        needs_logit_scale and problem.logit_scale is not None,
    )
    shape, lse = problem.q.shape, lse.contiguous()
    if q.shape != shape:  # heads are folded into rows
        grad_out, out, lse = grad_out.reshape(shape), out.reshape(shape), lse.view(shape[:-1])
    grad_q, *others, grad_logit_scale = BACKWARD[choose_backward(problem)](problem, grad_out, out, lse, wanted)
    if q.shape != shape:
        grad_q = grad_q.view(q.shape)
        grad_logit_scale = None if grad_logit_scale is None else grad_logit_scale.view(q.shape[:-1])
    return grad_q, *others, grad_logit_scale


def _problem(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Problem:
    problem = Problem.of(q, k, v, **options)
    return problem if is_short(problem) else problem.folded()


class Wanted(NamedTuple):
    """Which gradients are computed beside those of q, k and v."""

    table: bool
    key_bias: bool
    logit_scale: bool


def choose_backward(problem: Problem) -> str:
    """Which of ``BACKWARD`` serves a call."""
    return "short" if is_short(problem) else "tiles"


def choose_forward(problem: Problem) -> str:
    """Which of ``FORWARD`` serves a call."""
    if is_short(problem):
        return "short"
    return "split" if splits(problem) > 1 else "tiles"


def is_short(problem: Problem) -> bool:
    """Whether the kernels for short rows serve a call."""
    return problem.longest <= LONGEST_SHORT_ROW and problem.block_d <= WIDEST_SHORT_ROW


def splits(problem: Problem) -> int:
    """Parts of the keys, so that few queries fill the device; no part is shorter than ``SHORTEST_PART`` at capacity."""
    programs = problem.sequences * problem.heads * cdiv(problem.most, problem.tile("split").block_m)
    wanted = WAVES * processors(problem.q.device) // max(1, programs)
    return max(1, min(wanted, reach(problem) // SHORTEST_PART, MOST_SPLITS))


def reach(problem: Problem) -> int:
    """The largest number of keys that a query may see."""
    return problem.longest if problem.window is None else min(problem.window, problem.longest)


def _forward_by_tiles(problem: Problem, out: Tensor, lse: Tensor) -> None:
    tile = problem.tile("forward")
    count = cdiv(problem.most, tile.block_m)
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
        parts=1,
        **problem.arguments(tile),
    )


def _forward_by_parts(problem: Problem, out: Tensor, lse: Tensor) -> None:
    tile = problem.tile("split")
    count, parts = cdiv(problem.most, tile.block_m), splits(problem)
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
        parts=parts,
        **problem.arguments(tile),
    )
    block = problem.tile("merge").block_m
    launch.launch(
        merge_kernel,
        cdiv(lse.numel(), block),
        p_sums=sums,
        p_totals=totals,
        p_maxima=maxima,
        p_out=out,
        p_lse=lse,
        pairs=lse.numel(),
        parts=parts,
        D=problem.width,
        BLOCK_D=problem.block_d,
        BLOCK_M=block,
        num_warps=4,
    )


def _backward_by_tiles(problem: Problem, grad_out: Tensor, out: Tensor, lse: Tensor, wanted: Wanted) -> tuple:
    tile = problem.tile("query_gradient" if splits(problem) == 1 else "split_query_gradient")
    terms = _query_terms(problem, tile, lse)
    grad_q, grad_logit_scale, beyond = _query_gradients(problem, tile, grad_out, out, lse, terms, wanted)
    grad_k, grad_v, grad_key_bias = _key_gradients(problem, grad_out, terms, wanted)
    grad_table = _table_gradient(problem, grad_out, terms, beyond) if wanted.table else None
    return grad_q, grad_k, grad_v, grad_table, grad_key_bias, grad_logit_scale


class QueryTerms(NamedTuple):
    """What the kernel of the queries' gradient leaves to those after it."""

    values: Tensor  # [3, H, capacity], see ``common.query_terms``
    capacity: int
    filled: int  # rows of a tile, of which all are written where rows are not chosen

    def arguments(self, tile: tiles.Tile) -> dict:
        """Of a kernel that reads tiles of queries, the first of which begins where a tile of keys does."""
        is_filled = self.filled % tile.block_m == 0 and tile.block_n % tile.block_m == 0
        return dict(p_terms=self.values, capacity=self.capacity, IS_FILLED=is_filled)


def _query_terms(problem: Problem, tile: tiles.Tile, lse: Tensor) -> QueryTerms:
    """Memory for them; ``tile`` is that of the queries' gradient."""
    aligned = ALIGNED.value
    if aligned % tile.block_m:
        raise ValueError(f"a tile of the queries' gradient must divide {aligned} rows, got {tile.block_m}")
    capacity = (problem.queries // aligned + problem.sequences) * aligned
    terms = 2 if problem.logit_scale is None else 3
    values = torch.empty(terms, problem.heads, capacity, dtype=lse.dtype, device=lse.device)
    return QueryTerms(values, capacity, tile.block_m if problem.query_rows is None else 1)


def _query_gradients(
    problem: Problem, tile: tiles.Tile, grad_out: Tensor, out: Tensor, lse: Tensor, terms: QueryTerms, wanted: Wanted
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of q and of the logit scale; of the biases beyond the table [B, H, tiles x parts]. Fills ``terms``."""
    parts = splits(problem)
    tiles_of_queries = cdiv(problem.most, tile.block_m)
    grad_q = torch.empty(problem.q.shape, dtype=problem.q.dtype, device=out.device)
    grad_logit_scale = sums = scale_sums = beyond = None
    if wanted.logit_scale:
        grad_logit_scale = scale_sums = torch.empty(lse.shape, dtype=lse.dtype, device=out.device)
    if parts > 1:
        sums = torch.empty(parts, *grad_q.shape, dtype=lse.dtype, device=out.device)
        scale_sums = torch.empty(parts, *lse.shape, dtype=lse.dtype, device=out.device) if wanted.logit_scale else None
    is_beyond = problem.beyond != "zero" and problem.table_width < reach(problem)
    if wanted.table and (is_beyond or problem.inside is NONE):
        cells = problem.sequences, problem.heads, tiles_of_queries * parts
        beyond = torch.empty(*cells, dtype=lse.dtype, device=out.device)
    launch.launch(
        query_gradient_kernel,
        tiles_of_queries * parts * problem.sequences * problem.heads,
        out=operand(out),
        grad_out=operand(grad_out),
        p_lse=lse,
        p_terms=terms.values,
        capacity=terms.capacity,
        p_grad_q=grad_q if sums is None else None,
        p_grad_logit_scale=scale_sums,
        p_sums=sums,
        p_beyond=beyond,
        tiles=tiles_of_queries,
        parts=parts,
        group=problem.group,
        all_queries=problem.queries,
        **problem.arguments(tile),
    )
    if sums is not None:
        _sum_parts(problem, sums, scale_sums, grad_q, grad_logit_scale)
    return grad_q, grad_logit_scale, beyond


def _sum_parts(
    problem: Problem, sums: Tensor, scale_sums: Tensor | None, grad_q: Tensor, grad_logit_scale: Tensor | None
) -> None:
    """Fill the gradients of q and the logit scale from those of the parts of the keys."""
    pairs, tile = sums[0].shape[:-1].numel(), problem.tile("merge")
    launch.launch(
        sum_kernel,
        cdiv(pairs, tile.block_m),
        p_sums=sums,
        p_scale_sums=scale_sums,
        p_logit_scale=problem.logit_scale,
        p_grad_q=grad_q,
        p_grad_logit_scale=grad_logit_scale,
        scale=float(problem.softmax_scale),
        pairs=pairs,
        parts=len(sums),
        D=problem.width,
        BLOCK_D=problem.block_d,
        BLOCK_M=tile.block_m,
        num_warps=tile.num_warps,
    )


def _key_gradients(
    problem: Problem, grad_out: Tensor, terms: QueryTerms, wanted: Wanted
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of k, v and the key bias."""
    tile = problem.tile("key_gradient")
    count = cdiv(problem.longest, tile.block_n)
    grad_k, grad_v = (torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) for rows in (problem.k, problem.v))
    grad_key_bias = None
    if wanted.key_bias:
        grad_key_bias = torch.empty(problem.key_bias.shape, dtype=problem.key_bias.dtype, device=grad_k.device)
    launch.launch(
        key_gradient_kernel,
        count * problem.sequences * problem.key_heads,
        grad_out=operand(grad_out),
        **terms.arguments(tile),
        p_grad_k=grad_k,
        p_grad_v=grad_v,
        p_grad_key_bias=grad_key_bias,
        tiles=count,
        group=problem.group,
        **problem.arguments(tile),
    )
    return grad_k, grad_v, grad_key_bias


def _table_gradient(problem: Problem, grad_out: Tensor, terms: QueryTerms, beyond: Tensor | None) -> Tensor:
    """Gradient of the table from its distances, and what ``beyond`` holds of those beyond: all, if it has one entry."""
    dtype, device = problem.table.dtype, problem.table.device
    grad_table = torch.empty(problem.table.shape, dtype=dtype, device=device)
    chosen = problem.query_rows is not None
    tile = problem.tile("chosen_rows" if chosen else "diagonal")
    rows = cdiv(problem.longest, tile.block_m)
    distances = min(problem.table_width, reach(problem))
    blocks = cdiv(distances, tile.block_n) if chosen else min(rows, (distances - 1) // tile.block_n + 2)
    pairs = problem.table.shape[0] * problem.heads
    needed = cdiv(WAVES * processors(device), max(1, blocks * pairs))
    parts = max(1, min(needed, problem.per_model))
    strips = max(1, min(cdiv(needed, parts), problem.most if chosen else rows))
    if problem.inside is NONE:
        parts = 0
    partial_width = blocks * tile.block_n
    partial = torch.empty(pairs, parts * strips, 2, partial_width, dtype=dtype, device=device)
    launch.launch(
        chosen_rows_kernel if chosen else diagonal_kernel,
        blocks * pairs * parts * strips,
        grad_out=operand(grad_out),
        **terms.arguments(tile),
        p_partial=partial,
        lanes=pairs * parts * strips,
        parts=parts,
        strips=strips,
        partial_width=partial_width,
        **problem.arguments(tile),
    )
    block_w = problem.tile("table_gradient").block_n
    launch.launch(
        table_gradient_kernel,
        pairs * cdiv(problem.table_width, block_w),
        p_partial=partial,
        p_beyond=beyond,
        p_grad_table=grad_table,
        width=problem.table_width,
        per_model=problem.per_model,
        heads=problem.heads,
        partials=parts * strips,
        partial_width=partial_width,
        tiles=0 if beyond is None else beyond.shape[-1],
        BLOCK=tile.block_n,
        BLOCK_W=block_w,
        UPPER=not chosen,
        num_warps=4,
    )
    return grad_table


def _forward_of_short_rows(problem: Problem, out: Tensor, lse: Tensor) -> None:
    tile = _cut(problem.tile("short_forward"), problem.longest)
    groups, arguments = _short_arguments(problem, tile, problem.q, problem.k, problem.v)
    most = problem.most if arguments["PACK"] == 1 else tile.block_n
    count = cdiv(most, tile.block_m)
    programs = count * groups * problem.heads
    launch.launch(short_forward_kernel, programs, p_out=out, p_lse=lse, tiles=count, **arguments)


def _backward_of_short_rows(problem: Problem, grad_out: Tensor, out: Tensor, lse: Tensor, wanted: Wanted) -> tuple:
    tile = _cut(problem.tile("short_backward"), problem.longest)
    tile = tile._replace(block_m=min(tile.block_m, tile.block_n))
    q, k = problem.q, problem.k
    groups, arguments = _short_arguments(problem, tile, q, k, problem.v, out, grad_out)
    shares_keys = problem.heads > problem.key_heads
    key_shape = (*k.shape[:-2], problem.heads, problem.width)
    key_dtype = lse.dtype if shares_keys else k.dtype
    grad_k, grad_v = (torch.empty(key_shape, dtype=key_dtype, device=k.device) for _ in range(2))
    grad_q, sums = torch.empty(q.shape, dtype=q.dtype, device=q.device), None
    if arguments["BLOCKS"] > 1:
        sums = grad_q if q.dtype == lse.dtype else torch.empty(q.shape, dtype=lse.dtype, device=q.device)
    grad_key_bias = grad_logit_scale = partial = None
    if wanted.key_bias:
        grad_key_bias = torch.empty(problem.key_bias.shape, dtype=lse.dtype, device=lse.device)
    if wanted.logit_scale:
        grad_logit_scale = torch.empty(lse.shape, dtype=lse.dtype, device=lse.device)
    distances, square = arguments["BLOCKS"] * tile.block_n, 0
    if wanted.table:
        numbers = distances
        if problem.query_rows is None and problem.inside is not NONE and q.dtype != lse.dtype:
            square = SQUARE if tile.block_m * tile.block_n >= SMALLEST_TILE * SQUARE**2 else SQUARE // 2
            numbers *= 2
        partial = torch.empty(groups, problem.heads, numbers, dtype=lse.dtype, device=lse.device)
    launch.launch(
        short_backward_kernel,
        groups * problem.heads,
        out=operand(out),
        grad_out=operand(grad_out),
        p_lse=lse,
        p_grad_q=grad_q,
        p_grad_k=grad_k,
        p_grad_v=grad_v,
        p_sums=sums,
        p_partial=partial,
        p_grad_key_bias=grad_key_bias,
        p_grad_logit_scale=grad_logit_scale,
        SQUARE=square,
        CELLS=cells_dtype(q.dtype),
        **arguments,
    )
    if shares_keys:
        grad_k, grad_v = (
            rows.unflatten(-2, (problem.key_heads, -1)).sum(dim=-2).to(k.dtype) for rows in (grad_k, grad_v)
        )
    grad_table = None
    if wanted.table:
        grad_table = _sum_over_groups(problem, partial, distances, square, arguments["SHAPE"].BEYOND)
    return grad_q, grad_k, grad_v, grad_table, grad_key_bias, grad_logit_scale


def _sum_over_groups(problem: Problem, partial: Tensor, distances: int, square: int, beyond: int) -> Tensor:
    """Gradient of the table from what each group of sequences gives, see ``p_partial`` of ``short_backward_kernel``."""
    own = problem.tile("distance_gradient")
    grad_table = torch.empty(problem.table.shape, dtype=partial.dtype, device=partial.device)
    launch.launch(
        distance_gradient_kernel,
        problem.table.shape[0] * problem.heads * cdiv(problem.table_width, own.block_n),
        p_partial=partial,
        p_grad_table=grad_table,
        width=problem.table_width,
        groups=partial.shape[0] // problem.table.shape[0],
        heads=problem.heads,
        DISTANCES=distances,
        SQUARE=square,
        BLOCK_G=own.block_m,
        BLOCK_W=own.block_n,
        BEYOND=beyond,
        num_warps=own.num_warps,
        maxnreg=own.max_registers,
    )
    return grad_table


@functools.lru_cache(4096)
def _cut(tile: tiles.Tile, longest: int) -> tiles.Tile:
    """A tile no larger than the longest row needs, with as many warps fewer."""
    block = max(SMALLEST_TILE, power_of_two(longest))
    larger = max(tile.block_m, tile.block_n)
    warps = max(1, tile.num_warps * min(block, larger) // larger)
    return tile._replace(block_m=min(block, tile.block_m), block_n=min(block, tile.block_n), num_warps=warps)


def _short_arguments(problem: Problem, tile: tiles.Tile, *rows: Tensor) -> tuple[int, dict]:
    """Groups of sequences that share a program, and what the kernels for short rows take.

    ``rows``: all tensors of rows; sequences share a tile only where each follows the one before.
    """
    per_model = problem.sequences if problem.table is None else problem.per_model
    follow = all(each.dim() == 3 or each.stride(0) == each.shape[1] * each.stride(1) for each in rows)
    members = max(1, tile.block_n // power_of_two(max(1, problem.longest))) if follow else 1
    groups = cdiv(per_model, members) * (problem.sequences // max(1, per_model))
    arguments = problem.arguments(tile)
    shape = arguments["SHAPE"]
    if members > 1 and problem.inside is ALL:  # cells of two sequences may have any distance
        shape = problem.shape(tile, SOME)
    arguments |= dict(
        SHAPE=shape,
        sequences=groups,
        per_model=per_model,
        PACK=members,
        BLOCKS=power_of_two(cdiv(max(1, problem.longest), tile.block_n)),
    )
    return groups, arguments


def cdiv(dividend: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-dividend // divisor)


BACKWARD = {"tiles": _backward_by_tiles, "short": _backward_of_short_rows}
FORWARD = {"tiles": _forward_by_tiles, "split": _forward_by_parts, "short": _forward_of_short_rows}
