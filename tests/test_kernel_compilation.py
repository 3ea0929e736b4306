"""Kernels compiled ahead of time for sm90, in a process without the interpreter: that they fit their budgets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Results of the benchmark for the representative rows of the tile table."""
    directory = tmp_path_factory.mktemp("compilation")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmarks.compilation", "--quick", "--out", str(directory)]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads((directory / "compilation.json").read_text())["results"]


@pytest.mark.slow
def test_representative_rows_compile_within_their_budgets(compiled):
    kernels = {"forward", "query_gradient", "key_gradient", "diagonal with options", "short_forward", "short_backward"}
    assert {row["kernel"] for row in compiled["kernels"]} >= kernels
    for row in compiled["kernels"]:
        assert row["error"] is None, row
        assert row["shared"] <= compiled["most_shared"][row["architecture"]], row
        assert row["registers"] <= (row["max_registers"] or 255), row
        assert row["head_width"] > 64 or row["spills"] == 0, row
