"""The one place from which kernels are launched."""

from __future__ import annotations

import torch
import triton

MOST_PROGRAMS = 2**31 - 1  # of the first dimension of a grid; the others hold only 65,535


def launch(kernel, programs: int, **arguments) -> None:
    """Run ``programs`` programs of ``kernel`` on the device of its tensors; nothing at all if there are none.

    Raises:
        ValueError: more programs than a grid holds.
    """
    if programs == 0:
        return
    if programs > MOST_PROGRAMS:
        raise ValueError(f"a launch holds at most {MOST_PROGRAMS} programs, {kernel.__name__} needs {programs}")
    arguments["enable_fp_fusion"] = True  # Triton 3.10 changes the default, and with it the bits of a result
    tensor = next(each for each in arguments.values() if isinstance(each, torch.Tensor))
    if tensor.is_cuda and tensor.device.index != torch.cuda.current_device():
        with torch.cuda.device(tensor.device):
            kernel[(programs,)](**arguments)
    else:
        kernel[(programs,)](**arguments)


def is_interpreted(kernel) -> bool:
    """Whether ``kernel`` runs in Triton's interpreter (TRITON_INTERPRET=1 when it was defined)."""
    return not isinstance(kernel, triton.JITFunction)
