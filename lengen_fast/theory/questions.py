"""A task with answers as a function from words to answers, asked of its oracle."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from lengen_fast.tasks import Task
from lengen_fast.theory.confusion import Word

Answer = tuple[int, ...]


class Questions:
    """What the oracle of a task answers to words x.

    Args:
        task: its strings are ``BOS x SEP y EOS``, with only y and EOS scored.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._answers: dict[Word, Answer | None] = {}

    @cached_property
    def _example(self) -> tuple[set[int], int]:
        """Symbols that occur in drawn words, and the token between word and answer."""
        longest = min(50, self.task.max_length)
        batch = self.task.sample(100, (self.task.min_length, longest))
        bounds, scored = batch.cu_seqlens.tolist(), batch.scored.numpy()
        seen: set[int] = set()
        for begin in bounds[:-1]:
            first = int(scored[np.searchsorted(scored, begin)])
            seen.update(batch.tokens[begin + 1 : first].tolist())
        return seen, int(batch.tokens[first])

    @property
    def symbols(self) -> tuple[int, ...]:
        """Ids of the symbols that words have."""
        return tuple(sorted(self._example[0]))

    @property
    def separator(self) -> int:
        """Id of the token between word and answer."""
        return self._example[1]

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


def has_answers(task: Task) -> bool:
    """Whether a task asks for an answer behind its word, not for something behind every prefix."""
    batch = task.sample(1, task.reachable(task.min_length, task.min_length + 50)[0])
    return int(batch.scored[0]) > 0
