"""Terms of a score that depend on the distance i - j alone, and the scale that grows with the length of a row.

A ``DistanceBias`` is a table over distance and what holds beyond it. Every function here writes a known family as such
a table, with torch operations: gradients reach the family's own parameters through it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lengen_fast.ops.packing import Packing, RowSelection

BEYOND = ("last", "zero")


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """b_h(d), added to the score of a query and the key d rows before it.

    Attributes:
        table: [H, W], the bias of each head at distances 0..W-1; may be learned.
        beyond: what holds from distance W on: "last", the last value; "zero"; or a slope [H], a line from the last
            value, ``table[h, W-1] + slope[h] * (d - W + 1)``, whose slope gets no gradient.

    Raises:
        ValueError: shapes, dtypes or ``beyond`` are not as said.
    """

    table: Tensor
    beyond: Literal["last", "zero"] | Tensor = "last"

    def __post_init__(self) -> None:
        if self.table.dim() != 2 or self.table.shape[1] == 0 or not self.table.is_floating_point():
            raise ValueError(
                f"the table of a bias must be of a floating dtype and shape [H, W] with W of at least 1, "
                f"got {tuple(self.table.shape)} and {self.table.dtype}"
            )
        if isinstance(self.beyond, Tensor):
            if self.beyond.shape != self.table.shape[:1] or self.beyond.device != self.table.device:
                raise ValueError(
                    f"beyond must be 'last', 'zero' or a slope for each of {len(self.table)} heads on "
                    f"{self.table.device}, got a tensor of shape {tuple(self.beyond.shape)} on {self.beyond.device}"
                )
        elif self.beyond not in BEYOND:
            raise ValueError(f"beyond must be 'last', 'zero' or a slope [H], got {self.beyond!r}")

    @property
    def heads(self) -> int:
        """H"""
        return len(self.table)

    def at(self, distances: Tensor) -> Tensor:
        """[H, ...]: the bias at distances [...], whole numbers from 0 on."""
        inside = self.table[:, distances.clamp(max=self.table.shape[1] - 1)]
        over = (distances - self.table.shape[1] + 1).clamp(min=0)
        if isinstance(self.beyond, Tensor):
            return inside + self.beyond.detach().view(-1, *[1] * distances.dim()) * over
        return inside if self.beyond == "last" else inside.masked_fill(over > 0, 0.0)


def alibi(slopes: int | Tensor) -> DistanceBias:
    """-m_h d: Press, Smith and Lewis, "Train Short, Test Long" (ALiBi, arXiv 2108.12409), section 3.

    Args:
        slopes: the number of heads H, for the slopes m of the paper; or m [H] itself, which then gets no gradient.
    """
    if not isinstance(slopes, Tensor):
        slopes = torch.tensor(alibi_slopes(slopes))
    slopes = slopes.detach()
    return DistanceBias(torch.zeros_like(slopes).unsqueeze(1), -slopes)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), ... for a power of two n; else those of the power below and every other one of the next.

    Press, Smith and Lewis (arXiv 2108.12409), section 3 and, for other numbers of heads, their published code.
    """
    if heads < 1:
        raise ValueError(f"the number of heads must be at least 1, got {heads}")
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-4.0 * (i + 1) / power) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


def t5(weights: Tensor, max_distance: int = 128) -> DistanceBias:
    """A learned scalar for each bucket of distances: Raffel et al., T5 (arXiv 1910.10683), section 2.1.

    Args:
        weights: [H, buckets]: of a decoder, whose buckets all look back. The first half of the buckets is one distance
            each, the second half grows logarithmically up to ``max_distance``; farther, the last bucket holds.
        max_distance: where the last bucket begins at the latest.
    """
    buckets = weights.shape[1]
    exact = buckets // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(
            f"weights must have at least 2 buckets and max_distance must exceed half of them, got {buckets} buckets "
            f"and max_distance {max_distance}"
        )
    return DistanceBias(weights[:, t5_buckets(buckets, max_distance).to(weights.device)])


def t5_buckets(buckets: int, max_distance: int) -> Tensor:
    """[max_distance + 1] int64: the bucket of each distance, as in T5's published code for a decoder.

    Bucket ``exact + m`` begins at distance ``exact * (max_distance / exact) ** (m / (buckets - exact))``.
    """
    exact = buckets // 2
    distance = torch.arange(max_distance + 1)
    steps = torch.log(distance.double().clamp(min=1) / exact) / math.log(max_distance / exact) * (buckets - exact)
    rounding = 1e-9  # where a bucket begins at a whole number, it holds that number
    far = (exact + (steps + rounding).floor().long()).clamp(max=buckets - 1)
    return torch.where(distance < exact, distance, far)


def clipped_relative(table: Tensor) -> DistanceBias:
    """A learned scalar for each distance, the last one for all that is farther.

    The clipping of Shaw, Uszkoreit and Vaswani (arXiv 1803.02155), section 3.2, for scalars in the score.

    Args:
        table: [H, W].
    """
    return DistanceBias(table, "last")


def kerple_log(r1: Tensor, r2: Tensor, length: int) -> DistanceBias:
    """-r1 log(1 + r2 d): Chi et al., KERPLE (arXiv 2205.09921), the logarithmic kernel.

    Args:
        r1, r2: [H], positive; both get gradients.
        length: rows of the longest sequence: the table holds every distance below; farther, its last value would hold.
    """
    return DistanceBias(-r1.unsqueeze(1) * torch.log1p(r2.unsqueeze(1) * _distances(length, r1)))


def kerple_power(r1: Tensor, r2: Tensor, length: int) -> DistanceBias:
    """-r1 d^r2: Chi et al., KERPLE (arXiv 2205.09921), the power kernel.

    Args:
        r1: [H], positive; r2: [H], in (0, 2]; both get gradients.
        length: rows of the longest sequence: the table holds every distance below; farther, its last value would hold.
    """
    d = _distances(length, r1)
    power = torch.where(d > 0, torch.exp(d.clamp(min=1).log() * r2.unsqueeze(1)), 0)
    return DistanceBias(-r1.unsqueeze(1) * power)


def local(phi: Tensor) -> DistanceBias:
    """phi(i, j) = phi_h(i - j) below distance W, 0 farther: the local positional function of a Limit Transformer.

    Huang et al., "A Formal Framework for Understanding Length Generalization in Transformers" (arXiv 2410.02140):
    translation-invariant, and zero beyond a finite distance.

    Args:
        phi: [H, W].
    """
    return DistanceBias(phi, "zero")


def log_n_scale(
    factor: Tensor,
    rows: Packing | tuple[int, int] | int,
    *,
    n: Literal["position", "length"] = "position",
    query_rows: Tensor | RowSelection | None = None,
) -> Tensor:
    """factor_h * log n for each row and head, as ``logit_scale`` of ``attention``.

    With n the length this is the scaling of Chiang and Cholak, "Overcoming a Theoretical Limitation of Self-Attention"
    (arXiv 2202.12172); with n = i + 1, the keys that a causal row sees, and a learned factor, that of Nakanishi,
    "Scalable-Softmax Is Superior for Attention" (arXiv 2501.19399). Differences of logits grow with log n, so that
    attention to one key need not fade as n grows.

    Args:
        factor: [H]; learned or fixed. 1 / log(n_train) makes the scale 1 at length n_train.
        rows: how the N rows are packed, or (B, T) of the batched layout, or N rows of one sequence.
        n: "position", i + 1 for row i of its sequence; or "length", the rows of the sequence.
        query_rows: the chosen rows, if ``attention`` is to compute those only.

    Returns:
        [N, H], [B, T, H], or with ``query_rows`` [P, H], in the dtype of ``factor``.
    """
    if n not in ("position", "length"):
        raise ValueError(f"n must be 'position' or 'length', got {n!r}")
    batched = isinstance(rows, tuple)
    if batched:
        packing = Packing.uniform(*rows, device=factor.device)
    else:
        packing = Packing.uniform(1, rows, device=factor.device) if isinstance(rows, int) else rows
    if n == "position":
        count = packing.position_in_sequence + 1
    else:
        count = packing.cu_seqlens.diff().long()[packing.sequence_of_row]
    if query_rows is not None:
        count = count[query_rows.rows if isinstance(query_rows, RowSelection) else query_rows]
    scale = count.double().log().to(factor.dtype).unsqueeze(1) * factor
    return scale.unflatten(0, rows) if batched else scale


def _distances(length: int, like: Tensor) -> Tensor:
    """[length]: 0, 1, ..."""
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    return torch.arange(length, dtype=like.dtype, device=like.device)
