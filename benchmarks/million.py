"""Compiled programs at 1,048,576 tokens on a GPU.

Claim: every program of the standard library whose alphabet does not grow, compiled in fp32, is right at every position
of a hard string of its task of about 1,048,576 tokens, at a random offset: what ``compiler`` shows to 131,072 tokens.

The smallest models go first, until the time is up; the record is written after each, and lines below ``runs/compiler``
are kept and not measured again. ``--quick`` takes two minutes at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import lengen_fast as lf
from benchmarks import compiler, record
from lengen_fast.theory import program_for

QUICK_SECONDS, FULL_SECONDS = 90, 500
"""After which no other program begins."""


def run(quick: bool, keep: Callable[[dict], object]) -> dict:
    return measure(keep, "cuda", compiler.MOST_TOKENS, QUICK_SECONDS if quick else FULL_SECONDS)


def measure(keep: Callable[[dict], object], device: str, tokens: int, seconds: float) -> dict:
    """One string of so many tokens for each program; ``keep`` takes the results after each of them."""
    deadline, results = time.monotonic() + seconds, {"programs": [], "failed": [], "not_reached": []}
    for task in sorted((task for task in compiler.tasks() if not task.alphabet_grows), key=_size):
        if time.monotonic() > deadline:
            results["not_reached"].append(task.name)
            continue
        try:
            results["programs"].append(compiler.kept(task, tokens, 1, device))
        except Exception as error:  # the others may fit
            results["failed"].append({"program": task.name, "error": f"{type(error).__name__}: {error}"[:300]})
        keep(results)
    if results["programs"]:
        print(
            record.table(
                tuple(results["programs"][0]), [tuple(map(str, each.values())) for each in results["programs"]]
            )
        )
    for failure in results["failed"]:
        print(f"{failure['program']}: {failure['error']}")
    if results["not_reached"]:
        print(f"no time was left for {', '.join(results['not_reached'])}")
    return results


def _size(task: lf.tasks.Task) -> int:
    """Layers times heads, times the heads' width."""
    config = program_for(task).compile(compiler.MOST_TOKENS // 2).config
    return config.layers * config.heads * config.head_width
