"""The abstract syntax of C-RASP[periodic, local] (arXiv 2410.02140, section 4): Booleans and counts at a position i.

A program is a list of named expressions; ``Name`` refers to an earlier one. All sugar of the text is gone here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BOS, SEP, END = "<bos>", "<sep>", "<eos>"
SPECIAL_SYMBOLS = (BOS, SEP, END)
"""Tokens that every program knows, numbered after its alphabet; ``<end>`` is another name of ``<eos>``."""


class CraspError(ValueError):
    """A program that is not one: what is wrong, and where.

    Attributes:
        sentence: what is wrong, with line and column.
        line, column: from 1.
        excerpt: the line of the source and, below it, a caret.
    """

    def __init__(self, what: str, source: str, line: int, column: int):
        self.line, self.column = line, column
        self.sentence = f"line {line}, column {column}: {what}"
        lines = source.splitlines()
        text = lines[line - 1] if line <= len(lines) else ""
        self.excerpt = f"    {text}\n    {''.join(c if c == chr(9) else ' ' for c in text[: column - 1])}^"
        super().__init__(f"{self.sentence}\n{self.excerpt}")


# ---- Booleans ----


@dataclass(frozen=True)
class Query:
    """Q_s(i): the symbol at i is s."""

    symbol: str


@dataclass(frozen=True)
class Position:
    """phi(i), periodic: the absolute position of i is one of ``residues`` modulo ``period``."""

    period: int
    residues: tuple[int, ...]


@dataclass(frozen=True)
class Truth:
    """true or false."""

    value: bool


@dataclass(frozen=True)
class Not:
    operand: Boolean


@dataclass(frozen=True)
class And:
    """True if there are no operands."""

    operands: tuple[Boolean, ...]


@dataclass(frozen=True)
class Or:
    """False if there are no operands."""

    operands: tuple[Boolean, ...]


@dataclass(frozen=True)
class AtMost:
    """left <= right."""

    left: Count
    right: Count


# ---- counts ----


@dataclass(frozen=True)
class Counting:
    """#[j <= i, psi(i, j)] P(j).

    Attributes:
        operand: P.
        distances: the i - j for which a local psi holds, increasing; None: psi is true.
    """

    operand: Boolean
    distances: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Conditional:
    """condition ? then : otherwise."""

    condition: Boolean
    then: Count
    otherwise: Count


@dataclass(frozen=True)
class Linear:
    """constant + the sum of factor * count over ``terms``."""

    terms: tuple[tuple[int, Count], ...]
    constant: int = 0


# ---- either ----


@dataclass(frozen=True)
class Name:
    """The value of an earlier line."""

    name: str


Boolean = Query | Position | Truth | Not | And | Or | AtMost | Name
Count = Counting | Conditional | Linear | Name
Expression = Boolean | Count


@dataclass(frozen=True)
class Line:
    """One named expression.

    Attributes:
        name: what later lines call it, such as "C_a".
        expression: of earlier names.
        is_count: whether its values are counts, else Booleans.
        place: line and column of its definition in the source.
    """

    name: str
    expression: Expression
    is_count: bool
    place: tuple[int, int] = (1, 1)


# ---- printing ----

_OR, _AND, _NOT, _ATOM = range(4)


def show(expression: Expression) -> str:
    """The expression in the syntax that ``parse`` reads."""
    return _show(expression, _OR)


def _show(e: Expression, level: int) -> str:
    text, own = _text(e)
    return f"({text})" if own < level else text


def _text(e: Expression) -> tuple[str, int]:
    match e:
        case Name(name):
            return name, _ATOM
        case Query(symbol):
            return f"Q_{quoted(symbol)}", _ATOM
        case Truth(value):
            return str(value).lower(), _ATOM
        case Position(period, residues):
            if len(residues) == 1:
                return f"position mod {period} = {residues[0]}", _NOT
            return (
                (f"position mod {period} in {{{', '.join(map(str, residues))}}}", _NOT)
                if residues
                else ("false", _ATOM)
            )
        case Not(operand):
            return f"not {_show(operand, _NOT)}", _NOT
        case And(operands) | Or(operands):
            word, own = ("and", _AND) if isinstance(e, And) else ("or", _OR)
            if len(operands) == 1:
                return _text(operands[0])
            return f" {word} ".join(_show(x, own + 1) for x in operands) or str(word == "and").lower(), own
        case AtMost(left, right):
            return f"{_show_count(left)} <= {_show_count(right)}", _NOT
        case Counting(operand, distances):
            relation = "" if distances is None else f", {_relation(distances)}"
            return f"#[j <= i{relation}] {_show(operand, _ATOM)}", _ATOM
        case Conditional(condition, then, otherwise):
            return f"{_show(condition, _OR)} ? {_show(then, _OR)} : {_show(otherwise, _OR)}", -1
        case Linear():
            return _sum(e), _NOT
    raise TypeError(f"expression must be of lengen_fast.theory.crasp.syntax, got {type(e).__name__}")


def _show_count(e: Count) -> str:
    return _text(e)[0] if isinstance(e, Linear) else _show(e, _ATOM)


def _relation(distances: tuple[int, ...]) -> str:
    if len(distances) == 1:
        return f"j = i - {distances[0]}" if distances[0] else "j = i"
    return f"i - j in {{{', '.join(map(str, distances))}}}"


def _sum(e: Linear) -> str:
    parts = []
    for factor, term in e.terms:
        scaled = _show(term, _ATOM) if abs(factor) == 1 else f"{abs(factor)} * {_show(term, _ATOM)}"
        parts.append((factor < 0, scaled))
    if e.constant or not parts:
        parts.append((e.constant < 0, str(abs(e.constant))))
    first, *rest = parts
    return ("-" if first[0] else "") + first[1] + "".join(f" {'-' if minus else '+'} {x}" for minus, x in rest)


def quoted(symbol: str) -> str:
    """A symbol as part of a name: itself, or in quotes if it would not be read back.

    A symbol with the sign ' stands between the signs ", which are written twice inside.
    """
    return symbol if _PLAIN_PART.fullmatch(symbol) else _in_quotes(symbol)


def unquoted(part: str) -> str:
    """The symbol that is written so, with quotes or without."""
    if part[0] == '"':
        return part[1:-1].replace('""', '"')
    return part[1:-1] if part[0] == "'" else part


def header(alphabet: Sequence[str]) -> str:
    """The first line of a program."""
    return " ".join(["alphabet", *(x if _PLAIN_ITEM.fullmatch(x) else _in_quotes(x) for x in alphabet)])


def _in_quotes(symbol: str) -> str:
    return '"' + symbol.replace('"', '""') + '"' if "'" in symbol else f"'{symbol}'"


_PLAIN_PART = re.compile(r"[A-Za-z0-9]+|<[^<>\s'\"]+>")
_PLAIN_ITEM = re.compile(r"[A-Za-z][A-Za-z0-9]*|[0-9]+|<[A-Za-z][A-Za-z0-9-]*>")
