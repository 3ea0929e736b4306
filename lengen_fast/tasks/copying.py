"""Copying tasks of the field: the answer repeats the question, or a part of it, in some order.

What ``paper`` draws:
    reverse, duplicate: independent letters, as Delétang et al.
    selective_copy: 1 to n letters, a uniform number of them, independent, at random places among blanks. (Gu and Dao
        always put 16, as many as ``hard`` puts at most.)
"""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from lengen_fast.tasks.base import Geometry, Task
from lengen_fast.tasks.questions import Answer, answered, question, require

CHOMSKY = "Delétang et al., Neural Networks and the Chomsky Hierarchy, arXiv 2207.02098"
MAMBA = "Gu and Dao, Mamba, arXiv 2312.00752, after Jing et al., Gated Orthogonal Recurrent Units, arXiv 1706.02761"
ALMOST_PERIODIC = "almost periodic: a random block of one to eight letters over and over, with one letter changed"
BLANK = 16


def reverse(task: Task, tokens: np.ndarray) -> Answer:
    """x backwards."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, x[::-1])


def duplicate(task: Task, tokens: np.ndarray) -> Answer:
    """x twice."""
    x = question(task, tokens, symbols=2)
    return answered(task, x, np.tile(x, 2))


def selective_copy(task: Task, tokens: np.ndarray) -> Answer:
    """The letters of x without its blanks."""
    x = question(task, tokens, symbols=BLANK + 1)
    letters = x[x != BLANK]
    require(len(letters) > 0, task, "must have a letter")
    return answered(task, x, letters)


def _copied(times: int) -> Geometry:
    """`BOS x SEP y EOS` with an answer of at most so many times the length of x."""
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
        geometry=_copied(times=1),
        answer=reverse,
    ),
    Task(
        name="duplicate",
        family="copying",
        description="repeat a string over two letters twice",
        hard_means=ALMOST_PERIODIC,
        citation=CHOMSKY,
        symbols=("a", "b"),
        geometry=_copied(times=2),
        answer=duplicate,
    ),
    Task(
        name="selective_copy",
        family="copying",
        description="repeat the letters that stand among blanks",
        hard_means="long gaps: up to 16 letters, each in the first half of its own equal stretch, all the same but one",
        citation=MAMBA,
        symbols=(*ascii_lowercase[:BLANK], "."),
        geometry=_copied(times=1),
        answer=selective_copy,
    ),
)
