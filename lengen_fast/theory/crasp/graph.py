"""A program as a list of operations in the order of evaluation, each of them once: what runs, and what is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lengen_fast.theory.crasp.syntax import (
    And,
    AtMost,
    Conditional,
    Counting,
    Expression,
    Line,
    Linear,
    Name,
    Not,
    Or,
    Position,
    Query,
    Truth,
)

COUNTS = ("count", "local", "linear", "if")


class Node(NamedTuple):
    """One operation.

    Attributes:
        kind: "true", "query", "position", "not", "and", "or", "nonnegative" (Booleans); "count", "local", "linear",
            "if" (counts).
        operands: numbers of earlier nodes; condition, then and otherwise of an "if".
        data: of a query its symbol; of a position (period, residues); of a local count its distances; of a linear
            (factors of its operands, constant). A "nonnegative" has one operand, which is at least 0.
    """

    kind: str
    operands: tuple[int, ...] = ()
    data: Any = None


class Graph:
    """Nodes in the order of evaluation, equal ones shared.

    Attributes:
        nodes: operands come before what uses them.
        of_line: the node of each line of the program.
    """

    def __init__(self, lines: Sequence[Line]):
        self.nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self._sides: dict[int, tuple[Expression, int]] = {}
        self.true = self.add(Node("true"))
        self.false = self.add(Node("not", (self.true,)))
        self.of_line: dict[str, int] = {}
        for line in lines:
            self.of_line[line.name] = self.lower(line.expression)

    def add(self, node: Node) -> int:
        """The number of a node, new or old."""
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def lower(self, expression: Expression) -> int:
        """The node of an expression, sugar and trivial cases removed."""
        match expression:
            case Name(name):
                return self.of_line[name]
            case Query(symbol):
                return self.add(Node("query", (), symbol))
            case Truth(value):
                return self.true if value else self.false
            case Position(period, residues):
                return self._position(period, residues)
            case Not(operand):
                return self.negate(self.lower(operand))
            case And(operands):
                return self.conjunction([self.lower(x) for x in operands])
            case Or(operands):
                return self.disjunction([self.lower(x) for x in operands])
            case AtMost(left, right):
                return self.nonnegative(self.linear([(1, self._side(right)), (-1, self._side(left))]))
            case Counting(operand, distances):
                return self.count(self.lower(operand), distances)
            case Conditional(condition, then, otherwise):
                return self.choice(*(self.lower(x) for x in (condition, then, otherwise)))
            case Linear(terms, constant):
                return self.linear([(factor, self.lower(term)) for factor, term in terms], constant)
        raise TypeError(f"an expression must be of lengen_fast.theory.crasp.syntax, got {type(expression).__name__}")

    def _side(self, count: Expression) -> int:
        """One side of a comparison; an equation has each side twice, which nesting would double every time."""
        if id(count) not in self._sides:
            self._sides[id(count)] = count, self.lower(count)  # the count is kept, so that its id is its own
        return self._sides[id(count)][1]

    def _position(self, period: int, residues: tuple[int, ...]) -> int:
        if len(set(residues)) == period:
            return self.true
        return self.add(Node("position", (), (period, residues))) if residues else self.false

    def negate(self, operand: int) -> int:
        node = self.nodes[operand]
        return node.operands[0] if node.kind == "not" else self.add(Node("not", (operand,)))

    def conjunction(self, operands: Sequence[int]) -> int:
        return self._join("and", operands, neutral=self.true, zero=self.false)

    def disjunction(self, operands: Sequence[int]) -> int:
        return self._join("or", operands, neutral=self.false, zero=self.true)

    def _join(self, kind: str, operands: Sequence[int], neutral: int, zero: int) -> int:
        kept: dict[int, None] = {}
        for operand in operands:
            node = self.nodes[operand]
            kept.update(dict.fromkeys(node.operands if node.kind == kind else (operand,)))
        kept.pop(neutral, None)
        if zero in kept or any(self.negate(x) in kept for x in kept if self.nodes[x].kind == "not"):
            return zero
        if len(kept) <= 1:
            return next(iter(kept), neutral)
        return self.add(Node(kind, tuple(sorted(kept))))

    def count(self, operand: int, distances: tuple[int, ...] | None = None) -> int:
        if operand == self.false or distances == ():
            return self.linear([])
        if distances is None:
            return self.add(Node("count", (operand,)))
        return self.add(Node("local", (operand,), distances))

    def choice(self, condition: int, then: int, otherwise: int) -> int:
        if condition in (self.true, self.false) or then == otherwise:
            return otherwise if condition == self.false else then
        return self.add(Node("if", (condition, then, otherwise)))

    def linear(self, terms: Sequence[tuple[int, int]], constant: int = 0) -> int:
        """constant + sum of factor * node."""
        merged: dict[int, int] = {}
        for factor, operand in terms:
            node = self.nodes[operand]
            if node.kind == "linear" and not node.operands:
                constant += factor * node.data[1]
            else:
                merged[operand] = merged.get(operand, 0) + factor
        kept = sorted((operand, factor) for operand, factor in merged.items() if factor)
        if len(kept) == 1 and kept[0][1] == 1 and not constant:
            return kept[0][0]
        operands, factors = tuple(x for x, _ in kept), tuple(f for _, f in kept)
        return self.add(Node("linear", operands, (factors, constant)))

    def nonnegative(self, operand: int) -> int:
        node = self.nodes[operand]
        if node.kind == "linear" and not node.operands:
            return self.true if node.data[1] >= 0 else self.false
        return self.add(Node("nonnegative", (operand,)))

    def is_count(self, number: int) -> bool:
        return self.nodes[number].kind in COUNTS

    def needed(self, outputs: Sequence[int]) -> list[int]:
        """The nodes that the outputs depend on, each right before it is first used, so that few values wait at once."""
        order: list[int] = []
        done: set[int] = set()
        stack = list(reversed(outputs))
        while stack:
            number = stack[-1]
            missing = [x for x in self.nodes[number].operands if x not in done]
            if number in done or not missing:
                stack.pop()
                if number not in done:
                    done.add(number)
                    order.append(number)
            else:
                stack += reversed(missing)
        return order
