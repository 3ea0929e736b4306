"""Attention in PyTorch operations, a sequence and a block of queries at a time: for fp64, and where no kernel serves.

The functions have the signature of the Triton launchers, ``lengen_kernels.attention``. Nothing of size T x T is kept:
the backward pass computes each block anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lengen_fast.ops import packing

QUERIES = 256  # of a block


def forward(
    q: Tensor, k: Tensor, v: Tensor, *, out_dtype: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Output, shaped like q, and the logarithm of every row's sum of exponentials [..., H]."""
    problem = _Problem(q, k, v, **options)
    parts = [problem.attend(block) for block in problem.blocks()]
    out, lse = (torch.cat([part[i] for part in parts]) if parts else q.new_empty(0) for i in (0, 1))
    return out.to(out_dtype or q.dtype).view(q.shape), lse.view(q.shape[:-1])


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    needs_table: bool = False,
    needs_key_bias: bool = False,
    needs_logit_scale: bool = False,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, table, key_bias and logit_scale; None where it is not needed."""
    problem = _Problem(q, k, v, **options)
    grad_out, out = (_rows(x).to(problem.dtype) for x in (grad_out, out))
    totals = {name: None if x is None else torch.zeros_like(x) for name, x in problem.operands.items()}
    for block in problem.blocks():
        problem.differentiate(block, grad_out[block.queries], out[block.queries], totals)
    needs = {"table": needs_table, "key_bias": needs_key_bias, "logit_scale": needs_logit_scale}
    given = {"q": q, "k": k, "v": v, **options}
    names = ("q", "k", "v", *needs)
    return tuple(totals[name].view(given[name].shape) if needs.get(name, True) else None for name in names)


class _Block:
    """Some queries of one sequence, and the keys up to the last of them."""

    def __init__(self, sequence: int, queries: slice, keys: slice, positions: Tensor):
        self.sequence, self.queries, self.keys = sequence, queries, keys
        keys_there = torch.arange(keys.stop - keys.start, device=positions.device)
        self.distance = positions.unsqueeze(1) - keys_there  # [R, S]


class _Problem:
    """Operands as packed rows in the dtype of the sums, and the terms of a score."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        softmax_scale: float,
        cu_seqlens: Tensor | None = None,
        query_rows: Tensor | None = None,
        table: Tensor | None = None,
        beyond: str = "last",
        slope: Tensor | None = None,
        key_bias: Tensor | None = None,
        logit_scale: Tensor | None = None,
        window: int | None = None,
        **unused: Any,
    ):
        self.dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        if cu_seqlens is None:
            self.bounds = [k.shape[1] * i for i in range(len(k) + 1)]
        else:
            packing.check_bounds(cu_seqlens, len(k))
            self.bounds = cu_seqlens.tolist()
        if query_rows is not None:
            packing.check_rows(query_rows, self.bounds[-1])
        self.rows = torch.arange(self.bounds[-1], device=k.device) if query_rows is None else query_rows
        self.scale, self.beyond, self.slope, self.window = softmax_scale, beyond, slope, window
        self.operands = {"q": _rows(q), "k": _rows(k), "v": _rows(v), "table": table}
        self.operands |= {
            name: None if x is None else (x.flatten(0, 1) if x.dim() == 3 else x)
            for name, x in (("key_bias", key_bias), ("logit_scale", logit_scale))
        }
        self.operands = {name: None if x is None else x.to(self.dtype) for name, x in self.operands.items()}

    def blocks(self) -> Iterator[_Block]:
        """In the order of the queries."""
        first = torch.searchsorted(self.rows, torch.tensor(self.bounds, device=self.rows.device)).tolist()
        for sequence, start in enumerate(self.bounds[:-1]):
            for begin in range(first[sequence], first[sequence + 1], QUERIES):
                queries = slice(begin, min(begin + QUERIES, first[sequence + 1]))
                rows = self.rows[queries]
                yield _Block(sequence, queries, slice(start, int(rows[-1]) + 1), rows - start)

    def attend(self, block: _Block) -> tuple[Tensor, Tensor]:
        """Output [R, H, D] and logarithms of sums [R, H] of a block."""
        _, scores, v = self._scores(block)
        return torch.einsum("hrs,shd->rhd", scores.softmax(-1), v), scores.logsumexp(-1).T

    def differentiate(self, block: _Block, grad_out: Tensor, out: Tensor, totals: dict[str, Tensor | None]) -> None:
        """Add the gradients of a block to ``totals``."""
        products, scores, v = self._scores(block)
        q, k = self.operands["q"][block.queries], self.operands["k"][block.keys]
        weights = scores.softmax(-1)
        delta = (grad_out * out).sum(-1).T.unsqueeze(-1)
        slopes = weights * (torch.einsum("rhd,shd->hrs", grad_out, v) - delta)  # of the scores
        if totals["logit_scale"] is not None:
            totals["logit_scale"][block.queries] += (slopes * products).sum(-1).T
        if totals["key_bias"] is not None:
            totals["key_bias"][block.keys] += slopes.sum(1).T
        if totals["table"] is not None:
            self._add_to_table(totals["table"], block, slopes)
        factors = slopes * (self.scale if self.factors is None else self.scale * self._factors(block))
        totals["q"][block.queries] += torch.einsum("hrs,shd->rhd", factors, k.expand(-1, q.shape[1], -1))
        for name, rows, weight in (("k", q, factors), ("v", grad_out, weights)):
            gradient = torch.einsum("hrs,rhd->shd", weight, rows)
            shared = totals[name].shape[1] != gradient.shape[1]
            totals[name][block.keys] += gradient.sum(1, keepdim=True) if shared else gradient

    @property
    def factors(self) -> Tensor | None:
        return self.operands["logit_scale"]

    def _factors(self, block: _Block) -> Tensor:
        return self.factors[block.queries].T.unsqueeze(2)

    def _scores(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled products [H, R, S], scores [H, R, S] and values [S, H, D]."""
        q, k, v = (self.operands[name] for name in "qkv")
        q, k, v = q[block.queries], k[block.keys], v[block.keys]
        k, v = (x.expand(-1, q.shape[1], -1) for x in (k, v))
        products = scores = self.scale * torch.einsum("rhd,shd->hrs", q, k)
        if self.factors is not None:
            scores = scores * self._factors(block)
        if self.operands["key_bias"] is not None:
            scores = scores + self.operands["key_bias"][block.keys].T.unsqueeze(1)
        distance = block.distance
        if self.operands["table"] is not None:
            scores = scores + self._bias(distance, self._model(block))
        hidden = distance < 0
        if self.window is not None:
            hidden = hidden | (distance >= self.window)
        return products, scores.masked_fill(hidden, -torch.inf), v

    def _model(self, block: _Block) -> int:
        return block.sequence * len(self.operands["table"]) // (len(self.bounds) - 1)

    def _bias(self, distance: Tensor, model: int) -> Tensor:
        """[H, R, S] of distances [R, S]."""
        table = self.operands["table"][model]
        width = table.shape[-1]
        values = table[:, distance.clamp(0, width - 1)]
        if self.beyond == "zero":
            values = values.masked_fill(distance >= width, 0)
        elif self.beyond == "line":
            past = (distance - width + 1).clamp(min=0)
            values = values + self.slope[model].to(values)[:, None, None] * past
        return values

    def _add_to_table(self, total: Tensor, block: _Block, slopes: Tensor) -> None:
        distance, width = block.distance, total.shape[-1]
        if self.beyond == "zero":
            slopes = slopes.masked_fill(distance >= width, 0)
        places = distance.clamp(0, width - 1).flatten()
        total[self._model(block)].index_add_(1, places, slopes.flatten(1))


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, 1) if x.dim() == 4 else x
