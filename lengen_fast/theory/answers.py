"""Verdicts for tasks that are no regular languages: by a program, or by what their oracle answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.tasks import Task
from lengen_fast.theory import regular
from lengen_fast.theory.checks import Disagreement, check_task
from lengen_fast.theory.communication import FoolingFamily, fooling_family
from lengen_fast.theory.confusion import Word
from lengen_fast.theory.crasp import Program, program_for
from lengen_fast.theory.learning import Learned, learn
from lengen_fast.theory.questions import PrefixQuestions, Questions, has_answers
from lengen_fast.theory.search import Bounds, search
from lengen_fast.theory.verdict import FAILS, FRAGMENTS, GENERALIZES, UNKNOWN, Outlook

SYMBOLS_TRIED = 12
"""Of a task whose alphabet grows."""
SHORT_WORDS = 500
FEW_SYMBOLS = 4
FEW_STATES, MANY_STATES = 24, 256
"""Of automata learned from answers: over every symbol of a task, and over a few."""
WITH_POSITIONS = Bounds(period=2, window=1)

Outlooks = tuple[Outlook, Outlook]


def outlooks(task: Task) -> Outlooks:
    """The verdicts with learned absolute positions and without any."""
    small = task.with_alphabet(SYMBOLS_TRIED) if task.alphabet_grows else task
    ape = _by_library(small)
    if ape is None:
        return _by_oracle(small)
    if ape.program.fragment == "[]":
        return ape, replace(ape, positions="nope")
    _, nope = _by_oracle(small)
    return ape, nope


def _by_library(task: Task) -> Outlook | None:
    """The program of the standard library that has the task's name, if it is right on the task."""
    try:
        program = program_for(task)
        return None if program is None else _solved(task, "ape", program, "The program of the standard library")
    except (Disagreement, ValueError):  # another task of that name
        return None


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
    if not has_answers(task):
        found = _by_automaton(PrefixQuestions(task))
        return found if _fail(found) else _first_of(_by_search(task), found)
    questions = Questions(task)
    found = _by_automaton(questions)
    if _fail(found):
        return found
    family = fooling_family(questions)
    if family is not None:
        return tuple(_fooled(questions, family, positions) for positions in ("ape", "nope"))
    return _first_of(_by_search(task), found)


def _fail(found: Outlooks | None) -> bool:
    return found is not None and all(each.outcome == FAILS for each in found)


def _first_of(searched: Outlooks, found: Outlooks | None) -> Outlooks:
    """A program that search found gives the tokens of the answer, one from an automaton only what decides them."""
    if found is None:
        return searched
    return tuple(one if one.outcome == GENERALIZES else other for one, other in zip(searched, found, strict=True))


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
    """Verdicts for the automaton that gives the answer to every word; None: none with few states, or too few symbols.

    Where words have many symbols, the automaton of those over a few of them can still show that the task is too hard.
    """
    everything = questions.symbols
    learned = learned_answers(questions, everything, FEW_STATES)
    if learned is not None:
        return _outlooks(questions, everything, learned)
    few = everything[:FEW_SYMBOLS]
    learned = learned_answers(questions, few, MANY_STATES)
    if learned is None:
        return None
    found = _outlooks(questions, few, learned)
    return found if few == everything or _fail(found) else None


def _outlooks(questions: Questions, symbols: Word, learned: Learned) -> Outlooks:
    alphabet = tuple(questions.task.symbols[symbol] for symbol in symbols)
    kinds = {answer: number for number, answer in enumerate(dict.fromkeys(learned.values))}
    marks = np.array([kinds[answer] for answer in learned.values])
    machine = regular.Machine.of(Automaton(alphabet, learned.transitions, marks == 0), marks, "the state")
    evidence = (
        f"the automaton gives the answers to all words up to length {learned.exhaustive}, to {learned.strings} random "
        f"ones of length {learned.length}, and to those of drawn strings"
    )
    words = "" if symbols == questions.symbols else f" to words over {', '.join(alphabet)}"
    of_what = f"Its answers{words} are those of an automaton with {machine.automaton.states} states. "
    found = regular.outlooks(machine)
    return tuple(replace(each, claim=of_what + each.claim, checked=f"{evidence}; {each.checked}") for each in found)


def learned_answers(questions: Questions, symbols: Word, most_states: int) -> Learned | None:
    """The automaton of the answers to words over some symbols, if every such word is a question.

    Behind every prefix a task may ask nothing; behind a separator it has to ask.
    """
    ask = lambda word: questions.answer(tuple(symbols[symbol] for symbol in word))  # noqa: E731
    if not isinstance(questions, PrefixQuestions) and not _all_are_questions(questions, symbols, ask):
        return None
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    drawn = [[numbers.get(symbol) for symbol in word] for word, _ in questions.drawn()]
    learned = learn(ask, len(symbols), most_states, [tuple(word) for word in drawn if None not in word])
    return learned if learned is not None and len(set(learned.values)) > 1 else None


def _all_are_questions(questions: Questions, symbols: Word, ask: Callable[[Word], Hashable]) -> bool:
    words: list[Word] = [(0,) * questions.task.min_length, ()]
    for word in words[1:]:
        if len(words) < SHORT_WORDS:
            words += [(*word, symbol) for symbol in range(len(symbols))]
    return all(ask(word) is not None for word in words if len(word) >= questions.task.min_length)


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
