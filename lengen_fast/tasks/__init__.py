"""The registry of tasks."""

from __future__ import annotations

from difflib import get_close_matches

from lengen_fast.data import check_integer
from lengen_fast.tasks import definitions
from lengen_fast.tasks.algorithmic import ALGORITHMIC
from lengen_fast.tasks.base import DISTRIBUTIONS, LONGEST_LENGTH, Task
from lengen_fast.tasks.definitions import language
from lengen_fast.tasks.languages import LABELS, Language

__all__ = [
    "DISTRIBUTIONS",
    "LABELS",
    "LONGEST_LENGTH",
    "Language",
    "Task",
    "from_definition",
    "language",
    "task",
    "tasks",
]

_REGISTRY = {each.name: each for each in (*ALGORITHMIC, *definitions.named_languages())}


def tasks() -> dict[str, str]:
    """Name and one-line description of every task."""
    return {name: each.description for name, each in _REGISTRY.items()}


def task(name: str, *, symbols: int | None = None, labels: str | None = None) -> Task:
    """The task of that name.

    Args:
        name: one of :func:`tasks`.
        symbols: size of the alphabet, for the tasks over distinct symbols; None: 150.
        labels: of a language, one of ``LABELS``; None: ``"legal+end"``.

    Raises:
        ValueError: there is no such task, its alphabet is fixed, or it is no language and has no labels.
    """
    if name not in _REGISTRY:
        raise ValueError(f"there is no task {name!r}; {_suggestion(name)}")
    found = _REGISTRY[name]
    if labels is not None:
        if not isinstance(found, Language):
            raise ValueError(f"labels is {labels!r}, but {name} is no formal language; leave it out")
        found = found.with_labels(labels)
    if symbols is None:
        return found
    if not found.alphabet_grows:
        raise ValueError(f"symbols is {symbols!r}, but the alphabet of {name} is fixed; leave it out")
    return found._with_alphabet(check_integer("symbols", symbols, 1, LONGEST_LENGTH))


def from_definition(definition: dict) -> Task:
    """The task that ``Task.definition`` describes."""
    if "automaton" in definition:
        return definitions.from_definition(definition)
    return task(definition["name"], symbols=definition["symbols"], labels=definition.get("labels"))


def _suggestion(name: object) -> str:
    near = get_close_matches(str(name), _REGISTRY, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the tasks are {', '.join(_REGISTRY)}"
