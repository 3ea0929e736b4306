"""AdamW with clipping, for models of a few small tensors and for models of large ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with gradient clipping.

    Below ``LARGEST_FLAT`` elements the parameters become views of one vector, and their gradients likewise: a model of
    width 16 would otherwise spend a quarter of a step on visits to its seventeen tensors. Above, each keeps its own
    memory, and gradients are taken over as they come from the backward pass, without being set to zero and added to.
    Matrices and tables decay, biases and norms do not. Nothing waits for the device.

    Args:
        model: its parameters are updated, and may be moved; ``release`` gives them memory of their own again.
        weight_decay: factor of the rate by which matrices and tables shrink in a step.
        clip_norm: the gradients are scaled down to this Euclidean norm if theirs is greater; None: never.
    """

    ALIGNMENT = 16  # elements: each view begins on a cache line
    LARGEST_FLAT = 2**18  # elements: they and their gradients stay in a core's cache

    def __init__(self, model: nn.Module, weight_decay: float, clip_norm: float | None):
        self.weight_decay, self.clip_norm = weight_decay, clip_norm
        self.parameters = sorted(
            model.parameters(), key=lambda parameter: parameter.dim() < 2
        )  # those that decay first
        decaying = sum(parameter.dim() >= 2 for parameter in self.parameters)
        self.is_flat = sum(parameter.numel() for parameter in self.parameters) <= self.LARGEST_FLAT
        if self.is_flat:
            self._values, self._decaying = self._flatten(decaying)
        else:
            self._values, self._decaying = self.parameters, [x.data for x in self.parameters[:decaying]]
        # decoupled decay is one product before the update, so one group serves all
        self._adam = torch.optim.Adam(self._values, fused=True)
        if clip_norm is not None:
            self._adam.found_inf = self._values[0].new_zeros(())  # goes with grad_scale; nothing is ever skipped

    def _flatten(self, decaying: int) -> tuple[list[Tensor], list[Tensor]]:
        """All values as one vector, and the part of it that decays."""
        sizes = [-(-parameter.numel() // self.ALIGNMENT) * self.ALIGNMENT for parameter in self.parameters]
        values = nn.Parameter(self.parameters[0].new_zeros(sum(sizes)))
        values.grad = torch.zeros_like(values)
        for parameter, piece, gradient in zip(
            self.parameters, values.data.split(sizes), values.grad.split(sizes), strict=True
        ):
            view = piece[: parameter.numel()].view_as(parameter)
            view.copy_(parameter.data)
            parameter.data = view
            parameter.grad = gradient[: parameter.numel()].view_as(parameter)
        return [values], [values.data[: sum(sizes[:decaying])]]

    def step(self, rate: float) -> None:
        """Update the parameters from their gradients with learning rate ``rate``, and forget the gradients."""
        if self.clip_norm is not None:
            self._adam.grad_scale = (self._norm() / self.clip_norm).clamp_(min=1.0)  # the fused update divides by it
        self._adam.param_groups[0]["lr"] = rate
        for values in self._decaying:
            values.mul_(1 - rate * self.weight_decay)
        self._adam.step()
        self._adam.zero_grad(set_to_none=not self.is_flat)

    def _norm(self) -> Tensor:
        """Euclidean norm of all gradients."""
        gradients = [x.grad for x in self._values if x.grad is not None]
        return torch.linalg.vector_norm(gradients[0]) if self.is_flat else nn.utils.get_total_norm(gradients)

    @property
    def is_finite(self) -> bool:
        """Whether every parameter is."""
        return all(bool(torch.isfinite(values).all()) for values in self._values)

    @property
    def state(self) -> dict[str, Tensor]:
        """The step counts and the two moments, by name; empty before the first step."""
        states = self._adam.state_dict()["state"]
        return {f"{index}.{name}": x for index, state in states.items() for name, x in state.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave."""
        states: dict[int, dict[str, Tensor]] = {}
        for name, x in state.items():
            index, _, field = name.partition(".")
            states.setdefault(int(index), {})[field] = x
        self._adam.load_state_dict({**self._adam.state_dict(), "state": states})

    def release(self) -> None:
        """Give every parameter a memory of its own again, and drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
            if self.is_flat:
                parameter.data = parameter.data.clone()
