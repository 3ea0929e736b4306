"""Limit Transformers as ordinary ones: what a head knows of distances, as products of position vectors.

The theorem of arXiv 2410.02140 (section 3) takes a PERIODIC and LOCAL Limit Transformer to a T_n of every context n:
its position functions phi(i, j) become products p_j^T K^T Q p_i. For a local phi these have a rank that grows with n,
and so has the width, which R(T) does not count. Here position i is a unit vector of its own; what is added to R is its
norm, the norm of K^T Q that phi takes, and the sum of the squares of phi.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.tasks import Task
from lengen_fast.theory.compiler import compile_program
from lengen_fast.theory.crasp.bridge import program_for
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.regularizer import Regularizer

LANES = 8  # head widths that the CPU kernel likes are multiples


def from_program(task: Task, context: int, accept: Callable[[Transformer], bool]) -> Transformer | None:
    """An ordinary transformer that computes the task's program of the standard library; None if it has none.

    Of some ways to deal values out to heads it is the one that promises the least R. Its steps are
    rectified lines, as the units of trained models are, where ``accept`` takes that.
    """
    program = program_for(task)
    if program is None:
        return None
    compiled = min(_compiled(program, task, context), key=_what_splits_change)
    steps = realized(compiled, context)
    lines = with_lines(steps)
    return lines if accept(lines) else steps


def _compiled(program: Program, task: Task, tokens: int) -> Iterator[Transformer]:
    """Compiled models whose heads carry as many values as they are wide, half of them, and so on."""
    model = compile_program(program, tokens, task=task)
    yield model
    most = model.config.head_width // 2
    while most:
        yield compile_program(program, tokens, task=task, most_values=most)
        most //= 2


def _what_splits_change(model: Transformer) -> int:
    """The terms of R that depend on how values are dealt out, if the biases by distance came to be 1."""
    terms = Regularizer.of(model)
    biases = [block.attention.local_bias for block in model.blocks]
    return terms.size + terms.value_rank + sum(int(bias.count_nonzero()) for bias in biases if bias is not None)


@torch.no_grad()
def realized(model: Transformer, context: int) -> Transformer:
    """An ordinary transformer, of learned absolute positions, with the logits of a Limit Transformer or sharper ones.

    A bias phi(i - j) becomes the product of the position vectors of i and j, and so takes part in log-n scaling where
    there is any. The scale 1 / sqrt(D) of logits moves from the weights, which thereby are the numbers that the theory
    speaks of, into the factor of log-n scaling.

    Args:
        model: with positions that repeat or none.
        context: n, rows of the position table.

    Raises:
        ValueError: the positions do not repeat, so that they cannot be continued.
    """
    config = model.config
    if config.longest is not None:
        raise ValueError("model must have positions with a period, or none: a table of its own cannot be continued")
    ordinary = Transformer(_ordinary(config, context))
    for parameter in ordinary.parameters():
        parameter.zero_()
    content = config.width
    for table in ("tokens", "unembedding"):
        if hasattr(model.embedding, table):
            getattr(ordinary.embedding, table)[:, :content] = getattr(model.embedding, table)
    positions = ordinary.embedding.positions
    if config.period is not None:
        positions[:, :content] = model.embedding.positions[torch.arange(context) % config.period]
    positions[:, content:] = torch.eye(context)[:, : positions.shape[1] - content]
    for old, new in zip(model.blocks, ordinary.blocks, strict=True):
        _realize_attention(old.attention, new.attention, content, context)
        _realize_mlp(old.mlp, new.mlp, content)
    return ordinary


@torch.no_grad()
def with_lines(model: Transformer) -> Transformer:
    """A copy whose Heaviside units are ReLU units."""
    copied = Transformer(replace(model.config, heaviside_units=0))
    copied.load_state_dict(model.state_dict())
    return copied


def _ordinary(config: ModelConfig, context: int) -> ModelConfig:
    positions = context if config.local_reach else 0
    return replace(
        config,
        positions="ape",
        context=context,
        period=None,
        local_reach=0,
        width=config.width + positions,
        head_width=_square(_head_width(config) + positions),
    )


def _head_width(config: ModelConfig) -> int:
    return config.head_width or config.width // config.heads


def _square(least: int) -> int:
    """The first square that is so large and a multiple of ``LANES``: its root divides logits without rounding."""
    root = 4
    while root * root < least:
        root += 4
    return root * root


def _realize_attention(old, new, content: int, context: int) -> None:
    heads, width = old.heads, old.out.in_features // old.heads
    wide = new.out.in_features // heads
    weight, bias = (x.unflatten(0, (3, heads, width)).clone() for x in (old.qkv.weight, old.qkv.bias))
    for queries in (weight[0], bias[0]):
        queries *= width**-0.5
    new_weight, new_bias = (x.view(3, heads, wide, *x.shape[1:]) for x in (new.qkv.weight.data, new.qkv.bias.data))
    new_weight[:, :, :width, :content], new_bias[:, :, :width] = weight, bias
    new.out.weight.view(-1, heads, wide)[:content, :, :width] = old.out.weight.unflatten(1, (heads, width))
    new.out.bias[:content] = old.out.bias
    if new.log_n_factor is None:
        new_weight[0] *= math.isqrt(wide)
        new_bias[0] *= math.isqrt(wide)
    else:
        new.log_n_factor.copy_(old.log_n_factor * math.isqrt(wide))
    if old.local_bias is not None:
        rows = slice(width, width + context)
        new_weight[1, :, rows, content:] = torch.eye(context)
        new_weight[0, :, rows, content:] = _by_distance(old.local_bias, context)


def _by_distance(bias: Tensor, context: int) -> Tensor:
    """[H, W] by distance to [H, n, n]: phi(i - j) at (j, i)."""
    whole = bias.new_zeros(len(bias), context, context)
    for distance in range(min(bias.shape[1], context)):
        whole.diagonal(distance, 1, 2).copy_(bias[:, distance, None].expand(-1, context - distance))
    return whole


def _realize_mlp(old, new, content: int) -> None:
    new.expand.weight[:, :content], new.expand.bias[:] = old.expand.weight, old.expand.bias
    new.contract.weight[:content], new.contract.bias[:content] = old.contract.weight, old.contract.bias
