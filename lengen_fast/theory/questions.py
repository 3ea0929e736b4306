"""A task as a function from words to answers, asked of its oracle."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from lengen_fast.data import Batch
from lengen_fast.tasks import Task
from lengen_fast.theory.confusion import Word

Answer = tuple[int, ...]
EXAMPLES, LONGEST_EXAMPLE = 100, 50
"""Drawn strings that show which symbols words have, and where answers stand."""


class Questions:
    """What the oracle of a task answers to words x, where its strings are ``BOS x SEP y EOS`` and y is scored."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._answers: dict[Word, Answer | None] = {}

    @cached_property
    def _example(self) -> tuple[set[int], int]:
        """Symbols that occur in drawn words, and the token between word and answer."""
        batch = _examples(self.task)
        bounds, first = batch.cu_seqlens.tolist(), _first_scored(batch)
        seen = {
            token for begin, end in zip(bounds, first, strict=False) for token in batch.tokens[begin + 1 : end].tolist()
        }
        return seen, int(batch.tokens[first[-1]])

    @property
    def symbols(self) -> tuple[int, ...]:
        """Ids of the symbols that words have."""
        return tuple(sorted(self._example[0]))

    @property
    def separator(self) -> int:
        """Id of the token between word and answer."""
        return self._example[1]

    def drawn(self) -> Iterator[tuple[Word, Answer]]:
        """Words of drawn strings of every distribution, and their answers."""
        for distribution in self.task.distributions:
            batch = _examples(self.task, distribution)
            for row in range(batch.rows):
                begin, end = batch.cu_seqlens[row : row + 2].tolist()
                inside = (batch.scored >= begin) & (batch.scored < end)
                scored = (batch.scored[inside] - begin).tolist()
                yield from self._of_string(batch.row(row).tolist(), scored, batch.targets[inside].tolist())

    def _of_string(self, tokens: list[int], scored: list[int], targets: list[int]) -> Iterator[tuple[Word, Answer]]:
        yield tuple(tokens[1 : scored[0]]), tuple(targets)

    def answer(self, word: Word) -> Answer | None:
        """The tokens of the answer; None: the word is no question of the task."""
        if word not in self._answers:
            self._answers[word] = self._ask(word)
        return self._answers[word]

    def _ask(self, word: Word) -> Answer | None:
        try:
            _, targets = self.task.oracle(np.array([self.task.bos, *word, self.separator], dtype=np.int64))
        except ValueError:
            return None
        return tuple(targets.tolist())


class PrefixQuestions(Questions):
    """What the oracle of a task has behind the last symbol of words x, where its strings are ``BOS x EOS``."""

    @property
    def symbols(self) -> tuple[int, ...]:
        """Ids of the symbols that drawn strings have."""
        return tuple(sorted(set(_examples(self.task).tokens.tolist()) - {self.task.bos, self.task.eos}))

    def _of_string(self, tokens: list[int], scored: list[int], targets: list[int]) -> Iterator[tuple[Word, Answer]]:
        for place, target in zip(scored, targets, strict=True):
            yield tuple(tokens[1 : place + 1]), (target,)

    def _ask(self, word: Word) -> Answer | None:
        """Some tasks end behind every symbol, some behind every second: one more symbol may be needed."""
        for more in ((), *((symbol,) for symbol in self.symbols)):
            tokens = np.array([self.task.bos, *word, *more, self.task.eos], dtype=np.int64)
            try:
                scored, targets = self.task.oracle(tokens)
            except ValueError:
                continue
            return tuple(targets[scored == len(word)].tolist())
        return None


def has_answers(task: Task) -> bool:
    """Whether a task asks for one answer behind a separator, and not for something behind every prefix."""
    batch = _examples(task)
    bounds, first = batch.cu_seqlens.tolist(), _first_scored(batch)
    if first[0] == 0 or len(set(batch.tokens[first].tolist())) > 1:
        return False
    scored = sum(end - 1 - place for place, end in zip(first, bounds[1:], strict=True))
    return scored == len(batch.scored)


def _examples(task: Task, distribution: str | None = None) -> Batch:
    longest = max(task.min_length, min(LONGEST_EXAMPLE, task.max_length))
    return task.sample(EXAMPLES, (task.min_length, longest), distribution=distribution)


def _first_scored(batch: Batch) -> list[int]:
    """The first scored row of each string."""
    scored = batch.scored.numpy()
    return scored[np.searchsorted(scored, batch.cu_seqlens[:-1].numpy())].tolist()
