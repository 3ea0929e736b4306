"""Verdicts for tasks that are no regular languages: by a program, or by what their oracle answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.tasks import Task
from lengen_fast.tasks import task as task_named
from lengen_fast.theory import regular
from lengen_fast.theory.checks import check_task
from lengen_fast.theory.communication import FoolingFamily, fooling_family
from lengen_fast.theory.crasp import Program, program_for
from lengen_fast.theory.learning import Learned, learn
from lengen_fast.theory.questions import Questions, has_answers
from lengen_fast.theory.search import Bounds, search
from lengen_fast.theory.verdict import FAILS, FRAGMENTS, GENERALIZES, UNKNOWN, Outlook

SYMBOLS_TRIED = 12
"""Of a task whose alphabet grows."""
SHORT_WORDS = 500
WITH_POSITIONS = Bounds(period=2, window=1)

Outlooks = tuple[Outlook, Outlook]


def outlooks(task: Task) -> Outlooks:
    """The verdicts with learned absolute positions and without any."""
    small = task_named(task.name, symbols=SYMBOLS_TRIED) if task.alphabet_grows else task
    program = program_for(small)
    if program is None:
        return _by_oracle(small)
    ape = _solved(small, "ape", program, "The program of the standard library")
    if program.fragment == "[]":
        return ape, replace(ape, positions="nope")
    _, nope = _by_oracle(small)
    return ape, nope


def _solved(task: Task, positions: str, program: Program, whose: str) -> Outlook:
    claim = f"{whose}, in C-RASP{program.fragment}, gives every scored token."
    return Outlook(positions, GENERALIZES, claim, str(check_task(program, task)), program)


def _by_oracle(task: Task) -> Outlooks:
    """What the answers alone show: a fooling family, a small automaton, or a small program that gives them."""
    if task.alphabet_grows:
        claim = (
            "No test of its oracle applies, because its alphabet grows with its strings: no automaton, no family of "
            "words and no program found for one alphabet stands for the task."
        )
        return tuple(Outlook(positions, UNKNOWN, claim, "nothing") for positions in ("ape", "nope"))
    if has_answers(task):
        questions = Questions(task)
        found = _by_automaton(questions)
        if found is not None:
            return found
        family = fooling_family(questions)
        if family is not None:
            return tuple(_fooled(questions, family, positions) for positions in ("ape", "nope"))
    return _by_search(task)


# ---- communication ----


def _fooled(questions: Questions, family: FoolingFamily, positions: str) -> Outlook:
    claim = (
        "More than O(log N) bits of the first N symbols matter for the answer, which excludes every periodic and local "
        "Limit Transformer (communication bound of arXiv 2410.02140), if the family goes on as far as it was checked."
    )
    checked = (
        f"all pairs of members of up to {family.exhaustive} symbols, and {family.pairs} pairs each of "
        f"{' and '.join(map(str, family.lengths))} symbols, are told apart"
    )
    return Outlook(positions, FAILS, claim, checked, witness=family, alphabet=tuple(questions.task.symbols))


# ---- automata ----


def _by_automaton(questions: Questions) -> Outlooks | None:
    """Verdicts for the automaton that gives the answer to every word; None: there is none with few states."""
    learned = learned_answers(questions)
    if learned is None:
        return None
    alphabet = tuple(questions.task.symbols[symbol] for symbol in questions.symbols)
    kinds = {answer: number for number, answer in enumerate(dict.fromkeys(learned.values))}
    marks = np.array([kinds[answer] for answer in learned.values])
    automaton = Automaton(alphabet, learned.transitions, marks == 0)
    lines = {f"ANSWER_{number}": marks == number for number in kinds.values()}
    machine = regular.Machine.of(automaton, marks, "the state", lines)
    found = regular.outlooks(machine)
    if any(each.outcome == GENERALIZES for each in found):
        return None  # the search may find the program of the task itself
    evidence = (
        f"the automaton gives the answers to all words up to length {learned.exhaustive} and to {learned.strings} of "
        f"length {learned.length}"
    )
    of_what = f"Its answers are those of an automaton with {machine.automaton.states} states. "
    return tuple(replace(each, claim=of_what + each.claim, checked=f"{evidence}; {each.checked}") for each in found)


def learned_answers(questions: Questions) -> Learned | None:
    """The automaton of the answers, if every word is a question and few states are enough."""
    symbols = questions.symbols
    ask = lambda word: questions.answer(tuple(symbols[symbol] for symbol in word))  # noqa: E731
    words: list[tuple[int, ...]] = [()]
    for word in words:
        if len(word) >= questions.task.min_length and ask(word) is None:
            return None
        if len(words) < SHORT_WORDS:
            words += [(*word, symbol) for symbol in range(len(symbols))]
    return learn(ask, len(symbols))


# ---- search ----


def _by_search(task: Task) -> Outlooks:
    program = search(task, Bounds())
    if program is not None:
        ape = _solved(task, "ape", program, "A program found by search")
        return ape, replace(ape, positions="nope")
    nope = _not_found("nope", Bounds())
    program = search(task, WITH_POSITIONS)
    if program is not None:
        return _solved(task, "ape", program, "A program found by search"), nope
    return _not_found("ape", WITH_POSITIONS), nope


def _not_found(positions: str, bounds: Bounds) -> Outlook:
    claim = f"Found no program of {FRAGMENTS[positions]}, which does not exclude one."
    return Outlook(
        positions, UNKNOWN, claim, f"searched with {bounds}; no small automaton and no fooling family was found"
    )
