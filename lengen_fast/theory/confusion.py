"""Two words that no balanced count tells apart, though the automaton does: why a language is not in C-RASP.

Potentials agree on two states p and q of a component exactly if a rational flow leads from q to p that uses every label
zero times in total (linear duality); the flow is the certificate. A whole-numbered flow gives two words from q with
equally many steps of every label, one to p and one back to q.

Letters: n states, E steps, L labels of a component.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import product

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.linear import solve
from lengen_fast.theory.potentials import Component, Decision, label_steps

Word = tuple[int, ...]
MOST_PAIRS = 5000
"""Pairs of walks that are tried before long ones are made."""


@dataclass(frozen=True)
class Confusion:
    """Words of symbol numbers: ``access loop^N left`` and ``access loop^N right``, for every N.

    The automaton reaches ``states[0]`` behind one and ``states[1]`` behind the other. Every balanced term has the same
    value behind both.

    Attributes:
        states: the two states that no term tells apart.
        access: leads from the start into the component.
        loop: takes every step of the component, so that every count that is not balanced can be pumped.
        left, right: lead from where the loop begins to the two states.
        rest: leads from the two states to different marks.
        flow: [E] integers, how often each step of the component is used more on the way to the first state than on the
            way to the second; it leads ``multiple`` times from the second to the first, with zero steps of every label.
        multiple: 1: ``left`` and ``right`` have equally many steps of every label.
    """

    states: tuple[int, int]
    access: Word
    loop: Word
    left: Word
    right: Word
    rest: Word
    flow: np.ndarray
    multiple: int

    def pair(self, pumps: int = 1) -> tuple[Word, Word]:
        """The two words with the loop taken so often, and ``rest`` behind them."""
        before = self.access + self.loop * pumps
        return before + self.left + self.rest, before + self.right + self.rest


def confusion(decision: Decision, marks: np.ndarray | None = None) -> Confusion | None:
    """Words for the first two states that stay together; None: all states are told apart.

    Args:
        decision: of an automaton with S states.
        marks: [S] what is to be known of each state; None: whether it accepts.
    """
    if decision.confusion is None:
        return None
    component, p, q = decision.confusion
    automaton = decision.automaton
    places = {int(state): place for place, state in enumerate(component.states)}
    flow, multiple = certificate(component, places[p], places[q])
    graph = _Graph(component.steps)
    if multiple == 1:
        short = _short_equal_counts(component, places[p], places[q])
        left, right, begin = short or (*_equal_counts(graph, flow, places[p], places[q]), places[q])
    else:
        begin = places[component.entries[0]]
        left, right = graph.path(begin, places[p]), graph.path(begin, places[q])
    spell = lambda path: tuple(int(component.steps[step, 1]) for step in path)  # noqa: E731
    access = shortest_word(automaton, 0, int(component.states[begin]))
    rest = distinguishing_word(automaton, p, q, marks)
    return Confusion((p, q), access, spell(graph.tour(begin)), spell(left), spell(right), rest, flow, multiple)


def certificate(component: Component, p: int, q: int) -> tuple[np.ndarray, int]:
    """[E] integers and N > 0: a flow N times from place q to place p with zero steps of every label."""
    labels, numbers = label_steps(component.steps, component.observed, component.classes)
    states, edges = len(component.states), len(component.steps)
    matrix = np.zeros((states + len(labels), edges), dtype=np.int64)
    np.add.at(matrix, (component.steps[:, 2], np.arange(edges)), 1)
    np.add.at(matrix, (component.steps[:, 0], np.arange(edges)), -1)
    matrix[states + numbers, np.arange(edges)] = 1
    target = np.zeros(len(matrix), dtype=np.int64)
    target[p], target[q] = 1, -1
    return solve(matrix, target)


def _short_equal_counts(component: Component, p: int, q: int) -> tuple[list[int], list[int], int] | None:
    """Two walks as short as possible from one state, to p and to q, with equally many steps of every label.

    Returns:
        The steps of both, and where they begin; None: there are no short ones.
    """
    _, labels = label_steps(component.steps, component.observed, component.classes)
    leaving: dict[int, list[tuple[int, int, int]]] = {}
    for number, ((source, _, target), label) in enumerate(zip(component.steps.tolist(), labels.tolist(), strict=True)):
        leaving.setdefault(source, []).append((number, label, target))
    Node = tuple[int, int, tuple[tuple[int, int], ...]]
    reached: dict[Node, tuple[Node, int, int] | None] = {(b, b, ()): None for b in range(len(component.states))}
    queue: deque[Node] = deque(reached)
    while queue and (p, q, ()) not in reached and len(reached) < MOST_PAIRS:
        node = one, other, excess = queue.popleft()
        for left, right in product(leaving.get(one, ()), leaving.get(other, ())):
            counts = Counter(dict(excess))
            counts[left[1]] += 1
            counts[right[1]] -= 1
            more = tuple(sorted((label, count) for label, count in counts.items() if count))
            if (after := (left[2], right[2], more)) not in reached:
                reached[after] = node, left[0], right[0]
                queue.append(after)
    if (node := (p, q, ())) not in reached:
        return None
    walks: list[tuple[int, int]] = []
    while (back := reached[node]) is not None:
        node, *steps = back
        walks.append(tuple(steps))
    return [left for left, _ in walks[::-1]], [right for _, right in walks[::-1]], node[0]


def _equal_counts(graph: _Graph, flow: np.ndarray, p: int, q: int) -> tuple[list[int], list[int]]:
    """A walk from q to p and one from q to q whose difference is the flow."""
    round_trips: Counter[int] = Counter()
    for step in np.flatnonzero(flow):
        for each in graph.loop_through(q, int(step)):
            round_trips[each] += max(1, -int(flow[step]))
    there = Counter(round_trips)
    for step in np.flatnonzero(flow):
        there[int(step)] += int(flow[step])
    # Every step that is used lies on a loop through q whose steps are used too, unless the flow takes some away.
    while (cut_off := graph.cut_off(there, q)) is not None:
        for each in graph.loop_through(q, cut_off):
            there[each] += 1
            round_trips[each] += 1
    return graph.trail(there, q), graph.trail(round_trips, q)


class _Graph:
    """Walks in a strongly connected component, as lists of step numbers."""

    def __init__(self, steps: np.ndarray) -> None:
        self.steps = steps.tolist()
        self.leaving: dict[int, list[int]] = {}
        for number, (source, _, _) in enumerate(self.steps):
            self.leaving.setdefault(source, []).append(number)

    def path(self, begin: int, end: int) -> list[int]:
        """A shortest walk."""
        reached: dict[int, int | None] = {begin: None}
        queue = deque([begin])
        while end not in reached:
            state = queue.popleft()
            for step in self.leaving[state]:
                if self.steps[step][2] not in reached:
                    reached[self.steps[step][2]] = step
                    queue.append(self.steps[step][2])
        walk: list[int] = []
        while (step := reached[end]) is not None:
            walk.append(step)
            end = self.steps[step][0]
        return walk[::-1]

    def loop_through(self, state: int, step: int) -> list[int]:
        source, _, target = self.steps[step]
        return [*self.path(state, source), step, *self.path(target, state)]

    def tour(self, begin: int) -> list[int]:
        """A closed walk that takes every step."""
        walk: list[int] = []
        missing, state = set(range(len(self.steps))), begin
        for step in range(len(self.steps)):
            if step in missing:
                more = [*self.path(state, self.steps[step][0]), step]
                walk += more
                missing.difference_update(more)
                state = self.steps[step][2]
        return walk + self.path(state, begin)

    def cut_off(self, uses: Counter[int], begin: int) -> int | None:
        """A used step that no walk over used steps reaches from ``begin``."""
        reached, queue = {begin}, [begin]
        for state in queue:
            for step in self.leaving[state]:
                target = self.steps[step][2]
                if uses[step] > 0 and target not in reached:
                    reached.add(target)
                    queue.append(target)
        return next((step for step, count in uses.items() if count > 0 and self.steps[step][0] not in reached), None)

    def trail(self, uses: Counter[int], begin: int) -> list[int]:
        """A walk that takes each step exactly so often (Hierholzer's algorithm)."""
        left = {state: [s for s in steps for _ in range(uses[s])] for state, steps in self.leaving.items()}
        stack: list[tuple[int, int | None]] = [(begin, None)]
        walk: list[int] = []
        while stack:
            state, step = stack[-1]
            if left.get(state):
                following = left[state].pop()
                stack.append((self.steps[following][2], following))
            else:
                stack.pop()
                walk += [] if step is None else [step]
        return walk[::-1]


def shortest_word(automaton: Automaton, begin: int, end: int) -> Word:
    """A shortest word that leads from one state to another."""
    words, queue = {begin: ()}, deque([begin])
    while end not in words:
        state = queue.popleft()
        for symbol, target in enumerate(automaton.transitions[state].tolist()):
            if target not in words:
                words[target] = (*words[state], symbol)
                queue.append(target)
    return words[end]


def distinguishing_word(automaton: Automaton, p: int, q: int, marks: np.ndarray | None = None) -> Word | None:
    """A shortest word that leads from two states to different marks (None: acceptance); None: there is none."""
    marks = automaton.accepting if marks is None else marks
    words, queue = {(p, q): ()}, deque([(p, q)])
    while queue:
        pair = queue.popleft()
        if marks[pair[0]] != marks[pair[1]]:
            return words[pair]
        for symbol in range(len(automaton.alphabet)):
            target = (int(automaton.transitions[pair[0], symbol]), int(automaton.transitions[pair[1], symbol]))
            if target not in words:
                words[target] = (*words[pair], symbol)
                queue.append(target)
    return None
