"""The one place from which kernels are launched.

Triton binds the arguments of every call by name, describes them in text and looks the text up, which takes the host as
long as ten operators of PyTorch. So a kernel is called through Triton only where it is new; what Triton compiled is
remembered by what it depends on, and called with the arguments alone.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import torch
import triton
from torch import Tensor
from triton.compiler import CompiledKernel

MOST_PROGRAMS = 2**31 - 1  # of the first dimension of a grid; the others hold only 65,535
OPTIONS = ("num_warps", "num_stages", "maxnreg")
REMEMBERS = torch.version.hip is None  # where what is compiled does not depend on the size of a tensor


def launch(kernel, programs: int, **arguments: Any) -> None:
    """Run ``programs`` programs of ``kernel`` on the device of its tensors; nothing at all if there are none.

    Args:
        arguments: of the kernel by name, numbers as int or float, and ``OPTIONS``.

    Raises:
        ValueError: more programs than a grid holds.
    """
    if programs == 0:
        return
    if programs > MOST_PROGRAMS:
        raise ValueError(f"a launch holds at most {MOST_PROGRAMS} programs, {kernel.__name__} needs {programs}")
    if is_interpreted(kernel) or _is_watched(kernel):
        through_triton(kernel, programs, arguments)
    else:
        _calls(kernel).run(programs, arguments)


def is_interpreted(kernel) -> bool:
    """Whether ``kernel`` runs in Triton's interpreter (TRITON_INTERPRET=1 when it was defined)."""
    return not isinstance(kernel, triton.JITFunction)


def _is_watched(kernel) -> bool:
    """Whether what Triton compiles or calls depends on more than the arguments: someone debugs it."""
    runtime, compilation = triton.knobs.runtime, triton.knobs.compilation
    inspects = getattr(runtime, "add_stages_inspection_hook", None)
    return bool(kernel.pre_run_hooks or runtime.debug or compilation.instrumentation_mode or inspects)


def described(kernel, arguments: dict[str, Any]) -> str:
    """All that decides, beside its source, what Triton compiles ``kernel`` to for a call with these arguments."""
    calls = _calls(kernel)
    specialization = calls.specialization(_leaves(calls.specialized(arguments)), arguments)
    constants = [str(getattr(each, "value", each)) for each in _leaves(calls.constants(arguments))]
    return f"{kernel.__name__} {specialization} {constants}"


class _Calls:
    """The calls of one kernel, and what was compiled for them."""

    def __init__(self, kernel):
        specialized, sizes, constants = [], [], []
        for parameter in kernel.params:
            kind = constants if parameter.is_constexpr else sizes if parameter.do_not_specialize else specialized
            kind.append(parameter.name)
        self.kernel = kernel
        self.specialized, self.sizes, self.constants = map(_values_of, (specialized, sizes, constants))
        self.all = _values_of(kernel.arg_names)
        self.compiled: dict[tuple, tuple] = {}

    def specialization(self, leaves: list, arguments: dict[str, Any]) -> tuple:
        """What Triton compiles anew for, or finer, beside the constants. ``leaves`` are those of the arguments that a
        kernel is specialized for."""
        sizes = tuple([size if size is None else _width(size) for size in self.sizes(arguments)])
        return _classes(leaves), sizes, tuple(map(arguments.get, OPTIONS))

    def run(self, programs: int, arguments: dict[str, Any]) -> None:
        leaves = _leaves(self.specialized(arguments))
        device = next(each for each in leaves if isinstance(each, Tensor)).device.index
        if device is None or device == torch.cuda.current_device():
            self._run(programs, arguments, leaves, device)
        else:
            with torch.cuda.device(device):
                self._run(programs, arguments, leaves, device)

    def _run(self, programs: int, arguments: dict[str, Any], leaves: list, device: int | None) -> None:
        """On the current device."""
        constants = self.constants(arguments)
        # Tuples take long to compare. Those in ``compiled`` live on, so that no other can have their identity.
        identities = tuple([id(each) if isinstance(each, tuple) else each for each in constants])
        key = *self.specialization(leaves, arguments), identities, device
        known = self.compiled.get(key)
        if known is not None:
            known[0][programs, 1, 1](*self.all(arguments))
            return
        compiled = through_triton(self.kernel, programs, arguments)
        if isinstance(compiled, CompiledKernel) and REMEMBERS:  # not if a hook kept Triton from compiling, or it waits
            self.compiled[key] = compiled, constants


_known_calls: dict[int, _Calls] = {}


def _calls(kernel) -> _Calls:
    calls = _known_calls.get(id(kernel))
    if calls is None:
        calls = _known_calls[id(kernel)] = _Calls(kernel)  # which keeps the kernel, and so its identity
    return calls


def through_triton(kernel, programs: int, arguments: dict[str, Any]):
    """The compiled kernel, after it has run."""
    # Triton 3.10 changes the default of enable_fp_fusion, and with it the bits of a result
    return kernel[(programs,)](**arguments, enable_fp_fusion=True)


def _values_of(names: list[str]):
    """A function from a dictionary to the tuple of the values of these names."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda arguments: tuple([arguments[name] for name in names])


def _leaves(values: tuple) -> list:
    """Values and what tuples among them hold."""
    leaves: list = []
    for value in values:
        if isinstance(value, tuple):
            leaves += value
        else:
            leaves.append(value)
    return leaves


def _classes(leaves: list) -> tuple:
    """Dtype and alignment of tensors; of whole numbers whether they are 1, or divisible by 16, and wider than int32."""
    return tuple(
        [
            x if x is None else _class_of_number(x) if isinstance(x, int | float) else (x.dtype, x.data_ptr() % 16 == 0)
            for x in leaves
        ]
    )


def _class_of_number(x: float) -> object:
    if x.__class__ is not int:
        return x.__class__
    return x if x == 1 else (x % 16 == 0, _width(x))


def _width(x: float) -> object:
    """Of the type that a number has in a kernel, finer than Triton's: Python's, and for whole numbers a range."""
    if x.__class__ is not int:
        return x.__class__
    return 0 if -(2**31) <= x < 2**31 else 1 if x < 2**63 else 2
