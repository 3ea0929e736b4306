"""Which tile of each row of the tile table is the fastest on this GPU, and from which length on short rows lose.

``kernels/lengen_kernels/tiles.py`` is chosen by what the compiler says; this measures it. For bf16 operands, each
kernel and head width, without a bias and with a learned table, candidates are compiled on all cores at once, without
the GPU, and their launches timed one by one in CUDA graphs, on a batch of 32,768 tokens or of 64 short rows; what a
launch writes is compared with what it writes with the tile of the table. And both passes over rows of 50 to 256 tokens
by the kernels for short rows are compared with those by tiles (``LONGEST_SHORT_ROW``).

The record lists what is faster; the table is edited by hand. Rows go from the most to the least important until the
time is up, and the record is written after each of them. ``--quick`` tries blocks and warps alone.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from benchmarks import compilation, record
from benchmarks.compilation import attention, launch, problem, tiles

TOKENS, HEADS, LONG, SHORT = 32_768, 4, 2048, 150
LENGTHS_OF_PATHS = (50, 64, 100, 150, 256)
QUICK_SECONDS, FULL_SECONDS = 120, 540
COMPILING = 0.55  # of the seconds, at most
WIDTHS = (64, 16, 128, 32)
KINDS = ("without options", "with a bias")
STAGES, BOUNDS = (1, 2, 3), (None, 168)
BLOCKS = {  # queries, keys and warps
    "forward": ((64, 128), (32, 64, 128), (4, 8)),
    "query_gradient": ((64, 128), (32, 64, 128), (4, 8)),
    "key_gradient": ((16, 32, 64), (64, 128), (4, 8)),
    "diagonal": ((32, 64), (32, 64), (4, 8)),
    "short_forward": ((32, 64), (32, 64), (2, 4)),
    "short_backward": ((16, 32, 64), (32, 64), (4, 8)),
}
SLOWER, DIFFERENT = 1.02, 2e-2  # a tile must gain so much; results may differ by so much of the largest


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    kernel: str
    kind: str
    width: int

    @property
    def length(self) -> int:
        return SHORT if self.kernel.startswith("short") else LONG

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.kind}, D = {self.width}"


def rows() -> Iterator[Row]:
    """The most important first."""
    for width, kind, kernel in itertools.product(WIDTHS, KINDS, BLOCKS):
        is_served = width <= attention.WIDEST_SHORT_ROW or not kernel.startswith("short")
        if is_served and (kernel != "diagonal" or kind == "with a bias"):
            yield Row(kernel, kind, width)


def candidates(row: Row, quick: bool) -> list[tiles.Tile]:
    """Tiles to try, that of the table first."""
    present = chosen_tile(row)
    stages, bounds = ((present.num_stages,), (present.max_registers,)) if quick else (STAGES, BOUNDS)
    found = {present: None}
    for block_m, block_n, warps, stage, bound in itertools.product(*BLOCKS[row.kernel], stages, bounds):
        tile = tiles.Tile(block_m, block_n, warps, stage, bound)
        is_square = block_m == block_n or row.kernel != "diagonal"
        cells = block_m * block_n // (32 * warps)  # of a thread: fewer are all overhead, more do not fit
        if is_square and 8 <= cells <= 128 and (row.kernel != "short_backward" or block_n % block_m == 0):
            found[tile] = None
    return list(found)


def chosen_tile(row: Row) -> tiles.Tile:
    """The tile of the table for a row, on the GPU that is there or on an H100."""
    architecture = problem.architecture(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    kernel = row.kernel if row.kind == "without options" else f"{row.kernel} {row.kind}"
    return tiles.choose(kernel, max(16, row.width), "16", row.length, architecture)


def launch_of(row: Row, tile: tiles.Tile, device: str) -> tuple[object, int, dict]:
    """Kernel, programs and arguments of the launch of a row with a tile."""
    with _replaced(tiles, "choose", _with_tile(row.kernel, tile, tiles.choose)), _recorded() as launches:
        _passes(row.length, row.width, row.kind, device)()
    return next(each for each in launches if each[0].__name__ == f"{row.kernel}_kernel")


def _with_tile(kernel: str, tile: tiles.Tile, choose: Callable) -> Callable:
    return lambda name, *key: tile if name.partition(" with ")[0] == kernel else choose(name, *key)


def _passes(length: int, width: int, kind: str, device: str) -> Callable[[], None]:
    """A forward and a backward pass over the same operands each time."""
    shape = max(1, min(64, TOKENS // length)), length, HEADS, width
    rows = torch.empty(4, *shape, device=device, dtype=torch.bfloat16)
    table = torch.empty(1, HEADS, length, device=device)
    if device == "cuda":  # else nothing is computed
        rows.normal_(generator=torch.Generator(device).manual_seed(0))
        table.normal_(generator=torch.Generator(device).manual_seed(1))
    q, k, v, grad_out = rows.unbind()
    options: dict = dict(cu_seqlens=None, longest=length, softmax_scale=width**-0.5)
    if kind == "with a bias":
        options["table"] = table

    def both() -> None:
        out, lse = attention.forward(q, k, v, **options)
        attention.backward(grad_out, q, k, v, out, lse, **options)

    return both


@contextlib.contextmanager
def _replaced(module: object, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def _recorded() -> Iterator[list]:
    """A list that takes every launch; on a GPU they also happen, for kernels read what those before them wrote."""
    launches, perform = [], launch.launch

    def remember(kernel, programs: int, **arguments: object) -> None:
        launches.append((kernel, programs, arguments))
        if torch.cuda.is_available():
            perform(kernel, programs, **arguments)

    with _replaced(launch, "launch", remember):
        yield launches


def compile_tile(row: Row, tile: tiles.Tile, architecture: str) -> str | None:
    """Compile a row's launch into Triton's cache, in a process that leaves the GPU alone; why that failed."""
    return _compile(lambda: [launch_of(row, tile, "cpu")], architecture)


def compile_passes(length: int, width: int, kind: str, longest_short: int, architecture: str) -> str | None:
    """The same for all launches of both passes, where rows of up to ``longest_short`` tokens are short."""

    def launches() -> list:
        with _replaced(attention, "LONGEST_SHORT_ROW", longest_short), _recorded() as launched:
            _passes(length, width, kind, "cpu")()
        return launched

    return _compile(launches, architecture)


def _compile(launches: Callable[[], list], architecture: str) -> str | None:
    torch.set_num_threads(1)
    pretended = {torch.cuda: ("is_available", lambda: False), problem: ("architecture", lambda _: architecture)}
    with contextlib.ExitStack() as stack:
        for module, (name, value) in pretended.items():
            stack.enter_context(_replaced(module, name, value))
        try:
            for kernel, _, arguments in launches():
                triton.runtime.driver.set_active(compilation.Device(compilation.CAPABILITIES[architecture]))
                kernel.warmup(grid=(1,), **arguments)
        except Exception as error:  # a tile that does not compile is a result
            return f"{type(error).__name__}: {error}"[:200]
    return None


def measure_row(
    row: Row, errors: dict[tiles.Tile, str | None], clock: Callable[[Callable], float], device: str
) -> dict:
    """Milliseconds of each tile that compiles and agrees with that of the table, the fastest first.

    Args:
        errors: tiles, that of the table first, and why each does not compile. clock: milliseconds of a function.
    """
    present, expected, lines = next(iter(errors)), None, []
    for tile, error in errors.items():
        line: dict = {"tile": list(tile), "error": error}
        if error is None:
            try:
                kernel, programs, arguments = launch_of(row, tile, device)
                launch.launch(kernel, programs, **arguments)
                written = _written(row, arguments)
                expected = written if tile == present else expected
                line["difference"] = difference(written, expected or written)
                line["ms"] = clock(lambda k=kernel, n=programs, a=arguments: launch.launch(k, n, **a))
            except Exception as failure:
                line["error"] = f"{type(failure).__name__}: {failure}"[:200]
        lines.append(line)
    return {"row": row.name, "tiles": lines, **best(lines)}


def _written(row: Row, arguments: dict) -> dict[str, Tensor]:
    """What a launch has computed, in a form that does not depend on its tile."""
    if row.kernel != "diagonal":
        names = ("p_out", "p_lse", "p_grad_q", "p_grad_k", "p_grad_v")
        return {name: arguments[name].float().clone() for name in names if arguments.get(name) is not None}
    lower, upper = arguments["p_partial"].sum(1).unbind(1)  # [pairs, distances]: see ``diagonal_kernel``
    block = arguments["SHAPE"].BLOCK_M.value
    sums = lower + torch.nn.functional.pad(upper, (0, block))[:, block:]
    return {"grad_table": sums[:, : row.length].clone()}


def difference(written: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest, relative to the largest value.

    Raises:
        ValueError: it is no number.
    """
    largest = 0.0
    for name, values in written.items():
        found = float((values - expected[name]).abs().max() / expected[name].abs().max())
        if not math.isfinite(found):
            raise ValueError(f"{name} differs by {found}")
        largest = max(largest, found)
    return largest


def best(lines: list[dict]) -> dict:
    """The tile of the table, the fastest that agrees with it, and how much is gained."""
    timed = [line for line in lines if line["error"] is None and line["difference"] <= DIFFERENT]
    if not timed or lines[0] not in timed:
        return {"present": lines[0]["tile"], "fastest": None, "gain": None}
    fastest = min(timed, key=lambda line: line["ms"])
    if lines[0]["ms"] < SLOWER * fastest["ms"]:
        fastest = lines[0]
    return {"present": lines[0]["tile"], "fastest": fastest["tile"], "gain": lines[0]["ms"] / fastest["ms"]}


def run(quick: bool, keep: Callable[[dict], object]) -> dict:
    seconds = QUICK_SECONDS if quick else FULL_SECONDS
    deadline, compiled = (time.monotonic() + share * seconds for share in (1, COMPILING))
    architecture = problem.architecture(torch.device("cuda"))
    wanted = {row: candidates(row, quick) for row in rows()}
    results: dict = {"architecture": architecture, "paths": [], "rows": [], "not_reached": []}
    pool = concurrent.futures.ProcessPoolExecutor(record.cores(), mp_context=multiprocessing.get_context("spawn"))
    try:
        paths = [pool.submit(compile_passes, *path, architecture) for path in _paths()]
        jobs = {
            row: {tile: pool.submit(compile_tile, row, tile, architecture) for tile in row_tiles}
            for row, row_tiles in wanted.items()
        }
        concurrent.futures.wait(paths, max(0.0, compiled - time.monotonic()))
        results["paths"] = [_measure_path(*path) for path in _paths()]
        keep(results)
        for row, tile_jobs in jobs.items():
            errors = _errors(tile_jobs, compiled)
            if chosen_tile(row) not in errors or time.monotonic() > deadline:
                results["not_reached"].append(row.name)
                continue
            results["rows"].append(measure_row(row, errors, _milliseconds, "cuda"))
            keep(results)
    finally:
        pool.shutdown(cancel_futures=True)
    _print(results)
    return results


def _errors(jobs: dict[tiles.Tile, concurrent.futures.Future], deadline: float) -> dict[tiles.Tile, str | None]:
    """Why tiles do not compile, of those whose compilation has ended."""
    errors = {}
    for tile, job in jobs.items():
        try:
            errors[tile] = job.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError:
            continue
        except concurrent.futures.BrokenExecutor as error:
            errors[tile] = repr(error)
    return errors


def _milliseconds(work: Callable[[], object]) -> float:
    from triton.testing import do_bench_cudagraph

    return do_bench_cudagraph(work, rep=5, return_mode="median")


def _paths() -> list[tuple[int, int, str, int]]:
    """Length, width and kind, each by the kernels for short rows and by tiles: up to which length rows are short."""
    return list(itertools.product(LENGTHS_OF_PATHS, (64, 16), KINDS, (attention.LONGEST_SHORT_ROW, 0)))


def _measure_path(length: int, width: int, kind: str, longest_short: int) -> dict:
    """Milliseconds of both passes."""
    line = {"length": length, "width": width, "kind": kind, "by": "short rows" if longest_short else "tiles"}
    with _replaced(attention, "LONGEST_SHORT_ROW", longest_short):
        try:
            return line | {"ms": _milliseconds(_passes(length, width, kind, "cuda"))}
        except Exception as error:
            return line | {"ms": f"{type(error).__name__}: {error}"[:200]}


def _print(results: dict) -> None:
    print("\nTiles (queries, keys, warps, stages, bound of registers) that are faster than those of the table\n")
    lines = [
        (row["row"], str(row["present"]), str(row["fastest"]), "-" if row["gain"] is None else f"{row['gain']:.2f}x")
        for row in results["rows"]
        if row["fastest"] != row["present"]
    ]
    print(record.table(("row", "table", "fastest", "gain"), lines))
    print("\nBoth passes over 64 rows, by the kernels for short rows and by tiles\n")
    print(record.table(tuple(results["paths"][0]), [tuple(map(str, line.values())) for line in results["paths"]]))
    if results["not_reached"]:
        print(f"\nno time was left for {len(results['not_reached'])} rows")
