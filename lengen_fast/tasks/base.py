"""What a task is: an alphabet, a way to draw strings, and an oracle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lengen_fast import _engine
from lengen_fast.data import Batch, check_integer
from lengen_fast.lengths import Length, Number, Pair, bounds, label, written
from lengen_fast.symbols import SPECIAL_NAMES

DISTRIBUTIONS = ("paper", "uniform", "hard", "negative", "corrupted")
USUAL_LENGTH = 50
LONGEST_LENGTH = 2**20
"""No string has more than this many symbols before its separator."""

_TOKENS_WORTH_THREADS = 2**18

Oracle = Callable[["Task", np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Geometry:
    """How long strings are: x of length n, then an answer.

    Attributes:
        shortest: the least n.
        stride, residue: n is reachable if it is ``residue`` modulo ``stride``.
        tokens_at: the most tokens a string of length n can have, special tokens included.
        context_for: the size of the position table for test lengths up to L; None: the tokens of the longest string.
        spare_symbols: how much longer than the alphabet x may be, when its symbols are distinct; None: no limit.
    """

    shortest: int
    tokens_at: Callable[[int], int]
    context_for: Callable[[int], int] | None = None
    stride: int = 1
    residue: int = 0
    spare_symbols: int | None = None

    def reachable(self, low: int, high: int) -> range:
        """The lengths in low..high that the task can draw."""
        low = max(low, self.shortest)
        return range(low + (self.residue - low) % self.stride, high + 1, self.stride)


@dataclass(frozen=True)
class NumberedSymbols(Sequence):
    """The names "0", "1", ... and then those in ``last``, without holding them in memory."""

    count: int
    last: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count + len(self.last)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"index is {index}; there are {len(self)} symbols")
        index %= len(self)
        return str(index) if index < self.count else self.last[index - self.count]

    def index(self, name: str, *_: int) -> int:
        if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < self.count:
            return int(name)
        if name in self.last:
            return self.count + self.last.index(name)
        raise ValueError(f"{name!r} is not a symbol")

    def __contains__(self, name: object) -> bool:
        try:
            self.index(name)
        except (ValueError, AttributeError):
            return False
        return True


@dataclass(frozen=True)
class Task:
    """One task of arXiv 2410.02140: draws strings of any length and knows their answers.

    Token ids are those of ``symbols`` in order, then BOS, SEP and EOS.

    Attributes:
        name: the name :func:`lengen_fast.task` knows it by.
        family: "counting", "copying", "sorting" or "arithmetic".
        description: one line.
        hard_means: one sentence: what the ``hard`` distribution draws.
        citation: where the task comes from.
        symbols: names of the ordinary tokens.
        alphabet_grows: whether long strings need more symbols, see :meth:`with_symbols`.
        label: what is to be predicted, and where.
        chance: exact match of a guesser that knows the format but not the answer.
        distributions: the ways to draw its strings.
        geometry: how long its strings are.
    """

    name: str
    family: str
    description: str
    hard_means: str
    citation: str
    symbols: Sequence[str]
    geometry: Geometry = field(repr=False)
    answer: Oracle = field(repr=False)
    alphabet_grows: bool = False
    label: str = "the answer behind <sep>"
    chance: float = 0.0
    distributions: tuple[str, ...] = ("paper", "hard")

    def definition(self) -> dict:
        """JSON values that :func:`lengen_fast.tasks.from_definition` makes the same task from."""
        return {"name": self.name, "symbols": self.symbols.count if self.alphabet_grows else None}

    # ---- alphabet ----

    @property
    def bos(self) -> int:
        return len(self.symbols)

    @property
    def sep(self) -> int:
        return len(self.symbols) + 1

    @property
    def eos(self) -> int:
        return len(self.symbols) + 2

    @property
    def vocab_size(self) -> int:
        return len(self.symbols) + len(SPECIAL_NAMES)

    def with_symbols(self, longest: int) -> Task:
        """The task with an alphabet that serves strings up to length ``longest``; itself if it does already."""
        longest = check_integer("longest", longest, 0, LONGEST_LENGTH)
        if not self.alphabet_grows or longest <= self.max_length:
            return self
        return self.with_alphabet(longest)

    def with_alphabet(self, symbols: int) -> Task:
        """The task over so many symbols, for tasks whose alphabet grows."""
        return replace(self, symbols=replace(self.symbols, count=symbols))

    @property
    def _engine_symbols(self) -> int:
        return self.symbols.count if self.alphabet_grows else len(self.symbols)

    @cached_property
    def _ids(self) -> dict[str, int]:
        names = () if self.alphabet_grows else self.symbols
        return {name: i for i, name in enumerate(names)} | {
            name: len(self.symbols) + i for i, name in enumerate(SPECIAL_NAMES)
        }

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Names of token ids; the special tokens are ``<bos>``, ``<sep>`` and ``<eos>``."""
        return [self._name_of(int(i)) for i in ids]

    def _name_of(self, token: int) -> str:
        check_integer("token id", token, 0, self.vocab_size - 1)
        return self.symbols[token] if token < len(self.symbols) else SPECIAL_NAMES[token - len(self.symbols)]

    def encode(self, text: str | Iterable[str]) -> np.ndarray:
        """[T] int64 ids of names, or of a text of names between spaces (one-letter names may stand together)."""
        names = self._split(text) if isinstance(text, str) else text
        return np.array([self._id_of(name) for name in names], dtype=np.int64)

    def _split(self, text: str) -> list[str]:
        names = []
        for piece in text.split():
            names += [piece] if self.alphabet_grows or piece in self._ids else piece
        return names

    def _id_of(self, name: str) -> int:
        if name in self._ids:
            return self._ids[name]
        if self.alphabet_grows and name in self.symbols:
            return self.symbols.index(name)
        raise ValueError(f"text has {name!r}, which is no symbol of {self.name}; its symbols are {self._symbol_list()}")

    def _symbol_list(self) -> str:
        shown = [*self.symbols[:4], "...", self.symbols[-1]] if len(self.symbols) > 30 else list(self.symbols)
        return " ".join([*shown, *SPECIAL_NAMES])

    # ---- lengths ----

    @property
    def min_length(self) -> int:
        return self.geometry.shortest

    @property
    def max_length(self) -> int:
        """The greatest length the alphabet allows."""
        spare = self.geometry.spare_symbols
        return LONGEST_LENGTH if spare is None else min(LONGEST_LENGTH, self.symbols.count + spare)

    @property
    def usual_lengths(self) -> tuple[int, int]:
        """The range that is drawn if nobody says: from the shortest string to 50, or if that is longer to 50 more;
        not beyond the longest string."""
        return self.min_length, min(self._usual_end, self.max_length)

    @property
    def usual_bins(self) -> list[tuple[int, int]]:
        """The ranges of an evaluation if nobody says: the usual lengths and twice 50 more, as far as there are strings;
        of a task whose alphabet grows with the symbols that they need."""
        ends = [self._usual_end + more * USUAL_LENGTH for more in range(3)]
        longest = self.with_symbols(min(ends[-1], LONGEST_LENGTH)).max_length
        starts = [self.min_length, *(end + 1 for end in ends[:-1])]
        bins = [(low, min(high, longest)) for low, high in zip(starts, ends, strict=True)]
        return [(low, high) for low, high in bins if self.reachable(low, high)]

    @property
    def _usual_end(self) -> int:
        return USUAL_LENGTH if self.min_length <= USUAL_LENGTH else self.min_length + USUAL_LENGTH

    def tokens_at(self, n: int) -> int:
        """The most tokens a string of length ``n`` can have."""
        return self.geometry.tokens_at(check_integer("n", n, 0, LONGEST_LENGTH))

    def context_for(self, longest: int) -> int:
        """The size of the position table that tests up to length ``longest`` need."""
        longest = check_integer("longest", longest, self.min_length, LONGEST_LENGTH)
        if self.geometry.context_for is not None:
            return self.geometry.context_for(longest)
        return self.tokens_at(self.reachable(self.min_length, longest)[-1])

    def reachable(self, low: int, high: int) -> Sequence[int]:
        """The lengths in low..high that the task can draw, increasing."""
        return self.geometry.reachable(low, high)

    def check_lengths(self, low: Number, high: Number, distribution: str | None = None) -> Sequence[Number]:
        """The lengths of an inclusive range that the task can draw, or an error that says which there are.

        Args:
            low, high: the range.
            distribution: one of ``distributions``; None: the first. Strings outside a language have lengths of their
                own, all other distributions of a task have the same.
        """
        self._check_distribution(distribution)
        low, high = self._checked_range(low, high)
        if low < self.min_length:
            raise ValueError(f"length starts at {low}; the shortest string of {self.name} has length {self.min_length}")
        if high > self.max_length:
            raise ValueError(f"length ends at {high}; {self._why_no_longer(high)}")
        lengths = self.reachable(low, high)
        if not lengths:
            asked = written(low, high)
            raise ValueError(f"length is {asked}, where {self.name} has no string; {self._lengths_nearby(low, high)}")
        return lengths

    def _checked_range(self, low: Number, high: Number) -> tuple[int, int]:
        """The ends of a range of single lengths, in order."""
        if isinstance(low, Pair) or isinstance(high, Pair):
            asked = written(low, high) if type(low) is type(high) else (low, high)
            raise ValueError(
                f"length is {label(asked)}, and strings of {self.name} have one length: write one number, such as 20, "
                "or a range of them"
            )
        low = check_integer("length", low, -(2**63), 2**63)
        high = check_integer("length", high, -(2**63), 2**63)
        if low > high:
            raise ValueError(f"length is ({low}, {high}), which is reversed; give (low, high) with low <= high")
        return low, high

    def _lengths_nearby(self, low: int, high: int) -> str:
        first = (self.geometry.shortest + i * self.geometry.stride for i in range(3))
        return f"its lengths are {', '.join(map(str, first))}, ..."

    def _why_no_longer(self, length: int) -> str:
        if max(self.max_length, length - 1) >= LONGEST_LENGTH:
            return f"the longest string has length {LONGEST_LENGTH}"
        return (
            f"{self.name} with {self.symbols.count} symbols has strings up to length {self.max_length}; "
            f"longer ones take more symbols: task({self.name!r}, symbols=...), or to train a model with longer "
            "--eval-lengths"
        )

    # ---- strings ----

    def sample(
        self,
        count: int,
        length: Length | None = None,
        seed: int = 0,
        distribution: str | None = None,
        *,
        stream: int = 0,
        first_row: int = 0,
        context: int | None = None,
        threads: int | None = None,
    ) -> Batch:
        """Draws rows ``first_row .. first_row + count - 1`` of one stream.

        Row r of stream s under a seed is the same string whatever else is asked for, whoever asks.

        Args:
            count: strings to draw.
            length: one length or an inclusive range ``(low, high)``; None: ``usual_lengths``.
            seed: 0..2**64-1.
            distribution: one of ``distributions``; see ``hard_means``. None: the first of them.
            stream: 0..2**64-1; in training, the step.
            first_row: 0..2**32-1.
            context: size of the position table; offsets are uniform over those that fit. None: every offset is 0.
            threads: None: as many as there are processors, if the batch is large. Changes nothing but speed.

        Raises:
            ValueError: an argument out of its range, a length the task cannot draw, a batch of 2**31 tokens or more.
            TypeError: an argument of the wrong type.
        """
        count = check_integer("count", count, 1, 2**31 - 2)
        stream = check_integer("stream", stream, 0, 2**64 - 1)
        first_row = check_integer("first_row", first_row, 0, 2**32 - count)
        low, high = self._range(length)
        sampler = self.sampler((low, high), seed=seed, distribution=distribution, context=context)
        threads = self._threads(threads, count * self.tokens_at(high))
        return Batch.from_engine(sampler.sample(count, stream=stream, first_row=first_row, threads=threads))

    def sampler(
        self,
        length: Length | None = None,
        *,
        seed: int = 0,
        distribution: str | None = None,
        context: int | None = None,
    ) -> _engine.Sampler:
        """The engine's sampler behind :meth:`sample`, for callers that draw many batches."""
        distribution = self.distributions[0] if distribution is None else distribution
        low, high = self._range(length)
        longest = self.check_lengths(low, high, distribution)[-1]
        seed = check_integer("seed", seed, 0, 2**64 - 1)
        context = self._check_context(context, longest)
        return self._engine_sampler(distribution, low, high, seed, context)

    def _check_distribution(self, distribution: str | None) -> None:
        if distribution not in (None, *self.distributions):
            choices = " or ".join(map(repr, self.distributions))
            raise ValueError(
                f"distribution is {distribution!r}; it must be {choices} for {self.name}{self._hint(distribution)}"
            )

    def _hint(self, distribution: str) -> str:
        """What else to say of a distribution that the task does not have."""
        return ""

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> _engine.Sampler:
        return _engine.Sampler(self.name, distribution, self._engine_symbols, low, high, seed, context)

    def oracle(self, tokens: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scored positions and targets of one string, worked out without the engine.

        Args:
            tokens: [T] ids of ``BOS x SEP ...``; whatever follows the separator is ignored.

        Returns:
            scored [P] int64 indices into the whole string, and targets [P] int64.

        Raises:
            ValueError: the string is not a question of this task.
        """
        return self.answer(self, np.asarray(tokens, dtype=np.int64))

    def _range(self, length: Length | None) -> tuple[Number, Number]:
        return self.usual_lengths if length is None else bounds(length)

    def _check_context(self, context: int | None, longest: int) -> int:
        if context is None:
            return 0
        context = check_integer("context", context, 0, 2**32 - 2)
        needed = self.tokens_at(longest)
        if 0 < context < needed:
            raise ValueError(f"context is {context}; strings of length {longest} need at least {needed}")
        return context

    def _threads(self, threads: int | None, tokens: int) -> int:
        if threads is not None:
            return check_integer("threads", threads, 1, 1024)
        return len(os.sched_getaffinity(0)) if tokens > _TOKENS_WORTH_THREADS else 1
