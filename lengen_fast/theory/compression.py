"""A transformer of smaller R(T) at the same answers: lower rank, smaller matrices, fewer bits."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lengen_fast.model import Transformer
from lengen_fast.theory.regularizer import Regularizer

MOST_BITS = 24  # of fp32's significand: finer steps change little of a parameter near 1

Accept = Callable[[Transformer], bool]
Compressed = tuple[Transformer, Regularizer]
Group = dict[str, Tensor]
"""By parameter, which of its numbers."""
MOST_SIZES = 8
"""Different absolute values of a group whose sizes are scaled one by one."""


def compress(model: Transformer, accept: Accept) -> Compressed | None:
    """A copy with value matrices of the least rank and parameters of the fewest bits that ``accept`` takes, and its R.

    None if no number of bits will do.
    """
    return _rounded(with_least_rank(model, accept), accept)


def shrink(model: Transformer, accept: Accept) -> Compressed:
    """A copy of smaller R that ``accept`` takes, and its R: one group of parameters after the other is scaled down.

    It is set to zero or else halved, if R falls thereby, or stays and the numbers become less (of each kind of norm
    only the greatest counts); and again from the first one on, until nothing changes, so that numbers which have to be
    great together become small together. Then each coordinate of a table of
    tokens is tried without, and each matrix halved while another is doubled, if R falls thereby. At each trial the
    parameters are rounded to fewer bits if these do, and to at most one more; unrounded they have to do too.
    Groups are matrices, tables and vectors, over all layers and then one by one, and where one has few sizes of
    numbers, as in a compiled program, the numbers of each size.

    Raises:
        ValueError: ``accept`` does not take the model itself.
    """
    if not accept(model):
        raise ValueError("model must be one that accept takes before it is made smaller")
    state, moves = (copy.deepcopy(model), (model, Regularizer.of(model))), (_smaller, _without, _balanced)
    while (better := next((found for move in moves if (found := move(state, accept)) is not None), None)) is not None:
        state = better
    return state[1]


State = tuple[Transformer, Compressed]
"""A model as it is, which trials change, and it rounded."""


def _smaller(state: State, accept: Accept) -> State | None:
    """Each group once, zero or halved; None if nothing changed."""
    changed = False
    for group in _groups(state[0]):
        trials = (_trial(state, {factor: group}, accept) for factor in (0.0, 0.5))
        smaller = next((trial for trial in trials if trial is not None), None)
        if smaller is not None:
            state, changed = smaller, True
    return state if changed else None


def _without(state: State, accept: Accept) -> State | None:
    """Without coordinates of tables of tokens; None if all are needed."""
    changed = False
    for group in _columns(state[0]):
        smaller = _trial(state, {0.0: group}, accept)
        if smaller is not None:
            state, changed = smaller, True
    return state if changed else None


def _balanced(state: State, accept: Accept) -> State | None:
    """Matrices halved while others are doubled where that lowers R; None if it does nowhere."""
    changed = False
    for down, up in itertools.permutations(_matrices(state[0]), 2):
        smaller = _trial(state, {0.5: down, 2.0: up}, accept)
        if smaller is not None and smaller[1][1].total < state[1][1].total:
            state, changed = smaller, True
    return state if changed else None


def _trial(state: State, groups: dict[float, Group], accept: Accept) -> State | None:
    """Groups scaled, each by its factor, if none is zero, ``accept`` takes it, and R falls, or stays for less.

    The model is scaled in place, and scaled back where that is not so.
    """
    exact, (_, terms) = state
    if not all(_is_used(exact, group) for group in groups.values()):
        return None
    before = {name: exact.get_parameter(name).detach().clone() for group in groups.values() for name in group}
    _scale(exact, groups)
    found, rounded = Regularizer.of(exact), None
    spared = terms.precision - found.precision - 1  # a bit may be spared
    if found.total + spared <= terms.total and accept(exact):
        rounded = _rounded_near(exact, accept, terms.precision)
    if rounded is not None and _order(rounded) < _order(state[1]):
        return exact, rounded
    with torch.no_grad():
        for name, values in before.items():
            exact.get_parameter(name).copy_(values)
    return None


def _order(compressed: Compressed) -> tuple[float, float]:
    model, terms = compressed
    return terms.total, sum(float(parameter.detach().double().abs().sum()) for parameter in model.parameters())


def _rounded_near(model: Transformer, accept: Accept, bits: int) -> Compressed | None:
    """Rounded to ``bits``, or fewer and fewer as long as ``accept`` takes that, or one more; None if none will do."""
    best = None
    for fewer in range(bits, -1, -1):
        rounded = with_precision(model, fewer)
        if not accept(rounded):
            break
        best = rounded
    if best is None:
        best = with_precision(model, bits + 1)
        if not accept(best):
            return None
    return best, Regularizer.of(best)


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


def _rounded(model: Transformer, accept: Accept) -> Compressed | None:
    rounded = with_least_precision(model, accept)
    return None if rounded is None else (rounded, Regularizer.of(rounded))


def _groups(model: Transformer) -> Iterator[Group]:
    """Parameters that are scaled together; queries, keys and values of a layer apart.

    They come from the output to the input, tables last: what comes later must then be exact for less.
    """
    parts: dict[str, list[Group]] = {}
    for name, part in _parts(model):
        kind = name.split(".", 2)[-1] if name.startswith("blocks.") else name
        parts.setdefault(f"{kind}.{part.start}", []).append({name: _mask(model, name, part)})
    for layers in parts.values():
        whole = {name: mask for part in layers for name, mask in part.items()}
        groups = [whole, *layers] if len(layers) > 1 else layers
        yield from (each for group in groups for each in _of_one_size(model, group))


def _matrices(model: Transformer) -> Iterator[Group]:
    """Matrices and tables one by one."""
    for name, part in _parts(model):
        if model.get_parameter(name).dim() > 1:
            yield from _of_one_size(model, {name: _mask(model, name, part)})


def _parts(model: Transformer) -> Iterator[tuple[str, slice]]:
    """Name and rows of every parameter, queries, keys and values apart, in the order of ``_groups``."""
    named = list(model.named_parameters())
    for name, parameter in sorted(named, key=lambda each: not each[0].startswith("embedding."), reverse=True):
        pieces = 3 if ".qkv." in name else 1
        rows = len(parameter) // pieces
        yield from ((name, slice(piece * rows, (piece + 1) * rows)) for piece in range(pieces))


def _mask(model: Transformer, name: str, rows: slice) -> Tensor:
    mask = torch.zeros_like(model.get_parameter(name), dtype=torch.bool)
    mask[rows] = True
    return mask


def _of_one_size(model: Transformer, group: Group) -> list[Group]:
    """The parts of a group whose numbers have one absolute value; the group itself if these are many, and at last."""
    values = torch.cat([model.get_parameter(name).detach()[mask].abs() for name, mask in group.items()])
    sizes = values[values > 0].unique()
    if not 1 < len(sizes) <= MOST_SIZES:
        return [group]
    numbers = {name: model.get_parameter(name).detach().abs() for name in group}
    return [*({name: mask & (numbers[name] == size) for name, mask in group.items()} for size in sizes), group]


def _columns(model: Transformer) -> Iterator[Group]:
    """Each coordinate that is used of a table of tokens."""
    for name, table in model.named_parameters():
        if name in ("embedding.tokens", "embedding.unembedding"):
            for column in table.detach().any(0).nonzero().flatten().tolist():
                mask = torch.zeros_like(table, dtype=torch.bool)
                mask[:, column] = True
                yield {name: mask}


def _is_used(model: Transformer, group: Group) -> bool:
    """Whether some number of a group is not zero."""
    return any(bool(model.get_parameter(name)[mask].any()) for name, mask in group.items())


@torch.no_grad()
def _scale(model: Transformer, groups: dict[float, Group]) -> None:
    """Multiply each group by its factor."""
    for factor, group in groups.items():
        for name, mask in group.items():
            model.get_parameter(name)[mask] *= factor
