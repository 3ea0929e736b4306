"""The automaton of replacements against all replacements in all members."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regular_languages import automata

from lengen_fast import edits
from lengen_fast.automata import Automaton
from lengen_fast.edits import BESIDE, has_all_or_none, replacements


def marked_words(automaton, n):
    """Every `u mark a b v` by trying all strings u a v and all symbols b."""
    symbols = range(len(automaton.alphabet))
    found = set()
    for x in product(symbols, repeat=n):
        if automaton.accepts(x):
            for place, other in product(range(n), symbols):
                if not automaton.accepts([*x[:place], other, *x[place + 1 :]]):
                    found.add((*x[:place], len(symbols), x[place], other, *x[place + 1 :]))
    return found


@given(st.one_of(automata(), automata(4, "abc")))
def test_its_words_are_the_replacements_that_leave_the_language(automaton):
    walked = replacements(automaton)
    size = len(automaton.alphabet)
    for n in range(7 if size == 2 else 5):
        expected = marked_words(automaton, n)
        assert walked.count(n + BESIDE) == len(expected)
        assert all(map(walked.accepts, expected))
        assert list(walked.lengths(n + BESIDE, n + BESIDE)) == [n + BESIDE] * bool(expected)


@given(automata())
def test_replacements_matter_unless_a_language_has_all_strings_of_a_length_or_none(automaton):
    minimal = automaton.minimal()
    assert has_all_or_none(minimal) == (not replacements(minimal).live[0])
    sizes = [minimal.count(n) in (0, 2**n) for n in range(13)]  # six states at most: lengths show it by then
    assert has_all_or_none(minimal) == all(sizes)


def ring(states):
    """Counts a symbol modulo ``states``; another one rests in state 0."""
    table = [[(state + 1) % states, (state + 1) % states if state else 0] for state in range(states)]
    return Automaton(tuple("ab"), np.array(table), [state == 0 for state in range(states)])


def test_one_with_many_states_is_the_same_without_merging_them(monkeypatch):
    merged = replacements(ring(7))
    monkeypatch.setattr(edits, "MOST_MERGED", 10)
    whole = replacements(ring(7))
    assert whole.states > merged.states
    assert [whole.count(n) for n in range(12)] == [merged.count(n) for n in range(12)]


def test_too_many_pairs_of_states_are_refused(monkeypatch):
    monkeypatch.setattr(edits, "MOST_STATES", 50)
    with pytest.raises(ValueError, match="of which this automaton of 9 states reaches more than 50; draw 'negative'"):
        replacements(ring(9))
