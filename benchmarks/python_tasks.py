"""The tasks in plain Python, the way one writes a dataset's row generator: lists, ``random`` and ``Counter``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from lengen_fast.tasks import Task

EVEN, ODD = 2, 3  # symbols of parity
PLUS, EQUALS = 2, 3  # symbols of addition


def binary_majority(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    zeros = rng.randint(0, n)
    while 2 * zeros == n:
        zeros = rng.randint(0, n)
    x = [0] * zeros + [1] * (n - zeros)
    rng.shuffle(x)
    return x, [int(2 * zeros < n)]


def majority(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    while True:
        x = rng.choices(range(26), k=n)
        leaders = Counter(x).most_common(2)
        if len(leaders) == 1 or leaders[0][1] > leaders[1][1]:
            return x, [leaders[0][0]]


def binary_majority_interleave(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    strings, bits = zip(*(binary_majority(rng, n // 3, symbols) for _ in range(3)), strict=True)
    return [symbol for triple in zip(*strings, strict=True) for symbol in triple], [bit for [bit] in bits]


def unique_copy(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.sample(range(symbols), n)
    return x, x


def repeat_copy(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.choices((0, 1), k=n)
    return x, x


def sort(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.sample(range(symbols), n)
    return x, sorted(x)


def parity(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    ones = rng.randint(0, n)
    x = [1] * ones + [0] * (n - ones)
    rng.shuffle(x)
    return x, [ODD if ones % 2 else EVEN]


def addition(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    size = rng.randint(1, n - 3)
    a, b = _number(rng, size), _number(rng, n - 2 - size)
    x = [*map(int, f"{a:b}"), PLUS, *map(int, f"{b:b}")]
    return x, [int(digit) for digit in f"{a + b:b}"]


def _number(rng: random.Random, digits: int) -> int:
    return rng.getrandbits(1) if digits == 1 else 1 << (digits - 1) | rng.getrandbits(digits - 1)


def offset_copy(rng: random.Random, n: int, symbols: int, *, k: int) -> tuple[list[int], list[int]]:
    filler = symbols
    x = [filler] * (k - 1) + rng.sample(range(symbols), n - k + 1)
    return x, x[k - 1 :: k]


DRAW = {
    "binary_majority": binary_majority,
    "majority": majority,
    "binary_majority_interleave": binary_majority_interleave,
    "unique_copy": unique_copy,
    "repeat_copy": repeat_copy,
    "sort": sort,
    "parity": parity,
    "addition": addition,
    "offset_copy_1": partial(offset_copy, k=1),
    "offset_copy_2": partial(offset_copy, k=2),
    "offset_copy_3": partial(offset_copy, k=3),
}


@dataclass(frozen=True)
class Row:
    """One string: its tokens, which of its places are scored, their targets, and the position of its first token."""

    tokens: list[int]
    scored: Sequence[int]
    targets: list[int]
    offset: int


def rows(task: Task, lengths: tuple[int, int], context: int, seed: int = 0) -> Iterator[Row]:
    """Rows of a task without end, lengths n uniform over an inclusive range and offsets over those that fit."""
    rng = random.Random(seed)
    draw, reachable = DRAW[task.name], task.reachable(*lengths)
    symbols = getattr(task.symbols, "count", len(task.symbols)) if task.alphabet_grows else len(task.symbols)
    separator = EQUALS if task.name == "addition" else task.sep
    while True:
        x, y = draw(rng, rng.choice(reachable), symbols)
        tokens = [task.bos, *x, separator, *y, task.eos]
        scored, targets = range(len(x) + 1, len(tokens) - 1), tokens[len(x) + 2 :]
        yield Row(tokens, scored, targets, rng.randint(0, context - len(tokens)))


def packed(source: Iterator[Row], count: int) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """tokens, cu_seqlens, offsets, scored and targets of the next ``count`` rows, as in ``lengen_fast.data.Batch``."""
    tokens, cu_seqlens, offsets, scored, targets = [], [0], [], [], []
    for row in islice(source, count):
        begin = len(tokens)
        tokens.extend(row.tokens)
        cu_seqlens.append(len(tokens))
        offsets.append(row.offset)
        if isinstance(row.scored, range):
            scored.extend(range(begin + row.scored.start, begin + row.scored.stop))
        else:
            scored.extend([begin + place for place in row.scored])
        targets.extend(row.targets)
    return tokens, cu_seqlens, offsets, scored, targets
