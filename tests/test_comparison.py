"""Theory's verdict against a run's outcome: agrees, disagrees, or says that nothing was tested and why."""

import json

import pytest

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.comparison import Comparison, Forecast
from lengen_fast.evaluation import Accuracy, AccuracyTable
from lengen_fast.lengths import Pair
from lengen_fast.reporting import Outcome
from lengen_fast.tasks import language

PROGRAM = Forecast("generalizes", "A program is known.", depth=2)
WITNESS = Forecast("fails", "Words that no count tells apart.", witness=True)
UNKNOWN = Forecast("unknown", "No program was found.")


def line(low, high, correct, count=2000):
    return Accuracy(low, high, "paper", "zero", count, correct, count, correct, None, None)


def finished(*lines, fitted=True, trained=(1, 50)):
    table = AccuracyTable("some_task", (line(*trained, 2000), *lines))
    return Outcome("some_task", "ape", "", "", 0, lf.published("some_task", "ape"), trained, fitted, table, None)


@pytest.mark.parametrize(
    ("forecast", "correct", "result"),
    [
        (PROGRAM, 2000, "agrees"),
        (PROGRAM, 1940, "agrees"),
        (PROGRAM, 1900, "undecided"),
        (PROGRAM, 1860, "disagrees"),
        (WITNESS, 1860, "agrees"),
        (WITNESS, 0, "agrees"),
        (WITNESS, 1905, "undecided"),
        (WITNESS, 1940, "disagrees"),
        (UNKNOWN, 0, "not tested"),
        (UNKNOWN, 2000, "not tested"),
    ],
)
def test_a_verdict_stands_or_falls_with_exact_match_beyond_training(forecast, correct, result):
    comparison = Comparison.of(forecast, finished(line(101, 150, correct)))
    assert comparison.result == result
    assert f"theory said {forecast.outcome}" in comparison.sentence
    assert f"exact match at 101-150 is {correct / 2000:.1%}" in comparison.sentence


def test_the_sentence_says_program_threshold_and_result():
    comparison = Comparison.of(PROGRAM, finished(line(101, 150, 1996)))
    assert comparison.sentence == (
        "theory said generalizes (program, depth 2); exact match at 101-150 is 99.8%, at least 95%: agrees"
    )


def test_one_wrong_string_of_many_is_not_rounded_away():
    sentence = Comparison.of(PROGRAM, finished(line(101, 150, 1999))).sentence
    assert "exact match at 101-150 is 99.9%, at least" in sentence


def test_few_strings_decide_nothing():
    assert Comparison.of(PROGRAM, finished(line(101, 150, 30, 30))).result == "undecided"


def test_a_run_that_did_not_fit_tests_nothing():
    comparison = Comparison.of(PROGRAM, finished(line(101, 150, 0), fitted=False))
    assert comparison.result == "not tested"
    assert "did not fit its own range" in comparison.sentence


def test_without_longer_strings_nothing_is_tested():
    comparison = Comparison.of(PROGRAM, finished(line(20, 60, 2000)))
    assert comparison.result == "not tested"
    assert "no length beyond" in comparison.sentence


@pytest.mark.parametrize(
    ("lines", "deciding"),
    [
        ([line(51, 100, 1), line(101, 150, 2), line(512, 512, 3)], "101-150"),
        ([line(101, 150, 1), line(51, 100, 2)], "101-150"),
        ([line(4096, 4096, 1), line(512, 512, 2)], "512"),
        ([line(60, 60, 1), line(140, 160, 1)], "60"),
    ],
)
def test_the_longest_lengths_up_to_three_times_training_decide(lines, deciding):
    assert f"exact match at {deciding} is" in Comparison.of(PROGRAM, finished(*lines)).sentence


def test_pairs_of_lengths_are_compared_by_their_sum():
    trained = Pair(1, 1), Pair(8, 8)
    near, far = line(Pair(9, 9), Pair(16, 16), 2000), line(Pair(99, 99), Pair(99, 99), 0)
    comparison = Comparison.of(PROGRAM, finished(near, far, trained=trained))
    assert comparison.result == "agrees"
    assert "9-16x9-16" in comparison.sentence


def test_forecasts_are_what_predict_says():
    task = lf.task("unique_copy")
    verdict = lf.predict(task)
    for positions in ("ape", "nope"):
        forecast, outlook = Forecast.of(task, positions), getattr(verdict, positions)
        assert (forecast.outcome, forecast.claim, forecast.depth) == (outlook.outcome, outlook.claim, outlook.depth)
        assert forecast.witness == (outlook.witness is not None)
        assert Forecast(**forecast.as_dict()) == forecast
    assert Forecast.of(task, "ape") != Forecast.of(task, "nope")


def test_where_predict_has_no_verdict_nothing_is_compared():
    task = language("(a|b)*a" + "(a|b)" * 8, labels="legal+end")
    forecast = Forecast.of(task, "ape")
    assert str(forecast).startswith("no verdict: automaton has 512 states")
    comparison = Comparison.of(forecast, finished(line(101, 150, 2000)))
    assert comparison.result == "not tested"
    assert "nothing to compare" in comparison.sentence


# ---- the command line ----

QUICK = ["--layers", "1", "--heads", "1", "--width", "16", "--batch", "16", "--count", "100"]
LENGTHS = ["--train-length", "2:10", "--eval-lengths", "2:10", "20:30"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run on a language of the user's own that any model learns: after every symbol both may follow, or an end."""
    path = tmp_path_factory.mktemp("runs") / "run"
    command = ["run", "--regex", "(a|b)*", "--positions", "nope", *QUICK, *LENGTHS, "--steps", "60"]
    assert main([*command, "--out", str(path)]) == 0
    return path


def test_run_compares_prints_and_keeps_it(fitted, capsys):
    resumed = ["run", "--out", str(fitted), "--resume"]
    assert main(resumed) == 0
    printed = capsys.readouterr().out
    sentence = json.loads((fitted / "accuracy.json").read_text())["theory"]["sentence"]
    assert sentence.endswith("exact match at 20-30 is 100.0%, at least 95%: agrees")
    assert f"compared:  {sentence}\n" in printed
    assert main([*resumed, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["comparison"] == {"result": "agrees", "sentence": sentence}


def test_report_shows_it(fitted, tmp_path, capsys):
    figure = str(tmp_path / "a.png")
    assert main(["report", str(fitted), "--out", figure]) == 0
    sentence = json.loads((fitted / "accuracy.json").read_text())["theory"]["sentence"]
    assert sentence in capsys.readouterr().out
    assert main(["report", str(fitted), "--out", figure, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["comparison"] == sentence


def test_a_run_without_a_kept_verdict_is_reported_without_one(fitted, tmp_path, capsys):
    path = tmp_path / "older"
    path.mkdir()
    for name in ("config.json", "weights.safetensors", "metrics.jsonl"):
        (path / name).write_bytes((fitted / name).read_bytes())
    content = json.loads((fitted / "accuracy.json").read_text())
    kept = content.pop("theory")
    (path / "accuracy.json").write_text(json.dumps(content))
    assert main(["report", str(path), "--out", str(tmp_path / "a.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["comparison"] is None
    assert main(["run", "--out", str(path), "--resume"]) == 0
    assert json.loads((path / "accuracy.json").read_text())["theory"] == kept


def test_a_damaged_verdict_is_one_sentence(fitted, tmp_path, capsys):
    path = tmp_path / "damaged"
    path.mkdir()
    (path / "config.json").write_bytes((fitted / "config.json").read_bytes())
    content = json.loads((fitted / "accuracy.json").read_text())
    (path / "accuracy.json").write_text(json.dumps(content | {"theory": {"outcome": "fails"}}))
    assert main(["report", str(path), "--out", str(tmp_path / "a.png")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "accuracy.json is damaged" in error


def test_a_run_of_an_automaton_compares_too(tmp_path, capsys):
    dfa = {"alphabet": ["a", "b"], "transitions": [[0, 1], [1, 0]], "accepting": [0]}
    (tmp_path / "odd.json").write_text(json.dumps(dfa))
    command = ["run", "--dfa", str(tmp_path / "odd.json"), *QUICK, *LENGTHS, "--steps", "5", "--count", "10"]
    assert main([*command, "--out", str(tmp_path / "run"), "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert comparison["result"] == "not tested"
    assert comparison["sentence"].startswith("theory said fails (with a witness); training did not fit")
