"""From the tree of a text to lines: families written out, sugar removed, names, types and relations checked."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from lengen_fast.theory.crasp import alphabet as named
from lengen_fast.theory.crasp import relations
from lengen_fast.theory.crasp.program import NEXT, Program
from lengen_fast.theory.crasp.relations import summands
from lengen_fast.theory.crasp.syntax import (
    BOS,
    END,
    SPECIAL_SYMBOLS,
    And,
    AtMost,
    Boolean,
    Conditional,
    Count,
    Counting,
    CraspError,
    Expression,
    Line,
    Linear,
    Name,
    Not,
    Or,
    Position,
    Query,
    Truth,
    quoted,
    unquoted,
)

if TYPE_CHECKING:
    from lark import Token, Tree

MOST_EXPRESSIONS = 5_000_000
"""A family may not write out more than this, numbers of a periodic or local predicate included."""

MOST_MEMBERS = 1_000_000
"""Of a family, before its guards."""

LONGEST_PERIOD = 65_536

_PART = re.compile(r"_([A-Za-z0-9]+|<[^<>\s]+>|'[^'\s]+'|\"(?:[^\"\s]|\"\")+\")")
_RESERVED = ("i", "j", "SIGMA")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}

_EXPRESSIONS = (
    *("name", "number", "true", "false", "not_", "and_", "or_", "compare", "member", "position", "relative"),
    *("counting", "exists", "conditional", "add", "negative", "multiply", "modulo", "index_symbol", "big"),
)

Indices = dict[str, "str | int"]
"""Values of the index variables: a symbol, or a number of a range."""


def expand(tree: Tree, source: str, alphabet: Sequence[str] | None = None) -> Program:
    """The program of a parsed text; see ``parse``."""
    header = next((child for child in tree.children if child.data == "header"), None)
    expansion = _Expansion(source, named.alphabet_of(header, source, alphabet))
    for child in tree.children:
        if child.data == "statement":
            expansion.statement(child)
    if not expansion.lines:
        raise CraspError("a program needs at least one line NAME := expression", source, 1, 1)
    return Program(expansion.alphabet, tuple(expansion.lines.values()), source, tuple(expansion.definitions))


class _Expansion:
    """One pass over the statements; ``lines`` grows."""

    def __init__(self, source: str, alphabet: tuple[str, ...]):
        self.source, self.alphabet = source, alphabet
        self.place_of_symbol = {symbol: place for place, symbol in enumerate((*alphabet, *SPECIAL_SYMBOLS))}
        self.lines: dict[str, Line] = {}
        self.definitions: list[tuple[tuple[int, int], tuple[str, ...]]] = []
        self.expressions = 0
        self.readers = {kind: getattr(self, f"_{kind.strip('_')}") for kind in _EXPRESSIONS}

    def fail(self, at: Tree | Token, what: str) -> NoReturn:
        named.fail(self.source, at, what)

    def spend(self, at: Tree | Token, expressions: int = 1) -> None:
        """Count what is written out, and refuse what is too much."""
        self.expressions += expressions
        if self.expressions > MOST_EXPRESSIONS:
            self.fail(at, f"the families write out more than {MOST_EXPRESSIONS} expressions: use a smaller alphabet")

    # ---- statements and families ----

    def statement(self, tree: Tree) -> None:
        *binder, name, expression = tree.children
        names = []
        for indices in self.bindings(binder[0]) if binder else [{}]:
            names.append(self.define(name, expression, indices))
        self.definitions.append(((name.line, name.column), tuple(names)))

    def define(self, token: Token, tree: Tree, indices: Indices) -> str:
        name = self.name(token, indices)
        if name in self.lines:
            self.fail(token, f"{name} is defined twice, first on line {self.lines[name].place[0]}")
        if name.split("_")[0] in ("Q", *_RESERVED) or name in indices:
            self.fail(token, f"{name} cannot name a line: it has a meaning of its own")
        expression, is_count = self.expression(tree, indices)
        if name.startswith(NEXT):
            self.check_output(token, name, is_count)
        self.lines[name] = Line(name, expression, is_count, (token.line, token.column))
        return name

    def check_output(self, token: Token, name: str, is_count: bool) -> None:
        """A line NEXT_s says whether the symbol s, or the end, may come next."""
        symbol = name.removeprefix(NEXT)
        if symbol not in map(quoted, (*self.alphabet, END)):
            self.fail(token, f"{name} predicts no symbol: NEXT_ goes with a symbol of the alphabet, or with <end>")
        if is_count:
            self.fail(token, f"{name} is a count, and must be a Boolean: compare it, as in C >= 1")

    def name(self, token: Token, indices: Indices) -> str:
        """A name with the values of index variables in the place of its parts, and with quotes only where needed."""
        base, *parts = self.parts(token, indices)
        return "_".join([base, *map(quoted, parts)])

    def parts(self, token: Token, indices: Indices) -> list[str]:
        return [part if place == 0 else self.part(part, indices) for place, part in enumerate(_split(str(token)))]

    @staticmethod
    def part(part: str, indices: Indices) -> str:
        if part[0] in "'\"":
            part = unquoted(part)
        elif part in indices:
            part = str(indices[part])
        return END if part == "<end>" else part

    def bindings(self, binder: Tree, outer: Indices | None = None) -> Iterator[Indices]:
        """The index variables of each member of a family."""
        outer = outer or {}
        domains = [child for child in binder.children if child.data == "domain"]
        guards = [child for child in binder.children if child.data != "domain"]
        variables, families = [], []
        for domain in domains:
            *names, family = domain.children
            values = self.family(family)
            for name in names:
                if "_" in name or name in _RESERVED or name in variables:
                    self.fail(name, f"{name} cannot be an index: use a name of its own, without _, other than i and j")
                variables.append(str(name))
                families.append(values)
        members = math.prod(map(len, families))
        if members > MOST_MEMBERS:
            self.fail(binder, f"this family has {members:,} members, more than {MOST_MEMBERS:,}")
        for values in itertools.product(*families):
            self.spend(binder)
            indices = outer | dict(zip(variables, values, strict=True))
            if all(self.guard(guard, indices) for guard in guards):
                yield indices

    def family(self, tree: Tree) -> list[str | int]:
        values: list[str | int] = []
        for part in tree.children:
            if part.data == "number_range":
                values += named.numbers(part, self.source)
            elif part.data == "family_set":
                symbols = [symbol for child in part.children for symbol in named.symbols(child, self.source)]
                values += [self.symbol(part, END if symbol == "<end>" else symbol) for symbol in symbols]
            elif str(part.children[0]) == "SIGMA":
                values += self.alphabet
            else:
                self.fail(
                    part,
                    f"there is no family {part.children[0]}: use SIGMA, a set such as {{a, b}} or a range such as 0..2",
                )
        return values

    def symbol(self, at: Tree | Token, symbol: str) -> str:
        if symbol not in self.place_of_symbol:
            known = " ".join((*self.alphabet[:12], *(["..."] if len(self.alphabet) > 12 else []), *SPECIAL_SYMBOLS))
            self.fail(at, f"{symbol} is no symbol of the alphabet: {known}")
        return symbol

    # ---- index expressions ----

    def guard(self, tree: Tree, indices: Indices) -> bool:
        kind = getattr(tree, "data", None)
        if kind == "compare":
            *_, last = self.compared(tree, indices)
            return last
        if kind in ("and_", "or_"):
            values = [self.guard(child, indices) for child in tree.children]
            return all(values) if kind == "and_" else any(values)
        if kind == "not_":
            return not self.guard(tree.children[0], indices)
        self.fail(tree, "a guard compares indices, as in: where u != v")

    def compared(self, tree: Tree, indices: Indices) -> Iterator[bool]:
        values = [self.index(child, indices) for child in tree.children[::2]]
        yield all(_COMPARE[str(op)](a, b) for op, a, b in zip(tree.children[1::2], values, values[1:], strict=False))

    def index(self, tree: Tree, indices: Indices) -> int:
        """A number; a symbol is its place in the alphabet."""
        match tree.data:
            case "number":
                return named.number(tree.children[0], self.source)
            case "name":
                word = str(tree.children[0])
                value = indices.get(word, word)
                return value if isinstance(value, int) else self.place_of_symbol[self.symbol(tree, value)]
            case "index_symbol":
                return self.place_of_symbol[self.symbol(tree, self.part(str(tree.children[0]), {}))]
            case "negative":
                return -self.index(tree.children[0], indices)
            case "add":
                return sum(sign * self.index(child, indices) for sign, child in summands(tree))
            case "multiply" | "modulo":
                a, b = (self.index(child, indices) for child in (tree.children[0], tree.children[-1]))
                if tree.data == "modulo":
                    return a % b if b > 0 else self.fail(tree, f"mod needs a number of at least 1, got {b}")
                return a * b
        self.fail(tree, "an index expression has numbers, index variables, +, -, * and mod only")

    # ---- expressions ----

    def expression(self, tree: Tree, indices: Indices) -> tuple[Expression, bool]:
        """An expression and whether it is a count."""
        self.spend(tree)
        return self.readers[tree.data](tree, indices)

    def boolean(self, tree: Tree, indices: Indices) -> Boolean:
        expression, is_count = self.expression(tree, indices)
        if is_count:
            self.fail(tree, "a count stands where a Boolean is needed: compare it, as in C >= 1")
        return expression

    def count(self, tree: Tree, indices: Indices) -> Count:
        expression, is_count = self.expression(tree, indices)
        if not is_count:
            self.fail(tree, "a Boolean stands where a count is needed: write #P, or P ? 1 : 0")
        return expression

    def _name(self, tree: Tree, indices: Indices) -> tuple[Expression, bool]:
        token = tree.children[0]
        if isinstance(indices.get(str(token)), int):
            return Linear((), indices[str(token)]), True
        base, *parts = self.parts(token, indices)
        if base == "Q" and len(parts) == 1:
            return Query(self.symbol(tree, parts[0])), False
        name = "_".join([base, *map(quoted, parts)])
        line = self.lines.get(name)
        if line is None:
            self.fail(tree, self.undefined(str(token), name, indices))
        return Name(name), line.is_count

    def undefined(self, written: str, name: str, indices: Indices) -> str:
        if written in ("i", "j"):
            return f"{written} stands for a position only inside #[...]"
        if written in indices:
            return f"index {written} stands for a symbol, which is neither a Boolean nor a count: write Q_{written}"
        if re.search(rf"(?m)^(for .*:\s*)?{re.escape(written.split('_')[0])}(_\S*)?\s*:=", self.source):
            return f"{name} is not defined on an earlier line: a line sees only the lines above it"
        return f"{name} is not defined"

    def _number(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        return Linear((), named.number(tree.children[0], self.source)), True

    def _true(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        return Truth(True), False

    def _false(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        return Truth(False), False

    def _not(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        return Not(self.boolean(tree.children[0], indices)), False

    def _and(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        return And(tuple(self.boolean(child, indices) for child in tree.children)), False

    def _or(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        return Or(tuple(self.boolean(child, indices) for child in tree.children)), False

    def _compare(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        if any(_mentions_position(child) for child in tree.children):
            return self.periodic(tree, indices), False
        counts = [self.count(child, indices) for child in tree.children[::2]]
        operators = map(str, tree.children[1::2])
        parts = [_comparison(op, a, b) for op, a, b in zip(operators, counts, counts[1:], strict=False)]
        return (parts[0] if len(parts) == 1 else And(tuple(parts))), False

    def _member(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        if not _mentions_position(tree.children[0]):
            self.fail(tree, "'in' tests a position, as in: position mod 6 in {1, 2}")
        return self.periodic(tree, indices), False

    def periodic(self, tree: Tree, indices: Indices) -> Boolean:
        """position mod m = r, != r, or in {...}."""
        subject, *rest = tree.children
        is_residue = getattr(subject, "data", None) == "modulo" and subject.children[0].data == "position"
        operator = "in" if tree.data == "member" else str(rest.pop(0))
        if not is_residue or operator not in ("in", "=", "!=") or any(map(_mentions_position, rest)):
            self.fail(
                tree,
                "a relation to the position must be periodic, as in: position mod 4 = 1, or position mod 4 in {1, 2}",
            )
        period = self.period(subject, "mod needs a number", subject.children[1], indices)
        residues = {self.index(child, indices) % period for child in rest}
        if operator == "!=":
            self.spend(tree, period)
            residues = set(range(period)) - residues
        return Position(period, tuple(sorted(residues)))

    def period(self, at: Tree, needs: str, tree: Tree, indices: Indices) -> int:
        period = self.index(tree, indices)
        if period < 1:
            self.fail(at, f"{needs} of at least 1, got {period}")
        if period > LONGEST_PERIOD:
            self.fail(at, f"the period is {period}, more than {LONGEST_PERIOD}")
        return period

    def _position(self, tree: Tree, indices: Indices) -> NoReturn:
        self.fail(tree, "a relation to the position must be periodic, as in: position mod 4 = 1")

    def _relative(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        """REL(D, k): i minus the position of BOS is k modulo D."""
        period = self.period(tree, "REL needs a period", tree.children[0], indices)
        shift = self.index(tree.children[1], indices)
        self.spend(tree, period)
        started = [_exists(And((Query(BOS), Position(period, (r,))))) for r in range(period)]
        return Or(tuple(And((s, Position(period, ((r + shift) % period,)))) for r, s in enumerate(started))), False

    # ---- counts ----

    def _counting(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        _, *relation, operand = tree.children
        return self.counted(relation, operand, indices), True

    def _exists(self, tree: Tree, indices: Indices) -> tuple[Boolean, bool]:
        *relation, operand = tree.children
        return AtMost(Linear((), 1), self.counted(relation, operand, indices)), False

    def counted(self, relation: list[Tree], operand: Tree, indices: Indices) -> Counting:
        distances = None
        if relation:
            index = lambda tree: self.index(tree, indices)  # noqa: E731
            try:
                distances = relations.distances(relation[0].children, index)
            except relations.NotLocal as error:
                self.fail(error.tree, str(error))
            self.spend(relation[0], len(distances or ()))
        expression, is_count = self.expression(operand, indices)
        if is_count:
            self.fail(
                operand,
                "only Booleans are counted, not counts; a comparison needs parentheses here, as in exists (C < 0)",
            )
        return Counting(expression, distances)

    def _conditional(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        condition = self.boolean(tree.children[0], indices)
        return Conditional(condition, *(self.count(child, indices) for child in tree.children[1:])), True

    def _add(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        return _linear((sign, self.count(child, indices)) for sign, child in summands(tree)), True

    def _negative(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        return _linear([(-1, self.count(tree.children[0], indices))]), True

    def _multiply(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        left, right = (self.count(child, indices) for child in (tree.children[0], tree.children[2]))
        for factor, other in ((left, right), (right, left)):
            if isinstance(factor, Linear) and not factor.terms:
                return _linear([(factor.constant, other)]), True
        self.fail(tree, "a product of two counts is not in C-RASP: one factor must be a number")

    def _modulo(self, tree: Tree, indices: Indices) -> tuple[Count, bool]:
        if _mentions_position(tree):
            self._position(tree, indices)
        return Linear((), self.index(tree, indices)), True

    def _index_symbol(self, tree: Tree, indices: Indices) -> NoReturn:
        self.fail(tree, f"{tree.children[0]} is a symbol, neither a Boolean nor a count: write Q_{tree.children[0]}")

    # ---- sums over families ----

    def _big(self, tree: Tree, indices: Indices) -> tuple[Expression, bool]:
        word, binder, body = tree.children
        members = list(self.bindings(binder, indices))
        if str(word) == "sum":
            return _linear((1, self.count(body, member)) for member in members), True
        operands = tuple(self.boolean(body, member) for member in members)
        return (Or if str(word) == "any" else And)(operands), False


@cache
def _split(name: str) -> tuple[str, ...]:
    """The base of a name and its parts, as they are written."""
    base = name.split("_")[0]
    return base, *_PART.findall(name[len(base) :])


def _linear(terms: Iterator[tuple[int, Count]] | list[tuple[int, Count]]) -> Linear:
    """The sum, with the sums and numbers among its terms merged into it."""
    merged: dict[Any, int] = {}
    constant = 0
    for factor, term in terms:
        if isinstance(term, Linear):
            constant += factor * term.constant
            inner = term.terms
        else:
            inner = ((1, term),)
        for own, part in inner:
            merged[part] = merged.get(part, 0) + factor * own
    return Linear(tuple((factor, part) for part, factor in merged.items() if factor), constant)


def _comparison(operator: str, left: Count, right: Count) -> Boolean:
    match operator:
        case "<=":
            return AtMost(left, right)
        case ">=":
            return AtMost(right, left)
        case "<":
            return AtMost(_linear([(1, left), (1, Linear((), 1))]), right)
        case ">":
            return AtMost(_linear([(1, right), (1, Linear((), 1))]), left)
    equal = And((AtMost(left, right), AtMost(right, left)))
    return Not(equal) if operator == "!=" else equal


def _exists(operand: Boolean) -> Boolean:
    return AtMost(Linear((), 1), Counting(operand))


def _mentions_position(tree: Any) -> bool:
    if not hasattr(tree, "data"):
        return False
    return tree.data == "position" or (tree.data in _ARITHMETIC and any(map(_mentions_position, tree.children)))


_ARITHMETIC = ("add", "multiply", "modulo", "negative")
