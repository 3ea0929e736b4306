"""The tasks in plain Python, the way one writes a dataset's row generator: lists, ``random`` and ``Counter``.

A function draws a question x of length n and its answer y, or, where what is scored is no answer behind the question,
all that stands between BOS and EOS, its scored places and their targets.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice, pairwise

from lengen_fast.tasks import Task, task

EVEN, ODD = 2, 3  # symbols of parity
PLUS, EQUALS = 2, 3  # symbols of addition


def binary_majority(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    zeros = rng.randint(0, n)
    while 2 * zeros == n:
        zeros = rng.randint(0, n)
    x = [0] * zeros + [1] * (n - zeros)
    rng.shuffle(x)
    return x, [int(2 * zeros < n)]


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


def mode(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    while True:
        x = rng.choices(range(symbols), k=n)
        leaders = Counter(x).most_common(2)
        if len(leaders) == 1 or leaders[0][1] > leaders[1][1]:
            return x, [leaders[0][0]]


def histogram(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    counts = []
    while n > 0:
        counts.append(rng.randint(1, min(9, n)))
        n -= counts[-1]
    x = rng.sample(range(symbols), len(counts))
    x = [symbol for symbol, count in zip(x, counts, strict=True) for _ in range(count)]
    rng.shuffle(x)
    often = Counter(x)
    return x, [symbols - 1 + often[symbol] for symbol in x]


def count(rng: random.Random, n: int, symbols: int, *, k: int) -> tuple[list[int], list[int]]:
    ones = k if rng.random() < 0.5 else rng.choice([m for m in range(n + 1) if m != k])
    x = [1] * ones + [0] * (n - ones)
    rng.shuffle(x)
    return x, [3 if ones == k else 2]


def reverse(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.choices((0, 1), k=n)
    return x, x[::-1]


def duplicate(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.choices((0, 1), k=n)
    return x, x + x


def selective_copy(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    y = rng.choices(range(16), k=rng.randint(1, n))
    x = [16] * n
    for place, letter in zip(sorted(rng.sample(range(n), len(y))), y, strict=True):
        x[place] = letter
    return x, y


def bucket_sort(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.choices(range(symbols), k=n)
    return x, sorted(x)


def modular_sum(rng: random.Random, n: int, symbols: int) -> tuple[list[int], list[int]]:
    x = rng.choices(range(symbols), k=n)
    return x, [sum(x) % symbols]


def cycle_navigation(rng: random.Random, n: int, symbols: int, *, positions: int) -> tuple[list[int], list[int]]:
    x = rng.choices((0, 1, 2), k=n)
    return x, [3 + (x.count(1) - x.count(2)) % positions]


Labelled = tuple[list[int], Sequence[int], list[int]]


def flip_flop(rng: random.Random, n: int, symbols: int) -> Labelled:
    x, scored, targets = [], [], []
    instructions = [0, *rng.choices((0, 1, 2), weights=(0.1, 0.1, 0.8), k=n // 2 - 2), 1]
    for instruction, bit in zip(instructions, rng.choices((3, 4), k=n // 2), strict=True):
        if instruction == 0:
            memory = bit
        if instruction == 1:
            scored.append(len(x) + 1)
            targets.append(memory)
        x += [instruction, memory if instruction == 1 else bit]
    return x, scored, targets


def word_problem(rng: random.Random, n: int, symbols: int, *, table: list[list[int]]) -> Labelled:
    x = rng.choices(range(symbols), k=n)
    return x, range(1, n + 1), list(accumulate(x, lambda product, element: table[product][element]))


def mqar(rng: random.Random, n: int, symbols: int) -> Labelled:
    keys = rng.sample(range(symbols), n // 2)
    values = rng.choices(range(symbols, symbols + 16), k=n // 2)
    value_of = dict(zip(keys, values, strict=True))
    x = [token for pair in zip(keys, values, strict=True) for token in pair]
    rng.shuffle(keys)
    separator = symbols + 16 + 1
    return [*x, separator, *keys], range(n + 2, n + 2 + len(keys)), [value_of[key] for key in keys]


def induction_head(rng: random.Random, n: int, symbols: int) -> Labelled:
    trigger, first = 16, rng.randint(0, n - 3)
    x = rng.choices(range(16), k=n)
    x[first] = x[-1] = trigger
    eos = trigger + 3
    return [*x, x[first + 1]], range(n, n + 2), [x[first + 1], eos]


def decimal_addition(rng: random.Random, n: int, symbols: int, *, order: int = 1) -> tuple[list[int], list[int]]:
    size = rng.randint(1, n - 3)
    return _sum([_decimal(rng, size), _decimal(rng, n - 2 - size)], order)


def multi_operand_addition(rng: random.Random, n: int, symbols: int, *, order: int = 1) -> tuple[list[int], list[int]]:
    operands = rng.randint(2, min(10, n // 2))
    digits = n - operands
    cuts = [0, *sorted(rng.sample(range(1, digits), operands - 1)), digits]
    return _sum([_decimal(rng, end - begin) for begin, end in pairwise(cuts)], order)


def _decimal(rng: random.Random, digits: int) -> int:
    return rng.randrange(0 if digits == 1 else 10 ** (digits - 1), 10**digits)


def _sum(numbers: list[int], order: int) -> tuple[list[int], list[int]]:
    x = []
    for number in numbers:
        x += [*map(int, str(number)[::order]), 10]
    return x[:-1], [int(digit) for digit in str(sum(numbers))[::order]]


def _table(name: str) -> list[list[int]]:
    _, *products = task(name).parameters
    elements = len(task(name).symbols)
    return [products[i : i + elements] for i in range(0, len(products), elements)]


DRAW = {
    "binary_majority": binary_majority,
    "majority": mode,
    "mode": mode,
    "binary_majority_interleave": binary_majority_interleave,
    "histogram": histogram,
    "count_3": partial(count, k=3),
    "unique_copy": unique_copy,
    "repeat_copy": repeat_copy,
    "reverse": reverse,
    "duplicate": duplicate,
    "selective_copy": selective_copy,
    "sort": sort,
    "bucket_sort": bucket_sort,
    "parity": parity,
    "modular_sum": modular_sum,
    "cycle_navigation": partial(cycle_navigation, positions=5),
    "flip_flop": flip_flop,
    **{
        name: partial(word_problem, table=_table(name))
        for name in ("word_problem_z60", "word_problem_s3", "word_problem_a5", "word_problem_s5")
    },
    "mqar": mqar,
    "induction_head": induction_head,
    "addition": addition,
    "decimal_addition": decimal_addition,
    "decimal_addition_reversed": partial(decimal_addition, order=-1),
    "multi_operand_addition": multi_operand_addition,
    "multi_operand_addition_reversed": partial(multi_operand_addition, order=-1),
    "offset_copy_1": partial(offset_copy, k=1),
    "offset_copy_2": partial(offset_copy, k=2),
    "offset_copy_3": partial(offset_copy, k=3),
}
SIGN_FOR_SEPARATOR = {"addition": EQUALS} | {name: 11 for name in DRAW if "_addition" in name}  # it is =


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
    bos, eos, separator = task.bos, task.eos, SIGN_FOR_SEPARATOR.get(task.name, task.sep)
    while True:
        x, *answer = draw(rng, rng.choice(reachable), symbols)
        if len(answer) == 1:
            tokens = [bos, *x, separator, *answer[0], eos]
            scored, targets = range(len(x) + 1, len(tokens) - 1), tokens[len(x) + 2 :]
        else:
            tokens = [bos, *x, eos]
            scored, targets = answer
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
