"""Tasks: oracle against engine, distributions, what `hard` draws, geometry, and every bad input."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from lengen_fast.data import Batch
from lengen_fast.tasks import LONGEST_LENGTH, Task, task, tasks
from lengen_fast.tasks.algorithmic import ALGORITHMIC

NAMES = tuple(each.name for each in ALGORITHMIC)
GROWING = ("unique_copy", "sort", "offset_copy_1", "offset_copy_2", "offset_copy_3")
DISTRIBUTIONS = ("paper", "hard")
LEAST_P = 1e-4  # of one test at a fixed seed


def questions(chosen: Task, batch: Batch) -> list[np.ndarray]:
    """x of every row; in addition it includes the = that plays the separator."""
    tokens = batch.tokens.numpy()
    starts = batch.cu_seqlens.numpy()[:-1] + 1
    adds = chosen.name == "addition"
    stops = np.flatnonzero(tokens == (3 if adds else chosen.sep)) + adds
    return [tokens[start:stop] for start, stop in zip(starts, stops, strict=True)]


def matrix(chosen: Task, count: int, n: int, seed: int, distribution: str = "paper") -> np.ndarray:
    """[count, n] x of rows of one length."""
    batch = chosen.sample(count, n, seed, distribution)
    return batch.tokens.numpy()[batch.cu_seqlens.numpy()[:-1, None] + 1 + np.arange(n)]


def assert_uniform(values, choices: int) -> None:
    """``values`` are spread evenly over 0..choices-1."""
    counts = np.bincount(np.asarray(values), minlength=choices)
    assert len(counts) == choices
    assert choices == 1 or stats.chisquare(counts).pvalue > LEAST_P


def assert_matches_oracle(chosen: Task, batch: Batch) -> None:
    starts = batch.cu_seqlens.tolist()
    scored, targets = batch.scored.numpy(), batch.targets.numpy()
    done = 0
    for i in range(batch.rows):
        row = batch.row(i).numpy()
        expected_scored, expected_targets = chosen.oracle(row)
        here = slice(done, done + len(expected_scored))
        np.testing.assert_array_equal(scored[here] - starts[i], expected_scored)
        np.testing.assert_array_equal(targets[here], expected_targets)
        np.testing.assert_array_equal(row[expected_scored + 1], expected_targets)
        assert len(row) == expected_scored[-1] + 2
        done = here.stop
    assert done == len(scored)


# ---- oracle against engine ----


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_agrees_with_the_oracle(name, distribution):
    chosen = task(name)
    batch = chosen.sample(1500, (chosen.min_length, 150), 11, distribution, context=chosen.context_for(150))
    assert_matches_oracle(chosen, batch)
    assert batch.longest == batch.lengths.max()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 1000, 65_536, LONGEST_LENGTH])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_lengths_from_one_to_a_million(name, distribution, length):
    chosen = task(name).with_symbols(length)
    lengths = chosen.reachable(max(length - 2, chosen.min_length), length)
    if not lengths:
        assert length < chosen.min_length
        return
    assert_matches_oracle(chosen, chosen.sample(1, lengths[-1], 12, distribution))


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


# ---- alphabet ----


@pytest.mark.parametrize("name", NAMES)
def test_specials_follow_the_ordinary_symbols(name):
    chosen = task(name)
    assert (chosen.bos, chosen.sep, chosen.eos) == tuple(len(chosen.symbols) + i for i in range(3))
    assert chosen.vocab_size == len(chosen.symbols) + 3


@pytest.mark.parametrize("name", NAMES)
def test_decode_and_encode_are_inverse(name):
    chosen = task(name)
    ids = list(range(chosen.vocab_size))
    names = chosen.decode(ids)
    assert len(set(names)) == len(names)
    assert chosen.encode(names).tolist() == chosen.encode(" ".join(names)).tolist() == ids
    assert list(chosen.symbols) == names[:-3]


def test_encode_reads_letters_that_stand_together():
    assert task("addition").encode("<bos> 10+1= 11 <eos>").tolist() == [4, 1, 0, 2, 1, 3, 1, 1, 6]
    assert task("sort").encode("12 3 <sep>").tolist() == [12, 3, 151]
    assert task("offset_copy_2").encode("<filler>").tolist() == [150]


def test_alphabets_of_a_million_symbols_are_cheap():
    large = task("offset_copy_3", symbols=LONGEST_LENGTH)
    assert len(large.symbols) == LONGEST_LENGTH + 1
    assert large.symbols[123_456] == "123456"
    assert large.symbols[-1] == "<filler>"
    assert large.symbols[:2] == ("0", "1")
    assert large.symbols.index("77") == 77
    assert "x" not in large.symbols
    assert "007" not in large.symbols
    with pytest.raises(IndexError):
        large.symbols[LONGEST_LENGTH + 1]
    with pytest.raises(ValueError, match="not a symbol"):
        large.symbols.index("-1")


@pytest.mark.parametrize("name", NAMES)
def test_with_symbols_grows_only_growing_alphabets(name):
    chosen = task(name)
    assert chosen.alphabet_grows == (name in GROWING)
    assert chosen.with_symbols(100) is chosen
    large = chosen.with_symbols(1000)
    assert (large is chosen) == (name not in GROWING)
    assert large.max_length >= 1000
    assert large.with_symbols(1000) is large


def test_tasks_are_values():
    assert task("sort") == task("sort")
    assert hash(task("sort")) == hash(task("sort"))
    assert task("sort", symbols=7) != task("sort")
    assert list(tasks())[: len(NAMES)] == list(NAMES)
    assert len(NAMES) == 11
    assert all(tasks()[name] == task(name).description for name in NAMES)


# ---- geometry: the table of lengths, contexts and training offsets ----

TABLE = {
    # task: (min n, context for L, greatest training offset at length n)
    "binary_majority": (1, lambda L: L + 4, lambda L, n: L - n),
    "majority": (1, lambda L: L + 4, lambda L, n: L - n),
    "binary_majority_interleave": (3, lambda L: L + 6, lambda L, n: L - n),
    "unique_copy": (1, lambda L: 2 * L + 3, lambda L, n: 2 * (L - n)),
    "repeat_copy": (1, lambda L: 2 * L + 3, lambda L, n: 2 * (L - n)),
    "sort": (1, lambda L: 2 * L + 3, lambda L, n: 2 * (L - n)),
    "parity": (0, lambda L: L + 4, lambda L, n: L - n),
}


@pytest.mark.parametrize("longest", [50, 150, 151])
@pytest.mark.parametrize("name", TABLE)
def test_contexts_and_offsets_are_those_of_the_table(name, longest):
    shortest, context, most = TABLE[name]
    chosen = task(name).with_symbols(longest)
    assert chosen.min_length == shortest
    assert chosen.context_for(longest) == context(longest)
    lengths = chosen.reachable(max(shortest, longest - 3), longest)
    for n in lengths:
        offsets = chosen.sample(600, n, 51, context=chosen.context_for(longest)).offsets
        assert (int(offsets.min()), int(offsets.max())) == (0, most(longest, n))


def test_addition_has_the_context_and_offsets_of_the_table():
    chosen = task("addition")
    assert chosen.min_length == 4
    assert chosen.context_for(150) == 300
    batch = chosen.sample(20_000, (140, 150), 52, context=300)
    spare = 300 - batch.lengths - batch.offsets
    assert int(spare.min()) == 0
    assert int(batch.offsets.min()) == 0
    fullest = chosen.sample(2000, 4, 53)
    assert int(fullest.lengths.max()) == chosen.tokens_at(4) == 8


@pytest.mark.parametrize("k", [1, 2, 3])
def test_offset_copy_has_the_context_of_its_longest_string(k):
    chosen = task(f"offset_copy_{k}")
    assert chosen.min_length == 2 * k - 1
    assert all((n + 1) % k == 0 for n in chosen.reachable(chosen.min_length, 100))
    longest = chosen.reachable(chosen.min_length, 150)[-1]
    batch = chosen.sample(500, longest, 54, context=chosen.context_for(150))
    assert batch.longest == chosen.context_for(150) == chosen.tokens_at(longest)
    assert not batch.offsets.any()


@pytest.mark.parametrize("name", NAMES)
def test_tokens_at_is_reached_and_never_passed(name):
    chosen = task(name)
    for n in chosen.reachable(chosen.min_length, 14):  # the longest sums take a single digit beside a long number: rare
        assert int(chosen.sample(4000, n, 55, "hard").lengths.max()) == chosen.tokens_at(n)


@pytest.mark.parametrize("name", NAMES)
def test_reachable_lengths(name):
    chosen = task(name)
    for low, high in ((-5, 40), (7, 7), (8, 8), (9, 9), (5, 4)):
        expected = [n for n in range(low, high + 1) if n >= chosen.min_length and n % step(name) == rest(name)]
        assert list(chosen.reachable(low, high)) == expected


def step(name: str) -> int:
    return {"binary_majority_interleave": 3, "offset_copy_2": 2, "offset_copy_3": 3}.get(name, 1)


def rest(name: str) -> int:
    return {"offset_copy_2": 1, "offset_copy_3": 2}.get(name, 0)


def test_the_default_length_starts_at_the_least():
    for name in NAMES:
        chosen = task(name)
        drawn = {len(x) for x in questions(chosen, chosen.sample(2000, seed=56))}
        lengths = chosen.reachable(chosen.min_length, 50)
        assert (min(drawn), max(drawn)) == (lengths[0], lengths[-1])


@pytest.mark.parametrize(
    ("name", "level"),
    [("binary_majority", 1 / 2), ("majority", 1 / 26), ("binary_majority_interleave", 1 / 8), ("sort", 0.0)],
)
def test_chance_levels(name, level):
    assert task(name).chance == level


# ---- the oracle refuses what is no question ----

BAD_STRINGS = [
    ("binary_majority", "0 1 1 <sep>", "start with BOS"),
    ("binary_majority", "<bos> 0 1 1", "have a SEP"),
    ("binary_majority", "<bos> 0 1 <sep>", "not tie"),
    ("binary_majority", "<bos> <sep>", "cannot have length 0"),
    ("binary_majority", "<bos> 0 <eos> <sep>", "ids 0..1"),
    ("majority", "<bos> aabb <sep>", "not tie"),
    ("binary_majority_interleave", "<bos> 0101 <sep>", "cannot have length 4"),
    ("binary_majority_interleave", "<bos> 010000 <sep>", "not tie"),
    ("unique_copy", "<bos> 3 4 3 <sep>", "distinct"),
    ("sort", "<bos> 9 9 <sep>", "distinct"),
    ("offset_copy_2", "<bos> 1 2 3 <sep>", "start with 1 fillers"),
    ("offset_copy_2", "<bos> <filler> 2 <filler> <sep>", "only 1 fillers"),
    ("offset_copy_2", "<bos> <filler> 2 <sep>", "cannot have length 2"),
    ("offset_copy_3", "<bos> <filler> <filler> 2 2 2 <sep>", "distinct"),
    ("parity", "<bos> 0 e <sep>", "ids 0..1"),
    ("addition", "<bos> 1+1", "have a ="),
    ("addition", "<bos> 11=", "have one +"),
    ("addition", "<bos> 1+=", "cannot have length 3"),
    ("addition", "<bos> 11+=", "either side of +"),
    ("addition", "<bos> 01+1=", "leading zero"),
    ("addition", "<bos> 1+ <sep> =", "digits 0 and 1"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_STRINGS)
def test_the_oracle_refuses_malformed_strings(name, text, message):
    chosen = task(name)
    with pytest.raises(ValueError, match="tokens are no question of") as error:
        chosen.oracle(chosen.encode(text))
    assert message in str(error.value)


def test_the_oracle_of_addition_is_long_arithmetic():
    chosen = task("addition")
    tokens = chosen.encode("<bos> 1011+110= 10001 <eos>")
    scored, targets = chosen.oracle(tokens)
    assert tokens[scored + 1].tolist() == targets.tolist() == chosen.encode("10001 <eos>").tolist()


# ---- bad input ----

BAD_INPUT = [
    (lambda: task("parrity"), ValueError, "did you mean 'parity'"),
    (lambda: task("zzz"), ValueError, "the tasks are binary_majority, majority"),
    (lambda: task(7), ValueError, "there is no task 7"),
    (lambda: task("parity", symbols=5), ValueError, "symbols is 5"),
    (lambda: task("sort", symbols=0), ValueError, "symbols is 0; it must be in 1..1048576"),
    (lambda: task("sort", symbols=2**20 + 1), ValueError, "symbols is 1048577"),
    (lambda: task("sort", symbols=5.0), TypeError, "symbols is 5.0"),
    (lambda: task("sort").with_symbols(2**20 + 1), ValueError, "longest is 1048577"),
    (lambda: task("parity").sample(0), ValueError, "count is 0"),
    (lambda: task("parity").sample(-3), ValueError, "count is -3"),
    (lambda: task("parity").sample(2.0), TypeError, "count is 2.0; it must be an integer"),
    (lambda: task("parity").sample(True), TypeError, "count is True"),
    (lambda: task("parity").sample("2"), TypeError, "count is '2'"),
    (lambda: task("parity").sample(1, (9, 3)), ValueError, r"length is \(9, 3\), which is reversed"),
    (lambda: task("parity").sample(1, (1, 2, 3)), ValueError, r"length is \(1, 2, 3\)"),
    (lambda: task("parity").sample(1, 5.0), TypeError, "length is 5.0"),
    (lambda: task("parity").sample(1, (1, 5.0)), TypeError, "length is 5.0"),
    (lambda: task("parity").sample(1, "5"), TypeError, "length is '5'"),
    (lambda: task("parity").sample(1, -1), ValueError, "length starts at -1; the shortest string of parity"),
    (lambda: task("addition").sample(1, (3, 9)), ValueError, "shortest string of addition has length 4"),
    (lambda: task("parity").sample(1, 2**20 + 1), ValueError, "length ends at 1048577; the longest string has length"),
    (lambda: task("binary_majority_interleave").sample(1, (4, 5)), ValueError, "its lengths are 3, 6, 9, ..."),
    (lambda: task("offset_copy_2").sample(1, 4), ValueError, "its lengths are 3, 5, 7, ..."),
    (lambda: task("sort").sample(1, 151), ValueError, "sort with 150 symbols has strings up to length 150"),
    (lambda: task("offset_copy_3").sample(1, (5, 153)), ValueError, "up to length 152"),
    (lambda: task("sort", symbols=10).sample(1, 11), ValueError, "sort with 10 symbols"),
    (lambda: task("parity").sample(1, 5, -1), ValueError, "seed is -1; it must be in 0..18446744073709551615"),
    (lambda: task("parity").sample(1, 5, 2**64), ValueError, "seed is"),
    (lambda: task("parity").sample(1, 5, 0.5), TypeError, "seed is 0.5"),
    (lambda: task("parity").sample(1, 5, 0, "soft"), ValueError, "distribution is 'soft'; it must be"),
    (lambda: task("parity").sample(1, 5, stream=-1), ValueError, "stream is -1"),
    (lambda: task("parity").sample(1, 5, first_row=-1), ValueError, "first_row is -1"),
    (lambda: task("parity").sample(2, 5, first_row=2**32 - 1), ValueError, "first_row is 4294967295"),
    (lambda: task("parity").sample(1, 5, context=8), ValueError, "context is 8; strings of length 5 need at least 9"),
    (lambda: task("parity").sample(1, 5, context=-1), ValueError, "context is -1"),
    (lambda: task("parity").sample(1, 5, context=9.5), TypeError, "context is 9.5"),
    (lambda: task("parity").sample(1, 5, threads=0), ValueError, "threads is 0"),
    (lambda: task("parity").sample(2100, 2**20), ValueError, "at most 2147483647 fit in one batch"),
    (lambda: task("parity").check_lengths(5, 4), ValueError, "reversed"),
    (lambda: task("sort").context_for(1.5), TypeError, "longest is 1.5"),
    (lambda: task("addition").context_for(3), ValueError, "longest is 3"),
    (lambda: task("parity").tokens_at(-1), ValueError, "n is -1"),
    (lambda: task("parity").decode([7]), ValueError, "token id is 7; it must be in 0..6"),
    (lambda: task("parity").encode("0 2"), ValueError, "text has '2', which is no symbol of parity"),
    (lambda: task("sort").encode("150"), ValueError, "its symbols are 0 1 2 3 ... 149 <bos> <sep> <eos>"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD_INPUT)
def test_bad_input_is_refused_in_one_sentence(call, kind, message):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_numpy_integers_are_integers():
    batch = task("parity").sample(np.int64(2), (np.int32(3), np.int64(5)), np.uint64(7), context=np.int16(20))
    assert batch.rows == 2
