"""The positional-product regularizer: what makes position terms local in the limit (arXiv 2410.02140, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from lengen_fast.model import Transformer

BLOCK = 128  # positions whose products are formed at once; larger tables go through the [D, D] sums


def positional_product_penalty(model: Transformer) -> Tensor:
    """sum over layers l and heads h of (1/n) sum_{i >= j} S_ij^2, with S = (P W_Q)(P W_K)^T of that head.

    P is the whole [n, C] position table, W_Q and W_K the head's projections without bias or 1/sqrt(D): the term of the
    experiments' regularizer. A model without a position table has no such products: 0.

    Cost is O(n D (D + 128)) a head, not O(n^2 D): of the pairs in different blocks only the sum of squares is needed,
    and sum_{j < b} (q_i . k_j)^2 = q_i^T (sum_{j < b} k_j k_j^T) q_i.

    Returns:
        A scalar in the dtype of the parameters, with its gradient.
    """
    table = model.embedding.positions
    if table is None:
        return next(model.parameters()).new_zeros(())
    return sum(_layer_penalty(table, block.attention.qkv.weight, block.attention.heads) for block in model.blocks)


def _layer_penalty(table: Tensor, qkv_weight: Tensor, heads: int) -> Tensor:
    inner = len(qkv_weight) // 3
    projected = table @ qkv_weight[: 2 * inner].T
    queries, keys = projected.unflatten(1, (2, heads, inner // heads)).permute(1, 2, 0, 3)
    return _causal_squares(queries, keys) / len(table)


def _causal_squares(queries: Tensor, keys: Tensor) -> Tensor:
    """sum_h sum_{i >= j} (q_hi . k_hj)^2 for [H, n, D]."""
    total = queries.new_zeros(())
    gram = queries.new_zeros(queries.shape[0], queries.shape[2], queries.shape[2])
    for q, k in zip(queries.split(BLOCK, dim=1), keys.split(BLOCK, dim=1), strict=True):
        total = total + torch.matmul(q, k.mT).tril().square().sum()
        total = total + (torch.matmul(q, gram) * q).sum()
        gram = gram + torch.matmul(k.mT, k)
    return total
