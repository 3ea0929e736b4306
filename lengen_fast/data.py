"""Packed batches and the background stream that prepares them.

Letters: B rows, N packed tokens, P scored positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import finalize

import torch

from lengen_fast import _engine
from lengen_fast.ops.packing import Packing, RowSelection

if TYPE_CHECKING:
    from lengen_fast.tasks.base import Task

STRINGS = 3
"""Raised whenever a seed comes to draw other strings, so that no run goes on with others than it began with."""

MOST_STEPS = 2**40
"""Streams below this number are training steps; the rest is reserved, see :func:`evaluation_stream`."""

_PURPOSES = {"test": 1, "validation": 2}
_LENGTH_BITS = 21
_TENSORS = ("tokens", "cu_seqlens", "offsets", "scored", "targets")


def evaluation_stream(purpose: str, low: int | tuple[int, int], high: int | tuple[int, int]) -> int:
    """The random stream of an evaluation bin: shared with no training step, no other bin and no other purpose.

    Args:
        purpose: ``"test"`` or ``"validation"``.
        low, high: the lengths of the bin, inclusive, each in 0..2**21-1, or pairs of lengths. Four numbers do not fit
            into a stream, so two bins of pairs share one by a chance of 2**-61.
    """
    if purpose not in _PURPOSES:
        raise ValueError(f"purpose is {purpose!r}; it must be one of {', '.join(map(repr, _PURPOSES))}")
    if isinstance(low, tuple):
        digest = blake2b(repr((*low, *high)).encode(), digest_size=8).digest()
        return _PURPOSES[purpose] << 62 | 1 << 61 | int.from_bytes(digest, "little") >> 3
    for name, value in (("low", low), ("high", high)):
        if not 0 <= value < 2**_LENGTH_BITS:
            raise ValueError(f"{name} is {value}; it must be in 0..{2**_LENGTH_BITS - 1}")
    return _PURPOSES[purpose] << 62 | low << _LENGTH_BITS | high


@dataclass(frozen=True, eq=False)
class Batch:
    """B strings packed end to end.

    Numbers of tokens and of rows have 32 bits, half of what has to be written and sent to a GPU; where an operation of
    PyTorch wants 64 (``F.one_hot``, ``index_copy``, a loss over all tokens), give it ``tokens.long()``.

    Attributes:
        tokens: [N] int32 token ids.
        cu_seqlens: [B+1] int32, where each string starts, and N at the end.
        offsets: [B] int64, the position of each string's first token.
        scored: [P] int32, indices into ``tokens`` of the positions whose prediction counts, in increasing order.
        targets: [P] int64 (as losses take them), the token each scored position has to predict.
        longest: tokens of the longest string.
        most_scored: scored positions of the string that has most, where the host knows it; see ``selection``.
    """

    tokens: torch.Tensor
    cu_seqlens: torch.Tensor
    offsets: torch.Tensor
    scored: torch.Tensor
    targets: torch.Tensor
    longest: int
    most_scored: int | None = None

    @classmethod
    def from_engine(cls, batch: _engine.Batch) -> Batch:
        """Wraps a batch of the engine; the tensors share its memory and keep it alive.

        The tensors are made when one is first asked for: that takes as long as drawing a short batch.
        """
        wrapped = cls.__new__(cls)
        wrapped.__dict__.update(longest=batch.longest, most_scored=batch.most_scored, _source=batch)
        return wrapped

    def __getattr__(self, name: str) -> torch.Tensor:
        source = self.__dict__.get("_source")
        if source is None or name not in _TENSORS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        self.__dict__.update((each, torch.from_numpy(getattr(source, each))) for each in _TENSORS)
        return self.__dict__[name]

    def __getstate__(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def rows(self) -> int:
        """B, the number of strings."""
        return len(self.offsets)

    @property
    def lengths(self) -> torch.Tensor:
        """[B] int32, tokens of each string."""
        return self.cu_seqlens.diff()

    @property
    def device(self) -> torch.device:
        return self.tokens.device

    @cached_property
    def packing(self) -> Packing:
        """Where each string's rows are, for the model."""
        return Packing(self.cu_seqlens, len(self.tokens), self.longest)

    @cached_property
    def selection(self) -> RowSelection:
        """The scored rows, for the model's last block."""
        return RowSelection(self.scored, self.packing, self.most_scored)

    def row(self, index: int) -> torch.Tensor:
        """The tokens of one string, a view; ``index`` in 0..B-1."""
        if not 0 <= index < self.rows:
            raise IndexError(f"index is {index}; the batch has rows 0..{self.rows - 1}")
        return self.tokens[int(self.cu_seqlens[index]) : int(self.cu_seqlens[index + 1])]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on ``device``; itself if it is there already.

        To a GPU it goes as one copy from pinned memory; with ``non_blocking`` nothing waits for it.
        """
        tensors = {name: getattr(self, name) for name in _TENSORS}
        if torch.device(device).type == "cuda" and self.device.type == "cpu":
            moved = _moved_as_one(tensors, device, non_blocking, pin=True)
        else:
            moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}
        if all(moved[name] is getattr(self, name) for name in _TENSORS):
            return self
        most_scored = self.selection.packing.longest if self.most_scored is None else self.most_scored
        return replace(self, **moved, most_scored=most_scored)


def _moved_as_one(
    tensors: dict[str, torch.Tensor], device: torch.device | str, non_blocking: bool, pin: bool
) -> dict[str, torch.Tensor]:
    """Tensors on ``device``, copied through one block of host memory. Wide numbers come first, so all are aligned."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    ends = list(accumulate(tensor.nbytes for _, tensor in ordered))
    here = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=pin)
    places = [(end - tensor.nbytes, end) for end, (_, tensor) in zip(ends, ordered, strict=True)]
    for (begin, end), (_, tensor) in zip(places, ordered, strict=True):
        here[begin:end].view(tensor.dtype).copy_(tensor)
    there = here.to(device, non_blocking=non_blocking)
    return {
        name: there[begin:end].view(tensor.dtype) for (begin, end), (name, tensor) in zip(places, ordered, strict=True)
    }


class Stream:
    """Batches of steps ``start``, ``start + 1``, ... from background threads; an iterator and a context manager.

    The batch of a step depends only on the task, ``rows``, ``length``, ``seed``, ``distribution``, ``context`` and the
    step, so a stream may start anywhere and ``threads`` and ``capacity`` change nothing but speed.

    Args:
        task: what to draw.
        rows: strings in a batch.
        length: one length or an inclusive range ``(low, high)``.
        seed: 0..2**64-1.
        distribution: one of the task's; None: its first.
        context: size of the position table; offsets are uniform over those that fit. None: every offset is 0.
        start: the first step.
        stop: the step to end before; None: no end.
        capacity: batches that may wait ready.
        threads: background threads; each prepares whole batches.
        trim: leave out the tokens behind the last scored one of each string, as training does: nothing that is scored
            sees them.

    Raises:
        ValueError, TypeError: as :meth:`Task.sample`, at once; a batch too large to be packed, when it is asked for.
    """

    def __init__(
        self,
        task: Task,
        rows: int,
        length: int | tuple[int, int],
        seed: int = 0,
        *,
        distribution: str | None = None,
        context: int | None = None,
        start: int = 0,
        stop: int | None = None,
        capacity: int = 8,
        threads: int = 1,
        trim: bool = False,
    ) -> None:
        stop = MOST_STEPS if stop is None else stop
        for name, value, low, high in (
            ("rows", rows, 1, 2**31 - 1),
            ("start", start, 0, MOST_STEPS),
            ("stop", stop, start, MOST_STEPS),
            ("capacity", capacity, 1, 2**16),
            ("threads", threads, 1, 1024),
        ):
            check_integer(name, value, low, high)
        sampler = task.sampler(length, seed=seed, distribution=distribution, context=context)
        options = dict(start=start, stop=stop, capacity=capacity, threads=threads, trim=trim)
        in_engine = isinstance(sampler, _engine.Sampler)
        self._stream = _engine.Stream(sampler, rows, **options) if in_engine else sampler.stream(rows, **options)
        self._finalizer = finalize(self, self._stream.close)  # also runs when the interpreter exits

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return Batch.from_engine(self._stream.next())

    def close(self) -> None:
        """Stops the background threads; the stream then ends. Safe to call twice."""
        self._finalizer()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int in low..high, or an error that names the argument."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r}; it must be an integer")
    number = value.__index__()
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}; it must be in {low}..{high}")
    return number


def check_at_least(name: str, value: object, least: int) -> int:
    """``value`` as an int of at least ``least``, or an error that names the argument."""
    number = check_integer(name, value, -(2**63), 2**63)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
