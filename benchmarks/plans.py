"""Runs that a benchmark trains and tests: what they are, their directories, and what of them goes on record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import record
from lengen_fast import RunDirectory, default_configs, evaluate, reporting, task, train
from lengen_fast.published import published
from lengen_fast.runs import read_json, write_json
from lengen_fast.training import run_settings

RUNS = Path(os.environ.get("LENGEN_RUNS", "runs"))


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        task, positions, seed: what is trained.
        bins: lengths at which it is tested, the training range first.
        longer: longer lengths, which a position table has to serve.
        model, train: settings other than the defaults of the task.
    """

    task: str
    positions: str
    seed: int
    bins: tuple[tuple[int, int], ...]
    longer: tuple[int, ...] = ()
    model: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its directory."""
        table = "-long" if self.longer and self.positions == "ape" else ""
        return f"{self.task}-{self.positions}{table}-seed{self.seed}"

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """(low, high) of every test."""
        return [*self.bins, *((n, n) for n in self.longer)]

    @property
    def longest(self) -> int:
        """The greatest length tested."""
        return max(high for _, high in self.lengths)


def trained_and_tested(plan: Plan, folder: str) -> RunDirectory:
    """The finished run of a plan below ``RUNS / folder``: begun, gone on with, or as it is there."""
    what = task(plan.task)
    what = what.with_symbols(plan.longest)
    model_config, train_config = default_configs(
        what, plan.positions, longest=plan.longest, model=plan.model, train={"seed": plan.seed, **plan.train}
    )
    path = RUNS / folder / plan.name
    resume = (path / "config.json").exists()
    evaluation = {"lengths": [list(each) for each in plan.lengths], "count": None}
    settings = {**run_settings(model_config, what, train_config), "device": "cpu", "evaluation": evaluation}
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, settings)
    print(f"\n{plan.name}", flush=True)
    if not (path / "accuracy.json").exists():
        trained = train(model_config, what, train_config, out=directory, resume=resume, observer=_say)
        table = evaluate(trained.model, what, plan.lengths, seed=plan.seed)
        write_json(path / "accuracy.json", {**table.as_dict(), "step": trained.step, "fitted": trained.fitted})
    print(record.table(("length", "strings", "exact match", "95% from", "to", "published"), list(_lines(directory))))
    return directory


def is_finished(plan: Plan, folder: str) -> bool:
    """Whether the run of a plan has been trained and tested."""
    return (RUNS / folder / plan.name / "accuracy.json").exists()


def result(plan: Plan, directory: RunDirectory) -> dict:
    """What of a finished run goes on record."""
    figures = published(plan.task, plan.positions)
    content = read_json(directory.path / "accuracy.json")
    model = directory.config["model"]
    return {
        "task": plan.task,
        "positions": plan.positions,
        "seed": plan.seed,
        "shape": [model["layers"], model["heads"], model["width"]],
        "context": model["context"],
        "step": content["step"],
        "fitted": content["fitted"],
        "published": figures.accuracy,
        "predicted": figures.predicted,
        "commit": directory.config["commit"],
        "versions": directory.config["versions"],
        "lines": reporting.outcome(directory).table.as_dict()["lines"],
    }


def _say(step: int, tokens: int, loss: float | None) -> None:
    if loss is not None and step % 1000 == 0:
        print(f"  step {step}, loss {loss:.5f}", flush=True)


def _lines(directory: RunDirectory) -> Iterator[tuple]:
    outcome = reporting.outcome(directory)
    for line in outcome.table:
        low, high = line.interval
        figure = reporting.published_at(outcome, line)
        yield line.label, line.count, line.exact, low, high, "-" if figure is None else figure
