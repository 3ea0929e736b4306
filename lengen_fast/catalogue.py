"""What ``lengen tasks`` says of each task: alphabet, lengths, what is asked, known class, prediction."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from itertools import pairwise

from lengen_fast.tasks import LONGEST_LENGTH, Language, Task, tasks
from lengen_fast.tasks import task as find_task
from lengen_fast.tasks.languages import OUTSIDERS

HEADINGS = ("task", "family", "alphabet", "lengths", "label", "known class", "APE", "NoPE")
MARKS = {"generalizes": "yes", "fails": "no", "unknown": "?"}
MOST_SYMBOLS, MOST_SYMBOLS_ALONE = 6, 40


def rows() -> list[list[str]]:
    """The table of all tasks, its headings first."""
    return [list(HEADINGS), *(_row(find_task(name)) for name in tasks())]


def legend() -> list[str]:
    """What the marks in the table mean."""
    return [
        "APE, NoPE: whether theory expects long strings to be right, with learned absolute positions and with none",
        "(yes: a C-RASP program; no: a witness against one; ?: neither found); lengen predict TASK has the evidence.",
        *(f"[{key}] {source}" for key, source in _classes()["sources"].items()),
    ]


def details(task: Task) -> list[tuple[str, str]]:
    """Everything about one task, as names and values."""
    known, source = known_class(task.name)
    predicted = prediction(task.name)
    return [
        ("task", task.name),
        ("strings", task.description),
        ("family", task.family),
        ("alphabet", alphabet(task, MOST_SYMBOLS_ALONE)),
        ("lengths", lengths(task)),
        ("label", label(task)),
        ("chance", f"{task.chance:.3g}"),
        ("distributions", distributions(task)),
        ("hard", task.hard_means),
        ("from", task.citation),
        ("known class", f"{known} ({_classes()['sources'][source]})" if known else "not known to us"),
        ("prediction", f"APE: {predicted['ape']}, NoPE: {predicted['nope']} (lengen predict {task.name})"),
    ]


def as_dict(task: Task) -> dict:
    """JSON values of one task."""
    known, source = known_class(task.name)
    names = ("name", "family", "min_length", "chance", "description", "citation")
    return {
        **{name: getattr(task, name) for name in names},
        "hard": task.hard_means,
        "distributions": list(task.distributions),
        "alphabet": alphabet(task),
        "label": label(task),
        "known_class": known,
        "class_source": _classes()["sources"].get(source),
        "prediction": prediction(task.name),
    }


def alphabet(task: Task, most: int = MOST_SYMBOLS) -> str:
    """The symbols, in few characters if there are more than ``most``."""
    if task.alphabet_grows:
        letters = f" and {len(task.symbols.last)} more" if task.symbols.last else ""
        return f"{task.symbols.count}{letters}, may grow"
    symbols = task.alphabet if isinstance(task, Language) else task.symbols
    if len(symbols) <= most:
        return " ".join(symbols)
    return f"{symbols[0]} {symbols[1]} ... {symbols[-1]} ({len(symbols)})"


def lengths(task: Task) -> str:
    """The first lengths n of strings, and the last one if there is a last."""
    first = list(task.reachable(task.min_length, task.min_length + 16)[:3])
    steps = {after - before for before, after in pairwise(first)}
    if steps == {1} and task.max_length == LONGEST_LENGTH:
        return f"from {first[0]}"
    shown = f"{first[0]}" if steps == {1} else ", ".join(map(str, first))
    if task.alphabet_grows or task.max_length == LONGEST_LENGTH:
        return f"from {shown}" if steps == {1} else f"{shown}, ..."
    return f"{shown} to {task.max_length}"


def label(task: Task) -> str:
    """What is scored, and where."""
    if isinstance(task, Language):
        classes = len(task.symbols) - len(task.alphabet)
        return f"{task.labels}, {classes} {'class' if classes == 1 else 'classes'}"
    return task.label


def distributions(task: Task) -> str:
    """The ways to draw strings, and of a language those that other labels have."""
    names = ", ".join(task.distributions)
    if not isinstance(task, Language) or task.labels == "membership":
        return names
    return f"{names}; with --labels membership also {' and '.join(OUTSIDERS)}"


def known_class(name: str) -> tuple[str | None, str | None]:
    """The class of a task in the literature, and the key of its source in the legend; None where we know of none."""
    return tuple(_classes()["classes"].get(name, (None, None)))


def prediction(name: str) -> dict[str, str]:
    """Outcomes of :func:`lengen_fast.predict` with learned positions ("ape") and without ("nope"), as recorded."""
    return _reference("verdicts.json").get(name, {"ape": "not recorded", "nope": "not recorded"})


def _row(task: Task) -> list[str]:
    known, source = known_class(task.name)
    predicted = prediction(task.name)
    return [
        task.name,
        task.family,
        alphabet(task),
        lengths(task),
        label(task),
        f"{known} [{source}]" if known else "-",
        MARKS[predicted["ape"]],
        MARKS[predicted["nope"]],
    ]


def _classes() -> dict:
    return _reference("known_classes.json")


@cache
def _reference(name: str) -> dict:
    path = resources.files("lengen_fast") / "reference" / name
    return json.loads(path.read_text(encoding="utf-8"))
