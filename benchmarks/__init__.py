"""One module per claim: ``python -m benchmarks NAME`` or ``python -m benchmarks all``.

A benchmark is a module whose docstring states the claim and whose ``run(quick)`` prints a table and returns JSON
values. It compares two things in one process, alternately (``benchmarks.timing``), and asserts nothing about time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """An entry of the table of contents.

    Attributes:
        name: module of this package.
        seconds: most time that its quick form may take; ``all`` ends it then.
        requires: packages it imports, and "cuda" if it needs a GPU.
    """

    name: str
    seconds: int
    requires: tuple[str, ...] = ()


BENCHMARKS = (
    Benchmark("attention", seconds=200, requires=("torch",)),
    Benchmark("generator", seconds=90, requires=("torch", "lengen_fast._engine")),
    Benchmark("training", seconds=210, requires=("torch", "lengen_fast._engine", "transformers", "accelerate")),
    Benchmark("extrapolation", seconds=150, requires=("torch", "rich", "matplotlib", "lengen_fast._engine")),
)
