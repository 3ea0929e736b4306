"""The program that potentials are: C-RASP text that knows the state of an automaton after every prefix.

For each component of the automaton in turn: whether it has been entered (a count of entries), the balanced terms of its
steps (their values name the state), and which step leaves it. A step is seen behind itself: the terms then contain its
own weight, but together with the symbol they still determine the state before it, round by round.

After the first step out of a component its terms go on counting garbage; nothing reads them any more, because only the
first exit counts. The *trap*, a component that is never left, gets a line of its own that overrides all others, so that
an exit into it need not be told from an exit that goes on.

Letters: n states of a component, E steps, K terms, F features, P examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.conditions import Condition, Feature, separate
from lengen_fast.theory.crasp.alphabet import check_alphabet
from lengen_fast.theory.crasp.syntax import END, header, quoted
from lengen_fast.theory.potentials import Component, Decision, decide, label_steps
from lengen_fast.theory.product import Product

NONE = -1
"""The symbol of a position that has none: the beginning, what lies before it, and the end."""

TRAPPED = "TRAPPED"

_QUOTED = re.compile(r"""'[^'\s]+'|"(?:[^"\s]|"")+\"""")


def decide_product(joint: Product) -> Decision:
    """The balanced terms of a product, in few components where that is enough."""
    return decide(joint.automaton, joint.observed, joint.regions)


def synthesize(joint: Product, decision: Decision, lines: Mapping[str, np.ndarray] | None = None) -> str:
    """The text of a program with a line ``STATE_q`` for each state, and further lines.

    Args:
        joint: an automaton with S states and what positions show of it; ``product(automaton)`` for nothing.
        decision: of the product; every state must be told apart.
        lines: by the name of a line, [S] bool, the states in which it is to be true. None: ``NEXT_s`` for each symbol
            that may come next in a member, and for the end.

    Raises:
        ValueError: the decision leaves states together, or no program can be written over the alphabet.
    """
    check_alphabet(joint.base.alphabet)
    if not decision.known:
        raise ValueError("decision leaves states together, so no program follows from it")
    sight = _Sight(joint)
    trap = _trap(decision)
    parts = [_Part(number, each, sight, joint) for number, each in enumerate(decision.components, 1)]
    home = {int(state): part for part in parts for state in part.states}
    if trap is not None:
        parts[trap].is_trap = True
    sections = [_Section(part.title(), part.define(home)) for part in parts if not part.is_trap]
    sections += [_Section(part.title(), part.define(home)) for part in parts if part.is_trap]
    sections += _outputs(joint.base, parts, next_lines(joint.base) if lines is None else lines)
    return _text(joint.base, [sight.section(sections), *sections])


def access_words(automaton: Automaton) -> list[tuple[int, ...]]:
    """A shortest word that leads from the start to each state."""
    words: dict[int, tuple[int, ...]] = {0: ()}
    queue = [0]
    for state in queue:
        for symbol, target in enumerate(automaton.transitions[state].tolist()):
            if target not in words:
                words[target] = (*words[state], symbol)
                queue.append(target)
    return [words[state] for state in range(automaton.states)]


def _trap(decision: Decision) -> int | None:
    """The component without steps out and without terms that is entered from most states."""
    home = np.empty(decision.automaton.states, dtype=np.int64)
    for number, component in enumerate(decision.components):
        home[component.states] = number
    goals = home[decision.automaton.transitions]
    sources = Counter(int(goal) for state in range(len(goals)) for goal in set(goals[state]) - {home[state]})
    ends = [
        number
        for number, component in enumerate(decision.components)
        if 0 not in component.states and not component.rounds and (goals[component.states] == number).all()
    ]
    return max(ends, key=lambda number: sources[number], default=None)


def next_lines(automaton: Automaton) -> dict[str, np.ndarray]:
    """By ``NEXT_s``, the states in which s may come next in a member."""
    names = [f"NEXT_{quoted(symbol)}" for symbol in (*automaton.alphabet, END)]
    return dict(zip(names, automaton.legal.T, strict=True))


def _outputs(base: Automaton, parts: Sequence[_Part], lines: Mapping[str, np.ndarray]) -> Iterator[_Section]:
    where = lambda chosen: _either(test for part in parts for test in part.being_in(chosen))  # noqa: E731
    states = np.arange(base.states)
    yield _Section("the state after each prefix", [(f"STATE_{state}", where(states == state)) for state in states])
    title = "what may come next" if all(name.startswith("NEXT_") for name in lines) else "what is asked"
    yield _Section(title, [(name, where(chosen)) for name, chosen in lines.items()], wanted=True)


class _Sight:
    """What a program sees at a position without counting from the beginning: features, and the lines behind them."""

    def __init__(self, joint: Product) -> None:
        self.joint = joint
        self.symbols = [quoted(symbol) for symbol in joint.base.alphabet]
        self.features = [self._symbol(back) for back in range(joint.window, -1, -1)]
        if joint.period > 1:
            tests = {residue: f"LENGTH_{residue}" for residue in range(joint.period)}
            self.features.insert(0, Feature("length", tests))

    def _symbol(self, back: int) -> Feature:
        return Feature(f"symbol {back} back", {NONE: f"NONE_{back}", **dict(enumerate(self._names(back)))})

    def _names(self, back: int) -> list[str]:
        return [f"BACK_{back}_{s}" if back else f"Q_{s}" for s in self.symbols]

    def row(self, symbols: Sequence[int], length: int) -> list[int]:
        """Values of the features behind some last symbols, at a length."""
        padded = [NONE] * (self.joint.window + 1 - len(symbols)) + list(symbols)
        return ([length % self.joint.period] if self.joint.period > 1 else []) + padded[-self.joint.window - 1 :]

    def at_step(self, state: int, symbol: int) -> list[int]:
        """What is seen at a symbol read in a state of the product; NONE: where no symbol stands."""
        return self.row([*self.joint.windows[state], symbol], int(self.joint.residues[state]) + (symbol != NONE))

    def after(self, state: int) -> list[int]:
        """What is seen behind a prefix that leads to a state of the product; the farthest symbol is not known."""
        return self.row(self.joint.windows[state], int(self.joint.residues[state]))

    def known_after(self) -> list[bool]:
        """Which features the state of the product determines: all but the farthest symbol."""
        known = [True] * len(self.features)
        known[-self.joint.window - 1] = False
        return known

    def section(self, sections: Sequence[_Section]) -> _Section:
        """Definitions of the features; what nothing uses goes when the text is made."""
        lines = [(f"LENGTH_{r}", f"REL({self.joint.period}, {r})") for r in range(self.joint.period)]
        for back in range(self.joint.window + 1):
            names = self._names(back)
            if back:
                seen = [f"exists[j <= i, j = i - {back}] Q_{s}" for s in self.symbols]
                lines += zip(names, seen, strict=True)
            lines.append((f"NONE_{back}", f"not ({' or '.join(names)})"))
        return _Section("what the position shows", lines)


class _Part:
    """The lines of one component.

    Attributes:
        states: [n] int64, numbers in the product.
        potentials: [n, K] values of all terms, 0 at the first entry.
        entrances: by the potentials that an entry begins at, the tests that say: this step enters there.
        repeats: whether those tests may hold again later.
        exposed: whether the trap may have been entered before those tests hold.
        active: tests which together say: now in this component.
    """

    def __init__(self, number: int, component: Component, sight: _Sight, joint: Product) -> None:
        self.number, self.component, self.sight, self.joint = number, component, sight, joint
        self.states = component.states
        self.place = {int(state): place for place, state in enumerate(self.states)}
        values = [each.values for each in component.rounds]
        values = np.concatenate(values, axis=1) if values else np.zeros((len(self.states), 0), dtype=np.int64)
        self.potentials = values - values[self.place[component.entries[0]]]
        self.terms: list[Feature] = []
        self.entrances: dict[tuple[int, ...], list[str]] = {}
        self.repeats = self.exposed = self.is_trap = False
        self.active: list[str] = []
        self._examples()

    def title(self) -> str:
        states = sorted(set(self.joint.base_state[self.states].tolist()))
        return f"component {self.number}: state{'s' * (len(states) > 1)} {' '.join(map(str, states))}"

    def _examples(self) -> None:
        """What is seen at steps inside and at steps out, and where no symbol stands."""
        source, symbol, self.inside_targets = self.component.steps.T
        self.inside = self._seen(source, symbol)
        target = self.joint.automaton.transitions[self.states]
        self.exit_sources, symbol = np.nonzero(~np.isin(target, self.states))
        self.exit_targets = target[self.exit_sources, symbol]
        self.outward = self._seen(self.exit_sources, symbol)
        everywhere = self.joint.window == 0 and self.joint.period == 1
        self.idle_places = np.arange(len(self.states)) if everywhere else np.flatnonzero(self.states == 0)
        self.idle = self._seen(self.idle_places, np.full(len(self.idle_places), NONE))

    def _seen(self, places: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        rows = [self.sight.at_step(int(self.states[p]), int(s)) for p, s in zip(places, symbols, strict=True)]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(self.sight.features))

    def define(self, home: dict[int, _Part]) -> list[tuple[str, str]]:
        """Names and texts; the components that lead to this one must have been defined."""
        return [*self._entering(), *self._balanced(), *self._leaving(home)]

    def _entering(self) -> Iterator[tuple[str, str]]:
        """ENTRY: this step enters; ENTERED: some step did; BEFORE: some step before this one did."""
        self.before: list[str] = []
        if 0 in self.states:
            return
        entry, c = _either([test] for tests in self.entrances.values() for test in tests), self.number
        if self.is_trap:
            self.active = [TRAPPED]
            yield TRAPPED, f"exists ({entry})"
            return
        self.active = [f"ENTERED_{c}"]
        self.before = [f"BEFORE_{c}"]
        yield f"ENTRY_{c}", entry
        yield f"ENTERED_{c}", f"exists ENTRY_{c}"
        once = f"ENTERED_{c} and not ENTRY_{c}"
        yield f"BEFORE_{c}", f"1 <= #ENTRY_{c} - (ENTRY_{c} ? 1 : 0)" if self.repeats else once

    def _balanced(self) -> Iterator[tuple[str, str]]:
        """The terms, round by round; their values at the steps out are followed along."""
        self.at_exit = np.zeros((len(self.outward), 0), dtype=np.int64)
        shifts = [(values, tests) for values, tests in self.entrances.items() if any(values)]
        classes = np.zeros(len(self.states), dtype=np.int64)
        for each in self.component.rounds:
            _, numbers = label_steps(self.component.steps, self.component.observed, classes)
            classes, known = each.classes, len(self.terms)
            for weights in each.weights[numbers].T:
                k = len(self.terms)
                counts, added = self._counts(weights, known)
                self.terms.append(Feature(f"T_{self.number}_{k + 1}"))
                moved = [
                    f"(exists ({_either([test] for test in tests)}) ? {values[k]} : 0)"
                    for values, tests in shifts
                    if values[k]
                ]
                yield self.terms[k].name, _sum(counts, moved)
                value = self.potentials[self.exit_sources, k] + added
                self.at_exit = np.column_stack([self.at_exit, value])

    def _counts(self, weights: np.ndarray, known: int) -> tuple[list[tuple[int, str]], np.ndarray]:
        """Weighted counts that add these weights at each step inside, and what they add at each step out."""
        features, (inside, outward, idle) = self._features(known), self._rows(known)
        counts, added = [], np.zeros(len(outward), dtype=np.int64)
        for weight in sorted(set(weights.tolist()) - {0}, reverse=True):
            condition = separate(features, inside[weights == weight], np.concatenate([inside[weights != weight], idle]))
            counts.append((weight, _condition(self.before, condition)))
            added += weight * condition.holds(outward)
        return counts, added

    def _features(self, known: int) -> list[Feature]:
        """The first terms, then what is seen: a condition gives up the first features first."""
        return [*self.terms[:known][::-1], *self.sight.features]

    def _rows(self, known: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Examples with the first terms: steps inside, steps out, where no symbol stands."""
        inside = _joined(self.potentials[self.inside_targets, :known], self.inside)
        idle = _joined(self.potentials[self.idle_places, :known], self.idle)
        return inside, _joined(self.at_exit[:, :known], self.outward), idle

    def _leaving(self, home: dict[int, _Part]) -> Iterator[tuple[str, str]]:
        """EXIT: this step goes on to another component, if none did before; LEFT: some step did."""
        c, goals = self.number, [home[int(state)].begin_at(int(state)) for state in self.exit_targets]
        trapped = [goal.part.is_trap for goal in goals]
        self.exposed |= any(trapped)
        ways = list(dict.fromkeys(goal for goal in goals if not goal.part.is_trap))
        for i, way in enumerate(ways, 1):
            name = f"EXIT_{c}" if len(ways) == 1 else f"EXIT_{c}_{i}"
            yield name, self._exit([goal == way for goal in goals])
            way.part.entrances.setdefault(way.potentials, []).append(
                name if len(ways) == 1 else f"{name} and FIRST_{c}"
            )
            way.part.repeats |= len(ways) == 1
            way.part.exposed |= self.exposed
        if len(ways) > 1:
            yield f"EXIT_{c}", " or ".join(f"EXIT_{c}_{i}" for i in range(1, len(ways) + 1))
            yield f"FIRST_{c}", f"#EXIT_{c} = 1"
        if ways:
            yield f"LEFT_{c}", f"exists EXIT_{c}"
            self.active = [*self.active, f"not LEFT_{c}"]
        if any(trapped):
            yield f"FALL_{c}", self._exit(trapped)
            trap = goals[trapped.index(True)]
            trap.part.entrances.setdefault((), []).append(f"FALL_{c} and not LEFT_{c}" if ways else f"FALL_{c}")
        if self.exposed and not self.is_trap:
            self.active = [*self.active, f"not {TRAPPED}"]

    def _exit(self, chosen: list[bool]) -> str:
        known, these = len(self.terms), np.array(chosen)
        inside, outward, idle = self._rows(known)
        others = np.concatenate([outward[~these], inside, idle])
        return _condition(self.before, separate(self._features(known), outward[these], others))

    def begin_at(self, state: int) -> _Goal:
        """This component, entered at a state."""
        return _Goal(tuple(map(int, self.potentials[self.place[state]])), self)

    def being_in(self, chosen: np.ndarray) -> list[list[str]]:
        """Tests, the conjunction of any of which says: now in this component, in a state of the automaton chosen."""
        here = chosen[self.joint.base_state[self.states]]
        if here.all() or not here.any():
            return [self.active] if here.any() else []
        seen = np.array([self.sight.after(int(state)) for state in self.states])
        known = [*[True] * len(self.terms), *self.sight.known_after()]
        rows = _joined(self.potentials, seen)[:, known]
        features = [each for each, use in zip(self._features(len(self.terms)), known, strict=True) if use]
        return [[*self.active, _condition([], separate(features, rows[here], rows[~here]))]]


@dataclass(frozen=True)
class _Goal:
    """Where an exit leads: equal if program text need not tell them apart."""

    potentials: tuple[int, ...]
    part: _Part = field(hash=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Goal) and (self.potentials, self.part.number) == (other.potentials, other.part.number)


def _joined(potentials: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.concatenate([potentials[:, ::-1], seen], axis=1)


# ---- text ----


@dataclass(frozen=True)
class _Section:
    title: str
    lines: Sequence[tuple[str, str]]
    wanted: bool = False


def _text(base: Automaton, sections: Sequence[_Section]) -> str:
    """The program, without lines that no output uses."""
    used, kept = set(), []
    for section in reversed(sections):
        lines = []
        for name, text in reversed(section.lines):
            if section.wanted or name.startswith("STATE") or name in used:
                used.update(re.findall(rf"[A-Z]+(?:_(?:[A-Za-z0-9]+|<[^<>\s]+>|{_QUOTED.pattern}))*", text))
                lines.append(f"{name} := {text}")
        if lines:
            kept += [*lines, f"\n# {section.title}"]
    head = [header(base.alphabet)]
    for state, (name, word) in enumerate(zip(base.state_names, access_words(base), strict=True)):
        called = "" if name.isdigit() else f" ({name})"
        head.append(f"# state {state}{called}: after {' '.join(base.alphabet[x] for x in word) or 'nothing'}")
    return "\n".join([*head, *reversed(kept)]) + "\n"


def _condition(given: Sequence[str], condition: Condition) -> str:
    return _either([*given, *cube] for cube in condition.cubes())


def _either(cubes: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """The text of a disjunction of conjunctions, tests common to all of them written once."""
    cubes = [tuple(dict.fromkeys(cube)) for cube in cubes]
    if not cubes:
        return "false"
    common = [test for test in cubes[0] if all(test in cube for cube in cubes)]
    rests = [[_in_brackets(test) for test in cube if test not in common] for cube in cubes]
    if all(rests):
        rest = " or ".join(" and ".join(each) if len(each) == 1 else f"({' and '.join(each)})" for each in rests)
        common = [*map(_in_brackets, common), rest if len(rests) == 1 and len(rests[0]) == 1 else f"({rest})"]
    else:
        common = list(map(_in_brackets, common))
    return _without_brackets(" and ".join(common)) if len(common) == 1 else " and ".join(common) or "true"


def _in_brackets(test: str) -> str:
    return f"({test})" if re.search(r" (and|or) ", test) and not _is_bracketed(test) else test


def _without_brackets(text: str) -> str:
    return text[1:-1] if _is_bracketed(text) else text


def _is_bracketed(text: str) -> bool:
    """Whether one pair of brackets encloses all of it."""
    if not text.startswith("("):
        return False
    depth = 0
    for place, character in enumerate(_QUOTED.sub(lambda found: "'" * len(found[0]), text)):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place == len(text) - 1
    return False


def _sum(counts: Sequence[tuple[int, str]], more: Sequence[str]) -> str:
    text = ""
    for weight, condition in counts:
        counted = f"#{condition}" if re.fullmatch(r"[A-Z]+\w*", condition) else f"#({condition})"
        factor = counted if abs(weight) == 1 else f"{abs(weight)} * {counted}"
        text += (" - " if weight < 0 else " + ") + factor if text else ("-" if weight < 0 else "") + factor
    return " + ".join([*([text] if text else []), *more]) or "0"
