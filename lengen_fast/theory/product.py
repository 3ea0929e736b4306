"""An automaton together with what positions show: the last k symbols, and the length modulo m.

Periodic predicates of C-RASP show a program the position modulo m, local ones the symbols just before it. What remains
for counting is to tell apart the states of the automaton that agree in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lengen_fast.automata import Automaton

MOST_STATES = 2000
"""Largest product that is built."""


@dataclass(frozen=True)
class Product:
    """The reachable triples of a state, the last ``window`` symbols and the length modulo ``period``.

    Attributes:
        base: the automaton.
        period: m; 1: lengths are not seen.
        window: k; 0: symbols are not seen. Near the start there are fewer than k.
        automaton: the product; the state names are those of the triples.
        base_state: [S'] int64, the state of ``base`` in each triple.
        windows: [S'] the last symbols, oldest first.
        residues: [S'] int64, the length modulo m.
    """

    base: Automaton
    period: int
    window: int
    automaton: Automaton
    base_state: np.ndarray
    windows: tuple[tuple[int, ...], ...]
    residues: np.ndarray

    @cached_property
    def observed(self) -> np.ndarray:
        """[S'] int64: a number for each pair of a window and a residue."""
        numbers: dict[tuple[tuple[int, ...], int], int] = {}
        pairs = zip(self.windows, self.residues.tolist(), strict=True)
        return np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)

    @property
    def regions(self) -> np.ndarray:
        """[S'] int64: the strongly connected component of the base state, sources first."""
        return self.base.components[self.base_state]


def product(base: Automaton, period: int = 1, window: int = 0) -> Product | None:
    """The product with lengths modulo ``period`` and the last ``window`` symbols; None beyond ``MOST_STATES``."""
    start = (0, (), 0)
    numbers, triples, rows = {start: 0}, [start], []
    table = base.transitions.tolist()
    for state, symbols, residue in triples:
        row = []
        for symbol, target in enumerate(table[state]):
            seen = (*symbols, symbol)[-window:] if window else ()
            triple = (target, seen, (residue + 1) % period)
            if triple not in numbers:
                if len(numbers) == MOST_STATES:
                    return None
                numbers[triple] = len(numbers)
                triples.append(triple)
            row.append(numbers[triple])
        rows.append(row)
    states, windows, residues = zip(*triples, strict=True)
    transitions = np.array(rows, dtype=np.int32).reshape(len(rows), len(base.alphabet))
    names = tuple(f"{state}|{''.join(map(str, symbols))}|{residue}" for state, symbols, residue in triples)
    automaton = Automaton(base.alphabet, transitions, base.accepting[list(states)], names)
    return Product(base, period, window, automaton, np.array(states), windows, np.array(residues))


def sizes(symbols: int, most_period: int, most_window: int, most_observations: int) -> Iterator[tuple[int, int]]:
    """Pairs (m, k) other than (1, 0), those with the fewest observations first."""
    observations = lambda m, k: m * sum(symbols**length for length in range(k + 1))  # noqa: E731
    pairs = [(m, k) for m in range(1, most_period + 1) for k in range(most_window + 1)]
    pairs = [pair for pair in pairs if observations(*pair) <= most_observations]
    yield from sorted(pairs, key=lambda pair: (observations(*pair), pair[1]))[1:]
