"""Shapes, operands and contenders of the attention benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lengen_fast.ops import DistanceBias, attention, bias, log_n_scale

HEADS = 4


@dataclass(frozen=True)
class Case:
    """One shape and kind of bias."""

    batch: int
    length: int
    width: int
    kind: str
    heads: int = HEADS

    @property
    def name(self) -> str:
        return f"B {self.batch}, T {self.length}, H {self.heads}, D {self.width}, {self.kind}"

    def flop(self, backward: bool) -> float:
        """Of the causal half of both products; 2.5 times as many more for the backward pass."""
        pairs = self.batch * self.heads * self.length * (self.length + 1) / 2
        return 4 * pairs * self.width * (3.5 if backward else 1)

    @property
    def is_learned(self) -> bool:
        return self.kind.startswith("table")


@dataclass
class Operands:
    """What a case computes from; leaves have gradients.

    Attributes:
        q, k, v, grad_out: [B, T, H, D]; table: [H, T], of a learned bias or ALiBi; factor: [H] of log n.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    grad_out: Tensor
    table: Tensor
    factor: Tensor

    @classmethod
    def draw(cls, case: Case, device: str, dtype: torch.dtype) -> Operands:
        generator = torch.Generator(device).manual_seed(0)
        shape = case.batch, case.length, case.heads, case.width
        rows = torch.randn(4, *shape, device=device, generator=generator).to(dtype).unbind()
        q, k, v = (x.clone().requires_grad_() for x in rows[:3])
        if case.kind == "alibi":
            distance = torch.arange(case.length, device=device)
            table = -torch.tensor(bias.alibi_slopes(case.heads), device=device).unsqueeze(1) * distance
        else:
            table = 0.1 * torch.randn(case.heads, case.length, device=device, generator=generator)
        factor = torch.full((case.heads,), 1 / math.log(max(2, case.length)), device=device)
        return cls(q, k, v, rows[3], table.requires_grad_(case.is_learned), factor)

    def leaves(self, case: Case) -> list[Tensor]:
        return [self.q, self.k, self.v] + [self.table] * case.is_learned

    def log_n(self) -> Tensor:
        """[B, T, H]"""
        return log_n_scale(self.factor, tuple(self.q.shape[:2]))

    def scaled_q(self, case: Case) -> Tensor:
        """q times log n where the case has it, as those without such a term do it."""
        if "log-n" not in case.kind:
            return self.q
        seen = torch.arange(1, case.length + 1, device=self.q.device).log()
        return self.q * (seen.unsqueeze(1) * self.factor).unsqueeze(-1).to(self.q.dtype)


Contender = Callable[[], Tensor]
"""Computes [B, T, H, D]."""


def our_attention(case: Case, operands: Operands) -> Contender:
    term = scale = None
    if case.kind == "alibi":
        term = bias.alibi(torch.tensor(bias.alibi_slopes(case.heads), device=operands.q.device))
    elif case.is_learned:
        term = DistanceBias(operands.table)
    if "log-n" in case.kind:
        scale = operands.log_n()
    return lambda: attention(operands.q, operands.k, operands.v, bias=term, logit_scale=scale)


def sdpa(case: Case, operands: Operands, mask: Callable[[], Tensor | None]) -> Contender:
    """scaled_dot_product_attention with a dense mask, or None for the causal flag."""

    def compute() -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (operands.scaled_q(case), operands.k, operands.v))
        dense = mask()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=dense, is_causal=dense is None).transpose(1, 2)

    return compute


def dense_bias(table: Tensor) -> Tensor:
    """[H, T] to [H, T, T] by indexing, -inf at later keys."""
    distance = torch.arange(table.shape[1], device=table.device)
    distance = distance.unsqueeze(1) - distance
    return table[:, distance.clamp(min=0)].masked_fill(distance < 0, -math.inf)


def eager_attention(case: Case, operands: Operands, mask: Tensor) -> Contender:
    def compute() -> Tensor:
        logits = torch.einsum("bihd,bjhd->bhij", operands.scaled_q(case), operands.k) / math.sqrt(case.width)
        weights = torch.softmax(logits.float() + mask, dim=-1).to(operands.v.dtype)
        return torch.einsum("bhij,bjhd->bihd", weights, operands.v)

    return compute
