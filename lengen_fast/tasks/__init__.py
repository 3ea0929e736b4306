"""The registry of tasks."""

from __future__ import annotations

from difflib import get_close_matches

from lengen_fast.data import check_integer
from lengen_fast.tasks.algorithmic import ALGORITHMIC
from lengen_fast.tasks.base import DISTRIBUTIONS, LONGEST_LENGTH, Task
from lengen_fast.tasks.copying import COPYING

__all__ = ["DISTRIBUTIONS", "LONGEST_LENGTH", "Task", "task", "tasks"]

_REGISTRY = {each.name: each for each in (*ALGORITHMIC, *COPYING)}


def tasks() -> dict[str, str]:
    """Name and one-line description of every task."""
    return {name: each.description for name, each in _REGISTRY.items()}


def task(name: str, *, symbols: int | None = None) -> Task:
    """The task of that name.

    Args:
        name: one of :func:`tasks`.
        symbols: size of the alphabet, for the tasks over distinct symbols; None: 150.

    Raises:
        ValueError: there is no such task, or its alphabet is fixed.
    """
    if name not in _REGISTRY:
        raise ValueError(f"there is no task {name!r}; {_suggestion(name)}")
    found = _REGISTRY[name]
    if symbols is None:
        return found
    if not found.alphabet_grows:
        raise ValueError(f"symbols is {symbols!r}, but the alphabet of {name} is fixed; leave it out")
    return found._with_alphabet(check_integer("symbols", symbols, 1, LONGEST_LENGTH))


def _suggestion(name: object) -> str:
    near = get_close_matches(str(name), _REGISTRY, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(_REGISTRY)}"
