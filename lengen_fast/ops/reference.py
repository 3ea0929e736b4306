"""The plain definition of every operation, in any dtype. Slow and obvious on purpose: tests trust only this."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lengen_fast.ops.bias import DistanceBias


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | DistanceBias | None = None,
    key_bias: Tensor | None = None,
    logit_scale: Tensor | None = None,
    window: int | None = None,
    cu_seqlens: Tensor | None = None,
    query_rows: Tensor | None = None,
    softmax_scale: float | None = None,
) -> Tensor:
    """Causal attention of packed sequences, one query at a time.

    Args:
        q: [N, H, D] or [B, T, H, D]; k, v: the same, or [N, 1, D] for all heads.
        bias: [H, W], or a ``DistanceBias``, added by the distance of query and key.
        key_bias: [N, H] or [B, T, H], added by key.
        logit_scale: [N, H] or [B, T, H], factor of the products of a query.
        window: how many of the last keys a query sees; None means all.
        cu_seqlens: [B+1], first row of each sequence, then N; None means one sequence.
        query_rows: [P] int32 or int64, the rows to compute; None means all.
        softmax_scale: factor of the products, 1/sqrt(D) if None.

    Returns:
        [N, H, D] or [B, T, H, D], or [P, H, D] with ``query_rows``.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if softmax_scale is None else softmax_scale
    if q.dim() == 4:
        terms = [(None,) * len(q) if x is None else x for x in (key_bias, logit_scale)]
        outputs = [
            attention(*one[:3], bias=bias, key_bias=one[3], logit_scale=one[4], window=window, softmax_scale=scale)
            for one in zip(q, k, v, *terms, strict=True)
        ]
        return torch.stack(outputs) if outputs else torch.zeros_like(q)
    bounds = [0, len(k)] if cu_seqlens is None else cu_seqlens.tolist()
    starts = [begin for begin, end in pairwise(bounds) for _ in range(begin, end)]
    k, v = (x.expand(-1, q.shape[1], -1) for x in (k, v))
    rows = range(len(k)) if query_rows is None else query_rows.tolist()
    outputs = []
    for row in rows:
        first = starts[row] if window is None else max(starts[row], row - window + 1)
        keys, values = k[first : row + 1], v[first : row + 1]
        logits = scale * torch.einsum("hd,jhd->hj", q[row], keys)
        if logit_scale is not None:
            logits = logits * logit_scale[row].unsqueeze(1)
        if key_bias is not None:
            logits = logits + key_bias[first : row + 1].T
        if bias is not None:
            logits = logits + _bias_at(bias, range(row - first, -1, -1))
        outputs.append(torch.einsum("hj,jhd->hd", torch.softmax(logits, dim=-1), values))
    return torch.stack(outputs) if outputs else q.new_zeros(0, *q.shape[1:])


def _bias_at(bias: Tensor | DistanceBias, distances: Sequence[int]) -> Tensor:
    """[H, len(distances)]"""
    table, beyond = (bias, "last") if isinstance(bias, Tensor) else (bias.table, bias.beyond)
    width = table.shape[1]
    columns = []
    for distance in distances:
        if distance < width:
            columns.append(table[:, distance])
        elif isinstance(beyond, Tensor):
            columns.append(table[:, width - 1] + beyond * (distance - width + 1))
        else:
            columns.append(table[:, width - 1] if beyond == "last" else torch.zeros_like(table[:, 0]))
    return torch.stack(columns, dim=1)


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
