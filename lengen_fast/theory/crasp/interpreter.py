"""The meaning of a program: exact integers, a batch of strings at a time, in one pass over the positions.

``Stream`` carries what a program remembers from one stretch of tokens to the next: a total for each count, and the last
few values under each local one. ``Program.run`` is a stream that is fed everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lengen_fast.theory.crasp.graph import Node

if TYPE_CHECKING:
    from lengen_fast.theory.crasp.program import Program

BYTES_AT_ONCE = 1 << 26  # of values that wait for their last use
LONGEST_STRETCH = 1 << 16  # positions
LARGEST = 2**62


class Stream:
    """A program at work on B strings, their tokens coming in stretches.

    Args:
        program: what runs.
        batch: B; None: one string, whose arrays have no batch dimension.
        offset: absolute position of the first token, a number or [B].
    """

    def __init__(self, program: Program, batch: int | None = None, offset: int | np.ndarray = 0):
        self.program = program
        self.flat = batch is None
        rows = 1 if batch is None else batch
        self.offset = _offsets(offset, rows)
        self.length = 0
        graph = program.graph
        outputs = [graph.of_line[name] for name in program.outputs]
        self._plan = _plan_of(program, outputs)
        self._totals = {x: np.zeros(rows, np.int64) for x in self._plan.order if graph.nodes[x].kind == "count"}
        self._recent = {
            x: np.zeros((rows, max(graph.nodes[x].data)), bool)
            for x in self._plan.order
            if graph.nodes[x].kind == "local"
        }

    def feed(self, tokens: np.ndarray | Sequence[int]) -> dict[str, np.ndarray]:
        """Values of the outputs at the next tokens.

        Args:
            tokens: [T] or [B, T] ids of the program's vocabulary.

        Returns:
            By the name of the output, [T] or [B, T], bool (int64 for a count).
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != (1 if self.flat else 2) or (not self.flat and len(tokens) != len(self.offset)):
            wanted = "[T]" if self.flat else f"[{len(self.offset)}, T]"
            raise ValueError(f"tokens must have shape {wanted}, got {tokens.shape}")
        tokens = self.program.check_tokens(tokens).reshape(len(self.offset), tokens.shape[-1])
        self._check_size(tokens.shape[1])
        step = self._plan.stretch(len(tokens))
        stretches = [self._stretch(tokens[:, at : at + step]) for at in range(0, max(tokens.shape[1], 1), step)]
        joined = {name: np.concatenate([part[name] for part in stretches], axis=1) for name in self.program.outputs}
        return {name: values[0] if self.flat else values for name, values in joined.items()}

    def _check_size(self, more: int) -> None:
        largest = self._plan.magnitude * (self.length + more + 1)
        if largest >= LARGEST:
            raise ValueError(
                f"counts of this program may reach {largest} after {self.length + more} tokens, "
                f"beyond numbers of 64 bits: use smaller factors"
            )

    def _stretch(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[int, np.ndarray] = {}
        nodes = self.program.graph.nodes
        for number, dead in zip(self._plan.order, self._plan.dead, strict=True):
            values[number] = self._value(number, nodes[number], values, tokens)
            for x in dead:
                del values[x]
        self.length += tokens.shape[1]
        of_line = self.program.graph.of_line
        return {name: values[of_line[name]] for name in self.program.outputs}

    def _value(self, number: int, node: Node, values: dict[int, np.ndarray], tokens: np.ndarray) -> np.ndarray:
        operands = [values[x] for x in node.operands]
        match node.kind:
            case "true":
                return np.ones(tokens.shape, bool)
            case "query":
                return tokens == self.program.token(node.data)
            case "position":
                return self._position(tokens.shape, *node.data)
            case "not":
                return ~operands[0]
            case "and":
                return _fold(np.logical_and, operands)
            case "or":
                return _fold(np.logical_or, operands)
            case "nonnegative":
                return operands[0] >= 0
            case "count":
                return self._count(number, operands[0])
            case "local":
                return self._local(number, operands[0], node.data)
            case "if":
                return np.where(*operands)
            case "linear":
                return _combination(operands, *node.data, tokens.shape)
        raise AssertionError(node.kind)

    def _position(self, shape: tuple[int, int], period: int, residues: tuple[int, ...]) -> np.ndarray:
        table = np.zeros(period, bool)
        table[list(residues)] = True
        first = (self.offset + self.length) % period
        return table[(first[:, None] + np.arange(shape[1])) % period]

    def _count(self, number: int, operand: np.ndarray) -> np.ndarray:
        counts = np.cumsum(operand, axis=1, dtype=np.int64)
        counts += self._totals[number][:, None]
        if counts.shape[1]:
            self._totals[number] = counts[:, -1].copy()
        return counts

    def _local(self, number: int, operand: np.ndarray, distances: tuple[int, ...]) -> np.ndarray:
        before = self._recent[number]
        reach, length = before.shape[1], operand.shape[1]
        seen = np.concatenate([before, operand], axis=1)
        self._recent[number] = seen[:, length:].copy()
        counts = np.zeros(operand.shape, np.int64)
        for distance in distances:
            counts += seen[:, reach - distance : reach - distance + length]
        return counts


class _Plan:
    """The order of evaluation, and after each step what is not needed any more."""

    def __init__(self, program: Program, outputs: Sequence[int]):
        graph = program.graph
        self.order = graph.needed(outputs)
        last = {x: step for step, number in enumerate(self.order) for x in (number, *graph.nodes[number].operands)}
        self.dead: list[list[int]] = [[] for _ in self.order]
        for number, step in last.items():
            if number not in outputs:
                self.dead[step].append(number)
        self.bytes = self._most_bytes(graph)
        self.magnitude = max(magnitudes(graph, self.order).values())

    def _most_bytes(self, graph) -> int:
        size = lambda x: 8 if graph.is_count(x) else 1  # noqa: E731
        now = most = 0
        for number, dead in zip(self.order, self.dead, strict=True):
            now += size(number)
            most = max(most, now)
            now -= sum(map(size, dead))
        return most

    def stretch(self, rows: int) -> int:
        """Positions to evaluate at once."""
        return max(64, min(LONGEST_STRETCH, BYTES_AT_ONCE // (max(rows, 1) * self.bytes)))


def _plan_of(program: Program, outputs: Sequence[int]) -> _Plan:
    return program.cached("plan", lambda: _Plan(program, outputs))


def magnitudes(graph, order: Sequence[int]) -> dict[int, int]:
    """For each node a number M such that its value after T tokens is at most M (T + 1)."""
    bound: dict[int, int] = {}
    for number in order:
        node = graph.nodes[number]
        match node.kind:
            case "linear":
                factors, constant = node.data
                bound[number] = abs(constant) + sum(
                    abs(f) * bound[x] for f, x in zip(factors, node.operands, strict=True)
                )
            case "if":
                bound[number] = max(bound[x] for x in node.operands[1:])
            case "local":
                bound[number] = len(node.data)
            case _:
                bound[number] = 1
    return bound


def _fold(operation: np.ufunc, operands: list[np.ndarray]) -> np.ndarray:
    result = operation(operands[0], operands[1])
    for operand in operands[2:]:
        operation(result, operand, out=result)
    return result


def _combination(
    operands: list[np.ndarray], factors: tuple[int, ...], constant: int, shape: tuple[int, ...]
) -> np.ndarray:
    result = np.full(shape, constant, np.int64)
    for factor, operand in zip(factors, operands, strict=True):
        if factor == 1:
            result += operand
        elif factor == -1:
            result -= operand
        else:
            result += factor * operand
    return result


def _beyond_64_bits(numbers: np.ndarray) -> bool:
    """Whether numpy keeps these integers as objects, because one is too large for its own."""
    return (
        numbers.dtype == object and numbers.size > 0 and all(type(x) is int for x in numbers.flat) and numbers.max() > 0
    )


def _offsets(offset: int | np.ndarray, rows: int) -> np.ndarray:
    offsets = np.asarray(offset)
    if _beyond_64_bits(offsets) or (offsets.dtype.kind in "iu" and offsets.size and offsets.max() > LARGEST):
        raise ValueError(f"offset must be at most {LARGEST}, which is 2**62, got {offsets.max()}")
    if offsets.dtype.kind not in "iu" or offsets.shape not in ((), (rows,)):
        raise ValueError(f"offset must be a whole number, or one for each of {rows} strings, got {offset!r}")
    if offsets.size and offsets.min() < 0:
        raise ValueError(f"offset must not be negative, got {offsets.min()}")
    return np.broadcast_to(offsets.astype(np.int64), (rows,))
