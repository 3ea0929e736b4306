"""What a program uses: counting depth, period, reach and the fragment of C-RASP; and which lines nothing uses."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from lengen_fast.theory.crasp.graph import Graph

if TYPE_CHECKING:
    from lengen_fast.theory.crasp.program import Program


class Properties:
    """Of the part of a program that its outputs depend on."""

    def __init__(self, program: Program):
        self._program = program
        self._graph: Graph = program.graph
        self._order = self._graph.needed([self._graph.of_line[name] for name in program.outputs])

    @cached_property
    def depth(self) -> int:
        """How deep counts are nested in counts."""
        depths: dict[int, int] = {}
        for number in self._order:
            node = self._graph.nodes[number]
            below = max((depths[x] for x in node.operands), default=0)
            depths[number] = below + (node.kind in ("count", "local"))
        return max(depths.values())

    @cached_property
    def period(self) -> int:
        """Delta, the least common multiple of the periods; 1 without positions."""
        return math.lcm(*(node.data[0] for node in self._nodes("position")))

    @cached_property
    def reach(self) -> int:
        """tau, the largest distance of a local relation; 0 without any."""
        return max((max(node.data) for node in self._nodes("local")), default=0)

    @property
    def fragment(self) -> str:
        """[], [local], [periodic] or [periodic, local]."""
        used = [name for name, kind in (("periodic", "position"), ("local", "local")) if self._nodes(kind)]
        return f"[{', '.join(used)}]"

    @cached_property
    def positive(self) -> bool:
        """Whether no comparison weighs one count against another: brought to one side, all have factors of one sign."""
        signs: dict[int, frozenset[int]] = {}
        for number in self._order:
            node = self._graph.nodes[number]
            if node.kind == "count":
                signs[number] = frozenset((1,))
            elif node.kind == "if":
                signs[number] = signs[node.operands[1]] | signs[node.operands[2]]
            elif node.kind == "linear":
                pairs = zip(node.data[0], node.operands, strict=True)
                signs[number] = frozenset(s * (1 if f > 0 else -1) for f, x in pairs for s in signs[x])
            else:
                signs[number] = frozenset()
        return all(len(signs[node.operands[0]]) <= 1 for node in self._nodes("nonnegative"))

    @cached_property
    def unused(self) -> tuple[str, ...]:
        """Definitions, by their first name, of which no output uses any member."""
        used = set(self._program.outputs)
        for line in reversed(self._program.lines):
            if line.name in used:
                used |= names_in(line.expression)
        return tuple(names[0] for _, names in self._program.definitions if names and not used.intersection(names))

    def _nodes(self, kind: str) -> list:
        return [self._graph.nodes[x] for x in self._order if self._graph.nodes[x].kind == kind]


def names_in(expression) -> set[str]:
    """The lines that an expression names."""
    from lengen_fast.theory.crasp import syntax

    names, stack = set(), [expression]
    while stack:
        match stack.pop():
            case syntax.Name(name):
                names.add(name)
            case syntax.Not(operand) | syntax.Counting(operand):
                stack.append(operand)
            case syntax.And(operands) | syntax.Or(operands):
                stack += operands
            case syntax.AtMost(left, right):
                stack += (left, right)
            case syntax.Conditional(condition, then, otherwise):
                stack += (condition, then, otherwise)
            case syntax.Linear(terms):
                stack += (term for _, term in terms)
    return names
