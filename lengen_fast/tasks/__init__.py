"""The registry of tasks."""

from __future__ import annotations

from difflib import get_close_matches

from lengen_fast.data import check_integer
from lengen_fast.tasks import definitions
from lengen_fast.tasks.algorithmic import ALGORITHMIC
from lengen_fast.tasks.arithmetic import ARITHMETIC
from lengen_fast.tasks.base import DISTRIBUTIONS, LONGEST_LENGTH, Task
from lengen_fast.tasks.copying import COPYING
from lengen_fast.tasks.counting import COUNTING, COUNTS, MODES
from lengen_fast.tasks.definitions import language
from lengen_fast.tasks.functions import task_from_function
from lengen_fast.tasks.languages import LABELS, Language
from lengen_fast.tasks.recall import RECALL
from lengen_fast.tasks.sorting import BUCKET_SORTS, SORTING
from lengen_fast.tasks.state_tracking import (
    ALTERNATING_GROUPS,
    CYCLES,
    CYCLIC_GROUPS,
    MODULAR_SUMS,
    STATE_TRACKING,
    SYMMETRIC_GROUPS,
    word_problem,
)

__all__ = [
    "DISTRIBUTIONS",
    "LABELS",
    "LONGEST_LENGTH",
    "Language",
    "Task",
    "from_definition",
    "is_task",
    "language",
    "task",
    "task_from_function",
    "tasks",
    "word_problem",
]

_REGISTRY = {
    each.name: each
    for family in (
        ALGORITHMIC,
        COUNTING,
        COPYING,
        SORTING,
        STATE_TRACKING,
        RECALL,
        ARITHMETIC,
        definitions.named_languages(),
    )
    for each in family
}
_NUMBERED = (MODES, COUNTS, BUCKET_SORTS, MODULAR_SUMS, CYCLES, CYCLIC_GROUPS, SYMMETRIC_GROUPS, ALTERNATING_GROUPS)


def tasks() -> dict[str, str]:
    """Name and one-line description of every task."""
    return {name: each.description for name, each in _REGISTRY.items()}


def is_task(name: str) -> bool:
    """Whether :func:`task` knows the name."""
    return name in _REGISTRY or _numbered(name) is not None


def task(name: str, *, symbols: int | None = None, labels: str | None = None) -> Task:
    """The task of that name.

    Args:
        name: one of :func:`tasks`, or one of theirs with another number behind it, such as ``mode_20``.
        symbols: size of the alphabet, for the tasks over distinct symbols; None: 150.
        labels: of a language, one of ``LABELS``; None: ``"legal+end"``.

    Raises:
        ValueError: there is no such task, its alphabet is fixed, or it is no language and has no labels.
    """
    found = _REGISTRY.get(name) or _numbered(name)
    if found is None:
        raise ValueError(f"there is no task {name!r}; {_suggestion(name)}")
    if labels is not None:
        if not isinstance(found, Language):
            raise ValueError(f"labels is {labels!r}, but {name} is no formal language; leave it out")
        found = found.with_labels(labels)
    if symbols is None:
        return found
    if not found.alphabet_grows:
        raise ValueError(f"symbols is {symbols!r}, but the alphabet of {name} is fixed; leave it out")
    return found.with_alphabet(check_integer("symbols", symbols, 1, LONGEST_LENGTH))


def from_definition(definition: dict) -> Task:
    """The task that ``Task.definition`` describes.

    Raises:
        ValueError: it was made from a Python function, which is not stored.
    """
    if "function" in definition:
        raise ValueError(
            f"{definition['name']} was made from the Python function {definition['function']}, which is not stored; "
            "make the task again and use lf.evaluate with it"
        )
    if "automaton" in definition:
        return definitions.from_definition(definition)
    if "table" in definition:
        return word_problem(definition["table"], names=definition["elements"], name=definition["name"])
    return task(definition["name"], symbols=definition["symbols"], labels=definition.get("labels"))


def _numbered(name: object) -> Task | None:
    found = (each.find(name) for each in _NUMBERED) if isinstance(name, str) else ()
    return next(filter(None, found), None)


def _suggestion(name: object) -> str:
    near = get_close_matches(str(name), _REGISTRY, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(_REGISTRY)}"
