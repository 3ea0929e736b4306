"""Formal languages as tasks: `BOS x EOS`, where each prefix of x asks what may come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lengen_fast import _engine
from lengen_fast.automata import Automaton
from lengen_fast.counters import CounterMachine
from lengen_fast.symbols import SPECIAL_NAMES, is_symbol_name
from lengen_fast.tasks.base import LONGEST_LENGTH, Geometry, Task

LABELS = ("legal+end", "legal", "membership")
END = "$"  # in the name of a label: the string may end here
INSIDE, OUTSIDE = "{in}", "{out}"
MOST_SYMBOLS = 255  # of the alphabet and the labels together, a byte each in the engine
OUTSIDERS = NEGATIVE, CORRUPTED = "negative", "corrupted"  # distributions of labels "membership" alone

Acceptor = Automaton | CounterMachine


@dataclass(frozen=True, kw_only=True)
class Language(Task):
    """A language as a task: `BOS x EOS`, scored at every place from BOS to the last symbol of x.

    The target is the class of the prefix that ends there: with labels ``"legal+end"`` the set of symbols that may come
    next in a member, and `$` if the prefix is itself one; with ``"legal"`` the same without `$`; with ``"membership"``
    whether the prefix is a member. The classes are tokens of their own behind the alphabet, one for each set that
    occurs in the language, the same for every string.

    Distributions: ``"paper"`` (the languages of the paper), ``"uniform"`` (all members of a length equally likely),
    ``"hard"``; and of membership ``"negative"`` (all other strings of a length equally likely, of the lengths that
    members have, or where these have no others, as over one letter, of the other lengths) and ``"corrupted"`` (a
    uniform member with one symbol replaced, so that it is none any more; see :meth:`sample_corrupted`).

    Attributes:
        acceptor: an automaton, minimal and complete, or a counter machine.
        labels: one of ``LABELS``.
        recipes: how the engine draws a distribution: its kind and numbers; of a regular language for ``"paper"`` only.
        regex: the expression it was made from, or None.
        is_named: whether :func:`lengen_fast.task` knows it by its name.
        shows_originals: whether ``"corrupted"`` draws the members before a symbol is replaced.
    """

    acceptor: Acceptor
    labels: str = "legal+end"
    recipes: Mapping[str, tuple] = field(default_factory=dict, compare=False, repr=False)
    regex: str | None = None
    is_named: bool = False
    shows_originals: bool = False

    @classmethod
    def of(cls, acceptor: Acceptor, labels: str = "legal+end", **attributes) -> Language:
        """The language that an automaton or a counter machine accepts.

        Raises:
            ValueError: the language is empty, has too many symbols and labels, or a symbol that labels cannot name.
        """
        _check_alphabet(acceptor.alphabet)
        lengths = acceptor.lengths(0, getattr(acceptor, "states", 0) + getattr(acceptor, "first_length", 0))
        if len(lengths) == 0:
            raise ValueError("the language is empty: no string leads to an accepting state")
        size = lambda n: n + 2  # noqa: E731
        bare = cls(
            symbols=(),
            geometry=Geometry(int(lengths[0]), tokens_at=size, context_for=size),
            answer=_oracle,
            acceptor=acceptor,
            **{"citation": "", **attributes},
        )
        return bare.with_labels(labels)

    def with_labels(self, labels: str) -> Language:
        """The same language with other labels."""
        if labels not in LABELS:
            raise ValueError(f"labels is {labels!r}; it must be one of {', '.join(map(repr, LABELS))}")
        classes = _class_names(self.acceptor, labels)
        symbols = (*self.acceptor.alphabet, *classes)
        if len(symbols) > MOST_SYMBOLS:
            raise ValueError(f"the language has {len(symbols)} symbols and labels; there may be {MOST_SYMBOLS} at most")
        if len(set(symbols)) < len(symbols):
            raise ValueError(f"the alphabet has a symbol with the name of a label; the labels are {' '.join(classes)}")
        distributions = ("paper",) if "paper" in self.recipes else ()
        distributions += ("uniform", "hard") + (OUTSIDERS if labels == "membership" else ())
        chance = 1.0 if len(classes) == 1 else 0.0
        return replace(self, labels=labels, symbols=symbols, distributions=distributions, chance=chance)

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The symbols of x; the labels come after them in ``symbols``."""
        return self.acceptor.alphabet

    @property
    def usual_training(self) -> dict:
        return dict(learning_rate=1e-3, weight_decay=0.01, batch=64, steps=10_000, test_every=500)

    def definition(self) -> dict:
        kept = super().definition() | {"labels": self.labels}
        if not self.is_named:
            kept |= {"automaton": self.acceptor.as_dict(), "regex": self.regex}
        return kept

    # ---- lengths ----

    @property
    def max_length(self) -> int:
        longest = self.acceptor.longest
        return LONGEST_LENGTH if longest is None else min(longest, LONGEST_LENGTH)

    def reachable(self, low: int, high: int) -> Sequence[int]:
        return _as_range(self.acceptor.lengths(low, min(high, LONGEST_LENGTH)))

    def _why_no_longer(self) -> str:
        return f"the longest string of {self.name} has length {self.max_length}"

    def _lengths_nearby(self, low: int, high: int) -> str:
        nearest = [*self.reachable(self.min_length, low)[-1:], *self._first_above(high)]
        return f"the nearest length{'s' if len(nearest) > 1 else ''} with one: {' and '.join(map(str, nearest))}"

    def _first_above(self, high: int) -> Sequence[int]:
        """The next length with a string, if there is one."""
        reach = 64
        while high < LONGEST_LENGTH:
            found = self.reachable(high, high + reach)[:1]
            if found:
                return found
            high, reach = high + reach, 2 * reach
        return ()

    # ---- strings ----

    def sample_corrupted(self, count: int, length: int | tuple[int, int] | None = None, seed: int = 0, **options):
        """Strings that are one symbol away from a member, and where.

        Args:
            count, length, seed, options: as for :meth:`sample`.

        Returns:
            the batch of ``distribution="corrupted"``, the batch of the members it was made from, and [count] int64, the
            index in x of the symbol that was replaced.
        """
        edited = self.sample(count, length, seed, CORRUPTED, **options)
        members = replace(self, shows_originals=True).sample(count, length, seed, CORRUPTED, **options)
        places = np.flatnonzero((members.tokens != edited.tokens).numpy())
        return edited, members, places - edited.cu_seqlens.numpy()[:-1] - 1

    def _hint(self, distribution: str) -> str:
        if distribution not in OUTSIDERS:
            return ""
        return f"; {distribution} goes with labels='membership', --labels membership on the command line"

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> _engine.Sampler:
        lengths = np.array(self.reachable(low, high), dtype=np.int32)
        thresholds = np.zeros(0, dtype=np.uint64)
        kind, numbers = self._recipe(distribution)
        if kind == "stopping":
            kind, thresholds = "uniform", _stopping_thresholds(self.acceptor, lengths, low, high)
        if distribution in OUTSIDERS:
            lengths = self._lengths_with_outsiders(lengths, (low, high) if distribution == NEGATIVE else None)
        edit = "" if distribution != CORRUPTED else "original" if self.shows_originals else CORRUPTED
        recipe = _engine.Recipe(kind, numbers, edit)
        inside = self.symbols.index(INSIDE) if INSIDE in self.symbols else 0
        request = _engine.LanguageRequest(lengths, thresholds, bos=self.bos, inside=inside, seed=seed, context=context)
        if isinstance(self.acceptor, CounterMachine):
            return _engine.counting_sampler(self._engine_acceptor, recipe, request)
        walked = self._engine_complement if distribution == NEGATIVE else self._engine_acceptor
        return _engine.language_sampler(self._engine_acceptor, walked, recipe, request)

    def _recipe(self, distribution: str) -> tuple[str, list[list[int]]]:
        """Kind and numbers of a recipe of the engine."""
        if distribution == NEGATIVE:
            return ("uniform" if isinstance(self.acceptor, Automaton) else "outsiders"), []
        if distribution == CORRUPTED:
            distribution = "uniform"
        kind, *details = self.recipes.get(distribution, (distribution,))
        return kind, [_numbers(kind, each, self.alphabet) for each in details]

    def _lengths_with_outsiders(self, lengths: np.ndarray, others: tuple[int, int] | None) -> np.ndarray:
        """Those of some lengths of members that other strings have too; if none has, other lengths of a range."""
        if isinstance(self.acceptor, Automaton):
            outside = self.acceptor.complement()
            kept = np.intersect1d(lengths, outside.lengths(int(lengths[0]), int(lengths[-1])))
            if len(kept) == 0 and others is not None:
                kept = np.asarray(outside.lengths(*others))
        else:
            kept = lengths[lengths > 0]
        if len(kept) == 0:
            raise ValueError(
                f"every string over {' '.join(self.alphabet)} of the lengths that members have, {lengths[0]} to "
                f"{lengths[-1]}, is in {self.name}; no other is left to draw"
            )
        return kept.astype(np.int32)

    @cached_property
    def _engine_acceptor(self) -> _engine.Automaton | _engine.CounterMachine:
        labels = len(self.alphabet) + self.classes
        if isinstance(self.acceptor, CounterMachine):
            return _engine.CounterMachine(*self.acceptor.tables(), labels)
        return _engine_automaton(self.acceptor, labels)

    @cached_property
    def _engine_complement(self) -> _engine.Automaton:
        return _engine_automaton(self.acceptor.complement(), len(self.alphabet) + self.classes)

    @cached_property
    def classes(self) -> np.ndarray:
        """[situations] int64: the class of each state of the automaton, or situation of the machine; 0 where no member
        passes and labels do not say so."""
        names = self.symbols[len(self.alphabet) :]
        number = {name: i for i, name in enumerate(names)}
        return np.array([number.get(name, 0) for name in _situation_labels(self.acceptor, self.labels)])


def _check_alphabet(alphabet: Sequence[str]) -> None:
    for name in alphabet:
        if not is_symbol_name(name) or name == END or "," in name:
            raise ValueError(
                f"alphabet has {name!r}; a symbol must be visible characters without spaces and commas, and not {END}, "
                f"{', '.join(SPECIAL_NAMES[:-1])} or {SPECIAL_NAMES[-1]}"
            )


def _engine_automaton(automaton: Automaton, labels: np.ndarray) -> _engine.Automaton:
    return _engine.Automaton(automaton.transitions, automaton.accepting, automaton.live, labels)


def _oracle(task: Language, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of every prefix of x."""
    if tokens.ndim != 1 or len(tokens) == 0 or tokens[0] != task.bos:
        raise ValueError(f"tokens are no string of {task.name}: it must start with BOS")
    ends = np.flatnonzero(tokens == task.eos)
    x = tokens[1 : ends[0] if len(ends) else len(tokens)]
    symbols = len(task.alphabet)
    if not np.all((x >= 0) & (x < symbols)):
        raise ValueError(f"tokens are no string of {task.name}: it must have only ids 0..{symbols - 1} before EOS")
    return np.arange(len(x) + 1), symbols + task.classes[task.acceptor.run(x)]


# ---- labels ----


def _situation_labels(acceptor: Acceptor, labels: str) -> list[str]:
    """[situations] what a prefix that ends in each is labelled."""
    if labels == "membership":
        return [INSIDE if accepted else OUTSIDE for accepted in acceptor.legal[:, -1]]
    names = (*acceptor.alphabet, *((END,) if labels == "legal+end" else ()))
    return [
        "{" + ",".join(name for name, legal in zip(names, row, strict=False) if legal) + "}" for row in acceptor.legal
    ]


def _class_names(acceptor: Acceptor, labels: str) -> tuple[str, ...]:
    """Every label of a prefix of a member, in the order of the states; of membership always both."""
    if labels == "membership":
        return INSIDE, OUTSIDE
    names = _situation_labels(acceptor, labels)
    return tuple(dict.fromkeys(name for name, live in zip(names, acceptor.live, strict=True) if live))


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
    return list(detail) if isinstance(detail, (list, tuple)) else [detail]


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
