"""Tables and figures of finished runs: accuracy against length, beside what the paper published and predicted."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lengen_fast.evaluation import Accuracy, AccuracyTable, percentage, wilson_interval
from lengen_fast.lengths import Number, Pair, bounds, exceeds, extent
from lengen_fast.positions import encoding
from lengen_fast.published import BINS, Published, published
from lengen_fast.runs import RunDirectory, RunError, read_json, write_atomically
from lengen_fast.training import default_configs

CLASSES = {"ape": "C-RASP[periodic, local]", "nope": "C-RASP"}
FIGURE_FORMATS = ("png", "pdf", "svg")
COLOURS = ("#0b6fb8", "#d1542c", "#2f8f5b", "#8a5bb0", "#b8860b", "#5f6b77")


@dataclass(frozen=True)
class Outcome:
    """One finished run as a report needs it.

    Attributes:
        task, positions: what was trained.
        settings: everything that was set of it, as text, but for the seed; runs of equal settings are seeds of one.
        difference: in words, how the settings differ from the paper's; "" if they do not.
        seed: of weights and strings.
        published: the paper's figures for the task, encoding and coefficient, without accuracies if training strings
            had other lengths than the paper's.
        trained: least and greatest length, or pair of lengths, of the training strings.
        fitted: whether every string of the last in-range test was right.
        table: accuracy by length.
        chance: exact match of guessing, or None.
        comparison: theory's verdict before training against the table, in a sentence; None where none was kept.
    """

    task: str
    positions: str
    settings: str
    difference: str
    seed: int
    published: Published
    trained: tuple[Number, Number]
    fitted: bool
    table: AccuracyTable
    chance: float | None
    comparison: str | None = None

    @property
    def title(self) -> str:
        """Task and encoding, as the paper names them."""
        return f"{self.task}, {encoding(self.positions).title}"

    @property
    def label(self) -> str:
        """How a figure names runs that differ in their seed alone."""
        return self.title + (f" ({self.difference})" if self.difference else "")


def outcome(directory: RunDirectory) -> Outcome:
    """Read a finished run.

    Raises:
        RunError: it has not been evaluated yet, accuracy.json is damaged, or its task is a Python function.
    """
    path = directory.path / "accuracy.json"
    if "function" in directory.config["task"]:
        raise RunError(f"{directory.path} was trained on a Python function: test it in Python, with lf.evaluate")
    if not path.exists() and "evaluation" not in directory.config:
        raise RunError(f"{directory.path} was trained in Python and has no accuracy.json: test it with lengen evaluate")
    if not path.exists():
        raise RunError(f"{directory.path} has no accuracy.json: finish it with lengen run --resume first")
    content = read_json(path)
    try:
        found = describe(directory, AccuracyTable.from_dict(content), bool(content["fitted"]))
        kept = content.get("theory")  # not of runs in Python, and not of older ones
        return replace(found, comparison=kept["sentence"]) if kept else found
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): delete it and finish the run with lengen run --resume") from error


def describe(directory: RunDirectory, table: AccuracyTable, fitted: bool) -> Outcome:
    """An accuracy table of a run, beside what its configuration says."""
    task, model, train = directory.task, directory.model_config, directory.config["train"]
    usual_model, usual_train = default_configs(task, model.positions)
    usual = usual_train.as_dict() | {name: train.get(name) for name in ("seed", "regularize", "threads")}
    shaped = replace(model, context=usual_model.context) == replace(usual_model, vocab_size=model.vocab_size)
    differences = [] if shaped else [f"{model.layers}/{model.heads}/{model.width}"]
    if model.longest not in (None, usual_model.context):
        differences.append(f"{model.longest:,} positions")
    if train["regularize"]:
        differences.append(f"regularized {train['regularize']:g}")
    trained, usually_trained = bounds(train["length"]), bounds(usual_train.length)
    if trained != usually_trained:
        differences.append(f"trained on {trained[0]} to {trained[1]}")
    if train["distribution"] != usual["distribution"]:
        differences.append(f"{train['distribution']} strings")
    if train | {name: usual[name] for name in ("length", "distribution")} != usual:
        differences.append(f"{train['steps']:,} steps of {train['batch']}, rate {train['learning_rate']:g}")
    figures = published(task.name, model.positions, train["regularize"])
    usually = trained == usually_trained and train["distribution"] == usual["distribution"]
    train = train | {"seed": None, "threads": None}
    settings = {"task": directory.config["task"], "model": model.as_dict(), "train": train}
    return Outcome(
        task=task.name,
        positions=model.positions,
        settings=json.dumps(settings, sort_keys=True),
        difference=", ".join(differences),
        seed=directory.config["seed"],
        published=figures if usually else replace(figures, accuracy=None),
        trained=trained,
        fitted=fitted,
        table=table,
        chance=task.chance,
    )


def published_at(result: Outcome, line: Accuracy) -> float | None:
    """The published exact match for the bin of a line, or None where the paper measured something else."""
    if line.distribution != "paper" or line.offsets != "zero":
        return None
    for (low, high), value in zip(BINS, result.published.accuracy or (), strict=False):
        if (line.low, line.high) == (max(low, result.trained[0]), high):
            return value
    return None


def prediction_sentence(task: str, positions: str) -> str:
    """The paper's prediction for a task and an encoding, in words."""
    predicted, title = published(task, positions).predicted, encoding(positions).title
    if predicted is None:
        return f"the paper makes no prediction for {task} with {title}"
    known = f"a {CLASSES[positions]} program is known" if predicted else f"no {CLASSES[positions]} program is known"
    return f"the paper predicts that {task} with {title} {'generalizes' if predicted else 'fails'}: {known}"


def outcome_sentence(result: Outcome) -> str:
    """What happened beyond the training range, in words."""
    beyond = [line for line in result.table if exceeds(line.low, result.trained[1])]
    if not result.fitted:
        return "training did not reach 100% in its own range, so longer strings say little"
    if not beyond:
        return "no length beyond the training range was tested"
    figures = ", ".join(f"{percentage(line.exact, 1)} at {line.label}" for line in beyond)
    return f"beyond the training range: {figures}"


def accuracy_rows(result: Outcome) -> list[list[str]]:
    """Header and lines of the table that ``run`` and ``evaluate`` print."""
    rows = [["length", "strings", "exact match", "95% interval", "per position", "first wrong", "paper"]]
    for line in result.table:
        low, high = line.interval
        figure = published_at(result, line)
        rows.append(
            [
                line.label,
                f"{line.count:,}",
                percentage(line.exact),
                f"{percentage(low)} to {percentage(high)}",
                percentage(line.per_position),
                "-" if line.first_wrong_median is None else f"{line.first_wrong_median:g}",
                "-" if figure is None else percentage(figure),
            ]
        )
    return rows


def save_figure(results: Sequence[Outcome], path: Path) -> None:
    """Accuracy against length of some runs: training range shaded, 95% bands, chance, the paper's marks.

    Runs that differ in their seed alone are one line of pooled counts; its band is of strings, and says nothing of how
    far seeds differ, which thin lines show.
    """
    from matplotlib.figure import Figure  # slow to import; no other command needs it

    groups: dict[str, list[Outcome]] = defaultdict(list)
    for result in results:
        groups[result.settings].append(result)
    figure = Figure(figsize=(7.5, 4.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    _shade_training_range(axes, results)
    for number, group in enumerate(groups.values()):
        _draw_group(axes, group, COLOURS[number % len(COLOURS)])
    _draw_chance(axes, results)
    _finish_axes(axes, results)
    write_figure(figure, path)


def check_figure_name(name: str) -> None:
    """That a figure can be written under this name, before it is made.

    Raises:
        ValueError: its ending is none of FIGURE_FORMATS.
    """
    if _figure_format(Path(name)) not in FIGURE_FORMATS:
        endings = ", ".join(f".{form}" for form in FIGURE_FORMATS)
        raise ValueError(
            f"{name}: a figure cannot be written as {Path(name).suffix}; end its name with one of {endings}"
        )


def _figure_format(path: Path) -> str:
    return path.suffix.removeprefix(".").lower() or "png"


def write_figure(figure, path: Path) -> None:
    """A matplotlib figure in the format that its name ends with, written under another name and renamed."""
    content = io.BytesIO()
    figure.savefig(content, format=_figure_format(path))
    write_atomically(path, content.getvalue())


def _shade_training_range(axes, results: Sequence[Outcome]) -> None:
    low = min(extent(result.trained[0]) for result in results)
    high = max(extent(result.trained[1]) for result in results)
    axes.axvspan(max(low, 1), high, color="#e9edf1", zorder=0)
    axes.text(
        (max(low, 1) * high) ** 0.5, 1.075, "training range", ha="center", va="center", fontsize=8, color="#5f6b77"
    )


def _draw_group(axes, group: list[Outcome], colour: str) -> None:
    label = group[0].label
    lines = _pool(group)
    centres = [_centre(low, high) for low, high, _, _ in lines]
    shares = [correct / count for _, _, correct, count in lines]
    bands = [wilson_interval(correct, count) for _, _, correct, count in lines]
    seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
    axes.plot(centres, shares, color=colour, marker="o", markersize=4, linewidth=1.6, label=label + seeds, zorder=3)
    axes.fill_between(
        centres, [b[0] for b in bands], [b[1] for b in bands], color=colour, alpha=0.18, linewidth=0, zorder=2
    )
    for (low, high, _, _), share in zip(lines, shares, strict=True):
        axes.plot(
            [max(extent(low), 1), extent(high)],
            [share, share],
            color=colour,
            linewidth=4,
            alpha=0.35,
            solid_capstyle="butt",
            zorder=2,
        )
    for result in group if len(group) > 1 else ():
        own = sorted((_centre(line.low, line.high), line.exact) for line in result.table)
        axes.plot(*zip(*own, strict=True), color=colour, linewidth=0.7, alpha=0.5, zorder=2)
    marks = [
        (_centre(line.low, line.high), figure)
        for line in group[0].table
        if (figure := published_at(group[0], line)) is not None
    ]
    if marks:
        xs, ys = zip(*marks, strict=True)
        axes.plot(
            xs,
            ys,
            linestyle="none",
            marker="D",
            markersize=8,
            markerfacecolor="none",
            markeredgecolor=colour,
            label=f"{group[0].title}: published in the paper",
            zorder=4,
        )


def _pool(group: list[Outcome]) -> list[tuple[Number, Number, int, int]]:
    """(low, high, correct, count) summed over runs, by length."""
    counts: dict[tuple[Number, Number], list[int]] = defaultdict(lambda: [0, 0])
    for result in group:
        for line in result.table:
            counts[line.low, line.high][0] += line.correct
            counts[line.low, line.high][1] += line.count
    ordered = sorted(counts.items(), key=lambda item: _centre(*item[0]))
    return [(low, high, correct, count) for (low, high), (correct, count) in ordered]


def _centre(low: Number, high: Number) -> float:
    return max((extent(low) + extent(high)) / 2, 1)


def _draw_chance(axes, results: Sequence[Outcome]) -> None:
    for chance in sorted({result.chance for result in results if result.chance}):
        axes.axhline(
            chance, color="#5f6b77", linewidth=1, linestyle=(0, (4, 3)), zorder=1, label=f"chance, {chance:.0%}"
        )


def _finish_axes(axes, results: Sequence[Outcome]) -> None:
    lines = [line for result in results for line in result.table]
    highest = max(extent(line.high) for line in lines)
    lowest = min(extent(low) for low in (*(result.trained[0] for result in results), *(line.low for line in lines)))
    axes.set_xscale("log")
    axes.set_xlim(max(lowest, 1), highest * 1.5)
    axes.set_ylim(-0.03, 1.12)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
    usual = (1, 10, 50, 150, 512, 4096, 16384, 65536, 262144, 1048576)
    ticks = [*(tick for tick in usual if tick * 1.5 < highest), highest]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    paired = any(isinstance(line.low, Pair) for line in lines)
    axes.set_xlabel("both lengths together" if paired else "length of the string")
    axes.set_ylabel("exact match")
    axes.grid(axis="y", color="#d9dee3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=2)
