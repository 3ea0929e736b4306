"""Arithmetic tasks of the field: decimal addition in both digit orders, of two operands or more.

What ``paper`` draws: uniform digits, the leading one of a longer number not 0. With one length n, which counts digits,
signs and =, two operands are cut at a uniform place; several, 2 to 10 as far as they fit, in every way alike.
"""

from __future__ import annotations

import numpy as np

from lengen_fast.tasks.base import Geometry, Task
from lengen_fast.tasks.pairs import MANY_NUMBERS, TWO_NUMBERS, PairedTask
from lengen_fast.tasks.questions import Answer, check_length, require, scored_behind, until

ABACUS = "McLeish et al., Transformers Can Do Arithmetic with the Right Embeddings, arXiv 2405.17399"
COUPLING = (
    "Cho et al., Arithmetic Transformers Can Length-Generalize in Both Operand Length and Count, arXiv 2410.15787"
)
PLUS, EQUALS = 10, 11


def most_significant_first(task: Task, tokens: np.ndarray) -> Answer:
    """The sum, its most significant digit first."""
    return _sum_of(task, tokens, -1)


def least_significant_first(task: Task, tokens: np.ndarray) -> Answer:
    """The sum, its least significant digit first."""
    return _sum_of(task, tokens, 1)


def _sum_of(task: PairedTask, tokens: np.ndarray, order: int) -> Answer:
    x = until(task, tokens, EQUALS, "=")
    require(bool(np.all((x >= 0) & (x <= PLUS))), task, "must have only digits and + before =")
    numbers = [part[part != PLUS] for part in np.split(x, np.flatnonzero(x == PLUS))]
    most = task.pairs.greatest.first if task.pairs is MANY_NUMBERS else 2
    require(2 <= len(numbers) <= most, task, "must have one +" if most == 2 else f"must have 2 to {most} numbers")
    require(all(map(len, numbers)), task, "must have a digit on either side of +")
    check_length(task, len(x) + 1)
    columns = np.zeros(max(map(len, numbers)), dtype=np.int64)
    for number in numbers:
        digits = number[::order]  # least significant first
        require(len(digits) == 1 or digits[-1] != 0, task, "must have no leading zero in a number")
        columns[: len(digits)] += digits
    return scored_behind(task, len(x) + 1, np.array(_carried(columns.tolist()))[::order])


def _carried(columns: list[int]) -> list[int]:
    """Digits of a number whose columns may hold more than 9, least significant first."""
    digits, carry = [], 0
    for column in columns:
        carry, digit = divmod(column + carry, 10)
        digits.append(digit)
    digits += [int(digit) for digit in reversed(str(carry))]
    while len(digits) > 1 and digits[-1] == 0:
        digits.pop()
    return digits


def _addition(name: str, least_first: bool) -> PairedTask:
    many = name.startswith("multi")
    numbers = "2 to 10 decimal numbers" if many else "two decimal numbers"
    return PairedTask(
        name=name,
        family="arithmetic",
        description=f"add {numbers}, every one {'least' if least_first else 'most'} significant digit first",
        hard_means="long carry chains: a column in the lower half starts a carry, or with equal chance stops any, and "
        "every column above it up to the leading digit of the longest number hands the carry on",
        citation=COUPLING if many else ABACUS,
        symbols=(*map(str, range(10)), "+", "="),
        geometry=Geometry(4, tokens_at=lambda n: 2 * n, context_for=lambda longest: 2 * longest),
        answer=least_significant_first if least_first else most_significant_first,
        pairs=MANY_NUMBERS if many else TWO_NUMBERS,
    )


ARITHMETIC = tuple(
    _addition(name + ("_reversed" if least_first else ""), least_first)
    for name in ("decimal_addition", "multi_operand_addition")
    for least_first in (False, True)
)
