"""The CPU kernels of ``csrc/cpu`` on tensors: fp32, exact, without padding, the same bits for any number of threads.

Tensors in, tensors out, no autograd and no checks: ``attention`` and ``gelu`` call these where ``serves`` says so.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengen_fast import _cpu

NOTHING = (0, 0, 0)


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels take these: fp32 in this machine's memory, neighbours in the last dimension."""
    return all(
        tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.stride(-1) == 1 for tensor in tensors
    )


def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, query_rows: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Causal attention of packed rows.

    Args:
        q: [N, H, D], or [P, H, D] with ``query_rows``.
        k, v: [N, H, D], or [N, 1, D] which all heads share.
        bounds: [B+1] int64, as ``cu_seqlens``.
        query_rows: [P] int64, increasing rows of k.
        scale: of the logits.

    Returns:
        [P, H, D], and [P, H, 2]: what each softmax subtracts and divides by.
    """
    out = torch.empty(q.shape)
    softmax = torch.empty(*q.shape[:2], 2)
    problem = _problem(q, k, v, bounds, query_rows, scale)
    problem.forward(_operand(out), softmax.data_ptr(), torch.get_num_threads())
    return out, softmax


def attention_backward(
    grad_out: Tensor,
    out: Tensor,
    softmax: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Tensor,
    query_rows: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, from those of what ``attention_forward`` returned first."""
    if grad_out.stride(-1) != 1:
        grad_out = grad_out.contiguous()
    grad_q, grad_k, grad_v = torch.empty(q.shape), torch.empty(k.shape), torch.empty(v.shape)
    problem = _problem(q, k, v, bounds, query_rows, scale)
    problem.backward(
        _operand(grad_out),
        _operand(out),
        softmax.data_ptr(),
        _operand(grad_q),
        _operand(grad_k),
        _operand(grad_v),
        0,
        NOTHING,
        NOTHING,
        torch.get_num_threads(),
    )
    return grad_q, grad_k, grad_v


def embed(tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]) -> Tensor | None:
    """Token vectors plus position vectors of packed rows; None if a token or a position has none.

    Args:
        tokens: [N] int64.
        bounds: [B+1] int64, as ``cu_seqlens``.
        offsets: [B] int64, position of the first row of each sequence; None means 0.
        tables: [V, C], and [context, C] if there are positions; contiguous.

    Returns:
        [N, C].
    """
    out = torch.empty(len(tokens), tables[0].shape[1])
    addresses = (tables[0].data_ptr(), tables[1].data_ptr() if len(tables) > 1 else 0, out.data_ptr())
    found = _embedding(tokens, bounds, offsets, tables).forward(*addresses, torch.get_num_threads())
    return out if found else None


def embed_backward(
    gradient: Tensor, tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]
) -> list[Tensor]:
    """Gradients of the tables from that of what ``embed`` returned, [N, C] contiguous."""
    gradients = [torch.zeros(table.shape) for table in tables]
    addresses = (gradients[0].data_ptr(), gradients[1].data_ptr() if len(tables) > 1 else 0)
    problem = _embedding(tokens, bounds, offsets, tables)
    problem.backward(gradient.data_ptr(), *addresses, torch.get_num_threads())
    return gradients


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form of a contiguous tensor."""
    y = torch.empty(x.shape)
    _cpu.gelu(x.data_ptr(), y.data_ptr(), x.numel(), torch.get_num_threads())
    return y


def gelu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Gradient of x from that of ``gelu(x)``, both contiguous."""
    out = torch.empty(x.shape)
    _cpu.gelu_backward(gradient.data_ptr(), x.data_ptr(), out.data_ptr(), x.numel(), torch.get_num_threads())
    return out


def _problem(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, query_rows: Tensor | None, scale: float
) -> _cpu.Attention:
    rows = 0 if query_rows is None else query_rows.data_ptr()
    queries, heads, width = q.shape
    operands = (_operand(q), _operand(k), _operand(v))
    return _cpu.Attention(len(bounds) - 1, heads, k.shape[1], width, bounds.data_ptr(), rows, queries, *operands, scale)


def _embedding(tokens: Tensor, bounds: Tensor, offsets: Tensor | None, tables: list[Tensor]) -> _cpu.Embedding:
    first = 0 if offsets is None else offsets.data_ptr()
    rows = (len(tables[0]), len(tables[1]) if len(tables) > 1 else 0)
    return _cpu.Embedding(len(bounds) - 1, tables[0].shape[1], tokens.data_ptr(), bounds.data_ptr(), first, *rows)


def _operand(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.stride(0), tensor.stride(1)
