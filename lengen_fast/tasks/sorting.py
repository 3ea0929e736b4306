"""Sorting tasks of the field.

``paper`` draws independent letters, as Delétang et al.
"""

from __future__ import annotations

import numpy as np

from lengen_fast.tasks.base import Geometry, Task
from lengen_fast.tasks.copying import CHOMSKY
from lengen_fast.tasks.parametric import Numbered, ParametricTask
from lengen_fast.tasks.questions import Answer, answered, question


def bucket_sort(task: Task, tokens: np.ndarray) -> Answer:
    """x in increasing order; symbols may come again."""
    x = question(task, tokens, len(task.symbols))
    return answered(task, x, np.sort(x))


def _size(n: int) -> int:
    return 2 * n + 3


def _bucket_sort(name: str, count: int) -> Task:
    return ParametricTask(
        name=name,
        family="sorting",
        description=f"sort a string over {count} ordered symbols (bucket_sort_M: over M)",
        hard_means="rare symbols: one symbol throughout, but for zero to two of every other one",
        citation=CHOMSKY,
        symbols=tuple(map(str, range(count))),
        geometry=Geometry(1, tokens_at=_size, context_for=_size),
        answer=bucket_sort,
        engine="bucket_sort",
    )


BUCKET_SORTS = Numbered("bucket_sort_", 2, 256, "the number of symbols", _bucket_sort)

SORTING = (_bucket_sort("bucket_sort", 5),)
