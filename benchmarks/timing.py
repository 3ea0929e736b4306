"""Timing of things that are compared: in one process, alternately, as a ratio of medians with its spread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from statistics import median, quantiles

Workload = Callable[[], float]
"""Does its work once and returns the seconds that one unit of it took."""


def alternate(
    workloads: dict[Hashable, Workload], rounds: int, most_seconds: float = math.inf
) -> dict[Hashable, list[float]]:
    """Run the workloads in turn, A B A B ...; seconds by name. A workload warms up by itself.

    Args:
        workloads: what to run, by name.
        rounds: runs of each.
        most_seconds: after the first round none begins later than this.
    """
    deadline = time.monotonic() + most_seconds
    seconds = {name: [] for name in workloads}
    for done in range(rounds):
        if done and time.monotonic() > deadline:
            break
        for name, workload in workloads.items():
            seconds[name].append(workload())
    return seconds


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times as fast: ratio of the medians, and the quartiles of the ratios of neighbours in time."""
    pairs = [one / other for one, other in zip(slow, fast, strict=True)]
    low, _, high = quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else (pairs[0],) * 3
    return {"ratio": median(slow) / median(fast), "low": low, "high": high, "pairs": len(pairs)}


def repeated(work: Callable[[], object], least_seconds: float = 0.02, untimed: int = 0) -> Workload:
    """The workload that calls ``work`` over and over for at least ``least_seconds`` and returns seconds a call.

    Before each time it calls it ``untimed`` times, so that what the workload before left in the caches does not count.
    """
    work()
    calls = 1

    def workload() -> float:
        nonlocal calls
        for _ in range(untimed):
            work()
        while True:
            began = time.perf_counter()
            for _ in range(calls):
                work()
            seconds = time.perf_counter() - began
            if seconds >= least_seconds:
                return seconds / calls
            calls = max(2 * calls, round(calls * least_seconds / max(seconds, 1e-9)))

    return workload


def describe(comparison: dict[str, float]) -> str:
    """A ratio with its quartiles, as tables show it."""
    return f"{comparison['ratio']:.3g}x ({comparison['low']:.3g} to {comparison['high']:.3g})"
