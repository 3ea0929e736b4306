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
        tokens: [N] int32 or int64, packed rows.
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
    _check_shapes(tokens, token_table, position_table)
    packing = Packing.of(tokens, cu_seqlens)
    if offsets is not None:
        _check_offsets(offsets, packing)
    if position_table is not None and packing.longest > len(position_table):
        raise ValueError(_too_long(packing.longest, len(position_table)))
    if _has_kernel(tokens, packing, offsets, _given((token_table, position_table))):
        embedded = _Embed.apply(tokens, packing.bounds, offsets, token_table, position_table)
        if embedded is not None:
            return embedded
    embedded = _token_vectors(tokens, token_table)
    if position_table is None:
        return embedded
    try:
        return embedded + F.embedding(packing.positions(offsets), position_table)
    except IndexError:
        longest = int(packing.positions(offsets).max()) + 1
        raise ValueError(_too_long(longest, len(position_table))) from None


def _has_kernel(tokens: Tensor, packing: Packing, offsets: Tensor | None, tables: list[Tensor]) -> bool:
    numbers = [tokens, packing.cu_seqlens] if offsets is None else [tokens, packing.cu_seqlens, offsets]
    if not cpu.serves(*tables) or not cpu.is_plain(*numbers):
        return False
    whole = all(x.is_contiguous() for x in numbers)
    return whole and all(x.dtype == torch.int64 for x in numbers[2:])


class _Embed(torch.autograd.Function):
    """The CPU kernel; None where a token or a position has no vector, which the general way then reports."""

    @staticmethod
    def forward(ctx, tokens, bounds, offsets, *tables):
        ctx.save_for_backward(tokens, bounds, offsets, *tables)
        return cpu.embed(tokens, bounds, offsets, _given(tables))

    @staticmethod
    def backward(ctx, gradient):
        tokens, bounds, offsets, *tables = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: in operations that are differentiable themselves
            packing = Packing(bounds, len(tokens), int(bounds.diff().max()))
            rows = [tokens, packing.positions(offsets)][: len(_given(tables))]
            pairs = zip(_given(tables), rows, strict=True)
            gradients = [torch.zeros_like(table).index_add(0, row, gradient) for table, row in pairs]
        else:
            gradients = cpu.embed_backward(gradient.contiguous(), tokens, bounds, offsets, _given(tables))
        return None, None, None, *gradients, *(None for table in tables if table is None)


def _given(tables: Sequence[Tensor | None]) -> list[Tensor]:
    return [table for table in tables if table is not None]


def _check_shapes(tokens: Tensor, token_table: Tensor, position_table: Tensor | None) -> None:
    if tokens.dim() != 1 or tokens.dtype not in (torch.int32, torch.int64):
        got = f"shape {tuple(tokens.shape)} and {tokens.dtype}"
        raise ValueError(f"tokens must be packed, [N], int32 or int64, got {got}")
    if token_table.dim() != 2:
        raise ValueError(f"token_table must be [V, C], got shape {tuple(token_table.shape)}")
    if position_table is not None and (position_table.dim() != 2 or position_table.shape[1] != token_table.shape[1]):
        raise ValueError(
            f"position_table must be [context, {token_table.shape[1]}] to go with token_table, "
            f"got shape {tuple(position_table.shape)}"
        )
    for name, x in (("token_table", token_table), ("position_table", position_table)):
        if x is not None and x.device != tokens.device:
            raise ValueError(f"tokens and {name} must be on one device: {tokens.device} and {x.device}")


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
    if offsets.is_floating_point() or offsets.dtype == torch.bool:
        raise ValueError(f"offsets must be whole numbers, got {offsets.dtype}")
    if offsets.device.type == "cpu" and bool((offsets < 0).any()):
        raise ValueError(f"offsets must not be negative, got {int(offsets.min())}")


def _too_long(needed: int, context: int) -> str:
    return (
        f"a sequence needs {needed} positions and the position table has {context}: "
        f"train with a larger context (ModelConfig(context=...), --context) or with positions 'nope'"
    )
