"""A proof that a program and an automaton agree on all strings, by an inductive invariant.

The invariant says, for each state of the automaton, what the program's counts may be there: the exact value of a
difference of counts where every way to the state gives the same one, and how far a count that only grows has come. It
is found by following the program along the automaton until nothing new turns up. A difference that is not known is
*open*: where the program compares it, every outcome is followed. If the lines asked for are right in all cases, they
are right for all strings. A program may be right and this proof still not be found.

Letters: S states of the automaton.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.crasp.syntax import BOS

MOST_EVALUATIONS = 500_000
"""Operations of the program that a proof may follow."""

MOST_CASES_OF_A_SUM = 2000

OPEN = None
Form = tuple[tuple[int, int], ...]
"""A sum of counts from the beginning: (node, factor), the first factor positive."""


@dataclass(frozen=True)
class Proof:
    """An invariant that holds at every position of every string.

    Attributes:
        cases: how many pairs of a state and what has been counted it distinguishes.
    """

    cases: int


class _Case(NamedTuple):
    """What the invariant distinguishes: a state, the position modulo the period, counts, and the last Booleans."""

    state: int
    residue: int
    grown: tuple[int, ...]
    past: tuple[tuple[bool, ...], ...]


class _Possible(NamedTuple):
    """A value that a count may have: a sum of counts before the position and a constant, where some nodes are so."""

    form: Form
    constant: int
    held: frozenset[tuple[int, bool]]

    def allows(self, node: int, held: bool) -> bool:
        return (node, not held) not in self.held

    def where(self, node: int, held: bool) -> _Possible:
        return _Possible(self.form, self.constant, self.held | {(node, held)})


class _Undecided(Exception):
    """A comparison needs the value of an open difference."""

    def __init__(self, form: Form) -> None:
        self.form = form


class _TooMuch(Exception):
    """The search has gone beyond its bound, or a line is wrong."""


def prove(program: Program, automaton: Automaton, expected: Mapping[str, np.ndarray]) -> Proof | None:
    """Whether lines of a program depend on the state after each prefix as expected, at any offset.

    Args:
        program: over the alphabet of the automaton.
        automaton: reads what follows ``<bos>``.
        expected: by the name of a Boolean line, [S] bool.

    Returns:
        The proof, or None: none was found, which says nothing.
    """
    if program.alphabet != automaton.alphabet:
        raise ValueError(f"program has the alphabet {program.alphabet}; the automaton has {automaton.alphabet}")
    try:
        return _Search(program, automaton, expected).run()
    except _TooMuch:
        return None


class _Search:
    """Cases that are reached, and the differences known in each."""

    def __init__(self, program: Program, automaton: Automaton, expected: Mapping[str, np.ndarray]) -> None:
        self.automaton, self.graph = automaton, program.graph
        self.wanted = [(self.graph.of_line[name], np.asarray(values, bool)) for name, values in expected.items()]
        self.order = self.graph.needed([node for node, _ in self.wanted])
        self.nodes = {number: self.graph.nodes[number] for number in self.order}
        self.period = math.lcm(*(node.data[0] for node in self.nodes.values() if node.kind == "position"))
        self.local = [number for number, node in self.nodes.items() if node.kind == "local"]
        if len(self.order) * automaton.transitions.size > MOST_EVALUATIONS:
            raise _TooMuch
        self.evaluations = 0
        self._settled = cache(self._is_settled)
        self._collect_forms()

    def _collect_forms(self) -> None:
        """Every sum of counts that is compared, and its least values before at which comparisons change their outcome.

        A count at a position is the count before it, and one more if what is counted holds there.
        """
        possible: dict[int, set[_Possible]] = {}
        self.steps: dict[Form, set[int]] = {}
        for number, node in self.nodes.items():
            if node.kind == "count":
                (counted,) = node.operands
                form = ((number, 1),)
                possible[number] = {_Possible(form, int(held), frozenset({(counted, held)})) for held in (False, True)}
            elif node.kind == "local":
                possible[number] = {_Possible((), value, frozenset()) for value in range(len(node.data) + 1)}
            elif node.kind == "if":
                condition, then, otherwise = node.operands
                possible[number] = {
                    each.where(condition, held)
                    for held, branch in ((True, then), (False, otherwise))
                    for each in possible[branch]
                    if each.allows(condition, held)
                }
            elif node.kind == "linear":
                possible[number] = _sums(node, [possible[x] for x in node.operands])
            elif node.kind == "nonnegative":
                for form, constant, _ in possible[node.operands[0]]:
                    if form:
                        form, sign = _oriented(form)
                        self.steps.setdefault(form, set()).add(-constant if sign > 0 else constant + 1)
        self.growing = {f: max(0, *steps) for f, steps in self.steps.items() if all(factor > 0 for _, factor in f)}
        self.balanced = [form for form in self.steps if form not in self.growing]

    def run(self) -> Proof:
        known: dict[_Case, tuple] = {}
        waiting: dict[_Case, None] = {}

        def reach(case: _Case, values: tuple) -> None:
            if self._settled(case.state, case.grown):
                return
            joined = _join(known.get(case, values), values)
            if known.get(case) != joined:
                known[case] = joined
                waiting[case] = None

        past = tuple((False,) * max(self.nodes[x].data) for x in self.local)
        for residue in range(self.period):
            before = _Case(0, residue, (0,) * len(self.growing), past)
            for after in self._steps(before, (0,) * len(self.balanced), BOS, 0):
                reach(*after)
        while waiting:
            case, _ = waiting.popitem()
            for name, target in zip(self.automaton.alphabet, self.automaton.transitions[case.state], strict=True):
                for after in self._steps(case, known[case], name, int(target)):
                    reach(*after)
        return Proof(cases=max(1, len(known)))  # where everything is settled from the start, that is the one case

    def _is_settled(self, state: int, grown: tuple[int, ...]) -> bool:
        """Whether the automaton stays in a state, and counts that have grown to their limits decide every line."""
        if (self.automaton.transitions[state] != state).any():
            return False
        full = {f for (f, limit), value in zip(self.growing.items(), grown, strict=True) if value >= limit}
        values: dict[int, object] = {}
        for number, node in self.nodes.items():
            values[number] = _lasting(number, node, [values[x] for x in node.operands], full)
        return all(values[node] is not OPEN and values[node] == expected[state] for node, expected in self.wanted)

    def _steps(self, case: _Case, balanced: tuple, symbol: str, target: int) -> Iterator[tuple[_Case, tuple]]:
        """Every case that may follow one more symbol, with its differences."""
        guesses: list[dict[Form, int]] = [{}]
        while guesses:
            guess = guesses.pop()
            try:
                yield _Step(self, case, balanced, symbol, guess).result(target)
            except _Undecided as open_one:
                steps = sorted(self.steps[open_one.form])
                guesses += [guess | {open_one.form: value} for value in (steps[0] - 1, *steps)]


class _Step:
    """One symbol read in one case: the values of all nodes there.

    Args:
        guess: what open differences are supposed to be at this position.
    """

    def __init__(self, search: _Search, case: _Case, balanced: tuple, symbol: str, guess: dict[Form, int]) -> None:
        self.search, self.case, self.symbol, self.guess = search, case, symbol, guess
        self.before = dict(zip(search.growing, case.grown, strict=True)) | dict(
            zip(search.balanced, balanced, strict=True)
        )
        self.recent = dict(zip(search.local, case.past, strict=True))
        self.values: dict[int, object] = {}

    def result(self, target: int) -> tuple[_Case, tuple]:
        """The case behind the symbol; an error if a line asked for is wrong there."""
        search = self.search
        search.evaluations += len(search.order)
        for number, node in search.nodes.items():
            self.values[number] = self._value(number, node)
        wrong = any(self.values[node] != expected[target] for node, expected in search.wanted)
        if wrong or search.evaluations > MOST_EVALUATIONS:
            raise _TooMuch
        grown = tuple(min(self._after(form), limit) for form, limit in search.growing.items())
        past = tuple((self.values[search.nodes[x].operands[0]], *self.recent[x])[:-1] for x in search.local)
        after = _Case(target, (self.case.residue + 1) % search.period, grown, past)
        return after, tuple(self._after(form) for form in search.balanced)

    def _value(self, number: int, node) -> object:
        """A Boolean, or a form and a constant."""
        operands = [self.values[x] for x in node.operands]
        match node.kind:
            case "true":
                return True
            case "query":
                return self.symbol == node.data
            case "position":
                period, residues = node.data
                return self.case.residue % period in residues
            case "not":
                return not operands[0]
            case "and":
                return all(operands)
            case "or":
                return any(operands)
            case "count":
                return ((number, 1),), int(operands[0])
            case "local":
                seen = (operands[0], *self.recent[number])
                return (), sum(seen[distance] for distance in node.data)
            case "if":
                return operands[1] if operands[0] else operands[2]
            case "linear":
                return _combine(node.data[0], operands, node.data[1])
            case "nonnegative":
                return self._is_nonnegative(*operands[0])
        raise AssertionError(node.kind)

    def _is_nonnegative(self, form: Form, constant: int) -> bool:
        if not form:
            return constant >= 0
        form, sign = _oriented(form)
        value = self.before[form]
        if value is OPEN:
            value = self.guess.get(form)
        if value is OPEN:
            raise _Undecided(form)
        return sign * value + constant >= 0

    def _after(self, form: Form) -> int | None:
        """The value of a sum of counts with this position; of one that grows, right up to its limit."""
        before = self.before[form]
        if before is OPEN:
            return OPEN
        operand = lambda node: self.search.nodes[node].operands[0]  # noqa: E731
        return before + sum(factor for node, factor in form if self.values[operand(node)])


def _sums(node, parts: list[set[_Possible]]) -> set[_Possible]:
    """The values of a linear node, from those of its operands where they agree on what holds."""
    found = {_Possible((), node.data[1], frozenset())}
    for factor, choices in zip(node.data[0], parts, strict=True):
        found = {
            _Possible(*_combine((1, factor), ((so_far.form, so_far.constant), (each.form, each.constant)), 0), held)
            for so_far in found
            for each in choices
            if not any((node, not value) in so_far.held for node, value in each.held)
            for held in (so_far.held | each.held,)
        }
        if len(found) > MOST_CASES_OF_A_SUM:
            raise _TooMuch
    return found


def _combine(factors: tuple[int, ...], parts, constant: int) -> tuple[Form, int]:
    """The sum of factor * (form + constant) over some parts."""
    total: dict[int, int] = {}
    for factor, (form, more) in zip(factors, parts, strict=True):
        constant += factor * more
        for node, own in form:
            total[node] = total.get(node, 0) + factor * own
    return tuple(sorted((node, factor) for node, factor in total.items() if factor)), constant


def _lasting(number: int, node, operands: list, full: set[Form]) -> object:
    """What a node is worth from now on, whatever follows, or OPEN: a Boolean, or a form and a constant."""
    match node.kind:
        case "true":
            return True
        case "not":
            return OPEN if operands[0] is OPEN else not operands[0]
        case "and":
            return False if False in operands else OPEN if OPEN in operands else True
        case "or":
            return True if True in operands else OPEN if OPEN in operands else False
        case "count":
            return ((number, 1),), 0
        case "linear":
            return OPEN if OPEN in operands else _combine(node.data[0], operands, node.data[1])
        case "nonnegative" if operands[0] is not OPEN:
            form, constant = operands[0]
            form, sign = _oriented(form) if form else (form, 1)
            return constant >= 0 if not form else sign > 0 if form in full else OPEN
    return OPEN


def _oriented(form: Form) -> tuple[Form, int]:
    """The form with its first factor positive, and the sign it had."""
    if form[0][1] > 0:
        return form, 1
    return tuple((node, -factor) for node, factor in form), -1


def _join(some: tuple, others: tuple) -> tuple:
    return tuple(a if a == b else OPEN for a, b in zip(some, others, strict=True))
