"""Causal attention over packed sequences: the one place that chooses how it is computed.

On every device it goes through PyTorch's scaled_dot_product_attention, on a padded layout that exists only inside this
file. No tensor of size T x T is ever made: all rows at once use the causal flag, and chosen rows (``query_rows``) are
taken in blocks whose mask stays below ``MASK_BUDGET`` elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lengen_fast.ops import cpu
from lengen_fast.ops.packing import Packing, RowSelection

MASK_BUDGET = 1 << 24  # elements of the largest mask, 64 MiB in fp32
BUCKETED_WORK = 1 << 22  # B Tq T H D from which a CPU pads in buckets of similar length


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    softmax_scale: float | None = None,
    cu_seqlens: Tensor | Packing | None = None,
    query_rows: Tensor | RowSelection | None = None,
) -> Tensor:
    """Exact causal attention: row i attends to the rows j <= i of its own sequence.

    Args:
        q: [N, H, D] packed, or [B, T, H, D]; with ``query_rows``, [P, H, D]: only the chosen rows.
        k, v: [N, H, D] packed, or [B, T, H, D]; with ``query_rows`` also [N, 1, D], which all heads of q share.
        softmax_scale: factor of the logits; 1/sqrt(D) if None.
        cu_seqlens: [B+1] int32 or int64, the first packed row of each sequence, then N; or a ``Packing``, which also
            carries what several calls on the same rows can share. None for [B, T, H, D] or one packed sequence.
        query_rows: [P] int64, increasing rows of k to compute, as in the scored rows of a last layer or one decoding
            step; cost is proportional to P x T. Needs packed k and v. A ``RowSelection`` carries what layers can share.

    Returns:
        [N, H, D], [B, T, H, D], or with ``query_rows`` [P, H, D]; dtype of q.

    Raises:
        ValueError: shapes, devices or dtypes that do not fit together, ``cu_seqlens`` that do not cover the rows, or
            ``query_rows`` that are out of range.
    """
    _check_keys(k, v)
    if k.dim() == 4 and not (cu_seqlens is None and query_rows is None):
        raise ValueError("cu_seqlens and query_rows need packed q, k and v, [N, H, D], not [B, T, H, D]")
    packing = Packing.of(k, cu_seqlens) if k.dim() == 3 else None
    chosen = None if query_rows is None else RowSelection.of(packing, query_rows)
    _check_operands(q, k, v, k.shape if chosen is None else (len(chosen), _heads(q, k), k.shape[2]))
    scale = 1 / math.sqrt(q.shape[-1]) if softmax_scale is None else softmax_scale
    if q.numel() == 0:
        return q.clone()  # nothing to compute, and still in the graph
    if scale <= 0:
        q, scale = q * scale, 1.0  # the CPU's kernel multiplies masked scores, -inf, by the scale: NaN
    if packing is None:
        return _causal(q, k, v, scale)
    if cpu.serves(q, k, v) and not torch.compiler.is_compiling():
        return _Packed.apply(q, k, v, packing.bounds, None if chosen is None else chosen.rows, scale)
    bucketed = _is_worth_buckets(q, packing, packing if chosen is None else chosen.packing)
    layout = packing.bucketed_layout if bucketed else packing.layout
    if chosen is None:
        return layout.unpad([_causal(*padded, scale) for padded in layout.pad(q, k, v)])
    queries = chosen.bucketed_layout if bucketed else chosen.layout
    last_keys = chosen.bucketed_last_keys if bucketed else chosen.last_keys
    keys = [(memory, memory) for (memory,) in layout.pad(k)] if k is v else layout.pad(k, v)
    parts = zip(queries.pad(q), keys, last_keys, strict=True)
    return queries.unpad([_chosen_rows(*part_q, *part_kv, limit, scale) for part_q, part_kv, limit in parts])


class _Packed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, rows: Tensor | None, scale: float) -> Tensor:
        out, softmax = cpu.attention_forward(q, k, v, bounds, rows, scale)
        ctx.save_for_backward(q, k, v, out, softmax, bounds, rows)
        ctx.scale = scale
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        q, k, v, out, softmax, bounds, rows = ctx.saved_tensors
        return *cpu.attention_backward(gradient, out, softmax, q, k, v, bounds, rows, ctx.scale), None, None, None


def _is_worth_buckets(q: Tensor, keys: Packing, queries: Packing) -> bool:
    """Whether padding to the longest costs more than several calls on sequences of similar length."""
    if q.device.type != "cpu" or keys.is_uniform:
        return False
    return keys.sequences * queries.longest * keys.longest * q[0].numel() >= BUCKETED_WORK


def _causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """[B, T, H, D] each; padded rows come last in their sequence, so no kept row ever attends to one."""
    if q.numel() == 0:
        return torch.zeros_like(q)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, scale=scale
    )
    return out.transpose(1, 2)


def _chosen_rows(q: Tensor, k: Tensor, v: Tensor, last_keys: Tensor, scale: float) -> Tensor:
    """q [B, most, H, D] against k, v [B, T, H or 1, D], each query up to its last key [B or 1, most]."""
    if q.numel() == 0:
        return torch.zeros_like(q)
    heads = q.shape[2]
    if heads != k.shape[2]:  # one head of keys for all: its queries are so many more rows
        folded = _chosen_rows(q.flatten(1, 2).unsqueeze(2), k, v, last_keys.repeat_interleave(heads, dim=1), scale)
        return folded.squeeze(2).unflatten(1, (-1, heads))
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    longest = k.shape[2]
    block = max(1, MASK_BUDGET // (len(last_keys) * longest))
    blocks = range(0, last_keys.shape[1], block)
    outputs = []
    for begin in blocks:
        limit = last_keys[:, begin : begin + block]
        keys = longest if len(blocks) == 1 else int(limit.max()) + 1
        mask = (torch.arange(keys, device=k.device) <= limit.unsqueeze(-1)).unsqueeze(1)
        part = q[:, :, begin : begin + block]
        outputs.append(
            F.scaled_dot_product_attention(part, k[:, :, :keys], v[:, :, :keys], attn_mask=mask, scale=scale)
        )
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return out.transpose(1, 2)


def _check_keys(k: Tensor, v: Tensor) -> None:
    if k.shape != v.shape or k.dim() not in (3, 4):
        raise ValueError(
            f"k and v must have one shape, [N, H, D] or [B, T, H, D], got {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if k.shape[-1] == 0:
        raise ValueError(f"k and v must have a head width D of at least 1, got shape {tuple(k.shape)}")


def _heads(q: Tensor, k: Tensor) -> int:
    """Heads that q must have with ``query_rows``: those of k, or any number if k has one for all of them."""
    return q.shape[1] if k.shape[1] == 1 and q.dim() == 3 and q.shape[1] > 0 else k.shape[1]


def _check_operands(q: Tensor, k: Tensor, v: Tensor, wanted: Sequence[int]) -> None:
    if not q.is_floating_point():
        raise ValueError(f"q, k and v must be of a floating dtype, got {q.dtype}")
    if q.shape != wanted:
        raise ValueError(f"q must have shape {tuple(wanted)} to go with k and query_rows, got {tuple(q.shape)}")
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ValueError(
                f"q, k and v must share dtype and device: q is {q.dtype} on {q.device}, "
                f"{name} is {tensor.dtype} on {tensor.device}"
            )
