"""Formal languages as tasks: `BOS x EOS`, where each prefix of x asks what may come next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources

import numpy as np

from lengen_fast import _engine
from lengen_fast.automata import Automaton
from lengen_fast.tasks.algorithmic import CITATION
from lengen_fast.tasks.base import LONGEST_LENGTH, Geometry, Task

LABELS = ("legal+end", "legal", "membership")
END = "$"  # in the name of a label: the string may end here

Recipe = tuple[str, list[list[int]]]


@dataclass(frozen=True, kw_only=True)
class Language(Task):
    """A language as a task: `BOS x EOS`, scored at every place from BOS to the last symbol of x.

    The target is the class of the prefix that ends there: with labels ``"legal+end"`` the set of symbols that may come
    next in a member, and `$` if the prefix is itself one; with ``"legal"`` the same without `$`; with ``"membership"``
    whether the prefix is a member. The classes are tokens of their own behind the alphabet, one for each set that
    occurs in the language, the same for every string.

    Attributes:
        automaton: minimal and complete.
        labels: one of ``LABELS``.
        paper: how the paper draws strings of a length, as in languages.json.
    """

    automaton: Automaton
    labels: str = "legal+end"
    paper: tuple = field(default=(), compare=False, repr=False)

    def with_labels(self, labels: str) -> Language:
        """The same language with other labels."""
        if labels not in LABELS:
            raise ValueError(f"labels is {labels!r}; it must be one of {', '.join(map(repr, LABELS))}")
        return replace(self, labels=labels, symbols=(*self.automaton.alphabet, *_class_names(self.automaton, labels)))

    @property
    def usual_training(self) -> dict:
        return dict(learning_rate=1e-3, weight_decay=0.01, batch=64, steps=10_000, test_every=500)

    # ---- lengths ----

    def reachable(self, low: int, high: int) -> Sequence[int]:
        return _as_range(self.automaton.lengths(low, min(high, LONGEST_LENGTH)))

    def _lengths_nearby(self, low: int, high: int) -> str:
        below, above = self.reachable(max(0, low - 1000), low), self.reachable(high, high + 1000)
        near = [*below[-1:], *above[:1]]
        return f"the nearest length{'s' if len(near) > 1 else ''} with one: {' and '.join(map(str, near))}"

    # ---- strings ----

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> _engine.Sampler:
        lengths = np.array(self.reachable(low, high), dtype=np.int32)
        thresholds = np.zeros(0, dtype=np.uint64)
        kind, numbers = self._recipe(distribution)
        if kind == "stopping":
            kind, thresholds = "uniform", _stopping_thresholds(self.automaton, lengths, low, high)
        return _engine.language_sampler(
            self._engine_automaton, kind, numbers, self.bos, lengths, thresholds, seed, context
        )

    def _recipe(self, distribution: str) -> Recipe:
        if distribution != "paper":
            return distribution, []
        kind, *details = self.paper
        return kind, [_numbers(kind, each, self.automaton.alphabet) for each in details]

    @cached_property
    def _engine_automaton(self) -> _engine.Automaton:
        automaton = self.automaton
        labels = len(automaton.alphabet) + self._classes
        return _engine.Automaton(automaton.transitions, automaton.accepting, automaton.live, labels)

    @cached_property
    def _classes(self) -> np.ndarray:
        """[S] int64: the class of each state; of dead states, where no member passes, 0."""
        names = _state_labels(self.automaton, self.labels)
        classes = self.symbols[len(self.automaton.alphabet) :]
        return np.array([classes.index(name) if name in classes else 0 for name in names])


def _oracle(task: Language, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of every prefix of x."""
    alphabet = task.automaton.alphabet
    if tokens.ndim != 1 or len(tokens) == 0 or tokens[0] != task.bos:
        raise ValueError(f"tokens are no string of {task.name}: it must start with BOS")
    ends = np.flatnonzero(tokens == task.eos)
    x = tokens[1 : ends[0] if len(ends) else len(tokens)]
    if not np.all((x >= 0) & (x < len(alphabet))):
        raise ValueError(
            f"tokens are no string of {task.name}: it must have only ids 0..{len(alphabet) - 1} before EOS"
        )
    return np.arange(len(x) + 1), len(alphabet) + task._classes[task.automaton.run(x)]


# ---- labels ----


def _state_labels(automaton: Automaton, labels: str) -> list[str]:
    """[S] what a prefix that ends in each state is labelled."""
    if labels == "membership":
        return ["{in}" if accepted else "{out}" for accepted in automaton.accepting]
    names = (*automaton.alphabet, *((END,) if labels == "legal+end" else ()))
    return [
        "{" + ",".join(name for name, legal in zip(names, row, strict=False) if legal) + "}" for row in automaton.legal
    ]


def _class_names(automaton: Automaton, labels: str) -> tuple[str, ...]:
    """Every label of a live state, in the order of the states."""
    names = _state_labels(automaton, labels)
    return tuple(dict.fromkeys(name for name, live in zip(names, automaton.live, strict=True) if live))


# ---- recipes ----


def _numbers(kind: str, detail: object, alphabet: tuple[str, ...]) -> list[int]:
    """One detail of a recipe of languages.json, as the engine takes it."""
    if kind == "repeat":
        return [alphabet.index(symbol) for symbol in detail]
    if kind == "blocks":
        least, symbols, *most = detail
        places = [alphabet.index(symbol) for symbol in symbols]
        if places != list(range(places[0], places[0] + len(places))):
            raise ValueError(f"the symbols {symbols!r} of a block are not neighbours in the alphabet")
        return [least, *(most or [LONGEST_LENGTH]), places[0], len(places)]
    return [detail]


def _stopping_thresholds(automaton: Automaton, lengths: np.ndarray, low: int, high: int) -> np.ndarray:
    """[lengths] uint64 cumulative chances, times 2^64, of the length of a random walk that stops with probability
    1 / (1 + L) before each symbol, L the middle of low..high, kept if it ends in that range and in the language."""
    stop = 1 / (1 + (low + high) / 2)
    where = np.zeros(automaton.states)
    where[0] = 1.0  # the chance of each state after n fair symbols
    step = np.zeros((automaton.states, automaton.states))
    for symbol in range(len(automaton.alphabet)):
        np.add.at(step, (np.arange(automaton.states), automaton.transitions[:, symbol]), 1 / len(automaton.alphabet))
    wanted, weights = {int(n): place for place, n in enumerate(lengths)}, np.zeros(len(lengths))
    for n in range(int(lengths[-1]) + 1):
        if n in wanted:
            weights[wanted[n]] = (1 - stop) ** (n - int(lengths[0])) * where[automaton.accepting].sum()
        where = where @ step
    shares = np.cumsum(weights) / weights.sum()
    return np.minimum(shares * 2.0**64, np.nextafter(2.0**64, 0)).astype(np.uint64)


def _as_range(lengths: np.ndarray) -> Sequence[int]:
    if len(lengths) == 0:
        return range(0)
    steps = np.unique(np.diff(lengths))
    if len(steps) > 1:
        return tuple(lengths.tolist())
    step = int(steps[0]) if len(steps) else 1
    return range(int(lengths[0]), int(lengths[-1]) + 1, step)


# ---- the languages of the paper ----


@cache
def named_languages() -> tuple[Language, ...]:
    """The regular languages of languages.json."""
    path = resources.files("lengen_fast") / "tasks" / "languages.json"
    return tuple(_named(name, entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items())


def _named(name: str, entry: dict) -> Language:
    transitions = np.array(entry["transitions"], dtype=np.int32)
    accepting = np.isin(np.arange(len(transitions)), entry["accepting"])
    automaton = Automaton(tuple(entry["alphabet"]), transitions, accepting)
    shortest = int(automaton.lengths(0, automaton.states)[0])
    size = lambda n: n + 2  # noqa: E731
    classes = _class_names(automaton, "legal+end")
    return Language(
        name=name,
        family="regular",
        description=entry["language"],
        hard_means="long runs of one loop that changes nothing, with single steps to another state between them",
        citation=CITATION,
        symbols=(*automaton.alphabet, *classes),
        geometry=Geometry(shortest, tokens_at=size, context_for=size),
        answer=_oracle,
        chance=1.0 if len(classes) == 1 else 0.0,
        distributions=("paper", "uniform"),
        automaton=automaton,
        paper=tuple(entry["paper"]),
    )
