"""The algorithmic tasks of arXiv 2410.02140."""

from __future__ import annotations

from string import ascii_lowercase

from lengen_fast.tasks import oracles
from lengen_fast.tasks.base import Geometry, NumberedSymbols, Task
from lengen_fast.tasks.pairs import TWO_NUMBERS, PairedTask

CITATION = "Huang et al., A Formal Framework for Understanding Length Generalization in Transformers, arXiv 2410.02140"
DEFAULT_SYMBOLS = 150


def _short_answer(shortest: int, answer: int = 1, **more: int) -> Geometry:
    """`BOS x SEP y EOS` with an answer of fixed length."""
    size = lambda n: n + answer + 3  # noqa: E731
    return Geometry(shortest, tokens_at=size, context_for=size, **more)


def _copied_answer(spare_symbols: int | None = None) -> Geometry:
    """`BOS x SEP y EOS` with an answer as long as x."""
    size = lambda n: 2 * n + 3  # noqa: E731
    return Geometry(1, tokens_at=size, context_for=size, spare_symbols=spare_symbols)


def _every_kth(k: int) -> Geometry:
    return Geometry(
        shortest=2 * k - 1,
        tokens_at=lambda n: n + 3 + (n + 1) // k - 1,
        stride=k,
        residue=k - 1,
        spare_symbols=k - 1,
    )


def _offset_copy(k: int) -> Task:
    every = "every symbol" if k == 1 else f"every {'second' if k == 2 else 'third'} symbol"
    return Task(
        name=f"offset_copy_{k}",
        family="copying",
        description=f"{k - 1} fillers, then distinct symbols: repeat {every}, from the first behind the fillers on",
        hard_means="consecutive symbols from a random one on, with one to three random pairs swapped",
        citation=CITATION,
        symbols=NumberedSymbols(DEFAULT_SYMBOLS, last=("<filler>",)),
        geometry=_every_kth(k),
        answer=oracles.offset_copy(k),
        alphabet_grows=True,
    )


ALGORITHMIC = (
    Task(
        name="binary_majority",
        family="counting",
        description="which of 0 and 1 occurs more often",
        hard_means="near ties: a lead of one symbol at odd lengths, of two at even lengths",
        citation=CITATION,
        symbols=("0", "1"),
        geometry=_short_answer(1),
        answer=oracles.binary_majority,
        chance=1 / 2,
    ),
    Task(
        name="majority",
        family="counting",
        description="which of 26 letters occurs most often",
        hard_means="near ties: the winner leads by one, before as many letters of the next highest count as fit",
        citation=CITATION,
        symbols=tuple(ascii_lowercase),
        geometry=_short_answer(1),
        answer=oracles.majority,
        chance=1 / 26,
    ),
    Task(
        name="binary_majority_interleave",
        family="counting",
        description="binary_majority of three interleaved strings",
        hard_means="near ties in all three strings: a lead of one symbol at odd lengths, of two at even lengths",
        citation=CITATION,
        symbols=("0", "1"),
        geometry=_short_answer(3, answer=3, stride=3),
        answer=oracles.binary_majority_interleave,
        chance=1 / 8,
    ),
    Task(
        name="unique_copy",
        family="copying",
        description="repeat a string of distinct symbols",
        hard_means="consecutive symbols from a random one on, with one to three random pairs swapped",
        citation=CITATION,
        symbols=NumberedSymbols(DEFAULT_SYMBOLS),
        geometry=_copied_answer(spare_symbols=0),
        answer=oracles.unique_copy,
        alphabet_grows=True,
    ),
    Task(
        name="repeat_copy",
        family="copying",
        description="repeat a string over two letters",
        hard_means="almost periodic: a random block of one to eight letters over and over, with one letter changed",
        citation=CITATION,
        symbols=("a", "b"),
        geometry=_copied_answer(),
        answer=oracles.copy,
    ),
    Task(
        name="sort",
        family="sorting",
        description="sort a string of distinct symbols",
        hard_means="densest: n consecutive symbols in random order, so that neighbours in the answer differ by one",
        citation=CITATION,
        symbols=NumberedSymbols(DEFAULT_SYMBOLS),
        geometry=_copied_answer(spare_symbols=0),
        answer=oracles.sort,
        alphabet_grows=True,
    ),
    Task(
        name="parity",
        family="counting",
        description="whether the number of ones is even or odd",
        hard_means="up to three ones among zeros, or zeros among ones, each in the first half of its own equal stretch",
        citation=CITATION,
        symbols=("0", "1", "e", "o"),
        geometry=_short_answer(0),
        answer=oracles.parity,
        chance=1 / 2,
    ),
    PairedTask(
        name="addition",
        family="arithmetic",
        description="add two binary numbers, most significant digit first",
        hard_means="long carry chains: a column in the lower half of the shorter number starts a carry, or with equal "
        "chance stops any, and every column above it up to the leading one hands the carry on",
        citation=CITATION,
        symbols=("0", "1", "+", "="),
        geometry=Geometry(4, tokens_at=lambda n: 2 * n, context_for=lambda longest: 2 * longest),
        answer=oracles.addition,
        pairs=TWO_NUMBERS,
    ),
    *map(_offset_copy, (1, 2, 3)),
)
