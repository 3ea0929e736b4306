"""Synthesized programs against their automata, on all short strings and many long ones, and proofs that hold water."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from regular_languages import cascade

from lengen_fast.automata import Automaton
from lengen_fast.theory.checks import Disagreement, all_words, compare, long_words
from lengen_fast.theory.conditions import Feature, separate
from lengen_fast.theory.crasp import parse
from lengen_fast.theory.potentials import decide
from lengen_fast.theory.product import product
from lengen_fast.theory.proof import prove
from lengen_fast.theory.synthesis import decide_product, next_lines, synthesize

LANGUAGES = [  # expression, alphabet, period, window, greatest depth that will do
    ("(a(a(ab)*b)*b)*", "ab", 1, 0, 2),
    ("(ab|bbaa)*", "ab", 1, 0, 3),
    ("1*", "01", 1, 0, 1),
    ("0*1*0*1*", "01", 1, 0, 4),
    ("aa*bb*cc*dd*ee*", "abcde", 1, 0, 6),
    ("(a|b)*d(b|c)*", "abcd", 1, 0, 2),
    ("a|bc*d|(ab)*c", "abcd", 1, 0, 6),
    ("(1|01|001)*(0|00)?", "01", 1, 2, 2),
    ("(ab|aabb)*", "ab", 1, 1, 3),
    ("(ab|bba)*", "ab", 1, 2, 3),
    ("(aa)*", "a", 2, 0, 1),
    ("(abab)*", "ab", 4, 0, 2),
    ("((aa)*b)*", "ab", 2, 1, 3),
]


def program_of(automaton, period=1, window=0):
    joint = product(automaton, period, window)
    decision = decide_product(joint)
    return parse(synthesize(joint, decision)) if decision.known else None


def expected_lines(automaton):
    states = {f"STATE_{q}": np.arange(automaton.states) == q for q in range(automaton.states)}
    return {**states, **next_lines(automaton)}


@pytest.mark.parametrize(("regex", "alphabet", "period", "window", "depth"), LANGUAGES)
def test_programs_know_the_state_and_what_may_come_next(regex, alphabet, period, window, depth):
    automaton = Automaton.from_regex(regex, alphabet)
    program = program_of(automaton, period, window)
    assert (program.period, program.depth <= depth) == (period, True)
    assert program.reach <= window
    length = {1: 30, 2: 9, 4: 6, 5: 5}[len(alphabet)]
    for offset in (0, 1, 5):
        compare(program, automaton, next_lines(automaton), all_words(len(alphabet), length), offset)
    compare(program, automaton, next_lines(automaton), long_words(automaton, 20, 500, seed=0), offset=3)
    assert prove(program, automaton, expected_lines(automaton)) is not None


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(1, 0), (1, 0), (1, 1), (2, 0)]))
def test_programs_of_cascades(seed, size):
    automaton = cascade(seed)
    program = program_of(automaton, *size)
    symbols = len(automaton.alphabet)
    compare(program, automaton, next_lines(automaton), all_words(symbols, 8 if symbols == 2 else 5), offset=seed % 4)
    compare(program, automaton, next_lines(automaton), long_words(automaton, 10, 100, seed))


@pytest.mark.parametrize(("regex", "alphabet"), [("(ab)*", "ab"), ("0*1*0*1*", "01"), ("(ab|bbaa)*", "ab")])
def test_without_positions_the_state_is_known_at_the_end_symbol_too(regex, alphabet):
    automaton = Automaton.from_regex(regex, alphabet)
    program = program_of(automaton)
    words = all_words(len(alphabet), 7)
    ends = np.array([automaton.run(word)[-1] for word in words])
    tokens = np.column_stack(
        [np.full(len(words), program.token("<bos>")), words, np.full(len(words), program.token("<eos>"))]
    )
    legal = program.legal(tokens)[:, -1]
    assert (legal == automaton.legal[ends]).all()


def test_no_program_without_a_decision_for_one():
    joint = product(Automaton.from_regex("(aa)*", "a"))
    with pytest.raises(ValueError, match="leaves states together"):
        synthesize(joint, decide_product(joint))


def test_a_wrong_program_is_reported_with_the_word():
    automaton = Automaton.from_regex("(ab)*", "ab")
    text = synthesize(product(automaton), decide(automaton)).replace("T_1_1 >= 2", "T_1_1 >= 3")
    with pytest.raises(Disagreement, match="wrong behind 'a a'"):
        compare(parse(text), automaton, next_lines(automaton), all_words(2, 6))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([-1, 1]))
def test_programs_with_an_error_are_never_proved(seed, where, by):
    automaton = cascade(seed)
    if automaton.states < 2 or len(automaton.alphabet) > 2:
        return
    text = synthesize(product(automaton), decide(automaton))
    numbers = list(re.finditer(r"(?<=[=]) (-?\d+)", text))
    if not numbers:
        return
    chosen = numbers[where % len(numbers)]
    changed = parse(f"{text[: chosen.start()]} {int(chosen[1]) + by}{text[chosen.end() :]}")
    try:
        compare(changed, automaton, next_lines(automaton), all_words(2, 9))
        compare(changed, automaton, next_lines(automaton), long_words(automaton, 20, 100, seed))
    except Disagreement:
        assert prove(changed, automaton, expected_lines(automaton)) is None


def test_proofs_of_programs_that_nobody_synthesized():
    automaton = Automaton.from_regex("(a(ab)*b)*", "ab")
    text = "alphabet a b\nD := #Q_a - #Q_b\nOK := not exists (D < 0 or 2 < D)\nNEXT_a := OK and D < {}\n"
    lines = {"NEXT_a": next_lines(automaton)["NEXT_a"]}
    assert prove(parse(text.format(2)), automaton, lines) is not None
    assert prove(parse(text.format(3)), automaton, lines) is None
    unbounded = parse("alphabet a b\nNEXT_a := #Q_b <= #Q_a\n")
    assert prove(unbounded, automaton, lines) is None


def test_a_proof_needs_one_alphabet():
    with pytest.raises(ValueError, match="the automaton has"):
        prove(parse("alphabet a\nX := Q_a\n"), Automaton.from_regex("(ab)*", "ab"), {})


@settings(max_examples=100)
@given(st.data())
def test_conditions_hold_for_the_positive_examples_and_for_no_negative_one(data):
    rows = data.draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=20, unique=True))
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    examples = np.array(rows)
    features = [Feature("A", {v: f"A_{v}" for v in range(-2, 3)}), Feature("B"), Feature("C")]
    condition = separate(features, examples[chosen], examples[~chosen])
    assert condition.holds(examples).tolist() == chosen.tolist()


def test_an_example_that_is_both_cannot_be_separated():
    with pytest.raises(ValueError, match="both positive and negative"):
        separate([Feature("A")], [[1], [2]], [[2]])


@pytest.mark.parametrize("symbols", [["'", "a"], ["it's", '"'], ["(", ")"], ["'(", '")'], ["<1>", "1a"]])
@pytest.mark.parametrize("window", [0, 1])
def test_symbols_that_need_quotes(symbols, window):
    plain = Automaton.from_regex("(ab)*aab*", "ab")
    automaton = Automaton(symbols, plain.transitions, plain.accepting)
    joint = product(automaton, window=window)
    program = parse(synthesize(joint, decide_product(joint)))
    assert program.alphabet == tuple(symbols)
    assert prove(program, automaton, expected_lines(automaton)) is not None


@pytest.mark.parametrize("symbol", ["<bos>", "<sep>", "<eos>", "<end>"])
def test_symbols_that_every_program_has_are_refused(symbol):
    automaton = Automaton([symbol], [[0]], [True])
    with pytest.raises(ValueError, match=f"{symbol} is no symbol of an alphabet: every program has it; rename"):
        synthesize(product(automaton), decide(automaton))
