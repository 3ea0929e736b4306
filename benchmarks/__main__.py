"""Command line of the benchmarks: one by name, or ``all`` of them within nine minutes, the kernels' tests first."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "kernels"))  # so that a plain checkout needs no installation

from benchmarks import BENCHMARKS, BUILT, Benchmark, record  # noqa: E402

ALL_SECONDS = 530  # of "all", tests and building included
TEST_SECONDS = 180  # of the kernels' tests
BUILD_SECONDS = 170  # of the extensions, while the tests run


def main() -> int:
    arguments = _arguments()
    if arguments.name == "all":
        return _run_all(arguments.out)
    benchmark = next(each for each in BENCHMARKS if each.name == arguments.name)
    missing = _missing(benchmark)
    if missing:
        print(f"{benchmark.name} cannot run here: {missing} is missing", file=sys.stderr)
        return 1
    options = {"finished": True} if arguments.finished else {}
    if arguments.finished and "finished" not in inspect.signature(_module(benchmark).run).parameters:
        print(f"{benchmark.name} trains nothing that could be finished: leave out --finished", file=sys.stderr)
        return 2
    _run(benchmark, arguments.quick, arguments.out, **options)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*(each.name for each in BENCHMARKS), "all"], help="which benchmark")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="directory of the records")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; what 'all' does")
    parser.add_argument("--finished", action="store_true", help="train nothing; record the runs that have ended")
    return parser.parse_args()


def _module(benchmark: Benchmark) -> ModuleType:
    return importlib.import_module(f"benchmarks.{benchmark.name}")


def _run(benchmark: Benchmark, quick: bool, out: Path, **options: object) -> None:
    module = _module(benchmark)
    surroundings = record.surroundings()
    began = time.monotonic()

    def keep(results: dict) -> Path:
        arguments = {"quick": quick, "seconds": round(time.monotonic() - began, 1)}
        return record.write(out, benchmark.name, module.__doc__, arguments, surroundings, results)

    if "keep" in inspect.signature(module.run).parameters:
        options["keep"] = keep
    print(f"written: {keep(module.run(quick, **options))}")


def _run_all(out: Path) -> int:
    """Tests of the kernels, then every benchmark in a process of its own, so that none can harm the others."""
    deadline, steps = time.monotonic() + ALL_SECONDS, {"build": _build_engine, "kernel tests": _test_kernels}
    with ThreadPoolExecutor(len(steps)) as pool:  # neither needs the other
        outcomes = dict(zip(steps, pool.map(lambda step: step(deadline), steps.values()), strict=True))
    for benchmark in filter(lambda each: each.seconds, BENCHMARKS):
        missing, left = _missing(benchmark), deadline - time.monotonic()
        if missing:
            outcomes[benchmark.name] = f"skipped: {missing} is missing"
        elif left < benchmark.seconds:
            outcomes[benchmark.name] = f"skipped: it may take {benchmark.seconds} s, and {max(0, left):.0f} s are left"
        else:
            command = ["-m", "benchmarks", benchmark.name, "--quick", "--out", str(out.resolve())]
            outcomes[benchmark.name] = _python(command, time.monotonic() + benchmark.seconds)
    print("\n" + record.table(("step", "outcome"), list(outcomes.items())))
    return int(any(outcome.startswith("failed") for outcome in outcomes.values()))


def _build_engine(deadline: float) -> str:
    if all(map(_is_there, BUILT)):
        return "skipped: the extensions are there"
    command = ["setup.py", "--quiet", "build_ext", "--inplace"]
    outcome = _python(command, min(deadline, time.monotonic() + BUILD_SECONDS))
    importlib.invalidate_caches()
    return outcome


def _test_kernels(deadline: float) -> str:
    missing = next((name for name in ("pytest", "hypothesis", "triton") if not _is_there(name)), None)
    if missing:
        return f"skipped: {missing} is missing"
    files = sorted(str(path) for path in (ROOT / "tests").glob("test_kernel_*.py"))
    parts, deadline = record.cores(), min(deadline, time.monotonic() + TEST_SECONDS)
    commands = [["-m", "pytest", "-q", "-x", "-m", "not slow", f"--part={i + 1}/{parts}", *files] for i in range(parts)]
    with ThreadPoolExecutor(parts) as pool:  # a process a core, for what takes time on a GPU is compiling
        outcomes = list(pool.map(lambda command: _python(command, deadline), commands))
    return next((outcome for outcome in outcomes if outcome.startswith("failed")), outcomes[-1])


def _python(arguments: list[str], deadline: float) -> str:
    """Run this Python on ``arguments`` in the checkout until ``deadline``; how it ended."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        return "failed: no time was left"
    print(f"\n$ python {' '.join(arguments)}", flush=True)
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    began = time.monotonic()
    try:
        code = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"failed: not done after {seconds:.0f} s"
    taken = time.monotonic() - began
    return f"done in {taken:.0f} s" if code == 0 else f"failed: exit status {code} after {taken:.0f} s"


def _missing(benchmark: Benchmark) -> str | None:
    """The first thing that the benchmark needs and this machine lacks."""
    return next((name for name in benchmark.requires if not _is_there(name)), None)


def _is_there(name: str) -> bool:
    if name == "cuda":
        return _is_there("torch") and record.gpu() is not None
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


if __name__ == "__main__":
    sys.exit(main())
