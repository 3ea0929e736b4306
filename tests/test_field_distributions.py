"""How strings of the field's tasks are distributed: as usual, and hard; at fixed seeds."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats
from test_field_tasks import LEAST_P, assert_uniform, case, inside, rows_of

from lengen_fast.tasks import task

# ---- distributions, at fixed seeds ----


@pytest.mark.parametrize("name", ["bucket_sort", "modular_sum", "induction_head", "word_problem_s3", "bucket_sort_2"])
def test_symbols_are_independent_and_uniform(name):
    chosen = task(name)
    x = inside(chosen, 6000, 9, 22)
    if name == "induction_head":
        x = np.delete(x, (8,), axis=1)  # the last is the trigger
        x = np.where(x == 16, 0, x)[:, [0, 7]]  # the first trigger is anywhere but in the last place
        x = x[x[:, 0] != 0][:, 1:]
        assert_uniform(x.ravel(), 16)
        return
    symbols = len(chosen.symbols)
    assert_uniform(x.ravel(), symbols)
    assert_uniform(x[:, 0] * symbols + x[:, 1], symbols**2)  # of one draw
    assert_uniform(x[:, 3] * symbols + x[:, 8], symbols**2)  # of several


def test_mode_follows_the_rejection_of_ties():
    kept = inside(task("mode"), 6000, 3, 23)
    thrice = np.count_nonzero((kept == kept[:, :1]).all(axis=1))
    assert stats.binomtest(thrice, 6000, 10 / (10 + 10 * 9 * 3)).pvalue > LEAST_P
    assert_uniform(kept.ravel(), 10)


def test_counts_of_a_histogram_are_uniform_until_the_string_is_full():
    # of n = 10: a first count c of 1 to 9, then of what is left
    chances = Counter()

    def fill(left: int, counts: tuple[int, ...], chance: float) -> None:
        if left == 0:
            chances[tuple(sorted(counts))] += chance
        for count in range(1, min(9, left) + 1):
            fill(left - count, (*counts, count), chance / min(9, left))

    fill(10, (), 1.0)
    drawn = Counter(tuple(sorted(Counter(x).values())) for x in inside(task("histogram"), 6000, 10, 24).tolist())
    common = [counts for counts, chance in chances.items() if chance > 0.002]
    observed = [drawn[counts] for counts in common]
    expected = [6000 * chances[counts] for counts in common]
    rest = 6000 - sum(observed), 6000 - sum(expected)
    assert stats.chisquare([*observed, rest[0]], [*expected, rest[1]]).pvalue > LEAST_P


def test_symbols_and_places_of_a_histogram_are_uniform():
    x = inside(task("histogram", symbols=20), 6000, 12, 25)
    for place in (0, 5, 11):
        assert_uniform(x[:, place], 20)
    same = (x[:, :-1] == x[:, 1:]).mean(axis=0)  # neighbours are equal as often at every place
    assert same.max() - same.min() < 0.06


def test_half_of_the_counts_are_exact_and_others_uniform():
    ones = inside(task("count_3"), 8000, 9, 26).sum(axis=1)
    assert stats.binomtest(int((ones == 3).sum()), 8000).pvalue > LEAST_P
    assert_uniform([m - (m > 3) for m in ones if m != 3], 9)


def test_kept_letters_of_selective_copy_are_uniform_in_number_place_and_letter():
    x = inside(task("selective_copy"), 8000, 6, 27)
    kept = x != 16
    assert_uniform(kept.sum(axis=1) - 1, 6)
    pairs = kept[kept.sum(axis=1) == 2]
    assert_uniform([list(itertools.combinations(range(6), 2)).index(tuple(np.flatnonzero(row))) for row in pairs], 15)
    assert_uniform(x[kept], 16)


def test_instructions_of_flip_flop_are_those_of_the_language():
    x = inside(task("flip_flop"), 3000, 20, 28)
    instructions, bits = x[:, 2:-2:2], x[:, 1::2]
    counts = [np.count_nonzero(instructions == which) for which in (0, 1, 2)]
    assert stats.chisquare(counts, np.array([0.1, 0.1, 0.8]) * sum(counts)).pvalue > LEAST_P
    assert (x[:, 0] == 0).all()
    assert (x[:, -2] == 1).all()
    assert_uniform(bits[:, 0] - 3, 2)
    assert_uniform(bits[:, 1:-1][instructions == 2] - 3, 2)


def test_pairs_of_mqar_are_uniform_and_every_key_is_asked_for_in_random_order():
    chosen = task("mqar", symbols=6)
    batch = chosen.sample(6000, 6, 29)
    tokens = np.array([row for row, _, _ in rows_of(batch)])
    keys, values, queries = tokens[:, 1:7:2], tokens[:, 2:7:2] - 6, tokens[:, 8:11]
    orders = list(itertools.permutations(range(6), 3))
    assert_uniform([orders.index(tuple(row)) for row in keys.tolist()], len(orders))
    assert_uniform(values.ravel(), 16)
    asked = [tuple(row.index(key) for key in order) for row, order in zip(keys.tolist(), queries.tolist(), strict=True)]
    assert_uniform([list(itertools.permutations(range(3))).index(order) for order in asked], 6)


def test_triggers_are_uniform_over_their_places():
    x = inside(task("induction_head"), 6000, 12, 30)
    assert_uniform(np.argmax(x == 16, axis=1), 10)
    assert ((x == 16).sum(axis=1) == 2).all()


@pytest.mark.parametrize("name", ["decimal_addition", "decimal_addition_reversed"])
def test_numbers_are_uniform_over_those_of_their_size(name):
    x = inside(task(name), 12_000, 6, 31)
    plus = np.argmax(x == 10, axis=1)
    assert_uniform(plus - 1, 3)
    order = 1 if name == "decimal_addition" else -1
    two = x[plus == 2, :2][:, ::order]
    assert_uniform(two[:, 0] * 10 + two[:, 1] - 10, 90)
    assert_uniform(x[plus == 1, 0], 10)
    three = x[plus == 1, 2:5][:, ::order]
    assert_uniform(three[:, 0] - 1, 9)
    assert_uniform(three[:, 1] * 10 + three[:, 2], 100)


def test_operands_are_cut_in_every_way_alike():
    n = 10
    x = inside(task("multi_operand_addition"), 20_000, n, 32)
    sizes = Counter(
        tuple(len(part) for part in "".join("+" if s == 10 else "0" for s in row[:-1]).split("+")) for row in x
    )
    counts = Counter(len(each) for each in sizes.elements())
    assert_uniform([number - 2 for number in counts.elements()], 4)
    for number in (2, 3, 4, 5):
        cuts = [times for each, times in sizes.items() if len(each) == number]
        assert len(cuts) == len(list(itertools.combinations(range(n - number - 1), number - 1)))
        assert len(cuts) == 1 or stats.chisquare(cuts).pvalue > LEAST_P


# ---- hard ----


@pytest.mark.parametrize("n", [1, 2, 11, 100, 1000])
@pytest.mark.parametrize("count", [3, 10, 256])
def test_hard_mode_leads_by_one(n, count):
    for x in inside(task(f"mode_{count}"), 60, n, 41, "hard"):
        counts = sorted(np.bincount(x, minlength=count))[::-1]
        assert counts[0] - counts[1] == (2 if n == 2 else 1)


def test_hard_histogram_has_two_neighbouring_counts():
    highest = set()
    for x in inside(task("histogram"), 300, 100, 42, "hard"):
        often = sorted(np.bincount(x)[np.bincount(x) > 0])
        assert often[-1] - often[1] <= 1  # one symbol may be cut short
        highest.add(int(often[-1]))
    assert highest == set(range(2, 10))


@pytest.mark.parametrize("n", [3, 4, 50, 1000])
def test_hard_counts_are_near_misses_far_apart(n):
    x = inside(task("count_3"), 600, n, 43, "hard")
    ones = x.sum(axis=1)
    assert set(ones) == ({2, 3} if n == 3 else {2, 3, 4})
    assert stats.binomtest(int((ones == 3).sum()), 600).pvalue > LEAST_P
    if n > 20:
        assert min(np.diff(np.flatnonzero(row)).min() for row in x) >= n // 8


@pytest.mark.parametrize("name", ["reverse", "duplicate"])
def test_hard_copies_are_periodic_but_for_one_letter(name):
    for x in inside(task(name), 200, 90, 44, "hard"):
        assert 1 <= min(np.count_nonzero(x[period:] != x[:-period]) for period in range(1, 9)) <= 2


def test_hard_selective_copy_has_few_letters_all_the_same_but_one():
    kept = set()
    for x in inside(task("selective_copy"), 400, 200, 45, "hard"):
        places = np.flatnonzero(x != 16)
        counts = sorted(np.bincount(x[places])[np.bincount(x[places]) > 0])
        assert counts in ([1], [1, len(places) - 1])
        assert len(places) < 2 or np.diff(places).min() >= 200 // (2 * len(places)) - 1
        kept.add(len(places))
    assert kept == set(range(1, 17))


@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_hard_bucket_sort_has_one_common_symbol(n):
    for x in inside(task("bucket_sort"), 200, n, 46, "hard"):
        *rare, common = sorted(np.bincount(x, minlength=5))
        assert common > n // 2
        assert max(rare) <= 2


@pytest.mark.parametrize("name", ["modular_sum", "cycle_navigation", "word_problem_s5", "left zeros"])
def test_hard_state_tracking_has_few_far_moves(name):
    chosen = case(name)
    neutral = chosen.parameters[0] if "word_problem" in chosen.engine else 0
    moves = (inside(chosen, 400, 90, 47, "hard") != neutral).astype(int)
    assert set(moves.sum(axis=1)) == {0, 1, 2, 3}
    assert min(np.diff(np.flatnonzero(row)).min() for row in moves if row.sum() > 1) >= 15


def test_hard_flip_flop_ignores_the_opposite_of_its_memory():
    x = inside(task("flip_flop"), 400, 200, 48, "hard")
    instructions, bits = x[:, ::2], x[:, 1::2]
    counts = [np.count_nonzero(instructions[:, 1:-1] == which) for which in (0, 1, 2)]
    assert stats.chisquare(counts, np.array([0.01, 0.01, 0.98]) * sum(counts)).pvalue > LEAST_P
    for row, shown in zip(instructions, bits, strict=True):
        memory = shown[0]
        for instruction, bit in zip(row, shown, strict=True):
            memory = bit if instruction == 0 else memory
            assert (bit == memory) == (instruction != 2)


def test_hard_mqar_has_one_value_but_for_few_keys():
    for x in inside(task("mqar"), 300, 40, 49, "hard"):
        keys, values = x[::2], x[1::2]
        assert set(np.diff(keys) % 150) == {1}
        counts = sorted(Counter(values.tolist()).values())
        assert 17 <= counts[-1] <= 19


def test_hard_induction_has_a_far_trigger_among_equal_letters():
    x = inside(task("induction_head"), 300, 42, 50, "hard")
    places = np.argmax(x == 16, axis=1)
    assert set(places) == set(range(10))
    for row in x:
        assert sorted(Counter(row.tolist()).values()) == [1, 2, 39]


@pytest.mark.parametrize("n", [4, 5, 31, 150, 400])
@pytest.mark.parametrize("name", ["decimal_addition_reversed", "multi_operand_addition"])
def test_hard_addition_hands_one_carry_on_to_the_top(name, n):
    order, outcomes = 1 if name.endswith("reversed") else -1, set()
    for x in inside(task(name), 200, n, 51, "hard"):
        text = "".join("0123456789+"[symbol] for symbol in x[:-1])
        numbers = sorted((part[::order] for part in text.split("+")), key=len)  # least significant digit first
        *others, longest = numbers
        total = sum(int(part[::-1]) for part in others)
        columns = [int(digit) + total // 10**i % 10 for i, digit in enumerate(longest)]
        if len(longest) > 1 and longest[-1] == "1" and columns[-1] != 9:
            columns = columns[:-1]  # the leading digit had to be 1
        start = max((i for i, column in enumerate(columns) if column != 9), default=-1)
        assert start <= (len(others[-1]) - 1) // 2 or len(others[-1]) == len(longest)
        outcomes.add(start >= 0 and columns[start] > 9)
    assert outcomes == {False, True}
