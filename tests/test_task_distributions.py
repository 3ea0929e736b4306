"""How strings of the paper's algorithmic tasks are distributed: as usual, and hard; at fixed seeds."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats
from test_tasks import LEAST_P, NAMES, assert_uniform, matrix, questions

from lengen_fast.tasks import task

# ---- distributions, at fixed seeds ----


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_uniform_over_the_reachable_ones(name):
    chosen = task(name)
    lengths = chosen.reachable(chosen.min_length, 31)
    drawn = [len(x) for x in questions(chosen, chosen.sample(6000, (chosen.min_length, 31), 21))]
    assert set(drawn) == set(lengths)
    assert_uniform([lengths.index(n) for n in drawn], len(lengths))


@pytest.mark.parametrize("name", NAMES)
def test_offsets_are_uniform_over_those_that_fit(name):
    chosen = task(name)
    n = chosen.reachable(15, 20)[0]
    batch = chosen.sample(8000, n, 22, context=chosen.tokens_at(n) + 12)
    room = chosen.tokens_at(n) + 12 - batch.lengths.numpy()
    assert np.all(batch.offsets.numpy() <= room)
    for most in np.unique(room):
        offsets = batch.offsets.numpy()[room == most]
        if len(offsets) > 400:
            assert_uniform(offsets, most + 1)
    full = chosen.sample(5, n, 22, context=chosen.tokens_at(n))
    assert np.all(full.offsets.numpy() <= chosen.tokens_at(n) - full.lengths.numpy())


@pytest.mark.parametrize("n", [1, 2, 7, 16, 63, 64, 65, 130])
def test_zeros_of_binary_majority_are_uniform_without_ties(n):
    zeros = n - matrix(task("binary_majority"), 6000, n, 23).sum(axis=1)
    allowed = [z for z in range(n + 1) if 2 * z != n]
    assert_uniform([allowed.index(z) for z in zeros], len(allowed))


@pytest.mark.parametrize("n", [1, 2, 16, 64, 65])
def test_ones_of_parity_are_uniform(n):
    assert_uniform(matrix(task("parity"), 6000, n, 24).sum(axis=1), n + 1)


def test_each_string_of_an_interleave_is_a_binary_majority_string():
    x = matrix(task("binary_majority_interleave"), 6000, 24, 25)
    ones = np.stack([x[:, start::3].sum(axis=1) for start in range(3)])
    allowed = [0, 1, 2, 3, 5, 6, 7, 8]
    for each in ones:
        assert_uniform([allowed.index(count) for count in each], len(allowed))
    pairs = Counter(zip((ones[0] > 4).tolist(), (ones[1] > 4).tolist(), (ones[2] > 4).tolist(), strict=True))
    assert stats.chisquare([pairs[key] for key in product((False, True), repeat=3)]).pvalue > LEAST_P


@pytest.mark.parametrize(("n", "ones"), [(6, 1), (6, 2), (6, 3), (7, 4), (8, 6)])
def test_every_arrangement_of_the_ones_is_equally_likely(n, ones):
    x = matrix(task("parity"), 40_000, n, 26)
    chosen = x[x.sum(axis=1) == ones]
    codes = Counter((chosen @ (1 << np.arange(n))).tolist())
    possible = [c for c in range(2**n) if c.bit_count() == ones]
    assert set(codes) == set(possible)
    assert stats.chisquare([codes[c] for c in possible]).pvalue > LEAST_P


@pytest.mark.parametrize("n", [50, 64, 100, 1000])
def test_positions_of_the_ones_are_exchangeable(n):
    x = matrix(task("parity"), 4000, n, 27)
    p = x.sum(axis=1, keepdims=True) / n
    keep = ((p > 0) & (p < 1))[:, 0]
    standard = ((x - p)[keep]).sum(axis=0) / np.sqrt((p * (1 - p))[keep].sum() * n / (n - 1))
    # n correlated standard normals with sum 0
    statistic = (standard**2).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, n - 1) > LEAST_P
    assert stats.chi2.cdf(statistic, n - 1) > LEAST_P
    neighbours = ((x - p)[:, 1:] * (x - p)[:, :-1]).sum(axis=1)[keep]
    expected = -((p * (1 - p))[keep, 0]) * n / (n - 1) * (n - 1) / n
    difference = neighbours - expected
    assert abs(stats.ttest_1samp(difference, 0).statistic) < 4


def test_letters_of_majority_are_uniform_and_follow_the_rejection():
    x = matrix(task("majority"), 3000, 40, 28)
    assert_uniform(x.ravel(), 26)
    # at n = 3 a string is kept if a letter occurs twice or thrice
    kept = matrix(task("majority"), 6000, 3, 28)
    thrice = np.count_nonzero((kept == kept[:, :1]).all(axis=1))
    p = 26 / (26 + 26 * 25 * 3)
    assert stats.binomtest(thrice, 6000, p).pvalue > LEAST_P


def test_letters_of_repeat_copy_are_fair():
    assert_uniform(matrix(task("repeat_copy"), 16_000, 5, 29) @ (1 << np.arange(5)), 32)


@pytest.mark.parametrize("name", ["unique_copy", "sort", "offset_copy_1"])
@pytest.mark.parametrize(("symbols", "n"), [(4, 4), (5, 3), (6, 2), (40, 1)])
def test_every_arrangement_of_distinct_symbols_is_equally_likely(name, symbols, n):
    drawn = Counter(map(tuple, matrix(task(name, symbols=symbols), 12_000, n, 30).tolist()))
    possible = list(permutations(range(symbols), n))
    assert set(drawn) == set(possible)
    assert stats.chisquare([drawn[p] for p in possible]).pvalue > LEAST_P


@pytest.mark.parametrize("symbols", [13, 300, 5000])
def test_distinct_symbols_are_spread_evenly_over_places(symbols):
    x = matrix(task("unique_copy", symbols=symbols), 2000, 13, 31)
    for place in (0, 1, 5, 6, 7, 12):
        assert_uniform(x[:, place] * 13 // symbols, 13)


@pytest.mark.parametrize("symbols", [64, 65, 255, 256, 257])
@pytest.mark.parametrize("n", [63, 64])
def test_many_of_few_symbols_are_spread_evenly(symbols, n):
    x = matrix(task("unique_copy", symbols=symbols), 200 * symbols, n, 35)
    for place in (0, n // 2, n - 1):
        assert_uniform(x[:, place], symbols)


def test_lengths_of_the_summands_are_uniform():
    for n in (4, 5, 20):
        first = [list(x).index(2) for x in questions(task("addition"), task("addition").sample(5000, n, 32))]
        assert_uniform(np.array(first) - 1, n - 3)


def test_digits_of_the_summands_are_fair_behind_a_leading_one():
    x = matrix(task("addition"), 6000, 15, 33)
    plus = np.argmax(x == 2, axis=1)
    for digits, rows in ((x[plus == 7, :7], plus == 7), (x[plus == 6, 7:14], plus == 6)):
        assert rows.sum() > 300
        assert np.all(digits[:, 0] == 1)
        assert stats.binomtest(int(digits[:, 1:].sum()), digits[:, 1:].size).pvalue > LEAST_P
    single = x[plus == 1, 0]
    assert 0 < single.sum() < len(single)


# ---- hard ----


@pytest.mark.parametrize("n", [1, 2, 9, 10, 64, 101])
def test_hard_binary_majority_has_the_smallest_lead(n):
    ones = matrix(task("binary_majority"), 400, n, 41, "hard").sum(axis=1)
    assert set(np.abs(2 * ones - n)) == {1 if n % 2 else 2}
    assert stats.binomtest(int((2 * ones > n).sum()), 400).pvalue > LEAST_P


@pytest.mark.parametrize("n", [3, 6, 27, 30])
def test_hard_interleave_has_the_smallest_lead_in_each_string(n):
    x = matrix(task("binary_majority_interleave"), 200, n, 42, "hard")
    for start in range(3):
        assert set(np.abs(2 * x[:, start::3].sum(axis=1) - n // 3)) == {1 if n // 3 % 2 else 2}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 26, 27, 28, 53, 100, 1000])
def test_hard_majority_leads_by_one(n):
    for x in matrix(task("majority"), 100, n, 43, "hard"):
        counts = sorted(np.bincount(x, minlength=26))[::-1]
        assert counts[0] - counts[1] == (2 if n == 2 else 1)
        if n > 100:
            assert counts[-2] == counts[1]
    winners = task("majority").sample(2600, n, 43, "hard").targets.numpy()[::2]
    assert_uniform(winners, 26)


@pytest.mark.parametrize("n", [2, 3, 30, 1000])
def test_hard_parity_has_few_far_rare_bits(n):
    x = matrix(task("parity"), 400, n, 44, "hard")
    ones = x.sum(axis=1)
    rare = np.minimum(ones, n - ones)
    assert rare.max() == min(3, n // 2)
    assert (2 * ones > n).any()
    assert (2 * ones < n).any()
    for row in x[(rare > 1) & (n > 6)]:
        places = np.flatnonzero(row == (0 if 2 * row.sum() > n else 1))
        assert np.diff(places).min() >= n // 6


@pytest.mark.parametrize(("name", "fillers"), [("unique_copy", 0), *((f"offset_copy_{k}", k - 1) for k in (1, 2, 3))])
def test_hard_copies_are_runs_of_consecutive_symbols_with_few_displaced(name, fillers):
    chosen = task(name)
    n = chosen.reachable(90, 99)[0]
    x = matrix(chosen, 300, n, 45, "hard")[:, fillers:]
    steps = np.diff(x, axis=1) % 150 == 1
    assert steps.sum(axis=1).min() >= n - fillers - 1 - 12
    assert (~steps).any(axis=1).mean() > 0.9
    assert_uniform(x[:, 50] % 10, 10)


def test_hard_repeat_copy_is_periodic_but_for_one_letter():
    for x in matrix(task("repeat_copy"), 300, 90, 46, "hard"):
        misses = [np.count_nonzero(x[period:] != x[:-period]) for period in range(1, 9)]
        assert 1 <= min(misses) <= 2


def test_hard_sort_draws_consecutive_symbols():
    x = matrix(task("sort"), 300, 30, 47, "hard")
    ordered = np.sort(x, axis=1)
    assert np.all(np.diff(ordered, axis=1) == 1)
    assert ordered[:, 0].min() < 10
    assert ordered[:, -1].max() > 140
    assert np.all((x != ordered).any(axis=1))
    every = Counter(map(tuple, matrix(task("sort", symbols=4), 9600, 4, 48, "hard").tolist()))
    assert stats.chisquare([every[p] for p in permutations(range(4))]).pvalue > LEAST_P


@pytest.mark.parametrize("n", [4, 5, 8, 31, 150, 400])
def test_hard_addition_hands_one_carry_on_to_the_top(n):
    answers = set()
    for x in matrix(task("addition"), 300, n, 49, "hard"):
        plus = int(np.argmax(x == 2))
        a, b = x[:plus][::-1], x[plus + 1 : -1][::-1]
        longer, shorter = max(len(a), len(b)), min(len(a), len(b))
        column = np.zeros(longer, dtype=int)
        column[: len(a)] += a
        column[: len(b)] += b
        if len(a) == len(b) > 1:
            assert column[-1] == 2
            column = column[:-1]
        stops = np.flatnonzero(column != 1)
        start = stops[-1]
        assert start <= (shorter - 1) // 2
        answers.add(int(column[start]))
    assert answers == {0, 2}


@pytest.mark.parametrize("name", NAMES)
def test_every_task_says_what_hard_means(name):
    chosen = task(name)
    assert len(chosen.hard_means) > 20
    assert "\n" not in chosen.hard_means
    assert "2410.02140" in chosen.citation
    assert chosen.family in {"counting", "copying", "sorting", "arithmetic"}
