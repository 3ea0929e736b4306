"""What a call of attention takes the host, which a small model waits for rather than for the kernels.

Claim: with the Triton kernels, checks, choice of tiles, memory and launches take 90 to 130 microseconds of Python in a
forward pass and 170 to 330 in a backward pass, less than half of what they took at first (``host-before.json``); where
Triton itself looks for what it has compiled, each launch takes some 10 to 20 more. Without a GPU everything is done but
the last step: kernels are compiled for sm90, and a function that does nothing stands in for Triton's launcher, whose
microseconds (like those of the driver) are not counted. On a GPU they are. For scale: PyTorch's fused attention of a
tiny case, which is all host; on a GPU of the same case.

bf16, 4 heads of width 16: 64 short rows of 150 tokens, of which kernels hold a whole sequence, and 16 rows of 2,048
tokens, by tiles. The interpreter must be off.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from statistics import median
from types import SimpleNamespace

import torch
import triton

from benchmarks import compilation, record
from benchmarks.attention_cases import Case, Operands, our_attention, sdpa
from benchmarks.compilation import attention, launch
from benchmarks.timing import Workload, alternate
from lengen_fast.ops import attention_op

CASES = tuple(Case(*shape, 16, kind) for shape in ((64, 150), (16, 2048)) for kind in ("none", "table"))
TINY = Case(1, 1, 16, "none")
CALLS = 50
"""In a row, between which a GPU is not waited for: their launches fit its queue."""


def run(quick: bool) -> dict:
    """Microseconds of each case, with Triton looking for what it has compiled and without."""
    is_here = torch.cuda.is_available()
    with contextlib.nullcontext() if is_here else pretended() as launches:
        results = [_measured(case, "cuda" if is_here else "cpu", 5 if quick else 25, launches) for case in CASES]
    print(record.table(tuple(results[0]), [tuple(map(str, line.values())) for line in results]))
    return {"cases": results}


def _measured(case: Case, device: str, rounds: int, launches: list | None) -> dict:
    ours = _passes(our_attention, case, device)
    theirs = _passes(_fused, case if device == "cuda" and case.kind == "none" else TINY, device)
    line: dict = {"case": case.name}
    for name, work in ours.items():
        if launches is not None:
            launches.clear()
            work()
            line[f"{name}, launches"] = len(launches)
        ways = {"": _calls(work), ", through Triton": _through_triton(_calls(work)), ", PyTorch": _calls(theirs[name])}
        for way, seconds in alternate(ways, rounds).items():
            line[f"{name}{way}"] = round(1e6 * median(seconds), 1)
    return line


def _fused(case: Case, operands: Operands) -> Callable[[], torch.Tensor]:
    return sdpa(case, operands, lambda: None)


def _passes(contender: Callable, case: Case, device: str) -> dict[str, Callable[[], object]]:
    operands = Operands.draw(case, device, torch.bfloat16)
    forward, leaves = contender(case, operands), operands.leaves(case)
    out = forward()
    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(out, leaves, operands.grad_out, retain_graph=True),
    }


def _calls(work: Callable[[], object]) -> Workload:
    """Seconds of a call on the host."""
    work()

    def workload() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(CALLS):
            work()
        return (time.perf_counter() - began) / CALLS

    return workload


def _through_triton(workload: Workload) -> Workload:
    """The same where every launch asks Triton for the compiled kernel."""

    def slower() -> float:
        before = launch.launch
        launch.launch = lambda kernel, programs, **arguments: launch.through_triton(kernel, programs, arguments)
        try:
            return workload()
        finally:
            launch.launch = before

    return slower


@contextlib.contextmanager
def pretended() -> Iterator[list]:
    """A machine whose CPU tensors go to an sm90 that is not there: a list that takes every launch.

    Raises:
        RuntimeError: the interpreter is on.
    """
    if launch.is_interpreted(attention.forward_kernel):
        raise RuntimeError("TRITON_INTERPRET is set: nothing is compiled, and nothing launched")
    triton.runtime.driver.set_active(device := Absent(90))
    with attention_op.launchers_on_cpu():
        yield device.launches


class Absent(compilation.Device):
    """A device that is not there, of which kernels are launched all the same, to no effect.

    Attributes:
        launches: grid, function and arguments of each.
    """

    utils = SimpleNamespace(
        load_binary=lambda *arguments: (object(), object(), 0, 0, 1024),
        unload_module=lambda module: None,
        get_device_properties=lambda device: {"max_shared_mem": compilation.MOST_SHARED["sm90"]},
    )

    def __init__(self, capability: int):
        super().__init__(capability)
        self.launches: list[tuple] = []

    def launcher_cls(self, source: object, metadata: object) -> Callable:
        def launcher(x, y, z, stream, function, packed, information, before, after, *arguments):
            self.launches.append(((x, y, z), function, arguments))

        return launcher
