"""The standard library: for each task that arXiv 2410.02140 predicts to generalize, a program that solves it.

Every program is right at any offset, and predicts what its task scores: the next token of an answer, or the legal next
symbols of a language with ``<end>`` among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources

from lengen_fast.theory.crasp.parser import parse
from lengen_fast.theory.crasp.program import Program

_SUFFIX = ".crasp"


@cache
def names() -> tuple[str, ...]:
    """The tasks that have a program."""
    files = (path.name for path in _directory().iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)))


def source(name: str) -> str:
    """The text of a task's program.

    Raises:
        ValueError: the library has none.
    """
    if name not in names():
        near = get_close_matches(str(name), names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names())}"
        raise ValueError(f"the standard library has no program for {name!r}; {hint}")
    return _directory().joinpath(name + _SUFFIX).read_text(encoding="utf-8")


def is_template(text: str) -> bool:
    """Whether the alphabet of a program is to be given."""
    return any(line.split()[:2] == ["alphabet", "*"] for line in text.splitlines())


def program(name: str, alphabet: Sequence[str] | None = None) -> Program:
    """The program of a task.

    Args:
        name: one of :func:`names`.
        alphabet: the symbols, for the programs that serve any (copying and sorting); None: those of the task.
    """
    return _parsed(name, None if alphabet is None else tuple(alphabet))


@cache
def _parsed(name: str, alphabet: tuple[str, ...] | None) -> Program:
    text = source(name)
    if alphabet is None and is_template(text):
        from lengen_fast.tasks import task

        alphabet = tuple(task(name).symbols)
    return parse(text, alphabet)


def _directory():
    return resources.files("lengen_fast.theory.crasp").joinpath("library")
