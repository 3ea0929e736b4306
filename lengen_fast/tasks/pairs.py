"""Tasks whose strings have two lengths at once, such as the digits of either of two numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lengen_fast import _engine
from lengen_fast.lengths import Number, Pair, label, written
from lengen_fast.tasks.base import Task

_MOST_ROWS = 2**31  # numbers of pairs that the engine can tell apart


@dataclass(frozen=True)
class PairGeometry:
    """How long strings of two lengths are.

    Attributes:
        names: what the two lengths count.
        least, greatest: the pairs there are.
        tokens_at: the most tokens of a string of two lengths, special tokens included.
        second_is_drawn: whether the second range is that of several numbers in a string, each with its own length.
    """

    names: tuple[str, str]
    least: Pair
    greatest: Pair
    tokens_at: Callable[[int, int], int]
    second_is_drawn: bool = False

    def rows(self, low: Pair, high: Pair) -> int:
        """How many different pairs, or first lengths if the second is drawn, rows can have."""
        firsts, seconds = high.first - low.first + 1, high.second - low.second + 1
        return firsts if self.second_is_drawn else firsts * seconds


@dataclass(frozen=True)
class PairedTask(Task):
    """A task whose length is one number, or two: ``Pair(3, 7)``, or a range for each, ``((1, 10), (20, 30))``.

    Attributes:
        pairs: its strings of two lengths.
    """

    pairs: PairGeometry = field(kw_only=True, repr=False)

    def tokens_at(self, n: Number) -> int:
        return self.pairs.tokens_at(*n) if isinstance(n, Pair) else super().tokens_at(n)

    def context_for(self, longest: Number) -> int:
        return self.pairs.tokens_at(*longest) if isinstance(longest, Pair) else super().context_for(longest)

    def check_lengths(self, low: Number, high: Number, distribution: str | None = None) -> Sequence[Number]:
        """As of :class:`Task`; of pairs, the first and the last."""
        if not isinstance(low, Pair):
            return super().check_lengths(low, high, distribution)
        self._check_distribution(distribution)
        length = label(written(low, high))
        for i, name in enumerate(self.pairs.names):
            least, greatest = self.pairs.least[i], self.pairs.greatest[i]
            if low[i] > high[i]:
                raise ValueError(f"length is {length}, where {low[i]}:{high[i]} is reversed; write low:high")
            if not least <= low[i] <= high[i] <= greatest:
                raise ValueError(f"length is {length}; the {name} of {self.name} must be in {least}..{greatest}")
        if self.pairs.rows(low, high) > _MOST_ROWS:
            raise ValueError(
                f"length is {length}, which is {self.pairs.rows(low, high)} pairs; {_MOST_ROWS} fit at most"
            )
        return low, high

    def _engine_sampler(self, distribution: str, low: Number, high: Number, seed: int, context: int) -> _engine.Sampler:
        if not isinstance(low, Pair):
            return super()._engine_sampler(distribution, low, high, seed, context)
        rows, ranges = self.pairs.rows(low, high), (low.first, high.first, low.second, high.second)
        return _engine.Sampler(self.name, distribution, len(self.symbols), 0, rows - 1, seed, context, ranges)


TWO_NUMBERS = PairGeometry(
    names=("digits of the first number", "digits of the second number"),
    least=Pair(1, 1),
    greatest=Pair(2**19 - 1, 2**19 - 1),
    tokens_at=lambda a, b: a + b + max(a, b) + 5,
)


def _tokens_of_many(count: int, digits: int) -> int:
    answer = digits + (2 if count > 10 else 1)
    return count * (digits + 1) + answer + 2


MANY_NUMBERS = PairGeometry(
    names=("number of operands", "digits of each operand"),
    least=Pair(2, 1),
    greatest=Pair(99, 10_000),
    tokens_at=_tokens_of_many,
    second_is_drawn=True,
)
