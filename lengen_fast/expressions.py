"""The syntax of regular expressions: what is wrong with one, and where.

An expression is made of symbols, one character each; ``.`` for any symbol; ``( )``; ``a|b``, ``a&b`` (both); ``a*``,
``a+``, ``a?``, ``a{2}``, ``a{2,}``, ``a{,3}``, ``a{2,3}``. It stands for whole strings. ``|`` and ``&`` bind equally,
from the left: ``a|b&c`` is ``(a|b)&c``; write parentheses where both occur. automata-lib turns it into an automaton, in
a time that grows fast with the symbols that are left when every repetition is written out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

INFIX, POSTFIX = "|&", "*+?"
MOST_SYMBOLS = 1200  # with every repetition written out
RESERVED = frozenset(INFIX + POSTFIX + "(){}.")
ELSEWHERE = {
    "^": "an expression stands for the whole string as it is",
    "$": "an expression stands for the whole string as it is",
    "[": "write (a|b|c)",
    "]": "write (a|b|c)",
    "\\": "no symbol needs it, and none of " + " ".join(sorted(RESERVED)) + " can be one",
}
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")


_PIECE = re.compile(_COUNT.pattern + "|.", re.DOTALL)


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
    _check_size(regex)


def _check_size(regex: str) -> None:
    """Raise a RegexError if a correct expression is too large with every repetition written out."""
    groups = [0]  # symbols in each open parenthesis
    last = 0  # symbols in what a repetition at this place would repeat
    largest, where = 0, 0  # the largest repetition, the outermost of those of one size
    for piece in _PIECE.finditer(regex):
        text = piece[0]
        if text == "(":
            groups.append(0)
        elif text == ")":
            last = groups.pop()
            groups[-1] += last
        elif text[0] == "{":
            times = max(1, int(piece[3] or piece[1]))
            groups[-1] += last * (times - 1)
            last *= times
            if last >= largest:
                largest, where = last, piece.start()
        elif text not in INFIX + POSTFIX:
            last = 1
            groups[-1] += 1
    if groups[0] > MOST_SYMBOLS:
        raise RegexError(
            f"the expression has {groups[0]} symbols with every repetition written out, and may have {MOST_SYMBOLS}",
            regex,
            where,
        )


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
