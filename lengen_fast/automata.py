"""Deterministic finite automata: what a regular language is to the rest of the package.

Letters: S states, A symbols, T symbols of a word.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from lengen_fast.expressions import RESERVED, check_expression, symbols_of

MOST_LENGTHS = 2**20


@dataclass(frozen=True, eq=False)
class Automaton:
    """A complete deterministic automaton; state 0 is the start.

    Words are sequences of symbol numbers, the place of each symbol in ``alphabet``.

    Attributes:
        alphabet: A distinct symbol names.
        transitions: [S, A] int32, the state after each state and symbol.
        accepting: [S] bool.
        state_names: S names; None: the numbers of the states.
    """

    alphabet: tuple[str, ...]
    transitions: np.ndarray
    accepting: np.ndarray
    state_names: tuple[str, ...] = field(default=None)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "alphabet", tuple(self.alphabet))
        set_field(self, "transitions", np.ascontiguousarray(self.transitions, dtype=np.int32))
        set_field(self, "accepting", np.ascontiguousarray(self.accepting, dtype=bool))
        states = len(self.accepting)
        if self.transitions.shape != (states, len(self.alphabet)) or states == 0:
            raise ValueError(
                f"transitions has shape {self.transitions.shape}; with {states} states, {len(self.alphabet)} symbols "
                f"it must be {(states, len(self.alphabet))}, with one state or more"
            )
        if self.transitions.size and not 0 <= self.transitions.min() <= self.transitions.max() < states:
            raise ValueError(f"transitions leads out of the states 0..{states - 1}")
        if self.state_names is None:
            set_field(self, "state_names", tuple(map(str, range(states))))

    @property
    def states(self) -> int:
        return len(self.accepting)

    @classmethod
    def from_regex(cls, regex: str, alphabet: Sequence[str] | None = None) -> Automaton:
        """The minimal automaton of a regular expression, in the syntax of :mod:`lengen_fast.expressions`.

        Args:
            regex: each symbol is one character.
            alphabet: the symbols in order; None: those of the expression, sorted.

        Raises:
            RegexError: the expression has an error, or uses a symbol that is not in ``alphabet``.
            ValueError: the alphabet has no symbol, or one that is not a single character of its own.
        """
        from automata.base.exceptions import AutomatonException
        from automata.fa.dfa import DFA
        from automata.fa.nfa import NFA

        if not isinstance(regex, str):
            raise TypeError(f"regex is {regex!r}; it must be a string")
        if alphabet is not None:
            alphabet = _checked_alphabet(alphabet)
            for symbol in alphabet:
                if len(symbol) != 1 or symbol in RESERVED:
                    raise ValueError(f"alphabet has {symbol!r}; beside a regular expression a symbol is one character")
        check_expression(regex, alphabet)
        alphabet = alphabet or symbols_of(regex)
        if not alphabet:
            raise ValueError(
                f"regex {regex!r} names no symbol, so the alphabet is empty: give its symbols, such as alphabet='ab', "
                f"or on the command line --alphabet ab"
            )
        try:
            partial = DFA.from_nfa(NFA.from_regex(regex, input_symbols=set(alphabet)), minify=True)
        except AutomatonException as error:
            raise ValueError(f"regex {regex!r}: {error}") from error
        complete = partial.to_complete()
        return cls.from_names(alphabet, complete.transitions, complete.initial_state, complete.final_states).minimal()

    @classmethod
    def from_names(
        cls, alphabet: Sequence[str], transitions: Mapping, start: object, accepting: Collection
    ) -> Automaton:
        """An automaton whose states have names: ``transitions[state][symbol]`` is a state.

        Raises:
            ValueError: a state that is not in ``transitions``, or one without a transition for some symbol.
        """
        alphabet = _checked_alphabet(alphabet)
        for what, state in (("start", start), *(("accepting", state) for state in accepting)):
            if not _is_in(state, transitions):
                raise ValueError(
                    f"{what} names state {state!r}, which has no transitions; the states are {_listed(transitions)}"
                )
        order = [start, *(state for state in transitions if state != start)]
        number = {state: i for i, state in enumerate(order)}
        for state in order:
            _check_row(state, transitions[state], alphabet, transitions)
        table = [[number[transitions[state][symbol]] for symbol in alphabet] for state in order]
        table = np.array(table, dtype=np.int32).reshape(len(order), len(alphabet))
        return cls(alphabet, table, [state in accepting for state in order], tuple(map(str, order)))

    @classmethod
    def from_dict(cls, content: Mapping) -> Automaton:
        """An automaton from its alphabet, start, accepting states and transitions.

        ``{"alphabet": "ab", "start": "even", "accepting": ["even"], "transitions": {"even": {"a": "odd", ...}, ...}}``;
        transitions may also be a list of rows, of states by number in the order of the alphabet; then the start may be
        left out, and is 0.

        Raises:
            ValueError: an entry is missing or wrong, a state is unknown or incomplete.
        """
        if not isinstance(content, Mapping):
            raise ValueError(
                f"a DFA must be an object with alphabet, start, accepting and transitions, not {content!r}"
            )
        for name in ("alphabet", "accepting", "transitions"):
            if name not in content:
                raise ValueError(f"the DFA has no {name!r}; it needs alphabet, start, accepting and transitions")
        alphabet, transitions, accepting = (content[name] for name in ("alphabet", "transitions", "accepting"))
        start = content.get("start", 0)
        if not isinstance(alphabet, Sequence):
            raise ValueError(f"the DFA has the alphabet {alphabet!r}; it must be a text or a list of symbols")
        alphabet = _checked_alphabet(alphabet)
        if isinstance(transitions, Sequence) and not isinstance(transitions, str):
            for row in transitions:
                if not isinstance(row, Sequence) or len(row) != len(alphabet):
                    raise ValueError(
                        f"the DFA has the row {row!r}; it needs one state for each of {len(alphabet)} symbols"
                    )
            transitions = {state: dict(zip(alphabet, row, strict=True)) for state, row in enumerate(transitions)}
        if (
            not isinstance(transitions, Mapping)
            or not isinstance(accepting, (Sequence, Set))
            or isinstance(accepting, str)
        ):
            raise ValueError(
                "the DFA must have an object or a list of rows as transitions, and a list of accepting states"
            )
        return cls.from_names(alphabet, transitions, start, accepting)

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Automaton:
        """An automaton from a JSON file; see :meth:`from_dict`.

        Raises:
            ValueError: the file cannot be read, is no JSON, or holds no complete automaton.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            return cls.from_dict(content)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no JSON file: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def as_dict(self) -> dict:
        """The automaton as :meth:`from_dict` reads it, with states by number."""
        return {
            "alphabet": list(self.alphabet),
            "accepting": np.flatnonzero(self.accepting).tolist(),
            "transitions": self.transitions.tolist(),
        }

    def complement(self) -> Automaton:
        """The automaton of all other strings."""
        return Automaton(self.alphabet, self.transitions, ~self.accepting, self.state_names)

    def run(self, word: Sequence[int] | np.ndarray) -> np.ndarray:
        """[T+1] int32: the state before each symbol of a word, and after the last."""
        table = self.transitions.tolist()
        states = [0]
        for symbol in word:
            states.append(table[states[-1]][symbol])
        return np.array(states, dtype=np.int32)

    def accepts(self, word: Sequence[int] | np.ndarray) -> bool:
        """Whether a word is in the language."""
        return bool(self.accepting[self.run(word)[-1]])

    @cached_property
    def live(self) -> np.ndarray:
        """[S] bool: some continuation is accepted."""
        live = self.accepting
        while True:
            wider = live | live[self.transitions].any(axis=1)
            if (wider == live).all():
                return live
            live = wider

    @cached_property
    def legal(self) -> np.ndarray:
        """[S, A+1] bool: which symbols may come next in a member, and, last, whether it may end."""
        return np.concatenate([self.live[self.transitions] & self.live[:, None], self.accepting[:, None]], axis=1)

    @cached_property
    def components(self) -> np.ndarray:
        """[S] int64: the strongly connected component of each state, sources first (Tarjan's algorithm)."""
        table = self.transitions.tolist()
        index, low, open_states, numbers = {}, {}, [], np.full(self.states, -1, dtype=np.int64)
        found = 0
        for root in range(self.states):
            visits = [] if root in index else [(root, iter(table[root]))]
            while visits:
                state, targets = visits[-1]
                if state not in index:
                    index[state] = low[state] = len(index)
                    open_states.append(state)
                for target in targets:
                    if target not in index:
                        visits.append((target, iter(table[target])))
                        break
                    if numbers[target] < 0:
                        low[state] = min(low[state], index[target])
                else:
                    visits.pop()
                    if visits:
                        low[visits[-1][0]] = min(low[visits[-1][0]], low[state])
                    if low[state] == index[state]:
                        place = open_states.index(state)
                        numbers[open_states[place:]] = found
                        del open_states[place:]
                        found += 1
        return found - 1 - numbers

    def lengths(self, low: int, high: int) -> np.ndarray:
        """The lengths in low..high that some member has, increasing, int64."""
        steps = np.arange(max(low, 0), high + 1)
        before, period = self._length_cycle
        known = len(before) - period
        places = np.where(steps < known, steps, known + (steps - known) % period)
        return steps[before[places]]

    @cached_property
    def _length_cycle(self) -> tuple[np.ndarray, int]:
        """Whether there is a member of length 0, 1, ...; and how many of the last entries come again and again."""
        seen: dict[bytes, int] = {}
        found: list[bool] = []
        finishing = self.accepting  # the states from which r further symbols can lead to acceptance
        while (key := np.packbits(finishing).tobytes()) not in seen and len(found) <= MOST_LENGTHS:
            seen[key] = len(found)
            found.append(bool(finishing[0]))
            finishing = finishing[self.transitions].any(axis=1)
        return np.array(found), len(found) - seen.get(key, len(found) - 1)

    @property
    def longest(self) -> int | None:
        """The length of the longest member; None: there are longer ones without end."""
        before, period = self._length_cycle
        return None if before[len(before) - period :].any() else int(np.flatnonzero(before)[-1])

    def count(self, n: int) -> int:
        """How many members have length ``n``, exactly."""
        counts = [int(accepted) for accepted in self.accepting]
        table = self.transitions.tolist()
        for _ in range(n):
            counts = [sum(counts[target] for target in row) for row in table]
        return counts[0]

    def minimal(self) -> Automaton:
        """The minimal complete automaton of the language, its states numbered breadth first from the start."""
        smallest, _ = self.merged(self.accepting)
        return Automaton(smallest.alphabet, smallest.transitions, smallest.accepting)

    def merged(self, marks: Sequence | np.ndarray) -> tuple[Automaton, np.ndarray]:
        """The reachable states, those joined that no continuation leads to different marks.

        Args:
            marks: [S] integers or bools, what is to be known of each state.

        Returns:
            The smaller automaton, its states numbered breadth first from the start, and [S'] int64, a state of this
            automaton for each of its states, whose name and acceptance it has.
        """
        refined = np.unique(np.asarray(marks), return_inverse=True)[1].reshape(-1)
        classes = None
        while classes is None or refined.max() > classes.max():
            classes = refined
            for targets in self.transitions.T:
                pairs = refined * (classes.max() + 1) + classes[targets]
                refined = np.unique(pairs, return_inverse=True)[1].reshape(-1)
        order, seen = [0], {int(refined[0])}
        for state in order:
            for target in map(int, self.transitions[state]):
                if int(refined[target]) not in seen:
                    seen.add(int(refined[target]))
                    order.append(target)
        number = np.zeros(refined.max() + 1, dtype=np.int32)
        number[refined[order]] = np.arange(len(order))
        names = tuple(self.state_names[state] for state in order)
        table = number[refined[self.transitions[order]]]
        return Automaton(self.alphabet, table, self.accepting[order], names), np.array(order)


def _checked_alphabet(alphabet: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(alphabet, Iterable):
        raise TypeError(f"alphabet is {alphabet!r}; it must be the symbols, such as 'ab' or ['a', 'b']")
    names = tuple(alphabet)
    if not names:
        raise ValueError("the alphabet is empty: give its symbols, such as alphabet='ab'")
    for name in names:
        if not isinstance(name, str) or not name or any(map(str.isspace, name)):
            raise ValueError(f"alphabet has {name!r}; a symbol must be a string without spaces")
        if names.count(name) > 1:
            raise ValueError(f"alphabet has {name!r} twice")
    return names


def _check_row(state: object, row: object, alphabet: tuple[str, ...], states: Mapping) -> None:
    """Raise a ValueError if the transitions of a state miss a symbol, or name one or a state that is not there."""
    if not isinstance(row, Mapping):
        raise ValueError(
            f"the transitions of state {state!r} are {row!r}; they must be an object from symbols to states"
        )
    for symbol in alphabet:
        if symbol not in row:
            raise ValueError(
                f"state {state!r} has no transition for {symbol!r}: a DFA needs one for every symbol; "
                f"lead it to a state that does not accept and is never left"
            )
    for symbol, target in row.items():
        if symbol not in alphabet:
            raise ValueError(
                f"state {state!r} has a transition for {symbol!r}, which is not in the alphabet {_listed(alphabet)}"
            )
        if not _is_in(target, states):
            raise ValueError(
                f"state {state!r} leads to {target!r} at {symbol!r}, an unknown state; the states are {_listed(states)}"
            )


def _is_in(state: object, states: Mapping) -> bool:
    """Whether a state is there, also for what cannot be one, such as a list."""
    try:
        return state in states
    except TypeError:
        return False


def _listed(names: Collection) -> str:
    shown = [repr(name) for name in list(names)[:12]]
    return ", ".join(shown) + (", ..." if len(names) > 12 else "")
