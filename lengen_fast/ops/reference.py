"""The plain definition of every operation, in any dtype. Slow and obvious on purpose: tests trust only this."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor | None = None,
    query_rows: Tensor | None = None,
    softmax_scale: float | None = None,
) -> Tensor:
    """Causal attention of packed sequences, one query at a time.

    Args:
        q, k, v: [N, H, D].
        cu_seqlens: [B+1], first row of each sequence, then N; None means one sequence.
        query_rows: [P] int64, the rows to compute; None means all.
        softmax_scale: factor of the logits, 1/sqrt(D) if None.

    Returns:
        [N, H, D], or [P, H, D] with ``query_rows``.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if softmax_scale is None else softmax_scale
    bounds = [0, len(k)] if cu_seqlens is None else cu_seqlens.tolist()
    starts = [begin for begin, end in pairwise(bounds) for _ in range(begin, end)]
    rows = range(len(k)) if query_rows is None else query_rows.tolist()
    outputs = []
    for row in rows:
        keys, values = k[starts[row] : row + 1], v[starts[row] : row + 1]
        weights = torch.softmax(scale * torch.einsum("hd,jhd->hj", q[row], keys), dim=-1)
        outputs.append(torch.einsum("hj,jhd->hd", weights, values))
    return torch.stack(outputs) if outputs else q.new_zeros(0, *q.shape[1:])


def embed(
    tokens: Tensor,
    token_table: Tensor,
    position_table: Tensor | None = None,
    *,
    cu_seqlens: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Token vector plus position vector, one row at a time. Shapes as in ``lengen_fast.ops.embed``."""
    bounds = [0, len(tokens)] if cu_seqlens is None else cu_seqlens.tolist()
    outputs = []
    for sequence, (begin, end) in enumerate(pairwise(bounds)):
        offset = 0 if offsets is None else int(offsets[sequence])
        for row in range(begin, end):
            vector = token_table[tokens[row]]
            outputs.append(vector if position_table is None else vector + position_table[row - begin + offset])
    return torch.stack(outputs) if outputs else token_table.new_zeros(0, token_table.shape[1])


def positional_product_penalty(
    position_table: Tensor, query_weights: list[Tensor], key_weights: list[Tensor], heads: int
) -> Tensor:
    """sum over layers and heads of (1/n) sum_{i >= j} (p_i W_Q . p_j W_K)^2, by the full n x n products.

    Args:
        position_table: [n, C]; query_weights, key_weights: [C, C] of each layer, applied as ``P @ W.T``.
    """
    n, width = position_table.shape
    total = position_table.new_zeros(())
    for query_weight, key_weight in zip(query_weights, key_weights, strict=True):
        queries = (position_table @ query_weight.T).view(n, heads, width // heads)
        keys = (position_table @ key_weight.T).view(n, heads, width // heads)
        products = torch.einsum("ihd,jhd->hij", queries, keys).tril()
        total = total + products.square().sum() / n
    return total
