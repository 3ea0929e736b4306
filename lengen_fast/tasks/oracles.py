"""The answers, worked out in NumPy from the tokens of one string; shares no code with the engine.

Each oracle takes the task and the [T] int64 tokens of `BOS x SEP ...`, checks that they are a question of the task, and
returns scored [P] int64 (indices into the whole string) and targets [P] int64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lengen_fast.tasks.base import Task

Answer = tuple[np.ndarray, np.ndarray]

PLUS, EQUALS = 2, 3
EVEN, ODD = 2, 3


def binary_majority(task: Task, tokens: np.ndarray) -> Answer:
    """The more frequent bit."""
    x = _question(task, tokens, symbols=2)
    return _answer(task, x, [_most_frequent(task, x)])


def majority(task: Task, tokens: np.ndarray) -> Answer:
    """The most frequent letter."""
    x = _question(task, tokens, symbols=26)
    return _answer(task, x, [_most_frequent(task, x)])


def binary_majority_interleave(task: Task, tokens: np.ndarray) -> Answer:
    """The more frequent bit of every third symbol, from the first, second and third on."""
    x = _question(task, tokens, symbols=2)
    return _answer(task, x, [_most_frequent(task, x[start::3]) for start in range(3)])


def parity(task: Task, tokens: np.ndarray) -> Answer:
    """`e` if the number of ones is even, else `o`."""
    x = _question(task, tokens, symbols=2)
    return _answer(task, x, [ODD if np.count_nonzero(x) % 2 else EVEN])


def copy(task: Task, tokens: np.ndarray) -> Answer:
    """x again."""
    x = _question(task, tokens, symbols=2)
    return _answer(task, x, x)


def unique_copy(task: Task, tokens: np.ndarray) -> Answer:
    """x again; its symbols are distinct."""
    x = _distinct(task, _question(task, tokens, task.symbols.count))
    return _answer(task, x, x)


def sort(task: Task, tokens: np.ndarray) -> Answer:
    """x in increasing order; its symbols are distinct."""
    x = _distinct(task, _question(task, tokens, task.symbols.count))
    return _answer(task, x, np.sort(x))


def offset_copy(k: int):
    """The oracle that returns every k-th symbol of x."""

    def every_kth(task: Task, tokens: np.ndarray) -> Answer:
        filler = task.symbols.count
        x = _question(task, tokens, filler + 1)
        _require(bool(np.all(x[: k - 1] == filler)), task, f"must start with {k - 1} fillers")
        _distinct(task, x[k - 1 :])
        _require(not np.any(x[k - 1 :] == filler), task, f"must have only {k - 1} fillers")
        return _answer(task, x, x[k - 1 :: k])

    return every_kth


def addition(task: Task, tokens: np.ndarray) -> Answer:
    """The binary sum, most significant digit first."""
    x = _until(task, tokens, EQUALS, "=")
    plus = np.flatnonzero(x == PLUS)
    _require(len(plus) == 1, task, "must have one +")
    _check_length(task, len(x) + 1)
    a, b = _number(task, x[: plus[0]]), _number(task, x[plus[0] + 1 :])
    digits = np.frombuffer(f"{a + b:b}".encode(), dtype=np.uint8) - ord("0")
    return _scored(task, len(x) + 1, digits)


def _number(task: Task, digits: np.ndarray) -> int:
    _require(len(digits) > 0, task, "must have a digit on either side of +")
    _require(bool(np.all((digits == 0) | (digits == 1))), task, "must have only digits 0 and 1 around +")
    _require(len(digits) == 1 or digits[0] == 1, task, "must have no leading zero in a number")
    return int((digits.astype(np.uint8) + ord("0")).tobytes(), 2)


def _question(task: Task, tokens: np.ndarray, symbols: int) -> np.ndarray:
    """x of `BOS x SEP ...`, all its ids below ``symbols``."""
    x = _until(task, tokens, task.sep, "SEP")
    _require(bool(np.all((x >= 0) & (x < symbols))), task, f"must have only ids 0..{symbols - 1} before SEP")
    _check_length(task, len(x))
    return x


def _until(task: Task, tokens: np.ndarray, separator: int, name: str) -> np.ndarray:
    _require(tokens.ndim == 1 and len(tokens) > 0 and tokens[0] == task.bos, task, "must start with BOS")
    places = np.flatnonzero(tokens == separator)
    _require(len(places) > 0, task, f"must have a {name}")
    return tokens[1 : places[0]]


def _check_length(task: Task, n: int) -> None:
    _require(len(task.reachable(n, n)) == 1, task, f"cannot have length {n}")


def _distinct(task: Task, x: np.ndarray) -> np.ndarray:
    _require(bool(np.all(np.bincount(x) <= 1)), task, "must have distinct symbols")
    return x


def _most_frequent(task: Task, x: np.ndarray) -> int:
    counts = np.bincount(x)
    winners = np.flatnonzero(counts == counts.max())
    _require(len(winners) == 1, task, "must not tie for the most frequent symbol")
    return int(winners[0])


def _answer(task: Task, x: np.ndarray, y: np.ndarray | list[int]) -> Answer:
    return _scored(task, len(x) + 1, y)


def _scored(task: Task, separator: int, y: np.ndarray | list[int]) -> Answer:
    """Scored positions and targets of `y EOS` behind the separator at that index."""
    targets = np.append(np.asarray(y, dtype=np.int64), task.eos)
    return np.arange(separator, separator + len(targets), dtype=np.int64), targets


def _require(condition: bool, task: Task, what: str) -> None:
    if not condition:
        raise ValueError(f"tokens are no question of {task.name}: a string {what}")
