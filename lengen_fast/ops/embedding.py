"""Token and position embedding of packed rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lengen_fast.ops import cpu
from lengen_fast.ops.packing import Packing


def embed(
    tokens: Tensor,
    token_table: Tensor,
    position_table: Tensor | None = None,
    *,
    cu_seqlens: Tensor | Packing | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Sum of the token's vector and the vector of its position, shifted by the offset of its row.

    Args:
        tokens: [N] int64, packed rows.
        token_table: [V, C].
        position_table: [context, C] learned absolute positions; None adds no positions.
        cu_seqlens: [B+1] int32 or int64, the first packed row of each sequence, then N (or its ``Packing``); None: one
            sequence.
        offsets: [B] int64, position of the first token of each sequence; None means 0
            (arXiv 2410.02140, section 3: random offsets in training).

    Returns:
        [N, C] in the dtype of the tables.

    Raises:
        ValueError: ``cu_seqlens`` or ``offsets`` do not go with the tokens, a sequence reaches past the end of
            ``position_table``, or (on a CPU) a token or an offset is out of range.
    """
    packing = Packing.of(tokens, cu_seqlens)
    if position_table is not None:
        if packing.longest > len(position_table):
            raise ValueError(_too_long(packing.longest, len(position_table)))
        if offsets is not None:
            _check_offsets(offsets, packing)
    if _has_kernel(tokens, token_table, position_table, offsets):
        embedded = _Embed.apply(tokens, packing.bounds, offsets, token_table, position_table)
        if embedded is not None:
            return embedded
    embedded = _token_vectors(tokens, token_table)
    if position_table is None:
        return embedded
    positions = packing.position_in_sequence
    if offsets is not None:
        positions = positions + offsets.index_select(0, packing.sequence_of_row)
    try:
        return embedded + F.embedding(positions, position_table)
    except IndexError:
        raise ValueError(_too_long(int(positions.max()) + 1, len(position_table))) from None


def _has_kernel(tokens: Tensor, token_table: Tensor, position_table: Tensor | None, offsets: Tensor | None) -> bool:
    if torch.compiler.is_compiling() or tokens.dtype != torch.int64:
        return False
    if offsets is not None and (offsets.dtype != torch.int64 or not offsets.is_contiguous()):
        return False
    tables = [token_table] if position_table is None else [token_table, position_table]
    return cpu.serves(*tables) and all(tensor.is_contiguous() for tensor in (tokens, *tables))


class _Embed(torch.autograd.Function):
    """The CPU kernel; None where a token or a position has no vector, which the general way then reports."""

    @staticmethod
    def forward(ctx, tokens, bounds, offsets, *tables):
        ctx.save_for_backward(tokens, bounds, offsets, *tables)
        return cpu.embed(tokens, bounds, offsets, _given(tables))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        tokens, bounds, offsets, *tables = ctx.saved_tensors
        gradients = cpu.embed_backward(gradient.contiguous(), tokens, bounds, offsets, _given(tables))
        return None, None, None, *gradients, *(None for table in tables if table is None)


def _given(tables: Sequence[Tensor | None]) -> list[Tensor]:
    return [table for table in tables if table is not None]


def _token_vectors(tokens: Tensor, token_table: Tensor) -> Tensor:
    try:
        return F.embedding(tokens, token_table)
    except IndexError:
        raise ValueError(
            f"tokens must lie in 0..{len(token_table) - 1}, got {int(tokens.min())} to {int(tokens.max())}"
        ) from None


def _check_offsets(offsets: Tensor, packing: Packing) -> None:
    if offsets.shape != (packing.sequences,):
        raise ValueError(f"offsets must be one for each of {packing.sequences} sequences, got {tuple(offsets.shape)}")
    if offsets.device.type == "cpu" and bool((offsets < 0).any()):
        raise ValueError(f"offsets must not be negative, got {int(offsets.min())}")


def _too_long(needed: int, context: int) -> str:
    return (
        f"a sequence needs {needed} positions and the position table has {context}: "
        f"train with a larger context (ModelConfig(context=...), --context) or with positions 'nope'"
    )
