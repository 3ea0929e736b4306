"""What the kernels of one call share, from the arguments of a launcher: sizes, strides and options."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field

import torch
import triton.language as tl
from torch import Tensor

from lengen_kernels import launch, tiles
from lengen_kernels.attention import common

WIDEST = 256  # head width D
SMALLEST_TILE = 16  # rows or columns
PRECISIONS = ("ieee", "tf32x3", "tf32")
BEYOND = {"last": common.LAST, "zero": common.ZERO, "line": common.LINE}
CACHED_KEYS = 32 << 20  # bytes of keys and values that programs running at the same time may share in the cache


@dataclass(slots=True)
class Problem:
    """One call of attention. Attributes are those of the launchers' arguments, and:

    Attributes:
        repeats: how often a row of k may occur in ``query_rows``.
        sequences, heads, key_heads, width: B, H of q, H of k, D. block_d: D as a tile has it.
        queries: Nq. most: the largest number of queries that a sequence may have.
        table_width: W, 0 without a table. per_model: sequences that share a table.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    cu_seqlens: Tensor | None
    longest: int
    softmax_scale: float
    table: Tensor | None
    beyond: str
    slope: Tensor | None
    key_bias: Tensor | None
    logit_scale: Tensor | None
    window: int | None
    query_rows: Tensor | None
    cu_queries: Tensor | None
    precision: str
    repeats: int = 1
    sequences: int = field(init=False)
    heads: int = field(init=False)
    key_heads: int = field(init=False)
    width: int = field(init=False)
    block_d: int = field(init=False)
    queries: int = field(init=False)
    most: int = field(init=False)
    table_width: int = field(init=False)
    per_model: int = field(init=False)

    def __post_init__(self):
        *rows, self.heads, self.width = self.q.shape
        self.key_heads = self.k.shape[-2]
        self.block_d = max(SMALLEST_TILE, power_of_two(self.width))
        self.queries = math.prod(rows)
        self.sequences = rows[0] if self.cu_seqlens is None else self.cu_seqlens.shape[0] - 1
        self.most = self.longest if self.query_rows is None else min(self.repeats * self.longest, self.queries)
        models, *_, self.table_width = (1, 0) if self.table is None else self.table.shape
        self.per_model = 1 if self.table is None else max(1, self.sequences // models)

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        cu_seqlens: Tensor | None,
        longest: int,
        softmax_scale: float,
        table: Tensor | None = None,
        beyond: str = "last",
        slope: Tensor | None = None,
        key_bias: Tensor | None = None,
        logit_scale: Tensor | None = None,
        window: int | None = None,
        query_rows: Tensor | None = None,
        cu_queries: Tensor | None = None,
        precision: str = "ieee",
    ) -> Problem:
        """Check what would make a kernel read outside its operands, and make dense what is small.

        Raises:
            ValueError: shapes, strides, dtypes or options that the kernels do not serve.
        """
        for name, rows in (("q", q), ("k", k), ("v", v)):
            if rows.dtype not in (torch.float32, torch.float16, torch.bfloat16) or rows.dtype != q.dtype:
                raise ValueError(f"q, k and v must be of one dtype, fp32, fp16 or bf16, and {name} is {rows.dtype}")
            if rows.stride(-1) != 1 and rows.shape[-1] > 1:
                raise ValueError(f"the last dimension of {name} must have stride 1, got {rows.stride(-1)}")
        if not 1 <= q.shape[-1] <= WIDEST:
            raise ValueError(f"the head width D must be 1 to {WIDEST}, got {q.shape[-1]}")
        if k.shape != v.shape or q.dim() != k.dim() or q.shape[-1] != k.shape[-1] or q.shape[-2] % k.shape[-2]:
            raise ValueError(f"q, k and v do not go together: {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
        if (q.dim() == 4) != (cu_seqlens is None):
            raise ValueError("packed q, k and v [N, H, D] need cu_seqlens, and [B, T, H, D] must not have them")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        if beyond not in BEYOND or (beyond == "line") != (slope is not None):
            raise ValueError(f"beyond must be one of {tuple(BEYOND)}, with a slope for a line, got {beyond!r}")
        if query_rows is not None and cu_queries is None:
            cu_queries = torch.searchsorted(query_rows, cu_seqlens.to(query_rows.dtype))
        longest = q.shape[1] if q.dim() == 4 else longest
        if window is not None and window >= longest:  # which bounds nothing, and sums with it may not fit an int32
            window = None
        table, slope, key_bias, logit_scale = map(_dense, (table, slope, key_bias, logit_scale))
        return cls(
            q, k, v, cu_seqlens, longest, softmax_scale, table, beyond, slope, key_bias, logit_scale, window,
            query_rows, cu_queries, precision,
        )  # fmt: skip

    @property
    def inside(self) -> tl.constexpr:
        """Which distances are before the end of the table."""
        if self.table is None or (self.table_width == 1 and self.beyond != "zero"):
            return common.NONE
        return common.ALL if self.table_width >= self.longest else common.SOME

    @property
    def kind(self) -> str:
        """What the name of a kernel ends in where a logit is more than the product of a query and a key."""
        if any(option is not None for option in (self.key_bias, self.window, self.query_rows)):
            return " with options"
        return "" if self.table is None and self.logit_scale is None else " with a bias"

    @property
    def group(self) -> int:
        """Pairs (sequence, head) whose keys and values stay in the cache together."""
        bytes_per_head = 2 * self.longest * self.width * self.k.element_size()
        return max(1, min(self.sequences * self.heads, CACHED_KEYS // max(1, bytes_per_head)))

    def folded(self) -> Problem:
        """The same with one head where all heads share the keys of few queries: a query's heads are as many queries.

        So a program reads its keys once for all heads that fit its tile. A table or biases of keys would have to be
        read by head in each row of a tile, which costs the other calls registers; and where every row is a query there
        are tiles enough, and the cache serves the heads that share them.
        """
        folds = self.key_heads == 1 < self.heads and self.query_rows is not None
        if not folds or self.table is not None or self.key_bias is not None:
            return self
        heads = self.heads
        return dataclasses.replace(
            self,
            q=self.q.reshape(-1, 1, self.width),
            logit_scale=None if self.logit_scale is None else self.logit_scale.view(-1, 1),
            query_rows=self.query_rows.repeat_interleave(heads),
            cu_queries=self.cu_queries * heads,
            repeats=heads,
        )

    def tile(self, kernel: str) -> tiles.Tile:
        """The tile of one of the kernels."""
        operands = self.precision if self.q.dtype == torch.float32 else "16"
        return tiles.choose(kernel + self.kind, self.block_d, operands, self.longest, architecture(self.q.device))

    def arguments(self, tile: tiles.Tile) -> dict:
        """What every kernel takes, by the names of its parameters."""
        return dict(
            q=operand(self.q),
            k=operand(self.k),
            v=operand(self.v),
            terms=common.Terms(self.table, self.slope, self.key_bias, self.logit_scale),
            places=common.Places(self.cu_seqlens, self.query_rows, self.cu_queries),
            scale=float(self.softmax_scale),
            width=self.table_width,
            window=self.window,
            per_model=self.per_model,
            sequences=self.sequences,
            heads=self.heads,
            longest=self.longest,
            SHAPE=self.shape(tile, self.inside),
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            maxnreg=tile.max_registers,
        )

    def shape(self, tile: tiles.Tile, inside: tl.constexpr) -> common.Shape:
        """What a kernel is compiled for, where so many distances are before the end of the table."""
        share = self.heads // self.key_heads
        return _shape(share, self.width, tile, self.beyond, inside.value, self.precision, self.q.dtype)


@functools.cache
def _shape(
    share: int, width: int, tile: tiles.Tile, beyond: str, inside: int, precision: str, dtype: torch.dtype
) -> common.Shape:
    """One object for one shape: a launch knows it by its identity."""
    shape = common.Shape(
        SHARE=share,
        D=width,
        BLOCK_D=max(SMALLEST_TILE, power_of_two(width)),
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        BEYOND=BEYOND[beyond],
        INSIDE=inside,
        PRECISION=precision if dtype == torch.float32 else "ieee",
        COMPUTE=compute_dtype(dtype),
    )
    return common.Shape(*map(tl.constexpr, shape))


def operand(rows: Tensor) -> common.Operand:
    """What a kernel takes for [B, T, H, D], or for [N, H, D], where a sequence has no stride."""
    return common.Operand(rows, *((0, *rows.stride()[:2]) if rows.dim() == 3 else rows.stride()[:3]))


def _dense(term: Tensor | None) -> Tensor | None:
    return None if term is None else term.to(torch.float32).contiguous()


def compute_dtype(dtype: torch.dtype) -> tl.dtype:
    """What products are made of: the operands' dtype, but fp32 where the interpreter has no arithmetic for bf16."""
    if dtype == torch.bfloat16 and launch.is_interpreted(common.load_tile):
        return tl.float32
    return {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}[dtype]


def power_of_two(number: int) -> int:
    """The smallest that is not below a positive number."""
    return 1 << (number - 1).bit_length()


@functools.cache
def cells_dtype(dtype: torch.dtype) -> tl.dtype:
    """What the gradient of a short row's table is summed in, of 16-bit operands."""
    return compute_dtype(dtype) if launch.is_interpreted(common.load_tile) else tl.bfloat16


@functools.cache
def architecture(device: torch.device) -> str:
    """Row of the tile table for a device; the CPU's interpreter takes the tiles of an H100."""
    if device.type != "cuda":
        return "sm90"
    major, _ = torch.cuda.get_device_capability(device)
    return {8: "sm80", 9: "sm90"}.get(major, "sm100")


@functools.cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device; those of an H100 for the interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132
