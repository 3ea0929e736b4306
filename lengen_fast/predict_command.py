"""The command ``lengen predict``: a verdict before training."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lengen_fast.theory import Verdict

SUBJECTS = ("task", "regex", "dfa", "program")


def predict(options: argparse.Namespace) -> None:
    """Print the verdict for a task, a regular expression, an automaton or a program."""
    verdict = _verdict(options)
    print(json.dumps(verdict.as_dict(), indent=2) if options.json else verdict)


def _verdict(options: argparse.Namespace) -> Verdict:
    from lengen_fast import theory

    given = [name for name in SUBJECTS if getattr(options, name) is not None]
    if len(given) != 1:
        raise ValueError("give one of TASK, --regex, --dfa and --program, such as parity or --regex '(aa)*'")
    (subject,) = given
    if options.alphabet is not None and subject in ("task", "dfa"):
        raise ValueError("--alphabet goes with --regex or --program: leave it out")
    if options.question is not None and (subject in ("task", "program") or options.labels is not None):
        raise ValueError("--question goes with --regex or --dfa, and not with --labels: leave it out")
    if subject == "program":
        return theory.predict(_program(options))
    if subject == "task" or options.labels is not None:
        from lengen_fast.plan import chosen_task

        return theory.predict(chosen_task(options))
    question = options.question or "states"
    if subject == "regex":
        return theory.predict_regex(options.regex, options.alphabet, question=question)
    from lengen_fast.automata import Automaton

    return theory.predict(Automaton.from_file(options.dfa), question=question)


def _program(options: argparse.Namespace):
    from lengen_fast.crasp_commands import program_and_task

    if options.labels is not None:
        raise ValueError("--labels goes with a formal language: leave it out")
    alphabet = None if options.alphabet is None else " ".join(options.alphabet)
    program, _ = program_and_task(argparse.Namespace(file=options.program, alphabet=alphabet, task=None))
    return program
