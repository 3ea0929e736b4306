"""How much of the first half of a word its answer depends on: a bound for every Limit Transformer.

Let Alice hold the first N symbols of a word and Bob the rest. With a Limit Transformer that is periodic and local she
can tell him all he needs in O(log N) bits (arXiv 2410.02140), so the answers, as functions of his part, fall into
polynomially many *rows*. A family of exponentially many prefixes with different rows fools every such transformer.

Letters: N length of a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np

from lengen_fast.theory.confusion import Word
from lengen_fast.theory.questions import Questions

MOST_PREFIXES = 256
MOST_LETTERS = 3
LONG_PREFIXES = (64, 256)
LONG_PAIRS = 100


@dataclass(frozen=True)
class Growth:
    """How many different rows the prefixes of each length have.

    Where a prefix and a continuation are no question of the task, the entry is empty; two rows count as different also
    if they are empty in different places.

    Attributes:
        rows: by N, the rows found with some continuations.
        logarithmic, linear: c and the root mean square error of log2 rows fitted by c log2 N + d, and by c N + d.
    """

    rows: dict[int, int]
    logarithmic: tuple[float, float]
    linear: tuple[float, float]

    @property
    def exponential(self) -> bool:
        """Whether the linear law fits better; beware of short ranges."""
        return self.linear[1] < self.logarithmic[1] and self.linear[0] > 0.25

    def __str__(self) -> str:
        (slope, _), law = (self.linear, "N") if self.exponential else (self.logarithmic, "log2 N")
        counts = ", ".join(f"{rows} at {n}" for n, rows in self.rows.items())
        return f"rows of the communication matrix: {counts}; log2 rows grows like {slope:.2f} {law}"


@dataclass(frozen=True)
class FoolingFamily:
    """All words ``first w`` with w over ``letters``: any two of one length are told apart by some continuation.

    Attributes:
        first: a symbol.
        letters: two symbols or more.
        exhaustive: all pairs of members up to this length were told apart.
        lengths, pairs: so many pairs of members of these lengths were, drawn at random, half of them equal but for one
            symbol.
        example: two members of the length ``exhaustive`` and a continuation that tells them apart.
        growth: rows over the letters of the task.
    """

    first: int
    letters: tuple[int, ...]
    exhaustive: int
    lengths: tuple[int, ...]
    pairs: int
    example: tuple[Word, Word, Word]
    growth: Growth


def row_growth(questions: Questions, letters: tuple[int, ...] | None = None) -> Growth:
    """Counts rows of short prefixes over a few letters."""
    letters = (questions.symbols if letters is None else letters)[:MOST_LETTERS]
    rows: dict[int, int] = {}
    length = 1
    while len(letters) ** length <= MOST_PREFIXES:
        tests = [*continuations(letters), *((letter,) * n for letter in letters for n in range(4, length + 1))]
        rows[length] = len(set(_rows(questions, product(letters, repeat=length), tests)))
        length += 1
    return Growth(rows, _fit(rows, np.log2), _fit(rows, float))


def fooling_family(questions: Questions) -> FoolingFamily | None:
    """A family of words ``first w`` whose members all have different rows, or None."""
    symbols = questions.symbols[:MOST_LETTERS]
    for size in range(len(symbols), 1, -1):
        for letters in combinations(symbols, size):
            for first in symbols:
                family = _family(questions, first, letters)
                if family is not None:
                    return family
    return None


def _family(questions: Questions, first: int, letters: tuple[int, ...]) -> FoolingFamily | None:
    tests = continuations(questions.symbols[:MOST_LETTERS])
    exhaustive = 0
    while len(letters) ** exhaustive <= MOST_PREFIXES:
        members = [(first, *w) for w in product(letters, repeat=exhaustive)]
        if not _all_told_apart(questions, members, tests):
            return None
        exhaustive += 1
    random = np.random.default_rng(0)
    for length in LONG_PREFIXES:
        for pair in range(LONG_PAIRS):
            one, other = _two_members(random, first, letters, length, alike=pair % 2 == 0)
            if telling(questions, one, other, tests) is None:
                return None
    one, other = _two_members(random, first, letters, exhaustive, alike=True)
    example = one, other, telling(questions, one, other, tests)
    growth = row_growth(questions)
    return FoolingFamily(first, letters, exhaustive, LONG_PREFIXES, LONG_PAIRS, example, growth)


def _two_members(
    random: np.random.Generator, first: int, letters: tuple[int, ...], length: int, alike: bool
) -> tuple[Word, Word]:
    """Two different words of the family; ``alike``: they differ in one symbol."""
    one = random.choice(letters, length - 1)
    other = one.copy() if alike else random.choice(letters, length - 1)
    place = int(random.integers(length - 1))
    other[place] = random.choice([letter for letter in letters if letter != one[place]])
    return (first, *one.tolist()), (first, *other.tolist())


def continuations(letters: tuple[int, ...]) -> list[Word]:
    """What Bob may hold: all words of up to three letters."""
    return list(chain.from_iterable(product(letters, repeat=length) for length in range(4)))


def telling(questions: Questions, one: Word, other: Word, tests: list[Word]) -> Word | None:
    """A continuation after which both words are questions with different answers."""
    for test in tests:
        answers = questions.answer(one + test), questions.answer(other + test)
        if None not in answers and answers[0] != answers[1]:
            return test
    return None


def _rows(questions: Questions, prefixes: Iterable[Word], tests: list[Word]) -> Iterator[tuple]:
    for prefix in prefixes:
        yield tuple(questions.answer((*prefix, *test)) for test in tests)


def _all_told_apart(questions: Questions, prefixes: list[Word], tests: list[Word]) -> bool:
    """Whether the rows are all different where all of them have entries."""
    rows = list(_rows(questions, prefixes, tests))
    full = [column for column in zip(*rows, strict=True) if None not in column]
    return len(set(zip(*full, strict=True))) == len(rows) if full else len(rows) < 2


def _fit(rows: dict[int, int], scale) -> tuple[float, float]:
    """Slope and root mean square error of log2 rows against ``scale(N)``."""
    if len(rows) < 3:
        return 0.0, 0.0
    x, y = np.array([scale(n) for n in rows]), np.log2(list(rows.values()))
    begin, slope = np.polynomial.polynomial.polyfit(x, y, 1)
    error = np.sqrt(np.mean((begin + slope * x - y) ** 2))
    return float(slope), float(error)
