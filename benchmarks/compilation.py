"""Every row of the tile table compiles for its architecture: registers, spills and shared memory of each kernel.

No GPU is needed, and the interpreter must be off: ``python -m benchmarks.compilation``. Each kernel is compiled as a
launch without options would compile it, as one with a bias over distance, and as one with all options, for head widths
of 16 to 256 and every precision.
The record is written after each head width. What it holds already, of the same kernel, launch and version of Triton,
is not compiled again; so a run that ended early goes on, and other versions of Triton add their rows.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "kernels"))  # so that a plain checkout needs no installation
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what the launches ask for; silences a warning

import torch  # noqa: E402
import triton  # noqa: E402
from lengen_kernels import attention, launch, tiles  # noqa: E402
from lengen_kernels.attention import problem  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402

from benchmarks import record  # noqa: E402

NAME = "compilation"
KEY = ("triton", "kernel", "architecture", "operands", "head_width")
CAPABILITIES = {"sm80": 80, "sm90": 90, "sm100": 100}
MOST_SHARED = {"sm80": 163 << 10, "sm90": 227 << 10, "sm100": 227 << 10}  # bytes that a program may have
WIDTHS = tiles.WIDTHS
OPERANDS = ("16", "tf32x3", "tf32", "ieee")
LENGTHS, HEADS = (1024, attention.LONGEST_SHORT_ROW, tiles.SHORT), 4
KINDS = ("without options", "with a bias", "with options", "with options and chosen rows")
QUICK = [("16", 64), ("tf32x3", 16)]
FUNCTIONS = {
    "forward": "forward_kernel",
    "query_gradient": "query_gradient_kernel",
    "key_gradient": "key_gradient_kernel",
    "diagonal": "diagonal_kernel",
    "chosen_rows": "chosen_rows_kernel",
    "table_gradient": "table_gradient_kernel",
    "short_forward": "short_forward_kernel",
    "short_backward": "short_backward_kernel",
    "distance_gradient": "distance_gradient_kernel",
}
PARTS = {  # where keys are in parts
    "split": "forward_kernel",
    "merge": "merge_kernel",
    "split_query_gradient": "query_gradient_kernel",
    "sum": "sum_kernel",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compilation", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="directory of the record")
    parser.add_argument("--quick", action="store_true", help="a few rows for sm90")
    parser.add_argument("--rows", action="store_true", help="only print the rows that the record should have")
    parser.add_argument("--architectures", nargs="+", choices=CAPABILITIES, default=list(CAPABILITIES))
    parser.add_argument("--operands", nargs="+", choices=OPERANDS, default=OPERANDS)
    arguments = parser.parse_args()
    if launch.is_interpreted(problem.common.load_tile):
        print("TRITON_INTERPRET is set: the interpreter compiles nothing", file=sys.stderr)
        return 1
    if arguments.quick:
        cases = [("sm90", *each) for each in QUICK]
    else:
        cases = list(itertools.product(arguments.architectures, arguments.operands, WIDTHS))
    if arguments.rows:
        print(json.dumps([row for case in cases for row, _, _ in rows(*case)]))
    else:
        run(cases, arguments.out, {"quick": arguments.quick})
    return 0


def run(cases: list[tuple[str, str, int]], out: Path, options: dict) -> None:
    """Compile every kernel for each (architecture, operands, head width), and write the record after each of them."""
    surroundings, known = record.surroundings(), _known(out / f"{NAME}.json")
    for case in cases:
        for row, function, arguments in rows(*case):
            key = tuple(row[name] for name in KEY)
            if key not in known or not row.items() <= known[key].items():
                known[key] = row | _figures(function, arguments, CAPABILITIES[case[0]])
                print(*known[key].values(), flush=True)
        results = {"most_shared": MOST_SHARED, "kernels": list(known.values())}
        path = record.write(out, NAME, __doc__, options, surroundings, results)
    print(f"written: {path}")


def rows(architecture: str, operands: str, width: int) -> Iterator[tuple[dict, object, dict]]:
    """What the record has of each kernel before it is compiled, ``KEY`` and its tile; the kernel; its arguments."""
    for kernel, function, arguments in _kernels(architecture, operands, width):
        key = (triton.__version__, kernel, architecture, operands, width)
        yield dict(zip(KEY, key, strict=True)) | _tile(arguments) | digest(function, arguments), function, arguments


def digest(function, arguments: dict) -> dict:
    """Of what decides what is compiled: the sources of a kernel, and its launch."""
    decisive = [*map(Path.read_bytes, _sources(function.fn.__module__)), launch.described(function, arguments).encode()]
    return {"digest": hashlib.sha256(b"".join(decisive)).hexdigest()[:8]}


@functools.cache
def _sources(name: str) -> list[Path]:
    """Files of a module of the kernels and of those whose functions and types it uses."""
    found, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            used = {getattr(each, "__module__", None) or "" for each in vars(sys.modules[name]).values()}
            waiting += [each for each in used if each.startswith(f"{attention.__name__}.")]
    return [Path(sys.modules[name].__file__) for name in sorted(found)]


def _known(path: Path) -> dict[tuple, dict]:
    """Rows of a record by what ``KEY`` names, none if it is not there."""
    recorded = json.loads(path.read_text(encoding="utf-8"))["results"]["kernels"] if path.exists() else []
    return {tuple(row[name] for name in KEY): row for row in recorded}


def _figures(function, arguments: dict, capability: int) -> dict:
    try:
        figures = compile_kernel(function, arguments, capability)
        return {name: value for name, value in figures.items() if name != "cubin"} | {"error": None}
    except Exception as error:  # a row that does not compile is a result
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _tile(arguments: dict) -> dict:
    """Blocks, warps, stages and bound of registers of a launch."""
    names = {"num_warps": "num_warps", "num_stages": "num_stages", "maxnreg": "max_registers"}
    tile = {name: arguments.get(option) for option, name in names.items()}
    shape = arguments.get("SHAPE")
    return tile if shape is None else {"block_m": shape.BLOCK_M.value, "block_n": shape.BLOCK_N.value, **tile}


def _kernels(architecture: str, operands: str, width: int) -> Iterator[tuple[str, object, dict]]:
    """Name of the row, kernel and arguments of every kernel's launch, without options and with all of them."""
    seen = set()
    for length, kind in itertools.product(LENGTHS, KINDS):
        options = _options(length, kind)
        for names, split in ((FUNCTIONS, False), (PARTS, True)):
            if split and kind not in ("with options", "with options and chosen rows"):
                continue
            for function, arguments in _launches(architecture, operands, width, length, options, split):
                for name in [name for name, each in names.items() if each == function.__name__]:
                    row = f"{name} {kind}".removesuffix(" and chosen rows").removesuffix(" without options")
                    if name == "forward" and not options and length <= tiles.SHORT:
                        row = f"forward up to {tiles.SHORT} rows"
                    if row not in seen:
                        seen.add(row)
                        yield row, function, arguments


def _launches(
    architecture: str, operands: str, width: int, length: int, options: dict, split: bool
) -> list[tuple[object, dict]]:
    """Every launch of a forward and a backward pass over two rows of ``length`` tokens."""
    dtype, precision = (torch.bfloat16, "ieee") if operands == "16" else (torch.float32, operands)
    q, k, v = torch.empty(2 * length, 3, HEADS, width, dtype=dtype).unbind(1)
    bounds = torch.tensor([0, length, 2 * length], dtype=torch.int32)
    common = dict(cu_seqlens=bounds, longest=length, softmax_scale=0.5, precision=precision, **options)
    with recorded() as launches, pretending(architecture, split):
        out, lse = attention.forward(q, k, v, **common)
        attention.backward(out, q, k, v, out, lse, **common)
    return launches


def _options(length: int, kind: str) -> dict:
    """Those of one of ``KINDS``: a table with a value for each distance, or a short one with a line beyond it."""
    scale = {"logit_scale": torch.zeros(2 * length, HEADS)}
    if kind == "without options":
        return {}
    if kind == "with a bias":
        return {"table": torch.zeros(1, HEADS, length), **scale}
    options = {
        "table": torch.zeros(1, HEADS, 64),
        "beyond": "line",
        "slope": torch.zeros(1, HEADS),
        "key_bias": torch.zeros(2 * length, HEADS),
        "window": length // 2 - 12,
        **scale,
    }
    return options | ({"query_rows": torch.arange(2 * length)} if kind == "with options and chosen rows" else {})


@contextlib.contextmanager
def pretending(architecture: str, split: bool):
    """Tiles of an architecture that is not there, and keys always or never in parts."""
    before = problem.architecture, attention.splits
    problem.architecture, attention.splits = lambda device: architecture, lambda problem: 4 if split else 1
    try:
        yield
    finally:
        problem.architecture, attention.splits = before


def compile_kernel(kernel, arguments: dict, capability: int) -> dict:
    """Compile ``kernel`` as a launch with ``arguments`` does; the compiler's figures, and the machine code."""
    log = io.StringIO()
    triton.runtime.driver.set_active(Device(capability))
    with triton.knobs.nvidia.scope(), triton.knobs.compilation.scope(), contextlib.redirect_stdout(log):
        triton.knobs.nvidia.dump_ptxas_log = True
        triton.knobs.compilation.always_compile = True
        compiled = kernel.warmup(grid=(1,), **arguments)
    report = log.getvalue()
    return {
        "registers": int(re.search(r"Used (\d+) registers", report)[1]),
        "spills": int(re.search(r"(\d+) bytes spill stores", report)[1]),
        "stack": int(re.search(r"(\d+) bytes stack frame", report)[1]),
        "shared": compiled.metadata.shared,
        "cubin": compiled.asm["cubin"],
    }


class Device:
    """What the just-in-time compiler asks of a GPU before it compiles, for one that is not there."""

    count = itertools.count()

    def __init__(self, capability: int):
        self.capability, self.number = capability, next(self.count)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.number  # another each time, for what was compiled is kept by it

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def recorded():
    """A list that takes every launch, (kernel, arguments), instead of the device."""
    launches, original = [], launch.launch
    launch.launch = lambda kernel, programs, **arguments: launches.append((kernel, arguments))
    try:
        yield launches
    finally:
        launch.launch = original


if __name__ == "__main__":
    sys.exit(main())
