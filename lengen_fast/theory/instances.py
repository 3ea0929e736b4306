"""Every string of some lengths at every offset, or where these are too many a large fixed sample of them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lengen_fast.data import Batch, evaluation_stream
from lengen_fast.evaluation import correct_positions
from lengen_fast.model import Transformer
from lengen_fast.tasks import Task

MOST_INSTANCES = 1 << 16  # pairs of string and offset that are asked one by one
SAMPLED_INSTANCES = 1 << 13  # of a sample
TOKENS_AT_ONCE = 1 << 13  # of one batch: small, for most models that are tried make a mistake in the first one
MOST_WORDS = 1 << 18  # words over the alphabet that are tried, most of which may be no strings of the task


@dataclass(frozen=True)
class Instances:
    """Strings with their offsets.

    Attributes:
        batches: trimmed behind the last scored token.
        count: pairs of a string and an offset.
        exhaustive: whether they are all there are, or a sample.
    """

    batches: tuple[Batch, ...]
    count: int
    exhaustive: bool

    def fitted(self, model: Transformer) -> bool:
        """Whether the model is right at every scored position of all; ends at the first batch with a mistake."""
        return self.first_mistake(model) is None

    def first_mistake(self, model: Transformer) -> Batch | None:
        """The first batch in which the model is wrong somewhere; None if it is right on all."""
        return next((batch for batch in self.batches if not correct_positions(model, batch).all()), None)

    def correct(self, model: Transformer) -> int:
        """How many the model gets right at every scored position."""
        return sum(_correct_strings(batch, correct_positions(model, batch)) for batch in self.batches)

    def describe(self) -> str:
        """In words, such as "all 1,234"."""
        return f"{'all' if self.exhaustive else 'a sample of'} {self.count:,}"


def instances(task: Task, low: int, high: int, context: int, *, purpose: str, seed: int = 0) -> Instances:
    """Strings of lengths low..high with their offsets, in a position table of ``context`` rows.

    They are all there are if the words over the task's symbols are at most ``MOST_WORDS`` a length and the pairs of a
    string and an offset at most ``MOST_INSTANCES``, and its strings are ``BOS x SEP y EOS``. Else they are a sample of
    ``SAMPLED_INSTANCES``, equally many from each of the task's distributions, lengths and offsets uniform.

    Args:
        purpose: "test" or "validation", which gives different samples.
        seed: of a sample.

    Raises:
        ValueError: lengths that the task cannot draw.
    """
    strings = _all_strings(task, task.check_lengths(low, high), context)
    if strings is not None:
        return _exhaustive(strings, context)
    each = SAMPLED_INSTANCES // len(task.distributions)
    sampler = dict(length=(low, high), seed=seed, context=context, stream=evaluation_stream(purpose, low, high))
    at_once = max(1, TOKENS_AT_ONCE // task.tokens_at(high))
    batches = [
        task.sample(min(at_once, each - first), distribution=name, first_row=first, **sampler)
        for name in task.distributions
        for first in range(0, each, at_once)
    ]
    return Instances(tuple(batches), each * len(task.distributions), exhaustive=False)


def _correct_strings(batch: Batch, right: Tensor) -> int:
    bounds = batch.selection.packing.cu_seqlens.cpu().long()
    mistakes = torch.cat((torch.zeros(1, dtype=torch.int64), (~right).cumsum(0)))
    return int((mistakes[bounds[1:]] == mistakes[bounds[:-1]]).sum())


# ---- every string ----


@dataclass(frozen=True)
class _String:
    """Tokens [T] up to the last scored one, and its scored indices and targets."""

    tokens: np.ndarray
    scored: np.ndarray
    targets: np.ndarray

    def offsets(self, context: int) -> int:
        """Offsets at which the string and its last target fit into the table."""
        return context - len(self.tokens)


def _all_strings(task: Task, lengths: range, context: int) -> list[_String] | None:
    """Every string of these lengths, or None if it or an offset of each are too many."""
    symbols = _symbols(task)
    if symbols is None or any(len(symbols) ** n > MOST_WORDS for n in lengths):
        return None
    strings, count = [], 0
    for n in lengths:
        for string in _strings(task, symbols, n):
            strings.append(string)
            count += string.offsets(context)
            if count > MOST_INSTANCES:
                return None
    return strings


def _symbols(task: Task) -> list[int] | None:
    """The symbols in x of the shortest strings; None where these are too many or do not go ``BOS x SEP y EOS``."""
    shortest = max(1, task.min_length)
    if len(task.symbols) ** shortest > MOST_WORDS:
        return None
    found = {
        s for string in _strings(task, range(len(task.symbols)), shortest) for s in string.tokens[1 : shortest + 1]
    }
    return sorted(map(int, found)) or None


def _strings(task: Task, symbols: list[int] | range, n: int) -> Iterator[_String]:
    for x in itertools.product(symbols, repeat=n):
        tokens = np.array([task.bos, *x, task.sep], dtype=np.int64)
        try:
            scored, targets = task.oracle(tokens)
        except ValueError:  # no string of this task
            continue
        if scored[0] != n + 1:  # it asks somewhere else than at SEP
            return
        yield _String(np.concatenate((tokens, targets[:-1])), scored, targets)


def _exhaustive(strings: list[_String], context: int) -> Instances:
    """Strings of one shape side by side, each at every offset; the longest ones first."""
    by_shape = defaultdict(list)
    for string in strings:
        by_shape[len(string.tokens), len(string.scored)].append(string)
    batches = []
    for (length, _), group in sorted(by_shape.items(), reverse=True):
        places = context - length
        at_once = max(1, TOKENS_AT_ONCE // (length * places))
        batches += [_every_offset(group[i : i + at_once], places) for i in range(0, len(group), at_once)]
    return Instances(tuple(batches), sum(string.offsets(context) for string in strings), exhaustive=True)


def _every_offset(group: list[_String], places: int) -> Batch:
    """Strings of one shape, each at offsets 0..places - 1."""
    tokens, scored, targets = (
        torch.from_numpy(np.stack([getattr(string, name) for string in group])).repeat_interleave(places, 0)
        for name in ("tokens", "scored", "targets")
    )
    rows, length = tokens.shape
    starts = torch.arange(rows + 1) * length
    return Batch(
        tokens=tokens.flatten().int(),
        cu_seqlens=starts.int(),
        offsets=torch.arange(places).repeat(len(group)),
        scored=(scored + starts[:-1, None]).flatten().int(),
        targets=targets.flatten(),
        longest=length,
        most_scored=scored.shape[1],
    )
