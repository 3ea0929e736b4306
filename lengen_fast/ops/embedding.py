"""Token and position embedding of packed rows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lengen_fast.ops.packing import Packing


def embed(
    tokens: Tensor,
    token_table: Tensor,
    position_table: Tensor | None = None,
    *,
    packing: Packing | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Sum of the token's vector and the vector of its position, shifted by the offset of its row.

    Args:
        tokens: [N] int64, packed rows.
        token_table: [V, C].
        position_table: [context, C] learned absolute positions; None adds no positions.
        packing: where each sequence begins; None means that the N rows are one sequence.
        offsets: [B] int64, position of the first token of each sequence; None means 0
            (arXiv 2410.02140, section 3: random offsets in training).

    Returns:
        [N, C] in the dtype of the tables.

    Raises:
        ValueError: a sequence reaches past the end of ``position_table``.
    """
    embedded = F.embedding(tokens, token_table)
    if position_table is None:
        return embedded
    packing = packing or Packing.uniform(1, len(tokens), tokens.device)
    context = len(position_table)
    if packing.longest > context:
        raise ValueError(_too_long(packing.longest, context))
    positions = packing.position_in_sequence
    if offsets is not None:
        positions = positions + offsets.index_select(0, packing.sequence_of_row)
    try:
        return embedded + F.embedding(positions, position_table)
    except IndexError:
        raise ValueError(_too_long(int(positions.max()) + 1, context)) from None


def _too_long(needed: int, context: int) -> str:
    return (
        f"a sequence needs {needed} positions and the position table has {context}: "
        f"train with a larger context (ModelConfig(context=...), --context) or with positions 'nope'"
    )
