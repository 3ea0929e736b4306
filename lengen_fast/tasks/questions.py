"""What oracles share: the question read from the tokens of a string, checked, and its answer as scored positions.

Letters: T tokens, P scored positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lengen_fast.tasks.base import Task

Answer = tuple[np.ndarray, np.ndarray]
"""Scored [P] int64, indices into the whole string, and targets [P] int64."""


def question(task: Task, tokens: np.ndarray, symbols: int) -> np.ndarray:
    """x of `BOS x SEP ...`, all its ids below ``symbols``."""
    x = until(task, tokens, task.sep, "SEP")
    require(bool(np.all((x >= 0) & (x < symbols))), task, f"must have only ids 0..{symbols - 1} before SEP")
    check_length(task, len(x))
    return x


def until(task: Task, tokens: np.ndarray, separator: int, name: str) -> np.ndarray:
    """What stands between BOS and the first ``separator``."""
    require(tokens.ndim == 1 and len(tokens) > 0 and tokens[0] == task.bos, task, "must start with BOS")
    places = np.flatnonzero(tokens == separator)
    require(len(places) > 0, task, f"must have a {name}")
    return tokens[1 : places[0]]


def check_length(task: Task, n: int) -> None:
    """Raise a ValueError if the task draws no strings of length n."""
    require(len(task.reachable(n, n)) == 1, task, f"cannot have length {n}")


def distinct(task: Task, x: np.ndarray) -> np.ndarray:
    """x, whose symbols must be distinct."""
    require(bool(np.all(np.bincount(x) <= 1)), task, "must have distinct symbols")
    return x


def most_frequent(task: Task, x: np.ndarray) -> int:
    """The most frequent symbol of x, which must be one alone."""
    counts = np.bincount(x)
    winners = np.flatnonzero(counts == counts.max())
    require(len(winners) == 1, task, "must not tie for the most frequent symbol")
    return int(winners[0])


def answered(task: Task, x: np.ndarray, y: np.ndarray | list[int]) -> Answer:
    """Scored positions and targets of `y EOS` in `BOS x SEP y EOS`."""
    return scored_behind(task, len(x) + 1, y)


def scored_behind(task: Task, separator: int, y: np.ndarray | list[int]) -> Answer:
    """Scored positions and targets of `y EOS` behind the separator at that index."""
    targets = np.append(np.asarray(y, dtype=np.int64), task.eos)
    return np.arange(separator, separator + len(targets), dtype=np.int64), targets


def require(condition: bool, task: Task, what: str) -> None:
    """Raise a ValueError that says what a string of the task must be, unless the condition holds."""
    if not condition:
        raise ValueError(f"tokens are no question of {task.name}: a string {what}")
