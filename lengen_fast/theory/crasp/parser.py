"""From text to a ``Program``: reading it by the grammar, with errors that point at their place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from lengen_fast.theory.crasp.alphabet import fail
from lengen_fast.theory.crasp.expansion import expand
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.crasp.syntax import CraspError

if TYPE_CHECKING:
    from lark import Lark, Tree

_WORDS = {
    "NAME": "a name",
    "INT": "a number",
    "SPECIAL": "a special token such as <bos>",
    "QUOTED": "a quoted symbol",
    "COMPARISON": "a comparison",
    "COUNT": "a count #",
    "ANY": "*",
    "BIG": "sum(, any( or all(",
    "_NL": "the end of the line",
    "COLON": ":",
    "RPAR": ")",
    "LPAR": "(",
    "RBRACE": "}",
    "LBRACE": "{",
    "RSQB": "]",
    "LSQB": "[",
    "COMMA": ",",
    "QMARK": "?",
    "PLUS": "+",
    "MINUS": "-",
}
_BEGINS_EXPRESSION = {"NAME", "INT", "COUNT", "LPAR", "TRUE", "FALSE"}
_CONTINUES_EXPRESSION = {"AND", "OR"}
_MOST_NAMED = 4
MOST_NESTED = 64
"""Levels of an expression; brackets alone and the members of a sum, of and, of or make none."""


def parse(text: str, alphabet: Sequence[str] | None = None) -> Program:
    """The program that a text says; README and ``library/`` show the syntax.

    Args:
        text: a header ``alphabet a b ...`` and lines ``NAME := expression``.
        alphabet: the symbols, for a template whose header is ``alphabet *``.

    Raises:
        CraspError: a ValueError that says what is wrong, with line, column and a caret.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be the text of a program, got {type(text).__name__}")
    tree = _tree(text)
    _check_nesting(tree, text)
    return expand(tree, text, alphabet)


@cache
def _parser() -> Lark:
    from lark import Lark

    grammar = resources.files("lengen_fast.theory.crasp").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def _tree(text: str) -> Tree:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return _parser().parse(text + "\n")
    except UnexpectedCharacters as error:
        what = f"{text[error.pos_in_stream]!r} has no meaning here"
        raise CraspError(what, text, error.line, error.column) from None
    except UnexpectedToken as error:
        line, column = _place(text, error)
        raise CraspError(_what(text, error, line), text, line, column) from None


def _check_nesting(tree: Tree, text: str) -> None:
    """Raise a CraspError where an expression is nested too deeply for what walks over it."""
    level = [tree]
    for _ in range(MOST_NESTED):
        level = [child for parent in level for child in parent.children if hasattr(child, "data")]
        if not level:
            return
    what = f"this expression is nested more than {MOST_NESTED} deep: give a part of it a line of its own"
    fail(text, level[0], what)


def _place(text: str, error) -> tuple[int, int]:
    """Where an unexpected token stands; the end of the text for a missing one."""
    if error.token.type == "$END" or error.line is None or error.line < 1:
        lines = text.splitlines() or [""]
        return len(lines), len(lines[-1]) + 1
    return error.line, error.column


def _what(text: str, error, line: int) -> str:
    expected = set(error.accepts or error.expected)
    found = "the line ends" if error.token.type in ("_NL", "$END") else f"there is {str(error.token)!r}"
    sentence = f"{_listing(expected)} expected, but {found}"
    source = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if error.token.type == "_NL" and "COUNT" in expected and "#" in source:
        sentence += "; '# ' begins a comment, a count is written #P or #[j <= i] P"
    if source[:1].isspace() and str(error.token) in (":=", source.lstrip()[: len(error.token)]):
        sentence += "; an indented line goes on with the line above it"
    return sentence


def _listing(expected: set[str]) -> str:
    if expected >= _BEGINS_EXPRESSION:
        return "an expression"
    if expected >= _CONTINUES_EXPRESSION:
        closing = expected & {"RPAR", "RBRACE", "RSQB"}
        return "an operator or " + (_WORDS[min(closing)] if closing else "the end of the line")
    words = sorted(_WORDS.get(name, name.lower()) for name in expected)
    words = [":=" if word == "__anon_0" else word for word in words]
    if len(words) > _MOST_NAMED:
        words = [*words[:_MOST_NAMED], "..."]
    return " or ".join(words)
