"""The command ``lengen``: tasks, generate, run, evaluate, report, predict, crasp, infer, phi."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lengen_fast.arguments import USAGE_ERROR, parser
from lengen_fast.lengths import bounds, extent, label, written
from lengen_fast.positions import encoding
from lengen_fast.printing import plural, print_table
from lengen_fast.progress import duration

if TYPE_CHECKING:
    from lengen_fast.plan import Plan
    from lengen_fast.training import Run

FAILURE, INTERRUPTED = 1, 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 if it failed, 2 if it was asked wrongly."""
    options = parser(COMMANDS).parse_args(arguments)
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

    return _is_allocation(error) or isinstance(error, (RunError, TrainingDiverged, OSError))


def _is_allocation(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))


def _complain(error: BaseException, code: int) -> int:
    from lengen_fast.expressions import RegexError

    sentence = " ".join(getattr(error, "sentence", str(error)).split()) or type(error).__name__
    if _is_allocation(error):
        asked = re.search(r"allocate (\d+) bytes", sentence)
        size = f" ({int(asked[1]):,} bytes at once)" if asked else ""
        sentence = f"this needs more memory than there is{size}: ask for a smaller batch, count, width or context"
    elif isinstance(error, OSError) and error.filename is None and error.strerror:
        sentence = f"could not write the output: {error.strerror}"
    text = str(error) if isinstance(error, RegexError) else sentence
    print(f"lengen: error: {text}", file=sys.stderr)
    if hasattr(error, "excerpt"):  # of a program: its line, with a caret
        print(error.excerpt, file=sys.stderr)
    return code


def _stopped(interruption: KeyboardInterrupt, options: argparse.Namespace) -> int:
    step = getattr(interruption, "step", None)
    if step is None:
        print("; ".join(["lengen: stopped", *map(str, interruption.args)]), file=sys.stderr)
        return INTERRUPTED
    command = ["lengen", "run", *filter(None, [options.task]), "--out", str(options.out), "--resume"]
    print(f"lengen: stopped after step {step}; go on with: {shlex.join(command)}", file=sys.stderr)
    return 128 + interruption.signal_number


# ---- commands ----


def tasks_command(options: argparse.Namespace) -> None:
    """List every task, or describe one."""
    import lengen_fast as lf
    from lengen_fast import catalogue

    if options.json:
        names = [options.task] if options.task else lf.tasks()
        _print_json({"tasks": [catalogue.as_dict(lf.task(name)) for name in names]})
    elif options.task:
        print_table([[f"{name}:", value] for name, value in catalogue.details(lf.task(options.task))])
    else:
        print_table(catalogue.rows())
        print("", *catalogue.legend(), sep="\n")


def generate_command(options: argparse.Namespace) -> None:
    """Print strings of a task."""
    from lengen_fast import strings
    from lengen_fast.plan import check_count, chosen_task, with_symbols

    task = chosen_task(options)
    low, high = bounds(options.length or task.usual_lengths)
    task = with_symbols(task, extent(high))
    at_once = max(1, (1 << 20) // task.tokens_at(task.check_lengths(low, high, options.distribution)[-1]))
    check_count(options.count)
    if options.count > 2**32:
        raise ValueError(f"--count must be at most {2**32}, the strings that one seed has, got {options.count}")
    for first in range(0, options.count, at_once):
        count = min(at_once, options.count - first)
        batch, edits = strings.drawn(task, count, written(low, high), options.seed, options.distribution, first)
        strings.show(task, batch, options.format, first, edits)


def run_command(options: argparse.Namespace) -> None:
    """Train, evaluate and report: the main job."""
    from lengen_fast import reporting
    from lengen_fast.comparison import Comparison, Forecast
    from lengen_fast.evaluation import evaluate
    from lengen_fast.plan import default_directory, new_plan, resumed_plan
    from lengen_fast.progress import EvaluationReport, TrainingReport
    from lengen_fast.runs import read_json, write_json
    from lengen_fast.training import train

    options.out = options.out or default_directory(options)
    plan = resumed_plan(options) if options.resume else new_plan(options)
    task, directory = plan.task, plan.directory
    _say(options, f"{task.name}, {encoding(plan.model.positions).title}: {_shape_sentence(plan)}")
    forecast = Forecast.of(task, plan.model.positions)
    _say(options, f"theory: {forecast}")
    with TrainingReport(plan.train.steps) as report:
        run = train(
            plan.model, task, plan.train, out=directory, resume=options.resume, device=plan.device, observer=report
        )
    _say(options, _training_sentence(run))
    accuracy_path = directory.path / "accuracy.json"
    if not accuracy_path.exists():
        labels = [label(length) for length in plan.lengths]
        with EvaluationReport(labels) as report:
            table = evaluate(
                run.model,
                task,
                plan.lengths,
                count=plan.count,
                seed=plan.train.seed,
                distribution=plan.train.distribution,
                progress=report,
            )
        write_json(accuracy_path, {**table.as_dict(), "step": run.step, "fitted": run.fitted})
    result = reporting.outcome(directory)
    figure_path = directory.path / "accuracy.png"
    reporting.save_figure([result], figure_path)
    prediction = reporting.prediction_sentence(task.name, plan.model.positions)
    outcome = reporting.outcome_sentence(result)
    comparison = Comparison.of(forecast, result)
    write_json(accuracy_path, read_json(accuracy_path) | {"theory": forecast.as_dict() | comparison.as_dict()})
    if options.json:
        _print_json(
            {
                "directory": str(directory.path),
                "step": run.step,
                "fitted": run.fitted,
                "predicted": result.published.predicted,
                "prediction": prediction,
                "theory": str(forecast),
                "outcome": outcome,
                "comparison": comparison.as_dict(),
                "published": result.published.accuracy,
                **result.table.as_dict(),
            }
        )
        return
    print_table(reporting.accuracy_rows(result))
    lines = {
        "predicted": prediction,
        "theory": str(forecast),
        "outcome": outcome,
        "compared": comparison.sentence,
        "figure": str(figure_path),
    }
    print("", *(f"{name + ':':10} {text}" for name, text in lines.items()), sep="\n")


def evaluate_command(options: argparse.Namespace) -> None:
    """Test a trained model at other lengths."""
    from lengen_fast import reporting
    from lengen_fast.devices import check_device
    from lengen_fast.evaluation import evaluate
    from lengen_fast.progress import EvaluationReport
    from lengen_fast.runs import RunDirectory

    check_device(options.device)
    directory = RunDirectory.open(options.run)
    model, state = directory.load_model(options.device)
    with EvaluationReport([label(length) for length in options.lengths]) as report:
        table = evaluate(
            model,
            directory.task,
            options.lengths,
            count=options.count,
            seed=options.seed,
            distribution=options.distribution or directory.config["train"]["distribution"],
            offsets=options.offsets,
            progress=report,
        )
    if options.json:
        _print_json({"directory": str(directory.path), **table.as_dict()})
        return
    fitted = state["in_range"] is not None and state["in_range"]["exact"] == 1.0
    result = reporting.describe(directory, table, fitted)
    print_table(reporting.accuracy_rows(result))


def report_command(options: argparse.Namespace) -> None:
    """Draw one figure of some runs, or an automaton."""
    from lengen_fast import automaton_report, reporting
    from lengen_fast.runs import RunDirectory

    if (options.automaton is None) == (not options.runs):
        raise ValueError("give run directories, or --automaton NAME")
    if options.automaton is not None:
        content, text = automaton_report.report(options.automaton, options.out)
        return _print_json(content) if options.json else print(text)
    options.out = options.out or "accuracy.png"
    reporting.check_figure_name(options.out)
    results = [reporting.outcome(RunDirectory.open(path)) for path in options.runs]
    reporting.save_figure(results, Path(options.out))
    if options.json:
        _print_json(
            {
                "figure": options.out,
                "runs": [
                    {
                        "directory": path,
                        "label": result.label,
                        "seed": result.seed,
                        "comparison": result.comparison,
                        **result.table.as_dict(),
                    }
                    for path, result in zip(options.runs, results, strict=True)
                ],
            }
        )
        return
    for path, result in zip(options.runs, results, strict=True):
        print(f"{result.label}, seed {result.seed} ({path})")
        print_table(reporting.accuracy_rows(result))
        print(*filter(None, [result.comparison]), "", sep="\n")
    print(f"figure: {options.out}")


def crasp_command(options: argparse.Namespace) -> None:
    """Check, run or compile a program."""
    from lengen_fast import crasp_commands

    actions = {"check": crasp_commands.check, "run": crasp_commands.run, "compile": crasp_commands.compile_}
    actions[options.action](options)


def predict_command(options: argparse.Namespace) -> None:
    """Say before training what will happen."""
    from lengen_fast import predict_command as command

    command.predict(options)


def infer_command(options: argparse.Namespace) -> None:
    """Follow the idealized inference."""
    from lengen_fast import infer_command as command

    command.show(options, *command.infer(options))


def phi_command(options: argparse.Namespace) -> None:
    """Learn products of positions, or look at those of a trained model."""
    from lengen_fast import infer_command
    from lengen_fast import phi_command as command

    infer_command.show(options, *command.phi(options))


COMMANDS = {
    "tasks": tasks_command,
    "generate": generate_command,
    "run": run_command,
    "evaluate": evaluate_command,
    "report": report_command,
    "predict": predict_command,
    "crasp": crasp_command,
    "infer": infer_command,
    "phi": phi_command,
}

# ---- sentences ----


def _shape_sentence(plan: Plan) -> str:
    model, train = plan.model, plan.train
    table = f", {model.context} positions" if model.longest is not None else ""
    regularized = f", regularized {train.regularize:g}" if train.regularize else ""
    low, high = bounds(train.length)
    strings = "strings" if train.distribution == plan.task.distributions[0] else f"{train.distribution} strings"
    return (
        f"{plural(model.layers, 'layer')}, {plural(model.heads, 'head')}, width {model.width}{table}; "
        f"at most {train.steps} steps of "
        f"{train.batch} {strings} of length {low} to {high}, "
        f"learning rate {train.learning_rate:g}{regularized}"
    )


def _training_sentence(run: Run) -> str:
    seconds = next((line["seconds"] for line in reversed(run.history) if "seconds" in line), None)
    time = "" if seconds is None else f" in {duration(seconds)}"
    share = f"{run.in_range.correct} of {run.in_range.count} strings of its own range right"
    return f"trained {run.step} steps{time}: {share}"


def _say(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    sys.exit(main())
