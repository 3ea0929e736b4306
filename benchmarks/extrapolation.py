"""The paper's protocol reproduced on a CPU, and beyond its bins.

Claim: trained as arXiv 2410.02140 trained (strings up to 50, its settings, stop at 100% in range), binary_majority,
majority and unique_copy reach the published accuracies in the bins 51-100 and 101-150, which are shown beside ours; and
the same models are tested at about 512 and 4,096 tokens. Without positions any length may be asked of a model; with
learned positions the table must be that long from the start, so those runs are trained twice: with the paper's table
for its bins, and with a table (and random offsets) of 4,100 positions for the longer lengths.

Takes hours on two cores. Each run is resumable: the same command goes on where it stopped. ``--quick`` trains
binary_majority alone, one seed of each kind. A figure goes beside the record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import record
from lengen_fast import RunDirectory, default_configs, evaluate, reporting, task, train
from lengen_fast.published import published
from lengen_fast.runs import read_json, write_json
from lengen_fast.training import run_settings

RUNS = Path(os.environ.get("LENGEN_RUNS", "runs/extrapolation"))
FIGURE = Path(__file__).parent / "results" / "extrapolation.png"
BINS = [(1, 50), (51, 100), (101, 150)]


@dataclass(frozen=True)
class Plan:
    """One run: what is trained, and the lengths at which it is tested beside the paper's bins."""

    task: str
    positions: str
    seed: int
    longer: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its directory."""
        table = "-long" if self.longer and self.positions == "ape" else ""
        return f"{self.task}-{self.positions}{table}-seed{self.seed}"


LONGER = (512, 4096)
LONGER_COPIES = (254, 2046)  # strings of 511 and 4,095 tokens

PLANS = (
    *(Plan("binary_majority", "ape", seed) for seed in range(5)),
    *(Plan("binary_majority", "ape", seed, LONGER) for seed in range(5)),
    *(Plan("binary_majority", "nope", seed, LONGER) for seed in range(5)),
    *(Plan("majority", "nope", seed, LONGER) for seed in range(3)),
    Plan("unique_copy", "ape", 0),
    Plan("unique_copy", "ape", 0, LONGER_COPIES),
)


def run(quick: bool) -> dict:
    """Train and test every plan that is not there yet; one result a run."""
    plans = [plan for plan in PLANS if plan.task == "binary_majority" and plan.seed == 0] if quick else PLANS
    results = []
    for plan in plans:
        directory = _trained_and_tested(plan)
        results.append(_result(plan, directory))
        headings = ("length", "strings", "exact match", "95% from", "to", "published")
        print(record.table(headings, list(_lines(directory))))
    if not quick:
        reporting.save_figure([reporting.outcome(RunDirectory.open(RUNS / plan.name)) for plan in plans], FIGURE)
    return {"runs": results}


def _trained_and_tested(plan: Plan) -> RunDirectory:
    lengths = [*BINS, *plan.longer]
    longest = max([150, *plan.longer])
    what = task(plan.task).with_symbols(longest)
    model_config, train_config = default_configs(what, plan.positions, longest=longest, train={"seed": plan.seed})
    path = RUNS / plan.name
    resume = (path / "config.json").exists()
    evaluation = {"lengths": [[n, n] if isinstance(n, int) else list(n) for n in lengths], "count": None}
    settings = {**run_settings(model_config, what, train_config), "device": "cpu", "evaluation": evaluation}
    directory = RunDirectory.open(path) if resume else RunDirectory.create(path, settings)
    print(f"\n{plan.name}", flush=True)
    if (path / "accuracy.json").exists():
        return directory
    trained = train(model_config, what, train_config, out=directory, resume=resume, observer=_say)
    table = evaluate(trained.model, what, lengths, seed=plan.seed)
    write_json(path / "accuracy.json", {**table.as_dict(), "step": trained.step, "fitted": trained.fitted})
    return directory


def _say(step: int, tokens: int, loss: float | None) -> None:
    if loss is not None and step % 1000 == 0:
        print(f"  step {step}, loss {loss:.5f}", flush=True)


def _result(plan: Plan, directory: RunDirectory) -> dict:
    outcome = reporting.outcome(directory)
    figures = published(plan.task, plan.positions)
    content = read_json(directory.path / "accuracy.json")
    return {
        "task": plan.task,
        "positions": plan.positions,
        "seed": plan.seed,
        "context": directory.config["model"]["context"],
        "step": content["step"],
        "fitted": content["fitted"],
        "published": figures.accuracy,
        "predicted": figures.predicted,
        "commit": directory.config["commit"],
        "versions": directory.config["versions"],
        "lines": outcome.table.as_dict()["lines"],
    }


def _lines(directory: RunDirectory) -> Iterator[tuple]:
    outcome = reporting.outcome(directory)
    for line in outcome.table:
        low, high = line.interval
        figure = reporting.published_at(outcome, line)
        yield line.label, line.count, line.exact, low, high, "-" if figure is None else figure
