"""A transformer of smaller R(T) at the same answers: lower rank, smaller matrices, fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lengen_fast.model import Transformer
from lengen_fast.theory.regularizer import Regularizer

MOST_BITS = 24  # of fp32's significand: finer steps change little of a parameter near 1

Accept = Callable[[Transformer], bool]
Compressed = tuple[Transformer, Regularizer]
Group = tuple[str, slice]


def compress(model: Transformer, accept: Accept) -> Compressed | None:
    """A copy with value matrices of the least rank and parameters of the fewest bits that ``accept`` takes, and its R.

    None if no number of bits will do.
    """
    return _rounded(with_least_rank(model, accept), accept)


def shrink(model: Transformer, accept: Accept) -> Compressed:
    """A copy of smaller R that ``accept`` takes, and its R: each matrix, table and vector in turn is scaled down.

    It is set to zero if R does not rise thereby, or else halved over and over, as long as R falls; and again from the
    first one on, until nothing changes. At each trial the parameters are rounded to the fewest bits that do, but at
    most one more than before.

    Raises:
        ValueError: ``accept`` does not take the model itself.
    """
    if not accept(model):
        raise ValueError("model must be one that accept takes before it is made smaller")
    exact, best, changed = model, (model, Regularizer.of(model)), True
    while changed:
        changed = False
        for group in _groups(exact):
            for factor in (0.0, 0.5):
                while (smaller := _scaled(exact, group, factor)) is not None:
                    trial = _rounded(smaller, accept, best[1].precision + 1)
                    if trial is None or _worse(trial, best, factor):
                        break
                    exact, best, changed = smaller, trial, True
    return best


def _worse(trial: Compressed, best: Compressed, factor: float) -> bool:
    """Whether R rose; R that stays is enough for a zero, since of each kind of norm only the greatest counts."""
    return trial[1].total > best[1].total or (factor > 0 and trial[1].total == best[1].total)


def with_least_rank(model: Transformer, accept: Accept) -> Transformer:
    """A copy whose value matrices are cut to one rank, the least that ``accept`` takes; uncut if it takes none.

    Ranks are bisected, as if whatever is taken at one rank were taken at all higher ones.
    """
    low, high = 0, min(model.config.width, model.blocks[0].attention.out.in_features // model.config.heads)
    best = model
    while low < high:
        middle = (low + high) // 2
        cut = with_rank(model, middle)
        if accept(cut):
            best, high = cut, middle
        else:
            low = middle + 1
    return best


def with_least_precision(model: Transformer, accept: Accept, most: int = MOST_BITS) -> Transformer | None:
    """A copy whose parameters are multiples of 2^-p, for the least p in 0..most that ``accept`` takes; None: no p."""
    rounded = (with_precision(model, bits) for bits in range(most + 1))
    return next((each for each in rounded if accept(each)), None)


@torch.no_grad()
def with_precision(model: Transformer, bits: int) -> Transformer:
    """A copy with every parameter rounded to the nearest multiple of 2^-bits, ties to even."""
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        parameter.copy_(torch.round(parameter.double() * 2.0**bits) / 2.0**bits)
    return rounded


@torch.no_grad()
def with_rank(model: Transformer, rank: int) -> Transformer:
    """A copy with each head's value matrix replaced by the nearest one of that rank (Eckart and Young).

    The two factors, output and value projection, share its singular values evenly; what each head has beyond the rank
    is 0 in both, so that rounding them keeps the rank. The bias of the value projection moves into that of the output,
    for attention weights sum to one.
    """
    cut = copy.deepcopy(model)
    for block in cut.blocks:
        attention = block.attention
        inner = attention.out.in_features
        attention.out.bias += attention.out.weight @ attention.qkv.bias[2 * inner :]
        attention.qkv.bias[2 * inner :] = 0
        values = attention.qkv.weight[2 * inner :].chunk(attention.heads)
        for out, value in zip(attention.out.weight.chunk(attention.heads, dim=1), values, strict=True):
            new_out, new_value = _nearest_of_rank(out, value, rank)
            out.copy_(new_out)
            value.copy_(new_value)
    return cut


@torch.no_grad()
def with_context(model: Transformer, context: int) -> Transformer:
    """A copy with positions for another context: the first rows of its table, and zeros where it has no more."""
    copied = Transformer(replace(model.config, context=context))
    state, name = model.state_dict(), "embedding.positions"
    if name in state:
        rows = copied.embedding.positions.new_zeros(copied.embedding.positions.shape)
        kept = min(len(rows), len(state[name]))
        rows[:kept] = state[name][:kept]
        state[name] = rows
    copied.load_state_dict(state)
    return copied


def _nearest_of_rank(out: Tensor, value: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors [C, D] and [D, C] of the best approximation of their product, zero beyond the first ``rank`` of D."""
    left, singular, right = torch.linalg.svd(out.double() @ value.double(), full_matrices=False)
    root = singular[:rank].sqrt()
    new_out, new_value = torch.zeros_like(out), torch.zeros_like(value)
    new_out[:, :rank] = left[:, :rank] * root
    new_value[:rank] = root[:, None] * right[:rank]
    return new_out, new_value


def _rounded(model: Transformer, accept: Accept, most: int = MOST_BITS) -> Compressed | None:
    rounded = with_least_precision(model, accept, most)
    return None if rounded is None else (rounded, Regularizer.of(rounded))


def _groups(model: Transformer) -> Iterator[Group]:
    """Every parameter, by name and rows; queries, keys and values of a layer apart."""
    for name, parameter in model.named_parameters():
        parts = 3 if ".qkv." in name else 1
        rows = len(parameter) // parts
        yield from ((name, slice(part * rows, (part + 1) * rows)) for part in range(parts))


@torch.no_grad()
def _scaled(model: Transformer, group: Group, factor: float) -> Transformer | None:
    """A copy with a group multiplied by a factor; None if the group is zero already."""
    name, rows = group
    if not model.get_parameter(name)[rows].any():
        return None
    scaled = copy.deepcopy(model)
    scaled.get_parameter(name)[rows] *= factor
    return scaled
