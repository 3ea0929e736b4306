"""Causal attention over packed sequences: the public function and its checks; ``attention_op`` computes it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lengen_fast.ops import attention_op, attention_torch
from lengen_fast.ops import packing as packings
from lengen_fast.ops.bias import DistanceBias
from lengen_fast.ops.eager import is_eager
from lengen_fast.ops.packing import Packing, RowSelection

WIDEST = 256  # head width D
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PRECISIONS = ("auto", "ieee", "tf32x3", "tf32")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | DistanceBias | None = None,
    key_bias: Tensor | None = None,
    logit_scale: Tensor | None = None,
    window: int | None = None,
    softmax_scale: float | None = None,
    cu_seqlens: Tensor | Packing | None = None,
    query_rows: Tensor | RowSelection | None = None,
    precision: str = "auto",
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Exact causal attention: row i attends to the rows j <= i of its own sequence, with scores

        softmax_scale * logit_scale[i, h] * (q_i . k_j) + key_bias[j, h] + b_h(i - j)

    Sums are in fp32 (fp64 for fp64 operands), the largest score of a row is subtracted, and the division comes last, so
    that uniform attention is exactly uniform. Gradients for q, k, v, bias, key_bias and logit_scale are the same to the
    last bit from run to run; there are no second derivatives. Under autocast q, k and v are cast as for PyTorch's
    scaled_dot_product_attention; and as there, a NaN or infinity in v may reach earlier rows of its own sequence
    (weight 0 times NaN).

    Args:
        q: [N, H, D] packed, or [B, T, H, D], fp32, fp16, bf16 or fp64, D up to 256, any strides; with ``query_rows``,
            [P, H, D]: only the chosen rows.
        k, v: [N, H, D] packed, or [B, T, H, D]; with ``query_rows`` also [N, 1, D], which all heads of q share.
        bias: b_h(d) as a table [H, W] over the distance, whose last value holds from W on; or a ``DistanceBias``, which
            says what holds there. ``lengen_fast.ops.bias`` makes ALiBi, T5, KERPLE and others.
        key_bias: [N, H] or [B, T, H], added to all scores of a key, as a forgetting gate's sum of logarithms.
        logit_scale: [N, H], [B, T, H], or with ``query_rows`` [P, H]; see ``log_n_scale``.
        window: keys that a row sees, itself included; None: all up to itself.
        softmax_scale: factor of the logits; 1/sqrt(D) if None.
        cu_seqlens: [B+1] int32 or int64, the first packed row of each sequence, then N; or a ``Packing``, which also
            carries what several calls on the same rows can share, and whose longest sequence no launch waits for: give
            one to capture a CUDA graph, where a tensor's cannot be read and N would stand for it. None for [B, T, H, D]
            or one packed sequence.
        query_rows: [P] int32 or int64, increasing rows of k to compute, as in the scored rows of a last layer or one
            decoding step; cost is proportional to P x T. Needs packed k and v. A ``RowSelection`` carries what layers
            can share.
        precision: of products of fp32 operands on a GPU. "ieee": fp32. "tf32x3": three tf32 products on tensor cores.
            "tf32": tensor cores ignore the last 13 bits of each operand. "auto": "tf32" where PyTorch's matrix products
            are set to it, else "ieee". A CPU computes in fp32. Largest errors, emulated on a CPU (D 16 to 128, up to
            2,048 rows, q and k standard normal or q 4 times that; not measured on a GPU), of a logit over
            |q| |k| softmax_scale, of the output over its largest value, and of a gradient over its largest value:
            "ieee" and "tf32x3" 3e-7, 2.5e-6 and 2.5e-6; "tf32" 1e-3, 2e-3 and 3.5e-3, and as operands are cut and not
            rounded, outputs and gradients too small by 1e-3 and 2e-3 of themselves on average.
        out_dtype: torch.float32 for an fp32 output of 16-bit operands; None: the dtype of q.

    Returns:
        [N, H, D], [B, T, H, D], or with ``query_rows`` [P, H, D].

    Raises:
        ValueError: shapes, devices or dtypes that do not fit together, D over 256, a bias for another number of heads,
            ``cu_seqlens`` that do not run from 0 to N without decreasing, or ``query_rows`` that are out of range or
            do not increase. What those two hold is read on a CPU always, on a GPU only with LENGEN_DEBUG=1 in the
            environment (it waits for the device), and never under torch.compile or for fake tensors.
    """
    _check_tensors(q=q, k=k, v=v, key_bias=key_bias, logit_scale=logit_scale)
    _check_keys(k, v)
    if k.dim() == 4 and not (cu_seqlens is None and query_rows is None):
        raise ValueError("cu_seqlens and query_rows need packed q, k and v, [N, H, D], not [B, T, H, D]")
    place = None if k.dim() == 4 else _bounds(k, cu_seqlens, query_rows)
    chosen = None if query_rows is None else len(query_rows)
    _check_operands(q, k, v, k.shape if chosen is None else (chosen, _heads(q, k), k.shape[2]))
    _check_settings(q, window, precision, out_dtype)
    if key_bias is not None:
        _check_row_term("key_bias", key_bias, (*k.shape[:-2], q.shape[-2]), q)
    if logit_scale is not None:
        _check_row_term("logit_scale", logit_scale, q.shape[:-1], q)
    bias = None if bias is None else _checked_bias(bias, q)
    if _is_autocast(q):
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    out_dtype = q.dtype if out_dtype is None else out_dtype
    scale = 1 / math.sqrt(q.shape[-1]) if softmax_scale is None else float(softmax_scale)
    if q.numel() == 0:  # nothing to compute, and all operands still in the graph
        nothing = [x.sum() * 0 for x in (k, v, key_bias, bias and bias.table) if x is not None and x.requires_grad]
        return sum(nothing, q.clone()).to(out_dtype)
    window = None if window is None or window >= k.shape[-3] else window
    return _operate(q, k, v, scale, bias, key_bias, logit_scale, window, place, precision, out_dtype)


# ---- where the rows are ----

Bounds = tuple[Tensor | None, int, Tensor | None, Tensor | None]
"""cu_seqlens, rows of the longest sequence or more, query_rows, and where those of each sequence begin, if known."""


def _has_values(x: Tensor) -> bool:
    """Whether the numbers of a tensor may be read."""
    if torch.compiler.is_compiling() or isinstance(x, FakeTensor) or x.device.type == "meta":
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return False
    return x.device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def _bounds(k: Tensor, cu_seqlens: Tensor | Packing | None, query_rows: Tensor | RowSelection | None) -> Bounds:
    """Nothing is read from a GPU but, where it can be, the length of the longest sequence."""
    if cu_seqlens is None:
        cu_seqlens, longest = torch.arange(2, device=k.device) * len(k), len(k)
    elif isinstance(cu_seqlens, Tensor) and not _has_values(cu_seqlens):
        packings.check_vector(cu_seqlens)
        longest = len(k)
    else:
        packing = Packing.of(k, cu_seqlens)
        cu_seqlens, longest = packing.cu_seqlens, packing.longest
        if _is_debugging(cu_seqlens):
            packings.check_bounds(cu_seqlens, packing.total)
    _check_device("cu_seqlens", cu_seqlens, k)
    if isinstance(query_rows, RowSelection):
        _check_device("query_rows", query_rows.rows, k)
        RowSelection.of(Packing(cu_seqlens, len(k), longest), query_rows)
        # where each sequence's chosen rows begin is worth knowing on a GPU alone
        return cu_seqlens, longest, query_rows.rows, query_rows.packing.cu_seqlens if k.device.type == "cuda" else None
    if query_rows is not None:
        packings.check_row_vector(query_rows)
        _check_device("query_rows", query_rows, k)
        if _has_values(query_rows) and (query_rows.device.type == "cpu" or _is_debugging(query_rows)):
            packings.check_rows(query_rows, len(k))
    return cu_seqlens, longest, query_rows, None


def _check_device(name: str, x: Tensor, k: Tensor) -> None:
    if x.device != k.device:
        raise ValueError(f"{name} must be on the device of k, {k.device}, got {x.device}")


def _is_debugging(x: Tensor) -> bool:
    """Whether what rows a GPU holds is to be checked, at the cost of waiting for it."""
    return x.device.type == "cuda" and _has_values(x) and os.environ.get("LENGEN_DEBUG", "0") not in ("", "0")


# ---- the operator ----


def _operate(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    bias: DistanceBias | None,
    key_bias: Tensor | None,
    logit_scale: Tensor | None,
    window: int | None,
    place: Bounds | None,
    precision: str,
    out_dtype: torch.dtype,
) -> Tensor:
    """Through ``lengen::attention_forward``."""
    cu_seqlens, longest, query_rows, cu_queries = (None, k.shape[1], None, None) if place is None else place
    sums = torch.float64 if q.dtype == torch.float64 else torch.float32
    table = slope = None
    beyond = "last"
    if bias is not None:
        table, beyond = bias.table.to(sums).unsqueeze(0), bias.beyond
        if isinstance(beyond, Tensor):
            slope, beyond = beyond.detach().to(sums).unsqueeze(0), "line"
    key_bias, logit_scale = (None if x is None else x.to(sums) for x in (key_bias, logit_scale))
    operands = q, k, v, table, key_bias, logit_scale, slope, cu_seqlens, query_rows, cu_queries
    settings = longest, scale, beyond, window, precision, out_dtype
    if is_eager(*operands) and attention_op.implementation(q) is not attention_torch:
        return attention_op.eager(*operands, int(longest), *settings[1:])  # it may be an integer of NumPy's
    apply = torch.ops.lengen.attention_forward if torch.compiler.is_compiling() else attention_op.Attention.apply
    return apply(*operands, *settings)[0]


# ---- checks ----


def _check_tensors(**operands: object) -> None:
    for name, x in operands.items():
        if not isinstance(x, Tensor) and (x is not None or name in ("q", "k", "v")):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")


def _check_keys(k: Tensor, v: Tensor) -> None:
    if k.shape != v.shape or k.dim() not in (3, 4):
        raise ValueError(
            f"k and v must have one shape, [N, H, D] or [B, T, H, D], got {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if not 1 <= k.shape[-1] <= WIDEST:
        raise ValueError(f"k and v must have a head width D of at least 1 and at most {WIDEST}, got {tuple(k.shape)}")


def _heads(q: Tensor, k: Tensor) -> int:
    """Heads that q must have with ``query_rows``: those of k, or any number if k has one for all of them."""
    return q.shape[1] if k.shape[1] == 1 and q.dim() == 3 and q.shape[1] > 0 else k.shape[1]


def _check_operands(q: Tensor, k: Tensor, v: Tensor, wanted: Sequence[int]) -> None:
    if q.dtype not in DTYPES:
        raise ValueError(f"q, k and v must be fp32, fp16, bf16 or fp64, a floating dtype, got {q.dtype}")
    if q.shape != wanted:
        raise ValueError(f"q must have shape {tuple(wanted)} to go with k and query_rows, got {tuple(q.shape)}")
    if k.dtype == v.dtype == q.dtype and k.device == v.device == q.device:
        return
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ValueError(
                f"q, k and v must share dtype and device: q is {q.dtype} on {q.device}, "
                f"{name} is {tensor.dtype} on {tensor.device}"
            )


def _check_row_term(name: str, term: Tensor, wanted: Sequence[int], q: Tensor) -> None:
    if term.shape != wanted or not term.is_floating_point() or term.device != q.device:
        raise ValueError(
            f"{name} must be of a floating dtype and shape {tuple(wanted)} on {q.device}, "
            f"got {term.dtype} and {tuple(term.shape)} on {term.device}"
        )


def _checked_bias(bias: Tensor | DistanceBias, q: Tensor) -> DistanceBias:
    if isinstance(bias, Tensor):
        bias = DistanceBias(bias)
    elif not isinstance(bias, DistanceBias):
        raise TypeError(f"bias must be a tensor [H, W] or a DistanceBias, got {type(bias).__name__}")
    heads = q.shape[-2]
    if len(bias.table) != heads or bias.table.device != q.device:
        raise ValueError(
            f"bias must have a table for the {heads} heads of q, on {q.device}, "
            f"got one for {len(bias.table)} heads on {bias.table.device}"
        )
    return bias


def _check_settings(q: Tensor, window: int | None, precision: str, out_dtype: torch.dtype | None) -> None:
    if window is not None and (not isinstance(window, int) or isinstance(window, bool) or window < 1):
        raise ValueError(f"window must be a whole number of keys, at least 1, or None, got {window!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if out_dtype not in (None, q.dtype, torch.float32):
        raise ValueError(f"out_dtype must be torch.float32 or the dtype of q, {q.dtype}, got {out_dtype}")


def _is_autocast(q: Tensor) -> bool:
    """Whether autocast would cast the operands of PyTorch's scaled_dot_product_attention."""
    device = q.device.type
    return device != "meta" and torch.is_autocast_enabled(device) and q.dtype != torch.float64
