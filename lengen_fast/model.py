"""The causal transformer of the paper: GPT-2's architecture on packed rows, logits only where they are scored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from lengen_fast import positions
from lengen_fast.layers import ACTIVATIONS, Block, Embedding, layer_norm
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

    The options of Limit Transformers (section 3 of the paper), each of which may also be trained:

    Attributes:
        head_width: D; None: ``width // heads``.
        mlp_width: units of each MLP; None: 4 C.
        activation: of those units, "gelu" or "relu".
        heaviside_units: so many units of each MLP are 1 for positive and 0 for other numbers instead.
        normalization: "layer" (before each part of a block, and at the end) or "none".
        tied_embeddings: whether logits are made with the token table, or with a table of their own.
        period: the position table has that many rows and position i takes row i modulo the period, so that nothing
            bounds the length; goes with positions "ape". None: a row for each position.
        local_reach: distances, from 0 on, for which each head learns a bias; farther there is none.
        log_n_scaling: whether row i multiplies its logits by log(i + 1) times a learned factor of each head.
    """

    vocab_size: int
    layers: int
    heads: int
    width: int
    positions: str = "ape"
    context: int = 154
    init_std: float = 0.02
    layer_norm_epsilon: float = 1e-5
    head_width: int | None = None
    mlp_width: int | None = None
    activation: str = "gelu"
    heaviside_units: int = 0
    normalization: str = "layer"
    tied_embeddings: bool = True
    period: int | None = None
    local_reach: int = 0
    log_n_scaling: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "heads", "width", "context"):
            self._check_number(name, least=1)
        for name in ("head_width", "mlp_width", "period"):
            if getattr(self, name) is not None:
                self._check_number(name, least=1)
        for name in ("heaviside_units", "local_reach"):
            self._check_number(name, least=0)
        for name in ("init_std", "layer_norm_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.head_width is None and self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and {self.heads} heads")
        self._check_options()

    def _check_number(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    def _check_options(self) -> None:
        for name, choices in (("activation", ACTIVATIONS), ("normalization", NORMALIZATIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("tied_embeddings", "log_n_scaling"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.heaviside_units > self.units:
            raise ValueError(f"heaviside_units must be at most the {self.units} units, got {self.heaviside_units}")
        if self.period is not None and not positions.encoding(self.positions).table:
            raise ValueError(f"period needs a position table: use positions 'ape', not {self.positions!r}")
        positions.encoding(self.positions)

    @property
    def units(self) -> int:
        """Hidden units of each MLP."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width

    @property
    def longest(self) -> int | None:
        """The longest sequence, in tokens, that the model takes; None if it takes any."""
        return self.context if positions.encoding(self.positions).table and self.period is None else None

    def context_for(self, tokens: int) -> int | None:
        """Where strings of so many tokens may lie at random offsets: the last position, or what shows every residue."""
        return self.longest if self.period is None else tokens + self.period - 1

    @property
    def has_positions(self) -> bool:
        """Whether the model sees at which position a sequence begins."""
        return positions.encoding(self.positions).table

    def as_dict(self) -> dict:
        """Plain values, as config.json holds them; options of Limit Transformers only where they are used."""
        return {name: value for name, value in asdict(self).items() if name not in _OPTIONS or value != _OPTIONS[name]}

    @property
    def options(self) -> dict:
        """The options of Limit Transformers that are used."""
        return {name: value for name, value in asdict(self).items() if value != _OPTIONS.get(name, value)}


NORMALIZATIONS = ("layer", "none")
_OPTIONS = {
    field.name: field.default
    for field in fields(ModelConfig)
    if field.name not in ("vocab_size", "layers", "heads", "width", "positions", "context")
    and field.name not in ("init_std", "layer_norm_epsilon")
}


class Transformer(nn.Module):
    """Pre-LN causal transformer, fp32 parameters.

    Args:
        config: its shape.
        seed: of the initial weights, drawn on the CPU so that every device starts from the same ones.
    """

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.config = config
        self.embedding = Embedding(
            config.vocab_size, config.width, config.longest, period=config.period, tied=config.tied_embeddings
        )
        epsilon = config.layer_norm_epsilon if config.normalization == "layer" else None
        self.blocks = nn.ModuleList(self._block(epsilon) for _ in range(config.layers))
        self.final_norm = layer_norm(config.width, epsilon)
        self._initialize(torch.Generator().manual_seed(seed))

    def _block(self, epsilon: float | None) -> Block:
        config = self.config
        attention = {name: getattr(config, name) for name in ("head_width", "local_reach", "log_n_scaling")}
        mlp = {name: getattr(config, name) for name in ("activation", "heaviside_units")}
        mlp["hidden_width"] = config.mlp_width
        return Block(config.width, config.heads, epsilon, attention=attention, mlp=mlp)

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
            tokens: [N] packed, or [B, T], int32 or int64.
            cu_seqlens: [B+1], first packed row of each sequence, then N (or its ``Packing``); None: one sequence.
            offsets: [B] int64, position of each sequence's first token; None means 0. Ignored without a table.
            rows: [P] int32 or int64, the increasing packed rows whose logits are wanted (or their ``RowSelection``);
                the last block computes nothing else. None: all rows.

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
        last, normalized = self.blocks[-1], None
        norms = [*(block.attention_norm for block in self.blocks[1:]), self.final_norm]
        for block, norm in zip(self.blocks, norms, strict=True):
            chosen = rows if block is last else None
            stream, normalized = block(stream, packing, chosen, distinct, normalized=normalized, next_norm=norm)
            distinct = None
        return normalized

    def _distinct(self, tokens: Tensor, packing: Packing, offsets: Tensor | None) -> Distinct | None:
        """Which rows enter the first block as equals, where it is worth to know."""
        if len(self.blocks) < 2:
            return None
        config = self.config
        return Distinct.of(tokens, packing, offsets, config.vocab_size, config.longest, config.period)

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
            elif name.endswith("log_n_factor"):
                continue
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                residual = name.endswith(("attention.out.weight", "mlp.contract.weight"))
                parameter.normal_(0.0, residual_std if residual else self.config.init_std, generator=generator)
