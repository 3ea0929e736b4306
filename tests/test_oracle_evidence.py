"""What a task's oracle shows: rows of the communication matrix, small automata, small programs."""

import re

import numpy as np
import pytest

import lengen_fast as lf
from lengen_fast.theory import checks
from lengen_fast.theory.answers import learned_answers
from lengen_fast.theory.checks import Disagreement, check_task
from lengen_fast.theory.communication import continuations, fooling_family, row_growth, telling
from lengen_fast.theory.crasp import parse, predicted_targets
from lengen_fast.theory.learning import learn
from lengen_fast.theory.questions import Questions, has_answers
from lengen_fast.theory.search import Bounds, search


@pytest.fixture(scope="module")
def asked():
    names = ("binary_majority", "majority", "repeat_copy", "parity", "addition")
    return {name: Questions(lf.task(name)) for name in names}


def test_answers_are_those_of_the_oracle(asked):
    task = asked["addition"].task
    word = tuple(task.encode("11+1"))
    assert task.decode(asked["addition"].answer(word)) == ["1", "0", "0", "<eos>"]
    assert asked["addition"].answer(tuple(task.encode("01+1"))) is None
    assert [task.symbols[symbol] for symbol in asked["addition"].symbols] == ["0", "1", "+"]
    assert asked["parity"].symbols == (0, 1)


def test_which_tasks_have_answers():
    assert all(has_answers(lf.task(name)) for name in ("parity", "sort", "addition"))
    assert not any(has_answers(lf.task(name)) for name in ("tomita_1", "dyck_1", "aa_star"))


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("binary_majority", {n: n + 1 for n in range(1, 9)}),  # the number of ones
        ("majority", {n: (n + 1) * (n + 2) // 2 for n in range(1, 6)}),  # of three letters
        ("parity", dict.fromkeys(range(1, 9), 2)),
        ("repeat_copy", {n: 2**n for n in range(1, 9)}),
    ],
)
def test_rows_of_prefixes(asked, name, rows):
    growth = row_growth(asked[name])
    assert growth.rows == rows
    assert growth.exponential == (name == "repeat_copy")


@pytest.mark.parametrize("name", ["repeat_copy", "addition"])
def test_fooling_families(asked, name):
    family = fooling_family(asked[name])
    assert asked[name].task.decode(family.letters) in (["a", "b"], ["0", "1"])
    one, other, rest = family.example
    answers = asked[name].answer(one + rest), asked[name].answer(other + rest)
    assert None not in answers
    assert answers[0] != answers[1]


@pytest.mark.parametrize("name", ["binary_majority", "majority", "parity"])
def test_no_fooling_family_where_few_bits_are_enough(asked, name):
    assert fooling_family(asked[name]) is None


def test_words_with_equal_counts_have_equal_rows(asked):
    tests = continuations((0, 1))
    assert telling(asked["binary_majority"], (0, 0, 1, 1), (1, 0, 1, 0), tests) is None
    assert telling(asked["repeat_copy"], (0, 0, 1, 1), (1, 0, 1, 0), tests) == ()


@pytest.mark.parametrize(
    ("regex", "states"), [("(ab|aabb)*", 5), ("(a|b)*a(a|b)(a|b)", 8), ("((aa)*b)*", 4), ("(a|b)*", 1)]
)
def test_learned_automata_are_the_smallest(regex, states):
    learned = learn(lambda word: bool(re.fullmatch(regex, "".join("ab"[symbol] for symbol in word))), 2)
    assert len(learned.values) == states
    automaton = learned.automaton(("a", "b"), True)
    assert automaton.states == states
    for word in ("", "ab", "aabb", "baab", "aab"):
        assert automaton.accepts(["ab".index(symbol) for symbol in word]) == bool(re.fullmatch(regex, word))


def test_learning_gives_up():
    assert learn(lambda word: sum(word) * 2 > len(word), 2, most_states=10) is None
    assert len(learn(lambda word: len(word) % 7 == 3, 1).values) == 7


def test_the_automaton_of_parity(asked):
    learned = learned_answers(asked["parity"])
    assert learned.transitions.tolist() == [[0, 1], [1, 0]]
    assert learned_answers(asked["binary_majority"]) is None  # ties are no questions


@pytest.mark.parametrize("name", ["binary_majority", "dyck_1", "a_n_b_n", "boolean_5"])
def test_search_finds_small_programs(name):
    task = lf.task(name)
    program = search(task, Bounds())
    assert program.fragment == "[]"
    batch = task.sample(50, (300, 400), seed=5, distribution="hard")
    assert (predicted_targets(program, task, batch) == batch.targets.numpy()).all()


def test_search_finds_none_where_there_is_none():
    assert search(lf.task("parity"), Bounds(period=2, window=1)) is None
    assert search(lf.task("aa_star"), Bounds()) is None
    assert search(lf.task("aa_star"), Bounds(period=2)).period == 2


def test_a_program_that_is_wrong_on_a_task_is_reported():
    lines = "alphabet 0 1", "D := #Q_0 - #Q_1", "NEXT_0 := Q_<sep> and D > 1", "NEXT_1 := Q_<sep> and D <= 1"
    wrong = parse("\n".join([*lines, "NEXT_<end> := not Q_<sep>"]))
    with pytest.raises(Disagreement, match="on a string of binary_majority"):
        check_task(wrong, lf.task("binary_majority"))


def test_every_short_question_is_tried():
    length, (batch,) = checks._short_questions(Questions(lf.task("binary_majority")))
    ties = sum(np.prod([1.0 * (n - i) / (i + 1) for i in range(n // 2)]) for n in range(2, length + 1, 2))
    assert batch.rows == 2 ** (length + 1) - 2 - round(ties)
