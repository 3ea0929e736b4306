"""Deterministic finite automata: what a regular language is to the rest of the package.

Letters: S states, A symbols, T symbols of a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Automaton:
    """A complete deterministic automaton; state 0 is the start.

    Words are sequences of symbol numbers, the place of each symbol in ``alphabet``.

    Attributes:
        alphabet: A distinct symbol names.
        transitions: [S, A] int32, the state after each state and symbol.
        accepting: [S] bool.
        state_names: S names; None: the numbers of the states.
    """

    alphabet: tuple[str, ...]
    transitions: np.ndarray
    accepting: np.ndarray
    state_names: tuple[str, ...] = field(default=None)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "alphabet", tuple(self.alphabet))
        set_field(self, "transitions", np.ascontiguousarray(self.transitions, dtype=np.int32))
        set_field(self, "accepting", np.ascontiguousarray(self.accepting, dtype=bool))
        states = len(self.accepting)
        if self.transitions.shape != (states, len(self.alphabet)) or states == 0:
            raise ValueError(
                f"transitions has shape {self.transitions.shape}; with {states} states, {len(self.alphabet)} symbols "
                f"it must be {(states, len(self.alphabet))}, with one state or more"
            )
        if self.transitions.size and not 0 <= self.transitions.min() <= self.transitions.max() < states:
            raise ValueError(f"transitions leads out of the states 0..{states - 1}")
        if self.state_names is None:
            set_field(self, "state_names", tuple(map(str, range(states))))

    @property
    def states(self) -> int:
        return len(self.accepting)

    @classmethod
    def from_regex(cls, regex: str, alphabet: Sequence[str] | None = None) -> Automaton:
        """The minimal automaton of a regular expression (the syntax of automata-lib: ``| * + ? & ^ . [] {}``).

        Args:
            regex: each symbol is one character.
            alphabet: the symbols in order; None: those of the expression, sorted.

        Raises:
            ValueError: the expression has an error, or uses a symbol that is not in ``alphabet``.
        """
        from automata.base.exceptions import AutomatonException
        from automata.fa.dfa import DFA
        from automata.fa.nfa import NFA

        symbols = None if alphabet is None else set(alphabet)
        try:
            partial = DFA.from_nfa(NFA.from_regex(regex, input_symbols=symbols), minify=True)
        except AutomatonException as error:
            raise ValueError(f"regex {regex!r}: {error}") from error
        alphabet = tuple(sorted(partial.input_symbols)) if alphabet is None else tuple(alphabet)
        complete = partial.to_complete()
        return cls.from_names(alphabet, complete.transitions, complete.initial_state, complete.final_states).minimal()

    @classmethod
    def from_names(cls, alphabet: Sequence[str], transitions: dict, start: object, accepting) -> Automaton:
        """An automaton whose states have names: ``transitions[state][symbol]`` is a state."""
        order = [start, *(state for state in transitions if state != start)]
        number = {state: i for i, state in enumerate(order)}
        table = [[number[transitions[state][symbol]] for symbol in alphabet] for state in order]
        table = np.array(table, dtype=np.int32).reshape(len(order), len(alphabet))
        return cls(tuple(alphabet), table, [state in accepting for state in order], tuple(map(str, order)))

    def run(self, word: Sequence[int] | np.ndarray) -> np.ndarray:
        """[T+1] int32: the state before each symbol of a word, and after the last."""
        table = self.transitions.tolist()
        states = [0]
        for symbol in word:
            states.append(table[states[-1]][symbol])
        return np.array(states, dtype=np.int32)

    def accepts(self, word: Sequence[int] | np.ndarray) -> bool:
        """Whether a word is in the language."""
        return bool(self.accepting[self.run(word)[-1]])

    @cached_property
    def live(self) -> np.ndarray:
        """[S] bool: some continuation is accepted."""
        live = self.accepting
        while True:
            wider = live | live[self.transitions].any(axis=1)
            if (wider == live).all():
                return live
            live = wider

    @cached_property
    def legal(self) -> np.ndarray:
        """[S, A+1] bool: which symbols may come next in a member, and, last, whether it may end."""
        return np.concatenate([self.live[self.transitions] & self.live[:, None], self.accepting[:, None]], axis=1)

    @cached_property
    def components(self) -> np.ndarray:
        """[S] int64: the strongly connected component of each state, sources first (Tarjan's algorithm)."""
        table = self.transitions.tolist()
        index, low, open_states, numbers = {}, {}, [], np.full(self.states, -1, dtype=np.int64)
        found = 0
        for root in range(self.states):
            visits = [] if root in index else [(root, iter(table[root]))]
            while visits:
                state, targets = visits[-1]
                if state not in index:
                    index[state] = low[state] = len(index)
                    open_states.append(state)
                for target in targets:
                    if target not in index:
                        visits.append((target, iter(table[target])))
                        break
                    if numbers[target] < 0:
                        low[state] = min(low[state], index[target])
                else:
                    visits.pop()
                    if visits:
                        low[visits[-1][0]] = min(low[visits[-1][0]], low[state])
                    if low[state] == index[state]:
                        place = open_states.index(state)
                        numbers[open_states[place:]] = found
                        del open_states[place:]
                        found += 1
        return found - 1 - numbers

    def lengths(self, low: int, high: int) -> np.ndarray:
        """The lengths in low..high that some member has, increasing, int64."""
        steps = np.arange(max(low, 0), high + 1)
        before, period = self._length_cycle
        known = len(before) - period
        places = np.where(steps < known, steps, known + (steps - known) % period)
        return steps[before[places]]

    @cached_property
    def _length_cycle(self) -> tuple[np.ndarray, int]:
        """Whether there is a member of length 0, 1, ...; and how many of the last entries come again and again."""
        seen: dict[bytes, int] = {}
        found: list[bool] = []
        finishing = self.accepting  # the states from which r further symbols can lead to acceptance
        while (key := np.packbits(finishing).tobytes()) not in seen:
            seen[key] = len(found)
            found.append(bool(finishing[0]))
            finishing = finishing[self.transitions].any(axis=1)
        return np.array(found), len(found) - seen[key]

    def minimal(self) -> Automaton:
        """The minimal complete automaton of the language, its states numbered breadth first from the start."""
        return self.merged(self.accepting)[0]

    def merged(self, marks: Sequence | np.ndarray) -> tuple[Automaton, np.ndarray]:
        """The reachable states, those joined that no continuation leads to different marks.

        Args:
            marks: [S] integers or bools, what is to be known of each state.

        Returns:
            The smaller automaton, its states numbered breadth first from the start, and [S'] int64, a state of this
            automaton for each of its states, whose name and acceptance it has.
        """
        classes = np.unique(np.asarray(marks), return_inverse=True)[1].reshape(-1)
        while True:
            signature = np.concatenate([classes[:, None], classes[self.transitions]], axis=1)
            refined = np.unique(signature, axis=0, return_inverse=True)[1].reshape(-1)
            if refined.max() == classes.max():
                break
            classes = refined
        order, seen = [0], {int(refined[0])}
        for state in order:
            for target in map(int, self.transitions[state]):
                if int(refined[target]) not in seen:
                    seen.add(int(refined[target]))
                    order.append(target)
        number = np.zeros(refined.max() + 1, dtype=np.int32)
        number[refined[order]] = np.arange(len(order))
        names = tuple(self.state_names[state] for state in order)
        table = number[refined[self.transitions[order]]]
        return Automaton(self.alphabet, table, self.accepting[order], names), np.array(order)
