"""Strings one symbol away from the members of a regular language, as words of another regular language.

Letters: S states, A symbols.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lengen_fast.automata import Automaton

BESIDE = 2
"""How many more symbols a word of :func:`replacements` has than the string that it stands for."""

MOST_STATES, MOST_MERGED = 2**17, 2**12
_MARK = ""  # no symbol of a language is empty
_BEFORE, _MARKED, _HALF, _AFTER = range(4)
_State = tuple[int, int, int]  # a phase, and where the member and the other string are; None: no word goes on


@lru_cache(maxsize=32)
def replacements(automaton: Automaton) -> Automaton:
    """The automaton of the words `u mark a b v` for which `u a v` is a member and `u b v` is none.

    Each word is one way to take a member out of the language by replacing one symbol. The automaton follows the member
    up to the mark, and the member and the other string side by side behind it: up to S states before the mark, and up
    to S**2 pairs behind it, of which few can be reached in most languages.

    Args:
        automaton: of the members, over A symbols.

    Returns:
        an automaton over A + 1 symbols, of which the last is the mark.

    Raises:
        ValueError: more than ``MOST_STATES`` pairs of states can be reached.
    """
    pairs = _Pairs(automaton)
    number, rows = {(_BEFORE, 0, 0): 0}, []
    for state in (order := list(number)):
        row = pairs.steps(state)
        for target in row:
            if target not in number:
                number[target] = len(order)
                order.append(target)
        if len(order) > MOST_STATES:
            raise ValueError(
                f"corrupted strings are drawn by pairs of states, of which this automaton of {automaton.states} states "
                f"reaches more than {MOST_STATES}; draw 'negative' strings instead"
            )
        rows.append([number[target] for target in row])
    accepting = [pairs.accepts(state) for state in order]
    found = Automaton((*automaton.alphabet, _MARK), np.array(rows), accepting)
    return found.minimal() if found.states <= MOST_MERGED else found


def has_all_or_none(automaton: Automaton) -> bool:
    """Whether a minimal automaton accepts of each length all strings or none.

    Then no replacement takes a string out of its language. In every other language some replacement does: of strings of
    a length with both, some two that differ in one symbol are on either side.
    """
    return bool((automaton.transitions == automaton.transitions[:, :1]).all())


class _Pairs:
    """Steps of a member and of another string, which part at one symbol."""

    def __init__(self, automaton: Automaton) -> None:
        self._table = automaton.transitions.tolist()
        self._accepting = automaton.accepting.tolist()
        self._may_accept, self._may_refuse = (each.live.tolist() for each in (automaton, automaton.complement()))

    def steps(self, state: _State | None) -> list[_State | None]:
        """The state after each symbol, and after the mark."""
        if state is None:
            return [None] * (len(self._table[0]) + 1)
        phase, member, other = state
        if phase == _BEFORE:
            return [*((_BEFORE, target, target) for target in self._table[member]), (_MARKED, member, member)]
        if phase == _MARKED:
            return [*((_HALF, target, other) for target in self._table[member]), None]
        members = [member] * len(self._table[0]) if phase == _HALF else self._table[member]
        return [*map(self._after, members, self._table[other]), None]

    def accepts(self, state: _State | None) -> bool:
        """Whether a word may end there."""
        if state is None:
            return False
        phase, member, other = state
        return phase == _AFTER and self._accepting[member] and not self._accepting[other]

    def _after(self, member: int, other: int) -> _State | None:
        """The state behind both symbols, unless the member or the other string cannot end as it should."""
        parted = member != other and self._may_accept[member] and self._may_refuse[other]
        return (_AFTER, member, other) if parted else None
