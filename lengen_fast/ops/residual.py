"""Between the matrix products of a transformer block: bias and GELU; bias, residual sum and layer normalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengen_fast.ops import cpu


def serves(stream: Tensor, *parts: nn.Module) -> bool:
    """Whether ``feed_forward`` and ``add_norm`` compute with these rows [N, C] and modules.

    They do on a CPU in fp32, without autocast, for widths that are multiples of 8, ordinary layer norms and linear
    layers with biases, on which no hook waits for what passes between them.
    """
    if torch.is_autocast_enabled("cpu") or not all(map(_is_ordinary, parts)):
        return False
    return cpu.serves(stream, *(x for part in parts for x in (part.weight, part.bias)))


def _is_ordinary(part: nn.Module) -> bool:
    if type(part) not in (nn.Linear, nn.LayerNorm) or part.bias is None:
        return False
    return len(part.bias) % cpu.LANES == 0 and not is_watched(part)


def is_watched(module: nn.Module) -> bool:
    """Whether somebody put a hook on the module."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def feed_forward(x: Tensor, expand: nn.Linear, contract: nn.Linear) -> Tensor:
    """[N, C] to ``contract(gelu(expand(x)))`` without the last bias, where ``serves`` allows it; tanh form."""
    return _FeedForward.apply(x, expand.weight, expand.bias, contract.weight)


def add_norm(stream: Tensor, update: Tensor, bias: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """The sum ``stream + (update + bias)`` [N, C] and the layer norm of it, where ``serves`` allows it."""
    return _AddNorm.apply(stream, update, bias, norm.weight, norm.bias, norm.eps)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, contracting: Tensor) -> Tensor:
        units = torch.mm(x, weight.t())
        active = cpu.biased_gelu(units, bias)
        ctx.save_for_backward(x, weight, bias, contracting, units, active)
        return torch.mm(active, contracting.t())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias, contracting, units, active = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: in operations that are differentiable themselves
            out = F.linear(F.gelu(F.linear(x, weight, bias), approximate="tanh"), contracting)
            return torch.autograd.grad(out, (x, weight, bias, contracting), gradient, create_graph=True)
        of_contracting = torch.mm(gradient.t(), active)
        of_units = torch.mm(gradient, contracting)
        of_bias = cpu.biased_gelu_backward(of_units, units, bias)
        return torch.mm(of_units, weight), torch.mm(of_units.t(), x), of_bias, of_contracting


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, stream, update, bias, weight, shift, epsilon):
        total, normalized, statistics = cpu.add_norm(stream, update, bias, weight, shift, epsilon)
        ctx.save_for_backward(total, weight, statistics)
        ctx.set_materialize_grads(False)
        ctx.epsilon = epsilon
        return total, normalized

    @staticmethod
    def backward(ctx, of_total: Tensor | None, of_normalized: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight, statistics = ctx.saved_tensors
        if of_normalized is None:
            return of_total, of_total, None if of_total is None else of_total.sum(0), None, None, None
        if torch.is_grad_enabled():  # create_graph: in operations that are differentiable themselves
            normalized = F.layer_norm(total, weight.shape, weight, None, ctx.epsilon)
            of_sum, of_weight = torch.autograd.grad(normalized, (total, weight), of_normalized, create_graph=True)
            of_sum = of_sum if of_total is None else of_sum + of_total
            return of_sum, of_sum, of_sum.sum(0), of_weight, of_normalized.sum(0), None
        of_sum, (of_weight, of_shift, of_bias) = cpu.add_norm_backward(
            of_total, of_normalized, total, weight, statistics
        )
        return of_sum, of_sum, of_bias, of_weight, of_shift, None
