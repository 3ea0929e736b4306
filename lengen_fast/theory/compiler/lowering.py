"""From the graph of a program to a circuit: local counts become fetches, conditionals selections, comparisons gates."""

from __future__ import annotations

from dataclasses import dataclass, field

from lengen_fast.theory.compiler.circuit import Circuit, Fetch, Form, Match, Select, Source, normal_form
from lengen_fast.theory.crasp.graph import Graph, Node
from lengen_fast.theory.crasp.program import Program


@dataclass
class Sum:
    """A count: constant plus factor times each term, by term."""

    counts: dict[int, int] = field(default_factory=dict)
    booleans: dict[int, int] = field(default_factory=dict)
    selects: dict[Select, int] = field(default_factory=dict)
    constant: int = 0

    def add(self, other: Sum, factor: int = 1) -> Sum:
        for mine, theirs in zip(self._parts(), other._parts(), strict=True):
            for key, own in theirs.items():
                mine[key] = mine.get(key, 0) + factor * own
        self.constant += factor * other.constant
        return self

    def add_boolean(self, literal: int, factor: int) -> Sum:
        """Add ``factor`` where the literal holds."""
        if literal < 0:
            self.constant += factor
            literal, factor = ~literal, -factor
        self.booleans[literal] = self.booleans.get(literal, 0) + factor
        return self

    def _parts(self) -> tuple[dict, dict, dict]:
        return self.counts, self.booleans, self.selects


@dataclass(frozen=True)
class Matching:
    """A disjunction that one head with content matching decides, by numbers of graph nodes."""

    pairs: tuple[tuple[int, tuple[int, ...]], ...]  # query, conjunction of keys
    value: tuple[int, ...]  # conjunction
    others: tuple[int, ...]  # operands of the disjunction that are no part of it


def lower(program: Program) -> tuple[Circuit, dict[str, int]]:
    """The circuit of a program, and the literal of each output."""
    lowering = _Lowering(program)
    return lowering.circuit, {name: lowering.literal(program.graph.of_line[name]) for name in program.outputs}


class _Lowering:
    def __init__(self, program: Program):
        self.graph: Graph = program.graph
        self.circuit = Circuit()
        self.literals: dict[int, int] = {}
        self.sums: dict[int, Sum] = {}
        self.matchings: dict[int, Matching | None] = {}

    def literal(self, number: int) -> int:
        """The literal of a Boolean node, and of everything it needs."""
        stack = [number]
        while stack:
            missing = [x for x in self.needs(stack[-1]) if x not in self.literals and x not in self.sums]
            if missing:
                stack += missing
                continue
            done = stack.pop()
            if done in self.literals or done in self.sums:
                continue
            if self.graph.is_count(done):
                self.sums[done] = self.sum_of(self.graph.nodes[done])
            else:
                self.literals[done] = self.literal_of(done, self.graph.nodes[done])
        return self.literals[number]

    def needs(self, number: int) -> tuple[int, ...]:
        matching = self.matching(number)
        if matching is None:
            return self.graph.nodes[number].operands
        return (*matching.value, *matching.others, *(x for query, keys in matching.pairs for x in (query, *keys)))

    # ---- Booleans ----

    def literal_of(self, number: int, node: Node) -> int:
        circuit = self.circuit
        operands = [self.literals[x] for x in node.operands if x in self.literals]
        match node.kind:
            case "true":
                return circuit.true
            case "query":
                return circuit.add(Source("token", node.data))
            case "position":
                return circuit.add(Source("position", node.data))
            case "not":
                return ~operands[0]
            case "and":
                return circuit.conjunction(operands)
            case "or":
                return self.disjunction(number, node)
            case "nonnegative":
                return self.at_least_zero(self.sums[node.operands[0]])
        raise AssertionError(node.kind)

    def at_least_zero(self, count: Sum) -> int:
        form, scale = normal_form(*count._parts())
        if form == Form():
            return self.circuit.true if count.constant >= 0 else self.circuit.false
        if scale > 0:
            return self.circuit.bound(form, -(count.constant // scale), None)
        return self.circuit.bound(form, None, count.constant // -scale)

    def disjunction(self, number: int, node: Node) -> int:
        matching = self.matching(number)
        if matching is None:
            return self.circuit.disjunction(self.literals[x] for x in node.operands)
        conjunction = lambda nodes: self.circuit.conjunction(self.literals[x] for x in nodes)  # noqa: E731
        pairs = tuple((self.literals[query], conjunction(keys)) for query, keys in matching.pairs)
        match = Match(tuple(sorted(pairs)), conjunction(matching.value))
        if not all(map(self.circuit.never_at_bos, (match.value, *(key for _, key in pairs)))):
            self.matchings[number] = None
            for operand in node.operands:
                self.literal(operand)
            return self.disjunction(number, node)
        found = self.circuit.bound(Form(match=match), 1, None)
        return self.circuit.disjunction([found, *(self.literals[x] for x in matching.others)])

    def matching(self, number: int) -> Matching | None:
        if number not in self.matchings:
            node = self.graph.nodes[number]
            self.matchings[number] = _matching(self.graph, node) if node.kind == "or" else None
        return self.matchings[number]

    # ---- counts ----

    def sum_of(self, node: Node) -> Sum:
        match node.kind:
            case "count":
                return self.count(self.literals[node.operands[0]])
            case "local":
                total = Sum()
                for distance in node.data:
                    total.add_boolean(self.fetch(self.literals[node.operands[0]], distance), 1)
                return total
            case "linear":
                total = Sum(constant=node.data[1])
                for factor, operand in zip(node.data[0], node.operands, strict=True):
                    total.add(self.sums[operand], factor)
                return total
            case "if":
                condition, then, otherwise = node.operands
                difference = Sum().add(self.sums[then]).add(self.sums[otherwise], -1)
                return self.selected(self.literals[condition], difference).add(self.sums[otherwise])
        raise AssertionError(node.kind)

    def count(self, literal: int) -> Sum:
        """#P: where P can hold at BOS only, whether it does, which a head reads there."""
        at_bos = self.circuit.at_first_position(literal)
        if at_bos is None:
            return Sum(counts={literal: 1})
        if at_bos == self.circuit.true:
            return Sum(constant=1)
        return Sum().add_boolean(self.circuit.add(Fetch(at_bos, 0, "bos")), 1)

    def fetch(self, literal: int, distance: int) -> int:
        """A literal that holds where ``literal`` did ``distance`` positions before."""
        circuit = self.circuit
        if distance == 0 or literal == circuit.false:
            return literal
        behind_bos = literal if circuit.never_at_bos(literal) else circuit.conjunction((literal, ~circuit.bos))
        parts = []
        if behind_bos != circuit.false:
            parts.append(circuit.add(Fetch(behind_bos, distance, "bos")))
        if not circuit.never_at_bos(literal):
            at_bos = circuit.add(Fetch(circuit.conjunction((literal, circuit.bos)), distance, "self"))
            parts.append(circuit.conjunction((at_bos, ~circuit.bos)))
        return circuit.disjunction(parts)

    def selected(self, condition: int, count: Sum) -> Sum:
        """The count where the condition holds, else 0."""
        circuit, total = self.circuit, Sum()
        total.add_boolean(condition, count.constant)
        for signal, factor in count.booleans.items():
            total.add_boolean(circuit.conjunction((condition, signal)), factor)
        for select, factor in count.selects.items():
            both = circuit.conjunction((condition, select.condition))
            total.add(Sum(selects={Select(both, select.form): factor}))
        form, scale = normal_form(count.counts, {}, {})
        if form != Form():
            total.add(Sum(selects={Select(condition, form): scale}))
        return total


def _matching(graph: Graph, node: Node) -> Matching | None:
    """Terms (Q_a and exists (K_a and V)) of a disjunction, for two or more symbols a and one V."""
    found: dict[int, tuple[int, frozenset[int]]] = {}
    for operand in node.operands:
        term = _term(graph, graph.nodes[operand])
        if term is not None and term[0] not in (query for query, _ in found.values()):
            found[operand] = term
    value = frozenset.intersection(*(keys for _, keys in found.values())) if found else frozenset()
    if len(found) < 2 or not value or any(keys == value for _, keys in found.values()):
        return None
    pairs = tuple((query, tuple(sorted(keys - value))) for query, keys in found.values())
    return Matching(pairs, tuple(sorted(value)), tuple(x for x in node.operands if x not in found))


def _term(graph: Graph, node: Node) -> tuple[int, frozenset[int]] | None:
    """The query and the counted conjunction of a term, if it has that shape."""
    if node.kind != "and" or len(node.operands) != 2:
        return None
    for query, other in (node.operands, node.operands[::-1]):
        if graph.nodes[query].kind == "query":
            counted = _counted_once(graph, graph.nodes[other])
            if counted is not None and graph.nodes[counted].kind == "and":
                return query, frozenset(graph.nodes[counted].operands)
    return None


def _counted_once(graph: Graph, node: Node) -> int | None:
    """P, if the node says 1 <= #P."""
    if node.kind != "nonnegative":
        return None
    linear = graph.nodes[node.operands[0]]
    if linear.kind != "linear" or linear.data != ((1,), -1):
        return None
    count = graph.nodes[linear.operands[0]]
    return count.operands[0] if count.kind == "count" else None
