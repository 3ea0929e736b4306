"""How many instructions the loops of the attention kernels take for each cell of a tile, read off the machine code.

No GPU is needed, and the interpreter must be off: ``python -m benchmarks.instructions``. A cell is a pair of a query
and a key; a thread holds some of a tile, and a loop visits one tile after another. A processor of sm90 issues the
instructions of 128 threads in a cycle and computes 16 exponentials, so a loop of fewer than 8 instructions a cell is
bound by its exponentials and one of more by its instructions, as long as products take less and data are ready. It is
the one measure of a kernel's speed that takes no GPU, and says nothing of latency.

For bf16 operands on sm90, 4 heads, 2,048 tokens (the kernels for short rows: 150), without a bias, with ALiBi, with a
learned table over all distances, and with log-n scaling beside it. Loops over tiles that all queries see as a whole
have the fewest instructions, those along the diagonal the most.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import triton

from benchmarks import compilation, record
from benchmarks.compilation import attention, launch, problem

NAME = "instructions"
ARCHITECTURE, HEADS = "sm90", 4
LONG, SHORT = 2048, 150
WIDTHS = (16, 32, 64, 128)
KINDS = ("none", "ALiBi", "learned table", "learned table + log-n")
LEAST = 40  # instructions of a loop over tiles


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="directory of the record")
    parser.add_argument("--widths", nargs="+", type=int, choices=WIDTHS, default=WIDTHS, help="head widths")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="biases")
    arguments = parser.parse_args()
    if launch.is_interpreted(problem.common.load_tile):
        print("TRITON_INTERPRET is set: the interpreter compiles nothing", file=sys.stderr)
        return 1
    surroundings, lines = record.surroundings(), []
    for case in itertools.product((LONG, SHORT), arguments.widths, arguments.kinds):
        for line in measured(*case):
            lines.append(line)
            print(*line.values(), flush=True)
    print("\n" + record.table(tuple(lines[0]), [tuple(map(str, line.values())) for line in lines]))
    options = {"widths": arguments.widths, "kinds": arguments.kinds}
    path = record.write(arguments.out, NAME, __doc__, options, surroundings, {"kernels": lines})
    print(f"written: {path}")
    return 0


def measured(length: int, width: int, kind: str) -> Iterator[dict]:
    """A line of the record for each kernel that visits tiles in a forward and a backward pass."""
    for kernel, arguments in _launches(length, width, kind):
        shape = arguments.get("SHAPE")
        if shape is None or kernel.__name__.startswith("short") != (length == SHORT):
            continue
        figures, code = compiled(kernel, arguments)
        threads = 32 * arguments["num_warps"]
        cells = shape.BLOCK_M.value * shape.BLOCK_N.value / threads
        yield {
            "kernel": kernel.__name__.removesuffix("_kernel"),
            "head_width": width,
            "bias": kind,
            "tile": f"{shape.BLOCK_M.value} x {shape.BLOCK_N.value}, {arguments['num_warps']} warps",
            "instructions_per_cell": sorted(round(count / cells, 2) for count in loops(code) if count >= LEAST),
            "registers": figures["registers"],
            "spills": figures["spills"],
        }


def _launches(length: int, width: int, kind: str) -> list[tuple[object, dict]]:
    q, k, v = torch.empty(3, 16, length, HEADS, width, dtype=torch.bfloat16).unbind()
    options: dict = dict(cu_seqlens=None, longest=length, softmax_scale=0.5)
    if kind != "none":
        options["table"] = torch.zeros(1, HEADS, 1 if kind == "ALiBi" else length)
    if kind == "ALiBi":
        options |= dict(beyond="line", slope=torch.zeros(1, HEADS))
    if "log-n" in kind:
        options["logit_scale"] = torch.zeros(16, length, HEADS)
    with compilation.recorded() as launches, compilation.pretending(ARCHITECTURE, split=False):
        out, lse = attention.forward(q, k, v, **options)
        attention.backward(out, q, k, v, out, lse, **options, needs_table="table" in kind)
    return launches


def compiled(kernel, arguments: dict) -> tuple[dict, str]:
    """The compiler's figures, and the machine code as text."""
    figures = compilation.compile_kernel(kernel, arguments, compilation.CAPABILITIES[ARCHITECTURE])
    disassembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(figures.pop("cubin"))
        file.flush()
        result = subprocess.run([disassembler, "-c", file.name], capture_output=True, text=True, check=True)
    return figures, result.stdout


def loops(code: str) -> list[int]:
    """Numbers of instructions between a label and each jump back to it."""
    count, labels, found = 0, {}, []
    for line in code.splitlines():
        label = re.match(r"(\.L_\w+):", line.strip())
        if label:
            labels[label[1]] = count
        elif re.match(r"\s+(/\*[0-9a-f]+\*/)?\s*(@!?U?P\w+\s+)?[A-Z][A-Z0-9_.]+.*;", line):
            count += 1
            jump = re.search(r"\bBRA\b.*?(\.L_\w+)", line)
            if jump and jump[1] in labels:
                found.append(count - labels[jump[1]])
    return found


if __name__ == "__main__":
    sys.exit(main())
