"""The raw operators ``lengen::attention_forward`` and ``lengen::attention_backward``, and the autograd on top of them.

Raw operators are opaque: torch.compile sees their schema and their fake implementation, never their inside. On a GPU
they call the Triton launchers of ``lengen_kernels.attention``, on a CPU the kernel behind ``attention_cpu``; for fp64,
and on a GPU without Triton, ``attention_torch``.

``Attention`` is what eager code and torch.func go through; compiled code goes through the operator itself, whose
gradient is registered (in torch 2.11 Dynamo miscompiles a custom Function that is given one tensor twice, and drops its
backward under torch.func.grad). Both have one rule for vmap: M models are M times as many sequences, with one table for
each model.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lengen_fast.ops import attention_cpu, attention_torch
from lengen_fast.ops.eager import is_batched, is_eager

OPTIONS = (
    "Tensor? table, Tensor? key_bias, Tensor? logit_scale, Tensor? slope, Tensor? cu_seqlens, Tensor? query_rows, "
    "Tensor? cu_queries, SymInt longest, float softmax_scale, str beyond, int? window, str precision"
)
OPTION_NAMES = tuple(option.split()[-1] for option in OPTIONS.split(", "))
FORWARD, BACKWARD = "lengen::attention_forward", "lengen::attention_backward"
FORWARD_NAMES = ("q", "k", "v", *OPTION_NAMES, "out_dtype")
OPERAND_NAMES = ("grad_out", "q", "k", "v", "out", "statistics")
BACKWARD_NAMES = (*OPERAND_NAMES, *OPTION_NAMES, *(f"needs_{name}" for name in OPTION_NAMES[:3]))
NO_DOUBLE_BACKWARD = (
    "attention has no second derivative: the gradient of a gradient (create_graph=True, torch.func.hessian) would need "
    "ops.reference.attention"
)

_on_cpu = False


@contextlib.contextmanager
def launchers_on_cpu() -> Iterator[None]:
    """Send CPU tensors through the Triton launchers too: for tests under TRITON_INTERPRET=1, in one thread."""
    global _on_cpu
    before, _on_cpu = _on_cpu, True
    try:
        yield
    finally:
        _on_cpu = before


def has_launchers(x: Tensor) -> bool:
    """Whether operands like ``x`` go through the Triton launchers."""
    return (x.device.type == "cuda" or _on_cpu) and x.dtype != torch.float64 and launchers() is not None


@functools.cache
def launchers() -> ModuleType | None:
    """``lengen_kernels.attention``; None where Triton or the package is not installed."""
    try:
        from lengen_kernels import attention
    except ImportError:
        return None
    return attention


def implementation(x: Tensor) -> ModuleType:
    """What computes attention of operands like ``x``; all have the same functions."""
    if has_launchers(x):
        return launchers()
    return attention_cpu if x.device.type == "cpu" and x.dtype != torch.float64 else attention_torch


# ---- the operators ----

torch.library.define(
    FORWARD,
    f"(Tensor q, Tensor k, Tensor v, {OPTIONS}, ScalarType? out_dtype) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
torch.library.define(
    BACKWARD,
    f"(Tensor grad_out, Tensor q, Tensor k, Tensor v, Tensor out, Tensor statistics, {OPTIONS}, "
    "bool needs_table, bool needs_key_bias, bool needs_logit_scale) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


@torch.library.impl(FORWARD, ("CPU", "CUDA"))
def _forward(*arguments: Any) -> tuple[Tensor, Tensor]:
    with _plainly(arguments[0]):
        out, statistics = _output(arguments)
        return out.contiguous(), statistics.contiguous()


@torch.library.impl(BACKWARD, ("CPU", "CUDA"))
def _backward(*arguments: Any) -> tuple[Tensor, ...]:
    operands, options = _split(arguments)
    with _plainly(operands[1]):
        gradients = _gradients(operands, options)
        like = (*operands[1:4], *(options[name] for name in OPTION_NAMES[:3]))
        return tuple(_as_output(gradient, x) for gradient, x in zip(gradients, like, strict=True))


def _split(arguments: Sequence[Any]) -> tuple[Sequence[Tensor], dict[str, Any]]:
    """Arguments of the backward operator: its operands, and the options by name."""
    operands = len(OPERAND_NAMES)
    return arguments[:operands], dict(zip(BACKWARD_NAMES[operands:], arguments[operands:], strict=True))


def _output(arguments: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """What the forward operator computes."""
    q, k, v, *options = arguments
    module, given = implementation(q), dict(zip(FORWARD_NAMES[3:], options, strict=True))
    if module is not attention_cpu:
        given["precision"] = _precision(given["precision"])
        q, k, v = map(_dense_rows, (q, k, v))
    return module.forward(q, k, v, **given)


def _gradients(operands: Sequence[Tensor], options: dict[str, Any]) -> list[Tensor | None]:
    """Of q, k, v, table, key_bias and logit_scale, in their dtypes; None where nobody asked."""
    like = (*operands[1:4], options["table"], options["key_bias"], options["logit_scale"])
    module = implementation(operands[1])
    if module is not attention_cpu:
        options = options | {"precision": _precision(options["precision"])}
        operands = [_dense_rows(x) for x in operands]
    gradients = module.backward(*operands, **options)
    return [None if gradient is None else gradient.to(x.dtype) for gradient, x in zip(gradients, like, strict=True)]


@contextlib.contextmanager
def _plainly(x: Tensor) -> Iterator[None]:
    """Neither autograd nor autocast sees what happens inside an operator."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        yield


def _dense_rows(x: Tensor) -> Tensor:
    """Launchers want the last dimension to have stride 1."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _precision(name: str) -> str:
    """What "auto" means now: fp32 products as exact as PyTorch's own matrix products are set to be."""
    if name != "auto":
        return name
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def _as_output(gradient: Tensor | None, x: Tensor | None) -> Tensor:
    """Operators return tensors only: an empty one stands for a gradient that nobody asked for."""
    if gradient is None:
        return torch.empty(0) if x is None else x.new_empty(0)
    return gradient.contiguous()


@torch.library.register_fake(FORWARD)
def _fake_forward(q: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    rows = q.shape[:-1]
    statistics = (*rows, 2) if implementation(q) is attention_cpu else rows
    sums = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape, dtype=arguments[-1] or q.dtype), q.new_empty(statistics, dtype=sums)


@torch.library.register_fake(BACKWARD)
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    given = dict(zip(BACKWARD_NAMES, arguments, strict=True))
    asked = [x if given[f"needs_{name}"] else None for name, x in ((n, given[n]) for n in OPTION_NAMES[:3])]
    rows = [given[name].new_empty(given[name].shape) for name in ("q", "k", "v")]
    empty = given["q"].new_empty
    return *rows, *(empty(0) if x is None else x.new_empty(x.shape) for x in asked)


# ---- autograd ----


def _save(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, Tensor]) -> None:
    """Tensors and settings in the order in which the backward operator takes them."""
    ctx.save_for_backward(*inputs[:3], *output, *inputs[3:10])
    ctx.settings = inputs[10 : len(FORWARD_NAMES) - 1]


TENSORS = BACKWARD_NAMES.index("longest")  # of the arguments of the backward operator, the first of them


def _arguments_of_backward(ctx: Any, grad_out: Tensor) -> tuple[Any, ...]:
    return grad_out, *ctx.saved_tensors, *ctx.settings, *ctx.needs_input_grad[3:6]


def _gradients_of_inputs(ctx: Any, gradients: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """One for each input of the forward operator."""
    wanted = [x if needed else None for x, needed in zip(gradients, ctx.needs_input_grad, strict=False)]
    return *wanted, *[None] * (len(FORWARD_NAMES) - len(wanted))


class Attention(torch.autograd.Function):
    """``lengen::attention_forward`` with its gradient, for eager code and the transforms of torch.func."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return torch.ops.lengen.attention_forward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        _save(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients_of_inputs(ctx, AttentionBackward.apply(*_arguments_of_backward(ctx, grad_out)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _vmap_forward(Attention.apply, info.batch_size, in_dims, arguments)


class Eager(torch.autograd.Function):
    """``Attention`` without the dispatcher, whose rounds take longer than the attention of a small model."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        output = _output(arguments)
        _save(ctx, arguments, output)
        return output[0]

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        arguments = _arguments_of_backward(ctx, grad_out)  # what was saved may be unpacked only once
        # the operator refuses to be differentiated (create_graph), and serves modes and transforms that came later
        if torch.is_grad_enabled() or not is_eager(*arguments[:TENSORS]) or is_batched(grad_out):
            return _gradients_of_inputs(ctx, AttentionBackward.apply(*arguments))
        return _gradients_of_inputs(ctx, _gradients(*_split(arguments)))


def eager(*arguments: Any) -> Tensor:
    """Attention in an eager call; arguments are those of the forward operator."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments[:6] if x is not None):
        return Eager.apply(*arguments)
    return _output(arguments)[0]


class AttentionBackward(torch.autograd.Function):
    """``lengen::attention_backward``; it refuses to be differentiated again."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return torch.ops.lengen.attention_backward(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(NO_DOUBLE_BACKWARD)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _vmap_backward(AttentionBackward.apply, info.batch_size, in_dims, arguments)


def _backward_of_operator(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.lengen.attention_backward(*_arguments_of_backward(ctx, grad_out))
    return _gradients_of_inputs(ctx, gradients)


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError(NO_DOUBLE_BACKWARD)


torch.library.register_autograd(FORWARD, _backward_of_operator, setup_context=_save)
torch.library.register_autograd(BACKWARD, _refuse)


# ---- vmap: more models are more sequences ----

ROWS = (*OPERAND_NAMES, "key_bias", "logit_scale")  # [N, ...] or [B, ...] of one model
TABLES = ("table", "slope")  # [1, ...] of one model


def _vmap_forward(
    function: Any, models: int, in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    folded = _fold(FORWARD_NAMES, models, in_dims, arguments)
    return tuple(_unfold(x, models) for x in function(*folded)), (0, 0)


def _vmap_backward(
    function: Any, models: int, in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    folded = _fold(BACKWARD_NAMES, models, in_dims, arguments)
    return tuple(_unfold(x, models) for x in function(*folded)), (0,) * 6


def _fold(
    names: Sequence[str], models: int, in_dims: Sequence[int | None], arguments: Sequence[Any]
) -> tuple[Any, ...]:
    """Arguments of one call for all models: their rows behind one another, with one table each."""
    given = dict(zip(names, arguments, strict=True))
    stacked = {
        name: _stacked(x, models, dim)
        for (name, x), dim in zip(given.items(), in_dims, strict=True)
        if isinstance(x, Tensor)
    }
    rows = stacked["k"].shape[1]
    folded = {name: x.flatten(0, 1) for name, x in stacked.items() if name in (*ROWS, *TABLES)}
    for name, end in (("cu_seqlens", rows), ("cu_queries", stacked["q"].shape[1])):
        if name in stacked:
            folded[name] = _bounds_behind_one_another(stacked[name], end)
    if "query_rows" in stacked:
        first = torch.arange(models, device=stacked["query_rows"].device) * rows
        folded["query_rows"] = (stacked["query_rows"] + first.unsqueeze(1)).flatten()
    return tuple((given | folded).values())


def _stacked(x: Tensor, models: int, dim: int | None) -> Tensor:
    """[M, ...] of what has its models in dimension ``dim``, or is the same for all of them."""
    return x.unsqueeze(0).expand(models, *x.shape) if dim is None else x.movedim(dim, 0)


def _bounds_behind_one_another(bounds: Tensor, rows: int) -> Tensor:
    """[M, B+1] bounds of ``rows`` rows each to [M B + 1] bounds of all of them."""
    first = torch.arange(len(bounds), device=bounds.device, dtype=bounds.dtype) * rows
    starts = (bounds[:, :-1] + first.unsqueeze(1)).flatten()
    return torch.cat([starts, bounds[-1:, -1] + first[-1:]])


def _unfold(x: Tensor, models: int) -> Tensor:
    """[M * n, ...] to [M, n, ...]; gradients that nobody asked for are empty."""
    return x.unflatten(0, (models, len(x) // models)) if len(x) else x.new_empty(models, *x.shape)


@torch.library.register_vmap(FORWARD)
def _vmap_forward_operator(info: Any, in_dims: tuple[int | None, ...], *arguments: Any):
    return _vmap_forward(torch.ops.lengen.attention_forward, info.batch_size, in_dims, arguments)


@torch.library.register_vmap(BACKWARD)
def _vmap_backward_operator(info: Any, in_dims: tuple[int | None, ...], *arguments: Any):
    return _vmap_backward(torch.ops.lengen.attention_backward, info.batch_size, in_dims, arguments)
