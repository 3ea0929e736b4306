"""Accuracy against length: counts against a loop over strings, what is drawn, what is refused, and memory."""

import json

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binomtest

import lengen_fast as lf
from lengen_fast import evaluation
from lengen_fast.data import evaluation_stream
from lengen_fast.evaluation import (
    Accuracy,
    AccuracyTable,
    correct_positions,
    evaluate,
    percentage,
    wilson_interval,
)
from lengen_fast.training import training_loss

MAJORITY, COPY = lf.task("binary_majority"), lf.task("repeat_copy")


class Answering(lf.Transformer):
    """Predicts the target at every scored position, but the next token of the alphabet where ``wrong`` says so.

    ``wrong`` gets the tokens of a string and the number of its scored position. What came in is kept in ``seen``.
    """

    def __init__(self, task, wrong=lambda tokens, place: False, positions="nope", context=154):
        super().__init__(lf.ModelConfig(task.vocab_size, 1, 1, 4, positions, context))
        self.task, self.wrong, self.seen = task, wrong, []

    def hidden(self, tokens, *, cu_seqlens, offsets, rows):
        predictions, bounds = [], cu_seqlens.cu_seqlens.tolist()
        for begin, end, offset in zip(bounds, bounds[1:], offsets.tolist(), strict=False):
            string = tokens[begin:end].tolist()
            self.seen.append((offset, *string))
            for place, target in enumerate(self.task.oracle(string)[1].tolist()):
                predictions.append((target + self.wrong(string, place)) % self.task.vocab_size)
        return torch.nn.functional.one_hot(torch.tensor(predictions), self.task.vocab_size).float()

    def unembed(self, hidden):
        return hidden


def some(tokens, place):
    """Wrong at about a tenth of the positions."""
    return (3 * sum(tokens) + 7 * place + len(tokens)) % 11 == 0


def count_one_by_one(model, task, low, high, *, count, distribution="paper", context=None, seed=0):
    """The same figures from a loop over strings, each alone, in Python lists."""
    stream = evaluation_stream("test", low, high)
    batch = task.sample(count, (low, high), seed, distribution, stream=stream, context=context)
    correct = positions = positions_correct = 0
    first_wrong = []
    for index in range(count):
        tokens = batch.row(index)
        scored, targets = (array.tolist() for array in task.oracle(tokens.numpy()))
        with torch.no_grad():
            logits = model(tokens, offsets=batch.offsets[index : index + 1]).tolist()
        right = [
            max(range(len(logits[0])), key=logits[i].__getitem__) == t for i, t in zip(scored, targets, strict=True)
        ]
        positions += len(right)
        positions_correct += sum(right)
        correct += all(right)
        first_wrong += [] if all(right) else [right.index(False)]
    first_wrong.sort()
    middle = len(first_wrong) // 2
    median = (first_wrong[middle] + first_wrong[-middle - 1]) / 2 if first_wrong else None
    offsets = "zero" if context is None else "random"
    earliest = first_wrong[0] if first_wrong else None
    return Accuracy(low, high, distribution, offsets, count, correct, positions, positions_correct, earliest, median)


@pytest.fixture(scope="module")
def trained():
    """A model that has learned a task in part, by the task's name and the encoding."""
    models = {}

    def train(name, positions):
        if (name, positions) not in models:
            task = lf.task(name)
            shape, config = lf.default_configs(
                task,
                positions,
                model=dict(layers=1, heads=2, width=16),
                train=dict(steps=60, batch=16, learning_rate=1e-2, length=(3, 9), test_every=60, test_count=1),
            )
            models[name, positions] = lf.train(shape, task, config).model
        return models[name, positions]

    return train


# ---- counts ----


@pytest.mark.parametrize("positions", ["ape", "nope"])
@pytest.mark.parametrize("distribution", ["paper", "hard"])
@pytest.mark.parametrize("name", ["majority", "binary_majority_interleave", "parity", "repeat_copy"])
def test_counts_follow_a_loop_over_strings(name, distribution, positions, trained):
    task, model = lf.task(name), trained(name, positions)
    wrong = 0
    for low, high in ((task.reachable(1, 9)[0], 9), (12, 12), (30, 40)):
        table = evaluate(model, task, [(low, high)], count=60, distribution=distribution)
        expected = count_one_by_one(model, task, low, high, count=60, distribution=distribution)
        assert table[low, high] == expected
        wrong += expected.count - expected.correct
    assert wrong > 0


@pytest.mark.parametrize("name", ["binary_majority", "unique_copy"])
def test_random_offsets_follow_a_loop_over_strings(name, trained):
    task, model = lf.task(name), trained(name, "ape")
    line = evaluate(model, task, [(2, 8)], count=80, offsets="random")[2, 8]
    assert line == count_one_by_one(model, task, 2, 8, count=80, context=model.config.context)
    assert line != evaluate(model, task, [(2, 8)], count=80)[2, 8]


@pytest.mark.parametrize("tokens_at_once", [1, 50, 333, 1 << 20])
@pytest.mark.parametrize("logits_at_once", [1, 20, 1 << 20])
def test_the_size_of_a_pass_changes_nothing(tokens_at_once, logits_at_once, trained, monkeypatch):
    task, model = lf.task("repeat_copy"), trained("repeat_copy", "ape")
    whole = evaluate(model, task, [(1, 9), 20], count=50, offsets="random")
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", tokens_at_once)
    monkeypatch.setattr(evaluation, "LOGITS_AT_ONCE", logits_at_once)
    assert evaluate(model, task, [(1, 9), 20], count=50, offsets="random") == whole


@pytest.mark.parametrize("name", list(lf.tasks()))
def test_a_model_that_is_always_right_gets_exactly_one(name):
    task = lf.task(name)
    low = task.min_length
    line = evaluate(Answering(task), task, [(low, low + 20)], count=100)[low, low + 20]
    assert (line.exact, line.per_position, line.correct, line.count) == (1.0, 1.0, 100, 100)
    assert line.first_wrong_earliest is None
    assert line.first_wrong_median is None


def test_one_wrong_position_makes_a_string_wrong():
    """Wrong at place 2, and later too, in strings of an even number of tokens; right everywhere else."""
    task = lf.task("repeat_copy")
    model = Answering(task, lambda tokens, place: len(tokens) % 4 == 1 and place in (2, 5))
    line = evaluate(model, task, [(5, 12)], count=200)[5, 12]
    spoiled = [string for string in model.seen if len(string[1:]) % 4 == 1]
    assert 0 < len(spoiled) < 200
    assert line.correct == 200 - len(spoiled)
    assert line.positions_correct == line.positions - 2 * len(spoiled)
    assert (line.first_wrong_earliest, line.first_wrong_median) == (2, 2.0)


def test_median_of_the_first_wrong_positions_lies_between_the_middle_two():
    task, strings = lf.task("repeat_copy"), []

    def wrong(tokens, place):
        if tokens not in strings:
            strings.append(tokens)
        return place == [7, 1, 4, 2][strings.index(tokens)]

    line = evaluate(Answering(task, wrong), task, [30], count=4)[30]
    assert (line.correct, line.first_wrong_earliest, line.first_wrong_median) == (0, 1, 3.0)


@pytest.mark.parametrize("name", ["binary_majority", "majority", "binary_majority_interleave", "parity"])
def test_guessing_the_answer_is_near_chance(name):
    """A guesser that knows the format: EOS is right, each token of the answer is drawn from those it can be."""
    task, numbers = lf.task(name), torch.Generator().manual_seed(0)
    answers = {"majority": range(26), "parity": (2, 3)}.get(name, (0, 1))

    class Guessing(Answering):
        def hidden(self, *arguments, **more):
            predictions = super().hidden(*arguments, **more).argmax(1)
            guesses = torch.tensor(answers)[torch.randint(len(answers), predictions.shape, generator=numbers)]
            guesses = torch.where(predictions == task.eos, predictions, guesses)
            return torch.nn.functional.one_hot(guesses, task.vocab_size).float()

    line = evaluate(Guessing(task), task, [(20, 50)], count=2000)[20, 50]
    assert line.correct == pytest.approx(2000 * task.chance, abs=5 * (2000 * task.chance * (1 - task.chance)) ** 0.5)


def test_evaluating_a_batch_leaves_it_fit_for_training():
    model, batch = lf.Transformer(lf.ModelConfig(MAJORITY.vocab_size, 1, 1, 8)), MAJORITY.sample(4, (1, 9))
    assert not correct_positions(model, batch).requires_grad
    training_loss(model, batch).backward()


# ---- intervals ----


@pytest.mark.parametrize(
    ("share", "digits", "shown"),
    [
        (0, 2, "0.00%"),
        (1, 2, "100.00%"),
        (1.0, 1, "100.0%"),
        (0.9995, 1, "99.9%"),
        (0.999999, 2, "99.99%"),
        (1e-9, 2, "0.01%"),
        (0.5, 2, "50.00%"),
        (0.98766, 2, "98.77%"),
    ],
)
def test_only_all_is_100_percent_and_only_none_is_0(share, digits, shown):
    assert percentage(share, digits) == shown


@given(st.integers(1, 5000), st.data())
@example(1, None)
@example(2000, None)
def test_wilson_interval_is_that_of_scipy(count, data):
    for correct in (0, 1, count - 1, count) if data is None else (data.draw(st.integers(0, count)),):
        expected = binomtest(correct, count).proportion_ci(method="wilson")
        assert wilson_interval(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0.0 <= wilson_interval(correct, count)[0] <= correct / count <= wilson_interval(correct, count)[1] <= 1.0


# ---- what is drawn ----


def strings_of(purpose="test", seed=0, count=50, lengths=((30, 40),)):
    """What an evaluation draws: random letters, so that two strings of 30 are the same once in a billion pairs."""
    model = Answering(COPY)
    evaluate(model, COPY, lengths, count=count, seed=seed, purpose=purpose)
    return [string[1:] for string in model.seen]


def test_strings_depend_on_the_seed_and_the_purpose_alone():
    test = strings_of()
    assert test == strings_of()
    assert test == strings_of(lengths=((1, 50), (30, 40)))[-50:]
    for others in (strings_of("validation"), strings_of(seed=1), training_strings()):
        assert not set(test) & set(others)


def training_strings(steps=20):
    batches = [COPY.sample(50, (30, 40), 0, stream=step) for step in range(steps)]
    return [tuple(batch.row(index).tolist()) for batch in batches for index in range(50)]


def test_all_strings_are_in_the_range_and_differ():
    strings = strings_of(count=300)
    assert {(len(string) - 3) // 2 for string in strings} == set(range(30, 41))
    assert len(set(strings)) == 300


@pytest.mark.parametrize(
    ("count", "token_budget", "expected"),
    [(None, 1 << 20, 2000), (None, 54 * 10, 10), (None, 54 * 10 - 1, 9), (None, 1, 1), (7, 1, 7), (2500, 1, 2500)],
)
def test_number_of_strings(count, token_budget, expected):
    """2,000 unless ``count`` or, at 50 symbols and 4 special tokens a string, the budget says otherwise."""
    line = evaluate(Answering(MAJORITY), MAJORITY, [(1, 50)], count=count, token_budget=token_budget)[1, 50]
    assert line.count == expected
    assert line.positions == 2 * expected


def test_the_default_budget_thins_out_long_strings():
    assert evaluate(Answering(MAJORITY), MAJORITY, [1 << 17])[1 << 17].count == 7


def test_offsets_are_zero_unless_asked_for():
    def offsets(**options):
        model = Answering(MAJORITY, positions="ape", context=60)
        evaluate(model, MAJORITY, [(1, 50)], count=400, **options)
        return [(string[0], len(string) - 1) for string in model.seen]

    assert {offset for offset, _ in offsets()} == {0}
    random = offsets(offsets="random")
    assert all(offset + tokens <= 60 for offset, tokens in random)
    assert any(offset + tokens == 60 for offset, tokens in random)
    assert len({offset for offset, _ in random}) > 30


def test_progress_counts_up_to_the_strings_of_each_range(monkeypatch):
    monkeypatch.setattr(evaluation, "TOKENS_AT_ONCE", 60)
    calls = []
    evaluate(Answering(MAJORITY), MAJORITY, [8, (9, 16)], count=7, progress=lambda *call: calls.append(call))
    assert calls == [(0, 5, 7), (0, 7, 7), (1, 3, 7), (1, 6, 7), (1, 7, 7)]


# ---- what is refused ----


class Idle(Answering):
    def hidden(self, *arguments, **more):
        raise AssertionError("work began before the check")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": []}, "lengths is empty"),
        ({"lengths": [5, (1, 2, 3)]}, "length is .1, 2, 3.; it must be one integer, .low, high. or"),
        ({"lengths": [5, 0]}, "length starts at 0; the shortest string of binary_majority has length 1"),
        ({"lengths": [5, (9, 8)]}, "length is .9, 8., which is reversed"),
        ({"lengths": [5, 1 << 21]}, "length ends at 2097152; the longest string"),
        ({"lengths": [5, 151]}, "at length 151 needs 155 positions .* has 154: .*--context 155.*nope"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": -1}, "count must be at least 1, got -1"),
        ({"token_budget": 0}, "token_budget must be at least 1, got 0"),
        ({"offsets": "any"}, "unknown offsets 'any': choose one of zero, random"),
        ({"distribution": "soft"}, "distribution is 'soft'"),
        ({"purpose": "train"}, "purpose is 'train'"),
        ({"seed": -1}, "seed is -1"),
        ({"task": lf.task("parity")}, "the model has 5 tokens and task parity has 7"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named_before_any_work(changes, message):
    arguments = {"model": Idle(MAJORITY, positions="ape"), "task": MAJORITY, "lengths": [5]} | changes
    with pytest.raises(ValueError, match=message):
        evaluate(**arguments)


@pytest.mark.parametrize("length", ["5", 1.5, True, (1.0, 5)])
def test_lengths_that_are_no_whole_numbers_are_refused(length):
    with pytest.raises(TypeError, match=r"length is .*; it must be an integer"):
        evaluate(Idle(MAJORITY), MAJORITY, [length])


def test_more_symbols_than_the_alphabet_has_are_refused():
    task = lf.task("unique_copy", symbols=20)
    with pytest.raises(
        ValueError, match=r"unique_copy with 20 symbols .* take more symbols: task\('unique_copy', symbols=...\)"
    ):
        evaluate(Idle(task), task, [5, 21])


def test_a_range_is_judged_by_the_lengths_that_can_be_drawn():
    """Interleaved strings have lengths divisible by 3: the longest of 3..50 has 48 symbols and 54 tokens."""
    task = lf.task("binary_majority_interleave")
    assert evaluate(Answering(task, positions="ape", context=54), task, [(3, 50)], count=5)[3, 50].exact == 1.0
    with pytest.raises(ValueError, match="at length 48 needs 54 positions and the position table has 53"):
        evaluate(Idle(task, positions="ape", context=53), task, [(3, 50)], count=5)
    with pytest.raises(ValueError, match=r"length is \(4, 5\), where binary_majority_interleave has no string"):
        evaluate(Idle(task), task, [(4, 5)])


# ---- the table ----


def test_a_table_survives_its_dictionary_and_json():
    table = evaluate(Answering(MAJORITY, some), MAJORITY, [(1, 9), 100], count=200)
    assert 0 < table[100].correct < 200
    content = json.loads(json.dumps(table.as_dict()))
    assert AccuracyTable.from_dict(content) == table
    line = content["lines"][1]
    assert line["exact"] == table[100].correct / 200
    assert line["per_position"] == table[100].positions_correct / 400
    assert line["interval"] == list(wilson_interval(table[100].correct, 200))


def test_lines_are_found_by_their_lengths():
    table = evaluate(Answering(MAJORITY), MAJORITY, [(1, 9), 12], count=3)
    assert len(table) == 2
    assert [line.label for line in table] == ["1:9", "12"]
    assert (table[12].low, table[12, 12], table[1, 9].high) == (12, table[12], 9)
    with pytest.raises(KeyError, match=r"no line for lengths 9; there are 1:9, 12"):
        table[9]


# ---- memory ----

EVALUATE = """
import lengen_fast as lf
task = lf.task("binary_majority")
def run(layers, length):
    model = lf.Transformer(lf.ModelConfig(task.vocab_size, layers, 4, 64, "nope"))
    assert lf.evaluate(model, task, [length], count=1)[length].positions == 2
run(2, 8)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "length"), [(2, 16_384), (1, 262_144)])
def test_long_strings_take_memory_linear_in_their_length(layers, length, memory_growth):
    """The scores of one head would take 1 GiB at 16,384 tokens, 256 GiB at 262,144."""
    assert memory_growth(EVALUATE, f"run({layers}, {length})") < 512 << 20
