"""Languages by definition: those of languages.json, and the user's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from lengen_fast.automata import Automaton
from lengen_fast.counters import CounterMachine
from lengen_fast.tasks.algorithmic import CITATION
from lengen_fast.tasks.languages import Language

HARD_REGULAR = (
    "one shortest loop of its state over and over; none to three times, each in the first half of its own equal "
    "stretch, a shortest way to a random other state"
)
HARD_COUNTING = (
    "one word that changes no counter over and over; none to three times, each in the first half of its own equal "
    "stretch, a counter climbs or falls far"
)
HARD_ONLY = "the one string of that length"


@cache
def named_languages() -> tuple[Language, ...]:
    """The languages of languages.json."""
    path = resources.files("lengen_fast") / "tasks" / "languages.json"
    return tuple(_named(name, entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items())


def _named(name: str, entry: dict) -> Language:
    recipes = {"paper": tuple(entry["paper"])}
    if "start" in entry:
        machine = CounterMachine.from_dict(entry)
        counts = machine.states == 1
        recipes |= {
            "uniform": recipes["paper"],
            "hard": ("hard_counting", *machine.counting_recipe()) if counts else recipes["paper"],
        }
        family, acceptor, hard = "counting language", machine, HARD_COUNTING if counts else HARD_ONLY
    else:
        family, acceptor, hard = "regular", Automaton.from_dict(entry), HARD_REGULAR
    return Language.of(
        acceptor,
        name=name,
        family=family,
        description=entry["language"],
        hard_means=hard,
        citation=CITATION,
        recipes=recipes,
        regex=entry.get("regex"),
        is_named=True,
    )


def language(
    regex: str | None = None,
    *,
    dfa: Automaton | Mapping | str | os.PathLike | object = None,
    alphabet: Sequence[str] | None = None,
    labels: str = "legal+end",
    name: str | None = None,
) -> Language:
    """A regular language of your own as a task.

    Args:
        regex: an expression in the syntax of :mod:`lengen_fast.expressions`, one character a symbol.
        dfa: instead of it, an ``Automaton``, a dictionary or a JSON file as :meth:`Automaton.from_dict` reads them, or
            a DFA of automata-lib.
        alphabet: with ``regex`` the symbols in order; None: those of the expression, sorted.
        labels: ``"legal+end"``, ``"legal"`` or ``"membership"``; see :class:`Language`.
        name: None: the expression, or the name of the file.

    Raises:
        RegexError: the expression has an error; the message shows where.
        ValueError: neither or both are given, the language is empty, the DFA is incomplete or names unknown states.
        TypeError: an argument is of the wrong type.
    """
    if (regex is None) == (dfa is None):
        raise ValueError("give either regex or dfa, such as language(regex='(ab)*', alphabet='ab')")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name is {name!r}; it must be a string")
    if regex is not None:
        automaton = Automaton.from_regex(regex, alphabet)
    elif alphabet is not None:
        raise ValueError("alphabet goes with regex; a DFA has its own")
    else:
        automaton = _as_automaton(dfa).minimal()
    return _of_a_user(automaton, labels, name or _default_name(regex, dfa), regex)


def from_definition(definition: dict) -> Language:
    """A language of the user's own, as ``Language.definition`` describes it."""
    automaton = Automaton.from_dict(definition["automaton"])
    return _of_a_user(automaton, definition["labels"], definition["name"], definition["regex"])


def _of_a_user(automaton: Automaton, labels: str, name: str, regex: str | None) -> Language:
    described = f"the regular expression {regex}" if regex is not None else f"a DFA of {automaton.states} states"
    return Language.of(
        automaton, labels, name=name, family="regular", description=described, hard_means=HARD_REGULAR, regex=regex
    )


def _as_automaton(dfa: object) -> Automaton:
    if isinstance(dfa, Automaton):
        return dfa
    if isinstance(dfa, (str, os.PathLike)):
        return Automaton.from_file(dfa)
    if all(hasattr(dfa, each) for each in ("input_symbols", "transitions", "initial_state", "final_states")):
        return Automaton.from_names(sorted(dfa.input_symbols), dfa.transitions, dfa.initial_state, dfa.final_states)
    return Automaton.from_dict(dfa)


def _default_name(regex: str | None, dfa: object) -> str:
    if regex is not None:
        return regex or "()"
    return Path(dfa).stem if isinstance(dfa, (str, os.PathLike)) else "dfa"
