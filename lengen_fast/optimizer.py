"""AdamW over all parameters of a model as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlatAdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with gradient clipping, for models of a few small tensors.

    The parameters become views of one vector, and their gradients likewise: a model of width 16 would otherwise spend
    a quarter of a step on visits to its seventeen tensors. Matrices and tables decay, biases and norms do not. Nothing
    waits for the device.

    Args:
        model: its parameters are moved; ``release`` gives them memory of their own again.
        weight_decay: factor of the rate by which matrices and tables shrink in a step.
        clip_norm: the gradients are scaled down to this Euclidean norm if theirs is greater; None: never.

    Attributes:
        values: [n] fp32, the vector, with its gradient.
    """

    ALIGNMENT = 16  # elements: each view begins on a cache line

    def __init__(self, model: nn.Module, weight_decay: float, clip_norm: float | None):
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        parameters = list(model.parameters())
        decaying = [parameter for parameter in parameters if parameter.dim() >= 2]
        self.parameters = [*decaying, *(parameter for parameter in parameters if parameter.dim() < 2)]
        sizes = [-(-parameter.numel() // self.ALIGNMENT) * self.ALIGNMENT for parameter in self.parameters]
        self.values = nn.Parameter(parameters[0].new_zeros(sum(sizes)))
        self.values.grad = torch.zeros_like(self.values)
        self._decaying = self.values.data[: sum(sizes[: len(decaying)])]
        pieces = zip(self.parameters, self.values.data.split(sizes), self.values.grad.split(sizes), strict=True)
        for parameter, values, gradients in pieces:
            view = values[: parameter.numel()].view_as(parameter)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = gradients[: parameter.numel()].view_as(parameter)
        # decoupled decay is one product before the update, so one group serves all
        self._adam = torch.optim.Adam([self.values], fused=True)
        if clip_norm is not None:
            self._adam.found_inf = self.values.new_zeros(())  # goes with grad_scale; nothing is ever skipped

    def step(self, rate: float) -> None:
        """Update the parameters from their gradients with learning rate ``rate``, and set the gradients to zero."""
        if self.clip_norm is not None:
            norm = torch.linalg.vector_norm(self.values.grad)
            self._adam.grad_scale = (norm / self.clip_norm).clamp_(min=1.0)  # the fused update divides by it
        self._adam.param_groups[0]["lr"] = rate
        self._decaying.mul_(1 - rate * self.weight_decay)
        self._adam.step()
        self.values.grad.zero_()

    @property
    def state(self) -> dict[str, Tensor]:
        """The step count and the two moments, by name; empty before the first step."""
        return self._adam.state_dict()["state"].get(0, {})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave."""
        self._adam.load_state_dict({**self._adam.state_dict(), "state": {0: state} if state else {}})

    def release(self) -> None:
        """Give every parameter a memory of its own again."""
        for parameter in self.parameters:
            parameter.data, parameter.grad = parameter.data.clone(), None
