"""Automata for the tests of the decision: random ones, and cascades of counters that are in C-RASP by construction."""

import itertools

import numpy as np
from hypothesis import strategies as st

from lengen_fast.automata import Automaton


@st.composite
def automata(draw, most_states=6, symbols="ab"):
    """Automata with every state reachable, not minimal ones in general."""
    states = draw(st.integers(1, most_states))
    row = st.lists(st.integers(0, states - 1), min_size=len(symbols), max_size=len(symbols))
    table = np.array(draw(st.lists(row, min_size=states, max_size=states)))
    accepting = draw(st.lists(st.booleans(), min_size=states, max_size=states))
    return trimmed(Automaton(tuple(symbols), table, accepting))


def trimmed(automaton):
    """Without states that cannot be reached."""
    return automaton.merged(np.arange(automaton.states))[0]


def cascade(seed):
    """A minimal automaton whose states are components of bounded counters, each driven by the symbol and those before.

    A program of C-RASP without positions knows its state: it counts each counter, the first ones first.
    """
    random = np.random.default_rng(seed)
    symbols = int(random.integers(2, 4))
    sizes = [random.integers(2, 4, random.integers(0, 4)).tolist() for _ in range(random.integers(1, 4))]
    states = [(number, *values) for number, each in enumerate(sizes) for values in itertools.product(*map(range, each))]
    place = {state: i for i, state in enumerate([*states, "dead"])}
    steps = {}
    table = np.full((len(place), symbols), place["dead"])
    for state, symbol in itertools.product(states, range(symbols)):
        number, *values = state
        moved = [number]
        for i, value in enumerate(values):
            step = steps.setdefault((number, i, symbol, *values[:i]), int(random.integers(-1, 2)))
            moved.append(value + step)
        stays = random.random() > 0.1 and tuple(moved) in place
        later = [each for each in states if each[0] > number] if random.random() < 0.7 else []
        goal = tuple(moved) if stays else later[random.integers(len(later))] if later else "dead"
        table[place[state], symbol] = place[goal]
    accepting = random.random(len(place)) < 0.4
    return Automaton(tuple("abc"[:symbols]), table, accepting).minimal()


def both(one, other):
    """The automaton that runs two of them side by side; it accepts where exactly one of them does."""
    rows = one.transitions[:, None] * other.states + other.transitions[None]
    accepting = one.accepting[:, None] != other.accepting[None]
    return trimmed(Automaton(one.alphabet, rows.reshape(-1, len(one.alphabet)), accepting.reshape(-1)))


def substituted(automaton, words):
    """The automaton that reads a word of another one for each of its own symbols."""
    table = [[int(run_from(automaton, state, word)) for word in words] for state in range(automaton.states)]
    names = tuple("xyzuvw"[: len(words)])
    return trimmed(Automaton(names, np.array(table).reshape(automaton.states, len(words)), automaton.accepting))


def run_from(automaton, state, word):
    for symbol in word:
        state = automaton.transitions[state, symbol]
    return state
