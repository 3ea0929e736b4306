"""Whether a call is eager: then kernels run at once, without PyTorch's dispatcher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch.autograd import forward_ad

_BATCHED = torch._C._dispatch_key_parse("Batched")


def is_batched(x: Tensor) -> bool:
    """Whether this is one of the many gradients of ``torch.autograd.grad(is_grads_batched=True)``, which looks like any
    other tensor and has no memory."""
    return torch._C._dispatch_keys(x).has(_BATCHED)


def is_eager(*tensors: Tensor | None) -> bool:
    """Whether these, where there are any, are ordinary tensors of any device, and nothing but autograd looks on.

    That is no compiler or tracer, no transform of torch.func, no forward-mode differentiation, no mode that sees
    functions or operators, no subclass, no fake tensor, and no negation that waits to be done.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return False
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return False
    if _len_torch_dispatch_stack_pre_dispatch():
        return False
    return all(x is None or (type(x) in (Tensor, nn.Parameter) and not x.is_neg()) for x in tensors)
