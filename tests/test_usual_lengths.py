"""The lengths that are drawn, trained and evaluated if nobody says."""

import pytest

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.training import TrainConfig, default_configs


@pytest.mark.parametrize("name", list(lf.tasks()))
def test_those_of_every_named_task_are_the_papers(name):
    task = lf.task(name)
    assert task.usual_lengths == (task.min_length, 50)
    assert task.usual_bins == [(task.min_length, 50), (51, 100), (101, 150)]


@pytest.mark.parametrize(
    ("regex", "lengths", "bins"),
    [
        ("ab|abc", (2, 3), [(2, 3)]),
        ("a{60}a*", (60, 110), [(60, 110), (111, 160), (161, 210)]),
        ("a{60}", (60, 60), [(60, 60)]),
        ("a|a{120}", (1, 50), [(1, 50), (101, 120)]),
        ("(a{60})*", (0, 50), [(0, 50), (51, 100), (101, 150)]),
    ],
)
def test_those_of_a_language_follow_its_shortest_and_longest_string(regex, lengths, bins):
    task = lf.language(regex=regex)
    assert task.usual_lengths == lengths
    assert task.usual_bins == bins
    model, train = default_configs(task)
    assert train.length == lengths
    assert model.context == bins[-1][1] + 2
    drawn = [len(row) for row in task.sample(20).tokens.tensor_split(task.sample(20).cu_seqlens[1:-1].tolist())]
    assert all(lengths[0] <= tokens - 2 <= lengths[1] for tokens in drawn)


def test_those_of_a_function_end_at_its_longest():
    task = lf.task_from_function(lambda generator, n: ([0] * n, [0]), symbols=["a"], name="short", longest=20)
    assert task.usual_lengths == (1, 20)
    model, _ = default_configs(task, model=dict(layers=1, width=16))
    run = lf.train(model, task, TrainConfig(steps=1, batch=2, test_count=2))
    assert run.train_config.length == (1, 20)


@pytest.mark.parametrize("regex", ["ab|abc", "a{60}a*"])
def test_generate_needs_no_length(regex, capsys):
    assert main(["generate", "--regex", regex, "--count", "3", "--format", "tokens"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_run_evaluates_where_there_are_strings(tmp_path, capsys):
    quick = ["--layers", "1", "--width", "16", "--steps", "1", "--batch", "2", "--count", "2", "--positions", "nope"]
    assert main(["run", "--regex", "ab|abc", "--train-length", "2:3", *quick, "--out", str(tmp_path / "run")]) == 0
    table = capsys.readouterr().out.split("length  strings")[1].split("\n\n")[0]
    assert [line.split()[0] for line in table.splitlines()[1:]] == ["2:3"]


def test_run_refuses_to_train_on_the_empty_string_alone(tmp_path, capsys):
    assert main(["run", "--regex", "(a{60})*", "--out", str(tmp_path / "run")]) == 2
    assert "is the empty one; give --train-length" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [["generate", "tomita_1", "--length"], ["run", "parity", "--train-length"]])
def test_two_lengths_of_a_task_that_has_one_are_refused(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "3x4"]) == 2
    assert f"length is 3x4, and strings of {command[1]} have one length: write one number" in capsys.readouterr().err


def test_a_pair_is_no_range():
    with pytest.raises(ValueError, match=r"length is 2x2, and strings of a\* have one length"):
        lf.language(regex="a*").sample(1, lf.Pair(2, 2))


def test_one_length_without_a_string_is_named_as_one():
    with pytest.raises(ValueError, match="length is 5, where aa_star has no string"):
        lf.task("aa_star").sample(1, 5)
