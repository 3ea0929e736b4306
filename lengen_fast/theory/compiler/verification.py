"""A compiled model beside the interpreter: on random strings, and on orders that are hard for sums and near ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lengen_fast.data import check_integer
from lengen_fast.model import Transformer
from lengen_fast.ops.packing import Packing
from lengen_fast.theory.crasp.syntax import BOS, SEP

if TYPE_CHECKING:
    from lengen_fast.theory.crasp.program import Program


@dataclass(frozen=True)
class Verification:
    """What a comparison found.

    Attributes:
        strings, tokens: compared, of which every position counts.
        wrong: positions at which some NEXT value differs.
        first_wrong: tokens of the shortest prefix whose last value is wrong; None if none is.
    """

    strings: int
    tokens: int
    wrong: int
    first_wrong: int | None


def verify(program: Program, model: Transformer, length: int, strings: int = 8, seed: int = 0) -> Verification:
    """Compare every NEXT value of a model that was compiled without a task, at random offsets.

    Args:
        program: the truth, by its interpreter.
        model: what was compiled from it.
        length: tokens of a string, ``<bos>`` included.
        strings: how many, taken in turn from ``hard_strings``.
        seed: of the strings and of the offsets.
    """
    length = check_integer("length", length, 1, 2**31)
    generator = np.random.default_rng(seed)
    wrong, first = 0, None
    for tokens in _first(hard_strings(program, length, generator), strings):
        differ = differences(program, model, tokens, int(generator.integers(0, 1000)))
        wrong += int(differ.sum())
        if differ.any():
            place = int(differ.argmax()) + 1
            first = place if first is None else min(first, place)
    return Verification(strings, strings * length, wrong, first)


@torch.no_grad()
def differences(program: Program, model: Transformer, tokens: np.ndarray, offset: int = 0) -> np.ndarray:
    """[T] bool: where the model's NEXT values are not those of the program."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(tokens).to(device)
    packing = Packing.uniform(1, len(ids), device=device)
    found = model(ids, cu_seqlens=packing, offsets=torch.tensor([offset], device=device))
    columns = [program.token(symbol) for symbol in program.next_symbols]
    return (found[:, columns].double().cpu().numpy() != program.legal(tokens, offset)).any(axis=1)


def hard_strings(program: Program, length: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """[T] strings without end: random ones, blocks (all of one symbol, then all of the next), turns, near ties.

    Programs that know of ``<sep>`` get one in half of them.
    """
    symbols, bos, sep = len(program.alphabet), program.token(BOS), program.token(SEP)
    makers = (_random, _blocks, _turns, _near_tie)
    number = 0
    while True:
        order = generator.permutation(symbols)
        body = makers[number % len(makers)](length - 1, order, generator)
        if number // len(makers) % 2 and length > 2:
            body[generator.integers(length // 2, length - 1)] = sep
        yield np.concatenate([[bos], body]).astype(np.int64)
        number += 1


def _random(length: int, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return generator.choice(order, length)


def _blocks(length: int, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Equal blocks: the partial sums of a difference rise to the middle and fall to nothing."""
    return order[np.arange(length) * len(order) // max(length, 1)]


def _turns(length: int, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return order[np.arange(length) % len(order)]


def _near_tie(length: int, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return generator.permutation(_turns(length, order, generator))


def _first(strings: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    for _ in range(count):
        yield next(strings)
