"""The field's tasks: engine against twins and oracles, distributions, what `hard` draws, and every bad input."""

import itertools
import re
from collections import Counter

import field_twins
import numpy as np
import pytest
import torch
import twins
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lengen_fast as lf
from lengen_fast import _engine
from lengen_fast.tasks import LONGEST_LENGTH, Task, from_definition, task, tasks, word_problem
from lengen_fast.tasks.algorithmic import ALGORITHMIC
from lengen_fast.tasks.parametric import ParametricTask

OR_GATE = [[0, 1], [1, 1]]
MAXIMUM = [[max(a, b) for b in range(7)] for a in range(7)]  # its identity is 0
LEFT_ZEROS = [[a if a != 2 else b for b in range(3)] for a in range(3)]  # its identity is 2
PAPERS = {each.name for each in ALGORITHMIC}
FAMILIES = {"counting", "copying", "sorting", "state tracking", "recall", "arithmetic"}
NAMES = tuple(name for name in tasks() if name not in PAPERS and task(name).family in FAMILIES)
VARIANTS = (
    *("mode_2", "mode_16", "mode_33", "mode_256", "count_1", "count_40", "bucket_sort_2", "bucket_sort_9"),
    *("bucket_sort_256", "modular_sum_2", "modular_sum_256", "cycle_navigation_2", "cycle_navigation_1000"),
    *("word_problem_z2", "word_problem_z256", "word_problem_a4"),
)
OWN = {"or": word_problem(OR_GATE), "maximum": word_problem(MAXIMUM), "left zeros": word_problem(LEFT_ZEROS)}
CASES = (*NAMES, *VARIANTS, *OWN)
DISTRIBUTIONS = ("paper", "hard")
LEAST_P = 1e-4  # of one test at a fixed seed

words64 = st.integers(0, 2**64 - 1)


def case(name: str, symbols: int = 150) -> Task:
    if name in OWN:
        return OWN[name]
    return task(name, symbols=symbols) if task(name).alphabet_grows else task(name)


def rows_of(batch) -> list[tuple[list[int], list[int], list[int]]]:
    """Tokens, scored positions from the start of the row, and targets, of every row."""
    bounds, scored = batch.cu_seqlens.numpy(), batch.scored.numpy()
    cuts = np.searchsorted(scored, bounds)
    assert (cuts[0], cuts[-1]) == (0, len(scored))
    return [
        (batch.tokens[begin:end].tolist(), (scored[first:last] - begin).tolist(), batch.targets[first:last].tolist())
        for (begin, end), (first, last) in zip(itertools.pairwise(bounds), itertools.pairwise(cuts), strict=True)
    ]


def assert_matches_oracle(chosen: Task, batch) -> None:
    for tokens, scored, targets in rows_of(batch):
        expected_scored, expected_targets = chosen.oracle(tokens)
        assert scored == expected_scored.tolist()
        assert targets == expected_targets.tolist()


def assert_uniform(values, choices: int) -> None:
    """``values`` are spread evenly over 0..choices-1."""
    counts = np.bincount(np.asarray(values), minlength=choices)
    assert len(counts) == choices
    assert stats.chisquare(counts).pvalue > LEAST_P


def inside(chosen: Task, count: int, n: int, seed: int, distribution: str = "paper") -> np.ndarray:
    """[count, n] the n symbols behind BOS."""
    batch = chosen.sample(count, n, seed, distribution)
    return batch.tokens.numpy()[batch.cu_seqlens.numpy()[:-1, None] + 1 + np.arange(n)]


# ---- engine against twin and oracle ----


def length_ranges(chosen: Task):
    """Short and long ranges, one length or several, with the edges of the 64-bit words among them."""
    least = chosen.min_length
    edges = [least, least + 1, least + 2, *range(62, 67), *range(126, 131), 192, 255, 256, 257, 300]
    one = st.sampled_from(edges).map(lambda n: (n, n))
    several = st.tuples(st.integers(least, least + 120), st.integers(0, 60)).map(lambda p: (p[0], p[0] + p[1]))
    return st.one_of(one, several).filter(lambda p: p[0] >= least and len(chosen.reachable(*p)) > 0)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CASES)
def test_rows_equal_the_twin_bit_for_bit(name, distribution):
    @settings(max_examples=12)
    @given(
        length=length_ranges(case(name)),
        seed=words64,
        stream=words64,
        first_row=st.integers(0, 2**32 - 9),
        spare_symbols=st.sampled_from([0, 1, 150, 3000]),
        extra_context=st.sampled_from([None, 0, 100]),
    )
    def compare(length, seed, stream, first_row, spare_symbols, extra_context):
        chosen = case(name, length[1] + spare_symbols)
        lengths = chosen.reachable(*length)
        context = None if extra_context is None else chosen.tokens_at(lengths[-1]) + extra_context
        batch = chosen.sample(2, length, seed, distribution, stream=stream, first_row=first_row, context=context)
        expected = [
            field_twins.row(chosen, lengths, context, seed, stream, first_row + i, distribution) for i in range(2)
        ]
        assert rows_of(batch) == [(tokens, scored, targets) for tokens, _, scored, targets in expected]
        assert batch.offsets.tolist() == [offset for _, offset, _, _ in expected]
        assert batch.longest == max(len(tokens) for tokens, *_ in expected)
        assert_matches_oracle(chosen, batch)

    compare()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CASES)
def test_long_rows_equal_the_twin(name, distribution):
    chosen = case(name, 5000)
    n = chosen.reachable(4099, 4102)[0]
    batch = chosen.sample(1, n, 5, distribution, first_row=7)
    tokens, _, scored, targets = field_twins.row(chosen, range(n, n + 1), 0, 5, 0, 7, distribution)
    assert rows_of(batch) == [(tokens, scored, targets)]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CASES)
def test_the_engine_agrees_with_the_oracle_at_many_lengths(name, distribution):
    chosen = case(name)
    batch = chosen.sample(200, (chosen.min_length, 150), 11, distribution, context=chosen.context_for(150))
    assert_matches_oracle(chosen, batch)
    for length in (*range(1, 8), 1000, 65_536):
        grown = chosen.with_symbols(length)
        lengths = grown.reachable(length - 1, length) if length > chosen.min_length else ()
        for n in lengths:
            assert_matches_oracle(grown, grown.sample(1, n, 12, distribution))


@pytest.mark.parametrize("name", NAMES)
def test_a_million_symbols(name):
    chosen = task(name).with_symbols(LONGEST_LENGTH)
    n = chosen.reachable(LONGEST_LENGTH - 1, LONGEST_LENGTH)[-1]
    assert_matches_oracle(chosen, chosen.sample(1, n, 13, "hard"))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CASES)
def test_threads_splits_and_plain_code_change_nothing(name, distribution):
    def same(one, other) -> bool:
        arrays = ("tokens", "cu_seqlens", "offsets", "scored", "targets")
        return all(torch.equal(getattr(one, array), getattr(other, array)) for array in arrays)

    chosen = case(name)
    length, options = (chosen.min_length, 150), dict(context=500, stream=9)
    whole = chosen.sample(203, length, 1, distribution, threads=1, **options)
    for threads in (2, 7):
        assert same(whole, chosen.sample(203, length, 1, distribution, threads=threads, **options))
    before = _engine.path()
    _engine.use_path(_engine.Path.plain)
    try:
        assert same(whole, chosen.sample(203, length, 1, distribution, threads=2, **options))
    finally:
        _engine.use_path(before)
    rows = rows_of(whole)
    for first, last in itertools.pairwise([0, 1, 8, 77, 203]):
        part = chosen.sample(last - first, length, 1, distribution, first_row=first, **options)
        assert rows_of(part) == rows[first:last]
        assert torch.equal(part.offsets, whole.offsets[first:last])


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_uniform_and_within_their_geometry(name):
    chosen = task(name)
    lengths = chosen.reachable(chosen.min_length, 31)
    batch = chosen.sample(4000, (chosen.min_length, 31), 21)
    # a string ends where its answer does; its own length is what its oracle reads of it
    drawn = [question_length(chosen, tokens) for tokens, _, _ in rows_of(batch)]
    assert_uniform([lengths.index(n) for n in drawn], len(lengths))
    assert batch.longest <= chosen.tokens_at(lengths[-1])


def question_length(chosen: Task, tokens: list[int]) -> int:
    if "_addition" in chosen.name:
        return tokens.index(11)
    if chosen.sep in tokens:
        return tokens.index(chosen.sep) - 1
    return len(tokens) - (3 if chosen.name == "induction_head" else 2)


@pytest.mark.parametrize("name", CASES)
def test_tokens_at_is_reached_and_never_passed(name):
    chosen = case(name)
    for n in chosen.reachable(chosen.min_length, chosen.min_length + 8):
        # a row is longest with every symbol a letter, or with a carry out of a number beside a single digit
        distribution = "hard" if "addition" in name else "paper"
        assert int(chosen.sample(3000, n, 55, distribution).lengths.max()) == chosen.tokens_at(n)
    assert chosen.context_for(150) == chosen.tokens_at(chosen.reachable(149, 150)[-1])


# ---- what a task says of itself ----


@pytest.mark.parametrize("name", NAMES)
def test_every_task_says_what_it_is(name):
    chosen = task(name)
    assert chosen.family in FAMILIES
    assert "arXiv" in chosen.citation
    assert len(chosen.hard_means) > 20
    assert "\n" not in chosen.hard_means + chosen.description
    assert from_definition(chosen.definition()) == chosen
    assert (chosen.bos, chosen.sep, chosen.eos) == tuple(len(chosen.symbols) + i for i in range(3))


def test_all_the_tasks_of_the_field_are_there():
    assert set(NAMES) == {
        *("mode", "histogram", "count_3", "reverse", "duplicate", "selective_copy", "bucket_sort"),
        *("modular_sum", "cycle_navigation", "flip_flop", "mqar", "induction_head"),
        *("word_problem_z60", "word_problem_s3", "word_problem_s5", "word_problem_a5"),
        *("decimal_addition", "decimal_addition_reversed"),
        *("multi_operand_addition", "multi_operand_addition_reversed"),
    }


@pytest.mark.parametrize(
    ("name", "level"),
    [("mode_20", 1 / 20), ("count_2", 1 / 2), ("modular_sum", 1 / 5), ("cycle_navigation_4", 1 / 4), ("mqar", 0)],
)
def test_a_guesser_is_right_by_chance(name, level):
    chosen = task(name)
    assert chosen.chance == level
    answers = Counter(targets[0] for _, _, targets in rows_of(chosen.sample(4000, 30, 61)))
    if level:
        assert stats.binomtest(max(answers.values()), 4000, level).pvalue > 1e-6
    assert task("induction_head").chance == 1 / 16


@pytest.mark.parametrize("name", VARIANTS)
def test_a_number_in_a_name_makes_a_task_of_that_name(name):
    chosen = task(name)
    assert chosen.name == name
    assert name not in tasks()
    assert isinstance(chosen, ParametricTask)
    assert from_definition(chosen.definition()) == chosen


def test_a_monoid_of_ones_own_survives_its_definition():
    own = word_problem(LEFT_ZEROS, names=["a", "b", "e"], name="left_zeros")
    again = from_definition(own.definition())
    assert again == own
    assert again.name == "left_zeros"
    assert own.oracle(own.encode("<bos> a b e a <eos>"))[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["histogram", "flip_flop", "word_problem_s3", "mqar", "induction_head"])
def test_every_format_is_trained_and_evaluated(name):
    chosen = task(name)
    shape, config = lf.default_configs(
        chosen, "ape", longest=40, model=dict(layers=1, width=16), train=dict(steps=3, batch=8, test_count=8)
    )
    run = lf.train(shape, chosen, config)
    line = lf.evaluate(run.model, chosen, [(chosen.min_length, 40)], count=20, offsets="random").lines[0]
    assert run.step == 3
    assert line.positions >= line.count == 20


# ---- the oracles refuse what is no question ----

BAD_STRINGS = [
    ("mode", "<bos> a b <sep>", "not tie"),
    ("mode", "<bos> a k <sep>", "is no symbol of mode"),
    ("histogram", "<bos> " + "7 " * 10 + "<sep>", "no symbol more than 9 times"),
    ("histogram", "<bos> 7 x1 <sep>", "ids 0..149"),
    ("count_3", "<bos> 0 1 <sep>", "cannot have length 2"),
    ("selective_copy", "<bos> . . <sep>", "have a letter"),
    ("bucket_sort", "0 <sep>", "start with BOS"),
    ("cycle_navigation", "<bos> + p1 <sep>", "ids 0..2"),
    ("flip_flop", "<bos> w 0 r 1 <eos>", "the bit written last"),
    ("flip_flop", "<bos> w 0 i 0 <eos>", "end with r"),
    ("flip_flop", "<bos> w w r 0 <eos>", "a bit behind"),
    ("flip_flop", "<bos> w 0 0 0 r 0 <eos>", "an instruction at"),
    ("flip_flop", "<bos> w 0 r <eos>", "cannot have length 3"),
    ("word_problem_s3", "<bos> 123 <sep> <eos>", "ids 0..5"),
    ("word_problem_s3", "<bos> 123", "have a EOS"),
    ("mqar", "<bos> 1 a 2 <sep> 1 <eos>", "cannot have length 3"),
    ("mqar", "<bos> 1 a 1 b <sep> 1 1 <eos>", "distinct"),
    ("mqar", "<bos> 1 2 3 a <sep> 1 3 <eos>", "a value at"),
    ("mqar", "<bos> a a 3 a <sep> a 3 <eos>", "a key at"),
    ("mqar", "<bos> 1 a 3 a <sep> 1 1 <eos>", "ask for every key once"),
    ("induction_head", "<bos> a * b", "a second *"),
    ("induction_head", "<bos> a * * b", "a letter behind"),
    ("induction_head", "<bos> a * b <sep> * b", "ids 0..16"),
    ("decimal_addition", "<bos> 1 + 1", "have a ="),
    ("decimal_addition", "<bos> 1 + 1 + 1 =", "have one +"),
    ("decimal_addition", "<bos> 0 1 + 1 =", "leading zero"),
    ("decimal_addition_reversed", "<bos> 1 0 + 1 =", "leading zero"),
    ("decimal_addition", "<bos> 1 1 + =", "a digit on either side"),
    ("decimal_addition", "<bos> 1 <sep> + 1 =", "only digits and +"),
    ("multi_operand_addition", "<bos> " + "1 + " * 99 + "1 =", "2 to 99 numbers"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_STRINGS)
def test_the_oracle_refuses_malformed_strings(name, text, message):
    chosen = task(name)
    with pytest.raises(ValueError, match=r"tokens are no question of|is no symbol of") as error:
        chosen.oracle(chosen.encode(text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("mode", "<bos> a b b <sep>", "b <eos>"),
        ("histogram", "<bos> 7 8 7 <sep>", "x2 x1 x2 <eos>"),
        ("count_3", "<bos> 1 0 1 1 <sep>", "y <eos>"),
        ("reverse", "<bos> a a b <sep>", "b a a <eos>"),
        ("duplicate", "<bos> a b <sep>", "a b a b <eos>"),
        ("selective_copy", "<bos> . c . a <sep>", "c a <eos>"),
        ("bucket_sort", "<bos> 3 0 3 1 <sep>", "0 1 3 3 <eos>"),
        ("modular_sum", "<bos> 4 3 4 <sep>", "1 <eos>"),
        ("cycle_navigation", "<bos> - - 0 + <sep>", "p4 <eos>"),
        ("flip_flop", "<bos> w 0 i 1 r 0 w 1 r 1 <eos>", "0 1"),
        ("word_problem_s3", "<bos> 213 132 231 <eos>", "213 312 123"),
        ("mqar", "<bos> 4 a 9 b <sep> 9 4 <eos>", "b a"),
        ("induction_head", "<bos> c * a b *", "a <eos>"),
        ("decimal_addition", "<bos> 9 5 + 7 =", "1 0 2 <eos>"),
        ("decimal_addition_reversed", "<bos> 5 9 + 7 =", "2 0 1 <eos>"),
        ("multi_operand_addition", "<bos> 9 + 9 + 8 2 =", "1 0 0 <eos>"),
        ("multi_operand_addition_reversed", "<bos> 0 + 0 + 0 =", "0 <eos>"),
    ],
)
def test_oracles_by_hand(name, text, answer):
    chosen = task(name)
    assert chosen.oracle(chosen.encode(text))[1].tolist() == chosen.encode(answer).tolist()


# ---- bad input ----

BAD_INPUT = [
    (lambda: task("mode_1"), "there is no task 'mode_1'; the number behind mode_ is the number of letters, 2 to 256"),
    (lambda: task("mode_257"), "2 to 256"),
    (lambda: task("mode_007"), "there is no task 'mode_007'"),
    (lambda: task("count_0"), "the number of ones asked for, 1 to 1000"),
    (lambda: task("word_problem_s6"), "how many points it permutes, 2 to 5"),
    (lambda: task("word_problem_z1"), "its order, 2 to 256"),
    (lambda: task("word_problem_q8"), "there is no task 'word_problem_q8'"),
    (lambda: task("mode", symbols=5), "symbols is 5, but the alphabet of mode is fixed"),
    (lambda: task("flip_flop").sample(1, 5), "its lengths are 4, 6, 8, ..."),
    (lambda: task("mqar").sample(1, 152), "mqar with 150 symbols has strings up to length 150"),
    (lambda: task("reverse").sample(1, 0), "shortest string of reverse has length 1"),
    (lambda: task("mode").sample(1, 5, 0, "soft"), "distribution is 'soft'"),
    (lambda: _engine.Sampler("mode", "paper", 300, 1, 5, 0), "there must be 2..256"),
    (lambda: _engine.Sampler("count", "paper", 4, 1, 5, 0), "parameters must be one number"),
    (lambda: _engine.Sampler("word_problem", "paper", 2, 1, 5, 0, 0, [0, 0, 1, 1]), "parameters must be the identity"),
    (
        lambda: _engine.Sampler("word_problem", "paper", 2, 1, 5, 0, 0, [0, 0, 1, 1, 2]),
        "parameters must be the identity",
    ),
    (lambda: _engine.Sampler("addition", "paper", 4, 0, 5, 0, 0, [1, 2]), "parameters must be the least"),
    (lambda: _engine.Sampler("addition", "paper", 4, 0, 9, 0, 0, [1, 2, 1, 2]), "cannot draw lengths 0..9"),
    (lambda: _engine.Sampler("multi_operand_addition", "paper", 4, 0, 1, 0, 0, [1, 2, 1, 2]), "parameters must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUT)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)


def test_twins_share_the_paper_s_words():
    assert field_twins.letters(twins.Words(5, 6, 7), 40, 26) == twins.letters(twins.Words(5, 6, 7), 40)


@pytest.mark.parametrize("name", ["addition", "decimal_addition", "decimal_addition_reversed"])
def test_pairs_whose_number_says_nothing_of_their_size(name):
    chosen = task(name)
    for seed in range(5):
        batch = chosen.sample(64, ((1, 10), (1, 10_000)), seed, context=40_000)
        assert_matches_oracle(chosen, batch)
