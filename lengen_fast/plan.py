"""What ``lengen run`` is to do: everything checked and settled before any work."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from lengen_fast.evaluation import check_context
from lengen_fast.lengths import Length, Pair, bounds, extent, from_json, written
from lengen_fast.model import ModelConfig
from lengen_fast.runs import RunDirectory, RunError
from lengen_fast.tasks import LONGEST_LENGTH, Task
from lengen_fast.tasks import task as find_task
from lengen_fast.training import TrainConfig, check_device, check_settings, default_configs, run_settings


@dataclass(frozen=True)
class Plan:
    """Everything ``lengen run`` is to do, checked before any work."""

    task: Task
    model: ModelConfig
    train: TrainConfig
    lengths: list[Length]
    count: int | None
    device: str
    directory: RunDirectory


MODEL_OPTIONS = ("layers", "heads", "width", "context")
TRAIN_OPTIONS = ("learning_rate", "steps", "batch", "seed", "warmup", "regularize")


def new_plan(options: argparse.Namespace) -> Plan:
    """The plan of a new run, with its directory made.

    Raises:
        ValueError: settings that are wrong or do not fit together, or a directory that is not empty.
        RunError: the directory cannot be written.
    """
    device = options.device or "cpu"
    check_device(device)
    positions = options.positions or "ape"
    task = find_task(options.task)
    trained = options.train_length or (task.min_length, 50)
    lengths = options.eval_lengths or _default_lengths(task, positions, trained)
    ranges = [bounds(length) for length in lengths]
    longest = [high for _, high in [*ranges, bounds(trained)]]
    task = with_symbols(task, max(map(extent, longest)))
    for low, high in [*ranges, bounds(trained)]:
        task.check_lengths(low, high)
    model, train = default_configs(
        task,
        positions,
        longest=longest[-1],
        model={"context": max(map(task.context_for, longest))} | _given(options, MODEL_OPTIONS),
        train=_given(options, TRAIN_OPTIONS) | ({"length": options.train_length} if options.train_length else {}),
    )
    check_settings(model, task, train)
    for low, high in ranges:
        check_context(model, task, task.check_lengths(low, high)[-1])
    if options.count is not None:
        check_count(options.count)
    evaluation = {"lengths": [list(pair) for pair in ranges], "count": options.count}
    settings = {**run_settings(model, task, train), "device": device, "evaluation": evaluation}
    return Plan(task, model, train, lengths, options.count, device, RunDirectory.create(options.out, settings))


def resumed_plan(options: argparse.Namespace) -> Plan:
    """The plan of a run that was begun.

    Raises:
        ValueError: an option that differs from what the run was begun with.
        RunError: there is no run, or it is damaged.
    """
    directory = RunDirectory.open(options.out)
    config = directory.config
    if "evaluation" not in config:
        raise RunError(f"{options.out} was begun in Python by lf.train: resume it there")
    model, train = directory.model_config, TrainConfig(**config["train"])
    stored = {
        "task": config["task"]["name"],
        "positions": model.positions,
        "train_length": train.length,
        "eval_lengths": [written(*map(from_json, ends)) for ends in config["evaluation"]["lengths"]],
        "count": config["evaluation"]["count"],
        "device": config.get("device", "cpu"),
        **{name: getattr(model, name) for name in MODEL_OPTIONS},
        **{name: getattr(train, name) for name in TRAIN_OPTIONS},
    }
    for name, value in stored.items():
        asked = getattr(options, name)
        if asked is not None and asked != value:
            option = "TASK" if name == "task" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{options.out} was begun with {option} {value}, not {asked}: leave it out, or start anew")
    check_device(stored["device"])
    return Plan(directory.task, model, train, stored["eval_lengths"], stored["count"], stored["device"], directory)


def _default_lengths(task: Task, positions: str, trained: Length) -> list[Length]:
    """The paper's bins, and two longer lengths where no table bounds them; for pairs, training's and up to twice it."""
    if isinstance(bounds(trained)[1], Pair):
        beyond = tuple((high + 1, 2 * high) for high in bounds(trained)[1])
        return [trained, beyond]
    bins = [(task.min_length, 50), (51, 100), (101, 150)]
    return [*bins, 512, 4096] if positions == "nope" and not task.alphabet_grows else bins


def with_symbols(task: Task, longest: int) -> Task:
    """An alphabet for the longest length, where there can be one; ``check_lengths`` says where there cannot."""
    return task.with_symbols(longest) if 0 < longest <= LONGEST_LENGTH else task


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def default_directory(options: argparse.Namespace) -> str:
    """Where a run goes if nobody says."""
    return f"runs/{options.task}-{options.positions or 'ape'}-seed{options.seed or 0}"


def check_count(count: int) -> None:
    """Raise a ValueError for a number of strings that is none."""
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
