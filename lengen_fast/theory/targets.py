"""Conditions on positions i and j, written as ``j == i - 1`` or ``prime(i - j)``, for ``lengen phi``."""

from __future__ import annotations

import ast
import operator

import torch
from torch import Tensor

NAMED = {
    "previous": "j == i - 1",
    "recent": "j > i - 2",
    "third": "(i - j) % 3 == 0",
    "before": "j < i",
    "prime": "prime(i - j)",
}
LONGEST = 200  # characters
_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISON = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def expression(target: str) -> str:
    """The condition of a target, a name in ``NAMED`` or a condition itself, spaced in one way.

    Raises:
        ValueError: it is neither.
    """
    return ast.unparse(_parse(target))


def condition(target: str, positions: int) -> Tensor:
    """[n, n] bool: where the condition holds of query i (row) and key j (column).

    Numbers, i, j, + - * // %, comparisons, and, or, not, and prime(...) may occur.

    Raises:
        ValueError: the target is no such condition.
    """
    tree = _parse(target)
    i = torch.arange(positions)[:, None].expand(positions, positions)
    try:
        value = _evaluate(tree, {"i": i, "j": i.T})
    except (ZeroDivisionError, RuntimeError) as error:
        raise ValueError(f"target {target!r} divides by zero somewhere: mend the divisor") from error
    if value.dtype != torch.bool:
        raise ValueError(f"target {target!r} is a number and no condition: compare it, as in j == i - 1")
    return value.expand(positions, positions)


def _parse(target: str) -> ast.expr:
    source = NAMED.get(target, target)
    advice = f"give {', '.join(NAMED)}, or a condition on i and j such as 'j == i - 4'"
    if len(source) > LONGEST:
        raise ValueError(f"target has {len(source)} characters, more than {LONGEST}: {advice}")
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"target {target!r} cannot be read: {advice}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in ("i", "j", "prime"):
            raise ValueError(f"target {target!r} has the unknown name {node.id!r}: {advice}")
    return tree


def _evaluate(node: ast.expr, names: dict[str, Tensor]) -> Tensor:
    match node:
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Constant(value=int(value)) if abs(value) < 2**31 and not isinstance(value, bool):
            return torch.tensor(value)
        case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_evaluate(left, names), _evaluate(right, names))
        case ast.UnaryOp(ast.USub(), operand):
            return -_evaluate(operand, names)
        case ast.UnaryOp(ast.Not(), operand):
            return ~_truth(operand, names)
        case ast.BoolOp(op, values):
            join = operator.and_ if isinstance(op, ast.And) else operator.or_
            first, *others = (_truth(value, names) for value in values)
            for other in others:
                first = join(first, other)
            return first
        case ast.Compare(left, ops, comparators) if all(type(op) in _COMPARISON for op in ops):
            sides = [_evaluate(side, names) for side in (left, *comparators)]
            held = [_COMPARISON[type(op)](a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False)]
            return torch.stack(torch.broadcast_tensors(*held)).all(0)
        case ast.Call(ast.Name("prime"), [argument], []):
            return _is_prime(_evaluate(argument, names))
    raise ValueError(
        f"target has {ast.unparse(node)!r}, which cannot be used: only numbers, i, j, + - * // %, comparisons, "
        f"and, or, not, and prime(...) can"
    )


def _truth(node: ast.expr, names: dict[str, Tensor]) -> Tensor:
    value = _evaluate(node, names)
    if value.dtype != torch.bool:
        raise ValueError(f"target has the number {ast.unparse(node)!r} where a condition must be: compare it")
    return value


def _is_prime(values: Tensor) -> Tensor:
    most = max(int(values.max()), 1)
    if most > 1 << 20:
        raise ValueError(f"target asks whether {most} is a prime: prime(...) takes numbers up to {1 << 20}")
    sieve = torch.ones(most + 1, dtype=torch.bool)
    sieve[:2] = False
    for number in range(2, int(most**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = False
    return sieve[values.clamp(min=0)]
