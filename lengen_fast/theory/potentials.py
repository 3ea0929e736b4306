"""Which states of an automaton balanced counts tell apart: the decision for regular languages in C-RASP.

A *balanced term* of a strongly connected component is a sum of counts of its steps, weighted so that every loop adds
nothing: then its value is a function of the state, its *potential*. In the first round steps are told apart by their
symbol alone; in each later round also by the *class* of the state they reach, that is by the values of the terms of the
round before. When nothing new is told apart, the states of every component must be singletons; if and only if they are,
a program of C-RASP without positions knows the state after every prefix (arXiv 2608.13433).

Steps may also be told apart by something *observed* of the state they leave, such as the last symbols or the position
modulo a period (:mod:`lengen_fast.theory.product`).

Labelling a step by the class it reaches instead of the one it leaves changes nothing: the weight of the step is the
difference of the two potentials, and by induction over the rounds it is a function of the label.

Letters: S states, A symbols, n states of a component, L labels, K terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.linear import nullspace

Label = tuple[int, int, int]
"""Symbol of a step, what is observed of the state it leaves, and the class (of the round before) that it reaches."""


@dataclass(frozen=True)
class Round:
    """The balanced terms of one round.

    Attributes:
        labels: the L labels of steps inside the component.
        weights: [L, K] what each label adds to each term.
        values: [n, K] the potential of each state in each term; that of the component's first state is 0.
        classes: [n] int64; equal where this round's terms, and those before, agree.

    Terms that only tell apart what is observed anyway are left out.
    """

    labels: tuple[Label, ...]
    weights: np.ndarray
    values: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Component:
    """States that, once left, are never entered again, and the terms that tell them apart.

    Attributes:
        states: [n] int64, their numbers in the automaton, increasing.
        observed: [n] int64, what is observed of each.
        entries: the states that are entered from outside, or at the start.
        steps: [edges, 3] int64, the steps inside: place of the source in ``states``, symbol, place of the target.
        rounds: each round tells more apart than the one before.
    """

    states: np.ndarray
    observed: np.ndarray
    entries: tuple[int, ...]
    steps: np.ndarray
    rounds: tuple[Round, ...]

    @property
    def classes(self) -> np.ndarray:
        """[n] int64, the classes after the last round."""
        return self.rounds[-1].classes if self.rounds else np.zeros(len(self.states), dtype=np.int64)

    @cached_property
    def confused(self) -> tuple[int, int] | None:
        """Two states that agree in every term and in what is observed of them; None: all are told apart."""
        seen: dict[tuple[int, int], int] = {}
        for state, observed, label in zip(self.states, self.observed, self.classes, strict=True):
            other = seen.setdefault((int(observed), int(label)), int(state))
            if other != state:
                return other, int(state)
        return None


@dataclass(frozen=True)
class Decision:
    """Components of an automaton in topological order, with their terms.

    Attributes:
        automaton: what was decided.
        observed: [S] int64, what is observed of each state.
        components: sources first.
    """

    automaton: Automaton
    observed: np.ndarray
    components: tuple[Component, ...]

    @property
    def known(self) -> bool:
        """Whether a program knows the state after every prefix."""
        return self.confusion is None

    @property
    def confusion(self) -> tuple[Component, int, int] | None:
        """The first component that keeps two states together, and those two."""
        return next(((each, *each.confused) for each in self.components if each.confused), None)


def decide(
    automaton: Automaton, observed: Sequence[int] | None = None, regions: Sequence[int] | None = None
) -> Decision:
    """Finds the balanced terms of every component.

    Args:
        automaton: every state must be reachable.
        observed: [S] what a program sees of each state without counting; None: nothing. What is seen of a state and the
            symbol of a step must determine what is seen of the state that it reaches.
        regions: [S] coarser components in topological order. Each connected part of one is treated as a component
            wherever that tells its states apart, because programs for few components are short. None: the strongly
            connected components.
    """
    observed = np.zeros(automaton.states, np.int64) if observed is None else np.asarray(observed, np.int64)
    strong = automaton.components
    if regions is None:
        parts = _members(np.arange(automaton.states), strong)
        return Decision(automaton, observed, tuple(_component(automaton, observed, part) for part in parts))
    found: list[Component] = []
    for part in _connected_parts(automaton, np.asarray(regions)):
        whole = _component(automaton, observed, part)
        parts = [] if whole.confused is None else _members(part, strong[part])
        found += [_component(automaton, observed, each) for each in parts] if len(parts) > 1 else [whole]
    return Decision(automaton, observed, tuple(found))


def _members(states: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """The states of each group number, in the order of the numbers."""
    return [states[groups == group] for group in np.unique(groups)]


def _connected_parts(automaton: Automaton, regions: np.ndarray) -> list[np.ndarray]:
    """The parts of each region that no step inside it connects, in either direction."""
    part = np.arange(automaton.states)
    source = np.repeat(part, len(automaton.alphabet))
    target = automaton.transitions.reshape(-1)
    inside = regions[source] == regions[target]
    source, target = source[inside], target[inside]
    while True:
        lower = part.copy()
        np.minimum.at(lower, source, part[target])
        np.minimum.at(lower, target, part[source])
        if (lower == part).all():
            return _members(np.arange(automaton.states), regions * automaton.states + part)
        part = lower[lower]


def _component(automaton: Automaton, observed: np.ndarray, states: np.ndarray) -> Component:
    place = np.full(automaton.states, -1, dtype=np.int64)
    place[states] = np.arange(len(states))
    source, symbol = np.meshgrid(np.arange(len(states)), np.arange(len(automaton.alphabet)), indexing="ij")
    target = place[automaton.transitions[states]]
    steps = np.stack([source, symbol, target], axis=-1)[target >= 0]
    outside = np.flatnonzero(place < 0)
    entered = np.intersect1d(automaton.transitions[outside], states)
    entries = tuple(sorted({int(state) for state in entered} | ({0} if place[0] >= 0 else set())))
    observed = observed[states]
    return Component(states, observed, entries, steps, _refine(steps, observed))


def _refine(steps: np.ndarray, observed: np.ndarray) -> tuple[Round, ...]:
    """Round after round, until all states are told apart or none is told apart that was not before."""
    rounds: list[Round] = []
    classes = np.zeros(len(observed), dtype=np.int64)
    while _count(observed, classes) < len(observed):
        balanced = _round(steps, observed, classes)
        if not balanced.weights.shape[1]:
            break
        rounds.append(balanced)
        classes = balanced.classes
    return tuple(rounds)


def _count(*features: np.ndarray) -> int:
    return len(np.unique(np.column_stack(features), axis=0))


def label_steps(steps: np.ndarray, observed: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels [L, 3] of steps, and [edges] the label of each."""
    source, symbol, target = steps.T
    labels, numbers = np.unique(
        np.stack([symbol, observed[source], classes[target]], axis=1), axis=0, return_inverse=True
    )
    return labels, numbers.reshape(-1)


def _round(steps: np.ndarray, observed: np.ndarray, classes: np.ndarray) -> Round:
    labels, numbers = label_steps(steps, observed, classes)
    paths = tree_counts(steps, numbers, len(classes), len(labels))
    basis = nullspace(loop_counts(steps, numbers, paths))
    chosen = _telling(basis, paths @ basis, np.column_stack([observed, classes]))
    chosen = chosen * np.where((paths @ chosen).sum(axis=0) < 0, -1, 1)
    values = paths @ chosen
    told = np.unique(np.column_stack([classes, values]), axis=0, return_inverse=True)[1].reshape(-1)
    return Round(tuple(tuple(map(int, label)) for label in labels), chosen, values, told)


def tree_counts(steps: np.ndarray, numbers: np.ndarray, states: int, labels: int) -> np.ndarray:
    """[n, L] int64: how often each label is on a tree's path from the first state to each, backward steps negative."""
    around: list[list[tuple[int, int, int]]] = [[] for _ in range(states)]
    for (source, _, target), number in zip(steps.tolist(), numbers.tolist(), strict=True):
        around[source].append((target, number, 1))
        around[target].append((source, number, -1))
    counts = np.zeros((states, labels), dtype=np.int64)
    seen, queue = {0}, [0]
    for state in queue:
        for neighbour, number, sign in around[state]:
            if neighbour not in seen:
                seen.add(neighbour)
                counts[neighbour] = counts[state]
                counts[neighbour, number] += sign
                queue.append(neighbour)
    return counts


def loop_counts(steps: np.ndarray, numbers: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """[edges, L] int64: how often each label is on the loop that each step closes with the tree."""
    counts = paths[steps[:, 0]] - paths[steps[:, 2]]
    counts[np.arange(len(steps)), numbers] += 1
    return counts


def _telling(basis: np.ndarray, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[L, K]: few columns of a basis that, with what is known, tell all states apart that the whole basis does.

    Args:
        basis: [L, D].
        values: [n, D] of the states.
        known: [n, 2] what is observed of the states, and their classes before.
    """
    goal = _count(known, values)
    chosen: list[int] = []
    simplest = sorted(range(basis.shape[1]), key=lambda column: _complexity(basis[:, column]))
    while _count(known, values[:, chosen]) < goal:
        left = [column for column in simplest if column not in chosen]
        chosen.append(max(left, key=lambda column: _count(known, values[:, [*chosen, column]])))  # the first if equal
    return basis[:, chosen]


def _complexity(weights: np.ndarray) -> tuple[int, int]:
    return int(np.count_nonzero(weights)), int(np.abs(weights).sum())
