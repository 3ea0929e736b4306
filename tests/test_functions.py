"""A Python function as a task: the protocol of the engine's tasks, and one clear sentence for what it does wrong."""

import numpy as np
import pytest
import torch
from scipy import stats

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.data import evaluation_stream
from lengen_fast.tasks import functions
from lengen_fast.training import TrainConfig, default_configs

ARRAYS = ("tokens", "cu_seqlens", "offsets", "scored", "targets")


def backwards(rng, n):
    """Two letters, then the same backwards."""
    x = rng.integers(0, 2, n)
    return x, x[::-1]


def marked(rng, n):
    """Every letter b is scored, and asks for a."""
    x = ["b", *rng.choice(["a", "b"], n - 1)]
    return ["<bos>", *x, "<eos>"], [i + 1 for i, letter in enumerate(x) if letter == "b"], "a " * x.count("b")


def same(one, other) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


@pytest.fixture
def task():
    return lf.task_from_function(backwards, symbols="ab")


def test_a_question_and_its_answer_are_framed(task):
    batch = task.sample(50, (1, 9), seed=3)
    begin = 0
    for i in range(50):
        names = task.decode(batch.row(i))
        x, y = " ".join(names).removeprefix("<bos>").removesuffix("<eos>").split("<sep>")
        assert y.split() == x.split()[::-1]
        scored = batch.scored[begin : begin + len(y.split()) + 1] - batch.cu_seqlens[i]
        assert [names[at + 1] for at in scored] == [*y.split(), "<eos>"]
        assert task.decode(batch.targets[begin : begin + len(scored)]) == [*y.split(), "<eos>"]
        begin += len(scored)
    assert begin == len(batch.scored)
    assert (batch.longest, batch.most_scored) == (int(batch.lengths.max()), int(batch.lengths.max()) // 2)
    assert {str(getattr(batch, name).dtype) for name in ARRAYS} == {"torch.int64", "torch.int32"}


def test_tokens_scored_and_targets_are_taken_as_they_are():
    task = lf.task_from_function(marked, symbols="ab", tokens_at=lambda n: n + 2)
    batch = task.sample(20, (1, 30), seed=4)
    assert (batch.tokens[batch.scored] == 1).all()
    assert len(batch.scored) == int((batch.tokens == 1).sum())
    assert not batch.targets.any()
    assert task.description == "Every letter b is scored, and asks for a."


def test_any_row_is_the_same_whoever_asks(task):
    whole = task.sample(40, (1, 20), 5, stream=7, context=60)
    part = task.sample(9, (1, 20), 5, stream=7, context=60, first_row=31)
    for i in range(9):
        assert torch.equal(part.row(i), whole.row(31 + i))
    assert torch.equal(part.offsets, whole.offsets[31:])
    assert same(whole, lf.task_from_function(backwards, symbols="ab").sample(40, (1, 20), 5, stream=7, context=60))
    assert same(whole, task.sample(40, (1, 20), 5, stream=7, context=60, threads=4))
    strings = {
        tuple(task.sample(1, 60, seed, stream=stream, first_row=row).tokens.tolist())
        for seed in (0, 1, 2**63)
        for stream in (0, 1, 2**63)
        for row in (0, 1)
    }
    assert len(strings) == 18
    without = task.sample(40, (1, 20), 5, stream=7)
    assert torch.equal(without.tokens, whole.tokens)
    assert not without.offsets.any()


def test_lengths_and_offsets_are_uniform(task):
    batch = task.sample(3000, (2, 6), 6, context=15)
    n = (batch.lengths.numpy() - 3) // 2
    assert stats.chisquare(np.bincount(n)[2:]).pvalue > 1e-4
    offsets = batch.offsets.numpy()[n == 3]
    assert stats.chisquare(np.bincount(offsets, minlength=7)).pvalue > 1e-4


def test_a_stream_gives_the_batches_of_its_steps(task):
    for start, trim in ((0, False), (3, True)):
        with lf.Stream(task, 6, (1, 9), 8, start=start, stop=7, trim=trim, context=40, threads=3) as stream:
            batches = list(stream)
        assert len(batches) == 7 - start
        for step, batch in enumerate(batches, start):
            drawn = task.sample(6, (1, 9), 8, stream=step, context=40)
            assert torch.equal(batch.targets, drawn.targets)
            assert torch.equal(batch.offsets, drawn.offsets)
            expected = [
                drawn.row(i)[: None if not trim else -1] for i in range(6)
            ]  # the last token is behind the last scored
            assert [batch.row(i).tolist() for i in range(6)] == [row.tolist() for row in expected]
            assert torch.equal(batch.tokens[batch.scored], drawn.tokens[drawn.scored])
    stream = lf.Stream(task, 2, 5)
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_function_is_trained_and_evaluated_like_any_task(task, tmp_path):
    shape, config = lf.default_configs(
        task,
        "ape",
        longest=20,
        model=dict(layers=1, width=16),
        train=dict(steps=6, batch=8, test_every=3, test_count=9),
    )
    run = lf.train(shape, task, config, out=tmp_path / "run")
    again = lf.train(shape, lf.task_from_function(backwards, symbols="ab"), config)
    for one, other in zip(run.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    table = lf.evaluate(run.model, task, [(1, 9), 20], count=30)
    assert table[1, 9].count == table[20].count == 30
    assert lf.evaluate(run.model, task, [(1, 9), 20], count=30) == table
    with pytest.raises(
        ValueError, match=r"was made from the Python function test_functions.backwards, which is not stored"
    ):
        lf.RunDirectory.open(tmp_path / "run").task  # noqa: B018


def test_evaluation_sets_are_drawn_once(monkeypatch):
    calls = []

    def counted(rng, n):
        calls.append(n)
        return backwards(rng, n)

    task = lf.task_from_function(counted, symbols="ab")
    stream = evaluation_stream("test", 1, 9)
    first = task.sample(20, (1, 9), stream=stream)
    first.tokens[:] = 0  # what a caller does to its batch is its own affair
    again = task.sample(20, (1, 9), stream=stream)
    assert len(calls) == 20
    assert int(again.tokens.max()) > 0
    assert same(again, lf.task_from_function(backwards, symbols="ab").sample(20, (1, 9), stream=stream))
    task.sample(20, (1, 9), seed=1, stream=stream)
    task.sample(20, (1, 9), stream=stream, first_row=20)
    task.sample(20, (1, 9), stream=3)
    task.sample(20, (1, 9), stream=3)
    assert len(calls) == 100
    monkeypatch.setattr(functions, "_CACHED_TOKENS", 100)
    task.sample(4, 9, seed=2, stream=stream)
    task.sample(4, 9, seed=3, stream=stream)  # which leaves no room for the one before
    task.sample(4, 9, seed=3, stream=stream)
    task.sample(4, 9, seed=2, stream=stream)
    assert len(calls) == 112


def test_a_function_may_have_a_hard_distribution_and_an_oracle():
    task = lf.task_from_function(
        backwards,
        symbols="ab",
        name="mirror",
        hard=lambda rng, n: ("a " * n, "a " * n),
        oracle=lf.task("reverse").answer,
        longest=30,
    )
    assert task.distributions == ("paper", "hard")
    assert int((task.sample(5, 9, 0, "hard").tokens == 1).sum()) == 0
    batch = task.sample(1, 9)
    scored, targets = task.oracle(batch.tokens.numpy())
    assert scored.tolist() == batch.scored.tolist()
    assert targets.tolist() == batch.targets.tolist()
    with pytest.raises(ValueError, match="longest string of mirror has length 30"):
        task.sample(1, 31)
    plain = lf.task_from_function(backwards, symbols="ab")
    with pytest.raises(ValueError, match="distribution is 'hard'; it must be 'paper'"):
        plain.sample(1, 9, 0, "hard")
    with pytest.raises(ValueError, match="backwards has no oracle"):
        plain.oracle([0])


# ---- what a function does wrong ----

BAD_RETURNS = [
    (lambda rng, n: None, r"returned None; it must return \(x, y\) or \(tokens, scored, targets\)"),
    (lambda rng, n: ([0], [1], [2], [3]), r"returned \(\[0\], \[1\], \[2\], \[3\]\); it must return"),
    (lambda rng, n: ([[0, 1]], [0]), r"returned x of shape \(1, 2\) and type int64; it must be a sequence of integers"),
    (lambda rng, n: ([0, 1], [[0], [1, 0]]), "returned y of shape"),
    (lambda rng, n: ([0.5], [0]), "returned x of shape .* type float64"),
    (lambda rng, n: (3, [0]), r"returned x of shape \(\) and type int64"),
    (lambda rng, n: ([0, 7], [0]), "returned x with the id 7; ids must be in 0..4"),
    (lambda rng, n: ([0, -1], [0]), "returned x with the id -1"),
    (lambda rng, n: ("a c", [0]), "returned x: text has 'c', which is no symbol of bad"),
    (lambda rng, n: ([0, 1, 0], [0, 1], [1]), "returned 2 scored positions and 1 targets; give as many of both"),
    (lambda rng, n: ([0, 1, 0], [], []), "returned no scored position"),
    (lambda rng, n: ([0, 1, 0], [1, 1], [0, 0]), r"returned scored = \[1, 1\]; positions must increase, from 0 to 2"),
    (lambda rng, n: ([0, 1, 0], [3], [0]), "positions must increase, from 0 to 2"),
    (lambda rng, n: ([0, 1, 0], [-1], [0]), "positions must increase"),
    (lambda rng, n: ([0, 1, 0], [True], [0]), "returned scored of shape"),
    (lambda rng, n: ([0] * 9, [0] * 9), r"returned a string of 21 tokens, and tokens_at\(5\) is 13; give the right"),
]


@pytest.mark.parametrize(("function", "message"), BAD_RETURNS)
def test_what_a_function_returns_is_checked(function, message):
    task = lf.task_from_function(function, symbols="ab", name="bad")
    with pytest.raises(ValueError, match=message) as error:
        task.sample(1, 5, seed=3, stream=4, first_row=6)
    assert str(error.value).startswith("bad for n = 5 (seed 3, stream 4, row 6) returned")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        next(lf.Stream(task, 1, 5))


def test_an_error_of_the_function_itself_is_not_hidden():
    def fails(rng, n):
        raise KeyError("mine")

    where = r"the function of fails failed for n = 5 \(seed 3, stream 4, row 6\): KeyError: 'mine'"
    with pytest.raises(RuntimeError, match=where) as error:
        lf.task_from_function(fails, symbols="ab").sample(1, 5, seed=3, stream=4, first_row=6)
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"function": 7}, TypeError, "function is 7; it must be a function"),
        ({"oracle": 7}, TypeError, "oracle is 7; it must be a function"),
        ({"symbols": ""}, ValueError, "symbols is ''; it must be distinct names"),
        ({"symbols": ["a", "a"]}, ValueError, "must be distinct names"),
        ({"symbols": ["a b"]}, ValueError, "without spaces"),
        ({"symbols": ["<bos>"]}, ValueError, "must be distinct names"),
        ({"symbols": [1]}, ValueError, "must be distinct names"),
        ({"symbols": 5}, ValueError, "symbols is 5; it must be distinct names"),
        ({"symbols": ["a\u200b"]}, ValueError, "must be distinct names"),
        ({"shortest": 9, "longest": 3}, ValueError, "shortest and longest are 9 and 3"),
        ({"shortest": "3"}, TypeError, "shortest is '3'; it must be an integer"),
        ({"shortest": 1.5}, TypeError, "shortest is 1.5; it must be an integer"),
        ({"longest": None}, TypeError, "longest is None; it must be an integer"),
        ({"chance": 7}, ValueError, "chance is 7; it must be a number from 0 to 1"),
        ({"chance": "half"}, ValueError, "chance is 'half'"),
        ({"name": 3}, ValueError, "name is 3; it must be a name without slashes"),
        ({"name": "../../x"}, ValueError, "name is '../../x'; it must be a name without slashes"),
        ({"name": ""}, ValueError, "name is ''"),
        ({"tokens_at": lambda n: "many"}, TypeError, r"tokens_at\(1\) is 'many'; it must be an integer"),
    ],
)
def test_bad_arguments_are_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        lf.task_from_function(**({"function": backwards, "symbols": "ab"} | arguments))


def test_report_of_a_run_of_a_function_says_to_test_it_in_python(task, tmp_path, capsys):
    model, _ = default_configs(task, model=dict(layers=1, width=16))
    lf.train(model, task, TrainConfig(steps=1, batch=2, test_count=2), out=tmp_path / "run")
    assert main(["report", str(tmp_path / "run")]) == 1
    assert "was trained on a Python function: test it in Python, with lf.evaluate\n" in capsys.readouterr().err
