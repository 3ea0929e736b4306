"""Programs compiled to weights, tested at lengths up to 131,072 tokens and, for their numbers, up to 16 million.

Claim: (1) every program of the standard library, compiled in fp32, is exact: evaluated like a trained model on strings
of its task of about 50, 1,000, 16,384 and 131,072 tokens, as they are usually drawn and hard (the longest: one hard
string), at random offsets; and, up to 16,384, at every position of adversarial strings: random order, blocks (all of
one symbol, then all of the next, so that a sum rises to the middle and falls to nothing), turns and near ties. Copying
and sorting have as many symbols as tokens and stop at 50. One hard string of 1,048,576 tokens on a GPU for every
program; on a CPU for those of one layer, which take minutes, while each layer of the others takes minutes more: by what
32,768 tokens take on two cores, 9 to 39 minutes a program. (2) The length to which ``compile`` guarantees that is below
the first length at which a model was found wrong, in every dtype, for counts that share their means and for
differences; strings are near ties, every position up to 16,384 tokens and the last 16 of chosen lengths beyond, each a
quarter longer (in fp64 twice as long) than the one before, up to the guarantee at least.

Every line is kept below ``runs/compiler`` and not measured again; it says at which commit and on what it was measured.
``--quick`` stops at 1,000 tokens and at 2 million. On a machine with a GPU the programs of (1) run there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np
import torch

import lengen_fast as lf
from benchmarks import record
from benchmarks.plans import RUNS
from lengen_fast.ops.packing import Packing, RowSelection
from lengen_fast.runs import read_json, write_json
from lengen_fast.theory import compiler, parse, program_for, standard
from lengen_fast.theory.compiler import precision, readout, weights
from lengen_fast.theory.compiler.layout import Layout, Truth
from lengen_fast.theory.compiler.lowering import lower
from lengen_fast.theory.compiler.verification import differences

NEAR_TIES = "alphabet a b\nNEXT_a := #Q_a < #Q_b\nNEXT_b := #Q_b < #Q_a\nNEXT_<end> := #Q_a = #Q_b"
LENGTHS = {50: 100, 1_000: 16, 16_384: 4, 131_072: 1, 1_048_576: 1}
"""Tokens, and how many strings of each kind."""
MOST_TOKENS = 1_048_576
CPU_TOKENS = 131_072
"""Of programs with more than one layer on a CPU."""
GROWING = 24
"""Symbols of tasks whose alphabet may grow."""
ONE_STRING = 131_072
"""Tokens from which on one hard string is tested."""
EVERY_POSITION, LAST = 16_384, 16
SCORES_AT_ONCE = 1 << 25
"""Keys of all queries asked at once: in fp64 each takes some 50 bytes beside the 100 of a token."""


def run(quick: bool) -> dict:
    """Both claims; exact values, no timings."""
    return {"programs": _programs(quick), "dtypes": _dtypes(quick)}


def _programs(quick: bool) -> list[dict]:
    results, device = [], "cuda" if torch.cuda.is_available() else "cpu"
    for task in tasks():
        for tokens, count in LENGTHS.items():
            if tokens <= _most_tokens(task, quick, device):
                results.append(kept(task, tokens, count, device))
    print(record.table(tuple(results[0]), [tuple(map(str, line.values())) for line in results]))
    return results


def tasks() -> list[lf.tasks.Task]:
    """Those with a program in the library."""
    named = map(lf.task, standard.names())
    return [lf.task(task.name, symbols=GROWING) if task.alphabet_grows else task for task in named]


def kept(task: lf.tasks.Task, tokens: int, count: int, device: str) -> dict:
    """The line of a task's program on strings of so many tokens."""
    return _kept(f"{task.name}-{tokens}-{device}", lambda: _line(task, tokens, count, device))


def _most_tokens(task: lf.tasks.Task, quick: bool, device: str) -> int:
    if task.alphabet_grows:
        return 50
    if quick:
        return 1_000
    one_layer = program_for(task).compile(1_000).config.layers == 1
    return MOST_TOKENS if device == "cuda" or one_layer else CPU_TOKENS


def _kept(name: str, measure: Callable[[], dict]) -> dict:
    """A line that is there below ``RUNS``, or measured now."""
    path = RUNS / "compiler" / f"{name}.json"
    if not path.exists():
        origin = {"commit": record.commit(), "cpu": record.machine()["cpu"]}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measure() | origin)
    line = read_json(path)
    print(line, flush=True)
    return line


def _line(task: lf.tasks.Task, tokens: int, count: int, device: str) -> dict:
    """What one compiled program gets wrong of strings of its task and of adversarial ones."""
    n = _length_with(task, tokens)
    evaluated = program_for(task).compile(task.tokens_at(n), task=task).to(device)
    kinds = ("hard",) if tokens >= ONE_STRING else ("paper", "hard")
    tables = [lf.evaluate(evaluated, task, [n], count=count, distribution=kind, offsets="random") for kind in kinds]
    shape = evaluated.guarantee
    return {
        "program": task.name,
        "tokens": tokens,
        "n": n,
        "exact": f"{sum(t.lines[0].correct for t in tables)} of {sum(t.lines[0].count for t in tables)}",
        "adversarial": 0 if tokens >= ONE_STRING else count,
        "wrong positions": 0 if tokens >= ONE_STRING else _wrong_positions(task, tokens, count, device),
        "layers": shape.layers,
        "heads": evaluated.config.heads,
        "width": shape.width,
        "guaranteed tokens": shape.tokens,
        "device": device,
    }


def _length_with(task: lf.tasks.Task, tokens: int) -> int:
    """The greatest length whose strings have at most so many tokens."""
    lengths = task.reachable(task.min_length, min(tokens, task.max_length))
    return lengths[bisect_right(lengths, tokens, key=task.tokens_at) - 1]


def _wrong_positions(task: lf.tasks.Task, tokens: int, strings: int, device: str) -> int:
    program = program_for(task)
    return compiler.verify(program, program.compile(tokens).to(device), tokens, strings).wrong


def _dtypes(quick: bool) -> list[dict]:
    longest = 1 << (21 if quick else 24)
    results = [
        _kept(f"{exactness.name}-{differ}-{longest}", lambda d=dtype, f=differ: _dtype_line(d, f, longest, quick))
        for dtype, exactness in precision.PRECISIONS.items()
        for differ in (False, True)
    ]
    print(record.table(tuple(results[0]), [tuple(map(str, line.values())) for line in results]))
    return results


def _dtype_line(dtype: torch.dtype, differ: bool, longest: int, quick: bool) -> dict:
    model, program, guaranteed = _compiled(dtype, differ)
    longest = longest if quick else max(longest, guaranteed)
    first = _first_wrong(program, model, longest, 2 if dtype == torch.float64 else 5 / 4)
    line = {"dtype": precision.PRECISIONS[dtype].name, "counts": "differences" if differ else "shared"}
    return line | {"guaranteed": guaranteed, "first wrong": first, "tested up to": longest}


def _compiled(dtype: torch.dtype, differ: bool):
    """The model of one layout, whatever is guaranteed; its program, and its guarantee."""
    program = parse(NEAR_TIES)
    circuit, literals = lower(program)
    layout, exactness = Layout(circuit, list(literals.values()), differ), precision.PRECISIONS[dtype]
    logits = readout.logits(program, None, literals, Truth(circuit.true))
    model = weights.build(layout, exactness, readout.token_names(program, None), logits)
    return model, program, precision.guaranteed_length(layout, exactness)


def _first_wrong(program, model, longest: int, factor: float) -> int | None:
    """Tokens of the shortest prefix that the model was found wrong on; lengths grow by a factor."""
    for tokens in _near_ties(program, EVERY_POSITION):
        wrong = differences(program, model, tokens)
        if wrong.any():
            return int(wrong.argmax()) + 1
    length = EVERY_POSITION
    while length < longest:
        length = min(int(length * factor), longest)
        for tokens in _near_ties(program, length):
            wrong = (_last_values(model, tokens) != program.legal(tokens)[-LAST:]).any(axis=1)
            if wrong.any():
                return length - LAST + int(wrong.argmax()) + 1
    return None


@torch.no_grad()
def _last_values(model, tokens: np.ndarray) -> np.ndarray:
    """[LAST, 3]: the NEXT values of the last positions, as many at once as ``SCORES_AT_ONCE`` allows."""
    length, ids = len(tokens), torch.from_numpy(tokens)
    packing, (block,) = Packing.of(ids, None), model.blocks
    stream = model.embedding(ids, packing)
    parts = torch.arange(length - LAST, length).split(max(1, SCORES_AT_ONCE // length))
    hidden = torch.cat([block(stream, packing, RowSelection.of(packing, rows)) for rows in parts])
    return model.unembed(model.final_norm(hidden))[:, [0, 1, 4]].double().numpy()


def _near_ties(program, length: int) -> list[np.ndarray]:
    """In turns, and all of one symbol before all of the other."""
    bodies = np.arange(length - 1) % 2, (np.arange(length - 1) >= (length - LAST // 2) // 2).astype(np.int64)
    return [np.concatenate([[program.token("<bos>")], body]) for body in bodies]
