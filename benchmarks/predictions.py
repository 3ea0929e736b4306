"""Theory predicts before training: each verdict of ``lf.predict`` beside the paper's own prediction, and its evidence.

"generalizes" must stand exactly where arXiv 2410.02140 knows a program; everywhere else "fails" or "unknown", and how
many of those have a witness is counted. Then languages of arXiv 2608.13433 that positions decide, and random regular
expressions over a, b, c: each program of a positive verdict is compared with the automaton on all strings of up to ten
symbols and on a thousand long ones. Seconds are the processor's, of one verdict with its own checks.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from statistics import median

import numpy as np

import lengen_fast as lf
from benchmarks import record
from lengen_fast.automata import Automaton
from lengen_fast.theory.checks import all_words, compare, long_words
from lengen_fast.theory.predictor import predict_regex
from lengen_fast.theory.regular import Machine

POSITIONS = ("ape", "nope")
EXAMPLES = (  # regular expression, alphabet, expected outcomes with and without positions
    ("(ab|bbaa)*", "ab", ("generalizes", "generalizes")),
    ("(ab|aabb)*", "ab", ("generalizes", "fails")),
    ("(ab|bba)*", "ab", ("generalizes", "fails")),
    ("(a|b)*b", "ab", ("generalizes", "fails")),
    ("(a|b|e)*be*", "abe", ("fails", "fails")),
)
EXHAUSTIVE, LONG_STRINGS, LONG_LENGTH = 10, 1000, 200
EXPRESSIONS, QUICK_EXPRESSIONS, SEED = 1000, 40, 0


def run(quick: bool) -> dict:
    """All verdicts, printed as tables."""
    tasks = [_verdict(name) for name in lf.tasks() if _predicted(name) is not None]
    counted = _count([row for row in tasks if row["family"] != "counting language"])
    print(
        record.table(
            ("task", "ape", "paper", "evidence", "nope", "paper", "evidence"), [_columns(row) for row in tasks]
        )
    )
    print("\n" + ", ".join(f"{name}: {value}" for name, value in counted.items()) + "\n")
    examples = [_example(*each) for each in EXAMPLES]
    print(record.table(("expression", "ape", "nope", "as expected"), [list(row.values())[:4] for row in examples]))
    expressions = _expressions(QUICK_EXPRESSIONS if quick else EXPRESSIONS)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in expressions.items()))
    return {"tasks": tasks, "counted": counted, "examples": examples, "random expressions": expressions}


# ---- the paper's tasks ----


def _predicted(name: str) -> dict | None:
    """The paper's predictions, copied from ``reference/paper_results.json``."""
    found = {positions: lf.published(name, positions).predicted for positions in POSITIONS}
    return None if None in found.values() else found


def _verdict(name: str) -> dict:
    began = time.process_time()
    verdict, paper = lf.predict(name), _predicted(name)
    row = {"task": name, "family": lf.task(name).family, "seconds": round(time.process_time() - began, 3)}
    for positions in POSITIONS:
        outlook = getattr(verdict, positions)
        row[positions] = {
            "outcome": outlook.outcome,
            "paper": paper[positions],
            "agrees": (outlook.outcome == "generalizes") == paper[positions],
            "evidence": _evidence(outlook),
            **{name: value for name, value in outlook.as_dict().items() if name not in ("outcome", "program")},
        }
    return row


def _evidence(outlook) -> str:
    if outlook.witness is not None:
        return type(outlook.witness).__name__
    if outlook.program is None:
        return "none"
    return "program, proved" if outlook.checked.startswith("proved") else "program, tested"


def _columns(row: dict) -> list[str]:
    cells = [[row[p]["outcome"], "yes" if row[p]["paper"] else "no", row[p]["evidence"]] for p in POSITIONS]
    return [row["task"], *cells[0], *cells[1]]


def _count(rows: list[dict]) -> dict:
    """Of the algorithmic tasks and the regular languages."""
    verdicts = [row[positions] for row in rows for positions in POSITIONS]
    negative = [each for each in verdicts if not each["paper"]]
    return {
        "verdicts": len(verdicts),
        "agree": sum(each["agrees"] for each in verdicts),
        "negative": len(negative),
        "witnesses": sum(each["witness"] is not None for each in negative),
        "proved programs": sum(each["evidence"] == "program, proved" for each in verdicts),
        "tested programs": sum(each["evidence"] == "program, tested" for each in verdicts),
    }


def _example(regex: str, alphabet: str, expected: tuple[str, str]) -> dict:
    verdict = predict_regex(regex, alphabet)
    found = tuple(getattr(verdict, positions).outcome for positions in POSITIONS)
    return {"expression": regex, "ape": found[0], "nope": found[1], "as expected": found == expected}


# ---- random expressions ----


def random_expression(source: random.Random, depth: int) -> str:
    """An expression over a, b, c nested at most so deep."""
    if depth == 0 or source.random() < 0.15:
        return source.choice("abc")
    kind, inner = source.random(), lambda: random_expression(source, depth - 1)
    if kind < 0.45:
        return inner() + inner()
    if kind < 0.7:
        return f"({inner()}|{inner()})"
    return f"({inner()}){'*' if kind < 0.9 else '?'}"


def _expressions(count: int) -> dict:
    source = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    seconds, programs, proved = [], 0, 0
    words = all_words(3, EXHAUSTIVE)
    for _ in range(count):
        regex = random_expression(source, source.choice((2, 3, 4, 5)))
        began = time.process_time()
        verdict = predict_regex(regex, "abc")
        seconds.append(time.process_time() - began)
        outcomes[f"ape {verdict.ape.outcome}, nope {verdict.nope.outcome}"] += 1
        for program in {each.program for each in (verdict.ape, verdict.nope)} - {None}:
            _check(program, Automaton.from_regex(regex, "abc"), words)
            programs += 1
            proved += verdict.ape.checked.startswith("proved")
    return {
        "expressions": count,
        "seed": SEED,
        "outcomes": dict(outcomes),
        "programs right on all strings": programs,
        "of them proved for all strings": proved,
        "all strings up to length": EXHAUSTIVE,
        "long strings": LONG_STRINGS,
        "their length": LONG_LENGTH,
        "seconds, median": round(median(seconds), 3),
        "seconds, greatest": round(max(seconds), 3),
    }


def _check(program, automaton: Automaton, words: np.ndarray) -> None:
    """An error if the program is wrong on some prefix."""
    machine = Machine.of(automaton, automaton.accepting, "the state")
    compare(program, machine.automaton, machine.lines, words)
    long = long_words(machine.automaton, LONG_STRINGS, LONG_LENGTH, seed=1)
    compare(program, machine.automaton, machine.lines, long, offset=2)
