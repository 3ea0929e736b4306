"""State tracking tasks of the field: the answer is the state that a string of moves leads to.

What ``paper`` draws:
    modular_sum, cycle_navigation: independent symbols, as Delétang et al.; the state after the last one is asked for.
    word_problem_*: independent elements, as Merrill et al.; the product up to every element is asked for.
    flip_flop: the language FFL(0.8) of Liu et al.: the first instruction writes and the last reads, others ignore with
        a chance of 0.8 and write or read with 0.1 each; every read is asked for. (A guesser is right at half of them,
        and so at no long string: chance 0.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lengen_fast.tasks.base import Geometry, Task
from lengen_fast.tasks.copying import CHOMSKY
from lengen_fast.tasks.monoids import Monoid, alternating, cyclic, symmetric
from lengen_fast.tasks.parametric import Numbered, ParametricTask
from lengen_fast.tasks.questions import Answer, answered, check_length, question, require, until

FLIP_FLOP = "Liu et al., Exposing Attention Glitches with Flip-Flop Language Modeling, arXiv 2306.00946"
ILLUSION = "Merrill et al., The Illusion of State in State-Space Models, arXiv 2404.08819"
LONG_RUNS = "long neutral runs: zero to three {moves}, each in the first half of its own equal stretch, among {neutral}"

MOVES = {"0": 0, "+": 1, "-": -1}
WRITE, READ, IGNORE, FIRST_BIT = 0, 1, 2, 3


def modular_sum(task: Task, tokens: np.ndarray) -> Answer:
    """The sum of x modulo the number of symbols."""
    x = question(task, tokens, len(task.symbols))
    return answered(task, x, [int(x.sum()) % len(task.symbols)])


def cycle_navigation(task: ParametricTask, tokens: np.ndarray) -> Answer:
    """Where the moves of x lead on the cycle, from position 0."""
    x = question(task, tokens, len(MOVES))
    steps = np.array(list(MOVES.values()))
    return answered(task, x, [len(MOVES) + int(steps[x].sum()) % task.parameters[0]])


def flip_flop(task: Task, tokens: np.ndarray) -> Answer:
    """At each read, the bit written last."""
    x = until(task, tokens, task.eos, "EOS")
    check_length(task, len(x))
    instructions, bits = x[::2], x[1::2]
    require(
        bool(np.isin(instructions, (WRITE, READ, IGNORE)).all()), task, "must have an instruction at each even place"
    )
    require(bool(np.isin(bits, (FIRST_BIT, FIRST_BIT + 1)).all()), task, "must have a bit behind each instruction")
    require(instructions[0] == WRITE and instructions[-1] == READ, task, "must begin with w and end with r and a bit")
    reads = np.flatnonzero(instructions == READ)
    memory: list[int] = []
    for instruction, bit in zip(instructions.tolist(), bits.tolist(), strict=True):
        memory.append(bit if instruction == WRITE else memory[-1])
    targets = np.array(memory, dtype=np.int64)[reads]
    require(np.array_equal(bits[reads], targets), task, "must have the bit written last behind each r")
    return 2 * reads + 1, targets


def word_problem_answer(task: ParametricTask, tokens: np.ndarray) -> Answer:
    """At each element, the product of all up to it."""
    x = until(task, tokens, task.eos, "EOS")
    check_length(task, len(x))
    count = len(task.symbols)
    require(bool(np.all((x >= 0) & (x < count))), task, f"must have only ids 0..{count - 1} before EOS")
    table = _table_of(task).tolist()
    products = [task.parameters[0]]
    for element in x.tolist():
        products.append(table[products[-1]][element])
    return np.arange(1, len(x) + 1), np.array(products[1:], dtype=np.int64)


def _table_of(task: ParametricTask) -> np.ndarray:
    """[m, m] int64, the products of the elements."""
    count = len(task.symbols)
    return np.array(task.parameters[1:], dtype=np.int64).reshape(count, count)


def _one_answer(n: int) -> int:
    return n + 4


def _framed(n: int) -> int:
    return n + 2


def _modular_sum(name: str, modulus: int) -> Task:
    return ParametricTask(
        name=name,
        family="state tracking",
        description=f"the sum of digits modulo {modulus} (modular_sum_M: modulo M)",
        hard_means=LONG_RUNS.format(moves="digits that are not 0", neutral="zeros"),
        citation=CHOMSKY,
        symbols=tuple(map(str, range(modulus))),
        geometry=Geometry(1, tokens_at=_one_answer, context_for=_one_answer),
        answer=modular_sum,
        chance=1 / modulus,
        engine="modular_sum",
    )


def _cycle_navigation(name: str, positions: int) -> Task:
    return ParametricTask(
        name=name,
        family="state tracking",
        description=f"where steps lead on a cycle of {positions} positions (cycle_navigation_M: of M)",
        hard_means=LONG_RUNS.format(moves="steps", neutral="moves that stay"),
        citation=CHOMSKY,
        symbols=(*MOVES, *(f"p{position}" for position in range(positions))),
        geometry=Geometry(1, tokens_at=_one_answer, context_for=_one_answer),
        answer=cycle_navigation,
        chance=1 / positions,
        engine="cycle_navigation",
        parameters=(positions,),
    )


@dataclass(frozen=True)
class OwnWordProblem(ParametricTask):
    """The word problem of a monoid that a user gave by its table."""

    def definition(self) -> dict:
        return super().definition() | {"elements": list(self.symbols), "table": _table_of(self).tolist()}


def word_problem_of(name: str, monoid: Monoid, description: str, kind: type[ParametricTask] = ParametricTask) -> Task:
    """The word problem of a monoid, as a task of that name."""
    return kind(
        name=name,
        family="state tracking",
        description=description,
        hard_means=LONG_RUNS.format(moves="elements other than the identity", neutral="identities"),
        citation=ILLUSION,
        symbols=monoid.names,
        geometry=Geometry(1, tokens_at=_framed, context_for=_framed),
        answer=word_problem_answer,
        engine="word_problem",
        parameters=(monoid.identity, *monoid.table.ravel().tolist()),
    )


def word_problem(
    table: Sequence[Sequence[int]], *, names: Sequence[str] | None = None, name: str = "word_problem"
) -> Task:
    """The word problem of a finite monoid or group: at every element of a word, the product of all up to it.

    Args:
        table: m rows of m numbers, m in 2..256; ``table[a][b]`` is the number of the product of elements a and b.
        names: of the elements; None: their numbers.
        name: what to call the task.

    Raises:
        ValueError: the table is not square, has no identity or is not associative; the sentence says where.
    """
    monoid = Monoid.checked(table, names)
    description = f"the products of a word over a monoid of {len(monoid.names)} elements"
    return word_problem_of(name, monoid, description, OwnWordProblem)


def _groups(letter: str, low: int, high: int, group: Callable[[int], Monoid], title: str) -> Numbered:
    def make(name: str, number: int) -> Task:
        upper = letter.upper()
        return word_problem_of(name, group(number), f"the products of a word over the {title} group {upper}{number}")

    means = "its order" if group is cyclic else "how many points it permutes"
    return Numbered(f"word_problem_{letter}", low, high, means, make)


FLIP_FLOP_TASK = Task(
    name="flip_flop",
    family="state tracking",
    description="the bit written last, at each read in a string of writes, reads and bits to ignore",
    hard_means="long neutral runs: writes and reads are one in a hundred each, and every ignored bit is the other one",
    citation=FLIP_FLOP,
    symbols=("w", "r", "i", "0", "1"),
    geometry=Geometry(4, tokens_at=_framed, context_for=_framed, stride=2),
    answer=flip_flop,
)

MODULAR_SUMS = Numbered("modular_sum_", 2, 256, "the modulus", _modular_sum)
CYCLES = Numbered("cycle_navigation_", 2, 1000, "the number of positions", _cycle_navigation)
CYCLIC_GROUPS = _groups("z", 2, 256, cyclic, "cyclic")
SYMMETRIC_GROUPS = _groups("s", 2, 5, symmetric, "symmetric")
ALTERNATING_GROUPS = _groups("a", 3, 5, alternating, "alternating")

STATE_TRACKING = (
    _modular_sum("modular_sum", 5),
    _cycle_navigation("cycle_navigation", 5),
    FLIP_FLOP_TASK,
    CYCLIC_GROUPS.numbered(60),
    SYMMETRIC_GROUPS.numbered(3),
    ALTERNATING_GROUPS.numbered(5),
    SYMMETRIC_GROUPS.numbered(5),
)
