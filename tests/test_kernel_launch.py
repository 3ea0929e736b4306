"""Launches: what Triton compiled is found again without its help, and is what it would have found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("check", ["specializations", "asking_once", "attention"])
def test_a_launch_runs_what_triton_would_run(check):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("launches.py")), check]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
