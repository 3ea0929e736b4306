"""The automaton behind a function on words, learned from its values (after Angluin, and Rivest and Schapire).

Letters: S states, A symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.theory.confusion import Word

MOST_STATES = 24
MOST_WORDS = 1000
"""Short words on which a learned automaton is tested."""
LONG_WORDS, LONG_LENGTH = 100, 200

Function = Callable[[Word], Hashable]


@dataclass(frozen=True)
class Learned:
    """An automaton that gives the value of every word that was tried.

    Attributes:
        transitions: [S, A] int32.
        values: the value of each state.
        exhaustive: all words up to this length were tried.
        strings, length: and so many words of this length.
    """

    transitions: np.ndarray
    values: tuple[Hashable, ...]
    exhaustive: int
    strings: int
    length: int

    def automaton(self, alphabet: tuple[str, ...], value: Hashable) -> Automaton:
        """The minimal automaton of the words with a value."""
        return Automaton(alphabet, self.transitions, [each == value for each in self.values]).minimal()


def learn(function: Function, symbols: int, most_states: int = MOST_STATES) -> Learned | None:
    """The least automaton that agrees with a function on all short words and on random long ones.

    Args:
        function: of words over the numbers 0 .. ``symbols`` - 1.
        most_states: where to give up.

    Returns:
        None if more states are needed.
    """
    function, exhaustive = cache(function), short_length(symbols)
    random = np.random.default_rng(0)
    long = [tuple(map(int, word)) for word in random.integers(symbols, size=(LONG_WORDS, LONG_LENGTH))]
    suffixes: list[Word] = [()]
    while True:
        table = _table(function, symbols, suffixes, most_states)
        if table is None:
            return None
        words, transitions = table
        values = [function(word) for word in words]
        wrong = _counterexample(function, transitions, values, exhaustive, long)
        if wrong is None:
            return Learned(np.array(transitions, np.int32), tuple(values), exhaustive, LONG_WORDS, LONG_LENGTH)
        suffixes.append(_new_suffix(function, words, transitions, wrong))


def short_length(symbols: int) -> int:
    """The length up to which there are at most about ``MOST_WORDS`` words; of one symbol, that of long words."""
    if symbols == 1:
        return LONG_LENGTH
    length = 0
    while symbols ** (length + 1) <= MOST_WORDS:
        length += 1
    return length


def _table(
    function: Function, symbols: int, suffixes: list[Word], most_states: int
) -> tuple[list[Word], list[list[int]]] | None:
    """A word to each state that the suffixes tell apart, and the transitions; None: more than ``most_states``."""
    row = lambda word: tuple(function(word + suffix) for suffix in suffixes)  # noqa: E731
    numbers, words = {row(()): 0}, [()]
    transitions: list[list[int]] = []
    for word in words:
        transitions.append([])
        for symbol in range(symbols):
            key = row((*word, symbol))
            if key not in numbers:
                if len(words) == most_states:
                    return None
                numbers[key] = len(words)
                words.append((*word, symbol))
            transitions[-1].append(numbers[key])
    return words, transitions


def _counterexample(
    function: Function, transitions: list[list[int]], values: list[Hashable], exhaustive: int, long: list[Word]
) -> Word | None:
    symbols = len(transitions[0])
    for length in range(exhaustive + 1):
        for word in product(range(symbols), repeat=length):
            if values[_run(transitions, word)] != function(word):
                return word
    return next((word for word in long if values[_run(transitions, word)] != function(word)), None)


def _new_suffix(function: Function, words: list[Word], transitions: list[list[int]], wrong: Word) -> Word:
    """A suffix of a counterexample that tells two words apart which lead to one state."""
    value = lambda place: function(words[_run(transitions, wrong[:place])] + wrong[place:])  # noqa: E731
    right, low, high = value(0), 0, len(wrong)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if value(middle) == right else (low, middle)
    return wrong[high:]


def _run(transitions: list[list[int]], word: Word) -> int:
    state = 0
    for symbol in word:
        state = transitions[state][symbol]
    return state
