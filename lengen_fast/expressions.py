"""The syntax of regular expressions: what is wrong with one, and where.

An expression is made of symbols, one character each; ``.`` for any symbol; ``( )``; ``a|b``, ``a&b`` (both); ``a*``,
``a+``, ``a?``, ``a{2}``, ``a{2,}``, ``a{,3}``, ``a{2,3}``. It stands for whole strings. automata-lib turns it into an
automaton.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

INFIX, POSTFIX = "|&", "*+?"
RESERVED = frozenset(INFIX + POSTFIX + "(){}.")
ELSEWHERE = {
    "^": "an expression stands for the whole string as it is",
    "$": "an expression stands for the whole string as it is",
    "[": "write (a|b|c)",
    "]": "write (a|b|c)",
    "\\": "no symbol needs it, and none of " + " ".join(sorted(RESERVED)) + " can be one",
}
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")


class RegexError(ValueError):
    """An expression with an error; its text shows the expression and a caret under the place."""

    def __init__(self, reason: str, regex: str, place: int):
        super().__init__(f"{reason}, at place {place + 1} of the regular expression\n  {regex}\n  {' ' * place}^")


def symbols_of(regex: str) -> tuple[str, ...]:
    """The symbols that an expression names, in order of their characters."""
    return tuple(sorted(set(_COUNT.sub("", regex)) - RESERVED))


def check_expression(regex: str, alphabet: Sequence[str] | None) -> None:
    """Raise a RegexError if an expression cannot be read, or names a symbol that is not in ``alphabet``.

    Without an alphabet any character may be a symbol, and ``.`` means nothing.
    """
    opened: list[int] = []
    wants_operand: int | None = None  # the place of an infix operator with nothing behind it yet
    may_repeat = False  # whether something stands before this place that can be repeated
    place = 0
    while place < len(regex):
        character, width = regex[place], 1
        if character in INFIX:
            if not may_repeat:
                raise RegexError(f"{character} has nothing before it; () is the empty string", regex, place)
            wants_operand, may_repeat = place, False
        elif character in POSTFIX or character == "{":
            width = _check_count(regex, place) if character == "{" else 1
            if not may_repeat:
                raise RegexError(f"{regex[place : place + width]} has nothing to repeat", regex, place)
        elif character == ")":
            if not opened:
                raise RegexError(") closes a parenthesis that was not opened", regex, place)
            start = opened.pop()
            if wants_operand is not None and wants_operand > start:
                raise RegexError(_nothing_behind(regex, wants_operand), regex, wants_operand)
            may_repeat = True
        elif character == "(":
            opened.append(place)
            wants_operand, may_repeat = None, False
        else:
            _check_symbol(regex, place, alphabet)
            wants_operand, may_repeat = None, True
        place += width
    if wants_operand is not None:
        raise RegexError(_nothing_behind(regex, wants_operand), regex, wants_operand)
    if opened:
        raise RegexError("( is not closed", regex, opened[-1])


def _nothing_behind(regex: str, place: int) -> str:
    return f"{regex[place]} has nothing behind it; () is the empty string"


def _check_count(regex: str, place: int) -> int:
    """The width of a repetition such as {2,3}."""
    found = _COUNT.match(regex, place)
    if found is None or not (found[1] or found[3]):
        raise RegexError("{ must begin a repetition such as {2} or {2,3}", regex, place)
    least, comma, most = found.groups()
    greatest = int(most) if most else None if comma else int(least)
    if greatest == 0:
        raise RegexError(f"{found[0]} leaves nothing over; write ()", regex, place)
    if greatest is not None and int(least or 0) > greatest:
        raise RegexError(f"{found[0]} asks for at least {least} and at most {greatest}", regex, place)
    if max(int(least or 0), greatest or 0) > 1000:
        raise RegexError(f"{found[0]} repeats more than 1000 times", regex, place)
    return len(found[0])


def _check_symbol(regex: str, place: int, alphabet: Sequence[str] | None) -> None:
    character = regex[place]
    if character in ELSEWHERE:
        raise RegexError(f"{character} is not part of the syntax; {ELSEWHERE[character]}", regex, place)
    if character == "}":
        raise RegexError("} ends a repetition that was not begun", regex, place)
    if character.isspace():
        raise RegexError("a space cannot be a symbol", regex, place)
    if character == "." and alphabet is None:
        raise RegexError(". is any symbol of the alphabet, and no alphabet was given", regex, place)
    if character != "." and alphabet is not None and character not in alphabet:
        raise RegexError(f"{character!r} is not in the alphabet {' '.join(alphabet)}", regex, place)
