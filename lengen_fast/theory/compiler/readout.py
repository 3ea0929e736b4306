"""From NEXT lines to logits: one for each token, or for the classes of a language's legal sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lengen_fast.theory.compiler.layout import Place, Truth
from lengen_fast.theory.crasp import bridge
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.crasp.syntax import BOS, END, SEP

if TYPE_CHECKING:
    from lengen_fast.tasks import Task

Logit = list[tuple[Place, int]]


def token_names(program: Program, task: Task | None) -> list[str | None]:
    """Names of the model's tokens by id; None for the labels of a language, which are in no input."""
    if task is None:
        return list(program.vocabulary)
    bridge.check_alphabet(program, task)
    inputs = set(bridge.input_symbols(task))
    return [*(name if name in inputs else None for name in task.symbols), BOS, SEP, END]


def logits(program: Program, task: Task | None, literals: dict[str, int], true: Place) -> list[Logit]:
    """For each token the places whose weighted sum is its logit.

    A token that a NEXT line predicts has that line's value, 0 or 1, and every other one 0. A class of a language has 0
    where the legal set is its own and less elsewhere, and no other token comes near.
    """
    next_value = {
        symbol: _literal(literals[name], true)
        for symbol, name in zip(program.next_symbols, program.next_names, strict=True)
        if name in literals
    }
    if task is None or not hasattr(task, "labels"):
        return [next_value.get(name, []) for name in token_names(program, task)]
    far = len(program.next_symbols) + 2
    table: list[Logit] = [[(true, -far)] for _ in range(task.vocab_size)]
    if task.labels == "membership":
        member = next_value.get(END)
        inside, outside = task.symbols.index("{in}"), task.symbols.index("{out}")
        table[inside] = [*_times(member or [], 2), (true, -1)]
        table[outside] = []
        return table
    for members, token in bridge.class_ids(program, task).items():
        table[token] = _class(members, program, next_value, true, with_end=task.labels == "legal+end")
    return table


def _literal(literal: int, true: Place) -> Logit:
    """1 where a literal holds, else 0; a negation out of the signal and what all tokens have in common."""
    return [(Truth(literal), 1)] if literal >= 0 else [(true, 1), (Truth(~literal), -1)]


def _times(logit: Logit, factor: int) -> Logit:
    return [(place, factor * weight) for place, weight in logit]


def _class(
    members: tuple[bool, ...], program: Program, next_value: dict[str, Logit], true: Place, with_end: bool
) -> Logit:
    symbols = program.next_symbols if with_end else program.alphabet
    given = [(next_value[s], 1 if m else -1) for s, m in zip(symbols, members, strict=False) if s in next_value]
    return [*(term for logit, factor in given for term in _times(logit, factor)), (true, -sum(members))]
