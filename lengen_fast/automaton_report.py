"""``lengen report --automaton``: a regular language as a table of its automaton, and as a drawing by graphviz."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import numpy as np

from lengen_fast import printing
from lengen_fast.automata import Automaton
from lengen_fast.printing import plural
from lengen_fast.runs import RunError, write_atomically
from lengen_fast.tasks import Language, is_task, task

DRAWING_SECONDS = 60
TITLE_WIDTH, SYMBOLS_WIDTH = 80, 24
_TASK_NAME = re.compile(r"(?=.*_)[A-Za-z0-9_]+")


class DrawingError(RunError):
    """Graphviz is there and does not draw."""


def report(name: str, out: str | None) -> tuple[dict, str]:
    """The automaton of a language: JSON values and a text; drawn where graphviz has a ``dot``.

    Args:
        name: a task, a DFA file, shown as it is there, or a regular expression; words joined by ``_`` are a task.
        out: the drawing, in the format its ending names; None: NAME.svg, or automaton.svg of an expression or a file.

    Raises:
        ValueError: the task is unknown or no regular language, the expression has an error, or the language is empty.
        RunError: ``out`` was asked for and cannot be drawn.
    """
    title, automaton = _find(name)
    figure, ending = _drawn(automaton, title, out or f"{name if is_task(name) else 'automaton'}.svg", out is not None)
    content = {"name": name, "figure": figure, "automaton": automaton.as_dict()}
    return content, "\n".join([f"{title}: {plural(automaton.states, 'state')}", "", *table(automaton), "", ending])


def table(automaton: Automaton) -> list[str]:
    """One line a state: where each symbol leads, whether it accepts, and whether a member can still be reached."""
    marks = [_marks(automaton, state) for state in range(automaton.states)]
    rows = [["state", *automaton.alphabet, ""]]
    rows += [
        [name, *(automaton.state_names[target] for target in targets), mark]
        for name, targets, mark in zip(automaton.state_names, automaton.transitions.tolist(), marks, strict=True)
    ]
    return printing.table(rows)


def dot(automaton: Automaton, title: str) -> str:
    """The drawing in graphviz's language; steps into states that reach no member are left out, which it says."""
    drawn = automaton.live.copy()
    drawn[0] = True
    below = textwrap.wrap(title, TITLE_WIDTH)
    below += [] if automaton.live.all() else ["(a step that is not drawn reaches no member)"]
    lines = ["digraph {", "  rankdir=LR", f"  label={_quoted(*below)}", '  graph [fontname="Helvetica"]']
    lines += ['  node [shape=circle, width=0.7, fontname="Helvetica"]', '  edge [fontname="Helvetica"]']
    lines += ["  begin [shape=point, width=0.1]", "  begin -> 0"]
    for state in np.flatnonzero(drawn).tolist():
        shape = "doublecircle" if automaton.accepting[state] else "circle"
        lines.append(f"  {state} [shape={shape}, label={_quoted(automaton.state_names[state])}]")
    for (source, target), symbols in _steps(automaton).items():
        rows = textwrap.wrap(" ".join(symbols), SYMBOLS_WIDTH, break_long_words=False, break_on_hyphens=False)
        lines.append(f"  {source} -> {target} [label={_quoted(*rows)}]")
    return "\n".join([*lines, "}"]) + "\n"


def _find(name: str) -> tuple[str, Automaton]:
    if is_task(name) or _TASK_NAME.fullmatch(name):
        found = task(name)
        if not isinstance(found, Language) or not isinstance(found.acceptor, Automaton):
            raise ValueError(f"{name} has no automaton: it is no regular language; lengen tasks names those that are")
        return f"{name}, {found.description}", found.acceptor
    if name.endswith(".json") or ("." in name and Path(name).is_file()):
        return name, Automaton.from_file(name)
    automaton = Automaton.from_regex(name)
    if not automaton.live[0]:
        raise ValueError(f"the language of {name} is empty: no string leads to an accepting state")
    return name, automaton


def _marks(automaton: Automaton, state: int) -> str:
    marks = ["start"] * (state == 0) + ["accepts"] * bool(automaton.accepting[state])
    return ", ".join(marks + ["reaches no member"] * (not automaton.live[state]))


def _steps(automaton: Automaton) -> dict[tuple[int, int], list[str]]:
    """The symbols that lead from one living state to another."""
    steps: dict[tuple[int, int], list[str]] = {}
    for source, targets in enumerate(automaton.transitions.tolist()):
        for symbol, target in zip(automaton.alphabet, targets, strict=True):
            if automaton.live[target]:
                steps.setdefault((source, target), []).append(symbol)
    return steps


def _drawn(automaton: Automaton, title: str, figure: str, is_asked: bool) -> tuple[str | None, str]:
    """Where the drawing is, if it can be made, and a line that says so; if it is asked for, it must be made."""
    if not shutil.which("dot"):
        if is_asked:
            raise RunError(f"{figure} cannot be drawn: there is no program dot; install graphviz, or ask without --out")
        return None, "not drawn: graphviz is not installed"
    try:
        _draw(dot(automaton, title), Path(figure))
    except DrawingError as error:
        if is_asked:
            raise
        return None, f"not drawn: {error}"
    return figure, f"figure: {figure}"


def _draw(text: str, path: Path) -> None:
    form = path.suffix.removeprefix(".") or "svg"
    command = ["dot", f"-T{form}"]
    try:
        drawn = subprocess.run(command, input=text.encode(), capture_output=True, timeout=DRAWING_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DrawingError(f"graphviz took longer than {DRAWING_SECONDS} seconds for {path}") from None
    if drawn.returncode != 0:
        raise DrawingError(f"graphviz cannot make {path}: {' '.join(drawn.stderr.decode(errors='replace').split())}")
    write_atomically(path, drawn.stdout)


def _quoted(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
