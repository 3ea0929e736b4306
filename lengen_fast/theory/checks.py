"""Programs put to the test: against an automaton, and against the oracle of a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from lengen_fast.automata import Automaton
from lengen_fast.data import Batch
from lengen_fast.tasks import Task
from lengen_fast.theory.crasp import Program, predicted_targets
from lengen_fast.theory.crasp.syntax import BOS, Conditional, Line, Linear, Name
from lengen_fast.theory.proof import prove
from lengen_fast.theory.questions import Questions, has_answers

MOST_STRINGS = 20_000
"""Strings of the longest length to which all are tried."""
LONGEST_OF_ALL = 12
LONG_STRINGS, LONG_LENGTH = 100, 300
TASK_LENGTHS, TASK_STRINGS = ((0, 50), (51, 150), (400, 500)), 50
MOST_QUESTIONS = 2000


class Disagreement(AssertionError):
    """A program was wrong on a string; it should never have been proposed."""


@dataclass(frozen=True)
class Checked:
    """What a program was found right on.

    Attributes:
        exhaustive: every string up to this length.
        strings: so many longer strings.
        length: the length of the longest of them.
        cases: of a proof for all strings; 0: none was found.
    """

    exhaustive: int
    strings: int
    length: int
    cases: int = 0

    def __str__(self) -> str:
        tested = f"right on all strings up to length {self.exhaustive} and on {self.strings} of length {self.length}"
        if self.cases:
            cases = f"{self.cases} case{'s' * (self.cases > 1)}"
            return f"proved for all strings by an invariant of {cases}; {tested}"
        return f"{tested}; not proved"


def check_automaton(program: Program, automaton: Automaton, lines: Mapping[str, np.ndarray]) -> Checked:
    """Runs and tries to prove the lines ``STATE_q`` of a program, and those asked for.

    Args:
        program: over the alphabet of the automaton.
        automaton: with S states.
        lines: by the name of an output of the program, [S] bool.

    Raises:
        Disagreement: some line is wrong behind some prefix.
    """
    symbols, exhaustive = len(automaton.alphabet), 0
    while exhaustive < LONGEST_OF_ALL and symbols ** (exhaustive + 1) <= MOST_STRINGS:
        exhaustive += 1
    compare(program, automaton, lines, all_words(symbols, exhaustive))
    compare(program, automaton, lines, long_words(automaton, LONG_STRINGS, LONG_LENGTH, seed=0), offset=1)
    expected = {f"STATE_{q}": np.arange(automaton.states) == q for q in range(automaton.states)}
    proof = prove(program, automaton, {**expected, **lines})
    return Checked(exhaustive, LONG_STRINGS, LONG_LENGTH, proof.cases if proof else 0)


def compare(
    program: Program, automaton: Automaton, lines: Mapping[str, np.ndarray], words: np.ndarray, offset: int = 0
) -> None:
    """Compares every prefix of [B, T] words with the automaton; see :func:`check_automaton`."""
    states = np.zeros((len(words), words.shape[1] + 1), dtype=np.int64)
    for place in range(words.shape[1]):
        states[:, place + 1] = automaton.transitions[states[:, place], words[:, place]]
    tokens = np.concatenate([np.full((len(words), 1), program.token(BOS)), words], axis=1)
    values = program.run(tokens, offset)
    wrong = numbered(program, automaton.states).run(tokens, offset)["NUMBER"] != states + automaton.states
    for name, expected in lines.items():
        wrong |= values[name] != expected[states]
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        word = " ".join(automaton.alphabet[symbol] for symbol in words[row, :place])
        raise Disagreement(f"the program is wrong behind {word!r}:\n{program.source}")


def numbered(program: Program, states: int) -> Program:
    """The program with one output: the number of the state plus ``states``, if exactly one ``STATE_q`` is true."""
    terms = [(states + q, Conditional(Name(f"STATE_{q}"), Linear((), 1), Linear((), 0))) for q in range(states)]
    kept = [line for line in program.lines if not line.name.startswith("NEXT_")]
    return Program(program.alphabet, [*kept, Line("NUMBER", Linear(tuple(terms)), True)])


def all_words(symbols: int, length: int) -> np.ndarray:
    """[symbols ** length, length] int64: every word of a length."""
    return np.array(list(product(range(symbols), repeat=length)), dtype=np.int64).reshape(-1, length)


def long_words(automaton: Automaton, count: int, length: int, seed: int) -> np.ndarray:
    """[count, length] int64: random walks that seldom leave their component and less seldom the living states."""
    random = np.random.default_rng(seed)
    weights = np.full(automaton.transitions.shape, 1e-3)
    weights[automaton.live[automaton.transitions]] = 0.02
    stays = automaton.components[automaton.transitions] == automaton.components[:, None]
    weights[stays & automaton.live[:, None]] = 1.0
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    words, states = np.zeros((count, length), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for place in range(length):
        words[:, place] = (random.random((count, 1)) > cumulative[states]).sum(axis=1).clip(max=weights.shape[1] - 1)
        states = automaton.transitions[states, words[:, place]]
    return words


# ---- tasks ----


@dataclass(frozen=True)
class CheckedTask:
    """What a program was found right on, in every scored token.

    Attributes:
        exhaustive: every question of the task up to this length; -1: not tried one by one.
        strings: so many drawn strings, at random offsets.
        distributions: how they were drawn.
        tokens: the longest string had so many.
    """

    exhaustive: int
    strings: int
    distributions: tuple[str, ...]
    tokens: int

    def __str__(self) -> str:
        every = f"all questions up to length {self.exhaustive} and on " if self.exhaustive >= 0 else ""
        drawn = " and ".join(self.distributions)
        return (
            f"right on every scored token of {every}{self.strings} strings ({drawn}) of up to {self.tokens} tokens at "
            f"random offsets; not proved"
        )


def check_task(program: Program, task: Task) -> CheckedTask:
    """Compares what a program says with the targets of a task.

    Raises:
        Disagreement: some target is wrong.
    """
    exhaustive, batches = -1, [batch for lengths in TASK_LENGTHS for batch in sample(task, lengths, TASK_STRINGS, 1)]
    drawn, tokens = sum(batch.rows for batch in batches), max(batch.longest for batch in batches)
    if has_answers(task):
        exhaustive, short = _short_questions(Questions(task))
        batches += short
    for batch in batches:
        _compare_batch(program, task, batch)
    return CheckedTask(exhaustive, drawn, task.distributions, tokens)


def _compare_batch(program: Program, task: Task, batch: Batch) -> None:
    wrong = predicted_targets(program, task, batch) != batch.targets.numpy()
    if wrong.any():
        place = int(batch.scored[int(wrong.argmax())])
        row = int(np.searchsorted(batch.cu_seqlens.numpy(), place, "right")) - 1
        text = " ".join(task.decode(batch.row(row).tolist()))
        raise Disagreement(f"the program is wrong on a string of {task.name}: {text}\n{program.source}")


def _short_questions(questions: Questions) -> tuple[int, list[Batch]]:
    """The length up to which all questions are few enough, and a batch of all of them; none if there is none."""
    task, strings = questions.task, []
    length, words = -1, [()]
    while len(words) <= MOST_QUESTIONS:
        length += 1
        strings += [(word, answer) for word in words if (answer := questions.answer(word)) is not None]
        words = [(*word, symbol) for word in words for symbol in questions.symbols]
    if not strings:
        return -1, []
    tokens = [[task.bos, *word, questions.separator, *answer] for word, answer in strings]
    starts = np.cumsum([0, *map(len, tokens)])
    scored = [
        range(start + len(word) + 1, start + len(each) - 1)
        for (word, _), start, each in zip(strings, starts, tokens, strict=False)
    ]
    batch = Batch(
        tokens=torch.tensor([token for each in tokens for token in each], dtype=torch.int32),
        cu_seqlens=torch.tensor(starts, dtype=torch.int32),
        offsets=torch.arange(len(tokens), dtype=torch.int64) % 7,
        scored=torch.tensor([row for rows in scored for row in rows], dtype=torch.int32),
        targets=torch.tensor([token for _, answer in strings for token in answer], dtype=torch.int64),
        longest=max(map(len, tokens)),
    )
    return length, [batch]


def sample(task: Task, lengths: tuple[int, int], count: int, seed: int) -> Iterator[Batch]:
    """Strings of every distribution of a task, at random offsets; nothing if no string has such a length."""
    low, high = max(lengths[0], task.min_length), min(lengths[1], task.max_length)
    if low > high or not len(task.reachable(low, high)):
        return
    for distribution in task.distributions:
        yield task.sample(count, (low, high), seed, distribution, context=2 * task.context_for(high))
