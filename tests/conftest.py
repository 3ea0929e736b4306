"""What several test files share: devices, hypothesis settings, and the memory of a piece of code."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from importlib.metadata import version

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run in the interpreter, which is chosen when they are defined

pytest.register_assert_rewrite("attention_cases", "attention_oracle", "kernel_cases")
settings.register_profile(  # nothing that depends on how busy the machine is
    "lengen", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lengen")
torch.set_num_threads(1)  # tests are made of tiny operations: on a busy machine two threads take eight times as long


def pytest_addoption(parser):
    parser.addoption("--part", default="1/1", metavar="I/N", help="only the I-th of N parts of the tests")


def pytest_collection_modifyitems(config, items):
    """So that several processes compile the kernels of a GPU's tests at once, where pytest-xdist is not installed."""
    part, parts = map(int, config.getoption("--part").split("/"))
    items[:] = items[part - 1 :: parts]


@pytest.fixture(scope="session", params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request) -> torch.device:
    """Every device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture(params=["plain", "fma", "wide"])
def path(request):
    """Every path of the CPU kernels in turn; one that the processor lacks is the widest that it has."""
    from lengen_fast import _cpu  # not there where kernels are tested from a checkout without a C++ compiler

    before = _cpu.path()
    _cpu.use_path(_cpu.Path.__members__[request.param])
    yield
    _cpu.use_path(before)


@pytest.fixture
def threads():
    """Sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter():
    """Prepare Triton's language once for the device functions of a module, not at each call: near half of the time.

    A launch prepares ``triton.language`` itself and undoes that at its end; other modules stay as they are.
    """
    if torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        yield
        return
    from triton.runtime import interpreter

    prepared = set()

    def call(self, *args, **options):
        module = self.fn.__globals__["__name__"]
        if module not in prepared:
            interpreter._patch_lang(self.fn)
            prepared.add(module)
        return self.rewrite()(*args, **options)

    def patch_tensor(tensor, scope):
        patch_lang_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    patch_lang_tensor = interpreter._patch_lang_tensor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.InterpretedFunction, "__call__", call)
        if version("triton").startswith("3.6"):  # whose own fails with NumPy 2.5
            patch.setattr(interpreter, "_patch_lang_tensor", patch_tensor)
        yield


@pytest.fixture
def kernel(monkeypatch, request):
    """Which attention kernels a test runs over; with tiles so small that a few dozen rows visit every kind of tile."""
    import kernel_cases

    name = getattr(request, "param", "tiles")
    kernel_cases.use_tiles(monkeypatch, 16, 16)
    kernel_cases.use_kernel(monkeypatch, name)
    return name


@pytest.fixture
def memory_growth():
    """A function (setup, code) -> bytes by which ``code`` raises the peak of the resident memory, in a fresh process.

    ``ru_maxrss`` would not do: Linux hands the parent's peak down to its children.
    """

    def measure(setup: str, code: str) -> int:
        lines = (
            "def peak():",
            "    line = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))",
            "    return int(line.split()[1]) << 10",
            textwrap.dedent(setup),
            "before = peak()",
            textwrap.dedent(code),
            "print(peak() - before)",
        )
        result = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return int(result.stdout.splitlines()[-1])

    return measure
