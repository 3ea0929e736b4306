"""The CPU kernels of ``csrc/cpu`` on tensors: fp32, exact, without padding, the same bits for any number of threads.

Tensors in, tensors out, no autograd: ``embed``, ``gelu`` and ``residual`` call these where ``serves`` says so. Those of
attention are in ``attention_cpu``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengen_fast import _cpu
from lengen_fast.ops.eager import is_eager

LANES = 8  # rows of kernels without remainders are multiples of these


def is_plain(*tensors: Tensor) -> bool:
    """Whether these are ordinary tensors of this machine's memory in an eager call."""
    return is_eager(*tensors) and all(x.device.type == "cpu" for x in tensors)


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels take these: plain, fp32 and contiguous."""
    return is_plain(*tensors) and all(x.dtype == torch.float32 and x.is_contiguous() for x in tensors)


def embed(tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]) -> Tensor | None:
    """Token vectors plus position vectors of packed rows; None if a token or a position has none.

    Args:
        tokens: [N] int32 or int64.
        bounds: [B+1] int64, as ``cu_seqlens``.
        offsets: [B] int64, position of the first row of each sequence; None means 0.
        tables: [V, C], and [context, C] if there are positions; contiguous.

    Returns:
        [N, C].
    """
    out = tables[0].new_empty(len(tokens), tables[0].shape[1])
    addresses = (tables[0].data_ptr(), tables[1].data_ptr() if len(tables) > 1 else 0, out.data_ptr())
    found = _embedding(tokens, bounds, offsets, tables).forward(*addresses, torch.get_num_threads())
    return out if found else None


def embed_backward(
    gradient: Tensor, tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]
) -> list[Tensor]:
    """Gradients of the tables from that of what ``embed`` returned, [N, C] contiguous."""
    gradients = [table.new_zeros(table.shape) for table in tables]
    addresses = (gradients[0].data_ptr(), gradients[1].data_ptr() if len(tables) > 1 else 0)
    problem = _embedding(tokens, bounds, offsets, tables)
    if not problem.backward(gradient.data_ptr(), *addresses, torch.get_num_threads()):
        raise RuntimeError("tokens or offsets were changed between the forward and the backward pass of embed")
    return gradients


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form of a contiguous tensor."""
    y = x.new_empty(x.shape)
    _cpu.gelu(x.data_ptr(), y.data_ptr(), x.numel(), torch.get_num_threads())
    return y


def gelu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Gradient of x from that of ``gelu(x)``, both contiguous."""
    out = x.new_empty(x.shape)
    _cpu.gelu_backward(gradient.data_ptr(), x.data_ptr(), out.data_ptr(), x.numel(), torch.get_num_threads())
    return out


def biased_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """GELU in its tanh form of x + bias, [N, C] contiguous and [C], C a multiple of ``LANES``."""
    y = x.new_empty(x.shape)
    _cpu.biased_gelu(x.data_ptr(), bias.data_ptr(), y.data_ptr(), *x.shape, torch.get_num_threads())
    return y


def biased_gelu_backward(gradient: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    """Gradient of the bias from that of ``biased_gelu(x, bias)``, which becomes the gradient of x."""
    of_bias = bias.new_empty(bias.shape)
    addresses = (tensor.data_ptr() for tensor in (gradient, x, bias, of_bias))
    _cpu.biased_gelu_backward(*addresses, *x.shape, torch.get_num_threads())
    return of_bias


def add_norm(
    stream: Tensor, update: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """stream + update + bias, the layer norm of it, and [N, 2] mean and inverse deviation of each row.

    stream and update are [N, C], contiguous, C a multiple of ``LANES``; the others are [C].
    """
    total, normalized, statistics = (
        stream.new_empty(shape) for shape in (stream.shape, stream.shape, (len(stream), 2))
    )
    inputs = (tensor.data_ptr() for tensor in (stream, update, bias, weight, shift))
    outputs = (tensor.data_ptr() for tensor in (total, normalized, statistics))
    _cpu.add_norm(*stream.shape, *inputs, epsilon, *outputs, torch.get_num_threads())
    return total, normalized, statistics


def add_norm_backward(
    of_total: Tensor | None, of_normalized: Tensor, total: Tensor, weight: Tensor, statistics: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradient of stream and of update, which is one, and those of weight, shift and bias of ``add_norm``."""
    of_total, of_normalized = None if of_total is None else of_total.contiguous(), of_normalized.contiguous()
    gradient, of_columns = total.new_empty(total.shape), total.new_empty(3, total.shape[1])
    inputs = (tensor.data_ptr() for tensor in (of_normalized, total, weight, statistics, gradient, of_columns))
    _cpu.add_norm_backward(
        *total.shape, 0 if of_total is None else of_total.data_ptr(), *inputs, torch.get_num_threads()
    )
    return gradient, of_columns.unbind()


def _embedding(tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]) -> _cpu.Embedding:
    first = 0 if offsets is None else offsets.data_ptr()
    rows = (len(tables[0]), len(tables[1]) if len(tables) > 1 else 0)
    shape = len(bounds) - 1, len(tokens), tables[0].shape[1]
    narrow, wide = (tokens.data_ptr() if tokens.dtype == dtype else 0 for dtype in (torch.int32, torch.int64))
    return _cpu.Embedding(*shape, narrow, wide, bounds.data_ptr(), first, *rows)
