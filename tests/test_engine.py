"""The data engine against its plain Python twins, and its independence of threads, splits and processor."""

import gc
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import twins
from hypothesis import given, settings
from hypothesis import strategies as st

from lengen_fast import _engine
from lengen_fast.tasks import task
from lengen_fast.tasks.algorithmic import ALGORITHMIC

NAMES = tuple(each.name for each in ALGORITHMIC)
DISTRIBUTIONS = ("paper", "hard")
ARRAYS = ("tokens", "cu_seqlens", "offsets", "scored", "targets")

words32 = st.integers(0, 2**32 - 1)
words64 = st.integers(0, 2**64 - 1)


def arrays_of(batch) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(batch, name)) for name in ARRAYS}


def assert_same(one, other) -> None:
    assert one.longest == other.longest
    for name in ARRAYS:
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), err_msg=name)


@pytest.fixture
def plain_code():
    """The engine without its vector code."""
    before = _engine.path()
    _engine.use_path(_engine.Path.plain)
    yield
    _engine.use_path(before)


# ---- ARS ----

# By rounds, what Random123 gives for one counter and key, as the tests of its port to Julia, Random123.jl, have it.
# The engine's are seven.
ARS_COUNTER = [0x0D0DFEFC, 0xB4760719, 0x4F7B9227, 0x9799B5D5]
ARS_KEY = [0x5A7DA274D3B8146A, 0x07B8E4B6AA98EC24]
ARS_WORDS = {
    1: [0x331396EF, 0xE548EF12, 0x07B64224, 0x1A0B14C7],
    2: [0xA22E8AE1, 0x8336318B, 0x70690F71, 0x3CED8E09],
    3: [0x2C32FC19, 0x67C84164, 0x006319E8, 0xB6621A8B],
    7: [0x8B660AF7, 0x17FBD9CF, 0xE0A5E9F8, 0xA24F3026],
    10: [0xBAD2F9A2, 0x4E287697, 0xF996ED82, 0xAC35DF44],
}


@pytest.mark.parametrize("rounds", ARS_WORDS)
def test_ars_gives_the_known_answers(rounds):
    assert twins.ars(ARS_COUNTER, ARS_KEY, rounds) == ARS_WORDS[rounds]
    if rounds == 7:
        assert _engine.ars(ARS_COUNTER, ARS_KEY) == ARS_WORDS[rounds]


@given(st.lists(words32, min_size=4, max_size=4), st.lists(words64, min_size=2, max_size=2))
def test_ars_equals_its_twin(counter, key):
    assert _engine.ars(counter, key) == twins.ars(counter, key)


@pytest.mark.parametrize("path", ["plain", "avx2"])
@given(seed=words64, stream=words64, row=words32, first=st.integers(0, 40), count=st.integers(0, 70))
def test_words_of_a_row_equal_the_twin(path, seed, stream, row, first, count):
    before = _engine.path()
    _engine.use_path(_engine.Path.__members__[path])
    try:
        found = _engine.words(seed, stream, row, first, count)
    finally:
        _engine.use_path(before)
    twin = twins.Words(seed, stream, row)
    expected = [twin.next() for _ in range(first + count)][first:]
    assert found == expected


@given(seed=words64, bound=st.one_of(st.integers(1, 300), st.integers(2**31, 2**32 - 1)))
def test_bounded_integers_equal_the_twin(seed, bound):
    # bounds just above a power of two are rejected half of the time
    twin = twins.Words(seed, 0, 0)
    assert _engine.below(seed, bound, 20) == [twin.below(bound) for _ in range(20)]


@given(seed=words64, bound=st.integers(1, 2**64 - 1))
def test_rejected_placements_are_drawn_again_from_the_next_block(seed, bound):
    def following(half: int) -> int:
        for block in itertools.count(twins.PLACEMENT + 1):
            words = twins.ars([block, 0, 0, 0], [seed, 0])
            product = (words[2 * half] | words[2 * half + 1] << 32) * bound
            if product & twins.MASK64 >= 2**64 % bound:
                return product >> 64

    rejected = 2**64 % bound > 0  # a draw of 0 leaves the remainder 0
    expected = tuple(following(half) if rejected else 0 for half in (twins.LENGTH, twins.OFFSET))
    assert _engine.settle(seed, 0, bound) == expected


@given(seed=words64, bound=st.integers(1, 2**20), count=st.integers(0, 40))
def test_shuffle_indices_equal_the_twin(seed, bound, count):
    count = min(count, bound)
    twin = twins.Words(seed, 0, 0)
    assert _engine.shuffle_indices(seed, count, bound) == twins.shuffle_indices(twin, count, bound)


@pytest.mark.parametrize("bounds", [(3,), (1 << 20, (1 << 20) - 1), (7, 6, 5, 4, 3, 2)])
def test_a_group_of_indices_is_the_mixed_base_number_it_claims(bounds):
    class OneWord(twins.Words):
        def pair(self):
            return 2**63 + 12345

    indices, rest = [], 2**63 + 12345
    for bound in bounds:
        indices.append(rest * bound >> 64)
        rest = rest * bound & twins.MASK64
    assert OneWord(0, 0, 0).group(list(bounds)) == indices


# ---- rows ----


def length_ranges(name: str):
    """Short and long ranges of a task, one length or several, with the edges of the 64-bit words among them."""
    chosen = task(name)
    edges = [*range(chosen.min_length, chosen.min_length + 4), *range(62, 67), *range(126, 131), 192, 193, 256, 300]
    one = st.sampled_from(edges).map(lambda n: (n, n))
    several = st.tuples(st.integers(chosen.min_length, 140), st.integers(0, 60)).map(lambda p: (p[0], p[0] + p[1]))
    return st.one_of(one, several).filter(lambda p: len(chosen.reachable(*p)) > 0)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_rows_equal_the_twin_bit_for_bit(name, distribution):
    @given(
        length=length_ranges(name),
        seed=words64,
        stream=words64,
        first_row=st.integers(0, 2**32 - 9),
        spare_symbols=st.sampled_from([0, 1, 150, 3000]),
        extra_context=st.sampled_from([None, 0, 1, 100]),
    )
    def compare(length, seed, stream, first_row, spare_symbols, extra_context):
        chosen = with_symbols(name, length[1] + spare_symbols)
        lengths = chosen.reachable(*length)
        context = None if extra_context is None else chosen.tokens_at(lengths[-1]) + extra_context
        rows = 3
        batch = chosen.sample(rows, length, seed, distribution, stream=stream, first_row=first_row, context=context)
        starts = batch.cu_seqlens.tolist()
        expected = [twins.row(chosen, lengths, context, seed, stream, first_row + i, distribution) for i in range(rows)]
        assert starts == [0, *itertools.accumulate(len(tokens) for tokens, *_ in expected)]
        assert batch.tokens.tolist() == [token for tokens, *_ in expected for token in tokens]
        assert batch.offsets.tolist() == [offset for _, offset, *_ in expected]
        assert batch.scored.tolist() == [
            start + i for start, (_, _, scored, _) in zip(starts, expected, strict=False) for i in scored
        ]
        assert batch.targets.tolist() == [target for *_, targets in expected for target in targets]
        assert batch.longest == max(len(tokens) for tokens, *_ in expected)

    compare()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_long_rows_equal_the_twin(name, distribution):
    # past the bounds where digits, groups of indices and counting change; 17 of 70,000 symbols are sorted by comparison
    for n, symbols in ((4099, 5000), (5003, 70000), (17, 70000)):
        chosen = with_symbols(name, symbols)
        n = chosen.reachable(n, n + 3)[0]
        batch = chosen.sample(2, n, 5, distribution, first_row=7)
        for i in range(2):
            tokens, _, scored, targets = twins.row(chosen, range(n, n + 1), 0, 5, 0, 7 + i, distribution)
            assert batch.row(i).tolist() == tokens
            half = len(batch.scored) // 2 if name != "addition" else None
            if half is not None:
                assert (batch.scored[i * half : (i + 1) * half] - batch.cu_seqlens[i]).tolist() == scored
                assert batch.targets[i * half : (i + 1) * half].tolist() == targets


@pytest.mark.parametrize("symbols", [1, 2, 63, 64, 65, 150, 255, 256, 257])
@pytest.mark.parametrize("name", ["unique_copy", "sort", "offset_copy_3"])
def test_few_of_few_symbols_equal_the_twin_and_are_distinct(name, symbols):
    # all and almost all of them, for which the first draws do not suffice; rows in groups and on their own
    chosen = task(name, symbols=symbols)
    for n in sorted({1, 2, symbols // 2, symbols - 1, symbols, 48, 63, 64, 65}):
        length = n + 2 if name == "offset_copy_3" else n
        if 1 <= n <= symbols and chosen.reachable(length, length):
            batch = chosen.sample(11, length, 3)
            expected = [twins.row(chosen, range(length, length + 1), None, 3, 0, i, "paper")[0] for i in range(11)]
            assert [batch.row(i).tolist() for i in range(11)] == expected
            question = np.array(expected)[:, length + 1 - n : length + 1]
            assert all(len(set(row)) == n for row in question.tolist())
            assert 0 <= question.min() <= question.max() < symbols


def with_symbols(name: str, symbols: int):
    return task(name, symbols=symbols) if task(name).alphabet_grows else task(name)


# ---- independence ----


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_threads_change_nothing(name, distribution):
    chosen = task(name)
    length = (chosen.min_length, 150)
    one = chosen.sample(203, length, 1, distribution, context=400, threads=1)
    for threads in (2, 3, 7, 300):
        assert_same(one, chosen.sample(203, length, 1, distribution, context=400, threads=threads))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 63), max_size=5, unique=True))
def test_splits_change_nothing(name, distribution, cuts):
    chosen = task(name)
    length = (chosen.min_length, 70)
    whole = chosen.sample(64, length, 2, distribution, stream=9, context=200)
    bounds = [0, *sorted(cuts), 64]
    for first, last in itertools.pairwise(bounds):
        part = chosen.sample(last - first, length, 2, distribution, stream=9, first_row=first, context=200)
        for i in range(first, last):
            assert torch.equal(part.row(i - first), whole.row(i))
        assert torch.equal(part.offsets, whole.offsets[first:last])


@pytest.mark.parametrize("name", NAMES)
def test_any_row_is_reached_at_once(name):
    chosen = task(name)
    length = (chosen.min_length, 60)
    for row in (10**9, 2**32 - 1):
        batch = chosen.sample(1, length, 3, stream=2**63 + 5, first_row=row)
        tokens, *_ = twins.row(chosen, chosen.reachable(*length), 0, 3, 2**63 + 5, row, "paper")
        assert batch.tokens.tolist() == tokens


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_plain_code_gives_the_same_rows(name, distribution, plain_code):
    def draw():
        short = chosen.sample(101, (chosen.min_length, 150), 4, distribution, context=400)
        return short, with_symbols(name, 3000).sample(2, long, 4, distribution)

    chosen = task(name)
    long = chosen.reachable(2998, 3000)[0]
    assert _engine.path() == _engine.Path.plain
    plain = draw()
    _engine.use_path(_engine.Path.avx2)
    for one, other in zip(plain, draw(), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_offsets_and_context_never_change_the_strings(name):
    chosen = task(name)
    length = (chosen.min_length, 80)
    without = chosen.sample(50, length, 6)
    for context in (0, 200, 100_000):
        batch = chosen.sample(50, length, 6, context=context)
        assert torch.equal(batch.tokens, without.tokens)
    assert not without.offsets.any()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_streams_and_rows_differ(name):
    chosen = task(name)
    n = chosen.reachable(60, 80)[0]
    drawn = [
        tuple(chosen.sample(1, n, seed, stream=stream, first_row=row).tokens.tolist())
        for seed in (0, 1, 2**32)
        for stream in (0, 1, 2**32)
        for row in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


# ---- memory ----


def test_tensors_share_the_memory_of_the_engine_and_keep_it_alive():
    sampler = task("sort").sampler((1, 50), seed=1)
    batch = sampler.sample(64)
    arrays = arrays_of(batch)
    again = arrays_of(batch)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name in ARRAYS:
        assert arrays[name].ctypes.data == again[name].ctypes.data == tensors[name].data_ptr()
        assert not arrays[name].flags.owndata
        assert arrays[name].flags.writeable
    expected = {name: array.copy() for name, array in arrays.items()}
    del batch, arrays, again
    gc.collect()
    for step in range(50):  # would reuse the memory if it had been given back
        sampler.sample(64, stream=step)
    for name in ARRAYS:
        np.testing.assert_array_equal(tensors[name].numpy(), expected[name])


def test_batches_alive_at_the_same_time_do_not_overlap():
    sampler = task("parity").sampler((0, 50), seed=1)
    batches = [sampler.sample(64, stream=step) for step in range(40)]
    for step, batch in enumerate(batches):
        assert_same(batch, sampler.sample(64, stream=step))


def test_dtypes_and_shapes():
    batch = task("addition").sampler((4, 50)).sample(10)
    arrays = arrays_of(batch)
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "tokens": "int32",
        "cu_seqlens": "int32",
        "offsets": "int64",
        "scored": "int32",
        "targets": "int64",
    }
    assert arrays["cu_seqlens"].shape == (11,)
    assert arrays["offsets"].shape == (10,)
    assert arrays["tokens"].shape == (arrays["cu_seqlens"][-1],)
    assert arrays["scored"].shape == arrays["targets"].shape


# ---- the helping threads ----


@pytest.mark.parametrize("name", NAMES)
def test_many_threads_at_once_may_share_the_helpers(name):
    sampler = task(name).sampler((task(name).min_length, 60), seed=2)
    expected = [sampler.sample(200, stream=step) for step in range(12)]
    with ThreadPoolExecutor(4) as pool:
        drawn = pool.map(lambda step: sampler.sample(200, stream=step, threads=3), range(12))
        for one, other in zip(expected, drawn, strict=True):
            assert_same(one, other)


def test_a_forked_child_starts_its_own_helpers():
    sampler = task("addition").sampler((4, 60), seed=2)
    expected = sampler.sample(500, threads=3)
    child = os.fork()
    if child == 0:
        same = np.array_equal(sampler.sample(500, threads=3).tokens, expected.tokens)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


# ---- what the engine itself refuses ----


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((), {}, "misses the argument 'rows'"),
        ((1, 2, 3, 1, 5), {}, "at most 4 arguments"),
        ((1,), {"rows": 2}, "an argument twice"),
        ((1,), {"steam": 2}, "unexpected argument 'steam'"),
        ((1,), {"stream": -1}, "out of range"),
        ((1,), {"stream": 2**64}, "out of range"),
        ((2**63,), {}, "out of range"),
        ((1.0,), {}, "cannot be interpreted as an integer"),
    ],
)
def test_sample_refuses_wrong_arguments(positional, named, message):
    with pytest.raises(TypeError, match=message):
        engine_sampler().sample(*positional, **named)


def engine_sampler(**changes):
    arguments = {"task": "sort", "distribution": "paper", "symbols": 50, "low": 1, "high": 50, "seed": 0, "context": 0}
    return _engine.Sampler(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "srot"}, "unknown task 'srot'"),
        ({"distribution": "soft"}, "unknown distribution 'soft'"),
        ({"low": 9, "high": 8}, "cannot draw lengths 9..8"),
        ({"low": 0}, "cannot draw lengths 0..50"),
        ({"high": 51}, "cannot draw lengths 1..51"),
        ({"context": 102}, "context is 102"),
        ({"symbols": 0, "high": 1}, "symbols is 0"),
    ],
)
def test_the_engine_checks_its_own_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        engine_sampler(**changes)


@pytest.mark.parametrize(("rows", "first_row"), [(0, 0), (-1, 0), (1, -1), (2, 2**32 - 1)])
def test_the_engine_refuses_rows_outside_the_counter(rows, first_row):
    with pytest.raises(ValueError, match="rows"):
        engine_sampler().sample(rows, first_row=first_row)


@pytest.mark.parametrize("name", ["parity", "addition"])
def test_a_batch_of_too_many_tokens_is_refused(name):
    with pytest.raises(ValueError, match="at most 2147483647"):
        task(name).sample(2100, 2**20)
