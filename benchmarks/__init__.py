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
        seconds: most time that its quick form may take; ``all`` ends it then. 0: ``all`` leaves it out.
        requires: packages it imports, and "cuda" if it needs a GPU.
    """

    name: str
    seconds: int
    requires: tuple[str, ...] = ()


BUILT = ("lengen_fast._engine", "lengen_fast._cpu")

BENCHMARKS = (  # what a GPU owes comes first
    Benchmark("attention", seconds=190, requires=("torch", *BUILT)),
    Benchmark("million", seconds=150, requires=("cuda", "torch", "lark", *BUILT)),
    Benchmark("host", seconds=40, requires=("torch", "triton", *BUILT)),
    Benchmark("training", seconds=170, requires=("torch", "transformers", "accelerate", *BUILT)),
    Benchmark("extrapolation", seconds=120, requires=("torch", "rich", "matplotlib", *BUILT)),
    Benchmark("generator", seconds=110, requires=("torch", *BUILT)),
    Benchmark("tiles", seconds=0, requires=("cuda", "triton")),
    Benchmark("languages", seconds=0, requires=("torch", "matplotlib", *BUILT)),
    Benchmark("compiler", seconds=0, requires=("torch", "lark", *BUILT)),
    Benchmark("predictions", seconds=0, requires=("torch", "lark", "automata", *BUILT)),
    Benchmark("inference", seconds=0, requires=("torch", "matplotlib", *BUILT)),
    Benchmark("phi", seconds=0, requires=("torch", "matplotlib")),
)
