"""Groups and flip-flops: found where they are, never where a program is."""

import numpy as np
import pytest
from hypothesis import given, settings
from regular_languages import automata

from lengen_fast.automata import Automaton
from lengen_fast.theory import semigroup
from lengen_fast.theory.checks import Disagreement
from lengen_fast.theory.potentials import decide
from lengen_fast.theory.product import product, sizes
from lengen_fast.theory.regular import check_witness
from lengen_fast.theory.semigroup import FlipFlop, Group, StableSemigroup, TooLarge


def witness(automaton):
    found = StableSemigroup(automaton)
    return found.group() or found.flip_flop()


@pytest.mark.parametrize(
    ("regex", "alphabet", "order"),
    [("(b*ab*a)*b*", "ab", 2), ("(b*ab*ab*a)*b*", "ab", 3), ("((a|b)*)", "ab", None), ("(aa)*", "a", None)],
)
def test_groups_that_lengths_do_not_explain(regex, alphabet, order):
    group = StableSemigroup(Automaton.from_regex(regex, alphabet)).group()
    assert (group.order if group else None) == order


@pytest.mark.parametrize(
    ("regex", "alphabet", "found"),
    [("(a|b|e)*be*", "abe", True), ("(0|1|2)*02*", "012", True), ("(a|b)*b", "ab", False), ("(ab)*", "ab", False)],
)
def test_flip_flops_with_a_neutral_word(regex, alphabet, found):
    assert (StableSemigroup(Automaton.from_regex(regex, alphabet)).flip_flop() is not None) == found


@settings(max_examples=80)
@given(automata(most_states=5))
def test_no_language_has_both_a_program_and_a_witness(automaton):
    automaton = automaton.minimal()
    try:
        found = witness(automaton)
    except TooLarge:
        return
    if found is None:
        return
    check_witness(automaton, found)
    words = {
        len(word)
        for word in (
            (found.neutral, found.turn) if isinstance(found, Group) else (found.neutral, found.set, found.reset)
        )
    }
    assert len(words) == 1
    for period, window in [(1, 0), *sizes(2, 4, 2, 10)]:
        joint = product(automaton, period, window)
        assert not decide(joint.automaton, joint.observed, joint.regions).known


def test_a_false_witness_is_noticed():
    automaton = Automaton.from_regex("(a|b|e)*be*", "abe")
    found = witness(automaton)
    assert isinstance(found, FlipFlop)
    wrong = FlipFlop(found.reset, found.set, found.neutral, found.access, found.states, found.rest)
    with pytest.raises(Disagreement, match="leads to state"):
        check_witness(automaton, wrong)


def test_the_bound_of_the_search_is_stated(monkeypatch):
    monkeypatch.setattr(semigroup, "MOST_ELEMENTS", 100)
    random = np.random.default_rng(0).integers(0, 9, (9, 2))
    with pytest.raises(TooLarge, match="in more than 100 ways"):
        StableSemigroup(Automaton(("a", "b"), random, np.arange(9) < 4))
