"""Rows that are equal before the first attention: one token at one position, in several strings or places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lengen_fast.ops import cpu
from lengen_fast.ops.embedding import embed
from lengen_fast.ops.packing import Packing, gather


@dataclass(frozen=True, eq=False)
class Distinct:
    """The different inputs among N packed rows.

    Attributes:
        rows: [U] int64, a packed row with each of them.
        copies: [N] int64, which of the U each packed row is.
    """

    rows: Tensor
    copies: Tensor

    @classmethod
    def of(
        cls,
        tokens: Tensor,
        packing: Packing,
        offsets: Tensor | None,
        vocab_size: int,
        context: int | None,
        period: int | None = None,
    ) -> Distinct | None:
        """The different (token, position) among the rows; tokens alone if ``context`` and ``period`` are None.

        None if there might be more than half as many as rows, or on a device that would have to be waited for.
        """
        if period is None and context is not None:
            period = packing.longest if offsets is None else context  # no position is as large
        positions = period or 1
        if 2 * vocab_size * positions > len(tokens) or not cpu.is_plain(tokens, packing.cu_seqlens):
            return None
        inputs = tokens if period is None else tokens * period + packing.positions(offsets) % period
        inputs = inputs.numpy()
        row_of = np.full(vocab_size * positions, -1)
        row_of[inputs] = np.arange(len(inputs))  # of several rows the last stays
        found = row_of >= 0
        return cls(torch.from_numpy(row_of[found]), torch.from_numpy((found.cumsum() - 1)[inputs]))

    def take(self, packed: Tensor) -> Tensor:
        """[N, C] to the [U, C] of the different inputs."""
        return gather(packed, self.rows)

    def spread(self, rows: Tensor) -> Tensor:
        """[U, C] to [N, C]: each row's own."""
        return embed(self.copies, rows)
