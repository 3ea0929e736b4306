"""The decision for regular languages, against a slow one in fractions, and its evidence either way."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from regular_languages import automata, both, cascade, run_from, substituted

from lengen_fast.automata import Automaton
from lengen_fast.theory.confusion import certificate, confusion
from lengen_fast.theory.linear import nullspace, solve
from lengen_fast.theory.potentials import decide
from lengen_fast.theory.product import product


def nested(depth):
    """D_depth: brackets a, b nested at most so deep."""
    regex = "(ab)*"
    for _ in range(depth - 1):
        regex = f"(a{regex}b)*"
    return regex


INSIDE = [
    *((nested(depth), "ab") for depth in (1, 2, 3, 12)),
    ("(ab|bbaa)*", "ab"),
    ("1*", "01"),
    ("0*1*0*1*", "01"),
    ("aa*bb*cc*dd*ee*", "abcde"),
    ("(a|b)*d(b|c)*", "abcd"),
]
OUTSIDE = [
    ("(ab|aabb)*", "ab"),
    ("(ab|bba)*", "ab"),
    ("(a|b)*b", "ab"),
    ("(a|b|e)*be*", "abe"),
    ("(0|1|2)*02*", "012"),
    ("(aa)*", "a"),
    ("(abab)*", "ab"),
    ("(1|01|001)*(0|00)?", "01"),
    ("(0*10*1)*0*", "01"),
]


@pytest.mark.parametrize(("regex", "alphabet"), INSIDE)
def test_languages_in_c_rasp_without_positions(regex, alphabet):
    decision = decide(Automaton.from_regex(regex, alphabet))
    assert decision.known
    assert confusion(decision) is None


@pytest.mark.parametrize(("regex", "alphabet"), OUTSIDE)
def test_languages_outside_come_with_words(regex, alphabet):
    automaton = Automaton.from_regex(regex, alphabet)
    decision = decide(automaton)
    assert not decision.known
    words = confusion(decision)
    for pumps in (0, 1, 3):
        one, other = words.pair(pumps)
        assert automaton.accepts(one) != automaton.accepts(other)
    if words.multiple == 1:
        assert sorted(words.left) == sorted(words.right)


@pytest.mark.parametrize(
    ("regex", "alphabet", "period", "window"),
    [
        ("(1|01|001)*(0|00)?", "01", 1, 2),
        ("(ab|aabb)*", "ab", 1, 1),
        ("(ab|bba)*", "ab", 1, 2),
        ("(a|b)*b", "ab", 1, 1),
        ("(aa)*", "a", 2, 0),
        ("(aaaa)*", "a", 4, 0),
        ("(abab)*", "ab", 4, 0),
    ],
)
def test_positions_bring_languages_in(regex, alphabet, period, window):
    joint = product(Automaton.from_regex(regex, alphabet), period, window)
    assert decide(joint.automaton, joint.observed).known
    assert decide(joint.automaton, joint.observed, joint.regions).known


@pytest.mark.parametrize("regex", ["(a|b|e)*be*", "(b*ab*a)*b*", "(b*ab*ab*a)*b*"])
def test_positions_do_not_bring_flip_flops_and_groups_in(regex):
    for period, window in [(2, 0), (6, 0), (1, 2), (2, 1)]:
        joint = product(Automaton.from_regex(regex, "abe"), period, window)
        assert not decide(joint.automaton, joint.observed, joint.regions).known


@settings(max_examples=70)
@given(automata(most_states=5, symbols="abc"))
def test_each_term_is_a_potential_and_each_confusion_has_its_flow(automaton):
    decision = decide(automaton)
    assert sorted(itertools.chain(*(each.states.tolist() for each in decision.components))) == list(
        range(automaton.states)
    )
    for component in decision.components:
        before = np.zeros(len(component.states), dtype=int)
        for each in component.rounds:
            number = {label: i for i, label in enumerate(each.labels)}
            for source, symbol, target in component.steps.tolist():
                weight = each.weights[number[(symbol, 0, int(before[target]))]]
                assert (each.values[source] + weight == each.values[target]).all()
            before = each.classes
        places = range(len(component.states))
        together = [(p, q) for p, q in itertools.combinations(places, 2) if before[p] == before[q]]
        assert bool(together) == (component.confused is not None)
        for p, q in together:
            check_flow(component, *certificate(component, p, q), p, q)


def check_flow(component, flow, multiple, p, q):
    """Exact, in plain integers: the flow leads from q to p and uses every label zero times."""
    balance = dict.fromkeys(range(len(component.states)), 0)
    labels = {}
    for (source, symbol, target), used in zip(component.steps.tolist(), map(int, flow), strict=True):
        balance[source] -= used
        balance[target] += used
        label = symbol, int(component.classes[source])
        labels[label] = labels.get(label, 0) + used
    assert multiple >= 1
    assert balance.pop(p) == multiple
    assert balance.pop(q) == -multiple
    assert not any(balance.values())
    assert not any(labels.values())


def classes_in_fractions(component):
    """The classes by another way: labels of the state that is left, one unknown a state, elimination in fractions."""
    states = len(component.states)
    classes = [0] * states
    while True:
        labels = sorted({(symbol, classes[source]) for source, symbol, _ in component.steps.tolist()})
        rows = []
        for source, symbol, target in component.steps.tolist():
            row = [Fraction(0)] * (states + len(labels))
            row[target] += 1
            row[source] -= 1
            row[states + labels.index((symbol, classes[source]))] -= 1
            rows.append(row)
        rank = rank_of(rows)
        same = lambda p, q, rows=rows, rank=rank: rank_of([*rows, unit(len(rows[0]), p, q)]) == rank  # noqa: E731
        finer = [next(p for p in range(q + 1) if p == q or same(p, q)) for q in range(states)]
        if len(set(finer)) == len(set(classes)):
            return finer
        classes = finer


def unit(size, p, q):
    row = [Fraction(0)] * size
    row[p], row[q] = Fraction(1), Fraction(-1)
    return row


def rank_of(rows):
    rows, rank = [list(row) for row in rows], 0
    for column in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            if factor:
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


@settings(max_examples=60)
@given(automata(most_states=5))
def test_classes_agree_with_elimination_in_fractions(automaton):
    for component in decide(automaton).components:
        expected = classes_in_fractions(component) if len(component.steps) else [0] * len(component.states)
        pairs = list(itertools.combinations(range(len(expected)), 2))
        assert [component.classes[p] == component.classes[q] for p, q in pairs] == [
            expected[p] == expected[q] for p, q in pairs
        ]


@settings(max_examples=50)
@given(automata(symbols="ab"), st.sampled_from([(1, 1), (2, 0), (2, 1)]))
def test_joining_windows_of_one_component_loses_nothing(automaton, size):
    joint = product(automaton, *size)
    apart = decide(joint.automaton, joint.observed)
    assert decide(joint.automaton, joint.observed, joint.regions).known == apart.known


SEEDS = st.integers(0, 10**6)


@settings(max_examples=80)
@given(SEEDS)
def test_cascades_of_counters_are_in(seed):
    assert decide(cascade(seed)).known


@settings(max_examples=40)
@given(SEEDS, SEEDS)
def test_two_languages_inside_are_inside_together(seed, other):
    one, two = cascade(seed), cascade(other)
    if one.alphabet == two.alphabet and one.states * two.states <= 300:
        assert decide(both(one, two)).known


@settings(max_examples=60)
@given(SEEDS, st.lists(st.lists(st.integers(0, 1), max_size=3), min_size=1, max_size=3))
def test_reading_words_for_symbols_stays_inside(seed, words):
    assert decide(substituted(cascade(seed), words)).known


@settings(max_examples=80)
@given(automata(most_states=5))
def test_inside_means_aperiodic_with_one_idempotent_for_each_way_to_tell_states_apart(automaton):
    """A necessary condition (R^omega of arXiv 2608.13433), found from the transition monoid by brute force."""
    monoid, queue = set(), [tuple(range(automaton.states))]
    for action in queue:
        if action not in monoid:
            monoid.add(action)
            queue += [tuple(int(run_from(automaton, q, [a])) for q in action) for a in range(len(automaton.alphabet))]
    then = lambda one, other: tuple(other[q] for q in one)  # noqa: E731
    aperiodic = all(_settles(action, then) for action in monoid)
    idempotents = [action for action in monoid if then(action, action) == action]
    kernels = {tuple(action.index(q) for q in action) for action in idempotents}
    if decide(automaton).known:
        assert aperiodic
        assert len(kernels) == len(idempotents)


def _settles(action, then):
    power, seen = action, set()
    while power not in seen:
        seen.add(power)
        power = then(power, action)
    return then(power, action) == power


def test_hundreds_of_states():
    states = 400
    up = [*range(1, states), states, states]
    down = [states, *range(states - 1), states]
    chain = Automaton(("a", "b"), np.stack([up, down], axis=1), np.arange(states + 1) == 0)
    decision = decide(chain)
    assert decision.known
    assert [len(each.rounds) for each in decision.components] == [1, 0]
    random = np.random.default_rng(0).integers(0, states, (states, 3))
    assert not decide(Automaton(("a", "b", "c"), random, np.arange(states) < 200).minimal()).known


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=6, max_size=6), min_size=1, max_size=8),
    st.lists(st.integers(-5, 5), min_size=6, max_size=6),
)
def test_linear_algebra_is_exact(rows, combination):
    matrix = np.array(rows)
    basis = nullspace(matrix)
    assert basis.shape[1] == 6 - rank_of([list(map(Fraction, row)) for row in rows])
    assert not (matrix @ basis).any()
    factors, multiple = solve(matrix, matrix @ combination)
    assert multiple >= 1
    assert (matrix @ factors == multiple * (matrix @ combination)).all()


def test_linear_algebra_with_solutions_beyond_one_prime():
    primes = np.array([[1_000_003, 999_983, 0], [0, 999_979, 1_000_033]])
    basis = nullspace(primes)
    assert basis.shape == (3, 1)
    assert not (primes.astype(object) @ basis.astype(object)).any()
    assert solve(np.array([[2], [4]]), np.array([1, 3])) is None
