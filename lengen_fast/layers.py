"""The modules of a pre-LN transformer on packed rows [N, C]: embedding, causal self-attention, MLP, block."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengen_fast.ops import DistanceBias, attention, embed, gelu, log_n_scale, residual
from lengen_fast.ops.attention import WIDEST
from lengen_fast.ops.distinct import Distinct
from lengen_fast.ops.packing import Packing, RowSelection, split_heads


class Embedding(nn.Module):
    """Token table [V, C] and, for learned absolute positions, a position table [context, C].

    Args:
        period: the position table has that many rows instead, and position i takes row i modulo the period (PERIODIC,
            arXiv 2410.02140, section 3).
        tied: logits are made with the token table; else with a table of their own.
    """

    def __init__(
        self, vocab_size: int, width: int, context: int | None = None, *, period: int | None = None, tied: bool = True
    ):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocab_size, width))
        self.period = period
        rows = context if period is None else period
        self.positions = None if rows is None else nn.Parameter(torch.empty(rows, width))
        if not tied:
            self.unembedding = nn.Parameter(torch.empty(vocab_size, width))
        self.tied = tied

    def forward(self, tokens: Tensor, packing: Packing, offsets: Tensor | None = None) -> Tensor:
        """tokens [N] int32 or int64 to vectors [N, C]; offsets [B] int64 shift the positions of each sequence."""
        if self.period is None:
            return embed(tokens, self.tokens, self.positions, cu_seqlens=packing, offsets=offsets)
        positions = packing.position_in_sequence
        if offsets is not None:
            positions = positions + offsets[packing.sequence_of_row]
        return embed(tokens, self.tokens, cu_seqlens=packing) + F.embedding(positions % self.period, self.positions)

    def unembed(self, hidden: Tensor) -> Tensor:
        """Vectors [P, C] to logits [P, V]."""
        return F.linear(hidden, self.tokens if self.tied else self.unembedding)


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention of packed rows.

    Args:
        head_width: D; None: C / H.
        local_reach: W; each head learns a bias phi(i - j) for distances below W, and has none beyond (LOCAL, arXiv
            2410.02140, section 3).
        log_n_scaling: the logits of row i are multiplied by log(i + 1) times a learned factor of the head, which begins
            so that this is 1 at length ``LOG_N_ONE``; the bias is not.
    """

    LOG_N_ONE = 50

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_width: int | None = None,
        local_reach: int = 0,
        log_n_scaling: bool = False,
    ):
        super().__init__()
        if heads < 1 or (head_width is None and width % heads):
            raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
        self.heads = heads
        inner = width if head_width is None else heads * head_width
        self.qkv = nn.Linear(width, 3 * inner)
        self.out = nn.Linear(inner, width)
        self.local_bias = nn.Parameter(torch.zeros(heads, local_reach)) if local_reach else None
        self.log_n_factor = nn.Parameter(torch.full((heads,), 1 / math.log(self.LOG_N_ONE))) if log_n_scaling else None

    def forward(
        self,
        hidden: Tensor,
        packing: Packing,
        rows: RowSelection | None = None,
        *,
        distinct: Distinct | None = None,
        bias: Tensor | DistanceBias | None = None,
        key_bias: Tensor | None = None,
        logit_scale: Tensor | None = None,
        window: int | None = None,
    ) -> Tensor:
        """hidden [N, C] to [N, C], or with ``rows`` to [P, C]: only the chosen rows are computed.

        With ``distinct`` (and without ``rows``) hidden is [U, C], one row for each different input.
        ``bias`` [H, W] or a ``DistanceBias``, ``key_bias`` [N, H], ``logit_scale`` [N, H] (with ``rows`` [P, H]) and
        ``window`` are those of ``attention``; the first and the third take the place of the module's own.
        """
        terms = {"bias": bias, "key_bias": key_bias, "logit_scale": logit_scale, "window": window}
        return self.out(self.read(hidden, packing, rows, distinct=distinct, **terms))

    def read(
        self,
        hidden: Tensor,
        packing: Packing,
        rows: RowSelection | None = None,
        *,
        distinct: Distinct | None = None,
        bias: Tensor | DistanceBias | None = None,
        logit_scale: Tensor | None = None,
        **terms: Any,
    ) -> Tensor:
        """What ``forward`` projects back: the values read by every head, side by side, [N, H D] or [P, H D]."""
        if self.local_bias is not None and bias is None:
            bias = DistanceBias(self.local_bias, "zero")
        if self.log_n_factor is not None and logit_scale is None:
            logit_scale = log_n_scale(self.log_n_factor, packing, query_rows=rows)
        terms |= {"bias": bias, "logit_scale": logit_scale}
        if rows is not None:
            return self._chosen(hidden, packing, rows, terms)
        qkv = self.qkv(hidden) if distinct is None else distinct.spread(self.qkv(hidden))
        q, k, v = split_heads(qkv, self.heads)
        return attention(q, k, v, cu_seqlens=packing, **terms).flatten(1)

    def _chosen(self, hidden: Tensor, packing: Packing, rows: RowSelection, terms: dict[str, Any]) -> Tensor:
        """[N, C] to [P, C]: what the heads of the chosen rows read, side by side."""
        width = self.out.in_features
        q_weight, k_weight, v_weight = self.qkv.weight.split(width)
        q_bias, k_bias, v_bias = self.qkv.bias.split(width)
        q = F.linear(rows.take(hidden), q_weight, q_bias).unflatten(1, (self.heads, -1))
        many = len(hidden) * width <= len(rows) * (width + packing.longest * (self.heads - 1))
        if many or hidden.shape[1] > WIDEST or terms.get("key_bias") is not None:
            k, v = (
                F.linear(hidden, weight, bias).unflatten(1, (self.heads, -1))
                for weight, bias in ((k_weight, k_bias), (v_weight, v_bias))
            )
            return attention(q, k, v, cu_seqlens=packing, query_rows=rows, **terms).flatten(1)
        # few rows: move the projections of keys and values to the side of the queries, (q W_k) . h and (sum p h) W_v;
        # the bias of the keys adds the same to every logit of a query, and softmax forgets it
        q = torch.bmm(q.transpose(0, 1), k_weight.unflatten(0, (self.heads, -1))).transpose(0, 1)
        scale = (width // self.heads) ** -0.5
        memory = hidden.unsqueeze(1)
        read = attention(q, memory, memory, softmax_scale=scale, cu_seqlens=packing, query_rows=rows, **terms)
        v = torch.bmm(read.transpose(0, 1), v_weight.unflatten(0, (self.heads, -1)).mT).transpose(0, 1)
        return v.flatten(1) + v_bias


ACTIVATIONS = ("gelu", "relu")


def layer_norm(width: int, epsilon: float | None) -> nn.Module:
    """Layer normalization, or with None the identity."""
    return nn.Identity() if epsilon is None else nn.LayerNorm(width, eps=epsilon)


class MLP(nn.Module):
    """C to 4C, GELU in its tanh form, and back (GPT-2).

    Without gradients the rows are taken ``ROWS_AT_ONCE`` at a time, so that a million tokens need no [N, 4C] tensor.

    Args:
        hidden_width: units; None: 4C.
        activation: of the units, one of ``ACTIVATIONS``.
        heaviside_units: so many of the units, the first ones, are 1 for positive and 0 for other numbers instead, as in
            the Limit Transformers of arXiv 2410.02140, section 3. Nothing before such a unit gets a gradient by it.
    """

    ROWS_AT_ONCE = 1 << 16

    def __init__(
        self, width: int, hidden_width: int | None = None, *, activation: str = "gelu", heaviside_units: int = 0
    ):
        super().__init__()
        hidden_width = 4 * width if hidden_width is None else hidden_width
        self.expand = nn.Linear(width, hidden_width)
        self.contract = nn.Linear(hidden_width, width)
        self.activation, self.heaviside_units = activation, heaviside_units

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N, C]."""
        return self.in_pieces(lambda rows: self.contract(self._activate(self.expand(rows))), hidden)

    def in_pieces(self, compute: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """``compute(hidden)``, so many rows at a time as there is memory for."""
        if torch.is_grad_enabled() or len(hidden) <= self.ROWS_AT_ONCE:
            return compute(hidden)
        return torch.cat([compute(rows) for rows in hidden.split(self.ROWS_AT_ONCE)])

    @property
    def is_plain(self) -> bool:
        """Whether all units are GELUs."""
        return self.activation == "gelu" and not self.heaviside_units

    def _activate(self, units: Tensor) -> Tensor:
        smooth = gelu if self.activation == "gelu" else torch.relu
        if not self.heaviside_units:
            return smooth(units)
        steps, others = units.tensor_split([self.heaviside_units], dim=1)
        return torch.cat([(steps > 0).to(units), smooth(others)], dim=1)


class Block(nn.Module):
    """Pre-LN transformer block: attention and MLP, each normalized before and added after.

    Args:
        layer_norm_epsilon: of the two norms; None: there are none.
        attention, mlp: further options of ``CausalSelfAttention`` and ``MLP``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layer_norm_epsilon: float | None = 1e-5,
        *,
        attention: dict[str, Any] | None = None,
        mlp: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.attention_norm = layer_norm(width, layer_norm_epsilon)
        self.attention = CausalSelfAttention(width, heads, **attention or {})
        self.mlp_norm = layer_norm(width, layer_norm_epsilon)
        self.mlp = MLP(width, **mlp or {})

    def forward(
        self,
        stream: Tensor,
        packing: Packing,
        rows: RowSelection | None = None,
        distinct: Distinct | None = None,
        *,
        normalized: Tensor | None = None,
        next_norm: nn.Module | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Residual stream [N, C] to [N, C], or with ``rows`` to [P, C]: only the chosen rows are computed.

        ``distinct`` says which rows of the stream are equal, so that keys, queries and values are computed once for
        each; it counts where ``rows`` is None. With ``next_norm``, the norm of what follows, the result is a pair: the
        stream, and that norm of it, which is made along with the sum; the next block takes it as ``normalized``.
        """
        distinct = None if rows is not None else distinct
        if normalized is None:
            normalized = self.attention_norm(stream if distinct is None else distinct.take(stream))
        stream, normalized = self._attend(stream, normalized, packing, rows, distinct)
        stream, normalized = self._feed_forward(stream, normalized, next_norm)
        return stream if next_norm is None else (stream, normalized)

    def _attend(
        self,
        stream: Tensor,
        normalized: Tensor,
        packing: Packing,
        rows: RowSelection | None,
        distinct: Distinct | None,
    ) -> tuple[Tensor, Tensor]:
        """The stream after attention to its normalized rows, and the norm of it for the MLP."""
        stream, out = stream if rows is None else rows.take(stream), self.attention.out
        if residual.is_watched(self.attention) or not residual.serves(stream, out, self.mlp_norm):
            stream = stream + self.attention(normalized, packing, rows, distinct=distinct)
            return stream, self.mlp_norm(stream)
        update = F.linear(self.attention.read(normalized, packing, rows, distinct=distinct), out.weight)
        return residual.add_norm(stream, update, out.bias, self.mlp_norm)

    def _feed_forward(self, stream: Tensor, normalized: Tensor, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
        """The stream after the MLP of its normalized rows, and the norm of it for what follows."""
        mlp = self.mlp
        parts = mlp.expand, mlp.contract, norm
        if norm is None or not mlp.is_plain or residual.is_watched(mlp) or not residual.serves(stream, *parts):
            stream = stream + mlp(normalized)
            return stream, None if norm is None else norm(stream)
        update = mlp.in_pieces(lambda rows: residual.feed_forward(rows, mlp.expand, mlp.contract), normalized)
        return residual.add_norm(stream, update, mlp.contract.bias, norm)
