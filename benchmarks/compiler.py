"""Programs compiled to weights, tested at lengths up to 131,072 tokens and, for their numbers, up to 16 million.

Claim: (1) a compiled program is exact at every position of strings of 1,000, 16,384 and 131,072 tokens, in random
order, in blocks (all of one symbol, then all of the next, so that a sum rises to the middle and falls to nothing), in
turns and near ties, at random offsets, on a CPU, in fp32; the longest ones in blocks alone. (2) The length to which
``compile`` guarantees that is below the first length at which a model was found wrong, in every dtype, for counts that
share their means and for differences; strings are near ties, every position up to 16,384 tokens and the last 16 of
chosen lengths beyond.

``--quick`` stops at 16,384 tokens and at 2 million. On a machine with a GPU the programs of (1) run there, and with
1,048,576 tokens too.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import record
from lengen_fast.theory import compiler, parse, standard
from lengen_fast.theory.compiler import precision, readout, weights
from lengen_fast.theory.compiler.layout import Layout, Truth
from lengen_fast.theory.compiler.lowering import lower
from lengen_fast.theory.compiler.verification import differences

COUNTING = ("binary_majority", "majority", "binary_majority_interleave", "dyck_1", "shuffle_dyck_2", "dyck_depth_12")
COUNTING += ("a_n_b_n_c_n", "tomita_7", "ordered_blocks", "boolean_5")
NEAR_TIES = "alphabet a b\nNEXT_a := #Q_a < #Q_b\nNEXT_b := #Q_b < #Q_a\nNEXT_<end> := #Q_a = #Q_b"
LONGEST, ON_A_GPU = 131_072, 1_048_576
EVERY_POSITION, LAST = 16_384, 16


def run(quick: bool) -> dict:
    """Both claims; exact values, no timings."""
    return {"programs": _programs(quick), "dtypes": _dtypes(quick)}


def _programs(quick: bool) -> list[dict]:
    results, device = [], "cuda" if torch.cuda.is_available() else "cpu"
    longer = [(LONGEST, 1), *([(ON_A_GPU, 1)] if device == "cuda" else [])]
    for name in COUNTING:
        program = standard.program(name)
        for length, strings in ((1_000, 16), (16_384, 4), *([] if quick else longer)):
            model = program.compile(length).to(device)
            shape = model.guarantee
            wrong = _wrong_positions(program, model, length, strings)
            line = {"program": name, "device": device, "length": length, "strings": strings, "wrong positions": wrong}
            results.append(line | {"layers": shape.layers, "width": shape.width, "guaranteed": shape.tokens})
            print(results[-1], flush=True)
    print(record.table(tuple(results[0]), [tuple(map(str, line.values())) for line in results]))
    return results


def _wrong_positions(program, model, length: int, strings: int) -> int:
    if length < LONGEST:
        return compiler.verify(program, model, length, strings).wrong
    blocks = np.arange(length - 1) * len(program.alphabet) // (length - 1)
    return int(differences(program, model, np.concatenate([[program.token("<bos>")], blocks])).sum())


def _dtypes(quick: bool) -> list[dict]:
    results = []
    longest = dict.fromkeys(precision.PRECISIONS, 1 << (21 if quick else 24))
    longest[torch.float64] = 1 << (19 if quick else 22)  # its path keeps a row of scores for each query
    for dtype, exactness in precision.PRECISIONS.items():
        for differ in (False, True):
            model, program, guaranteed = _compiled(dtype, differ)
            first = _first_wrong(program, model, longest[dtype])
            line = {"dtype": exactness.name, "counts": "differences" if differ else "shared", "guaranteed": guaranteed}
            results.append(line | {"first wrong": first, "tested up to": longest[dtype]})
            print(results[-1], flush=True)
    print(record.table(tuple(results[0]), [tuple(map(str, line.values())) for line in results]))
    return results


def _compiled(dtype: torch.dtype, differ: bool):
    """The model of one layout, whatever is guaranteed; its program, and its guarantee."""
    program = parse(NEAR_TIES)
    circuit, literals = lower(program)
    layout, exactness = Layout(circuit, list(literals.values()), differ), precision.PRECISIONS[dtype]
    logits = readout.logits(program, None, literals, Truth(circuit.true))
    model = weights.build(layout, exactness, readout.token_names(program, None), logits)
    return model, program, precision.guaranteed_length(layout, exactness)


def _first_wrong(program, model, longest: int) -> int | None:
    """Tokens of the shortest prefix that the model was found wrong on."""
    for tokens in _near_ties(program, EVERY_POSITION):
        wrong = differences(program, model, tokens)
        if wrong.any():
            return int(wrong.argmax()) + 1
    length = EVERY_POSITION
    while length < longest:
        length = length * 5 // 4 if length * 5 // 4 < longest else longest
        for tokens in _near_ties(program, length):
            rows = torch.arange(length - LAST, length)
            with torch.no_grad():
                found = model(torch.from_numpy(tokens), rows=rows)[:, [0, 1, 4]].double().numpy()
            wrong = (found != program.legal(tokens)[-LAST:]).any(axis=1)
            if wrong.any():
                return length - LAST + int(wrong.argmax()) + 1
    return None


def _near_ties(program, length: int) -> list[np.ndarray]:
    """In turns, and all of one symbol before all of the other."""
    bodies = np.arange(length - 1) % 2, (np.arange(length - 1) >= (length - LAST // 2) // 2).astype(np.int64)
    return [np.concatenate([[program.token("<bos>")], body]) for body in bodies]
