"""The engine and the CPU kernels, without Python, under AddressSanitizer, UBSan and ThreadSanitizer."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
SANITIZERS = {"address": ("-O0", "-fsanitize=address,undefined"), "thread": ("-O1", "-fsanitize=thread")}
OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def compiled(source: Path, program: Path, sanitizer: tuple[str, ...]) -> subprocess.CompletedProcess:
    flags = ["-std=c++20", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fno-sanitize-recover=all", *sanitizer]
    headers = TESTS.parent / "csrc"
    command = [COMPILER, *flags, f"-I{headers}", str(source), "-o", str(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(program: Path) -> subprocess.CompletedProcess:
    """Runs a program without address randomisation where that can be had: ThreadSanitizer needs a known layout."""
    setarch = shutil.which("setarch")
    fixed = [setarch, os.uname().machine, "-R"] if setarch else []
    if fixed and subprocess.run([*fixed, "true"], capture_output=True, check=False).returncode != 0:
        fixed = []
    environment = os.environ | OPTIONS
    return subprocess.run([*fixed, str(program)], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module", params=SANITIZERS)
def sanitizer(request, tmp_path_factory):
    """The flags of a sanitizer that works here, as an empty program shows."""
    flags = SANITIZERS[request.param]
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "empty.cpp").write_text("int main() {}\n")
    if compiled(folder / "empty.cpp", folder / "empty", flags).returncode != 0:
        pytest.skip(f"the compiler has no {flags[-1]}")
    if run(folder / "empty").returncode != 0:
        pytest.skip(f"programs with {flags[-1]} do not start on this machine")
    return flags


@pytest.mark.slow
def test_every_sampler_and_the_stream_are_clean(sanitizer, tmp_path):
    run_clean("engine_driver.cpp", tmp_path, sanitizer)


@pytest.mark.slow
def test_every_sampler_of_a_language_is_clean(sanitizer, tmp_path):
    run_clean("language_driver.cpp", tmp_path, sanitizer)


@pytest.mark.slow
def test_every_cpu_kernel_is_clean(sanitizer, tmp_path):
    run_clean("cpu_driver.cpp", tmp_path, (*sanitizer, "-Wno-psabi"))


def run_clean(source, tmp_path, flags):
    built = compiled(TESTS / source, tmp_path / "driver", flags)
    assert built.returncode == 0, built.stderr
    result = run(tmp_path / "driver")
    assert (result.returncode, result.stdout, result.stderr) == (0, "clean\n", "")
