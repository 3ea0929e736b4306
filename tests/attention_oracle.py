"""Causal attention with every option, by its definition: one matrix of logits per sequence and head, in any dtype; and
how far from it a result may be."""

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
    cu_seqlens: Tensor | None,
    softmax_scale: float,
    table: Tensor | None = None,
    beyond: str = "last",
    slope: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_scale: Tensor | None = None,
    window: int | None = None,
    query_rows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp in base 2, shapes as in ``lengen_kernels.attention.forward``; everything in q's dtype."""
    if q.dim() == 4:
        sequences, length = q.shape[:2]
        bounds = torch.arange(sequences + 1) * length
        options = dict(table=table, beyond=beyond, slope=slope, window=window, softmax_scale=softmax_scale)
        flat = {"key_bias": key_bias, "logit_scale": logit_scale}
        flat = {name: None if rows is None else rows.flatten(0, 1) for name, rows in flat.items()}
        out, lse = attention(*(rows.flatten(0, 1) for rows in (q, k, v)), cu_seqlens=bounds, **options, **flat)
        return out.unflatten(0, (sequences, length)), lse.unflatten(0, (sequences, length))

    bounds = cu_seqlens.tolist()
    rows = torch.arange(len(k)) if query_rows is None else query_rows.cpu().long()
    outputs, sums = [q.new_zeros(0, *q.shape[1:])], [q.new_zeros(0, q.shape[1])]
    for sequence, (begin, end) in enumerate(pairwise(bounds)):
        chosen = ((rows >= begin) & (rows < end)).nonzero().flatten()
        if not len(chosen):
            continue
        position = rows[chosen] - begin
        length = int(position.max()) + 1
        distance = position[:, None] - torch.arange(length)
        share = q.shape[1] // k.shape[1]
        keys, values = (x[begin : begin + length].repeat_interleave(share, dim=1) for x in (k, v))
        logits = torch.einsum("ihd,jhd->hij", q[chosen], keys) * softmax_scale
        if logit_scale is not None:
            logits = logits * logit_scale[chosen].T[:, :, None].to(q.dtype)
        if key_bias is not None:
            logits = logits + key_bias[begin : begin + length].T[:, None, :].to(q.dtype)
        if table is not None:
            model = sequence // ((len(bounds) - 1) // len(table))
            steepness = None if slope is None else slope[model]
            logits = logits + _bias(distance.clamp(min=0), table[model], beyond, steepness).to(q.dtype)
        hidden = distance < 0
        if window is not None:
            hidden = hidden | (distance >= window)
        logits = logits.masked_fill(hidden, float("-inf"))
        outputs.append(torch.einsum("hij,jhd->ihd", torch.softmax(logits, dim=-1), values))
        sums.append(torch.logsumexp(logits, dim=-1).T * torch.log2(torch.tensor(torch.e)).item())
    return torch.cat(outputs), torch.cat(sums)


def _bias(distance: Tensor, table: Tensor, beyond: str, slope: Tensor | None) -> Tensor:
    """[H, ...] of the distances, from a table [H, W]."""
    width = table.shape[-1]
    bias = table[:, distance.clamp(max=width - 1)]
    over = (distance - (width - 1)).clamp(min=0)
    if beyond == "zero":
        return torch.where(over > 0, torch.zeros_like(bias), bias)
    if beyond == "line":
        return bias + slope[:, None, None] * over
    return bias


def ulp(largest: float, dtype: torch.dtype) -> float:
    """Distance of neighbouring numbers of ``dtype`` at ``largest``."""
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 0.0


def assert_errors_are_small_and_lean_to_no_side(actual: Tensor, eager: Tensor, exact: Tensor, slack: float) -> None:
    """Twice the error of ``eager``, the definition in the same dtype, and ``slack``, both as maximum and as root mean
    square; and a mean of at most a tenth of that, up to what chance gives to so many numbers."""
    error, allowed = actual.cpu().double() - exact, eager.cpu().double() - exact
    rms = float(error.square().mean().sqrt())
    assert float(error.abs().max()) <= 2 * float(allowed.abs().max()) + slack
    assert rms <= 2 * float(allowed.square().mean().sqrt()) + slack
    assert abs(float(error.mean())) <= 0.1 * rms + 4 * rms / error.numel() ** 0.5
