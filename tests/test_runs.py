"""The run directory: what is written comes back, failed writes leave the old file, damage is told in one sentence."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

import lengen_fast as lf
from lengen_fast import runs
from lengen_fast.runs import RunDirectory, RunError

MODEL = lf.ModelConfig(vocab_size=5, layers=2, heads=2, width=8, context=40)
STATE = {"step": 30, "tokens": 1234, "seconds": 12.5, "in_range": {"correct": 7}}


def settings(**changes):
    task = {"name": "binary_majority", "symbols": None}
    return {"task": task, "model": MODEL.as_dict(), "train": {"steps": 30}, "seed": 0} | changes


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", settings())


@pytest.fixture
def finished(run) -> RunDirectory:
    run.save_weights(lf.Transformer(MODEL, seed=3), STATE)
    return run


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# ---- what is written comes back ----


def test_a_run_opens_with_what_it_was_created_with(tmp_path):
    created = RunDirectory.create(tmp_path / "a" / "b", settings(extra=[1, 2], seed=7))
    opened = RunDirectory.open(str(tmp_path / "a" / "b"))
    assert opened.config == created.config
    assert opened.config | settings(extra=[1, 2], seed=7) == opened.config
    assert opened.model_config == MODEL
    assert opened.task == lf.task("binary_majority")
    assert {"format", "created", "versions", "commit"} < set(opened.config)
    assert opened.config["versions"]["torch"] == torch.__version__
    assert names(created.path) == ["config.json"]


def test_the_task_has_the_alphabet_of_the_run(tmp_path):
    run = RunDirectory.create(tmp_path / "run", settings(task={"name": "unique_copy", "symbols": 333}))
    assert RunDirectory.open(run.path).task.max_length == 333


def test_weights_come_back_bit_for_bit(finished):
    model, state = RunDirectory.open(finished.path).load_model()
    expected = lf.Transformer(MODEL, seed=3).state_dict()
    assert state == STATE
    assert not model.training
    assert model.config == MODEL
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in expected.items())


def test_a_checkpoint_comes_back_bit_for_bit_and_goes_with_the_end_of_training(run):
    odd = torch.tensor([0.0, -0.0, 1e-45, torch.inf, torch.nan])
    tensors = {"a": odd, "b.c": torch.tensor(3.0), "d": torch.zeros(0, 2), "e": torch.arange(6).view(2, 3).T}
    assert run.load_checkpoint() is None
    run.save_checkpoint({"a": torch.zeros(1)}, {"step": 1})
    run.save_checkpoint(tensors, STATE | {"seconds": 0.1 + 0.2})
    loaded, state = RunDirectory.open(run.path).load_checkpoint()
    assert state == STATE | {"seconds": 0.1 + 0.2}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].shape == tensor.shape
        assert loaded[name].numpy().tobytes() == tensor.numpy().tobytes()

    assert not run.finished
    run.save_weights(lf.Transformer(MODEL), STATE)
    assert run.finished
    assert run.load_checkpoint() is None
    assert names(run.path) == ["config.json", "weights.safetensors"]


def test_the_same_run_gives_the_same_file(finished):
    path = finished.path / "weights.safetensors"
    first = path.read_bytes()
    for _ in range(5):
        finished.save_weights(lf.Transformer(MODEL, seed=3), STATE)
        assert path.read_bytes() == first


def test_metrics_grow_and_are_rewound(run):
    lines = [{"step": step, "loss": 1 / step} for step in (10, 20, 30)]
    assert run.read_metrics() == []
    for line in lines:
        run.append_metrics(line)
    assert RunDirectory.open(run.path).read_metrics() == lines
    assert run.rewind_metrics(20) == lines[:2]
    run.append_metrics(lines[2])
    assert run.read_metrics() == lines
    assert run.rewind_metrics(0) == run.read_metrics() == []


# ---- a directory that cannot be a new run ----


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("config.json", "continue it with --resume, or choose another directory"),
        ("notes.txt", "choose another directory"),
    ],
)
def test_a_directory_with_something_in_it_is_refused_and_left_alone(tmp_path, content, advice):
    (tmp_path / content).write_text("precious")
    with pytest.raises(ValueError, match=f"exists and is not empty: {advice} with --out"):
        RunDirectory.create(tmp_path, settings())
    assert names(tmp_path) == [content]
    assert (tmp_path / content).read_text() == "precious"


def test_an_empty_directory_will_do(tmp_path):
    assert RunDirectory.create(tmp_path, settings()).path == tmp_path


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match=f"could not make the directory {path}: "):
            RunDirectory.create(path, settings())
    assert (tmp_path / "file").read_text() == "precious"


# ---- writes that fail ----


def fail_with(code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    return fail


WRITES = {
    "config.json": lambda run: runs.write_json(run.path / "config.json", {"new": 1}),
    "weights.safetensors": lambda run: run.save_weights(lf.Transformer(MODEL, seed=4), STATE),
    "checkpoint.safetensors": lambda run: run.save_checkpoint({"a": torch.ones(3)}, STATE),
    "metrics.jsonl": lambda run: run.rewind_metrics(0),
}


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("name", WRITES)
def test_a_failed_write_leaves_the_old_file_and_no_other(name, call, finished, monkeypatch):
    finished.save_checkpoint({"a": torch.zeros(3)}, STATE)
    finished.append_metrics({"step": 1})
    before = {path: path.read_bytes() for path in finished.path.iterdir()}
    monkeypatch.setattr(os, call, fail_with(errno.ENOSPC))
    with pytest.raises(RunError, match=f"could not write .*{name}: No space left on device; make room there"):
        WRITES[name](finished)
    assert {path: path.read_bytes() for path in finished.path.iterdir()} == before


def test_an_interrupted_write_leaves_the_old_file_and_no_other(finished, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in finished.path.iterdir()}
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        WRITES["weights.safetensors"](finished)
    assert {path: path.read_bytes() for path in finished.path.iterdir()} == before


def test_a_run_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail_with(errno.EIO))
    with pytest.raises(RunError, match=r"could not write .*config\.json: Input/output error"):
        RunDirectory.create(tmp_path / "new", settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"could not write .*config\.json"):
        RunDirectory.create(tmp_path / "empty", settings())
    assert names(tmp_path) == ["empty"]
    assert names(tmp_path / "empty") == []


def test_a_full_disk_in_the_middle_of_a_write(tmp_path):
    """The limit on the size of a file stands for the disk: the second write breaks off after 4,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from lengen_fast.runs import RunError, write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "path = Path(sys.argv[1])\n"
        "write_atomically(path, b'new')\n"
        "try:\n"
        "    write_atomically(path, bytes(100_000))\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout == f"could not write {path}: File too large; make room there or choose another place\n"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_line_of_metrics_that_does_not_fit_on_the_disk(run):
    run.append_metrics({"step": 1, "loss": 0.5})
    size = (run.path / "metrics.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, before[1]))
    try:
        with pytest.raises(RunError, match=r"could not write .*metrics\.jsonl: File too large"):
            run.append_metrics({"step": 2, "loss": 0.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.read_metrics() == [{"step": 1, "loss": 0.5}]


# ---- damage ----


def test_truncated_weights_are_noticed_at_every_byte(finished):
    path = finished.path / "weights.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for size in {*range(20), *range(header - 20, header + 20), *range(20, len(content), 97), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(RunError, match=r"weights\.safetensors is damaged"):
            finished.load_model()
        assert path.stat().st_size == size


def test_a_flipped_bit_is_noticed_wherever_it_is(finished):
    """In the length of the header, its names, shapes, offsets and state, and in the weights themselves."""
    path = finished.path / "weights.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in (*range(64), *range(64, 8 * header, 13), *range(8 * header, 8 * len(content), 997)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(RunError, match=r"weights\.safetensors"):
            finished.load_model()


@pytest.mark.parametrize("content", [b"", b"not weights", bytes(100)], ids=["empty", "text", "zeros"])
def test_files_that_are_no_weights(finished, content):
    finished.save_checkpoint({"a": torch.zeros(3)}, STATE)
    (finished.path / "weights.safetensors").write_bytes(content)
    (finished.path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged and cannot be read"):
        finished.load_model()
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is damaged and cannot be read"):
        finished.load_checkpoint()


def test_weights_of_another_run_are_refused(finished, tmp_path):
    other = RunDirectory.create(tmp_path / "other", settings(seed=1))
    shutil.copy(finished.path / "weights.safetensors", other.path)
    with pytest.raises(RunError, match=r"weights\.safetensors belongs to another run than the config\.json beside it"):
        other.load_model()


def test_weights_of_another_shape_are_refused(run):
    run.save_weights(lf.Transformer(lf.ModelConfig(5, 1, 2, 8, context=40)), STATE)
    with pytest.raises(RunError, match=r"weights\.safetensors does not fit the model in config\.json"):
        run.load_model()


def test_weights_of_foreign_make_are_refused(run):
    """Such as ``safetensors.torch.save_file`` of the same tensors, without what a run adds."""
    safetensors.torch.save_file(lf.Transformer(MODEL).state_dict(), run.path / "weights.safetensors")
    with pytest.raises(RunError, match=r"weights\.safetensors is damaged and cannot be read"):
        run.load_model()


def test_weights_before_the_end_of_training_are_asked_for_in_vain(run):
    with pytest.raises(RunError, match=r"has no weights\.safetensors: finish its training with --resume first"):
        run.load_model()


def edit(config, value, *keys):
    for key in keys[:-1]:
        config = config[key]
    config[keys[-1]] = value


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (1, ["seed"]),
        (3, ["model", "layers"]),
        ("parity", ["task", "name"]),
        (31, ["train", "steps"]),
        ("0", ["digest"]),
    ],
    ids=str,
)
def test_edited_settings_are_noticed(run, value, keys):
    content = json.loads((run.path / "config.json").read_text())
    edit(content, value, *keys)
    (run.path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"config\.json was edited after the run began"):
        RunDirectory.open(run.path)


def test_reformatted_settings_are_the_same(run):
    content = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    assert RunDirectory.open(run.path).config == run.config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b'{"format": 1, "task"', "is damaged"),
        (b'{"format": "\xff"}', "is damaged"),
        (b"[1, 2]", "is not of format 1"),
        (b'{"format": 2}', "is not of format 1"),
        (b"{}", "is not of format 1"),
    ],
    ids=str,
)
def test_damaged_settings(run, content, message):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=rf"config\.json {message}"):
        RunDirectory.open(run.path)
    assert (run.path / "config.json").read_bytes() == content


def test_no_run_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=f"{path} is not a run directory: it has no config.json"):
            RunDirectory.open(path)
    with pytest.raises(RunError, match=r"accuracy\.json does not exist"):
        runs.read_json(tmp_path / "accuracy.json")


@pytest.mark.parametrize("kept", [0, 1, 5, 10, 11])
def test_a_last_line_cut_short_is_left_out(run, kept):
    whole = [{"step": 1}, {"step": 2}]
    for line in whole:
        run.append_metrics(line)
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3}\n'[:kept])
    assert run.read_metrics() == run.rewind_metrics(2) == whole
    run.append_metrics({"step": 3})
    assert run.read_metrics() == [*whole, {"step": 3}]


@pytest.mark.parametrize("line", [b'{"step": 1', b"\xff\xfe", b"[1]", b'{"loss": 1}', b"\x00\x00"], ids=str)
def test_a_damaged_line_in_the_middle_is_told(run, line):
    (run.path / "metrics.jsonl").write_bytes(line + b'\n{"step": 2}\n')
    for read in (run.read_metrics, lambda: run.rewind_metrics(2)):
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            read()
    assert (run.path / "metrics.jsonl").read_bytes().startswith(line)


# ---- one process at a time ----


def test_a_run_in_use_is_refused_until_it_is_let_go(run):
    code = f"import lengen_fast as lf\nwith lf.RunDirectory.open({str(run.path)!r}).locked(): print('mine')"
    with run.locked():
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "is being trained by another process" in refused.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "mine\n"


def test_of_two_that_begin_one_run_at_once_one_is_refused(tmp_path, monkeypatch):
    """Both have found the directory empty when the first writes its settings."""
    settings = {"task": {}, "model": {}, "train": {}, "seed": 0}

    def other_process():
        monkeypatch.setattr(runs, "commit", lambda: None)
        RunDirectory.create(tmp_path / "run", settings | {"seed": 1})

    monkeypatch.setattr(runs, "commit", other_process)
    with pytest.raises(ValueError, match="taken by another process"):
        RunDirectory.create(tmp_path / "run", settings)
    assert RunDirectory.open(tmp_path / "run").config["seed"] == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
