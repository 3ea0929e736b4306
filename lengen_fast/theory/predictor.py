"""``predict``: a verdict before training, for a task, a regular expression, an automaton or a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lengen_fast.automata import Automaton
from lengen_fast.tasks import Language, Task, is_task, task
from lengen_fast.theory import answers
from lengen_fast.theory.checks import all_words
from lengen_fast.theory.confusion import Word
from lengen_fast.theory.crasp import Program
from lengen_fast.theory.crasp.syntax import BOS
from lengen_fast.theory.learning import learn, short_length
from lengen_fast.theory.proof import prove
from lengen_fast.theory.regular import Machine, known_at_last_symbol, outlooks, without_positions
from lengen_fast.theory.synthesis import next_lines
from lengen_fast.theory.verdict import FAILS, FRAGMENTS, GENERALIZES, UNKNOWN, Outlook, Verdict

QUESTIONS = {
    "states": "the state of the minimal automaton after every prefix",
    "acceptance": "acceptance of whole strings, at an end symbol",
}
MOST_PROGRAM_SYMBOLS = 8
"""A program over more symbols is not turned into an automaton."""


def predict(
    what: Task | Automaton | Program | str, *, alphabet: Sequence[str] | None = None, question: str = "states"
) -> Verdict:
    """Whether a transformer trained on short strings is expected to be right on long ones.

    The verdict rests on C-RASP (arXiv 2410.02140): what a program of C-RASP[periodic, local] computes, transformers
    with learned absolute positions are expected to generalize on; of C-RASP[], transformers without positions.

    Args:
        what: a task or its name, a regular expression (:meth:`Automaton.from_regex`), an automaton, or a program. A
            text that names a task is that task.
        alphabet: the symbols of a regular expression, in order; None: those that occur in it.
        question: for automata and expressions: ``"states"``, the state of the minimal automaton after every prefix,
            where the symbol that comes last is not seen by itself (the convention of arXiv 2608.13433), or
            ``"acceptance"`` of whole strings at an end symbol. Outcomes are the same: minimal states differ in what
            they accept behind them.

    Raises:
        TypeError: ``what`` is none of these.
        ValueError: an error in the expression, an unknown question, an automaton that is too large.
    """
    if isinstance(what, str):
        if not is_task(what):
            return predict_regex(what, alphabet, question=question)
        what = task(what)
    if alphabet is not None:
        raise ValueError(f"alphabet is {alphabet!r}; only a regular expression takes one")
    if isinstance(what, Automaton):
        return _predict_automaton(what, f"automaton with {what.states} states", question)
    if isinstance(what, Language) and isinstance(what.acceptor, Automaton):
        return _predict_language(what)
    if isinstance(what, Task):
        return Verdict(what.name, "every scored token", *answers.outlooks(what))
    if isinstance(what, Program):
        return _predict_program(what)
    raise TypeError(
        f"what is a {type(what).__name__}; it must be a task, a regular expression, an Automaton or a Program"
    )


def predict_regex(regex: str, alphabet: Sequence[str] | None = None, *, question: str = "states") -> Verdict:
    """The verdict for a regular expression, also where its text is the name of a task; see :func:`predict`."""
    return _predict_automaton(Automaton.from_regex(regex, alphabet), regex, question)


def _predict_automaton(automaton: Automaton, subject: str, question: str) -> Verdict:
    if question not in QUESTIONS:
        raise ValueError(f"question is {question!r}; it must be {' or '.join(map(repr, QUESTIONS))}")
    given, automaton = automaton.states, automaton.minimal()
    if automaton.states < given:
        subject = f"{subject}, {automaton.states} when minimal"
    marks = np.arange(automaton.states) if question == "states" else automaton.accepting
    machine = Machine.of(automaton, marks, "the state")
    return Verdict(subject, QUESTIONS[question], *outlooks(machine))


def _predict_language(language: Language) -> Verdict:
    """The class of every prefix is what the task scores."""
    automaton = language.acceptor
    if language.labels == "legal":
        marks = np.unique(automaton.legal[:, :-1], axis=0, return_inverse=True)[1].reshape(-1)
        lines = dict(list(next_lines(automaton).items())[:-1])
        machine = Machine.of(automaton, marks, "the set of legal symbols", lines)
    else:
        machine = Machine.of(automaton, automaton.accepting, "the state")
    return Verdict(language.name, f"the class of every prefix ({language.labels})", *outlooks(machine))


def _predict_program(program: Program) -> Verdict:
    """A program is its own evidence; if it uses positions and says something regular, whether it must is decided."""
    question = f"what the program computes at every position ({program.fragment})"
    claim = f"The program itself, which is in C-RASP{program.fragment}."
    ape = Outlook("ape", GENERALIZES, claim, "its fragment, which says all", program)
    return Verdict("program", question, ape, _program_without_positions(program, ape))


def _program_without_positions(program: Program, ape: Outlook) -> Outlook:
    if program.fragment == "[]":
        return replace(ape, positions="nope")
    machine = _machine_of(program)
    if machine is None:
        claim = f"The program uses {program.fragment}; whether one of {FRAGMENTS['nope']} says the same is not known."
        return Outlook("nope", UNKNOWN, claim, "no automaton with few states computes what it does")
    nope = without_positions(machine)
    if nope.outcome == FAILS and known_at_last_symbol(machine):
        claim = f"A program of {FRAGMENTS['nope']} that sees the last symbol says the same, but none is written down."
        return Outlook("nope", UNKNOWN, claim, "the balanced counts before each last symbol")
    return nope


def _machine_of(program: Program) -> Machine | None:
    """The automaton of what a program says behind every word over its alphabet, if it has few states and is proved."""
    symbols = len(program.alphabet)
    counts = [line.is_count for line in program.lines if line.name in program.outputs]
    if not 0 < symbols <= MOST_PROGRAM_SYMBOLS or any(counts):
        return None
    known = _short_rows(program)
    start = program.token(BOS)

    def row(word: Word) -> tuple[bool, ...]:
        if word not in known:
            values = program.run(np.array([start, *word], dtype=np.int64))
            known[word] = tuple(bool(values[name][-1]) for name in program.outputs)
        return known[word]

    learned = learn(row, symbols)
    if learned is None:
        return None
    rows = np.array(learned.values, dtype=bool)
    automaton = Automaton(program.alphabet, learned.transitions, rows[:, -1])
    lines = dict(zip(program.outputs, rows.T, strict=True))
    if prove(program, automaton, lines) is None:
        return None
    marks = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return Machine.of(automaton, marks, "what the program says", lines)


def _short_rows(program: Program) -> dict[Word, tuple[bool, ...]]:
    """What the program says behind every short word, found in one run."""
    words = all_words(len(program.alphabet), short_length(len(program.alphabet)))
    tokens = np.column_stack([np.full(len(words), program.token(BOS)), words])
    values = program.run(tokens)
    rows = np.stack([values[name] for name in program.outputs], axis=-1)
    return {
        tuple(word[:length]): tuple(said[length])
        for word, said in zip(words.tolist(), rows.tolist(), strict=True)
        for length in range(len(word) + 1)
    }
