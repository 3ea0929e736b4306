"""The idealized inference: exact fits on short strings, the R that is reported, and the same result after a stop."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
import torch

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.theory import Regularizer, inference
from lengen_fast.theory.candidates import Candidate, DirectoryStore, Shape, Store
from lengen_fast.theory.compression import with_context
from lengen_fast.theory.inference import Finding, Inference, Search, infer, most_steps
from lengen_fast.theory.inference_report import parts, rows, sentences

TINY = Shape(1, 1, 8, 1)
SIZES = (2, 4)
QUICK = Search(
    shapes=(TINY,),
    seeds=2,
    fit_steps=300,
    rounds=1,
    round_steps=50,
    learning_rate=1e-2,
    batch=16,
    test_every=25,
    init_std=0.3,
    program=False,
)


@pytest.fixture(scope="module")
def task():
    return lf.task("binary_majority")


@pytest.fixture(scope="module")
def found(task, tmp_path_factory):
    """A result for n = 2 and 4, and the directory of its models."""
    path = tmp_path_factory.mktemp("search")
    return infer(task, SIZES, QUICK, store=DirectoryStore(path, task, QUICK.training)), path


def questions(task, low, high, context):
    """(tokens, scored, targets, offset) of every string and offset, by the oracle alone."""
    for n in range(low, high + 1):
        for x in product((0, 1), repeat=n):
            try:
                scored, targets = task.oracle([task.bos, *x, task.sep])
            except ValueError:
                continue
            tokens = [task.bos, *x, task.sep, *targets[:-1].tolist()]
            for offset in range(context - len(tokens)):
                yield tokens, scored, targets, offset


def right_answers(model, task, low, high):
    """How many strings the model gets right, one after the other, and how many there are."""
    right = asked = 0
    for tokens, scored, targets, offset in questions(task, low, high, model.config.context):
        with torch.no_grad():
            logits = model(torch.tensor(tokens), offsets=torch.tensor([offset]))
        right += logits[scored].argmax(-1).tolist() == targets.tolist()
        asked += 1
    return right, asked


def models(found):
    """(candidate, its model) of every fitted one."""
    result, path = found
    for finding in result.findings:
        for candidate in finding.candidates:
            if candidate.regularizer:
                yield candidate, lf.RunDirectory.open(path / candidate.place).load_model()[0]


def test_fitted_models_are_right_on_every_short_string_at_every_offset(task, found):
    fitted = list(models(found))
    assert {candidate.n for candidate, _ in fitted} == set(SIZES)
    for candidate, model in fitted:
        right, asked = right_answers(model, task, 1, candidate.n // 2)
        assert right == asked > 0


def test_agreement_is_that_of_the_stored_model_on_longer_strings(task, found):
    for candidate, model in models(found):
        expected = right_answers(model, task, candidate.n // 2 + 1, candidate.n)
        assert (candidate.right, candidate.asked) == expected


def test_the_regularizer_is_that_of_the_stored_weights(found):
    for candidate, model in models(found):
        assert Regularizer.of(model) == candidate.regularizer
        assert sum(parts(candidate.regularizer)) == pytest.approx(candidate.regularizer.total)


def test_models_are_those_of_the_theory(found):
    for candidate, model in models(found):
        config = model.config
        assert (config.layers, config.heads, config.width, config.mlp_width) == (1, 1, 8, 1)
        assert (config.normalization, config.activation, config.log_n_scaling) == ("none", "relu", True)
        assert not config.tied_embeddings
        assert config.context == lf.task("binary_majority").context_for(candidate.n)


def test_the_best_is_the_fitted_one_of_least_regularizer(found):
    for finding in found[0].findings:
        totals = [candidate.regularizer.total for candidate in finding.candidates if candidate.regularizer]
        assert sum(candidate.found_at is None for candidate in finding.candidates) == QUICK.seeds
        assert finding.best.regularizer.total == min(totals)


def test_penalties_lower_the_regularizer(task):
    search = replace(QUICK, seeds=1)
    plain, squeezed = (infer(task, [4], replace(search, rounds=rounds)).findings[0].best for rounds in (0, 4))
    assert (plain.rounds, plain.steps) < (squeezed.rounds, squeezed.steps)
    assert squeezed.regularizer.total < plain.regularizer.total


def test_what_was_found_for_one_n_is_taken_for_another_where_it_fits_with_less():
    """At n = 4 there is a model that uses no positions; at n = 2 one of greater R, and at n = 6 none."""
    task, store, search = lf.task("tomita_1"), Store(), replace(QUICK, seeds=1)
    good = infer(task, [4], search, store=store).findings[0].best
    plain = store.model(good)
    with torch.no_grad():
        plain.embedding.positions.zero_()
    worse = with_context(plain, task.context_for(2))
    with torch.no_grad():
        worse.embedding.unembedding *= 4
    store.save(replace(good, regularizer=Regularizer.of(plain)), plain)
    store.save(replace(good, n=2, regularizer=Regularizer.of(worse)), worse)
    store.save(replace(good, n=6, regularizer=None), worse)
    result = infer(task, [2, 4, 6], search, store=store)
    assert [finding.best.found_at for finding in result.findings] == [4, None, 4]
    for finding in result.findings:
        model = store.model(finding.best)
        assert model.config.context == task.context_for(finding.n)
        assert Regularizer.of(model) == finding.best.regularizer == Regularizer.of(plain)


# ---- the candidate that is the task's program ----


@pytest.fixture(scope="module")
def program_found(task, tmp_path_factory):
    """A result for n = 4 and 6 with programs and next to no training, and its store."""
    search = replace(QUICK, seeds=1, fit_steps=1, rounds=0, program=True)
    store = DirectoryStore(tmp_path_factory.mktemp("programs"), task, search.training)
    return infer(task, [4, 6], search, store=store), search, store


def test_a_known_program_is_a_candidate_at_every_n_and_right_on_all_longer_strings(task, program_found):
    result, _, store = program_found
    for finding in result.findings:
        (candidate,) = [each for each in finding.candidates if each.place == f"n{finding.n}-program"]
        assert finding.best.origin == "program"
        model = store.model(candidate)
        assert model.config.context == task.context_for(finding.n)
        assert Regularizer.of(model) == candidate.regularizer
        right, asked = right_answers(model, task, 1, finding.n // 2)
        assert right == asked > 0
        assert (candidate.right, candidate.asked) == right_answers(model, task, finding.n // 2 + 1, finding.n)
        assert candidate.right == candidate.asked
        assert candidate.variation == 0


def test_where_a_model_comes_from_is_said(program_found):
    result, _, _ = program_found
    lines = rows(result)[1:]
    assert [line[0] for line in lines] == ["4", "6"]  # nothing was fitted by training
    assert {line[-1] for line in lines} <= {"from the program", "from the program, at n = 6"}
    origins = [c["origin"] for finding in result.as_dict()["findings"] for c in finding["candidates"]]
    assert origins.count("program") >= 2
    assert origins.count("training") == 1  # its shape fits nothing at 4 and is dropped
    assert "T_6 comes from the task's program" in " ".join(sentences(result))


def test_the_best_model_of_another_origin_has_a_line_too():
    result = result_of("binary_majority", (20.0, 20.0), 100)
    worse = [replace(finding.best, seed=None, steps=0, regularizer=terms(30.0)) for finding in result.findings]
    both = [replace(f, candidates=(f.best, c)) for f, c in zip(result.findings, worse, strict=True)]
    lines = rows(replace(result, findings=tuple(both)))[1:]
    assert [(line[0], line[7], line[-1]) for line in lines] == [
        ("8", "20.0", "in 100 steps"),
        ("(8)", "30.0", "from the program"),
        ("16", "20.0", "in 100 steps"),
        ("(16)", "30.0", "from the program"),
    ]


def test_a_program_that_was_kept_is_not_made_again(task, program_found, monkeypatch):
    result, search, store = program_found
    monkeypatch.setattr(inference, "from_program", lambda *_: pytest.fail("made again"))
    assert infer(task, [4, 6], search, store=store).as_dict() == result.as_dict()


def test_a_task_without_a_program_has_no_such_candidate():
    result = infer(lf.task("parity"), [4], replace(QUICK, seeds=1, fit_steps=1, rounds=0, program=True))
    assert [candidate.origin for candidate in result.findings[0].candidates] == ["training"]
    assert "no program is known" in " ".join(sentences(result))


class Interrupted(Store):
    """Ends the search, as Ctrl-C does, when it is about to keep a second model."""

    def __init__(self, store):
        super().__init__()
        self.store, self.load, self.saved = store, store.load, 0

    def save(self, candidate, model):
        self.saved += 1
        if self.saved == 2:
            raise KeyboardInterrupt
        self.store.save(candidate, model)


def test_an_interrupted_search_goes_on_to_the_same_result(task, found, tmp_path):
    store = DirectoryStore(tmp_path, task, QUICK.training)
    with pytest.raises(KeyboardInterrupt):
        infer(task, SIZES, QUICK, store=Interrupted(store))
    assert len(list(tmp_path.iterdir())) == 1
    steps = []
    result = infer(task, SIZES, QUICK, store=store, observer=lambda step, note: steps.append((step, note)))
    assert result.as_dict() == found[0].as_dict()
    assert all("n 2" not in note or "seed 1" in note for _, note in steps)  # nothing is fitted twice
    numbers = [step for step, _ in steps]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= most_steps(SIZES, QUICK) == 2 * 2 * 350


def test_a_shape_that_fits_nothing_is_dropped_and_the_first_that_fits_ends_a_size(task):
    narrow = Shape(1, 1, 1, 1)  # one coordinate does not do
    search = replace(QUICK, seeds=1, rounds=0, shapes=(narrow, TINY, Shape(2, 1, 16, 1)))
    result = infer(task, SIZES, search)
    tried = [[each.shape for each in finding.candidates if each.found_at is None] for finding in result.findings]
    assert tried == [[narrow, TINY], [TINY]]


def test_what_is_not_fitted_is_said_so():
    result = infer(lf.task("parity"), [4, 6], replace(QUICK, seeds=1, fit_steps=10, rounds=0))
    assert [finding.best for finding in result.findings] == [None, None]
    assert result.bounded is None
    assert result.agrees is None
    assert rows(result)[1][7] == "not fitted"
    assert sentences(result)[0] == "no exact fit was found at n = 4, 6: nothing is known of R there"
    assert "fewer than two n were fitted" in sentences(result)[1]


# ---- what the theorem says of it ----


def terms(total):
    return Regularizer(2, 3, 1, *[0.0] * 8, positional=total - 6)


def result_of(name, totals, right, asked=100):
    candidates = [
        Candidate(n, TINY, 0, 100, 1, terms(total), 0.0, right if n == 16 else asked, asked)
        for n, total in zip((8, 16), totals, strict=True)
    ]
    findings = tuple(Finding(c.n, "all 10", "all 100", (True, True), c, (c,)) for c in candidates)
    return Inference(name, None, QUICK, findings)


@pytest.mark.parametrize(
    ("name", "totals", "right", "bounded", "agrees", "as_expected"),
    [
        ("binary_majority", (20.0, 20.0), 100, True, True, True),
        ("binary_majority", (20.0, 21.9), 100, True, True, True),
        ("binary_majority", (20.0, 22.1), 100, False, True, False),
        ("binary_majority", (20.0, 20.0), 99, True, False, False),
        ("parity", (20.0, 20.0), 99, True, False, True),
        ("parity", (20.0, 40.0), 100, False, True, True),
        ("parity", (20.0, 20.0), 100, True, True, False),
    ],
)
def test_both_statements_of_the_theorem_are_judged(name, totals, right, bounded, agrees, as_expected):
    result = result_of(name, totals, right)
    assert (result.bounded, result.agrees) == (bounded, agrees)
    last = sentences(result)[-1]
    assert ("as found here" in last) == as_expected
    assert ("not found here" in last) != as_expected
    assert ("outside it" in last) == (name == "parity")


def test_a_task_that_the_paper_leaves_out_is_not_judged():
    assert "the paper does not say" in sentences(result_of("reverse", (20.0, 20.0), 100))[-1]


def test_candidates_and_searches_survive_json(found):
    result, _ = found
    for candidate in result.findings[0].candidates:
        assert Candidate.from_dict(json.loads(json.dumps(candidate.as_dict()))) == candidate
    assert Search.from_dict(json.loads(json.dumps(QUICK.as_dict()))) == QUICK


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"rounds": -1}, "rounds must be at least 0, got -1"),
        ({"shapes": ()}, "shapes must have at least one"),
    ],
)
def test_bad_searches_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Search(**settings)


# ---- the command line ----

SMALL = ["--sizes", "2", "4", "--seeds", "1", "--steps", "20", "--rounds", "0"]


@pytest.mark.slow
def test_an_interrupted_command_goes_on_to_the_same_result(tmp_path, capsys):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = ["infer", "binary_majority", *SMALL]
    assert main([*settings, "--out", str(whole), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    command = [sys.executable, "-m", "lengen_fast.cli", *settings, "--out", str(cut)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list(cut.glob("*/candidate.json")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    if process.returncode:  # it may have been done already
        assert process.returncode == 130
        assert f"go on with: lengen infer binary_majority --out {cut} --resume" in errors
        assert "Traceback" not in errors
    assert main(["infer", "binary_majority", "--out", str(cut), "--resume", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again | {"directory": None} == content | {"directory": None}
    assert json.loads((cut / "inference.json").read_text()) == again
    assert (cut / "inference.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def searched(tmp_path, capsys):
    """A finished search, and what it printed."""
    path = tmp_path / "search"
    command = ["infer", "parity", "--sizes", "2", "4", "--seeds", "1", "--steps", "1", "--rounds", "0"]
    assert main([*command, "--out", str(path)]) == 0
    return path, capsys.readouterr().out


def test_the_command_prints_a_table_and_what_it_means(searched):
    path, printed = searched
    lines = printed.splitlines()
    assert lines[0].split()[:3] == ["n", "fitted", "on"]
    assert [line.split()[0] for line in lines[1:3]] == ["2", "4"]
    assert "no exact fit was found at n = 2, 4" in printed
    assert f"figure: {path / 'inference.png'}" in printed


def test_a_damaged_candidate_is_one_sentence(searched, capsys):
    path, _ = searched
    file = next(path.glob("*/candidate.json"))
    file.write_text("{}")
    assert main(["infer", "parity", "--out", str(path), "--resume"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith(f"lengen: error: {file} is damaged")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["parity", "--seeds", "3"], "was begun with --seeds 1, not 3"),
        (["binary_majority"], "was begun with TASK parity, not binary_majority"),
        (["parity", "--sizes", "2", "8"], "was begun with --sizes [2, 4], not [2, 8]"),
    ],
)
def test_resuming_with_other_settings_is_refused(searched, capsys, arguments, message):
    path, _ = searched
    assert main(["infer", *arguments, "--out", str(path), "--resume"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 2, "there is no task 'nope'"),
        (["parity", "--sizes", "8", "4"], 2, "sizes must increase, such as 8 16 32, got 8 4"),
        (["binary_majority", "--sizes", "1"], 2, "size 1 is too small: binary_majority needs sizes of at least 2"),
        (["unique_copy", "--sizes", "8", "--symbols", "4"], 2, "unique_copy with 4 symbols has strings up to length 4"),
        (["binary_majority", "--symbols", "5"], 2, "the alphabet of binary_majority is fixed"),
        (["parity", "--steps", "0"], 2, "must be at least 1, got 0"),
        (["parity", "--rounds", "-1"], 2, "rounds must be at least 0, got -1"),
        (["parity", "--resume", "--out", "nothing"], 1, "nothing is not a run directory"),
    ],
)
def test_a_bad_call_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["infer", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lengen: error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not list(tmp_path.iterdir())  # nothing is left behind
