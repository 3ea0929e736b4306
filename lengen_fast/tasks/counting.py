"""Counting tasks of the field: the answer depends on how often each symbol occurs.

What ``paper`` draws:
    mode: independent letters, redrawn while the two most frequent tie, as in the paper's majority.
    histogram: counts uniform in 1..9 until the length is reached, of distinct random symbols; then shuffled.
    count_K: with equal chance exactly K ones or any other number of them, uniform; then shuffled.
"""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from lengen_fast.tasks.base import Geometry, NumberedSymbols, Task
from lengen_fast.tasks.parametric import Numbered, ParametricTask
from lengen_fast.tasks.questions import Answer, answered, most_frequent, question, require

COUNTING_TO_N = "Yehudai et al., When Can Transformers Count to n?, arXiv 2407.15160"
RASP = "Weiss et al., Thinking Like Transformers, arXiv 2106.06981"
MOST_OFTEN = 9  # times a symbol occurs in a histogram
NO, YES = 2, 3


def letters(count: int) -> tuple[str, ...]:
    """Names of ``count`` symbols: letters if there are enough, else numbers."""
    return tuple(ascii_lowercase[:count]) if count <= 26 else tuple(map(str, range(count)))


def mode(task: Task, tokens: np.ndarray) -> Answer:
    """The most frequent letter."""
    x = question(task, tokens, len(task.symbols))
    return answered(task, x, [most_frequent(task, x)])


def histogram(task: Task, tokens: np.ndarray) -> Answer:
    """How often the symbol of each place occurs in x."""
    symbols = task.symbols.count
    x = question(task, tokens, symbols)
    counts = np.bincount(x)[x]
    require(bool(counts.max() <= MOST_OFTEN), task, f"must have no symbol more than {MOST_OFTEN} times")
    return answered(task, x, symbols - 1 + counts)


def count(task: ParametricTask, tokens: np.ndarray) -> Answer:
    """`y` if exactly K symbols are 1, else `n`."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, [YES if np.count_nonzero(x) == task.parameters[0] else NO])


def _one_answer(n: int) -> int:
    return n + 4


def _mode(name: str, count: int) -> Task:
    return ParametricTask(
        name=name,
        family="counting",
        description=f"which of {count} letters occurs most often (mode_M: of M letters)",
        hard_means="near ties: the winner leads by one, before as many letters of the next highest count as fit",
        citation=COUNTING_TO_N,
        symbols=letters(count),
        geometry=Geometry(1, tokens_at=_one_answer, context_for=_one_answer),
        answer=mode,
        chance=1 / count,
        engine="mode",
    )


def _count(name: str, k: int) -> Task:
    return ParametricTask(
        name=name,
        family="counting",
        description=f"whether exactly {k} of the symbols are 1 (count_K: exactly K)",
        hard_means=f"near misses: {k}, {k - 1} or {k + 1} ones, each in the first half of its own equal stretch",
        citation=COUNTING_TO_N,
        symbols=("0", "1", "n", "y"),
        geometry=Geometry(k, tokens_at=_one_answer, context_for=_one_answer),
        answer=count,
        chance=1 / 2,
        engine="count",
        parameters=(k,),
    )


HISTOGRAM = Task(
    name="histogram",
    family="counting",
    description="for each place, how often its symbol occurs in the string: once to nine times",
    hard_means="close counts: every symbol occurs c or c+1 times, for one random c",
    citation=RASP,
    symbols=NumberedSymbols(150, last=tuple(f"x{times}" for times in range(1, MOST_OFTEN + 1))),
    geometry=Geometry(1, tokens_at=lambda n: 2 * n + 3, context_for=lambda n: 2 * n + 3, spare_symbols=0),
    answer=histogram,
    alphabet_grows=True,
)

MODES = Numbered("mode_", 2, 256, "the number of letters", _mode)
COUNTS = Numbered("count_", 1, 1000, "the number of ones asked for", _count)

COUNTING = (_mode("mode", 10), HISTOGRAM, COUNTS.numbered(3))
