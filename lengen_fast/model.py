"""The causal transformer of the paper: GPT-2's architecture on packed rows, logits only where they are scored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from lengen_fast import positions
from lengen_fast.layers import Block, Embedding
from lengen_fast.ops.distinct import Distinct
from lengen_fast.ops.packing import Packing, RowSelection


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a transformer (arXiv 2410.02140, section 5: GPT-2 trained from scratch).

    Attributes:
        vocab_size: V, ordinary and special tokens.
        layers: L, number of blocks.
        heads: H, attention heads of each block; divides ``width``.
        width: C, size of the residual stream.
        positions: "ape" (learned absolute positions) or "nope" (none); see ``lengen_fast.positions``.
        context: rows of the position table, the longest sequence plus offset; without a table nothing is bounded.
        init_std: standard deviation of the initial weights (GPT-2).
        layer_norm_epsilon: added to the variance in layer normalization.
    """

    vocab_size: int
    layers: int
    heads: int
    width: int
    positions: str = "ape"
    context: int = 154
    init_std: float = 0.02
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "heads", "width", "context"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("init_std", "layer_norm_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and {self.heads} heads")
        positions.encoding(self.positions)

    @property
    def longest(self) -> int | None:
        """The longest sequence, in tokens, that the model takes; None if it takes any."""
        return self.context if positions.encoding(self.positions).table else None

    def as_dict(self) -> dict:
        """Plain values, as config.json holds them."""
        return asdict(self)


class Transformer(nn.Module):
    """Pre-LN causal transformer with tied embeddings, fp32 parameters.

    Args:
        config: its shape.
        seed: of the initial weights, drawn on the CPU so that every device starts from the same ones.
    """

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.width, config.longest)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.layer_norm_epsilon) for _ in range(config.layers)
        )
        self.final_norm = nn.LayerNorm(config.width, eps=config.layer_norm_epsilon)
        self._initialize(torch.Generator().manual_seed(seed))

    def forward(
        self,
        tokens: Tensor,
        *,
        cu_seqlens: Tensor | Packing | None = None,
        offsets: Tensor | None = None,
        rows: Tensor | RowSelection | None = None,
    ) -> Tensor:
        """Logits of the next token: ``unembed(hidden(...))``.

        Args:
            tokens: [N] int64 packed, or [B, T] int64.
            cu_seqlens: [B+1], first packed row of each sequence, then N (or its ``Packing``); None: one sequence.
            offsets: [B] int64, position of each sequence's first token; None means 0. Ignored without a table.
            rows: [P] int64, the increasing packed rows whose logits are wanted (or their ``RowSelection``); the last
                block computes nothing else. None: all rows.

        Returns:
            [N, V], [B, T, V] or [P, V], fp32.

        Raises:
            ValueError: a sequence is longer than the position table, or the arguments do not fit together.
        """
        if tokens.dim() == 2:
            if cu_seqlens is not None or rows is not None:
                raise ValueError(
                    "tokens of shape [B, T] go without cu_seqlens and rows: pack them into [N] to use those"
                )
            packing = Packing.uniform(*tokens.shape, device=tokens.device)
            return self(tokens.flatten(), cu_seqlens=packing, offsets=offsets).unflatten(0, tokens.shape)
        return self.unembed(self.hidden(tokens, cu_seqlens=cu_seqlens, offsets=offsets, rows=rows))

    def hidden(
        self,
        tokens: Tensor,
        *,
        cu_seqlens: Tensor | Packing | None = None,
        offsets: Tensor | None = None,
        rows: Tensor | RowSelection | None = None,
    ) -> Tensor:
        """Normalized residual stream after the last block, [N, C] or [P, C]; packed arguments as in ``forward``."""
        packing = Packing.of(tokens, cu_seqlens)
        rows = None if rows is None else RowSelection.of(packing, rows)
        stream = self.embedding(tokens, packing, offsets)
        distinct = self._distinct(tokens, packing, offsets)
        for block in self.blocks[:-1]:
            stream, distinct = block(stream, packing, distinct=distinct), None
        return self.final_norm(self.blocks[-1](stream, packing, rows))

    def _distinct(self, tokens: Tensor, packing: Packing, offsets: Tensor | None) -> Distinct | None:
        """Which rows enter the first block as equals, where it is worth to know."""
        if len(self.blocks) < 2:
            return None
        return Distinct.of(tokens, packing, offsets, self.config.vocab_size, self.config.longest)

    def unembed(self, hidden: Tensor) -> Tensor:
        """[P, C] from ``hidden`` to logits [P, V]."""
        return self.embedding.unembed(hidden)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        """GPT-2: N(0, init_std), residual projections divided by sqrt(2 L), biases 0, norms 1."""
        residual_std = self.config.init_std / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                residual = name.endswith(("attention.out.weight", "mlp.contract.weight"))
                parameter.normal_(0.0, residual_std if residual else self.config.init_std, generator=generator)
