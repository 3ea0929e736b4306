"""Formal languages as tasks: `BOS x EOS`, where each prefix of x asks what may come next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from lengen_fast import _engine
from lengen_fast.automata import Automaton
from lengen_fast.counters import CounterMachine
from lengen_fast.data import Batch, check_integer
from lengen_fast.edits import BESIDE, has_all_or_none, replacements
from lengen_fast.lengths import Number, written
from lengen_fast.symbols import SPECIAL_NAMES, is_symbol_name
from lengen_fast.tasks.base import LONGEST_LENGTH, Geometry, Task
from lengen_fast.tasks.functions import Rows

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
    members have) and ``"corrupted"`` (a member with one symbol replaced, so that it is none any more, every such pair
    of strings equally likely; see :meth:`sample_corrupted`). A language that has all strings of a length or none, as
    those over one letter do, has neither: there ``"negative"`` are strings of the other lengths, and ``"corrupted"``
    those of them that are one symbol longer or shorter than members.

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

    def _why_no_longer(self, length: int) -> str:
        if self.max_length == LONGEST_LENGTH:
            return super()._why_no_longer(length)
        return f"the longest string of {self.name} has length {self.max_length}"

    def check_lengths(self, low: Number, high: Number, distribution: str | None = None) -> Sequence[int]:
        if distribution not in OUTSIDERS:
            return super().check_lengths(low, high, distribution)
        self._check_distribution(distribution)
        if self._has_all_or_none:
            low, high = (check_integer("length", n, 0, LONGEST_LENGTH) for n in self._checked_range(low, high))
        else:
            super().check_lengths(low, high)
        lengths = self._reachable_outside(low, high, distribution)
        if not lengths:
            nearest = self._lengths_nearby(low, high, distribution)
            raise ValueError(f"length is {written(low, high)}, where {self._why_none_outside(distribution)}; {nearest}")
        return lengths

    def _reachable_outside(self, low: int, high: int, distribution: str) -> Sequence[int]:
        """The lengths in low..high that strings outside the language are drawn at, increasing."""
        high = min(high, LONGEST_LENGTH)
        if isinstance(self.acceptor, CounterMachine):
            return _as_range(self.acceptor.lengths(max(low, 1), high))
        inside, outside = self.acceptor.lengths(low, high), self.acceptor.complement().lengths(low, high)
        if distribution == NEGATIVE:
            return _as_range(outside if self._has_all_or_none else np.intersect1d(inside, outside))
        if not self._has_all_or_none:
            return _as_range(replacements(self.acceptor).lengths(low + BESIDE, high + BESIDE) - BESIDE)
        members = self.acceptor.lengths(low - 1, high + 1)
        return _as_range(outside[np.isin(outside - 1, members) | np.isin(outside + 1, members)])

    def _why_none_outside(self, distribution: str) -> str:
        if distribution == NEGATIVE:
            return f"every string over {' '.join(self.alphabet)} is in {self.name}"
        if self._has_all_or_none:
            return f"no string outside {self.name} is one symbol longer or shorter than one in it"
        return f"no string of {self.name} leaves it by one replaced symbol"

    @property
    def _has_all_or_none(self) -> bool:
        """Whether all strings of a length are in the language, or none, for every length."""
        return isinstance(self.acceptor, Automaton) and has_all_or_none(self.acceptor)

    def _lengths_nearby(self, low: int, high: int, distribution: str | None = None) -> str:
        lengths = (
            self.reachable if distribution is None else partial(self._reachable_outside, distribution=distribution)
        )
        nearest = [*lengths(0, low)[-1:], *_first_above(lengths, high)]
        if not nearest:
            return "no length has one"
        return f"the nearest length{'s' if len(nearest) > 1 else ''} with one: {' and '.join(map(str, nearest))}"

    # ---- strings ----

    def sample_corrupted(
        self, count: int, length: int | tuple[int, int] | None = None, seed: int = 0, **options
    ) -> tuple[Batch, Batch, np.ndarray]:
        """Strings that are one symbol away from a member, and where.

        One symbol of a member is replaced so that it is none any more, and every pair of a member and such a string is
        equally likely, so that members with more ways out come more often. Regular languages count the pairs of paths:
        with A symbols and S states of :func:`lengen_fast.edits.replacements` in 8 A S bytes for each symbol of the
        longest string, 4 GiB at most. Counting languages draw member, place and symbol anew while they make a member,
        256 times at most.

        In a language that has all strings of a length or none, where no replacement matters, every string is equally
        likely that is one symbol longer or shorter than members and none itself: a member with one symbol added at its
        end or, if only longer ones are members, one with the last symbol removed.

        Args:
            count, length, seed, options: as for :meth:`sample`.

        Returns:
            the batch of ``distribution="corrupted"``, the batch of the members it was made from, and [count] int64, the
            index in x of the symbol that was replaced, added or removed.

        Raises:
            ValueError: as :meth:`sample`; a length without such a string, too many pairs of states, or 256 members that
                stay in their counting language.
        """
        edited = self.sample(count, length, seed, CORRUPTED, **options)
        if self._has_all_or_none:
            return edited, *self._one_longer_or_shorter(edited)
        members = replace(self, shows_originals=True).sample(count, length, seed, CORRUPTED, **options)
        places = np.flatnonzero((members.tokens != edited.tokens).numpy())
        return edited, members, places - edited.cu_seqlens.numpy()[:-1] - 1

    def _one_longer_or_shorter(self, edited: Batch) -> tuple[Batch, np.ndarray]:
        """Members without the last symbol of each string, or with one more, and where that symbol is."""
        rows, places = [], []
        for i in range(edited.rows):
            x = edited.row(i).numpy()[1:-1]
            is_added = len(x) > 0 and self.acceptor.accepts(x[:-1])
            member = x[:-1] if is_added else np.append(x, 0)
            tokens = np.concatenate([[self.bos], member, [self.eos]])
            rows.append((tokens, *self.oracle(tokens)))
            places.append(len(x) - is_added)
        return Batch.from_engine(Rows.packed(rows, edited.offsets.tolist())), np.array(places)

    def _hint(self, distribution: str) -> str:
        if distribution not in OUTSIDERS:
            return ""
        return f"; {distribution} goes with labels='membership', --labels membership on the command line"

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> _engine.Sampler:
        lengths = np.array(self.check_lengths(low, high, distribution), dtype=np.int32)
        thresholds = np.zeros(0, dtype=np.uint64)
        kind, numbers = self._recipe(distribution)
        if kind == "stopping":
            kind, thresholds = "uniform", _stopping_thresholds(self.acceptor, lengths, low, high)
        edits = distribution == CORRUPTED and not self._has_all_or_none
        recipe = _engine.Recipe(kind, numbers, ("original" if self.shows_originals else CORRUPTED) if edits else "")
        inside = self.symbols.index(INSIDE) if INSIDE in self.symbols else 0
        request = _engine.LanguageRequest(lengths, thresholds, bos=self.bos, inside=inside, seed=seed, context=context)
        if isinstance(self.acceptor, CounterMachine):
            return _engine.counting_sampler(self._engine_acceptor, recipe, request)
        return _engine.language_sampler(self._engine_acceptor, self._engine_walked(distribution), recipe, request)

    def _engine_walked(self, distribution: str) -> _engine.Automaton:
        """What the engine draws strings from."""
        if distribution not in OUTSIDERS:
            return self._engine_acceptor
        if distribution == NEGATIVE or self._has_all_or_none:
            return self._engine_complement
        walked = replacements(self.acceptor)
        return _engine_automaton(walked, np.zeros(walked.states, dtype=np.int64))

    def _recipe(self, distribution: str) -> tuple[str, list[list[int]]]:
        """Kind and numbers of a recipe of the engine."""
        if distribution == NEGATIVE:
            return ("uniform" if isinstance(self.acceptor, Automaton) else "outsiders"), []
        if distribution == CORRUPTED:
            distribution = "uniform"
        kind, *details = self.recipes.get(distribution, (distribution,))
        return kind, [_numbers(kind, each, self.alphabet) for each in details]

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


def _first_above(lengths: Callable[[int, int], Sequence[int]], high: int) -> Sequence[int]:
    """The first length above ``high``, if there is one."""
    reach = 64
    while high < LONGEST_LENGTH:
        found = lengths(high + 1, high + reach)[:1]
        if found:
            return found
        high, reach = high + reach, 2 * reach
    return ()


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
