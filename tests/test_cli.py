"""The command line, as a user meets it: real workflows, and every bad input a single clear sentence."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lengen_fast as lf
from lengen_fast.cli import main
from lengen_fast.training import default_configs, run_settings

QUICK = ["--layers", "1", "--heads", "1", "--width", "16", "--steps", "40", "--batch", "8", "--count", "30"]
SHORT = ["--eval-lengths", "1:50", "51:100", "200"]


def lengen(*arguments, expect=0, **options):
    """Run the installed command in a process of its own."""
    command = [sys.executable, "-m", "lengen_fast.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert result.returncode == expect, result.stderr
    return result


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small run of binary_majority with learned positions, trained through the command line."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    result = lengen("run", "binary_majority", *QUICK, *SHORT, "--seed", "3", "--out", directory)
    return directory, result.stdout


def test_run_writes_the_whole_directory_and_prints_outcome_beside_prediction(finished):
    directory, printed = finished
    names = {path.name for path in directory.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "weights.safetensors", "accuracy.json", "accuracy.png"}
    config = json.loads((directory / "config.json").read_text())
    assert config["model"]["context"] == 204
    assert config["seed"] == 3
    assert {"python", "torch", "numpy"} <= set(config["versions"])
    assert "commit" in config
    lines = json.loads((directory / "accuracy.json").read_text())["lines"]
    assert [(line["low"], line["high"], line["count"]) for line in lines] == [
        (1, 50, 30),
        (51, 100, 30),
        (200, 200, 30),
    ]
    assert (directory / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "predicted: the paper predicts that binary_majority with APE generalizes" in printed
    assert printed.count("theory:") == 2
    assert printed.index("theory: generalizes. The program of the standard library") < printed.index("trained")
    assert "outcome:" in printed
    assert "99.99%" in printed  # the published figure of the second bin


def test_run_with_the_papers_bins_alone_has_the_papers_context(tmp_path, capsys):
    assert main(["run", "binary_majority", *QUICK, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["context"] == 154


def test_json_puts_one_object_on_standard_output_and_nothing_else(finished, tmp_path):
    directory, _ = finished
    result = lengen(
        "run", "majority", *QUICK, "--positions", "nope", "--eval-lengths", "60", "--out", tmp_path / "r", "--json"
    )
    content = json.loads(result.stdout)
    assert content["predicted"] is True
    assert content["theory"].startswith("generalizes. ")
    assert content["lines"][0]["low"] == 60
    content = json.loads(lengen("evaluate", directory, "--lengths", "80", "--count", "5", "--json").stdout)
    assert content["lines"][0]["count"] == 5
    content = json.loads(lengen("report", directory, "--out", tmp_path / "a.png", "--json").stdout)
    assert content["runs"][0]["seed"] == 3
    assert {entry["name"] for entry in json.loads(lengen("tasks", "--json").stdout)["tasks"]} == set(lf.tasks())


def test_evaluate_repeats_what_run_found(finished, capsys):
    directory, _ = finished
    assert (
        main(
            ["evaluate", str(directory), "--lengths", "1:50", "51:100", "200", "--count", "30", "--seed", "3", "--json"]
        )
        == 0
    )
    again = json.loads(capsys.readouterr().out)["lines"]
    assert again == json.loads((directory / "accuracy.json").read_text())["lines"]


def test_evaluate_takes_distribution_and_offsets(finished, capsys):
    directory, _ = finished
    command = [
        "evaluate",
        str(directory),
        "--lengths",
        "60",
        "--count",
        "20",
        "--distribution",
        "hard",
        "--offsets",
        "random",
    ]
    assert main(command) == 0
    assert main([*command, "--json"]) == 0
    line = json.loads(capsys.readouterr().out.split("\n", 2)[2])["lines"][0]
    assert (line["distribution"], line["offsets"]) == ("hard", "random")


def test_an_interrupted_run_resumes_with_the_same_command_and_ends_in_the_same_bits(tmp_path):
    settings = ["run", "binary_majority", "--positions", "nope", *QUICK, "--steps", "1500", "--eval-lengths", "60"]
    lengen(*settings, "--out", tmp_path / "whole")
    command = [sys.executable, "-m", "lengen_fast.cli", *settings, "--out", str(tmp_path / "cut")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "cut" / "metrics.jsonl").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"lengen run binary_majority --out {tmp_path / 'cut'} --resume" in errors
    assert "Traceback" not in errors
    lengen(*settings, "--out", tmp_path / "cut", "--resume")
    for name in ("weights.safetensors", "accuracy.json"):
        whole, cut = (tmp_path / run / name for run in ("whole", "cut"))
        assert _tensors(whole) == _tensors(cut)


def _tensors(path):
    """Content of a file, without the header that names the run."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_resume_needs_only_the_directory_and_refuses_other_settings(finished, capsys):
    directory, _ = finished
    assert main(["run", "binary_majority", "--out", str(directory), "--resume"]) == 0
    assert main(["run", "binary_majority", "--out", str(directory), "--resume", "--width", "32"]) == 2
    assert "--width 16, not 32" in capsys.readouterr().err


def test_generate_prints_the_strings_of_the_engine(capsys):
    assert main(["generate", "addition", "--length", "9:12", "--count", "4", "--seed", "7", "--format", "tokens"]) == 0
    task = lf.task("addition")
    batch = task.sample(4, (9, 12), seed=7)
    assert capsys.readouterr().out.splitlines() == [" ".join(task.decode(batch.row(i).tolist())) for i in range(4)]
    assert main(["generate", "addition", "--length", "9:12", "--count", "2", "--format", "json"]) == 0
    string = json.loads(capsys.readouterr().out.splitlines()[0])
    assert string["targets"] == string["tokens"][string["scored"][0] + 1 :]


def test_generate_stops_quietly_when_its_reader_does():
    command = f"{sys.executable} -m lengen_fast.cli generate parity --count 100000 | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.startswith("string 0")
    assert result.stderr == ""


def test_tasks_lists_every_task(capsys):
    assert main(["tasks"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in lf.tasks())


def test_tasks_describes_one_with_what_hard_means(capsys):
    assert main(["tasks", "addition"]) == 0
    assert lf.task("addition").hard_means in capsys.readouterr().out


def test_report_pools_seeds_and_draws_one_figure(finished, tmp_path, capsys):
    directory, _ = finished
    assert main(["report", str(directory), str(directory), "--out", str(tmp_path / "both.png")]) == 0
    assert (tmp_path / "both.png").stat().st_size > 10_000


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")])
def test_a_figure_has_the_format_of_its_name(ending, start, finished, tmp_path, capsys):
    figure = tmp_path / f"both.{ending}"
    assert main(["report", str(finished[0]), "--out", str(figure)]) == 0
    assert figure.read_bytes().startswith(start)


def test_a_figure_goes_to_the_file_that_a_link_points_to(finished, tmp_path, capsys):
    (tmp_path / "link.png").symlink_to("figure.png")
    assert main(["report", str(finished[0]), "--out", str(tmp_path / "link.png")]) == 0
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_a_figure_replaces_no_pipe(finished, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    assert main(["report", str(finished[0]), "--out", str(tmp_path / "pipe.png")]) == 1
    assert "pipe.png: it is not a file; choose another place" in capsys.readouterr().err
    assert (tmp_path / "pipe.png").is_fifo()


def test_a_figure_in_no_directory(finished, tmp_path, capsys):
    assert main(["report", str(finished[0]), "--out", str(tmp_path / "none" / "x.png")]) == 1
    assert capsys.readouterr().err.endswith("x.png: No such file or directory; choose another place\n")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_sentence():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lengen_fast.cli", "tasks", "--json"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "lengen: error: could not write the output: No space left on device\n"


@pytest.mark.parametrize("command", ["tasks", "generate", "run", "evaluate", "report", "crasp"])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  lengen {command}" in capsys.readouterr().out


# ---- bad input ----

BAD_USE = [
    (["run", "binary_majorty"], "did you mean 'binary_majority'?"),
    (["generate", "parrity"], "did you mean 'parity'?"),
    (["run", "parity", "--eval-lengths", "50:10"], "reversed"),
    (["run", "addition", "--eval-lengths", "2:50"], "shortest string of addition has length 4"),
    (["run", "binary_majority_interleave", "--eval-lengths", "4:5"], "has no string"),
    (["run", "parity", "--eval-lengths", "2000000"], "1048576"),
    (["run", "parity", "--eval-lengths", "x"], "not a length such as 512"),
    (["run", "parity", "--train-length", "60:20"], "reversed"),
    (["run", "binary_majority", "--context", "100"], "--context"),
    (["run", "binary_majority", "--context", "20", "--eval-lengths", "10"], "--context"),
    (["run", "binary_majority", "--heads", "3"], "multiple of heads"),
    (["run", "binary_majority", "--layers", "0"], "layers must be at least 1"),
    (["run", "binary_majority", "--steps", "0"], "steps must be at least 1"),
    (["run", "binary_majority", "--batch", "-4"], "batch must be at least 1"),
    (["run", "binary_majority", "--batch", "99999999999"], "batch must be at most 2147483647"),
    (["run", "binary_majority", "--count", "0"], "count must be at least 1"),
    (["run", "binary_majority", "--seed", "-1"], "seed"),
    (["run", "binary_majority", "--learning-rate", "nan"], "learning_rate"),
    (["run", "binary_majority", "--regularize", "-1"], "regularize"),
    (["run", "binary_majority", "--positions", "rope"], "invalid choice"),
    (["run", "binary_majority", "--device", "cuda:93"], "there is no device 'cuda:93'"),
    (["run", "binary_majority", "--device", "abacus"], "there is no device 'abacus'"),
    (["report", "runs/x", "--out", "figure.xyz"], "figure.xyz: a figure cannot be written as .xyz"),
    (["phi", "--targets", "1", "--out", "figure.xyz"], "end its name with one of .png, .pdf, .svg"),
    (["generate", "parity", "--count", "-3"], "count must be at least 1"),
    (["generate", "parity", "--length", "9:3"], "reversed"),
    (["generate", "unique_copy", "--length", "2000000"], "the longest string has length 1048576"),
    (["generate", "parity", "--distribution", "soft"], "'paper' or 'hard'"),
    (["evaluate", "RUN", "--lengths", "5000"], "--context 5004"),
    (["evaluate", "RUN", "--lengths", "10", "--count", "0"], "count must be at least 1"),
    (["evaluate", "RUN", "--lengths", "0:9"], "shortest"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), BAD_USE, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_use_is_one_sentence_and_leaves_nothing_behind(arguments, words, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(finished[0]) if argument == "RUN" else argument for argument in arguments]
    try:
        code = main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("lengen: error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_model_larger_than_memory_is_one_sentence_and_leaves_nothing_behind(tmp_path, capsys):
    assert main(["run", "binary_majority", "--context", "999999999999", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lengen: error: this needs more memory than there is (")
    assert error.endswith("bytes at once): ask for a smaller batch, count, width or context")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_never_overwritten(finished, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in finished[0].iterdir()}
    assert main(["run", "binary_majority", *QUICK, "--out", str(finished[0])]) == 2
    assert "--resume" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in finished[0].iterdir()}
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["run", "binary_majority", *QUICK, "--out", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def damage_weights(path):
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[: len(content) // 2])


def edit_config(path):
    text = (path / "config.json").read_text()
    (path / "config.json").write_text(text.replace('"heads": 1', '"heads": 2'))


def cut_config(path):
    (path / "config.json").write_text('{"format": 1,')


def drop_weights(path):
    (path / "weights.safetensors").unlink()


def cut_accuracy(path):
    (path / "accuracy.json").write_text("{}")


def drop_accuracy(path):
    (path / "accuracy.json").unlink()


@pytest.mark.parametrize(
    ("damage", "command", "words"),
    [
        (damage_weights, ["evaluate", "RUN", "--lengths", "10"], "weights.safetensors is damaged"),
        (edit_config, ["evaluate", "RUN", "--lengths", "10"], "config.json was edited"),
        (edit_config, ["run", "binary_majority", "--out", "RUN", "--resume"], "config.json was edited"),
        (cut_config, ["report", "RUN"], "config.json is damaged"),
        (drop_weights, ["evaluate", "RUN", "--lengths", "10"], "finish its training"),
        (cut_accuracy, ["report", "RUN"], "accuracy.json is damaged"),
        (drop_accuracy, ["report", "RUN"], "has no accuracy.json"),
    ],
)
def test_a_damaged_run_is_one_sentence_and_is_left_as_it_is(
    damage, command, words, finished, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    damage(run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if argument == "RUN" else argument for argument in command]) == 1
    printed = capsys.readouterr().err
    assert words in printed
    assert printed.count("\n") == 1
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_begun_in_python_is_resumed_there(tmp_path, capsys):
    task = lf.task("parity")
    lf.train(lf.ModelConfig(task.vocab_size, 1, 1, 16), task, lf.TrainConfig(steps=1, batch=2), out=tmp_path / "run")
    assert main(["run", "parity", "--out", str(tmp_path / "run"), "--resume"]) == 1
    assert "was begun in Python" in capsys.readouterr().err


def test_a_run_keeps_its_device(finished, capsys):
    assert main(["run", "binary_majority", "--out", str(finished[0]), "--resume", "--device", "cuda:7"]) == 2
    assert "was begun with --device cpu, not cuda:7" in capsys.readouterr().err


def test_no_run_there(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "nothing"), "--lengths", "10"]) == 1
    assert "is not a run directory" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_leaves_no_half_written_file(tmp_path):
    """The limit on file sizes stands in for a full disk: config.json fits, the weights do not."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    result = lengen("run", "binary_majority", *QUICK, "--out", tmp_path / "run", expect=1, preexec_fn=limit)
    assert result.stderr.splitlines()[-1].startswith("lengen: error: could not write")
    assert "Traceback" not in result.stderr
    assert {path.name for path in (tmp_path / "run").iterdir()} <= {"config.json", "metrics.jsonl"}


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", "binary_majority", *QUICK, "--out", str(tmp_path / "file" / "run")]) == 1
    assert "could not make the directory" in capsys.readouterr().err


def test_a_diverging_run_says_so(tmp_path, capsys, monkeypatch):
    arguments = [
        "run",
        "binary_majority",
        *QUICK,
        "--steps",
        "400",
        "--learning-rate",
        "1e30",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert "NaN or infinite at step" in printed
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_models_need_neither_a_gpu_nor_a_package_but_torch_and_numpy():
    program = (
        "import sys\n"
        "for name in ('triton', 'safetensors', 'rich', 'matplotlib', 'automata', 'lark'): sys.modules[name] = None\n"
        "import lengen_fast as lf, lengen_kernels\n"
        "model = lf.Transformer(lf.ModelConfig(vocab_size=5, layers=1, heads=1, width=16))\n"
        "print(lf.evaluate(model, lf.task('binary_majority'), [20], count=3)[20].count)"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert result.stdout.strip() == "3", result.stderr


def test_the_table_of_positions_serves_the_training_strings_too(tmp_path):
    assert main(["run", "binary_majority", *QUICK, "--eval-lengths", "10", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["context"] == 54


def test_published_figures_stand_only_beside_what_was_published(finished, capsys):
    command = ["evaluate", str(finished[0]), "--count", "5", "--lengths"]
    assert main([*command, "1:50", "51:100"]) == 0
    assert "99.99%" in capsys.readouterr().out
    for other in (["50", "49:50", "51:99"], ["51:100", "--distribution", "hard"], ["51:100", "--offsets", "random"]):
        assert main([*command, *other]) == 0
        assert all(line.endswith(" -") for line in capsys.readouterr().out.splitlines()[1:])


def usual_settings(name):
    """What config.json says of a run of the paper's settings."""
    model_config, train_config = default_configs(lf.task(name))
    return run_settings(model_config, lf.task(name), train_config)


def test_report_pools_seeds_of_one_setting_and_nothing_else(tmp_path):
    from lengen_fast import reporting

    results = []
    for number, settings in enumerate(
        (["--seed", "1"], ["--seed", "2"], ["--layers", "2"], ["--train-length", "1:20"])
    ):
        path = tmp_path / str(number)
        assert main(["run", "majority", *QUICK, "--eval-lengths", "60", *settings, "--out", str(path)]) == 0
        results.append(reporting.outcome(lf.RunDirectory.open(path)))
    assert len({result.settings for result in results}) == 3
    assert results[0].settings == results[1].settings
    assert "2/1/16" in results[2].label
    directory = lf.RunDirectory.create(tmp_path / "usual", usual_settings("majority"))
    assert reporting.describe(directory, results[0].table, fitted=True).difference == ""
    assert "trained on 1 to 20" in results[3].label


def test_run_trains_and_tests_on_a_distribution(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["run", "majority", *QUICK, "--eval-lengths", "60", "--distribution"]
    assert main([*command, "hard"]) == 0
    run = tmp_path / "runs" / "majority-ape-hard-seed0"
    assert json.loads((run / "config.json").read_text())["train"]["distribution"] == "hard"
    assert [line["distribution"] for line in json.loads((run / "accuracy.json").read_text())["lines"]] == ["hard"]
    assert main([*command, "paper", "--out", str(run), "--resume"]) == 2
    assert "was begun with --distribution hard, not paper" in capsys.readouterr().err
    assert main([*command, "uniform"]) == 2
    assert "must be 'paper' or 'hard' for majority" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [run.name]
    assert main(["run", "tomita_4", "--labels", "membership", *command[2:], "corrupted"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--lengths", "1:50", "--count", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"][0]["distribution"] == "hard"
    from lengen_fast import reporting

    result = reporting.outcome(lf.RunDirectory.open(run))
    assert "hard strings" in result.label
    assert result.published.accuracy is None


@pytest.mark.parametrize("counts", [{"count": 0}, {"correct": 10**6}, {"count": "x"}, {"positions": None}])
def test_damaged_counts_are_one_sentence(counts, finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    content = json.loads((tmp_path / "run" / "accuracy.json").read_text())
    content["lines"][0] |= counts
    (tmp_path / "run" / "accuracy.json").write_text(json.dumps(content))
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "a.png")]) == 1
    assert "accuracy.json is damaged" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
