"""``lengen report --automaton``: a regular language as a table of its automaton, and as a drawing by graphviz."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from lengen_fast import printing
from lengen_fast.automata import Automaton
from lengen_fast.printing import plural
from lengen_fast.runs import RunError, write_atomically
from lengen_fast.tasks import Language, is_task, task

DRAWING_SECONDS = 60
_TASK_NAME = re.compile(r"(?=.*_)[A-Za-z0-9_]+")


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
    if shutil.which("dot"):
        figure = out or f"{name if is_task(name) else 'automaton'}.svg"
        _draw(dot(automaton, title), Path(figure))
        ending = f"figure: {figure}"
    elif out is not None:
        raise RunError(f"{out} cannot be drawn: there is no program dot; install graphviz, or ask without --out")
    else:
        figure, ending = None, "not drawn: graphviz is not installed"
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
    """The drawing in graphviz's language; steps into states that reach no member are left out."""
    lines = ["digraph {", "  rankdir=LR", f"  label={_quoted(title)}", '  node [shape=circle, fontname="Helvetica"]']
    lines += ['  edge [fontname="Helvetica"]', "  begin [shape=point]", "  begin -> 0"]
    for state in range(automaton.states):
        if automaton.live[state] or state == 0:
            shape = "doublecircle" if automaton.accepting[state] else "circle"
            lines.append(f"  {state} [shape={shape}, label={_quoted(automaton.state_names[state])}]")
    for (source, target), symbols in _steps(automaton).items():
        lines.append(f"  {source} -> {target} [label={_quoted(' '.join(symbols))}]")
    return "\n".join([*lines, "}"]) + "\n"


def _find(name: str) -> tuple[str, Automaton]:
    if is_task(name) or _TASK_NAME.fullmatch(name):
        found = task(name)
        if not isinstance(found, Language) or not isinstance(found.acceptor, Automaton):
            raise ValueError(f"{name} has no automaton: it is no regular language; lengen tasks names those that are")
        return f"{name}, {found.description}", found.acceptor
    if name.endswith(".json"):
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


def _draw(text: str, path: Path) -> None:
    form = path.suffix.removeprefix(".") or "svg"
    command = ["dot", f"-T{form}"]
    drawn = subprocess.run(command, input=text.encode(), capture_output=True, timeout=DRAWING_SECONDS, check=False)
    if drawn.returncode != 0:
        raise RunError(f"{path} was not drawn: {' '.join(drawn.stderr.decode(errors='replace').split())}")
    write_atomically(path, drawn.stdout)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
