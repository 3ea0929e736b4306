"""Accuracy against length: exact match and per-position accuracy of a model, teacher-forced, at any length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from lengen_fast.data import Batch, check_at_least, check_integer, evaluation_stream
from lengen_fast.lengths import Length, Number, bounds, from_json, label, written
from lengen_fast.model import Transformer
from lengen_fast.tasks import Task

PAPER_COUNT = 2000  # strings of a test bin (arXiv 2410.02140, section 5)
TOKEN_BUDGET = 1 << 20  # tokens of one line of the table, unless ``count`` is given
TOKENS_AT_ONCE = 1 << 15  # tokens of one forward pass; a longer string goes alone
LOGITS_AT_ONCE = 1 << 24  # elements of the largest logits tensor, 64 MiB in fp32
OFFSETS = ("zero", "random")


@dataclass(frozen=True)
class Accuracy:
    """What a model got right on strings of one range of lengths.

    Attributes:
        low, high: lengths n of the strings, inclusive, or pairs of lengths.
        distribution: of the strings, as in ``Task.sample``.
        offsets: "zero" or "random", the position of the first token.
        count: strings tested; correct: those right at every scored position.
        positions: scored positions tested; positions_correct: those right.
        first_wrong_earliest, first_wrong_median: over the wrong strings, which of its scored positions (from 0) was the
            first wrong one; None if no string was wrong.
    """

    low: Number
    high: Number
    distribution: str
    offsets: str
    count: int
    correct: int
    positions: int
    positions_correct: int
    first_wrong_earliest: int | None
    first_wrong_median: float | None

    @property
    def exact(self) -> float:
        """Share of strings right at every scored position."""
        return self.correct / self.count

    @property
    def per_position(self) -> float:
        """Share of scored positions that are right."""
        return self.positions_correct / self.positions

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of ``exact``."""
        return wilson_interval(self.correct, self.count)

    @property
    def label(self) -> str:
        """The range as the command line writes it."""
        return label(written(self.low, self.high))

    def as_dict(self) -> dict:
        """Counts and derived figures, as accuracy.json holds them."""
        return asdict(self) | {
            "exact": self.exact,
            "interval": list(self.interval),
            "per_position": self.per_position,
        }

    @classmethod
    def from_dict(cls, content: dict) -> Accuracy:
        """The inverse of ``as_dict``."""
        fields = {name: content[name] for name in cls.__dataclass_fields__}
        line = cls(**fields | {"low": from_json(content["low"]), "high": from_json(content["high"])})
        for part, whole in (("correct", "count"), ("positions_correct", "positions")):
            right, tested = check_integer(part, getattr(line, part), 0, 2**62), getattr(line, whole)
            check_integer(whole, tested, max(right, 1), 2**62)
        return line


@dataclass(frozen=True)
class AccuracyTable:
    """One ``Accuracy`` a range of lengths, in the order asked for."""

    task: str
    lines: tuple[Accuracy, ...]

    def __iter__(self) -> Iterator[Accuracy]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, length: Length) -> Accuracy:
        """The line of a length, of a (low, high) range, or of a pair of either."""
        wanted = bounds(length)
        for line in self.lines:
            if (line.low, line.high) == wanted:
                return line
        raise KeyError(f"no line for lengths {length}; there are {', '.join(line.label for line in self.lines)}")

    def as_dict(self) -> dict:
        """The table as accuracy.json holds it."""
        return {"task": self.task, "lines": [line.as_dict() for line in self.lines]}

    @classmethod
    def from_dict(cls, content: dict) -> AccuracyTable:
        """The inverse of ``as_dict``."""
        return cls(content["task"], tuple(Accuracy.from_dict(line) for line in content["lines"]))


def wilson_interval(correct: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a proportion; 95% by default."""
    share, square = correct / count, z * z / count
    centre = (share + square / 2) / (1 + square)
    margin = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return (centre - margin if correct else 0.0), (centre + margin if correct < count else 1.0)


def percentage(share: float, digits: int = 2) -> str:
    """A share of 0..1 in percent, rounded, but to 0% or 100% only where it is that."""
    least = 10.0 ** -(digits + 2)
    rounded = share if share in (0, 1) else min(max(share, least), 1 - least)
    return f"{rounded:.{digits}%}"


def evaluate(
    model: Transformer,
    task: Task,
    lengths: Sequence[Length],
    *,
    count: int | None = None,
    distribution: str | None = None,
    offsets: str = "zero",
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    purpose: str = "test",
    progress: Callable[[int, int, int], None] | None = None,
) -> AccuracyTable:
    """Test a model on fresh strings of each range of lengths.

    No tensor of size T x T is made, and the last block computes the scored rows alone: a one-layer model costs time and
    memory linear in T on a task with a bounded number of scored positions.

    Args:
        model: on the device to use; its vocabulary must be the task's.
        task: from ``lengen_fast.task``, with an alphabet that serves the longest length.
        lengths: lengths n or inclusive ranges (low, high); of a task with two lengths, also ``Pair(3, 7)`` or a range
            for each, ((low, high), (low, high)).
        count: strings a range; None takes 2,000, fewer where they would pass ``token_budget`` tokens.
        distribution: one of the task's; None: its first.
        offsets: "zero" starts every string at position 0; "random" draws the offset as training does. A model that
            solved the task is right at every offset.
        seed: of the strings. The streams are apart from every training step.
        token_budget: tokens of one range when ``count`` is None.
        purpose: "test" or "validation": different strings; early stopping must only see the second.
        progress: called with (index of the range, strings done, strings in all).

    Raises:
        ValueError: before any work: a range that the task cannot draw, an unknown option, a count below 1, a vocabulary
            that is not the task's, or a length that does not fit into the model's position table.
    """
    ranges = [bounds(length) for length in lengths]
    distribution = task.distributions[0] if distribution is None else distribution
    _check(model, task, ranges, distribution, count, offsets, token_budget)
    if not model.config.has_positions:
        offsets = "zero"  # there is nothing to shift
    lines = []
    for index, (low, high) in enumerate(ranges):
        rows = count or max(1, min(PAPER_COUNT, token_budget // task.tokens_at(high)))
        context = model.config.context_for(task.tokens_at(high)) if offsets == "random" else None
        sampler = dict(length=written(low, high), seed=seed, distribution=distribution, context=context)
        tally = _Tally()
        at_once = max(1, TOKENS_AT_ONCE // task.tokens_at(high))
        for first in range(0, rows, at_once):
            size = min(at_once, rows - first)
            batch = task.sample(size, stream=evaluation_stream(purpose, low, high), first_row=first, **sampler)
            tally.add(batch, correct_positions(model, batch))
            if progress is not None:
                progress(index, first + size, rows)
        lines.append(tally.accuracy(low, high, distribution, offsets))
    return AccuracyTable(task.name, tuple(lines))


@torch.no_grad()  # not inference_mode: what the batch caches here may serve a training step later
def correct_positions(model: Transformer, batch: Batch) -> Tensor:
    """[P] bool on the CPU: whether the model's most likely token is the target at each scored position."""
    batch = batch.to(next(model.parameters()).device)
    hidden = model.hidden(batch.tokens, cu_seqlens=batch.packing, offsets=batch.offsets, rows=batch.selection)
    rows_at_once = max(1, LOGITS_AT_ONCE // model.config.vocab_size)
    predicted = [model.unembed(part).argmax(-1) for part in hidden.split(rows_at_once)]
    return (torch.cat(predicted) == batch.targets).cpu()


class _Tally:
    """Running counts over batches of strings."""

    def __init__(self) -> None:
        self.count = self.correct = self.positions = self.positions_correct = 0
        self.first_wrong: list[int] = []

    def add(self, batch: Batch, right: Tensor) -> None:
        bounds = batch.selection.packing.cu_seqlens.cpu()
        wrong = torch.nonzero(~right).flatten()
        string_of_wrong = torch.searchsorted(bounds, wrong, right=True) - 1
        strings, occurrences = torch.unique_consecutive(string_of_wrong, return_counts=True)
        first = wrong[occurrences.cumsum(0) - occurrences]
        self.first_wrong += (first - bounds[strings]).tolist()
        self.count += batch.rows
        self.correct += batch.rows - len(strings)
        self.positions += len(right)
        self.positions_correct += int(right.sum())

    def accuracy(self, low: Number, high: Number, distribution: str, offsets: str) -> Accuracy:
        wrong = torch.tensor(self.first_wrong, dtype=torch.float64)
        return Accuracy(
            low=low,
            high=high,
            distribution=distribution,
            offsets=offsets,
            count=self.count,
            correct=self.correct,
            positions=self.positions,
            positions_correct=self.positions_correct,
            first_wrong_earliest=int(wrong.min()) if len(wrong) else None,
            first_wrong_median=float(wrong.quantile(0.5)) if len(wrong) else None,
        )


def _check(
    model: Transformer,
    task: Task,
    ranges: list[tuple[Number, Number]],
    distribution: str,
    count: int | None,
    offsets: str,
    token_budget: int,
) -> None:
    if not ranges:
        raise ValueError("lengths is empty: give at least one length or range, such as [(1, 50), 512]")
    for name, value in (("count", count), ("token_budget", token_budget)):
        if value is not None:
            check_at_least(name, value, 1)
    if offsets not in OFFSETS:
        raise ValueError(f"unknown offsets {offsets!r}: choose one of {', '.join(OFFSETS)}")
    if model.config.vocab_size != task.vocab_size:
        raise ValueError(
            f"the model has {model.config.vocab_size} tokens and task {task.name} has {task.vocab_size}: "
            f"use the task it was trained on, with the same alphabet"
        )
    for low, high in ranges:
        check_context(model.config, task, task.check_lengths(low, high, distribution)[-1])


def check_context(config, task: Task, length: Number) -> None:
    """Raise a ValueError if strings of ``length`` do not fit into the position table of a model of that shape."""
    needed = task.tokens_at(length)
    if config.longest is not None and needed > config.longest:
        raise ValueError(
            f"{task.name} at length {length} needs {needed} positions and the position table has {config.longest}: "
            f"train with --context {task.context_for(length)} (ModelConfig(context=...)) or with positions nope"
        )
