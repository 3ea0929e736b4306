"""The command ``lengen``: tasks, generate, run, evaluate, report."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lengen_fast.positions import encoding
from lengen_fast.progress import duration

if TYPE_CHECKING:
    from lengen_fast.data import Batch
    from lengen_fast.model import ModelConfig
    from lengen_fast.runs import RunDirectory
    from lengen_fast.tasks import Task
    from lengen_fast.training import Run, TrainConfig

USAGE_ERROR, FAILURE, INTERRUPTED = 2, 1, 130

DESCRIPTION = "Trained on short strings, will this transformer be right on long ones?"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 if it failed, 2 if it was asked wrongly."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (ValueError, TypeError) as error:
        return _complain(error, USAGE_ERROR)
    except KeyboardInterrupt as interruption:
        return _stopped(interruption, options)
    except Exception as error:
        if not _expected(error):
            raise
        return _complain(error, FAILURE)


def _expected(error: Exception) -> bool:
    """Whether an error is the world's (a full disk, a damaged file, a diverging loss) and not a mistake of ours."""
    from lengen_fast.runs import RunError
    from lengen_fast.training import TrainingDiverged

    allocation = isinstance(error, RuntimeError) and "memory" in str(error)
    return allocation or isinstance(error, (RunError, TrainingDiverged, OSError, MemoryError))


def _complain(error: BaseException, code: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"lengen: error: {text}", file=sys.stderr)
    return code


def _stopped(interruption: KeyboardInterrupt, options: argparse.Namespace) -> int:
    step = getattr(interruption, "step", None)
    if step is None:
        print("lengen: stopped", file=sys.stderr)
        return INTERRUPTED
    print(
        f"lengen: stopped after step {step}; go on with: lengen run {options.task} --out {options.out} --resume",
        file=sys.stderr,
    )
    return 128 + interruption.signal_number


# ---- commands ----


def tasks_command(options: argparse.Namespace) -> None:
    """List every task."""
    import lengen_fast as lf

    described = [lf.task(name) for name in lf.tasks()]
    if options.json:
        _print_json(
            [
                {
                    "name": t.name,
                    "family": t.family,
                    "min_length": t.min_length,
                    "chance": t.chance,
                    "description": t.description,
                    "hard": t.hard_means,
                }
                for t in described
            ]
        )
        return
    _print_table(
        [["task", "family", "from length", "description"]]
        + [[t.name, t.family, str(t.min_length), t.description] for t in described]
    )


def generate_command(options: argparse.Namespace) -> None:
    """Print strings of a task."""
    import lengen_fast as lf

    task = lf.task(options.task)
    low, high = options.length or (task.min_length, 50)
    task = _with_symbols(task, high)
    at_once = max(1, (1 << 20) // task.tokens_at(task.check_lengths(low, high)[-1]))
    _check_count(options.count)
    if options.count > 2**32:
        raise ValueError(f"--count must be at most {2**32}, the strings that one seed has, got {options.count}")
    for first in range(0, options.count, at_once):
        batch = task.sample(
            min(at_once, options.count - first), (low, high), options.seed, options.distribution, first_row=first
        )
        _print_strings(task, batch, options.format)


def run_command(options: argparse.Namespace) -> None:
    """Train, evaluate and report: the main job."""
    from lengen_fast import reporting
    from lengen_fast.evaluation import evaluate
    from lengen_fast.progress import EvaluationReport, TrainingReport
    from lengen_fast.runs import write_json
    from lengen_fast.training import train

    options.out = options.out or _default_directory(options)
    plan = _resumed_plan(options) if options.resume else _new_plan(options)
    task, directory = plan.task, plan.directory
    _say(options, f"{task.name}, {encoding(plan.model.positions).title}: {_shape_sentence(plan)}")
    with TrainingReport(plan.train.steps) as report:
        run = train(
            plan.model, task, plan.train, out=directory, resume=options.resume, device=options.device, observer=report
        )
    _say(options, _training_sentence(run))
    accuracy_path = directory.path / "accuracy.json"
    if not accuracy_path.exists():
        labels = [_label(length) for length in plan.lengths]
        with EvaluationReport(labels) as report:
            table = evaluate(run.model, task, plan.lengths, count=plan.count, seed=plan.train.seed, progress=report)
        write_json(accuracy_path, {**table.as_dict(), "step": run.step, "fitted": run.fitted})
    result = reporting.outcome(directory)
    figure_path = directory.path / "accuracy.png"
    reporting.save_figure([result], figure_path)
    prediction = reporting.prediction_sentence(task.name, plan.model.positions)
    outcome = reporting.outcome_sentence(result)
    if options.json:
        _print_json(
            {
                "directory": str(directory.path),
                "step": run.step,
                "fitted": run.fitted,
                "predicted": result.published.predicted,
                "prediction": prediction,
                "outcome": outcome,
                "published": result.published.accuracy,
                **result.table.as_dict(),
            }
        )
        return
    _print_table(reporting.accuracy_rows(result))
    print(f"\npredicted: {prediction}\noutcome:   {outcome}\nfigure:    {figure_path}")


def evaluate_command(options: argparse.Namespace) -> None:
    """Test a trained model at other lengths."""
    from lengen_fast import reporting
    from lengen_fast.evaluation import evaluate
    from lengen_fast.progress import EvaluationReport
    from lengen_fast.runs import RunDirectory
    from lengen_fast.training import check_device

    check_device(options.device)
    directory = RunDirectory.open(options.run)
    model, state = directory.load_model(options.device)
    with EvaluationReport([_label(length) for length in options.lengths]) as report:
        table = evaluate(
            model,
            directory.task,
            options.lengths,
            count=options.count,
            seed=options.seed,
            distribution=options.distribution,
            offsets=options.offsets,
            progress=report,
        )
    if options.json:
        _print_json({"directory": str(directory.path), **table.as_dict()})
        return
    fitted = state["in_range"] is not None and state["in_range"]["exact"] == 1.0
    result = reporting.describe(directory, table, fitted)
    _print_table(reporting.accuracy_rows(result))


def report_command(options: argparse.Namespace) -> None:
    """Draw one figure of some runs."""
    from lengen_fast import reporting
    from lengen_fast.runs import RunDirectory

    results = [reporting.outcome(RunDirectory.open(path)) for path in options.runs]
    reporting.save_figure(results, Path(options.out))
    if options.json:
        _print_json(
            {
                "figure": options.out,
                "runs": [
                    {"directory": path, "label": result.label, "seed": result.seed, **result.table.as_dict()}
                    for path, result in zip(options.runs, results, strict=True)
                ],
            }
        )
        return
    for path, result in zip(options.runs, results, strict=True):
        print(f"{result.label}, seed {result.seed} ({path})")
        _print_table(reporting.accuracy_rows(result))
        print()
    print(f"figure: {options.out}")


# ---- what a run is to do ----


@dataclass(frozen=True)
class Plan:
    """Everything ``lengen run`` is to do, checked before any work."""

    task: Task
    model: ModelConfig
    train: TrainConfig
    lengths: list[int | tuple[int, int]]
    count: int | None
    directory: RunDirectory


MODEL_OPTIONS = ("layers", "heads", "width", "context")
TRAIN_OPTIONS = ("learning_rate", "steps", "batch", "seed", "warmup", "regularize")


def _new_plan(options: argparse.Namespace) -> Plan:
    from lengen_fast.evaluation import check_context
    from lengen_fast.runs import RunDirectory
    from lengen_fast.tasks import task as find_task
    from lengen_fast.training import check_device, check_settings, default_configs, run_settings

    check_device(options.device)
    positions = options.positions or "ape"
    task = find_task(options.task)
    lengths = options.eval_lengths or _default_lengths(task, positions)
    ranges = [length if isinstance(length, tuple) else (length, length) for length in lengths]
    trained = options.train_length or (task.min_length, 50)
    longest = max(high for _, high in [*ranges, trained])
    task = _with_symbols(task, longest)
    for low, high in [*ranges, trained]:
        task.check_lengths(low, high)
    model, train = default_configs(
        task,
        positions,
        longest=longest,
        model=_given(options, MODEL_OPTIONS),
        train=_given(options, TRAIN_OPTIONS) | ({"length": options.train_length} if options.train_length else {}),
    )
    check_settings(model, task, train)
    for low, high in ranges:
        check_context(model, task, task.check_lengths(low, high)[-1])
    if options.count is not None:
        _check_count(options.count)
    evaluation = {"lengths": [list(pair) for pair in ranges], "count": options.count}
    directory = RunDirectory.create(options.out, {**run_settings(model, task, train), "evaluation": evaluation})
    return Plan(task, model, train, lengths, options.count, directory)


def _resumed_plan(options: argparse.Namespace) -> Plan:
    from lengen_fast.runs import RunDirectory
    from lengen_fast.training import TrainConfig, check_device

    check_device(options.device)
    directory = RunDirectory.open(options.out)
    config = directory.config
    model, train = directory.model_config, TrainConfig(**config["train"])
    stored = {
        "task": config["task"]["name"],
        "positions": model.positions,
        "train_length": train.length,
        "eval_lengths": [low if low == high else (low, high) for low, high in config["evaluation"]["lengths"]],
        "count": config["evaluation"]["count"],
        **{name: getattr(model, name) for name in MODEL_OPTIONS},
        **{name: getattr(train, name) for name in TRAIN_OPTIONS},
    }
    for name, value in stored.items():
        asked = getattr(options, name)
        if asked is not None and asked != value:
            option = "TASK" if name == "task" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{options.out} was begun with {option} {value}, not {asked}: leave it out, or start anew")
    return Plan(directory.task, model, train, stored["eval_lengths"], stored["count"], directory)


def _default_lengths(task: Task, positions: str) -> list[int | tuple[int, int]]:
    """The paper's bins, and two longer lengths where no table bounds them."""
    bins = [(task.min_length, 50), (51, 100), (101, 150)]
    return [*bins, 512, 4096] if positions == "nope" and not task.alphabet_grows else bins


def _with_symbols(task: Task, longest: int) -> Task:
    """An alphabet for the longest length, where there can be one; ``check_lengths`` says where there cannot."""
    from lengen_fast.tasks import LONGEST_LENGTH

    return task.with_symbols(longest) if 0 < longest <= LONGEST_LENGTH else task


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> dict:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _default_directory(options: argparse.Namespace) -> str:
    return f"runs/{options.task}-{options.positions or 'ape'}-seed{options.seed or 0}"


# ---- sentences ----


def _shape_sentence(plan: Plan) -> str:
    model, train = plan.model, plan.train
    table = f", {model.context} positions" if model.longest is not None else ""
    regularized = f", regularized {train.regularize:g}" if train.regularize else ""
    return (
        f"{_plural(model.layers, 'layer')}, {_plural(model.heads, 'head')}, width {model.width}{table}; "
        f"at most {train.steps} steps of "
        f"{train.batch} strings of length {train.length[0]} to {train.length[1]}, "
        f"learning rate {train.learning_rate:g}{regularized}"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _training_sentence(run: Run) -> str:
    seconds = next((line["seconds"] for line in reversed(run.history) if "seconds" in line), None)
    time = "" if seconds is None else f" in {duration(seconds)}"
    share = f"{run.in_range.correct} of {run.in_range.count} strings of its own range right"
    return f"trained {run.step} steps{time}: {share}"


def _say(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_strings(task: Task, batch: Batch, form: str) -> None:
    bounds = batch.cu_seqlens.tolist()
    for index in range(batch.rows):
        begin, end = bounds[index], bounds[index + 1]
        names = task.decode(batch.tokens[begin:end].tolist())
        if form == "text":
            print(" ".join(names))
            continue
        chosen = (batch.scored >= begin) & (batch.scored < end)
        print(
            json.dumps(
                {
                    "tokens": names,
                    "scored": (batch.scored[chosen] - begin).tolist(),
                    "targets": task.decode(batch.targets[chosen].tolist()),
                }
            )
        )


# ---- reading the command line ----


class _Parser(argparse.ArgumentParser):
    """Argparse with one-sentence errors."""

    def error(self, message: str) -> NoReturn:
        print(f"lengen: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


def _length(text: str) -> int | tuple[int, int]:
    """512, or 51:100 for an inclusive range."""
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a length such as 512 or a range such as 51:100")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _range(text: str) -> tuple[int, int]:
    length = _length(text)
    return length if isinstance(length, tuple) else (length, length)


def _label(length: int | tuple[int, int]) -> str:
    return f"{length[0]}:{length[1]}" if isinstance(length, tuple) else str(length)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"--count must be at least 1, got {count}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lengen", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_tasks(commands)
    _add_generate(commands)
    _add_run(commands)
    _add_evaluate(commands)
    _add_report(commands)
    return parser


def _version() -> str:
    from importlib import metadata

    return f"lengen {metadata.version('lengen-fast')}"


def _command(commands, name: str, function, summary: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    return parser


def _add_tasks(commands) -> None:
    parser = _command(commands, "tasks", tasks_command, "list the tasks", "lengen tasks")
    parser.add_argument("--json", action="store_true", help="print one JSON value and nothing else")


def _add_generate(commands) -> None:
    parser = _command(
        commands,
        "generate",
        generate_command,
        "print strings of a task, the same ones for the same seed",
        "lengen generate addition --length 10:20 --count 5 --distribution hard",
    )
    parser.add_argument("task", metavar="TASK", help="a name from lengen tasks")
    parser.add_argument(
        "--length", type=_range, metavar="MIN:MAX", help="lengths n, inclusive (default: shortest to 50)"
    )
    parser.add_argument("--count", type=int, default=10, metavar="N", help="strings to print (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    parser.add_argument("--distribution", default="paper", metavar="D", help="paper or hard (default: paper)")
    parser.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="text: tokens between spaces; json: one object a line, with scored positions and targets",
    )


def _add_run(commands) -> None:
    parser = _command(
        commands,
        "run",
        run_command,
        "train on short strings, test on long ones, show the outcome beside the prediction",
        "lengen run binary_majority --positions nope --eval-lengths 1:50 51:100 101:150 512 4096",
    )
    parser.add_argument("task", metavar="TASK", help="a name from lengen tasks")
    model = parser.add_argument_group("model (default: the paper's choice for the task)")
    model.add_argument(
        "--positions", choices=("ape", "nope"), help="learned absolute positions, or none (default: ape)"
    )
    model.add_argument("--layers", type=int, metavar="L")
    model.add_argument("--heads", type=int, metavar="H")
    model.add_argument("--width", type=int, metavar="C")
    model.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="rows of the position table (default: what the longest evaluated length needs)",
    )
    training = parser.add_argument_group("training (default: the paper's protocol)")
    training.add_argument("--train-length", type=_range, metavar="MIN:MAX", help="default: the task's shortest to 50")
    training.add_argument("--steps", type=int, metavar="N")
    training.add_argument("--batch", type=int, metavar="B", help="strings a step")
    training.add_argument("--learning-rate", type=float, metavar="R")
    training.add_argument("--warmup", type=int, metavar="N", help="steps of rising learning rate")
    training.add_argument(
        "--regularize", type=float, metavar="C", help="coefficient of the positional-product penalty (the paper: 1e-4)"
    )
    training.add_argument("--seed", type=int, metavar="S", help="of weights and strings (default: 0)")
    testing = parser.add_argument_group("evaluation")
    testing.add_argument(
        "--eval-lengths",
        type=_length,
        nargs="+",
        metavar="LENGTH",
        help="lengths or ranges (default: the paper's three bins; without positions also 512 and 4096)",
    )
    testing.add_argument("--count", type=int, metavar="N", help="strings a length (default: 2000, fewer for long ones)")
    parser.add_argument("--out", metavar="DIR", help="run directory (default: runs/TASK-POSITIONS-seedS)")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _add_evaluate(commands) -> None:
    parser = _command(
        commands,
        "evaluate",
        evaluate_command,
        "test a trained model at other lengths",
        "lengen evaluate runs/binary_majority-nope-seed0 --lengths 1000 16384 --distribution hard",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--lengths", type=_length, nargs="+", required=True, metavar="LENGTH", help="lengths or ranges")
    parser.add_argument("--count", type=int, metavar="N", help="strings a length (default: 2000, fewer for long ones)")
    parser.add_argument("--distribution", default="paper", metavar="D", help="paper or hard (default: paper)")
    parser.add_argument(
        "--offsets", choices=("zero", "random"), default="zero", help="position of the first token (default: zero)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def _add_report(commands) -> None:
    parser = _command(
        commands,
        "report",
        report_command,
        "draw accuracy against length of some runs in one figure",
        "lengen report runs/majority-nope-seed* --out majority.png",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    parser.add_argument("--out", default="accuracy.png", metavar="FILE", help="the figure (default: accuracy.png)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


if __name__ == "__main__":
    sys.exit(main())
