"""The command line of ``lengen``: every command, option and help text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from lengen_fast.lengths import Length, parse

DESCRIPTION = "Trained on short strings, will this transformer be right on long ones?"
USAGE_ERROR = 2

Command = Callable[[argparse.Namespace], None]


class _Parser(argparse.ArgumentParser):
    """Argparse with one-sentence errors."""

    def error(self, message: str) -> NoReturn:
        print(f"lengen: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


def _length(text: str) -> Length:
    """512, 51:100 for an inclusive range, or two of either, as 3x7 or 1:10x20:30."""
    try:
        return parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a length such as 512, a range such as 51:100, or two of them such as 3x7 or 1:10x20:30"
        ) from None


def _range(text: str) -> Length:
    length = _length(text)
    return length if isinstance(length, tuple) else (length, length)


def parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    """Reads the command line; the parsed ``command`` is one of ``commands``, by the name of the command."""
    whole = _Parser(prog="lengen", description=DESCRIPTION)
    whole.add_argument("--version", action="version", version=_version())
    group = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for add in (_add_tasks, _add_generate, _add_run, _add_evaluate, _add_report):
        name = add.__name__.removeprefix("_add_")
        one = add(group, name)
        one.set_defaults(command=commands[name])
    return whole


def _version() -> str:
    from importlib import metadata

    return f"lengen {metadata.version('lengen-fast')}"


def _command(group, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return group.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_tasks(group, name: str) -> argparse.ArgumentParser:
    command = _command(group, name, "list the tasks, or describe one", "lengen tasks majority")
    command.add_argument("task", nargs="?", metavar="TASK", help="a name from the list: describe that task")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_generate(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "print strings of a task, the same ones for the same seed",
        "lengen generate addition --length 10:20 --count 5 --distribution hard",
    )
    command.add_argument("task", metavar="TASK", help="a name from lengen tasks")
    command.add_argument(
        "--length",
        type=_range,
        metavar="MIN:MAX",
        help="lengths n, inclusive, or two of them (default: shortest to 50)",
    )
    command.add_argument("--count", type=int, default=10, metavar="N", help="strings to print (default: 10)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    command.add_argument("--distribution", default="paper", metavar="D", help="paper or hard (default: paper)")
    command.add_argument(
        "--format",
        choices=("text", "json"),
        default="text",
        help="text: tokens between spaces; json: one object a line, with scored positions and targets",
    )
    return command


def _add_run(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "train on short strings, test on long ones, show the outcome beside the prediction",
        "lengen run binary_majority --positions nope --eval-lengths 1:50 51:100 101:150 512 4096",
    )
    command.add_argument("task", metavar="TASK", help="a name from lengen tasks")
    model = command.add_argument_group("model (default: the paper's choice for the task)")
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
    training = command.add_argument_group("training (default: the paper's protocol)")
    training.add_argument("--train-length", type=_range, metavar="MIN:MAX", help="default: the task's shortest to 50")
    training.add_argument("--steps", type=int, metavar="N")
    training.add_argument("--batch", type=int, metavar="B", help="strings a step")
    training.add_argument("--learning-rate", type=float, metavar="R")
    training.add_argument("--warmup", type=int, metavar="N", help="steps of rising learning rate")
    training.add_argument(
        "--regularize", type=float, metavar="C", help="coefficient of the positional-product penalty (the paper: 1e-4)"
    )
    training.add_argument("--seed", type=int, metavar="S", help="of weights and strings (default: 0)")
    testing = command.add_argument_group("evaluation")
    testing.add_argument(
        "--eval-lengths",
        type=_length,
        nargs="+",
        metavar="LENGTH",
        help="lengths or ranges, of the additions also two, as 3x7 or 1:10x20:30 (default: the paper's three bins; "
        "without positions also 512 and 4096)",
    )
    testing.add_argument("--count", type=int, metavar="N", help="strings a length (default: 2000, fewer for long ones)")
    command.add_argument("--out", metavar="DIR", help="run directory (default: runs/TASK-POSITIONS-seedS)")
    command.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    command.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cpu)")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_evaluate(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "test a trained model at other lengths",
        "lengen evaluate runs/binary_majority-nope-seed0 --lengths 1000 16384 --distribution hard",
    )
    command.add_argument("run", metavar="RUN", help="a run directory")
    command.add_argument(
        "--lengths", type=_length, nargs="+", required=True, metavar="LENGTH", help="lengths or ranges"
    )
    command.add_argument("--count", type=int, metavar="N", help="strings a length (default: 2000, fewer for long ones)")
    command.add_argument("--distribution", default="paper", metavar="D", help="paper or hard (default: paper)")
    command.add_argument(
        "--offsets", choices=("zero", "random"), default="zero", help="position of the first token (default: zero)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    command.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, ... (default: cpu)")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_report(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "draw accuracy against length of some runs in one figure",
        "lengen report runs/majority-nope-seed* --out majority.png",
    )
    command.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    command.add_argument("--out", default="accuracy.png", metavar="FILE", help="the figure (default: accuracy.png)")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command
