"""Causal attention in PyTorch operations, block by block: forward and backward without any tensor of size T x T.

The keys of every sequence are reversed. A term that depends on the distance i - j then depends on the sum of the two
indices, and its tile for any block of queries and keys is a strided view of one vector: nothing is gathered. Causality
and the window are -inf in that vector. The gradient of the vector is the sum of a tile along its anti-diagonals: the
tile lives in a buffer whose rows are shifted by one each, so that the diagonals are the columns of that buffer.

Scores are in base 2: q is multiplied by its scales and by log2 e, all terms by log2 e, and the exponential is exp2.
Tiles are computed anew in the backward pass, in a fixed order: equal bits from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from lengen_fast.ops.packing import Packing, PaddedLayout, RowSelection

TILE = 1 << 17  # scores of a tile, 512 KiB in fp32: the few that are in use stay in cache, and the loop costs little
QUERIES = 256  # rows of a tile
BUCKETED_WORK = 1 << 22  # B Tq T H D from which a CPU pads in buckets of similar length
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Terms:
    """What beside q . k makes a score, as ``lengen_fast.ops.attention`` describes it.

    Attributes:
        softmax_scale: factor of q . k.
        table: [M, H, W] bias by distance; sequence b uses table b // (B // M).
        beyond: "last", "zero" or "line": the bias from distance W on.
        slope: [M, H], of the line.
        key_bias: [N, H] or [B, T, H].
        logit_scale: [N, H] or [B, T, H], or [P, H] with chosen rows.
        window: keys that a row sees, itself included; None: all up to itself.
    """

    softmax_scale: float
    table: Tensor | None = None
    beyond: str = "last"
    slope: Tensor | None = None
    key_bias: Tensor | None = None
    logit_scale: Tensor | None = None
    window: int | None = None

    @property
    def are_plain(self) -> bool:
        """Whether there is nothing but the scale and the causal order."""
        return self.window is None and all(x is None for x in (self.table, self.key_bias, self.logit_scale))


@dataclass
class Gradients:
    """Gradients of what they are named after; None where nobody asked."""

    q: Tensor
    k: Tensor
    v: Tensor
    table: Tensor | None = None
    key_bias: Tensor | None = None
    logit_scale: Tensor | None = None


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    terms: Terms,
    *,
    cu_seqlens: Tensor | None = None,
    query_rows: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Output, and log2 of each row's sum of exponentials.

    Args:
        q: [N, H, D] packed or [B, T, H, D]; with ``query_rows`` [P, H, D].
        k, v: [N, H, D] or, shared by the heads, [N, 1, D]; or [B, T, H, D].
        terms: the other terms of a score.
        cu_seqlens: [B+1], for packed operands.
        query_rows: [P] int64, the rows to compute.
        out_dtype: of the output; the dtype of q if None.

    Returns:
        out, shaped like q, and lse [N, H], [B, T, H] or [P, H], fp32 (fp64 for fp64 operands).
    """
    rows = Rows.of(k, cu_seqlens, query_rows, q)
    compute = _fused_forward if _is_fused(q, k, terms, rows) else _forward
    parts = [compute(part) for part in _parts(rows, q, k, v, terms)]
    out, lse = (rows.join_queries([part[i] for part in parts]) for i in (0, 1))
    return out.to(out_dtype or q.dtype), lse


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    terms: Terms,
    *,
    cu_seqlens: Tensor | None = None,
    query_rows: Tensor | None = None,
    needs_table: bool = False,
    needs_key_bias: bool = False,
    needs_logit_scale: bool = False,
) -> Gradients:
    """Gradients of q, k and v, and those asked for, from the output and ``lse`` of ``forward``."""
    rows = Rows.of(k, cu_seqlens, query_rows, q)
    compute = _fused_backward if _is_fused(q, k, terms, rows) else _backward
    needs = {"table": needs_table, "key_bias": needs_key_bias, "logit_scale": needs_logit_scale}
    results = rows.split_queries(grad_out, out, lse)
    parts = [
        (part, compute(part, *result, needs))
        for part, result in zip(_parts(rows, q, k, v, terms), results, strict=True)
    ]
    each = [gradients for _, gradients in parts]
    table = None
    if needs_table:
        table = torch.zeros_like(terms.table)
        for part, gradients in (pair for pair in parts if pair[1].table is not None):
            _add_by_distance(table, gradients.table, part.table_of_sequence, terms.beyond)
    return Gradients(
        rows.join_queries([part.q for part in each]).to(q.dtype),
        rows.join_keys([part.k for part in each]).to(k.dtype),
        rows.join_keys([part.v for part in each]).to(v.dtype),
        table,
        rows.join_keys([part.key_bias for part in each]) if needs_key_bias else None,
        rows.join_queries([part.logit_scale for part in each]) if needs_logit_scale else None,
    )


# ---- layouts ----


@dataclass(frozen=True)
class Rows:
    """The way from packed or batched rows to parts [B, T, ...] of sequences of similar length, and back.

    Attributes:
        packing: of the keys; None for the batched layout, which is one part already.
        chosen: the rows to compute; None: all.
        queries, keys: where their rows stand in the parts.
        positions: for each part, [B or 1, Tq] int64: the place in its sequence of each chosen row.
        sequences: for each part, [B] int64 numbers of its sequences; None if they are all in order.
    """

    packing: Packing | None
    chosen: RowSelection | None
    queries: PaddedLayout | None
    keys: PaddedLayout | None
    positions: list[Tensor | None]
    sequences: list[Tensor | None]

    @classmethod
    def of(cls, k: Tensor, cu_seqlens: Tensor | None, query_rows: Tensor | None, q: Tensor) -> Rows:
        """As ``forward`` takes them; raises ``ValueError`` for bounds or rows that do not fit."""
        if k.dim() == 4:
            return cls(None, None, None, None, [None], [None])
        packing = Packing.of(k, cu_seqlens)
        chosen = None if query_rows is None else RowSelection.of(packing, query_rows)
        bucketed = is_worth_buckets(q, packing, packing if chosen is None else chosen.packing)
        keys = packing.bucketed_layout if bucketed else packing.layout
        sequences = [None] if keys.order is None else list(keys.order.split(keys.counts))
        if chosen is None:
            return cls(packing, None, keys, keys, [None] * len(sequences), sequences)
        queries = chosen.bucketed_layout if bucketed else chosen.layout
        positions = chosen.bucketed_last_keys if bucketed else chosen.last_keys
        return cls(packing, chosen, queries, keys, positions, sequences)

    def split_queries(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """[N or P, ...] each to [B, Tq, ...] for each part, zeros where a sequence has ended."""
        return [tensors] if self.queries is None else self.queries.pad(*tensors)

    def split_keys(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """[N, ...] each to [B, T, ...] for each part, zeros where a sequence has ended."""
        return [tensors] if self.keys is None else self.keys.pad(*tensors)

    def join_queries(self, parts: list[Tensor]) -> Tensor:
        """The inverse of ``split_queries`` for one tensor."""
        return parts[0] if self.queries is None else self.queries.unpad(parts)

    def join_keys(self, parts: list[Tensor]) -> Tensor:
        """The inverse of ``split_keys`` for one tensor."""
        return parts[0] if self.keys is None else self.keys.unpad(parts)

    def padding(self) -> list[Tensor | None]:
        """For each part, [B, Tq] bool: queries that only fill up; None where nothing does."""
        if self.queries is None or self.queries.slot_of_row is None:
            return [None] * len(self.sequences)
        total = self.packing.total if self.chosen is None else len(self.chosen)
        real = torch.ones(total, dtype=torch.bool, device=self.packing.cu_seqlens.device)
        return [~part for (part,) in self.queries.pad(real)]


def is_worth_buckets(q: Tensor, keys: Packing, queries: Packing) -> bool:
    """Whether padding to the longest costs more than several calls on sequences of similar length."""
    if q.device.type != "cpu" or keys.is_uniform:
        return False
    return keys.sequences * queries.longest * keys.longest * q.shape[1] * q.shape[2] >= BUCKETED_WORK


@dataclass
class Part:
    """Sequences of similar length, padded; letters as in ``Terms``.

    Attributes:
        q: [B, Tq, H, D]; k, v: [B, T, H or 1, D].
        terms: with key_bias [B, T, H] and logit_scale [B, Tq, H] of these sequences.
        positions: [B or 1, Tq] int64 of chosen rows; None: row i is at i.
        padding: [B, Tq] bool, or None.
        table_of_sequence: [B] int64, which of the M tables; None if there is one.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    terms: Terms
    positions: Tensor | None
    padding: Tensor | None
    table_of_sequence: Tensor | None


def _parts(rows: Rows, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Iterator[Part]:
    queries = rows.split_queries(*(x for x in (q, terms.logit_scale) if x is not None))
    keys = rows.split_keys(*(x for x in (k, v, terms.key_bias) if x is not None))
    sequences = k.shape[0] if rows.packing is None else rows.packing.sequences
    for query, key, *rest in zip(queries, keys, rows.positions, rows.padding(), rows.sequences, strict=True):
        positions, padding, numbers = rest
        own = replace(
            terms,
            logit_scale=None if terms.logit_scale is None else query[1],
            key_bias=None if terms.key_bias is None else key[2],
        )
        table = None
        if terms.table is not None and len(terms.table) > 1:
            numbers = torch.arange(sequences, device=k.device) if numbers is None else numbers
            table = numbers // (sequences // len(terms.table))
        yield Part(query[0], key[0], key[1], own, positions, padding, table)


# ---- PyTorch's own kernel, where there is nothing but causality ----


def _is_fused(q: Tensor, k: Tensor, terms: Terms, rows: Rows) -> bool:
    return q.device.type == "cpu" and terms.are_plain and rows.chosen is None and q.shape[-2] == k.shape[-2]


def _fused_forward(part: Part) -> tuple[Tensor, Tensor]:
    q, k, v, scale = _fused_operands(part)
    if q.numel() == 0:
        return torch.zeros_like(part.q), part.q.new_zeros(part.q.shape[:-1], dtype=torch.float32)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True, scale=scale)
    return out.transpose(1, 2), lse.transpose(1, 2) * LOG2_E


def _fused_backward(part: Part, grad_out: Tensor, out: Tensor, lse: Tensor, needs: dict[str, bool]) -> Gradients:
    q, k, v, scale = _fused_operands(part)
    if q.numel() == 0:
        return Gradients(*(torch.zeros_like(x) for x in (part.q, part.k, part.v)))
    gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad_out.to(q.dtype).transpose(1, 2),
        q,
        k,
        v,
        out.to(q.dtype).transpose(1, 2),
        (lse / LOG2_E).transpose(1, 2),
        0.0,
        True,
        scale=scale,
    )
    dq, dk, dv = (gradient.transpose(1, 2) for gradient in gradients)
    return Gradients(dq if part.terms.softmax_scale > 0 else dq * part.terms.softmax_scale, dk, dv)


def _fused_operands(part: Part) -> tuple[Tensor, Tensor, Tensor, float]:
    """[B, H, T, D] each, and a scale: the kernel multiplies masked scores, -inf, by it, so it must be above 0."""
    q, scale = part.q, part.terms.softmax_scale
    if scale <= 0:
        q, scale = q * scale, 1.0
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, part.k, part.v))
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale


# ---- blocks ----


class _Blocks:
    """A part in the layout of the computation: heads first, keys reversed, scores in base 2.

    Attributes:
        q: [B, H, Tq, D] with all scales; k, v: [B, H or 1, T, D] reversed.
        by_distance: [B or 1, H or 1, 2 T - 1]: the term at distance d, at index d + T - 1; -inf where nobody looks.
        key_bias: [B, H, 1, T] reversed, or None.
        shared: heads that read one head of keys.
    """

    def __init__(self, part: Part):
        terms = part.terms
        k, v = part.k, part.v
        self.dtype = _dtype_of_sums(part.q)
        self.batch, self.rows, self.heads, self.width = part.q.shape
        self.keys = k.shape[1]
        if terms.key_bias is not None and k.shape[2] != self.heads:
            k, v = (x.expand(-1, -1, self.heads, -1) for x in (k, v))
        self.shared = self.heads // k.shape[2]
        self.row_factor = _row_factor(terms, self.dtype)
        self.unscaled_q = self.heads_first(part.q)
        self.q = self.unscaled_q * (self.row_factor * LOG2_E)
        self.k, self.v = (self.reversed(self.heads_first(x)) for x in (k, v))
        self.key_bias = None
        if terms.key_bias is not None:
            key_bias = self.reversed(self.heads_first(terms.key_bias.unsqueeze(-1)))
            self.key_bias = key_bias.transpose(2, 3) * LOG2_E
        self.has_table = terms.table is not None
        self.by_distance = _by_distance(part, self.dtype, self.keys)
        self.window = terms.window
        self.positions = part.positions
        self.block = max(1, QUERIES // self.shared)
        self.softmax_scale, self.key_heads = terms.softmax_scale, part.k.shape[2]

    def heads_first(self, x: Tensor) -> Tensor:
        """[B, T, H, D] to [B, H, T, D], contiguous, in the dtype of the computation."""
        return x.transpose(1, 2).to(self.dtype).contiguous()

    def reversed(self, x: Tensor) -> Tensor:
        """[B, H, T, D] with the rows the other way round; ``flip`` would go number by number."""
        return x.index_select(2, torch.arange(x.shape[2] - 1, -1, -1, device=x.device))

    def chunks(self) -> Iterator[_Chunk]:
        """Sequences and heads that go through the blocks together."""
        if not self.batch * self.rows * self.heads:
            return
        rows = min(self.block, self.rows)
        keys = self.keys_at_once(rows)
        together = max(1, TILE // (rows * keys))  # [rows, keys] tiles
        if together >= self.heads or self.shared > 1:
            step = max(1, together // self.heads)
            for begin in range(0, self.batch, step):
                yield _Chunk(self, slice(begin, min(begin + step, self.batch)), slice(0, self.heads))
            return
        for sequence in range(self.batch):
            for begin in range(0, self.heads, together):
                end = min(begin + together, self.heads)
                yield _Chunk(self, slice(sequence, sequence + 1), slice(begin, end))

    def keys_at_once(self, rows: int) -> int:
        return min(self.keys, max(rows, TILE // (rows * self.shared)))

    def query_blocks(self) -> list[slice]:
        """Blocks of about equal size."""
        count = -(-self.rows // self.block)
        bounds = [i * self.rows // count for i in range(count + 1)]
        return [slice(begin, end) for begin, end in pairwise(bounds)]

    def key_blocks(self, lowest: int, highest: int, rows: int) -> list[slice]:
        """Blocks of reversed keys, nearest first, that queries at positions ``lowest`` to ``highest`` may see."""
        oldest = 0 if self.window is None else max(0, lowest - self.window + 1)
        begin, end = self.keys - 1 - highest, self.keys - oldest
        step = self.keys_at_once(rows)
        return [slice(at, min(at + step, end)) for at in range(begin, end, step)]

    def sees_all(self, lowest: int, highest: int, keys: slice) -> bool:
        """Whether queries at those positions see all of the reversed ``keys``."""
        nearest, farthest = self.keys - 1 - keys.start, self.keys - keys.stop
        return nearest <= lowest and (self.window is None or farthest > highest - self.window)


class _Chunk:
    """Some sequences and heads of the blocks; G = their number of heads of keys, R = rows of a block for each."""

    def __init__(self, blocks: _Blocks, batch: slice, heads: slice):
        self.blocks, self.batch, self.heads = blocks, batch, heads
        self.key_heads = heads if blocks.shared == 1 else slice(0, 1)
        self.counts = (batch.stop - batch.start, heads.stop - heads.start)
        self.groups = self.counts[0] * self.counts[1] // blocks.shared

    def of_queries(self, x: Tensor, rows: slice) -> Tensor:
        """[B, H, Tq, E] to [G, R, E]."""
        return x[self.batch, self.heads, rows].reshape(self.groups, -1, x.shape[-1])

    def of_keys(self, x: Tensor, keys: slice) -> Tensor:
        """[B, H or 1, T, D] to [G, keys, D], a view."""
        return x[self.batch, self.key_heads, keys].flatten(0, 1)

    def lowest_and_highest(self, rows: slice) -> tuple[int, int]:
        """First and last position of those queries."""
        if self.blocks.positions is None:
            return rows.start, rows.stop - 1
        positions = self._positions(rows)
        return int(positions.min()), int(positions.max())

    def tile(self, buffer: Tensor, rows: slice, keys: slice) -> Tensor:
        """The head of a flat buffer as scores [sequences, heads, rows, keys]."""
        shape = (*self.counts, rows.stop - rows.start, keys.stop - keys.start)
        return buffer[: math.prod(shape)].view(shape)

    def scores(
        self, buffer: Tensor, rows: slice, keys: slice, unmasked: bool, row_term: Tensor | None = None
    ) -> Tensor:
        """[sequences, heads, rows, keys]: all terms of the scores, and ``row_term`` [sequences, heads, rows, 1]."""
        scores = self.tile(buffer, rows, keys)
        blocks = self.blocks
        added = []
        if blocks.has_table or not unmasked:
            added.append(self._by_distance(rows, keys))
        if blocks.key_bias is not None:
            added.append(blocks.key_bias[self.batch, self.heads, :, keys])
        if row_term is not None:
            added.append(row_term)
        products = scores.view(self.groups, -1, scores.shape[-1])
        operands = self.of_queries(blocks.q, rows), self.of_keys(blocks.k, keys).mT
        if not added:
            torch.bmm(*operands, out=products)
            return scores
        if len(added) == 1:
            scores.copy_(added[0])
        else:
            torch.add(added[0], added[1], out=scores)
        for term in added[2:]:
            scores += term
        products.baddbmm_(*operands)
        return scores

    def _positions(self, rows: slice) -> Tensor:
        """[sequences or 1, rows]"""
        positions = self.blocks.positions
        return (positions if len(positions) == 1 else positions[self.batch])[:, rows]

    def _by_distance(self, rows: slice, keys: slice) -> Tensor:
        """[sequences or 1, heads or 1, rows, keys] of the term that depends on the distance."""
        vectors = self._vectors(self.blocks.by_distance)
        if self.blocks.positions is None:
            return _hankel(vectors, rows.start + keys.start, rows.stop - rows.start, keys.stop - keys.start)
        width = keys.stop - keys.start
        starts = vectors[..., keys.start :].unfold(-1, width, 1)
        positions = self._positions(rows)
        batch = torch.arange(len(vectors), device=positions.device).view(-1, 1, 1)
        heads = torch.arange(vectors.shape[1], device=positions.device).view(1, -1, 1)
        return starts[batch, heads, positions.unsqueeze(1)]

    def _vectors(self, x: Tensor) -> Tensor:
        """What of [B or 1, H or 1, L] belongs to these sequences and heads."""
        x = x if len(x) == 1 else x[self.batch]
        return x if x.shape[1] == 1 else x[:, self.heads]

    def add_by_distance(self, total: Tensor, gradient: _Skewed, rows: slice, keys: slice) -> None:
        """Sum a tile of gradients by distance into ``total`` [B or 1, H, 2 T - 1]."""
        total = self._vectors(total)
        if self.blocks.positions is None:
            sums = gradient.diagonals(len(total) == 1)
            total[..., rows.start + keys.start :][..., : sums.shape[-1]] += sums
            return
        batch = torch.arange(self.counts[0], device=total.device) if len(total) > 1 else total.new_zeros(1).long()
        offsets = batch.view(-1, 1, 1, 1) * total.stride(0) + total.storage_offset()
        offsets = offsets + torch.arange(self.counts[1], device=total.device).view(-1, 1, 1) * total.stride(1)
        offsets = offsets + self._positions(rows)[:, None, :, None]
        offsets = offsets + torch.arange(keys.start, keys.stop, device=total.device)
        flat = total.as_strided((total.untyped_storage().nbytes() // total.element_size(),), (1,), 0)
        flat.index_add_(0, offsets.expand(gradient.tile.shape).flatten(), gradient.tile.flatten())


class _Skewed:
    """A tile [sequences, heads, rows, keys] whose anti-diagonals are the columns of its buffer.

    Row r begins r places further to the right in a buffer with rows of rows + keys - 1; what is not tile stays 0.
    """

    def __init__(self, flat: Tensor, shape: tuple[int, int, int, int]):
        *outer, rows, keys = shape
        length = rows + keys - 1
        self.buffer = flat[: math.prod(outer) * rows * length].view(*outer, rows, length)
        strides = (outer[1] * rows * length, rows * length, length + 1, 1)
        self.tile = flat.as_strided(shape, strides)

    def diagonals(self, over_sequences: bool) -> Tensor:
        """[sequences or 1, heads, rows + keys - 1] sums."""
        return self.buffer.sum((0, 2)).unsqueeze(0) if over_sequences else self.buffer.sum(2)


def _hankel(vectors: Tensor, begin: int, rows: int, keys: int) -> Tensor:
    """[..., L] to [..., rows, keys] without a copy: element (r, c) is vectors[..., begin + r + c]."""
    return vectors.as_strided(
        (*vectors.shape[:-1], rows, keys), (*vectors.stride()[:-1], 1, 1), vectors.storage_offset() + begin
    )


def _row_factor(terms: Terms, dtype: torch.dtype) -> Tensor | float:
    """What q is multiplied by: a number, or [B, H, Tq, 1]."""
    if terms.logit_scale is None:
        return terms.softmax_scale
    return (terms.logit_scale.to(dtype) * terms.softmax_scale).transpose(1, 2).unsqueeze(-1)


def _by_distance(part: Part, dtype: torch.dtype, keys: int) -> Tensor:
    """[B or 1, H or 1, 2 T - 1] of ``_Blocks.by_distance``."""
    terms = part.terms
    if terms.table is None:
        vectors = torch.zeros(1, 1, 2 * keys - 1, dtype=dtype, device=part.q.device)
    else:
        table = terms.table.to(dtype) * LOG2_E
        models, heads, width = table.shape
        vectors = table.new_zeros(models, heads, 2 * keys - 1)
        inside = min(width, keys)
        vectors[..., keys - 1 : keys - 1 + inside] = table[..., :inside]
        if keys > width and terms.beyond != "zero":
            vectors[..., keys - 1 + width :] = table[..., -1:]
        if keys > width and terms.beyond == "line":
            steps = torch.arange(1, keys - width + 1, dtype=dtype, device=table.device)
            vectors[..., keys - 1 + width :] += (terms.slope.to(dtype) * LOG2_E).unsqueeze(-1) * steps
        if part.table_of_sequence is not None:
            vectors = vectors[part.table_of_sequence]
    vectors[..., : keys - 1] = -math.inf
    if terms.window is not None:
        vectors[..., keys - 1 + terms.window :] = -math.inf
    return vectors


def _add_by_distance(table: Tensor, vectors: Tensor, table_of_sequence: Tensor | None, beyond: str) -> None:
    """Add gradients [B or 1, H, 2 T - 1] of the vectors of ``_by_distance`` to those of the table [M, H, W]."""
    keys = (vectors.shape[-1] + 1) // 2
    distances, width = vectors[..., keys - 1 :], table.shape[-1]
    own = torch.zeros_like(distances[..., :1]).expand(*distances.shape[:-1], width).contiguous()
    own[..., :keys] = distances[..., :width]
    if keys > width and beyond != "zero":
        own[..., -1] += distances[..., width:].sum(-1)
    if table_of_sequence is None:
        table += own
    else:
        table.index_add_(0, table_of_sequence, own.to(table.dtype))


# ---- the two passes over the blocks ----


def _forward(part: Part) -> tuple[Tensor, Tensor]:
    """[B, Tq, H, D] and [B, Tq, H]."""
    if not part.q.numel():
        return torch.zeros_like(part.q), part.q.new_zeros(part.q.shape[:-1], dtype=_dtype_of_sums(part.q))
    blocks = _Blocks(part)
    out = torch.empty(part.q.shape, dtype=blocks.dtype, device=part.q.device)
    lse = torch.empty(part.q.shape[:-1], dtype=blocks.dtype, device=part.q.device)
    buffer = _tile_buffer(blocks)
    for chunk in blocks.chunks():
        for rows in blocks.query_blocks():
            block_out, block_lse = _forward_block(chunk, rows, buffer)
            out.transpose(1, 2)[chunk.batch, chunk.heads, rows] = block_out.view(*chunk.counts, -1, blocks.width)
            lse.transpose(1, 2)[chunk.batch, chunk.heads, rows] = block_lse.view(*chunk.counts, -1)
    return out, lse


def _forward_block(chunk: _Chunk, rows: slice, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """[G, R, D] and [G, R, 1] of a block of queries, over all its keys."""
    blocks = chunk.blocks
    lowest, highest = chunk.lowest_and_highest(rows)
    out = largest = total = None
    for keys in blocks.key_blocks(lowest, highest, rows.stop - rows.start):
        scores = chunk.scores(buffer, rows, keys, blocks.sees_all(lowest, highest, keys))
        scores = scores.view(chunk.groups, -1, scores.shape[-1])
        before, largest = largest, scores.amax(-1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)
        if before is not None:
            torch.maximum(largest, before, out=largest)
        weights = scores.sub_(largest).exp2_()
        values = chunk.of_keys(blocks.v, keys)
        if before is None:
            total, out = weights.sum(-1, keepdim=True), torch.bmm(weights, values)
            continue
        shrink = torch.exp2(before - largest)
        total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        out.mul_(shrink).baddbmm_(weights, values)
    return out.div_(total), total.log2_().add_(largest)


def _backward(part: Part, grad_out: Tensor, out: Tensor, lse: Tensor, needs: dict[str, bool]) -> Gradients:
    """All gradients of a part, heads behind rows as in the part; that of the table by distance, in ``by_distance``."""
    if not part.q.numel():
        return _no_gradients(part, needs)
    blocks = _Blocks(part)
    grad_out, out = blocks.heads_first(grad_out), blocks.heads_first(out)
    delta = (grad_out * out).sum(-1, keepdim=True)  # [B, H, Tq, 1]
    if part.padding is not None:
        lse = lse.masked_fill(part.padding.unsqueeze(-1), math.inf)
    minus_lse = blocks.heads_first(lse.unsqueeze(-1)).neg_()
    sums = _Sums(blocks, needs)
    for chunk in blocks.chunks():
        for rows in blocks.query_blocks():
            sums.add_block(chunk, rows, chunk.of_queries(grad_out, rows), delta, minus_lse)
    return sums.gradients(needs)


class _Sums:
    """Gradients as they are summed up, block by block, in the layout of ``_Blocks``."""

    def __init__(self, blocks: _Blocks, needs: dict[str, bool]):
        self.blocks = blocks
        self.q, self.k, self.v = torch.empty_like(blocks.q), torch.zeros_like(blocks.k), torch.zeros_like(blocks.v)
        self.table = self.key_bias = None
        if needs["table"]:
            self.table = torch.zeros_like(blocks.by_distance)
        if needs["key_bias"]:
            self.key_bias = torch.zeros_like(blocks.key_bias)
        self.scores, self.products = _tile_buffer(blocks), _tile_buffer(blocks)
        self.skewed_buffer, self.skewed = None, None

    def add_block(self, chunk: _Chunk, rows: slice, grad_out: Tensor, delta: Tensor, minus_lse: Tensor) -> None:
        """Add what a block of queries contributes, over all its keys."""
        blocks = self.blocks
        lowest, highest = chunk.lowest_and_highest(rows)
        block = chunk.batch, chunk.heads, rows
        q, dq = chunk.of_queries(blocks.q, rows), None
        for keys in blocks.key_blocks(lowest, highest, rows.stop - rows.start):
            unmasked = blocks.sees_all(lowest, highest, keys)
            weights = chunk.scores(self.scores, rows, keys, unmasked, minus_lse[block]).exp2_()
            flat = chunk.groups, -1, weights.shape[-1]
            chunk.of_keys(self.v, keys).baddbmm_(weights.view(flat).mT, grad_out)
            products = chunk.tile(self.products, rows, keys)
            torch.bmm(grad_out, chunk.of_keys(blocks.v, keys).mT, out=products.view(flat))
            gradient = self._score_gradient(weights, products.sub_(delta[block]), chunk, rows, keys)
            gradient = gradient.reshape(flat) if blocks.shared > 1 else gradient.flatten(0, 1)
            part_dq = torch.bmm(gradient, chunk.of_keys(blocks.k, keys))
            dq = part_dq if dq is None else dq.add_(part_dq)
            chunk.of_keys(self.k, keys).baddbmm_(gradient.mT, q)
        self.q[block] = dq.view(*chunk.counts, -1, blocks.width)

    def _score_gradient(self, weights: Tensor, products: Tensor, chunk: _Chunk, rows: slice, keys: slice) -> Tensor:
        """[sequences, heads, rows, keys], added up by distance and by key where that is asked for."""
        if self.table is None:
            gradient = weights.mul_(products)
        else:
            skewed = self._skewed(weights.shape)
            gradient = torch.mul(weights, products, out=skewed.tile)
            chunk.add_by_distance(self.table, skewed, rows, keys)
        if self.key_bias is not None:
            self.key_bias[chunk.batch, chunk.heads, :, keys] += gradient.sum(2, keepdim=True)
        return gradient

    def _skewed(self, shape: tuple[int, ...]) -> _Skewed:
        """A skewed tile of that shape; what surrounds it is 0 and stays so until the shape changes."""
        if self.skewed is None or self.skewed.tile.shape != shape:
            *outer, rows, keys = shape
            size = math.prod(outer) * rows * (rows + keys)
            if self.skewed_buffer is None or len(self.skewed_buffer) < size:
                self.skewed_buffer = self.scores.new_zeros(size)
            else:
                self.skewed_buffer[:size].zero_()
            self.skewed = _Skewed(self.skewed_buffer, shape)
        return self.skewed

    def gradients(self, needs: dict[str, bool]) -> Gradients:
        """In the layout of a part: rows before heads, keys in order."""
        blocks, logit_scale, key_bias = self.blocks, None, None
        if needs["logit_scale"]:
            logit_scale = (self.q * blocks.unscaled_q).sum(-1).mul_(blocks.softmax_scale).transpose(1, 2)
        if needs["key_bias"]:
            key_bias = self.key_bias.squeeze(2).flip(-1).transpose(1, 2)
        dk, dv = self.k.div_(LOG2_E), self.v
        if blocks.key_heads < dk.shape[1]:
            dk, dv = dk.sum(1, keepdim=True), dv.sum(1, keepdim=True)
        return Gradients(
            self.q.mul_(blocks.row_factor).transpose(1, 2),
            blocks.reversed(dk).transpose(1, 2),
            blocks.reversed(dv).transpose(1, 2),
            self.table,
            key_bias,
            logit_scale,
        )


def _no_gradients(part: Part, needs: dict[str, bool]) -> Gradients:
    """Those of a part without queries."""
    terms = part.terms
    return Gradients(
        *(torch.zeros_like(x) for x in (part.q, part.k, part.v)),
        key_bias=torch.zeros_like(terms.key_bias) if needs["key_bias"] else None,
        logit_scale=torch.zeros_like(terms.logit_scale) if needs["logit_scale"] else None,
    )


def _dtype_of_sums(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _tile_buffer(blocks: _Blocks) -> Tensor:
    rows = min(blocks.block, blocks.rows)
    keys = blocks.keys_at_once(rows)
    return torch.empty(max(TILE, blocks.shared * rows * keys), dtype=blocks.dtype, device=blocks.q.device)
