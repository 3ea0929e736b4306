"""The data engine makes at least 100 times as many tokens a second on one thread as plain Python, two threads make at
least 1.7 times as many as one, and of the regular languages at length 65,536 at least 100 million tokens a second.

Plain Python is ``benchmarks.python_tasks`` and ``benchmarks.python_languages``: row generators over lists and
``random``, packed into lists, against the engine's packed buffers; and, in the full form, beside it both with the
PyTorch tensors that training takes. Every task is drawn as in the paper's training (64 rows, n uniform from the
shortest to 50) and as long rows (n about 4,096), a regular language also with all members of a length equally likely.
``filling`` is the share of the engine's time that writing one number all over the same arrays takes: where that is
nearly all of it, no generator of these arrays could be faster on this machine, and a ratio below the claim is at its
bound. What two threads gain is judged by medians, as everything else; beside it stands the ratio of the fastest runs.
All tasks are drawn in turn, round after round, so that a neighbour who takes part of a core for some seconds troubles
all alike. ``apart`` is what two threads gain in the same rounds that draw half of the rows each into batches of their
own, so that the slower core decides; it excuses nothing. In a stream each thread draws whole batches; a third one takes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from statistics import mean, median

import numpy as np
import torch

from benchmarks import python_languages, python_tasks, record
from benchmarks.timing import Workload, alternate, describe, ratio, repeated
from lengen_fast import _engine
from lengen_fast.automata import Automaton
from lengen_fast.data import Batch, Stream
from lengen_fast.tasks import Language, Task, task, tasks

PAPER_ROWS, PAPER_LONGEST = 64, 50
LONG_ROWS, LONG_LENGTH = 4, 4096  # what is written stays in a core's own cache
EXPRESSION_ROWS = 2  # as long rows: Python draws expressions by rejection
LEAST_RATIO, LEAST_SCALING = 100, 1.7
BOUND_SHARE = 0.9  # of the engine's time that filling takes, from which on that is the bound
SCALING_ROWS = 16_384  # of one sample
STREAM_ROWS, STREAM_BATCHES = 4096, 128  # of a batch; of one run of a stream, whose threads start anew
LONGEST_ROWS, LONGEST_LENGTH, LEAST_RATE = 32, 65_536, 100e6  # tokens a second on two threads
MOST_SECONDS = 2  # of one comparison, beyond its first round

Timed = Callable[[Callable[[], object]], Workload]


def run(quick: bool) -> dict:
    rounds = 3 if quick else 9
    scaling_rounds = {"sample": 5, "stream": 3} if quick else {"sample": 121, "stream": 25}
    timed = partial(repeated, least_seconds=0.006 if quick else 0.02)
    results = {
        "against_python": [_against_python(*case, timed, rounds, with_tensors=not quick) for case in _cases()],
        "longest": [_longest(*case, timed, rounds) for case in _regular()],
        "two_threads": [line for how in scaling_rounds for line in _two_threads(how, scaling_rounds[how])],
    }
    _print(results)
    return results


def _regular() -> Iterator[tuple[Language, str]]:
    """The regular languages, each with its distributions."""
    for each in map(task, tasks()):
        if isinstance(each, Language) and isinstance(each.acceptor, Automaton):
            yield from ((each, distribution) for distribution in ("paper", "uniform"))


def _cases() -> Iterator[tuple[Task, str, str, int, tuple[int, int]]]:
    """(task, distribution, description, rows, lengths) of a paper batch and of long rows."""
    uniform = [case for case in _regular() if case[1] == "uniform"]
    for each, distribution in [*((task(name), "paper") for name in tasks()), *uniform]:
        yield each, distribution, "paper", PAPER_ROWS, (each.min_length, PAPER_LONGEST)
        grown = each.with_symbols(LONG_LENGTH)
        longest = grown.reachable(LONG_LENGTH - 16, LONG_LENGTH)[-1]
        rows = EXPRESSION_ROWS if each.name.startswith("boolean") else LONG_ROWS
        yield grown, distribution, "long", rows, (longest, longest)


def _against_python(
    each: Task,
    distribution: str,
    size: str,
    rows: int,
    lengths: tuple[int, int],
    timed: Timed,
    rounds: int,
    *,
    with_tensors: bool,
) -> dict:
    context = each.context_for(lengths[1])
    source = _python_rows(each, distribution, lengths, context)
    _check_same_format(each, python_tasks.packed(source, 2))
    sampler = each.sampler(lengths, distribution=distribution, context=context)
    steps = iter(range(2**40))

    def engine() -> _engine.Batch:
        return sampler.sample(rows, stream=next(steps), threads=1)

    def python() -> tuple[list[int], ...]:
        return python_tasks.packed(source, rows)

    workloads = {"python": timed(python), "engine": timed(engine), "filling": timed(_filling(engine()))}
    if with_tensors:
        workloads["python_tensors"] = timed(lambda: [torch.tensor(values) for values in python()])
        workloads["engine_tensors"] = timed(lambda: _tensors(engine()))
    seconds = alternate(workloads, rounds, MOST_SECONDS)
    tokens = _mean_tokens(sampler, rows, batches=100 if lengths[0] < lengths[1] else 1)
    rates = {
        f"{name}_tokens_per_second": round(tokens / median(seconds[name])) for name in seconds if name != "filling"
    }
    comparison, filling = (
        ratio(seconds["python"], seconds["engine"]),
        ratio(seconds["filling"], seconds["engine"])["ratio"],
    )
    tensors = {"with_tensors": ratio(seconds["python_tensors"], seconds["engine_tensors"])} if with_tensors else {}
    return {
        "task": each.name,
        "distribution": distribution,
        "size": size,
        "rows": rows,
        "lengths": list(lengths),
        **rates,
        **comparison,
        **tensors,
        "filling": filling,
        "met": comparison["ratio"] >= LEAST_RATIO,
        "bound": filling >= BOUND_SHARE,
    }


def _python_rows(each: Task, distribution: str, lengths: tuple[int, int], context: int) -> Iterator[python_tasks.Row]:
    if isinstance(each, Language):
        return python_languages.rows(each, lengths, context, distribution)
    return python_tasks.rows(each, lengths, context)


def _tensors(batch: _engine.Batch) -> list[torch.Tensor]:
    """All tensors of a batch, which are otherwise made when they are asked for."""
    wrapped = Batch.from_engine(batch)
    return [wrapped.tokens, wrapped.cu_seqlens, wrapped.offsets, wrapped.scored, wrapped.targets]


def _filling(batch: _engine.Batch) -> Callable[[], None]:
    """Writes one number all over arrays like those of a batch."""
    arrays = [
        np.empty_like(array) for array in (batch.tokens, batch.cu_seqlens, batch.offsets, batch.scored, batch.targets)
    ]

    def fill() -> None:
        for array in arrays:
            array.fill(1)

    return fill


def _mean_tokens(sampler: _engine.Sampler, rows: int, batches: int) -> float:
    """Tokens of a batch, on average: both sides draw lengths from one distribution."""
    return mean(len(sampler.sample(rows, stream=step).tokens) for step in range(batches))


def _check_same_format(each: Task, batch: tuple[list[int], ...]) -> None:
    """Both sides must do the same work: Python's strings are questions of the task with the oracle's answers."""
    tokens, cu_seqlens, _, scored, targets = (np.array(values) for values in batch)
    for begin, end in pairwise(cu_seqlens):
        positions, answers = each.oracle(tokens[begin:end])
        inside = (scored >= begin) & (scored < end)
        if not np.array_equal(scored[inside] - begin, positions) or not np.array_equal(targets[inside], answers):
            raise RuntimeError(f"the Python twin of {each.name} does not draw what the task is")


def _longest(each: Language, distribution: str, timed: Timed, rounds: int) -> dict:
    sampler = each.sampler((LONGEST_LENGTH, LONGEST_LENGTH), distribution=distribution)
    steps = iter(range(2**40))
    work = timed(lambda: sampler.sample(LONGEST_ROWS, stream=next(steps), threads=2))
    tokens = _mean_tokens(sampler, LONGEST_ROWS, batches=1)
    rates = [tokens / seconds for seconds in alternate({"engine": work}, rounds, MOST_SECONDS)["engine"]]
    return {
        "task": each.name,
        "distribution": distribution,
        "tokens_per_second": round(median(rates)),
        "least": round(min(rates)),
        "most": round(max(rates)),
        "met": median(rates) >= LEAST_RATE,
    }


def _two_threads(how: str, rounds: int) -> list[dict]:
    ways = {"sample": {"one": 1, "two": 2, "apart": 2}, "stream": {"one": 1, "two": 2}}[how]
    work = _sampling if how == "sample" else _streaming
    seconds = alternate({(name, way): work(task(name), way, ways[way]) for name in tasks() for way in ways}, rounds)
    return [_gain(name, how, {way: seconds[name, way] for way in ways}) for name in tasks()]


def _gain(name: str, how: str, seconds: dict[str, list[float]]) -> dict:
    comparison = ratio(seconds["one"], seconds["two"])
    line = {"task": name, "through": how, "gain": min(seconds["one"]) / min(seconds["two"]), **comparison}
    if "apart" in seconds:
        line["apart"] = ratio(seconds["one"], seconds["apart"])["ratio"]
    return {**line, "met": comparison["ratio"] >= LEAST_SCALING}


def _sampling(each: Task, way: str, threads: int) -> Workload:
    sampler = each.sampler()
    steps = iter(range(2**40))

    def sample() -> None:
        Batch.from_engine(sampler.sample(SCALING_ROWS, stream=next(steps), threads=threads))

    def sample_apart() -> None:
        _engine.sample_apart(sampler, SCALING_ROWS, next(steps), threads)

    return repeated(sample_apart if way == "apart" else sample, least_seconds=0.003, untimed=2)


def _streaming(each: Task, _way: str, threads: int) -> Workload:
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
            line["distribution"],
            line["size"],
            line["python_tokens_per_second"] / 1e6,
            line["engine_tokens_per_second"] / 1e6,
            describe(line),
            f"{line['filling']:.0%}",
            _verdict(line),
            *([describe(line["with_tensors"])] if "with_tensors" in line else []),
        )
        for line in results["against_python"]
    ]
    headings = (
        "task",
        "drawn",
        "size",
        "Python Mtoken/s",
        "engine Mtoken/s",
        "ratio (quartiles)",
        "filling",
        "claim",
        "with tensors",
    )
    print(record.table(headings[: len(rows[0])], rows))
    print(f"\nLength {LONGEST_LENGTH:,}, two threads (claim: at least {LEAST_RATE / 1e6:.0f} Mtoken/s)\n")
    rows = [
        (line["task"], line["distribution"], *(line[name] / 1e6 for name in RATES), _verdict(line))
        for line in results["longest"]
    ]
    print(record.table(("task", "drawn", "Mtoken/s", "least", "most", "claim"), rows))
    print(f"\nTwo threads against one (claim: at least {LEAST_SCALING}x; needs two idle cores)\n")
    rows = [
        (
            line["task"],
            line["through"],
            describe(line),
            f"{line['gain']:.3g}x",
            f"{line['apart']:.3g}x" if "apart" in line else "-",
            _verdict(line),
        )
        for line in results["two_threads"]
    ]
    print(record.table(("task", "through", "ratio (quartiles)", "fastest runs", "apart", "claim"), rows))


RATES = ("tokens_per_second", "least", "most")


def _verdict(line: dict) -> str:
    return "pass" if line["met"] else "bound" if line.get("bound") else "FAIL"
