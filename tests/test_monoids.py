"""Monoids: the laws of a group, known facts of small groups, and tables that are no monoid."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.tasks.monoids import Monoid, alternating, cyclic, symmetric

GROUPS = {"z1": cyclic(1), "z6": cyclic(6), "s3": symmetric(3), "s4": symmetric(4), "a4": alternating(4)}
GROUPS |= {"z60": cyclic(60), "a5": alternating(5), "s5": symmetric(5)}


def order_of(group: Monoid, element: int) -> int:
    power, order = element, 1
    while power != group.identity:
        power, order = group.table[power, element], order + 1
    return order


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "z1"])
def test_named_groups_are_groups(name):
    group = GROUPS[name]
    again = Monoid.checked(group.table, group.names)  # associative, with an identity
    assert again.identity == group.identity == 0
    count = len(group.names)
    for line in (*group.table, *group.table.T):
        assert sorted(line) == list(range(count))  # every element has an inverse


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("s3", {1: 1, 2: 3, 3: 2}),
        ("a4", {1: 1, 2: 3, 3: 8}),
        ("a5", {1: 1, 2: 15, 3: 20, 5: 24}),
        ("s5", {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}),
        ("z6", {1: 1, 2: 1, 3: 2, 6: 2}),
    ],
)
def test_elements_have_the_orders_that_are_known(name, orders):
    group = GROUPS[name]
    found = [order_of(group, element) for element in range(len(group.names))]
    assert {order: found.count(order) for order in set(found)} == orders


@given(st.lists(st.sampled_from(list(permutations(range(5)))), min_size=1, max_size=30))
def test_the_word_problem_of_s5_composes_permutations_one_after_the_other(word):
    task = lf.task("word_problem_s5")
    names = ["".join(str(i + 1) for i in permutation) for permutation in word]
    _, targets = task.oracle(task.encode(["<bos>", *names, "<eos>"]))
    places, expected = list(range(5)), []
    for permutation in word:
        places = [permutation[place] for place in places]
        expected.append("".join(str(place + 1) for place in places))
    assert task.decode(targets) == expected


@pytest.mark.parametrize("name", ["word_problem_s3", "word_problem_a5", "word_problem_z60"])
def test_products_of_a_long_word_are_those_of_its_halves(name):
    task = lf.task(name)
    batch = task.sample(1, 1000, 3)
    products, x = batch.targets.tolist(), batch.tokens[1:-1].tolist()
    second_half = task.oracle([task.bos, *x[500:], task.eos])[1]
    table = np.array(task.parameters[1:]).reshape(len(task.symbols), -1)
    assert [table[products[499], product] for product in second_half.tolist()] == products[500:]


NO_IDENTITY = [[0, 0], [0, 0]]
NOT_ASSOCIATIVE = [[0, 1, 2], [1, 2, 2], [2, 1, 0]]


@pytest.mark.parametrize(
    ("table", "names", "kind", "message"),
    [
        ([[0, 1], [1]], None, ValueError, "must be square"),
        ([0, 1], None, ValueError, r"table has shape \(2,\)"),
        ([[0]], None, ValueError, "with 2 to 256 rows"),
        (np.zeros((257, 257), dtype=int), None, ValueError, "with 2 to 256 rows"),
        ([[0.0, 1.0], [1.0, 0.0]], None, TypeError, "table holds float64; it must hold integers"),
        ([[0, 1], [1, 2]], None, ValueError, r"table\[1, 1\] is 2; it must be an element, 0..1"),
        ([[0, -1], [1, 0]], None, ValueError, r"table\[0, 1\] is -1"),
        (NO_IDENTITY, None, ValueError, "table has no identity"),
        (NOT_ASSOCIATIVE, "abc", ValueError, r"with a = b, b = b, c = b, \(a b\) c is b and a \(b c\) is c"),
        ([[0, 1], [1, 0]], ["e"], ValueError, "names has 1 distinct names; the table has 2 elements"),
        ([[0, 1], [1, 0]], ["e", "e"], ValueError, "names has 1 distinct names"),
        ([[0, 1], [1, 0]], ["e", "<bos>"], ValueError, "names has '<bos>'; a name must be visible"),
        ([[0, 1], [1, 0]], ["e", "a b"], ValueError, "names has 'a b'"),
        ([[0, 1], [1, 0]], ["e", ""], ValueError, "names has ''"),
        ([[0, 1], [1, 0]], ["e", "\u200b"], ValueError, "names has '.u200b'"),
    ],
)
def test_a_table_that_is_no_monoid_is_refused(table, names, kind, message):
    with pytest.raises(kind, match=message) as error:
        lf.word_problem(table, names=names)
    assert "\n" not in str(error.value)


def test_a_run_on_a_monoid_of_ones_own_is_read_back(tmp_path):
    task = lf.word_problem([[0, 1], [1, 1]], names=["0", "1"], name="or")
    shape, config = lf.default_configs(task, "nope", model=dict(layers=1, width=16), train=dict(steps=2, test_count=5))
    run = lf.train(shape, task, config, out=tmp_path / "run")
    assert run.directory.task == task
    assert lf.evaluate(run.model, lf.RunDirectory.open(tmp_path / "run").task, [9], count=3)[9].count == 3
