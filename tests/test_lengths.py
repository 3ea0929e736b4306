"""Lengths of one number and of two: forms, strings of two lengths, results by pair, and the command line."""

import json
from itertools import pairwise

import field_twins
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lengen_fast as lf
from lengen_fast import Pair, lengths
from lengen_fast.cli import main
from lengen_fast.data import evaluation_stream
from lengen_fast.evaluation import AccuracyTable
from lengen_fast.tasks import task

ADDITIONS = (
    *("addition", "decimal_addition", "decimal_addition_reversed"),
    *("multi_operand_addition", "multi_operand_addition_reversed"),
)
numbers = st.integers(0, 2**21)
ranges = st.tuples(numbers, numbers)


# ---- forms ----


@given(st.one_of(numbers, ranges, st.tuples(ranges, ranges)))
def test_a_length_survives_its_label_and_its_bounds(length):
    low, high = lengths.bounds(length)
    assert lengths.bounds(lengths.parse(lengths.label(length))) == (low, high)
    assert lengths.bounds(lengths.written(low, high)) == (low, high)
    assert [lengths.from_json(each) for each in json.loads(json.dumps([low, high]))] == [low, high]


@pytest.mark.parametrize(
    ("length", "low", "high", "label"),
    [
        (512, 512, 512, "512"),
        ((51, 100), 51, 100, "51:100"),
        ([51, 100], 51, 100, "51:100"),
        (Pair(3, 7), Pair(3, 7), Pair(3, 7), "3x7"),
        (((1, 10), (20, 30)), Pair(1, 20), Pair(10, 30), "1:10x20:30"),
        ([[3, 3], [7, 9]], Pair(3, 7), Pair(3, 9), "3x7:9"),
        ((Pair(1, 2), Pair(3, 4)), Pair(1, 2), Pair(3, 4), "1:3x2:4"),
    ],
)
def test_forms_of_a_length(length, low, high, label):
    assert lengths.bounds(length) == (low, high)
    assert lengths.label(length) == label


@pytest.mark.parametrize("text", ["", "x", "3x", "1:2:3", "3x4x5", "-1", "a", "3 x 4", "²"])
def test_what_is_no_length_is_not_parsed(text):
    with pytest.raises(ValueError, match=r"no length and no range|more than two lengths"):
        lengths.parse(text)


@pytest.mark.parametrize(
    ("length", "kind"), [((1, 2, 3), ValueError), ("12", TypeError), (5.0, TypeError), (((1, 2), 3), TypeError)]
)
def test_what_is_no_length_is_refused(length, kind):
    with pytest.raises(kind, match="length is"):
        lengths.bounds(length)


def test_a_pair_is_beyond_a_limit_in_either_length():
    assert lengths.exceeds(Pair(4, 1), Pair(3, 9))
    assert not lengths.exceeds(Pair(3, 9), Pair(3, 9))
    assert lengths.exceeds(51, 50)
    assert lengths.exceeds(Pair(30, 21), 50)


def test_streams_of_pairs_are_apart_from_all_others():
    pairs = [(Pair(a, b), Pair(c, d)) for a in (1, 2, 12) for b in (1, 21) for c in (2, 12) for d in (21, 30)]
    streams = [evaluation_stream(purpose, low, high) for purpose in ("test", "validation") for low, high in pairs]
    streams += [evaluation_stream("test", low, low + 9) for low in range(100)]
    assert len(set(streams)) == len(streams)
    assert all(0 < stream < 2**64 for stream in streams)


# ---- strings of two lengths ----


def operands(chosen, tokens: list[int]) -> list[int]:
    """The digits of each number before =."""
    plus, equals = (2, 3) if chosen.name == "addition" else (10, 11)
    signs = [0, *(i for i, token in enumerate(tokens) if token == plus), tokens.index(equals)]
    return [end - begin - 1 for begin, end in pairwise(signs)]


def rows_of(batch) -> list[list[int]]:
    return [batch.row(i).tolist() for i in range(batch.rows)]


@pytest.mark.parametrize("distribution", ["paper", "hard"])
@pytest.mark.parametrize("name", ADDITIONS)
def test_rows_of_two_lengths_equal_the_twin(name, distribution):
    @settings(max_examples=15)
    @given(
        low=st.tuples(st.integers(2, 12), st.integers(1, 70)),
        extra=st.tuples(st.integers(0, 4), st.integers(0, 9)),
        seed=st.integers(0, 2**64 - 1),
        first_row=st.integers(0, 2**32 - 9),
    )
    def compare(low, extra, seed, first_row):
        low, high = Pair(*low), Pair(low[0] + extra[0], low[1] + extra[1])
        length = ((low.first, high.first), (low.second, high.second))
        chosen, context = task(name), task(name).context_for(high) + 3
        options = dict(stream=4, first_row=first_row, context=context)
        batch = chosen.sample(3, length, seed, distribution, **options)
        for i, tokens in enumerate(rows_of(batch)):
            expected, offset, scored, targets = field_twins.paired_row(
                chosen, low, high, context, seed, 4, first_row + i, distribution
            )
            assert tokens == expected
            assert batch.offsets[i] == offset
            assert [array.tolist() for array in chosen.oracle(tokens)] == [scored, targets]

    compare()


@pytest.mark.parametrize("name", ["addition", "decimal_addition"])
def test_both_lengths_are_uniform_and_independent(name):
    chosen = task(name)
    drawn = [operands(chosen, tokens) for tokens in rows_of(chosen.sample(6000, ((2, 4), (7, 11)), 1))]
    counts = np.bincount([(a - 2) * 5 + b - 7 for a, b in drawn], minlength=15)
    assert len(counts) == 15
    assert stats.chisquare(counts).pvalue > 1e-4


def test_operands_are_uniform_in_number_and_size():
    chosen = task("multi_operand_addition")
    drawn = [operands(chosen, tokens) for tokens in rows_of(chosen.sample(6000, ((2, 5), (3, 6)), 1))]
    assert stats.chisquare(np.bincount([len(each) for each in drawn])[2:]).pvalue > 1e-4
    assert stats.chisquare(np.bincount([size for each in drawn for size in each])[3:]).pvalue > 1e-4


@pytest.mark.parametrize("name", ADDITIONS)
@pytest.mark.parametrize("pair", [Pair(2, 1), Pair(2, 2), Pair(3, 2), Pair(9, 4), Pair(12, 30), Pair(64, 65)])
def test_tokens_at_a_pair_are_reached_and_never_passed(name, pair):
    chosen = task(name)
    batch = chosen.sample(4000, pair, 2, "hard" if "multi" not in name else "paper")
    assert batch.longest <= chosen.tokens_at(pair) == chosen.context_for(pair)
    if "multi" not in name or pair.first > 12 or pair in (Pair(3, 2), Pair(9, 4)):
        assert batch.longest == chosen.tokens_at(pair)


@pytest.mark.parametrize("name", ADDITIONS)
def test_threads_and_splits_change_no_row_of_two_lengths(name):
    chosen, length = task(name), ((2, 9), (1, 60))
    one = chosen.sample(300, length, 3, context=2000, threads=1)
    other = chosen.sample(300, length, 3, context=2000, threads=4)
    assert rows_of(one) == rows_of(other)
    assert one.offsets.tolist() == other.offsets.tolist()
    assert rows_of(chosen.sample(7, length, 3, context=2000, first_row=290)) == rows_of(one)[290:297]


def test_a_pair_of_the_paper_s_addition_is_a_string_of_their_sum():
    chosen = task("addition")
    for tokens in rows_of(chosen.sample(200, Pair(5, 9), 3)):
        assert operands(chosen, tokens) == [5, 9]
        assert tokens.index(3) == 16 == 5 + 9 + 2


BAD_LENGTHS = [
    ("decimal_addition", ((0, 3), (1, 3)), "the digits of the first number of decimal_addition must be in 1..524287"),
    ("decimal_addition", ((3, 2), (1, 3)), "length is 3:2x1:3, where 3:2 is reversed; write low:high"),
    ("decimal_addition", Pair(1, 2**19), "the digits of the second number of decimal_addition"),
    ("decimal_addition", ((1, 2**19 - 1), (1, 2**19 - 1)), "pairs; 2147483648 fit at most"),
    ("multi_operand_addition", Pair(1, 3), "the number of operands of multi_operand_addition must be in 2..99"),
    ("multi_operand_addition", Pair(2, 10_001), "the digits of each operand"),
]


@pytest.mark.parametrize(("name", "length", "message"), BAD_LENGTHS)
def test_a_pair_that_a_task_cannot_draw_is_refused(name, length, message):
    with pytest.raises(ValueError, match="length is") as error:
        task(name).sample(1, length)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_task_of_one_length_refuses_two():
    with pytest.raises(ValueError, match="length is 1:2x3:4, and strings of parity have one length"):
        task("parity").sample(1, ((1, 2), (3, 4)))
    with pytest.raises(ValueError, match="length is 3x4, and strings of parity have one length"):
        lf.evaluate(lf.Transformer(lf.ModelConfig(7, 1, 1, 4, "nope")), task("parity"), [Pair(3, 4)])


def test_a_pair_must_fit_into_the_position_table():
    chosen = task("decimal_addition")
    model = lf.Transformer(lf.ModelConfig(chosen.vocab_size, 1, 1, 4, "ape", context=20))
    with pytest.raises(
        ValueError, match="decimal_addition at length 9x4 needs 27 positions and the position table has 20"
    ):
        lf.evaluate(model, chosen, [((1, 9), (1, 4))])


# ---- results by pair ----


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was trained and tested on pairs, through the command line."""
    directory = tmp_path_factory.mktemp("pairs") / "run"
    command = ["run", "decimal_addition", "--layers", "1", "--width", "16", "--steps", "12", "--count", "20"]
    lengths_asked = ["--train-length", "1:2x1:3", "--eval-lengths", "1:2x1:3", "4x7", "3:5x1", "30"]
    assert main([*command, *lengths_asked, "--out", str(directory)]) == 0
    return directory


def test_results_are_kept_by_pair(finished):
    content = json.loads((finished / "accuracy.json").read_text())
    assert [(line["low"], line["high"]) for line in content["lines"]] == [
        ([1, 1], [2, 3]),
        ([4, 7], [4, 7]),
        ([3, 1], [5, 1]),
        (30, 30),
    ]
    table = AccuracyTable.from_dict(content)
    assert table[Pair(4, 7)].label == "4x7"
    assert table[(3, 5), (1, 1)].count == table[30].count == 20
    assert json.loads(json.dumps(table.as_dict()["lines"])) == content["lines"]
    config = json.loads((finished / "config.json").read_text())
    assert config["train"]["length"] == [[1, 2], [1, 3]]
    # the table holds the longest string of any of them
    assert config["model"]["context"] == task("decimal_addition").context_for(30)


def test_the_command_line_shows_and_takes_pairs(finished, capsys):
    assert main(["evaluate", str(finished), "--lengths", "2x3", "1:2x4:5", "--count", "5"]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == ["2x3", "1:2x4:5"]
    assert main(["report", str(finished), "--out", str(finished / "figure.png")]) == 0
    assert main(["generate", "decimal_addition", "--length", "2:3x1", "--count", "5", "--format", "json"]) == 0
    strings = [json.loads(line)["tokens"] for line in capsys.readouterr().out.splitlines()[-5:]]
    assert all(string.index("+") in (3, 4) and string.index("=") - string.index("+") == 2 for string in strings)


def test_a_run_on_pairs_is_resumed_with_the_same_pairs_only(finished, capsys):
    again = ["run", "decimal_addition", "--resume", "--out", str(finished)]
    assert main([*again, "--train-length", "1:2x1:3", "--eval-lengths", "1:2x1:3", "4x7", "3:5x1", "30"]) == 0
    assert main([*again, "--train-length", "1:2x1:4"]) == 2
    assert "was begun with --train-length" in capsys.readouterr().err


def test_pairs_are_tested_up_to_twice_their_training_lengths_by_default(tmp_path, capsys):
    command = ["run", "multi_operand_addition", "--layers", "1", "--width", "16", "--steps", "3", "--count", "5"]
    assert main([*command, "--train-length", "2:3x1:2", "--out", str(tmp_path / "run")]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    heading = shown.index("length")
    assert shown[heading + 1 : heading + 3] == ["2:3x1:2", "4:6x3:4"]


@pytest.mark.parametrize("text", ["3x", "3x4x5", "1:2:3x4"])
def test_the_command_line_refuses_what_is_no_length(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "decimal_addition", "--length", text])
    assert stop.value.code == 2
    assert f"'{text}' is not a length such as 512" in capsys.readouterr().err


def test_training_on_pairs_draws_strings_of_those_lengths():
    chosen = task("decimal_addition")
    stream = lf.Stream(chosen, 50, ((1, 2), (4, 5)), seed=7, stop=3)
    sizes = {tuple(operands(chosen, tokens)) for batch in stream for tokens in rows_of(batch)}
    assert sizes == {(1, 4), (1, 5), (2, 4), (2, 5)}
    shape, config = lf.default_configs(
        chosen, "ape", model=dict(layers=1, width=16), train=dict(steps=2, length=((1, 2), (4, 5)), test_count=5)
    )
    run = lf.train(shape, chosen, config)
    assert (run.in_range.low, run.in_range.high) == (Pair(1, 4), Pair(2, 5))
