"""The data engine makes at least 100 times as many tokens a second on one thread as plain Python, and two threads make
at least 1.7 times as many as one.

Plain Python is ``benchmarks.python_tasks``: a row generator over lists and ``random``, packed into lists, against the
engine's packed buffers; and, beside it, both with the PyTorch tensors that training takes. Each task is drawn as in the
paper's training (64 rows, n uniform from the shortest to 50) and as long rows (n about 4,096). Beside the gain of two
threads stands what this machine gives two threads that share nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import mean, median

import numpy as np
import torch

from benchmarks import python_tasks, record
from benchmarks.timing import alternate, describe, ratio, repeated
from lengen_fast import _engine
from lengen_fast.data import Batch, Stream
from lengen_fast.tasks import Task, task

PAPER_ROWS, PAPER_LONGEST = 64, 50
LONG_ROWS, LONG_LENGTH = 16, 4096
LEAST_RATIO, LEAST_SCALING = 100, 1.7
SCALING_ROWS = 4096  # of one sample over two threads
STREAM_ROWS, STREAM_BATCHES = 1024, 32  # of one measurement of a stream


def run(quick: bool) -> dict:
    rounds = 5 if quick else 25
    scaling_rounds = 7 if quick else 41
    results = {
        "against_python": [_against_python(*case, rounds) for name in python_tasks.DRAW for case in _cases(name)],
        "machine": _machine(scaling_rounds),
        "two_threads": [
            _two_threads(name, how, scaling_rounds) for name in python_tasks.DRAW for how in ("sample", "stream")
        ],
    }
    _print(results)
    return results


def _cases(name: str) -> Iterator[tuple[str, Task, int, tuple[int, int]]]:
    """(description, task, rows, lengths) of a paper batch and of long rows."""
    short = task(name)
    yield "paper", short, PAPER_ROWS, (short.min_length, PAPER_LONGEST)
    grown = short.with_symbols(LONG_LENGTH)
    longest = grown.reachable(LONG_LENGTH - 16, LONG_LENGTH)[-1]
    yield "long", grown, LONG_ROWS, (longest, longest)


def _against_python(size: str, each: Task, rows: int, lengths: tuple[int, int], rounds: int) -> dict:
    context = each.context_for(lengths[1])
    source = python_tasks.rows(each, lengths, context)
    _check_same_format(each, python_tasks.packed(source, 8))
    sampler = each.sampler(lengths, context=context)
    steps = iter(range(2**40))

    def engine() -> _engine.Batch:
        return sampler.sample(rows, stream=next(steps), threads=1)

    def python() -> tuple[list[int], ...]:
        return python_tasks.packed(source, rows)

    seconds = alternate(
        {
            "python": repeated(python),
            "engine": repeated(engine),
            "python_tensors": repeated(lambda: [torch.tensor(values) for values in python()]),
            "engine_tensors": repeated(lambda: _tensors(engine())),
        },
        rounds,
    )
    tokens = _mean_tokens(sampler, rows)
    rates = {f"{name}_tokens_per_second": round(tokens / median(seconds[name])) for name in seconds}
    comparison = ratio(seconds["python"], seconds["engine"])
    return {
        "task": each.name,
        "size": size,
        "rows": rows,
        "lengths": list(lengths),
        **rates,
        **comparison,
        "with_tensors": ratio(seconds["python_tensors"], seconds["engine_tensors"]),
        "met": comparison["ratio"] >= LEAST_RATIO,
    }


def _tensors(batch: _engine.Batch) -> list[torch.Tensor]:
    """All tensors of a batch, which are otherwise made when they are asked for."""
    wrapped = Batch.from_engine(batch)
    return [wrapped.tokens, wrapped.cu_seqlens, wrapped.offsets, wrapped.scored, wrapped.targets]


def _mean_tokens(sampler: _engine.Sampler, rows: int) -> float:
    """Tokens of a batch, on average over 100: both sides draw lengths from one distribution."""
    return mean(len(sampler.sample(rows, stream=step).tokens) for step in range(100))


def _check_same_format(each: Task, batch: tuple[list[int], ...]) -> None:
    """Both sides must do the same work: Python's strings are questions of the task with the oracle's answers."""
    tokens, cu_seqlens, _, scored, targets = (np.array(values) for values in batch)
    for begin, end in pairwise(cu_seqlens):
        positions, answers = each.oracle(tokens[begin:end])
        inside = (scored >= begin) & (scored < end)
        if not np.array_equal(scored[inside] - begin, positions) or not np.array_equal(targets[inside], answers):
            raise RuntimeError(f"the Python twin of {each.name} does not draw what the task is")


def _machine(rounds: int) -> dict:
    """What two threads gain on this machine at work that shares nothing: NumPy sorts, which hold no lock."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(2**30, size=50_000) for _ in range(8)]

    def sort(some: list[np.ndarray]) -> None:
        for array in some:
            np.sort(array)

    with ThreadPoolExecutor(2) as pool:
        seconds = alternate(
            {
                "one": repeated(lambda: sort(arrays)),
                "two": repeated(lambda: list(pool.map(sort, (arrays[:4], arrays[4:])))),
            },
            rounds,
        )
    return ratio(seconds["one"], seconds["two"])


def _two_threads(name: str, how: str, rounds: int) -> dict:
    each = task(name)
    make = _sampling if how == "sample" else _streaming
    seconds = alternate({"one": make(each, 1), "two": make(each, 2)}, rounds)
    comparison = ratio(seconds["one"], seconds["two"])
    return {"task": name, "through": how, **comparison, "met": comparison["ratio"] >= LEAST_SCALING}


def _sampling(each: Task, threads: int):
    sampler = each.sampler()
    steps = iter(range(2**40))
    return repeated(lambda: Batch.from_engine(sampler.sample(SCALING_ROWS, stream=next(steps), threads=threads)))


def _streaming(each: Task, threads: int):
    def stream() -> None:
        length = (each.min_length, PAPER_LONGEST)
        with Stream(each, STREAM_ROWS, length, stop=STREAM_BATCHES, threads=threads) as batches:
            for _ in batches:
                pass

    return repeated(stream)


def _print(results: dict) -> None:
    print(f"\nEngine against plain Python, one thread (claim: at least {LEAST_RATIO}x)\n")
    rows = [
        (
            line["task"],
            line["size"],
            line["python_tokens_per_second"] / 1e6,
            line["engine_tokens_per_second"] / 1e6,
            describe(line),
            "pass" if line["met"] else "FAIL",
            describe(line["with_tensors"]),
        )
        for line in results["against_python"]
    ]
    headings = ("task", "size", "Python Mtoken/s", "engine Mtoken/s", "ratio (quartiles)", "claim", "with tensors")
    print(record.table(headings, rows))
    print(f"\nTwo threads against one (claim: at least {LEAST_SCALING}x; needs two idle cores)\n")
    rows = [
        (line["task"], line["through"], describe(line), "pass" if line["met"] else "FAIL")
        for line in results["two_threads"]
    ]
    rows.append(("(NumPy sorts that share nothing)", "", describe(results["machine"]), ""))
    print(record.table(("task", "through", "ratio (quartiles)", "claim"), rows))
