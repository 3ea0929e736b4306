"""The modules of a pre-LN transformer on packed rows [N, C]: embedding, causal self-attention, MLP, block."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lengen_fast.ops import DistanceBias, attention, embed, gelu
from lengen_fast.ops.attention import WIDEST
from lengen_fast.ops.distinct import Distinct
from lengen_fast.ops.packing import Packing, RowSelection, split_heads


class Embedding(nn.Module):
    """Token table [V, C] and, for learned absolute positions, a position table [context, C]."""

    def __init__(self, vocab_size: int, width: int, context: int | None = None):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocab_size, width))
        self.positions = None if context is None else nn.Parameter(torch.empty(context, width))

    def forward(self, tokens: Tensor, packing: Packing, offsets: Tensor | None = None) -> Tensor:
        """tokens [N] int64 to vectors [N, C]; offsets [B] int64 shift the positions of each sequence."""
        return embed(tokens, self.tokens, self.positions, cu_seqlens=packing, offsets=offsets)

    def unembed(self, hidden: Tensor) -> Tensor:
        """Vectors [P, C] to logits [P, V], with the token table (tied)."""
        return F.linear(hidden, self.tokens)


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention of packed rows; D = C / H."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads, got width {width} and {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

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
        ``window`` are those of ``attention``.
        """
        terms = {"bias": bias, "key_bias": key_bias, "logit_scale": logit_scale, "window": window}
        if rows is not None:
            return self.out(self._chosen(hidden, packing, rows, terms))
        qkv = self.qkv(hidden) if distinct is None else distinct.spread(self.qkv(hidden))
        q, k, v = split_heads(qkv, self.heads)
        return self.out(attention(q, k, v, cu_seqlens=packing, **terms).flatten(1))

    def _chosen(self, hidden: Tensor, packing: Packing, rows: RowSelection, terms: dict[str, Any]) -> Tensor:
        """[N, C] to [P, C]: what the heads of the chosen rows read, side by side."""
        width = self.out.in_features
        q_weight, k_weight, v_weight = self.qkv.weight.split(width)
        q_bias, k_bias, v_bias = self.qkv.bias.split(width)
        q = F.linear(rows.take(hidden), q_weight, q_bias).unflatten(1, (self.heads, -1))
        many = len(hidden) * width <= len(rows) * (width + packing.longest * (self.heads - 1))
        if many or width > WIDEST or terms["key_bias"] is not None:
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


class MLP(nn.Module):
    """C to 4C, GELU in its tanh form, and back (GPT-2).

    Without gradients the rows are taken ``ROWS_AT_ONCE`` at a time, so that a million tokens need no [N, 4C] tensor.
    """

    ROWS_AT_ONCE = 1 << 16

    def __init__(self, width: int):
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N, C]."""
        if torch.is_grad_enabled() or len(hidden) <= self.ROWS_AT_ONCE:
            return self._rows(hidden)
        return torch.cat([self._rows(rows) for rows in hidden.split(self.ROWS_AT_ONCE)])

    def _rows(self, hidden: Tensor) -> Tensor:
        return self.contract(gelu(self.expand(hidden)))


class Block(nn.Module):
    """Pre-LN transformer block: attention and MLP, each normalized before and added after."""

    def __init__(self, width: int, heads: int, layer_norm_epsilon: float = 1e-5):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=layer_norm_epsilon)
        self.attention = CausalSelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=layer_norm_epsilon)
        self.mlp = MLP(width)

    def forward(
        self, stream: Tensor, packing: Packing, rows: RowSelection | None = None, distinct: Distinct | None = None
    ) -> Tensor:
        """Residual stream [N, C] to [N, C], or with ``rows`` to [P, C].

        ``distinct`` says which rows of the stream are equal, so that keys, queries and values are computed once for
        each; it counts where ``rows`` is None.
        """
        if rows is None:
            inputs = stream if distinct is None else distinct.take(stream)
            stream = stream + self.attention(self.attention_norm(inputs), packing, distinct=distinct)
        else:
            stream = rows.take(stream) + self.attention(self.attention_norm(stream), packing, rows)
        return stream + self.mlp(self.mlp_norm(stream))
