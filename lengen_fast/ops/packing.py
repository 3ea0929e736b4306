"""Packed rows: B sequences of different lengths laid end to end in one [N, ...] tensor, and rows chosen from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lengen_fast.ops import cpu


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the rows of a packed tensor belong.

    Attributes:
        cu_seqlens: [B+1] int32 or int64, first packed row of each sequence, then N; 0 at the start, never decreasing.
        total: N, the number of packed rows.
        longest: rows of the longest sequence. Known on the host, so that no launch waits for the device.
    """

    cu_seqlens: Tensor
    total: int
    longest: int

    @classmethod
    def from_cu_seqlens(cls, cu_seqlens: Tensor, total: int, longest: int | None = None) -> Packing:
        """Describe ``total`` packed rows; without ``longest`` its value is read from the device, once.

        Raises:
            ValueError: ``cu_seqlens`` is not a vector of at least two integers, or (on a CPU) does not run from 0 to
                ``total`` without decreasing.
        """
        check_vector(cu_seqlens)
        if cu_seqlens.device.type == "cpu":
            check_bounds(cu_seqlens, total)
        if longest is None:
            longest = int(cu_seqlens.diff().max())
        return cls(cu_seqlens, total, longest)

    @classmethod
    def of(cls, rows: Tensor, cu_seqlens: Tensor | Packing | None) -> Packing:
        """How ``rows`` [N, ...] are packed, from whatever a caller gave; None means one sequence.

        Raises:
            ValueError: ``cu_seqlens`` does not describe N rows.
        """
        if cu_seqlens is None:
            return cls.uniform(1, len(rows), rows.device)
        if not isinstance(cu_seqlens, cls):
            return cls.from_cu_seqlens(cu_seqlens, len(rows))
        if cu_seqlens.total != len(rows):
            raise ValueError(f"cu_seqlens packs {cu_seqlens.total} rows and is given with {len(rows)}")
        return cu_seqlens

    @classmethod
    def uniform(cls, sequences: int, length: int, device: torch.device | None = None) -> Packing:
        """``sequences`` sequences of ``length`` rows each."""
        bounds = torch.arange(sequences + 1, dtype=torch.int64, device=device) * length
        return cls(bounds, sequences * length, length)

    @property
    def sequences(self) -> int:
        """B, the number of sequences."""
        return len(self.cu_seqlens) - 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, N and ``longest``: what the host knows without asking the device."""
        return self.sequences, self.total, self.longest

    @cached_property
    def bounds(self) -> Tensor:
        """[B+1] int64: ``cu_seqlens`` as the CPU kernels read it."""
        return self.cu_seqlens.long().contiguous()

    @cached_property
    def sequence_of_row(self) -> Tensor:
        """[N] int64: the sequence to which a packed row belongs."""
        numbers = torch.arange(self.sequences, device=self.cu_seqlens.device)
        return torch.repeat_interleave(numbers, self.cu_seqlens.diff(), output_size=self.total)

    @cached_property
    def position_in_sequence(self) -> Tensor:
        """[N] int64: how many rows of its own sequence come before a packed row."""
        rows = torch.arange(self.total, device=self.cu_seqlens.device)
        return rows - self.cu_seqlens[:-1].long()[self.sequence_of_row]

    def positions(self, offsets: Tensor | None) -> Tensor:
        """[N] int64: position of each packed row, where sequence b starts at ``offsets[b]``; None: at 0."""
        positions = self.position_in_sequence
        return positions if offsets is None else positions + offsets.index_select(0, self.sequence_of_row)


@dataclass(frozen=True, eq=False)
class RowSelection:
    """Chosen rows of a packed tensor, such as the scored ones.

    Attributes:
        rows: [P] int32 or int64, increasing row numbers.
        source: how the packed tensor's own N rows belong to B sequences.
        most: the largest number of chosen rows in a sequence; None: read from the device when it is needed.
    """

    rows: Tensor
    source: Packing
    most: int | None = None

    @classmethod
    def from_rows(cls, rows: Tensor, packing: Packing, most: int | None = None) -> RowSelection:
        """Describe ``rows`` of a tensor packed in that way.

        Raises:
            ValueError: ``rows`` is no vector of int32 or int64, or (on a CPU) is out of range or does not increase.
        """
        check_row_vector(rows)
        if rows.device.type == "cpu":
            check_rows(rows, packing.total)
        return cls(rows.contiguous(), packing, most)

    @cached_property
    def packing(self) -> Packing:
        """How the P chosen rows belong to the same B sequences."""
        bounds = torch.searchsorted(self.rows, self.source.cu_seqlens)
        most = int(bounds.diff().max()) if self.most is None else self.most
        return Packing(bounds, len(self.rows), most)

    @classmethod
    def of(cls, packing: Packing, rows: Tensor | RowSelection) -> RowSelection:
        """The rows that a caller chose from a tensor packed in that way.

        Raises:
            ValueError: ``rows`` are no rows of it.
        """
        if not isinstance(rows, cls):
            return cls.from_rows(rows, packing)
        if rows.source.shape != packing.shape:
            raise ValueError(
                f"query_rows were chosen from other packed rows: (sequences, rows, longest) is {rows.source.shape} "
                f"there and {packing.shape} here"
            )
        return rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, packed: Tensor) -> Tensor:
        """[N, ...] to [P, ...]."""
        return gather(packed, self.rows)


def split_heads(projected: Tensor, heads: int) -> tuple[Tensor, ...]:
    """[N, 3 C] to q, k and v [N, H, D], views of it."""
    parts = projected.unflatten(1, (3, heads, -1))
    return _Split.apply(parts) if cpu.is_plain(projected) else parts.unbind(1)


def joined(parts: Sequence[Tensor]) -> Tensor | None:
    """[N, 3, H, D] if the parts [N, H, D] are its three slices and it is whole in memory, else None."""
    first, rows = parts[0], len(parts[0])
    size = first[0].numel() if rows else 0
    strides = (len(parts) * size, *first[:1].contiguous().stride()[1:])
    for number, part in enumerate(parts):
        beside = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        place = first.storage_offset() + number * size
        if not beside or part.shape != first.shape or part.stride() != strides or part.storage_offset() != place:
            return None
    return first.as_strided((rows, len(parts), *first.shape[1:]), (strides[0], size, *strides[1:]))


def gather(packed: Tensor, rows: Tensor) -> Tensor:
    """[N, ...] to [P, ...]: different rows, in any order."""
    if torch._C._functorch.peek_interpreter_stack() is not None:  # a transform of torch.func
        return packed.index_select(0, rows)
    return _Gather.apply(packed, rows)


def check_row_vector(rows: Tensor) -> None:
    """Raise unless ``rows`` may be ``query_rows``, as far as its shape and dtype tell."""
    if not isinstance(rows, Tensor):
        raise TypeError(f"query_rows must be a tensor or a RowSelection, got {type(rows).__name__}")
    if rows.dim() != 1 or rows.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"query_rows must be an int32 or int64 vector, got shape {tuple(rows.shape)} and {rows.dtype}")


def check_rows(rows: Tensor, total: int) -> None:
    """Raise unless ``rows`` increase within 0..total - 1; reads them."""
    if len(rows) and (int(rows[0]) < 0 or int(rows[-1]) >= total):
        raise ValueError(f"query_rows must lie in 0..{total - 1}, got rows from {int(rows[0])} to {int(rows[-1])}")
    if bool((rows[1:] <= rows[:-1]).any()):  # a difference could overflow
        raise ValueError("query_rows must increase from one to the next")


def check_vector(cu_seqlens: Tensor) -> None:
    """Raise unless ``cu_seqlens`` may be that, as far as its shape and dtype tell."""
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"cu_seqlens must be a tensor or a Packing, got {type(cu_seqlens).__name__}")
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2 or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"cu_seqlens must be a vector of at least two int32 or int64 row numbers, "
            f"got shape {tuple(cu_seqlens.shape)} and {cu_seqlens.dtype}"
        )


def check_bounds(cu_seqlens: Tensor, total: int) -> None:
    """Raise unless ``cu_seqlens`` runs from 0 to ``total`` without decreasing; reads it."""
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != total:
        raise ValueError(
            f"cu_seqlens must start at 0 and end at the number of packed rows, {total}; "
            f"it starts at {int(cu_seqlens[0])} and ends at {int(cu_seqlens[-1])}"
        )
    if bool((cu_seqlens[1:] < cu_seqlens[:-1]).any()):
        raise ValueError("cu_seqlens must never decrease: each entry is where a sequence begins")


class _Split(torch.autograd.Function):
    """unbind(1), whose gradient is no copy where the gradients of the parts lie side by side already."""

    @staticmethod
    def forward(ctx, parts: Tensor) -> tuple[Tensor, ...]:
        return parts.unbind(1)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        whole = None if torch.is_grad_enabled() else joined(gradients)
        return torch.stack(gradients, 1) if whole is None else whole


class _Gather(torch.autograd.Function):
    """out[p] is rows[source[p]], all sources distinct, so that the gradient is a plain scatter without sums."""

    @staticmethod
    def forward(ctx, rows: Tensor, source: Tensor) -> Tensor:
        ctx.save_for_backward(source)
        ctx.size = len(rows)
        return rows.index_select(0, source)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (source,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.size, *gradient.shape[1:]).index_copy(0, source.long(), gradient), None
