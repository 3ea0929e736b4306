"""Packed rows: B sequences of different lengths laid end to end in one [N, ...] tensor, and the way to a padded layout.

Padding exists only inside an operation that needs it (see ``attention``); everything else works on the packed rows.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from operator import mul

import torch
from torch import Tensor

SHORT = 16  # sequences of at most so many rows are padded in one bucket


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

    @property
    def is_uniform(self) -> bool:
        """Whether every sequence has ``longest`` rows, so that padding is a view."""
        return self.total == self.sequences * self.longest

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

    @cached_property
    def layout(self) -> PaddedLayout:
        """Where the rows stand when every sequence is padded to the longest."""
        return PaddedLayout.of(self, None, (self.sequences,))

    @cached_property
    def bucketed_layout(self) -> PaddedLayout:
        """Where the rows stand when sequences are padded in groups of similar length; reads the lengths."""
        lengths, order = torch.sort(self.cu_seqlens.diff(), stable=True)
        return PaddedLayout.of(self, order, _bucket_counts(lengths.tolist()))

    def pad(self, packed: Tensor) -> Tensor:
        """[N, ...] to [B, longest, ...], zeros where a sequence has ended."""
        ((padded,),) = self.layout.pad(packed)
        return padded

    def unpad(self, padded: Tensor) -> Tensor:
        """[B, longest, ...] to [N, ...]; the inverse of ``pad``."""
        return self.layout.unpad([padded])


@dataclass(frozen=True, eq=False)
class PaddedLayout:
    """Sequences side by side in a few buckets, each padded to its own longest sequence only.

    Attributes:
        order: [B] int64, the sequences as they stand in the buckets, one bucket after the other; None: as packed.
        counts, lengths: sequences of each bucket, and rows of its longest.
        slot_of_row: [N] int64: where a packed row stands, counting through all buckets; None if nothing moves.
    """

    order: Tensor | None
    counts: tuple[int, ...]
    lengths: tuple[int, ...]
    slot_of_row: Tensor | None

    @classmethod
    def of(cls, packing: Packing, order: Tensor | None, counts: tuple[int, ...]) -> PaddedLayout:
        """Lay out ``packing`` with its sequences in ``order``, ``counts`` of them in each bucket.

        Without an order nothing is read from the device.
        """
        if order is None:
            row = None
            if not packing.is_uniform:
                row = packing.sequence_of_row * packing.longest + packing.position_in_sequence
            return cls(None, counts, (packing.longest,), row)
        lengths = tuple(int(bucket.max()) for bucket in packing.cu_seqlens.diff()[order].split(counts))
        padded = torch.repeat_interleave(torch.tensor(lengths), torch.tensor(counts))
        first_slot = torch.empty_like(order)
        first_slot[order] = padded.cumsum(0) - padded
        return cls(order, counts, lengths, first_slot[packing.sequence_of_row] + packing.position_in_sequence)

    def pad(self, *packed: Tensor) -> list[tuple[Tensor, ...]]:
        """For each bucket, every [N, ...] as [count, length, ...], zeros where a sequence has ended."""
        if self.slot_of_row is not None:
            packed = _Scatter.apply(self.slot_of_row, sum(map(mul, self.counts, self.lengths)), *packed)
        buckets, begin = [], 0
        for count, length in zip(self.counts, self.lengths, strict=True):
            end = begin + count * length
            buckets.append(tuple(rows[begin:end].unflatten(0, (count, length)) for rows in packed))
            begin = end
        return buckets

    def unpad(self, buckets: list[Tensor]) -> Tensor:
        """[count, length, ...] of each bucket to [N, ...]; the inverse of ``pad`` for one tensor."""
        flat = [bucket.flatten(0, 1) for bucket in buckets]
        slots = flat[0] if len(flat) == 1 else torch.cat(flat)
        return slots if self.slot_of_row is None else _Gather.apply(slots, self.slot_of_row)


@dataclass(frozen=True, eq=False)
class RowSelection:
    """Chosen rows of a packed tensor, such as the scored ones.

    Attributes:
        rows: [P] int64, increasing row numbers.
        source: how the packed tensor's own N rows belong to B sequences.
        packing: how the P chosen rows belong to the same B sequences.
        position: [P] int64, position in its sequence of each chosen row: the last key that the row attends to.
    """

    rows: Tensor
    source: Packing
    packing: Packing
    position: Tensor

    @classmethod
    def from_rows(cls, rows: Tensor, packing: Packing, most: int | None = None) -> RowSelection:
        """Describe ``rows``; without ``most``, the largest number of chosen rows in a sequence is read from the device.

        Raises:
            ValueError: ``rows`` is not an int64 vector, or (on a CPU) is out of range or does not increase.
        """
        check_row_vector(rows)
        if rows.device.type == "cpu":
            check_rows(rows, packing.total)
        return cls.from_known_rows(rows, packing, most)

    @classmethod
    def from_known_rows(cls, rows: Tensor, packing: Packing, most: int | None = None) -> RowSelection:
        """``from_rows`` of rows that are right by construction."""
        bounds = torch.searchsorted(rows, packing.cu_seqlens)
        most = int(bounds.diff().max()) if most is None else most
        return cls(rows, packing, Packing(bounds, len(rows), most), packing.position_in_sequence.index_select(0, rows))

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

    @cached_property
    def layout(self) -> PaddedLayout:
        """Where the chosen rows stand when their sequences stand as in ``source.layout``."""
        return PaddedLayout.of(self.packing, None, (self.packing.sequences,))

    @cached_property
    def bucketed_layout(self) -> PaddedLayout:
        """Where the chosen rows stand when their sequences stand as in ``source.bucketed_layout``."""
        return PaddedLayout.of(self.packing, self.source.bucketed_layout.order, self.source.bucketed_layout.counts)

    @cached_property
    def last_keys(self) -> list[Tensor]:
        """[B, most] int64, or [1, most] where all sequences agree: ``position`` in ``layout``, padded with 0."""
        ((keys,),) = self.layout.pad(self.position)
        may_agree = self.source.is_uniform and self.packing.is_uniform and keys.device.type == "cpu"
        return [keys[:1] if may_agree and bool((keys == keys[:1]).all()) else keys]

    @cached_property
    def bucketed_last_keys(self) -> list[Tensor]:
        """[count, most] int64 for each bucket: ``position`` in ``bucketed_layout``, padded with 0."""
        return [keys for (keys,) in self.bucketed_layout.pad(self.position)]

    def take(self, packed: Tensor) -> Tensor:
        """[N, ...] to [P, ...]."""
        return _Gather.apply(packed, self.rows)


def _bucket_counts(lengths: list[int]) -> tuple[int, ...]:
    """Cut increasing lengths below three quarters of the longest of each bucket; short ones go together.

    So at most a third more rows are padded than there are, beside the shortest sequences.
    """
    counts, end = [], len(lengths)
    while end:
        longest = lengths[end - 1]
        begin = 0 if longest <= SHORT else bisect_right(lengths, 0.75 * longest, 0, end)
        counts.append(end - begin)
        end = begin
    return tuple(reversed(counts))


def check_row_vector(rows: Tensor) -> None:
    """Raise unless ``rows`` may be ``query_rows``, as far as its shape and dtype tell."""
    if not isinstance(rows, Tensor):
        raise TypeError(f"query_rows must be a tensor or a RowSelection, got {type(rows).__name__}")
    if rows.dim() != 1 or rows.dtype != torch.int64:
        raise ValueError(f"query_rows must be an int64 vector, got shape {tuple(rows.shape)} and {rows.dtype}")


def check_rows(rows: Tensor, total: int) -> None:
    """Raise unless ``rows`` increase within 0..total - 1; reads them."""
    if len(rows) and (int(rows[0]) < 0 or int(rows[-1]) >= total):
        raise ValueError(f"query_rows must lie in 0..{total - 1}, got rows from {int(rows[0])} to {int(rows[-1])}")
    if bool((rows.diff() <= 0).any()):
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
    if bool((cu_seqlens.diff() < 0).any()):
        raise ValueError("cu_seqlens must never decrease: each entry is where a sequence begins")


class _Scatter(torch.autograd.Function):
    """rows[p] goes to out[destination[p]], all destinations distinct, so that the gradient is a plain gather."""

    @staticmethod
    def forward(ctx, destination: Tensor, size: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(destination)
        return tuple(rows.new_zeros(size, *rows.shape[1:]).index_copy_(0, destination, rows) for rows in tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (destination,) = ctx.saved_tensors
        return None, None, *(_Gather.apply(gradient, destination) for gradient in gradients)


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
        (rows,) = _Scatter.apply(source, ctx.size, gradient)
        return rows, None
