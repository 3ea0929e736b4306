"""The alphabet of a program, and the symbols, numbers and ranges that its text names, within bounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lengen_fast.theory.crasp.syntax import SPECIAL_SYMBOLS, CraspError, unquoted

if TYPE_CHECKING:
    from lark import Token, Tree

MOST_SYMBOLS = 65_536
"""The largest alphabet, and the longest range in one."""

LONGEST_RANGE = 1_000_000
"""The numbers that a range in a family may have."""

MOST_DIGITS = 100
"""Of a number in a program."""

RESERVED_SYMBOLS = (*SPECIAL_SYMBOLS, "<end>")


def fail(source: str, at: Tree | Token, what: str) -> NoReturn:
    """Raise a CraspError at a part of a text."""
    meta = getattr(at, "meta", at)
    raise CraspError(what, source, meta.line, meta.column)


def alphabet_of(header: Tree | None, source: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """The symbols of a header, or for a template those given."""
    if header is None:
        raise CraspError("a program begins with its alphabet, such as: alphabet a b", source, 1, 1)
    is_template = str(header.children[0]) == "*"
    if is_template and given is None:
        fail(
            source,
            header,
            "the alphabet * is to be given: parse(text, alphabet=[...]), or on the command line --alphabet 'a b'",
        )
    symbols = tuple(given) if is_template else _written(header, source)
    if not is_template and given is not None and symbols != tuple(given):
        own, others = (" ".join(map(str, names[:10])) for names in (symbols, tuple(given)))
        fail(source, header, f"the program has its own alphabet, {own}; it cannot take {others or 'an empty one'}")
    try:
        check_alphabet(symbols)
    except ValueError as error:
        fail(source, header, str(error))
    return symbols


def _written(header: Tree, source: str) -> tuple[str, ...]:
    return tuple(symbol for child in header.children for symbol in symbols(child, source))


def check_alphabet(names: Sequence[str]) -> None:
    """Raise a ValueError unless a program can be written over an alphabet."""
    if not names:
        raise ValueError("the alphabet is empty: a program needs one symbol or more")
    if len(names) > MOST_SYMBOLS:
        raise ValueError(f"the alphabet has {len(names):,} symbols, more than {MOST_SYMBOLS:,}")
    for name in names:
        if not isinstance(name, str) or not name or re.search(r"\s", name):
            raise ValueError(f"{name!r} is no symbol of an alphabet: it must be a text without spaces")
        if name in RESERVED_SYMBOLS:
            raise ValueError(f"{name} is no symbol of an alphabet: every program has it; rename the symbol")
    if len(set(names)) < len(names):
        raise ValueError("a symbol stands twice in the alphabet")


def symbols(tree: Tree, source: str) -> list[str]:
    """The symbols that an item of an alphabet or of a set names."""
    if tree.data == "symbol_range":
        return list(map(str, numbers(tree, source, MOST_SYMBOLS)))
    return [unquoted(str(tree.children[0]))]


def numbers(tree: Tree, source: str, most: int = LONGEST_RANGE) -> range:
    """The numbers of a range such as 0..3."""
    low, high = (number(child, source) for child in tree.children)
    found = range(low, high + 1)
    if high - low >= most:
        fail(source, tree, f"the range {low}..{high} has {high - low + 1:,} numbers, more than {most:,}")
    return found


def number(token: Token, source: str) -> int:
    """The value of a number."""
    digits = str(token).lstrip("0") or "0"
    if len(digits) > MOST_DIGITS:
        fail(source, token, f"this number has {len(digits):,} digits, more than {MOST_DIGITS}")
    return int(digits)
