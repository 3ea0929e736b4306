"""The regularizer R(T) of the idealized inference, and the part of it that experiments train with (arXiv 2410.02140).

Letters: n positions, C model width, H heads, D head width. R is defined for a transformer without layer normalization;
one that has it is read as if its normalizations only applied their gains. Whatever is multiplied onto a matrix is part
of it: the gain before it, and for K^T Q the 1/sqrt(D) of the logits and the factor of log-n scaling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from lengen_fast.model import Transformer

BLOCK = 128  # positions whose products are formed at once; larger tables go through the [D, D] sums
RANK_TOLERANCE = torch.finfo(torch.float32).eps  # times C, relative to the largest singular value


@dataclass(frozen=True)
class Regularizer:
    """R(T), the sum of these terms (arXiv 2410.02140, section 3).

    What kinds of terms are summed is certain; the exact list of norms, and which norm each is, is not. Here they are
    spectral norms of products and of the unembedding, Frobenius norms of the matrices of an MLP (whose units no other
    term counts) and Euclidean norms of vectors, and of each kind the largest.

    Attributes:
        size: L + H.
        precision: fractional bits of the parameters, the least p such that each is a multiple of 2^-p. The paper also
            counts the bits to which logits and exponentials are rounded; a model here rounds neither.
        value_rank: greatest numerical rank of a head's value matrix, output times value projection. Singular values up
            to ``C * RANK_TOLERANCE`` of the largest one count as 0.
        query_key_norm: greatest spectral norm of a head's K^T Q.
        value_norm: greatest spectral norm of a head's value matrix.
        expand_norm, contract_norm: greatest Frobenius norm of an MLP's first matrix A, and of its second, B.
        unembedding_norm: spectral norm of U.
        bias_norm: greatest Euclidean norm of a bias, of a projection or normalization too.
        token_norm, position_norm: greatest Euclidean norm of a token's and of a position's vector.
        positional: sum over layers, heads and all n positions i of |p_1^T K^T Q p_i + phi(i - 1)|^2, where phi is the
            head's learned bias by distance, if it has one: this forces position terms to be local.
    """

    size: int
    precision: int
    value_rank: int
    query_key_norm: float
    value_norm: float
    expand_norm: float
    contract_norm: float
    unembedding_norm: float
    bias_norm: float
    token_norm: float
    position_norm: float
    positional: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: Transformer) -> Regularizer:
        """R of a model, worked out in fp64."""
        blocks = [_Block(block) for block in model.blocks]
        heads = [head for block in blocks for head in block.heads]
        values = [_product_values(head.out, head.value) for head in heads]
        table, embedding = _table(model), model.embedding
        unembedding = embedding.tokens if embedding.tied else embedding.unembedding
        return cls(
            size=model.config.layers + model.config.heads,
            precision=fractional_bits(model),
            value_rank=max(int((v > model.config.width * RANK_TOLERANCE * v[0]).sum()) for v in values),
            query_key_norm=_largest(_product_values(head.key.T, head.query)[0] for head in heads),
            value_norm=_largest(v[0] for v in values),
            expand_norm=_largest(torch.linalg.matrix_norm(block.expand) for block in blocks),
            contract_norm=_largest(torch.linalg.matrix_norm(block.contract) for block in blocks),
            unembedding_norm=float(torch.linalg.matrix_norm(_fold(unembedding, model.final_norm), ord=2)),
            bias_norm=_largest(x.double().norm() for name, x in model.named_parameters() if name.endswith(".bias")),
            token_norm=_largest(embedding.tokens.double().norm(dim=1)),
            position_norm=0.0 if table is None else _largest(table.norm(dim=1)),
            positional=sum(float(logits[:, :, 0].square().sum()) for logits in positional_logits(model, keys=1)),
        )

    @property
    def norms(self) -> float:
        """Sum of the norms."""
        return sum(getattr(self, field.name) for field in fields(self) if field.name.endswith("_norm"))

    @property
    def total(self) -> float:
        """R(T)."""
        return sum(asdict(self).values())

    def as_dict(self) -> dict:
        """Every term, and ``total``."""
        return asdict(self) | {"total": self.total}


def fractional_bits(model: nn.Module) -> int:
    """The least p such that every parameter is a multiple of 2^-p."""
    return max(_fractional_bits(parameter.detach()) for parameter in model.parameters())


def _fractional_bits(values: Tensor) -> int:
    mantissa, exponent = torch.frexp(values.double()[values != 0])
    if not len(mantissa):
        return 0
    integer = (mantissa * 2.0**53).to(torch.int64)
    lowest_bit = torch.log2((integer & -integer).double()).to(torch.int64)  # exact for powers of two
    return max(0, int((53 - lowest_bit - exponent).max()))


# ---- products of positions ----


@torch.no_grad()
def positional_logits(model: Transformer, positions: int | None = None, keys: int | None = None) -> list[Tensor]:
    """What positions alone add to the logits: for each layer [H, n, m] with p_j^T K^T Q p_i + phi(i - j) at (i, j).

    fp64, for all i and j; a causal model uses those with j <= i. Queries are the first ``positions`` of the model, keys
    the first ``keys`` of these; None: all. Nothing comes of a model without position vectors and biases by distance.
    """
    n = min(model.config.context, positions or model.config.context)
    table, columns = _table(model), n if keys is None else keys
    layers = []
    for block in model.blocks:
        attention = block.attention
        if table is None and attention.local_bias is None:
            continue
        logits = attention.qkv.weight.new_zeros(attention.heads, n, columns, dtype=torch.float64)
        if table is not None:
            q, k = _project(table[:n], _Block(block).query_key, attention.heads)
            logits += q @ k[:, :columns].mT
        if attention.local_bias is not None:
            logits += _by_distance(attention.local_bias.double(), n, columns)
        layers.append(logits)
    return layers


def _by_distance(bias: Tensor, rows: int, columns: int) -> Tensor:
    """[H, W] by distance to [H, rows, columns]: 0 for negative distances and from W on."""
    distance = torch.arange(rows)[:, None] - torch.arange(columns)
    reach = bias.shape[1]
    there = (distance >= 0) & (distance < reach)
    return bias[:, distance.clamp(0, reach - 1)] * there


def _table(model: Transformer) -> Tensor | None:
    """[n, C] fp64: the vector of each position; a periodic table over and over."""
    table, period = model.embedding.positions, model.embedding.period
    if table is None:
        return None
    return table.double() if period is None else table.double()[torch.arange(model.config.context) % period]


def positional_product_penalty(model: Transformer) -> Tensor:
    """sum over layers l and heads h of (1/n) sum_{i >= j} S_ij^2, with S = (P W_Q)(P W_K)^T of that head.

    P is the whole [n, C] position table, W_Q and W_K the head's projections without bias or 1/sqrt(D): the term of the
    experiments' regularizer. It stands for the positional term of R(T), which fixes one position of each pair; this
    averages over it. A model without a position table has no such products: 0.

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
    return _causal_squares(*_project(table, qkv_weight[: 2 * inner], heads)) / len(table)


def _project(table: Tensor, weight: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Queries and keys [H, n, D] of a table [n, C]; ``weight`` [2 H D, C]: queries' rows, then keys'."""
    queries, keys = (table @ weight.T).unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3)
    return queries, keys


def _causal_squares(queries: Tensor, keys: Tensor) -> Tensor:
    """sum_h sum_{i >= j} (q_hi . k_hj)^2 for [H, n, D]."""
    total = queries.new_zeros(())
    gram = queries.new_zeros(queries.shape[0], queries.shape[2], queries.shape[2])
    for q, k in zip(queries.split(BLOCK, dim=1), keys.split(BLOCK, dim=1), strict=True):
        total = total + torch.matmul(q, k.mT).tril().square().sum()
        total = total + (torch.matmul(q, gram) * q).sum()
        gram = gram + torch.matmul(k.mT, k)
    return total


# ---- the matrices that the theory names ----


@dataclass(frozen=True)
class _Head:
    """query, key and value [D, C], out [C, D]."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor


class _Block:
    """The matrices of one block in fp64, with what is multiplied onto them.

    Attributes:
        query_key: [2 H D, C], query and key projections; the products are the logits'.
        heads: one ``_Head`` each.
        expand, contract: [4C, C] and [C, 4C].
    """

    def __init__(self, block: nn.Module):
        attention = block.attention
        heads, inner = attention.heads, attention.out.in_features
        query, key, value = _fold(attention.qkv.weight, block.attention_norm).split(inner)
        scale = (inner // heads) ** -0.5 * torch.ones(heads, dtype=torch.float64)
        if attention.log_n_factor is not None:
            scale = scale * attention.log_n_factor.double()
        query = query * scale.repeat_interleave(inner // heads)[:, None]
        self.query_key = torch.cat((query, key))
        parts = (part.chunk(heads) for part in (query, key, value))
        self.heads = [_Head(*each) for each in zip(*parts, attention.out.weight.double().chunk(heads, 1), strict=True)]
        self.expand = _fold(block.mlp.expand.weight, block.mlp_norm)
        self.contract = block.mlp.contract.weight.double()


def _fold(weight: Tensor, norm: nn.Module) -> Tensor:
    """[.., C] fp64: a matrix with the gain of the normalization before it, if it has one."""
    gain = getattr(norm, "weight", None)
    return weight.double() if gain is None else weight.double() * gain.double()


def _product_values(left: Tensor, right: Tensor) -> Tensor:
    """The singular values, falling, of left [C, D] times right [D, C] that can differ from 0."""
    return torch.linalg.svdvals(torch.linalg.qr(left)[1] @ torch.linalg.qr(right.T)[1].T)


def _largest(values: Iterable[Tensor]) -> float:
    return max(float(value) for value in values)
