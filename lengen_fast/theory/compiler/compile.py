"""``Program.compile``: program -> circuit -> layout -> guarantee -> weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lengen_fast.data import check_integer
from lengen_fast.model import Transformer
from lengen_fast.theory.compiler.layout import Layout, Truth
from lengen_fast.theory.compiler.lowering import lower
from lengen_fast.theory.compiler.precision import PRECISIONS, guaranteed_length
from lengen_fast.theory.compiler.readout import logits, token_names
from lengen_fast.theory.compiler.weights import build

if TYPE_CHECKING:
    from lengen_fast.tasks import Task
    from lengen_fast.theory.crasp.program import Program


@dataclass(frozen=True)
class Guarantee:
    """What is known of a compiled model without running it.

    Attributes:
        tokens: strings up to so many tokens, at any offset, get exactly the values of the program.
        dtype: of the parameters, by name.
        counts: "shared", every count has a mean of its own; or "differences", every comparison one.
        depth: counting depth of the program, which no model with fewer layers can have.
        layers, heads, head_width, width, units: the shape of the model.
    """

    tokens: int
    dtype: str
    counts: str
    depth: int
    layers: int
    heads: int
    head_width: int
    width: int
    units: int


class CompiledTransformer(Transformer):
    """A ``Transformer`` whose weights are those of a program; ``guarantee`` says how far it is exact."""

    guarantee: Guarantee


def compile_program(
    program: Program,
    max_length: int,
    dtype: torch.dtype | str = torch.float32,
    task: Task | str | None = None,
    most_values: int | None = None,
) -> CompiledTransformer:
    """A transformer that computes a program.

    Every string begins with ``<bos>``, and has no other. Without a task the tokens are those of the program, and the
    logit of a token is the value, 0 or 1, of its NEXT line. With one they are the task's, so that ``lf.evaluate`` takes
    the model: the answer, or for a language the class of the legal set, has the largest logit.

    Args:
        program: with NEXT lines.
        max_length: tokens of the longest string that must be right.
        dtype: of the parameters: torch.float32, torch.float64, torch.float16 or torch.bfloat16, or its name.
        task: whose tokens and targets the model is to have, or its name.
        most_values: that one head carries, which bounds the rank of its value matrix; None: as many as it is wide.

    Raises:
        TypeError: ``task`` is neither a task nor a name.
        ValueError: no guarantee reaches ``max_length`` in this dtype; the message says which dtype's does. Or the
            program has no NEXT lines, another alphabet than the task, or needs too wide a model.
    """
    max_length = check_integer("max_length", max_length, 1, 2**62)
    dtype, task = _dtype(dtype), _task(task)
    if not set(program.outputs) & set(program.next_names):
        raise ValueError("the program predicts nothing: a compiled program needs lines NEXT_s or NEXT_<end>")
    circuit, literals = lower(program)
    layout, tokens = _best_layout(circuit, literals, max_length, dtype)
    if tokens < max_length:
        raise ValueError(_refusal(circuit, literals, max_length, dtype, tokens))
    names = token_names(program, task)
    readout = logits(program, task, literals, Truth(circuit.true))
    model = build(layout, PRECISIONS[dtype], names, readout, most_values)
    model.__class__ = CompiledTransformer
    config = model.config
    model.guarantee = Guarantee(
        tokens=tokens,
        dtype=PRECISIONS[dtype].name,
        counts="differences" if layout.differences else "shared",
        depth=program.depth,
        layers=config.layers,
        heads=config.heads,
        head_width=config.head_width,
        width=config.width,
        units=config.units,
    )
    return model.eval()


def _dtype(given: torch.dtype | str) -> torch.dtype:
    named = {precision.name: dtype for dtype, precision in PRECISIONS.items()}
    dtype = named.get(given, given) if isinstance(given, str) else given
    if dtype not in PRECISIONS:
        raise ValueError(f"dtype must be one of {', '.join(map(str, PRECISIONS))}, or its name, got {given!r}")
    return dtype


def _task(given: Task | str | None) -> Task | None:
    from lengen_fast.tasks import task

    found = task(given) if isinstance(given, str) else given
    if found is not None and not hasattr(found, "vocab_size"):
        raise TypeError(f"task is {given!r}; it must be a task, as of lf.task('parity'), or its name")
    return found


def _best_layout(circuit, literals: dict[str, int], max_length: int, dtype: torch.dtype) -> tuple[Layout, int]:
    """The narrower layout of those that are guaranteed to the length; else the one that is guaranteed farthest."""
    layouts = [Layout(circuit, list(literals.values()), differences) for differences in (False, True)]
    found = [(layout, guaranteed_length(layout, PRECISIONS[dtype])) for layout in layouts]
    good = [pair for pair in found if pair[1] >= max_length]
    if good:
        return min(good, key=lambda pair: len(pair[0].places))
    return max(found, key=lambda pair: pair[1])


def _refusal(circuit, literals: dict[str, int], max_length: int, dtype: torch.dtype, tokens: int) -> str:
    others = {other: _best_layout(circuit, literals, max_length, other)[1] for other in PRECISIONS if other != dtype}
    enough = [f"dtype={other} reaches {length:,}" for other, length in others.items() if length >= max_length]
    advice = " and ".join(enough) if enough else f"the most in any dtype is {max([tokens, *others.values()]):,}"
    return (
        f"max_length is {max_length:,}, and in {PRECISIONS[dtype].name} the model is guaranteed exact up to {tokens:,} "
        f"tokens; {advice}"
    )
