"""Attention on a CPU by the kernel of ``csrc/cpu``: fp32, on the packed rows as they are, no tensor of size T x T.

Sums have one order, so the same bits come from any number of threads. The functions have the signature of the Triton
launchers, ``lengen_kernels.attention``; operands of 16 bits are computed in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lengen_fast import _cpu
from lengen_fast.ops import packing

NOTHING = (0, 0, 0)  # an operand that is not there


def forward(
    q: Tensor, k: Tensor, v: Tensor, *, out_dtype: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Output and softmax of every row.

    Args:
        q: [P, H, D] packed or [B, T, H, D].
        k, v: [N, H, D] or, shared by the heads, [N, 1, D]; or [B, T, H, D].
        out_dtype: of the output; the dtype of q if None.
        options: those of ``lengen_kernels.attention.forward``.

    Returns:
        The output, shaped like q, and [..., H, 2] fp32: what each softmax subtracts and divides by.
    """
    problem, _alive = _problem(q, k, v, **options)
    rows = q.shape[:-1].numel() // q.shape[-2]
    out, softmax = (
        q.new_empty(rows, *q.shape[-2:], dtype=torch.float32),
        q.new_empty(rows, q.shape[-2], 2, dtype=torch.float32),
    )
    problem.forward(_operand(out), softmax.data_ptr(), torch.get_num_threads())
    return out.to(out_dtype or q.dtype).view(q.shape), softmax.view(*q.shape[:-1], 2)


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax: Tensor,
    *,
    needs_table: bool = False,
    needs_key_bias: bool = False,
    needs_logit_scale: bool = False,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """Gradients of q, k, v, table, key_bias and logit_scale, from what ``forward`` returned; None if not needed."""
    problem, _alive = _problem(q, k, v, **options)
    grad_out, out = _rows(grad_out).contiguous(), _rows(out).contiguous()  # heads folded into rows, as those of q
    grad_q, grad_k, grad_v = _empty_gradients(q, k, v)
    table, key_bias, logit_scale = (
        q.new_empty(options[name].shape, dtype=torch.float32) if needed else None
        for name, needed in (("table", needs_table), ("key_bias", needs_key_bias), ("logit_scale", needs_logit_scale))
    )
    problem.backward(
        _operand(grad_out),
        _operand(out),
        softmax.data_ptr(),
        _operand(grad_q),
        _operand(grad_k),
        _operand(grad_v),
        0 if table is None else table.data_ptr(),
        NOTHING if key_bias is None else _operand(_flat(key_bias)),
        NOTHING if logit_scale is None else _operand(_flat(logit_scale)),
        torch.get_num_threads(),
    )
    return grad_q.view(q.shape), grad_k.view(k.shape), grad_v.view(v.shape), table, key_bias, logit_scale


def _empty_gradients(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
    """Memory for the gradients of q, k and v, which lies as they do if they are parts of one projection."""
    shapes = [_rows(x).shape for x in (q, k, v)]
    if packing.joined((q, k, v)) is None:
        return [q.new_empty(shape, dtype=torch.float32) for shape in shapes]
    return list(q.new_empty(shapes[0][0], 3, *shapes[0][1:], dtype=torch.float32).unbind(1))


def _problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    softmax_scale: float,
    cu_seqlens: Tensor | None = None,
    query_rows: Tensor | None = None,
    table: Tensor | None = None,
    beyond: str = "last",
    slope: Tensor | None = None,
    key_bias: Tensor | None = None,
    logit_scale: Tensor | None = None,
    window: int | None = None,
    **unused: Any,
) -> tuple[_cpu.Attention, list[Tensor]]:
    """The kernel's description of a call, and the tensors to keep while it is in use."""
    batched = cu_seqlens is None
    bounds = torch.arange(len(k) + 1) * k.shape[1] if batched else cu_seqlens.long().contiguous()
    chosen = None if query_rows is None else query_rows.long().contiguous()
    operands = [_rows(x) for x in (q, k, v)]
    heads, width = q.shape[-2:]
    shape = len(bounds) - 1, heads, k.shape[-2], width
    rows = bounds.data_ptr(), 0 if chosen is None else chosen.data_ptr(), len(operands[0])
    problem = _cpu.Attention(*shape, *rows, *map(_operand, operands), softmax_scale)
    if not problem.fits(len(operands[1])):  # inside an operator nothing was checked yet
        packing.check_bounds(bounds, len(operands[1]))
        packing.check_rows(chosen, len(operands[1]))
    alive = [bounds, *operands] if chosen is None else [bounds, chosen, *operands]
    if window is not None:
        problem.set_window(window)
    if table is not None:
        table, slope = table.contiguous(), None if slope is None else slope.contiguous()
        address = 0 if slope is None else slope.data_ptr()
        problem.set_bias(table.data_ptr(), len(table), table.shape[-1], beyond, address)
        alive += [table] if slope is None else [table, slope]
    for term, give in ((key_bias, problem.set_key_bias), (logit_scale, problem.set_logit_scale)):
        if term is not None:
            alive.append(_flat(term))
            give(_operand(alive[-1]))
    return problem, alive


def _rows(x: Tensor) -> Tensor:
    """[N, H, D] or [B, T, H, D] to fp32 [N, H, D] whose last dimension has stride 1."""
    x = (x.flatten(0, 1) if x.dim() == 4 else x).float().resolve_neg()
    return x if x.stride(-1) == 1 else x.contiguous()


def _flat(term: Tensor) -> Tensor:
    """[N, H] or [B, T, H] to [N, H]."""
    return (term.flatten(0, 1) if term.dim() == 3 else term).resolve_neg()


def _operand(x: Tensor) -> tuple[int, int, int]:
    return x.data_ptr(), x.stride(0), x.stride(1)
