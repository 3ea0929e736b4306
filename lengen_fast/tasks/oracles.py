"""The answers of the paper's tasks, worked out in NumPy from the tokens of one string; shares no code with the engine.

Each oracle takes the task and the [T] int64 tokens of `BOS x SEP ...`, checks that they are a question of the task, and
returns scored [P] int64 (indices into the whole string) and targets [P] int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lengen_fast.tasks.questions import (
    Answer,
    answered,
    check_length,
    distinct,
    most_frequent,
    question,
    require,
    scored_behind,
    until,
)

if TYPE_CHECKING:
    from lengen_fast.tasks.base import Task

PLUS, EQUALS = 2, 3
EVEN, ODD = 2, 3


def binary_majority(task: Task, tokens: np.ndarray) -> Answer:
    """The more frequent bit."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, [most_frequent(task, x)])


def majority(task: Task, tokens: np.ndarray) -> Answer:
    """The most frequent letter."""
    x = question(task, tokens, symbols=26)
    return answered(task, x, [most_frequent(task, x)])


def binary_majority_interleave(task: Task, tokens: np.ndarray) -> Answer:
    """The more frequent bit of every third symbol, from the first, second and third on."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, [most_frequent(task, x[start::3]) for start in range(3)])


def parity(task: Task, tokens: np.ndarray) -> Answer:
    """`e` if the number of ones is even, else `o`."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, [ODD if np.count_nonzero(x) % 2 else EVEN])


def copy(task: Task, tokens: np.ndarray) -> Answer:
    """x again."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, x)


def unique_copy(task: Task, tokens: np.ndarray) -> Answer:
    """x again; its symbols are distinct."""
    x = distinct(task, question(task, tokens, task.symbols.count))
    return answered(task, x, x)


def sort(task: Task, tokens: np.ndarray) -> Answer:
    """x in increasing order; its symbols are distinct."""
    x = distinct(task, question(task, tokens, task.symbols.count))
    return answered(task, x, np.sort(x))


def offset_copy(k: int):
    """The oracle that returns every k-th symbol of x."""

    def every_kth(task: Task, tokens: np.ndarray) -> Answer:
        filler = task.symbols.count
        x = question(task, tokens, filler + 1)
        require(bool(np.all(x[: k - 1] == filler)), task, f"must start with {k - 1} fillers")
        distinct(task, x[k - 1 :])
        require(not np.any(x[k - 1 :] == filler), task, f"must have only {k - 1} fillers")
        return answered(task, x, x[k - 1 :: k])

    return every_kth


def addition(task: Task, tokens: np.ndarray) -> Answer:
    """The binary sum, most significant digit first."""
    x = until(task, tokens, EQUALS, "=")
    plus = np.flatnonzero(x == PLUS)
    require(len(plus) == 1, task, "must have one +")
    check_length(task, len(x) + 1)
    a, b = _number(task, x[: plus[0]]), _number(task, x[plus[0] + 1 :])
    digits = np.frombuffer(f"{a + b:b}".encode(), dtype=np.uint8) - ord("0")
    return scored_behind(task, len(x) + 1, digits)


def _number(task: Task, digits: np.ndarray) -> int:
    require(len(digits) > 0, task, "must have a digit on either side of +")
    require(bool(np.all((digits == 0) | (digits == 1))), task, "must have only digits 0 and 1 around +")
    require(len(digits) == 1 or digits[0] == 1, task, "must have no leading zero in a number")
    return int((digits.astype(np.uint8) + ord("0")).tobytes(), 2)
