"""Tasks: oracle against engine, distributions, what `hard` draws, geometry, and every bad input."""

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
