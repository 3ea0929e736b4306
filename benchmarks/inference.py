"""The theorem of arXiv 2410.02140 as far as a search shows it: R(T_n), and how T_n does on longer strings than it fits.

For each n, models are fitted until they are right on all strings of lengths up to n/2 at all offsets, or on 8,192 of
them where these are too many, and R is made as small as the search can; T_n is the one of least R. Models are trained
from random weights; and for a task with a program in the library one more is that program, compiled to the weights of
an ordinary transformer and made smaller in the same way. For a function in the class of the theorem (binary_majority,
unique_copy) R should stay bounded and T_n become right up to length n; for one outside it (parity) not both. What a
search finds is an upper bound of the least R; and that it finds no exact fit does not mean that there is none.

Every model is kept below ``runs/inference`` and not fitted again; ``--quick`` takes two small n of one task. A figure
goes beside the record.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import record
from benchmarks.plans import RUNS
from lengen_fast import task
from lengen_fast.theory.candidates import DirectoryStore, Shape
from lengen_fast.theory.inference import Inference, Search, infer
from lengen_fast.theory.inference_report import rows, save_figure, sentences

FIGURE = Path(__file__).parent / "results" / "inference.png"
SAY_SECONDS = 30


@dataclass(frozen=True)
class Case:
    """A task, its alphabet where that can grow, the n, and how models are searched for."""

    task: str
    sizes: tuple[int, ...]
    symbols: int | None = None
    search: Search = field(default_factory=Search)


CASES = (
    Case("binary_majority", (8, 16, 32, 64), search=Search(seeds=1)),
    Case("unique_copy", (4, 8, 16), symbols=16, search=Search(shapes=(Shape(2, 1, 64, 1),), seeds=1)),
    Case("parity", (4, 8, 16, 32), search=Search(shapes=(Shape(2, 2, 32, 128),), seeds=1, fit_steps=6000)),
)
QUICK_CASES = (Case("binary_majority", (4, 8), search=Search(seeds=1, fit_steps=500, rounds=1)),)


def run(quick: bool) -> dict:
    """Search for the models of every case that are not there yet; print tables, draw the figure."""
    cases, folder = (QUICK_CASES, "inference-quick") if quick else (CASES, "inference")
    results = [inferred(case, folder) for case in cases]
    if not quick:
        save_figure(results, FIGURE)
    return {"tasks": [result.as_dict() | {"sentences": sentences(result)} for result in results]}


def inferred(case: Case, folder: str) -> Inference:
    """The result of a case, with the models that are there already below ``RUNS / folder``."""
    what = task(case.task, symbols=case.symbols)
    print(f"\n{case.task}", flush=True)
    store = DirectoryStore(RUNS / folder / case.task, what, case.search.training)
    result = infer(what, case.sizes, case.search, store=store, observer=_Progress())
    headings, *lines = rows(result)
    print(record.table(headings, lines), *sentences(result), sep="\n", flush=True)
    return result


class _Progress:
    """A line now and then."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, step: int, note: str) -> None:
        if time.monotonic() - self.last > SAY_SECONDS:
            self.last = time.monotonic()
            print(f"step {step:,}: {note}", flush=True)
