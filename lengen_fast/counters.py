"""Counter machines: automata that also count, and see of each counter only whether it is zero.

Letters: S states, C counters, A symbols, T symbols of a word.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Configuration = tuple[int, tuple[int, ...]]  # a state, and the value of each counter


@dataclass(frozen=True)
class Transition:
    """One transition of a machine.

    Attributes:
        state, symbol, target: before, what is read, after.
        condition: for each counter "0" if it must be zero, "+" if positive, "*" if either will do.
        changes: what is added to each counter.
    """

    state: int
    symbol: str
    condition: str
    target: int
    changes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CounterMachine:
    """A deterministic machine with counters; state 0 is the start. Where there is no transition, no member goes on.

    What a machine sees is its *situation*: its state and which counters are positive, ``state * 2**C + mask``; there is
    one more, the last, for strings that are no prefix.

    Attributes:
        alphabet: A distinct symbol names.
        start: the counters at the start.
        transitions: see ``Transition``; from each a member can be reached.
        accepting: pairs (state, condition).
        first_length, length_step: the members' lengths are ``first_length``, ``first_length + length_step``, ...
    """

    alphabet: tuple[str, ...]
    start: tuple[int, ...]
    transitions: tuple[Transition, ...]
    accepting: tuple[tuple[int, str], ...]
    first_length: int
    length_step: int

    @classmethod
    def from_dict(cls, content: dict) -> CounterMachine:
        """A machine from its alphabet, start, transitions (lists in the order of ``Transition``), accepting situations
        and lengths (the first and the step)."""
        return cls(
            alphabet=tuple(content["alphabet"]),
            start=tuple(content["start"]),
            transitions=tuple(
                Transition(state, symbol, condition, target, tuple(changes))
                for state, symbol, condition, target, changes in content["transitions"]
            ),
            accepting=tuple((state, condition) for state, condition in content["accepting"]),
            first_length=content["lengths"][0],
            length_step=content["lengths"][1],
        )

    @property
    def counters(self) -> int:
        return len(self.start)

    @property
    def states(self) -> int:
        return 1 + max(max(each.state, each.target) for each in self.transitions)

    @property
    def dead(self) -> int:
        """The situation of strings that are no prefix of a member."""
        return self.states << self.counters

    def situation(self, configuration: Configuration) -> int:
        state, values = configuration
        return state << self.counters | sum(1 << i for i, value in enumerate(values) if value > 0)

    def step(self, configuration: Configuration, symbol: int) -> Configuration | None:
        """The configuration after a symbol; None: the string is no prefix of a member."""
        change = self._table.get((self.situation(configuration), symbol))
        if change is None:
            return None
        target, changes = change
        return target, tuple(value + by for value, by in zip(configuration[1], changes, strict=True))

    def run(self, word: Sequence[int] | np.ndarray) -> np.ndarray:
        """[T+1] int64: the situation before each symbol of a word, and after the last."""
        at: Configuration | None = (0, self.start)
        found = [self.situation(at)]
        for symbol in word:
            at = None if at is None else self.step(at, int(symbol))
            found.append(self.dead if at is None else self.situation(at))
        return np.array(found)

    def accepts(self, word: Sequence[int] | np.ndarray) -> bool:
        """Whether a word is in the language."""
        return bool(self.situation_accepts[self.run(word)[-1]])

    @cached_property
    def situation_accepts(self) -> np.ndarray:
        """[situations + 1] bool: whether a string that ends there is a member."""
        accepts = np.zeros(self.dead + 1, dtype=bool)
        for state, condition in self.accepting:
            accepts[[state << self.counters | mask for mask in _masks(condition)]] = True
        return accepts

    @cached_property
    def legal(self) -> np.ndarray:
        """[situations + 1, A + 1] bool: which symbols may come next in a member, and, last, whether it may end."""
        legal = np.zeros((self.dead + 1, len(self.alphabet) + 1), dtype=bool)
        for situation, symbol in self._table:
            legal[situation, symbol] = True
        legal[:, -1] = self.situation_accepts
        return legal

    @cached_property
    def live(self) -> np.ndarray:
        """[situations + 1] bool: some prefix of a member ends there; of those that count to ``_FEW`` at most."""
        live = np.zeros(self.dead + 1, dtype=bool)
        seen = {(0, self.start)}
        queue = [(0, self.start)]
        for configuration in queue:
            live[self.situation(configuration)] = True
            for symbol in range(len(self.alphabet)):
                after = self.step(configuration, symbol)
                if after is not None and after not in seen and max(after[1]) <= _FEW:
                    seen.add(after)
                    queue.append(after)
        return live

    @cached_property
    def _table(self) -> dict[tuple[int, int], tuple[int, tuple[int, ...]]]:
        """(situation, symbol) -> (target, changes)."""
        return {
            (each.state << self.counters | mask, self.alphabet.index(each.symbol)): (each.target, each.changes)
            for each in self.transitions
            for mask in _masks(each.condition)
        }

    # ---- lengths ----

    def lengths(self, low: int, high: int) -> np.ndarray:
        """The lengths in low..high that some member has, increasing, int64."""
        low = max(low, self.first_length)
        return np.arange(low + (self.first_length - low) % self.length_step, high + 1, self.length_step)

    longest = None

    def count(self, n: int) -> int:
        """How many members have length ``n``, exactly; in time of the order of n configurations a step."""
        counts: dict[Configuration, int] = {(0, self.start): 1}
        for _ in range(n):
            before, counts = counts, {}
            for configuration, ways in before.items():
                for symbol in range(len(self.alphabet)):
                    after = self.step(configuration, symbol)
                    if after is not None:
                        counts[after] = counts.get(after, 0) + ways
        return sum(ways for at, ways in counts.items() if self.situation_accepts[self.situation(at)])

    # ---- for the engine ----

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """start [C] int64, next states [situations, A] int32 (-1: none), changes [situations, A, C] int64."""
        shape = (self.dead, len(self.alphabet))
        targets = np.full(shape, -1, dtype=np.int32)
        changes = np.zeros((*shape, self.counters), dtype=np.int64)
        for place, (target, change) in self._table.items():
            targets[place], changes[place] = target, change
        return np.array(self.start, dtype=np.int64), targets, changes

    def counting_recipe(self) -> list[list[int]]:
        """What each symbol of a machine with one state does, as the engine's recipe ``hard_counting`` takes it."""
        rises, falls, neutral = [], [], []
        for each in self.transitions:
            symbol, counter = self.alphabet.index(each.symbol), int(np.argmax(np.abs(each.changes)))
            if not any(each.changes):
                neutral.append([symbol])
            elif each.changes[counter] > 0:
                rises.append((counter, symbol, each.changes[counter]))
            else:
                falls.append((counter, symbol))
        neutral += [[up, down] for (c, up, by), (d, down) in itertools.product(rises, falls) if c == d and by == 1]
        recipe = [[0, *rise] for rise in rises] + [[1, *fall] for fall in falls] + [[2, *word] for word in neutral]
        return recipe + ([[3]] if any(self.start) else [])


_FEW = 3


def _masks(condition: str) -> list[int]:
    """The sets of positive counters, as bits, that a condition allows."""
    choices = [{"0": (0,), "+": (1,), "*": (0, 1)}[each] for each in condition]
    return [sum(bit << i for i, bit in enumerate(bits)) for bits in itertools.product(*choices)]
