"""Copying tasks of the field: the answer repeats the question, or a part of it, in some order.

`paper` draws the letters independently and uniformly, as Delétang et al. do.
"""

from __future__ import annotations

import numpy as np

from lengen_fast.tasks.base import Geometry, Task
from lengen_fast.tasks.questions import Answer, answered, question

CHOMSKY = "Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
ALMOST_PERIODIC = "almost periodic: a random block of one to eight letters over and over, with one letter changed"


def reverse(task: Task, tokens: np.ndarray) -> Answer:
    """x backwards."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, x[::-1])


def duplicate(task: Task, tokens: np.ndarray) -> Answer:
    """x twice."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, np.tile(x, 2))


def _copy_of(times: int) -> Geometry:
    """`BOS x SEP y EOS` with an answer of so many times the length of x."""
    size = lambda n: (1 + times) * n + 3  # noqa: E731
    return Geometry(1, tokens_at=size, context_for=size)


COPYING = (
    Task(
        name="reverse",
        family="copying",
        description="repeat a string over two letters backwards",
        hard_means=ALMOST_PERIODIC,
        citation=CHOMSKY,
        symbols=("a", "b"),
        geometry=_copy_of(times=1),
        answer=reverse,
    ),
    Task(
        name="duplicate",
        family="copying",
        description="repeat a string over two letters twice",
        hard_means=ALMOST_PERIODIC,
        citation=CHOMSKY,
        symbols=("a", "b"),
        geometry=_copy_of(times=2),
        answer=duplicate,
    ),
)
