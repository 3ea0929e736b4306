"""AdamW with clipping, for models of a few small tensors and for models of large ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lengen_fast import _cpu

Piece = tuple[int, Tensor, bool]
"""A part of the values: which of the tensors it is of, its memory, and whether it decays."""


class AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with gradient clipping.

    Below ``LARGEST_FLAT`` elements the parameters become views of one vector, and their gradients likewise: a model of
    width 16 would otherwise spend a quarter of a step on visits to its seventeen tensors. Above, each keeps its own
    memory, and gradients are taken over as they come from the backward pass, without being set to zero and added to.
    Matrices and tables decay, biases and norms do not. Nothing waits for the device. On a CPU in fp32 a kernel of ours
    does all of a step, to the same bits for any number of threads.

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
            self._values, pieces = self._flatten(decaying)
        else:
            self._values = self.parameters
            pieces = [(index, x, index < decaying) for index, x in enumerate(self._values)]
        on_cpu = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in self._values)
        self._update = (_CpuUpdate if on_cpu else _FusedUpdate)(self._values, pieces)

    def _flatten(self, decaying: int) -> tuple[list[Tensor], list[Piece]]:
        """All values as one vector, and the parts of it that decay and that do not."""
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
        first, rest = values.data.split([sum(sizes[:decaying]), sum(sizes[decaying:])])
        return [values], [(0, first, True), (0, rest, False)]

    def step(self, rate: float) -> None:
        """Update the parameters from their gradients with learning rate ``rate``, and forget the gradients."""
        self._update.step(rate, self.weight_decay, self.clip_norm, clear=self.is_flat)

    @property
    def is_finite(self) -> bool:
        """Whether every parameter is."""
        return all(bool(torch.isfinite(values).all()) for values in self._values)

    @property
    def state(self) -> dict[str, Tensor]:
        """The step counts and the two moments, by name."""
        return {f"{index}.{name}": x for index, state in self._update.states().items() for name, x in state.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave."""
        states: dict[int, dict[str, Tensor]] = {}
        for name, x in state.items():
            index, _, field = name.partition(".")
            states.setdefault(int(index), {})[field] = x
        self._update.restore(states)

    def release(self) -> None:
        """Give every parameter a memory of its own again, and drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
            if self.is_flat:
                parameter.data = parameter.data.clone()


class _CpuUpdate:
    """Clipping, decay and Adam by the kernel of ``csrc/cpu``: one pass over the gradients, and one over everything."""

    def __init__(self, values: list[nn.Parameter], pieces: list[Piece]):
        self.values, self.pieces, self.steps = values, pieces, 0
        self.means, self.squares = ([x.data.new_zeros(x.shape) for x in values] for _ in range(2))
        self._addresses: list[int] = []

    def step(self, rate: float, decay: float, clip_norm: float | None, clear: bool) -> None:
        addresses = [piece.data_ptr() for _, piece, _ in self.pieces]
        if addresses != self._addresses:
            self._addresses, self._kernel = addresses, _cpu.Adam([self._describe(*piece) for piece in self.pieces])
        gradients = [x.grad if x.grad is None else x.grad.contiguous() for x in self.values]
        starts = [self._start(gradients[index], index, piece) for index, piece, _ in self.pieces]
        self.steps += 1
        clip_norm = 0.0 if clip_norm is None else clip_norm
        self._kernel.step(starts, self.steps, rate, decay, clip_norm, clear, torch.get_num_threads())
        if not clear:
            for x in self.values:
                x.grad = None

    def _describe(self, index: int, piece: Tensor, decays: bool) -> tuple[int, int, int, int, bool]:
        moments = (self._start(x[index], index, piece) for x in (self.means, self.squares))
        return piece.data_ptr(), *moments, piece.numel(), decays

    def _start(self, like: Tensor | None, index: int, piece: Tensor) -> int:
        """Where the numbers of a piece begin in a tensor that is laid out like its values; 0 if there is none."""
        return 0 if like is None else like.data_ptr() + piece.data_ptr() - self.values[index].data_ptr()

    def states(self) -> dict[int, dict[str, Tensor]]:
        moments = enumerate(zip(self.means, self.squares, strict=True))
        step = torch.tensor(float(self.steps))
        return {
            index: {"step": step.clone(), "exp_avg": mean, "exp_avg_sq": square} for index, (mean, square) in moments
        }

    def restore(self, states: dict[int, dict[str, Tensor]]) -> None:
        for index, state in states.items():
            self.steps = int(state["step"])
            self.means[index].copy_(state["exp_avg"])
            self.squares[index].copy_(state["exp_avg_sq"])


class _FusedUpdate:
    """The same by PyTorch's fused Adam, for other devices and dtypes."""

    def __init__(self, values: list[nn.Parameter], pieces: list[Piece]):
        self.values, self.decaying = values, [piece for _, piece, decays in pieces if decays]
        # decoupled decay is one product before the update, so one group serves all
        self.adam = torch.optim.Adam(values, fused=True)
        self.adam.found_inf = values[0].new_zeros(())  # goes with grad_scale; nothing is ever skipped

    def step(self, rate: float, decay: float, clip_norm: float | None, clear: bool) -> None:
        if clip_norm is not None:
            gradients = [x.grad for x in self.values if x.grad is not None]
            # the fused update divides by it
            self.adam.grad_scale = (nn.utils.get_total_norm(gradients) / clip_norm).clamp_(min=1.0)
        self.adam.param_groups[0]["lr"] = rate
        for values in self.decaying:
            values.data.mul_(1 - rate * decay)
        self.adam.step()
        self.adam.zero_grad(set_to_none=not clear)

    def states(self) -> dict[int, dict[str, Tensor]]:
        return self.adam.state_dict()["state"]

    def restore(self, states: dict[int, dict[str, Tensor]]) -> None:
        self.adam.load_state_dict({**self.adam.state_dict(), "state": states})
