"""GELU in its tanh form, the activation of GPT-2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lengen_fast.ops import cpu


def gelu(x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), element by element (Hendrycks and Gimpel, arXiv 1606.08415).

    Args:
        x: any shape and floating dtype.

    Returns:
        The same shape and dtype. On a CPU in fp32 a kernel of ours computes it, several times as fast as PyTorch's.
    """
    if not cpu.serves(x):
        return F.gelu(x, approximate="tanh")
    return _Gelu.apply(x)


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return cpu.gelu(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled() or not cpu.serves(gradient):
            return torch.ops.aten.gelu_backward(gradient, x, approximate="tanh")
        return cpu.gelu_backward(gradient, x)
