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


def _distribution_help(default: str) -> str:
    return (
        "how strings are drawn: paper, uniform, hard, and of labels membership negative and corrupted, as far as the "
        f"task has them, which lengen tasks TASK shows (default: {default})"
    )


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
    for add in (
        _add_tasks,
        _add_generate,
        _add_run,
        _add_evaluate,
        _add_report,
        _add_predict,
        _add_crasp,
        _add_infer,
        _add_phi,
    ):
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


def _add_task_choice(command: argparse.ArgumentParser) -> None:
    """TASK, or a language of the user's own; see ``plan.chosen_task``."""
    command.add_argument("task", nargs="?", metavar="TASK", help="a name from lengen tasks")
    own = command.add_argument_group("a regular language of your own, instead of TASK")
    own.add_argument(
        "--regex",
        metavar="R",
        help="a regular expression, one character a symbol, such as '(aa)*'; + repeats; | (or) and & (and) "
        "bind equally, from the left: use parentheses",
    )
    own.add_argument("--alphabet", metavar="AB", help="its symbols in order (default: those of the expression)")
    own.add_argument("--dfa", metavar="FILE", help="a JSON file with alphabet, start, accepting and transitions")
    command.add_argument(
        "--labels",
        choices=("legal+end", "legal", "membership"),
        help="what the prefixes of a formal language ask: which symbols may come next, with or without the end, or "
        "whether the prefix is a member (default: legal+end)",
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
    _add_task_choice(command)
    command.add_argument(
        "--length",
        type=_range,
        metavar="MIN:MAX",
        help="lengths n, inclusive, or two of them (default: shortest to 50, as far as there are strings)",
    )
    command.add_argument("--count", type=int, default=10, metavar="N", help="strings to print (default: 10)")
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    command.add_argument("--distribution", metavar="D", help=_distribution_help("its first"))
    command.add_argument(
        "--format",
        choices=("text", "tokens", "json"),
        default="text",
        help="text: tokens, and what is to be predicted below each one that is scored; tokens: one string a line; "
        "json: one object a line, with scored positions and targets (default: text)",
    )
    return command


def _add_run(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "train on short strings, test on long ones, show the outcome beside the prediction",
        "lengen run binary_majority --positions nope --eval-lengths 1:50 51:100 101:150 512 4096",
    )
    _add_task_choice(command)
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
    training.add_argument("--distribution", metavar="D", help=_distribution_help("its first"))
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
    command.add_argument(
        "--out", metavar="DIR", help="run directory (default: in runs, named by task, positions and seed)"
    )
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
    command.add_argument("--distribution", metavar="D", help=_distribution_help("the run's"))
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
        "draw accuracy against length of some runs in one figure, or an automaton",
        "lengen report runs/majority-nope-seed* --out majority.png\n  lengen report --automaton tomita_4",
    )
    command.add_argument("runs", nargs="*", metavar="RUN", help="run directories")
    command.add_argument(
        "--automaton",
        metavar="NAME",
        help="instead, print the automaton of a regular language: a name from lengen tasks, a regular expression or a "
        "DFA file; where graphviz is installed also draw it",
    )
    command.add_argument("--out", metavar="FILE", help="the figure (default: accuracy.png, or NAME.svg)")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_predict(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "say before training whether long strings will be right, with which positions, and why",
        "lengen predict --regex '(ab|bba)*'",
    )
    _add_task_choice(command)
    command.add_argument(
        "--program", metavar="FILE", help="instead, a program of C-RASP, or the name of one of the library"
    )
    command.add_argument(
        "--question",
        choices=("states", "acceptance"),
        help="of --regex or --dfa: the state after every prefix, or acceptance of whole strings at an end symbol "
        "(default: states)",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_crasp(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "check, run or compile a program of C-RASP[periodic, local]",
        "lengen crasp compile dyck_1 --max-length 16384",
    )
    actions = command.add_subparsers(required=True, dest="action", metavar="ACTION", parser_class=_Parser)
    check = _crasp_action(
        actions,
        "check",
        "print what a program uses, or how often it solves a task",
        "lengen crasp check majority.crasp",
    )
    check.add_argument("--task", metavar="TASK", help="count its right answers on strings of that task")
    check.add_argument(
        "--length",
        type=_range,
        metavar="MIN:MAX",
        help="of those strings (default: shortest to 50, as far as there are strings)",
    )
    check.add_argument("--count", type=int, default=200, metavar="N", help="strings of a distribution (default: 200)")
    check.add_argument("--seed", type=int, default=0, metavar="S", help="of the strings (default: 0)")
    run = _crasp_action(
        actions, "run", "print what a program says at every position", "lengen crasp run dyck_1 '<bos> ( ( ) )'"
    )
    run.add_argument("tokens", nargs="+", metavar="TOKENS", help="names with spaces between them; letters may touch")
    run.add_argument("--offset", type=int, default=0, metavar="N", help="position of the first token (default: 0)")
    compiling = _crasp_action(
        actions,
        "compile",
        "turn a program into a transformer and test it",
        "lengen crasp compile binary_majority --task binary_majority --max-length 1000 --lengths 50 996",
    )
    compiling.add_argument(
        "--max-length", type=int, required=True, metavar="N", help="tokens of the longest string that must be right"
    )
    compiling.add_argument(
        "--dtype",
        choices=("float32", "float64", "float16", "bfloat16"),
        default="float32",
        help="of the weights (default: float32)",
    )
    compiling.add_argument(
        "--test-length", type=int, metavar="N", help="tokens of the strings tested (default: the longest, at most 1024)"
    )
    compiling.add_argument("--task", metavar="TASK", help="give it the tokens of that task, and evaluate it there")
    compiling.add_argument("--lengths", type=_length, nargs="+", metavar="LENGTH", help="of that evaluation")
    compiling.add_argument("--out", metavar="FILE", help="write weights, guarantee and program as safetensors")
    return command


def _crasp_action(group, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    action = _command(group, name, summary, example)
    action.add_argument("file", metavar="FILE", help="a program, or the name of one of the standard library")
    action.add_argument("--alphabet", metavar="SYMBOLS", help="for a template, with spaces between them")
    action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return action


def _add_infer(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "fit each n exactly up to length n/2 with a small regularizer R, and test up to n",
        "lengen infer binary_majority --sizes 8 16 32",
    )
    command.add_argument("task", metavar="TASK", help="a name from lengen tasks")
    command.add_argument("--sizes", type=int, nargs="+", metavar="N", help="increasing (default: 8 16 32)")
    command.add_argument(
        "--symbols", type=int, metavar="V", help="of the alphabet, where it can grow (default: the greatest size)"
    )
    command.add_argument("--seeds", type=int, metavar="S", help="initial weights a shape (default: 2)")
    command.add_argument("--steps", type=int, metavar="N", help="most steps of a fit (default: 4000)")
    command.add_argument("--rounds", type=int, metavar="N", help="with penalties, after a fit (default: 6)")
    command.add_argument("--out", metavar="DIR", help="directory of the search (default: runs/infer-TASK)")
    command.add_argument("--resume", action="store_true", help="go on with the interrupted search in --out")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command


def _add_phi(group, name: str) -> argparse.ArgumentParser:
    command = _command(
        group,
        name,
        "learn functions of two positions as products, or show those of a trained model",
        "lengen phi --targets previous third 'j == i - 4' --widths 32 256",
    )
    command.add_argument(
        "run", nargs="?", metavar="RUN", help="a run directory: show the products of its heads instead"
    )
    command.add_argument(
        "--targets",
        nargs="+",
        metavar="T",
        help="previous (j == i - 1), recent (j > i - 2), third ((i - j) %% 3 == 0), before (j < i), prime "
        "(prime(i - j)), or any such condition (default: these five)",
    )
    command.add_argument("--widths", type=int, nargs="+", metavar="C", help="of the vectors (default: 32 256)")
    command.add_argument("--steps", type=int, metavar="N", help="of Adam (default: 15000)")
    command.add_argument("--seed", type=int, metavar="S", help="of initial values and offsets (default: 0)")
    command.add_argument(
        "--reach", type=int, default=8, metavar="D", help="greatest distance of the local part (default: 8)"
    )
    command.add_argument(
        "--longest-period", type=int, default=12, metavar="N", help="of the periodic part (default: 12)"
    )
    command.add_argument("--out", default="phi.png", metavar="FILE", help="the figure (default: phi.png)")
    command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return command
