"""What ``lengen run`` is to do: everything checked and settled before any work."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass

from lengen_fast.devices import check_device
from lengen_fast.evaluation import check_context
from lengen_fast.lengths import Length, Number, Pair, bounds, extent, from_json, label, written
from lengen_fast.model import ModelConfig
from lengen_fast.runs import RunDirectory, RunError
from lengen_fast.tasks import LONGEST_LENGTH, Language, Task, language
from lengen_fast.tasks import task as find_task
from lengen_fast.training import TrainConfig, check_settings, default_configs, run_settings


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
TRAIN_OPTIONS = ("distribution", "learning_rate", "steps", "batch", "seed", "warmup", "regularize")


def new_plan(options: argparse.Namespace) -> Plan:
    """The plan of a new run, with its directory made.

    Raises:
        ValueError: settings that are wrong or do not fit together, or a directory that is not empty.
        RunError: the directory cannot be written.
    """
    device = options.device or "cpu"
    check_device(device)
    positions = options.positions or "ape"
    task = chosen_task(options)
    trained = options.train_length or task.usual_lengths
    lengths = options.eval_lengths or _default_lengths(task, positions, trained)
    ranges = [bounds(length) for length in lengths]
    longest = [high for _, high in [*ranges, bounds(trained)]]
    task = with_symbols(task, max(map(extent, longest)))
    distribution = options.distribution
    for low, high in [*ranges, bounds(trained)]:
        task.check_lengths(low, high, distribution)
    _check_training(task, *bounds(trained), distribution)
    model, train = default_configs(
        task,
        positions,
        longest=longest[-1],
        model={"context": max(map(task.context_for, longest))} | _given(options, MODEL_OPTIONS),
        train=_given(options, TRAIN_OPTIONS) | ({"length": options.train_length} if options.train_length else {}),
    )
    check_settings(model, task, train)
    for low, high in ranges:
        check_context(model, task, task.check_lengths(low, high, distribution)[-1])
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
    if options.dfa is not None:
        raise ValueError(f"{options.out} keeps the DFA it was begun with: leave --dfa out")
    stored = {
        "task": config["task"]["name"] if config["task"].get("automaton") is None else None,
        "regex": config["task"].get("regex"),
        "alphabet": "".join(config["task"].get("automaton", {"alphabet": ()})["alphabet"]) or None,
        "labels": config["task"].get("labels"),
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
    """The usual bins, and two longer lengths where no table bounds them: the greatest up to 512 and 4096.

    For pairs of lengths, those of training and up to twice it.
    """
    if isinstance(bounds(trained)[1], Pair):
        beyond = tuple((high + 1, 2 * high) for high in bounds(trained)[1])
        return [trained, beyond]
    bins = task.usual_bins
    if positions != "nope" or task.alphabet_grows:
        return bins
    beyond = bins[-1][1] + 1
    far = [reached[-1] for end in (512, 4096) if (reached := task.reachable(beyond, min(end, task.max_length)))]
    return [*bins, *dict.fromkeys(far)]


def _check_training(task: Task, low: Number, high: Number, distribution: str | None) -> None:
    """Raise a ValueError if there is nothing to train on but the empty string."""
    if isinstance(task, Language) and list(task.check_lengths(low, high, distribution)) == [0]:
        raise ValueError(
            f"the only string of {task.name} to train on, of length {label(written(low, high))}, is the empty one; "
            f"give --train-length a range with others, such as 0:120"
        )


def with_symbols(task: Task, longest: int) -> Task:
    """An alphabet for the longest length, where there can be one; ``check_lengths`` says where there cannot."""
    return task.with_symbols(longest) if 0 < longest <= LONGEST_LENGTH else task


def chosen_task(options: argparse.Namespace) -> Task:
    """The task of TASK, --regex or --dfa, and --labels.

    Raises:
        ValueError: none of them is given or several are, or what is given is wrong.
    """
    given = [name for name in ("task", "regex", "dfa") if getattr(options, name) is not None]
    if len(given) != 1:
        raise ValueError("give one of TASK, --regex and --dfa, such as parity or --regex '(aa)*'")
    if options.alphabet is not None and options.regex is None:
        raise ValueError("--alphabet goes with --regex: leave it out")
    if options.task is not None:
        return find_task(options.task, labels=options.labels)
    return language(options.regex, dfa=options.dfa, alphabet=options.alphabet, labels=options.labels or "legal+end")


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def default_directory(options: argparse.Namespace) -> str:
    """Where a run goes if nobody says."""
    task = chosen_task(options)
    other = f"-{options.distribution}" if options.distribution not in (None, task.distributions[0]) else ""
    return f"runs/{_directory_name(task)}-{options.positions or 'ape'}{other}-seed{options.seed or 0}"


def _directory_name(task: Task) -> str:
    """The name of a task; of a language of the user's own, what is left of it, and a digest of its definition."""
    labels = f"-{task.labels}" if isinstance(task, Language) and task.labels != "legal+end" else ""
    if not isinstance(task, Language) or task.is_named:
        return task.name + labels
    definition = json.dumps(task.definition(), sort_keys=True).encode()
    words = "_".join(re.findall("[A-Za-z0-9]+", task.name))[:40]
    return "-".join(filter(None, ("language", words, hashlib.sha256(definition).hexdigest()[:8]))) + labels


def check_count(count: int) -> None:
    """Raise a ValueError for a number of strings that is none."""
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")
