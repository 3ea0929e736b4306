"""Kernels compiled ahead of time, as recorded and in a process without the interpreter: that they fit their budgets."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.6.0", "3.9.0")  # of Triton
WIDEST_WITHOUT_SPILLS = 64  # head width


def run_benchmark(name, *options):
    """What a benchmark prints in a process that does not interpret kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def results_of(directory, name, *options):
    """Results of a benchmark, recorded in a directory."""
    run_benchmark(name, *options, "--out", str(directory))
    return json.loads((directory / f"{name}.json").read_text())["results"]


@pytest.fixture(scope="module")
def checked_in():
    """Results of the record in this checkout, and every row that it should have of the present kernels and versions."""
    results = json.loads((ROOT / "benchmarks" / "results" / "compilation.json").read_text(encoding="utf-8"))["results"]
    present = json.loads(run_benchmark("compilation", "--rows"))
    return results, [row | {"triton": version} for version, row in itertools.product(VERSIONS, present)]


def assert_fits(row, most_shared):
    assert row["error"] is None, row
    assert row["shared"] <= most_shared[row["architecture"]], row
    assert row["registers"] <= (row["max_registers"] or 255), row
    assert row["head_width"] > WIDEST_WITHOUT_SPILLS or row["spills"] == 0, row


@pytest.mark.slow
def test_loops_take_few_instructions_for_a_cell(tmp_path):
    """So few that exponentials, 8 instructions each, are about as much. ``instructions-before.json``: 8.9 forward,
    6.6 and 21.3 for the gradients of queries and keys."""
    lines = results_of(tmp_path, "instructions", "--widths", "16", "--kinds", "none")["kernels"]
    fewest = {line["kernel"]: line["instructions_per_cell"][0] for line in lines}
    assert fewest["forward"] < 8
    assert fewest["query_gradient"] < 8
    assert fewest["key_gradient"] < 10
    assert fewest["short_forward"] < 9
    assert fewest["short_backward"] < 18  # both gradients


@pytest.mark.slow
def test_representative_rows_compile_within_their_budgets(tmp_path):
    compiled = results_of(tmp_path, "compilation", "--quick")
    kernels = {"forward", "query_gradient", "key_gradient", "diagonal with options", "short_forward", "short_backward"}
    assert {row["kernel"] for row in compiled["kernels"]} >= kernels
    for row in compiled["kernels"]:
        assert_fits(row, compiled["most_shared"])


def test_the_record_is_of_the_present_table_within_its_budgets(checked_in):
    results, wanted = checked_in
    keys = [identity(row) for row in results["kernels"]]
    assert len(set(keys)) == len(keys)
    by_key = {identity(row): row for row in wanted}
    for key, row in zip(keys, results["kernels"], strict=True):
        assert by_key[key].items() <= row.items(), f"run python -m benchmarks.compilation: {by_key[key]}, {row}"
        assert_fits(row, results["most_shared"])


def test_the_record_has_every_row(checked_in):
    results, wanted = checked_in
    recorded = {identity(row) for row in results["kernels"]}
    missing = [row for row in wanted if identity(row) not in recorded]
    assert not missing, f"{len(missing)} of {len(wanted)} rows, the first of them {missing[0]}"


def identity(row):
    return tuple(row[name] for name in ("triton", "kernel", "architecture", "operands", "head_width"))
