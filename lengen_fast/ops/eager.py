"""Whether a call is eager: then kernels run at once, without PyTorch's dispatcher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def is_eager(*tensors: Tensor) -> bool:
    """Whether these are ordinary tensors of any device, and nothing but autograd looks on: no compiler, no transform of
    torch.func, no forward-mode differentiation, no mode that sees every operator, no fake tensors."""
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    if forward_ad._current_level >= 0 or torch._C._len_torch_dispatch_stack() > 0:
        return False
    return all(type(x) in (Tensor, nn.Parameter) and not x.is_neg() for x in tensors)
