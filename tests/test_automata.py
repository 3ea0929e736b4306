"""Automata against Python's own regular expressions and against brute force."""

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lengen_fast.automata import Automaton
from lengen_fast.expressions import RegexError

EXPRESSIONS = [
    ("(ab)*", "ab"),
    ("(ab|bbaa)*", "ab"),
    ("(aa)*", "a"),
    ("a*", "ab"),
    ("(a|b)*abb?", "ab"),
    ("a|b*c", "cba"),
]


def words(symbols, longest):
    return itertools.chain.from_iterable(itertools.product(range(symbols), repeat=n) for n in range(longest + 1))


@pytest.mark.parametrize(("regex", "alphabet"), EXPRESSIONS)
def test_regex_accepts_what_python_accepts(regex, alphabet):
    automaton = Automaton.from_regex(regex, alphabet)
    assert automaton.alphabet == tuple(alphabet)
    for word in words(len(alphabet), 8):
        assert automaton.accepts(word) == bool(re.fullmatch(regex, "".join(alphabet[i] for i in word)))


@pytest.mark.parametrize(("regex", "alphabet"), EXPRESSIONS)
def test_legal_symbols_are_those_that_some_member_continues_with(regex, alphabet):
    automaton = Automaton.from_regex(regex, alphabet)
    members = [word for word in words(len(alphabet), 9) if automaton.accepts(word)]
    for prefix in words(len(alphabet), 4):
        n = len(prefix)
        after = {word[n] for word in members if len(word) > n and word[:n] == prefix}
        expected = [i in after for i in range(len(alphabet))] + [prefix in members]
        assert automaton.legal[automaton.run(prefix)[-1]].tolist() == expected


def test_minimal_joins_equal_states_and_drops_unreachable_ones():
    doubled = Automaton(("a",), np.array([[1], [2], [3], [0], [4]]), [True, False, True, False, True])
    assert doubled.minimal().transitions.tolist() == [[1], [0]]
    assert doubled.minimal().accepting.tolist() == [True, False]


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_two_states_are_joined_where_no_continuation_tells_them_apart(states, symbols, seed):
    rng = np.random.default_rng(seed)
    alphabet, table = "abc"[:symbols], rng.integers(states, size=(states, symbols))
    automaton = Automaton(alphabet, table, rng.random(states) < 0.4)
    smaller = automaton.minimal()
    assert all(automaton.accepts(word) == smaller.accepts(word) for word in words(symbols, 5))
    told_apart = smaller.accepting[:, None] != smaller.accepting
    for _ in range(states):
        for targets in smaller.transitions.T:
            told_apart |= told_apart[targets][:, targets]
    assert told_apart.sum() == smaller.states * (smaller.states - 1)


def test_states_with_names():
    table = {"odd": {"1": "even", "0": "odd"}, "even": {"0": "even", "1": "odd"}}
    automaton = Automaton.from_names("01", table, "even", {"even"})
    assert automaton.state_names == ("even", "odd")
    assert [automaton.accepts(word) for word in ([], [1], [0, 1, 1])] == [True, False, True]


def test_a_table_of_the_wrong_shape_or_with_unknown_states_is_refused():
    with pytest.raises(ValueError, match="it must be \\(2, 1\\)"):
        Automaton(("a",), [[0, 1], [1, 0]], [True, False])
    with pytest.raises(ValueError, match=r"out of the states 0\.\.1"):
        Automaton(("a",), [[2], [0]], [True, False])


ONE_STATE = {"alphabet": "a", "start": 0, "accepting": [0], "transitions": [[0]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accepting": [[1]]}, r"accepting names state \[1\], which has no transitions; the states are 0"),
        ({"start": [0]}, r"start names state \[0\], which has no transitions; the states are 0"),
        ({"transitions": [[[0]]]}, r"state 0 leads to \[0\] at 'a', an unknown state; the states are 0"),
        ({"alphabet": 7}, "the alphabet 7; it must be a text or a list of symbols"),
        ({"alphabet": [["a"]]}, r"alphabet has \['a'\]; a symbol must be a string"),
        ({"alphabet": ""}, "the alphabet is empty"),
    ],
)
def test_a_file_with_a_mistake_is_named_with_the_entry(change, words, tmp_path):
    path = tmp_path / "dfa.json"
    path.write_text(json.dumps(ONE_STATE | change))
    with pytest.raises(ValueError, match=rf"dfa\.json: .*{words}"):
        Automaton.from_file(path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    path = tmp_path / "dfa.json"
    path.write_text(json.dumps(ONE_STATE), encoding="utf-8-sig")
    assert Automaton.from_file(path).accepts([0])


def test_an_expression_without_symbols_needs_an_alphabet():
    with pytest.raises(
        ValueError, match=r"regex '\(\)' names no symbol.*alphabet='ab', or on the command line --alphabet"
    ):
        Automaton.from_regex("()")
    assert Automaton.from_regex("()", "a").accepts([])
    with pytest.raises(TypeError, match="alphabet is 5; it must be the symbols, such as 'ab'"):
        Automaton.from_regex("()", 5)


@pytest.mark.parametrize(
    ("regex", "symbols", "place"),
    [
        ("(a{97}){50}(a|b)", 4852, 7),
        ("(a{1000}){1000}", 1_000_000, 9),
        ("b((a{40}){40,}){2}b", 3202, 15),
        ("(ab){,601}", 1202, 4),
        ("a" * 1201, 1201, 0),
    ],
)
def test_an_expression_too_large_to_write_out_is_refused_at_its_outermost_repetition(regex, symbols, place):
    with pytest.raises(RegexError, match=f"has {symbols} symbols with every repetition written out") as error:
        Automaton.from_regex(regex)
    assert str(error.value).splitlines()[-1] == f"  {' ' * place}^"


def test_repetitions_of_repetitions_are_written_out():
    assert Automaton.from_regex("(a{30}){30}").longest == 900


def test_or_and_and_bind_equally_from_the_left():
    strings = ["a", "b", "c"]
    left = Automaton.from_regex("a|b&b", "abc")
    right = Automaton.from_regex("a|(b&b)", "abc")
    assert [left.accepts([i]) for i in range(len(strings))] == [False, True, False]
    assert [right.accepts([i]) for i in range(len(strings))] == [True, True, False]
