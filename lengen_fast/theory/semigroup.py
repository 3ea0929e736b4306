"""What keeps a regular language out of C-RASP with positions: groups and flip-flops that lengths do not explain.

Words act on the states of an automaton. The *stable semigroup* is what words of length s do, for the s at which words
of length 2s do the same: all its elements are then done by words of one length, which neither the length nor any
residue of it tells apart, and it is closed under products. If it contains a group, the language counts words of that
group modulo a number, as PARITY does; if it contains a flip-flop with a neutral element, the language remembers which
of two words came last behind any stretch of neutral words, as {0,1,2}*02* does. C-RASP[periodic, local] is closed under
replacing letters by words of one length, and has neither PARITY nor {0,1,2}*02* (arXiv 2410.02140).

Letters: S states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.confusion import Word, distinguishing_word, shortest_word

MOST_ELEMENTS = 40_000
"""Actions of words that are searched, those of each length counted anew."""

Action = bytes
"""What a word does: the state reached from each, as int16 numbers."""


@dataclass(frozen=True)
class Group:
    """Words of one length: ``turn`` counts modulo ``order``, and ``neutral`` changes nothing.

    Attributes:
        neutral, turn: words of one length.
        order: a prime; so many turns change nothing.
        access: leads from the start to where turning begins.
        states: the state after 0, 1, ... turns, however many neutral words are among them.
        rest: leads from the first two of these states to different marks.
    """

    neutral: Word
    turn: Word
    order: int
    access: Word
    states: tuple[int, ...]
    rest: Word


@dataclass(frozen=True)
class FlipFlop:
    """Words of one length: which of ``set`` and ``reset`` came last decides, and ``neutral`` changes nothing.

    Attributes:
        set, reset: each undoes whatever of the two came before it.
        neutral: changes nothing behind either.
        access: leads from the start to where the two make a difference.
        states: the state after ``set`` and after ``reset``.
        rest: leads from these states to different marks.
    """

    set: Word
    reset: Word
    neutral: Word
    access: Word
    states: tuple[int, int]
    rest: Word


class TooLarge(ValueError):
    """The semigroup has more elements than are searched."""


class StableSemigroup:
    """What words of the stable length do.

    Args:
        automaton: every state must be reachable.
        marks: [S] what is to be known of each state; None: whether it accepts.

    Raises:
        TooLarge: words act in too many ways.
    """

    def __init__(self, automaton: Automaton, marks: np.ndarray | None = None) -> None:
        self.automaton, self.marks = automaton, marks
        self.letters = [np.ascontiguousarray(column, np.int16) for column in automaton.transitions.T]
        self.levels: list[dict[Action, tuple[Action, int] | None]] = [
            {np.arange(automaton.states, dtype=np.int16).tobytes(): None}
        ]
        self.size = 0
        self.length = self._stable_length()

    def _stable_length(self) -> int:
        """The least s > 0 such that words of lengths s and 2s do the same."""
        seen: dict[frozenset[Action], int] = {}
        while True:
            self._grow()
            level = frozenset(self.levels[-1])
            if level in seen:
                break
            seen[level] = len(self.levels) - 1
        first, cycle = seen[level], len(self.levels) - 1 - seen[level]
        stable = -(-first // cycle) * cycle
        while len(self.levels) <= stable:
            self._grow()
        return stable

    def _grow(self) -> None:
        """The actions of words one letter longer, and one way to each."""
        longer: dict[Action, tuple[Action, int] | None] = {}
        for action in self.levels[-1]:
            states = np.frombuffer(action, dtype=np.int16)
            for symbol, letter in enumerate(self.letters):
                longer.setdefault(letter[states].tobytes(), (action, symbol))
        self.levels.append(longer)
        self.size += len(longer)
        if self.size > MOST_ELEMENTS:
            raise TooLarge(
                f"words of up to {len(self.levels) - 1} symbols act on the {self.automaton.states} states of the "
                f"automaton in more than {MOST_ELEMENTS} ways; a search for groups and flip-flops stops there"
            )

    def word(self, action: Action) -> Word:
        """A word of the stable length that does this."""
        symbols: list[int] = []
        for level in self.levels[self.length : 0 : -1]:
            action, symbol = level[action]
            symbols.append(symbol)
        return tuple(symbols[::-1])

    @cached_property
    def elements(self) -> list[Action]:
        return list(self.levels[self.length])

    @cached_property
    def idempotents(self) -> list[Action]:
        return [action for action in self.elements if _product(action, action) == action]

    def group(self) -> Group | None:
        """A cyclic group of prime order, or None."""
        for action in self.elements:
            powers = list(_powers(action))
            first = powers.index(_product(powers[-1], action))
            size = len(powers) - first
            if size > 1:
                return self._group(powers[first:])
        return None

    def _group(self, cycle: list[Action]) -> Group:
        """The subgroup of prime order of a cyclic group, given by the powers of an element."""
        neutral = next(action for action in cycle if _product(action, action) == action)
        order = next(p for p in range(2, len(cycle) + 1) if len(cycle) % p == 0)
        generator = next(action for action in cycle if len(list(_powers(_product(action, neutral)))) == len(cycle))
        turn = neutral
        for _ in range(len(cycle) // order):
            turn = _product(turn, generator)
        powers = list(_powers(turn))
        state = next(q for q in range(self.automaton.states) if _at(turn, q) != _at(neutral, q))
        states = tuple(_at(power, state) for power in [powers[-1], *powers[:-1]])
        rest = distinguishing_word(self.automaton, *states[:2], self.marks)
        access = shortest_word(self.automaton, 0, state) + self.word(neutral)
        return Group(self.word(neutral), self.word(turn), order, access, states, rest)

    def flip_flop(self) -> FlipFlop | None:
        """Two words that undo each other and a third that changes neither, or None.

        Idempotents undo each other exactly if they tell the same states apart.
        """
        alike: dict[Action, list[Action]] = defaultdict(list)
        for action in self.idempotents:
            alike[_kernel(action)].append(action)
        for group in alike.values():
            neutral = [[e for e in self.idempotents if _changes_nothing(e, action)] for action in group[:-1]]
            for place, one in enumerate(group[:-1]):
                for other in group[place + 1 :]:
                    shared = next((e for e in neutral[place] if _changes_nothing(e, other)), None)
                    if shared is not None:
                        return self._flip_flop(one, other, shared)
        return None

    def _flip_flop(self, one: Action, other: Action, neutral: Action) -> FlipFlop:
        state = next(q for q in range(self.automaton.states) if _at(one, q) != _at(other, q))
        states = _at(one, state), _at(other, state)
        rest = distinguishing_word(self.automaton, *states, self.marks)
        access = shortest_word(self.automaton, 0, state)
        return FlipFlop(self.word(one), self.word(other), self.word(neutral), access, states, rest)


def _product(first: Action, second: Action) -> Action:
    """What a word does that does one and then the other."""
    return np.frombuffer(second, np.int16)[np.frombuffer(first, np.int16)].tobytes()


def _changes_nothing(neutral: Action, action: Action) -> bool:
    return _product(neutral, action) == action == _product(action, neutral)


def _kernel(action: Action) -> Action:
    """Which states an action brings together, as the first state that goes where each goes."""
    states = np.frombuffer(action, np.int16)
    _, first, place = np.unique(states, return_index=True, return_inverse=True)
    return first[place.reshape(-1)].astype(np.int16).tobytes()


def _at(action: Action, state: int) -> int:
    return int(np.frombuffer(action, np.int16)[state])


def _powers(action: Action) -> Iterator[Action]:
    """The distinct powers, from the first on."""
    seen, power = set(), action
    while power not in seen:
        seen.add(power)
        yield power
        power = _product(power, action)
