"""The relation psi(i, j) of a count: true, or local, which is a finite set of distances i - j."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Tree

FARTHEST = 4096
"""The largest distance that a local relation may have."""

_FLIPPED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "=": "=", "!=": "!="}
_RULE = (
    "a relation to j must be j <= i, with or without a local one that holds for boundedly many i - j, such as j = i - 1"
)


class NotLocal(Exception):
    """A relation that C-RASP[periodic, local] has not, and the tree that says it."""

    def __init__(self, tree: Tree, why: str):
        super().__init__(f"{why}; {_RULE}")
        self.tree = tree


def distances(constraints: Sequence[Tree], number: Callable[[Tree], int]) -> tuple[int, ...] | None:
    """The distances i - j >= 0 for which all constraints hold; None if that is all of them.

    Args:
        constraints: comparisons of expressions in i, j and numbers, or memberships of i - j.
        number: evaluates an expression without i and j.
    """
    low, high, chosen, excluded = None, None, None, set()
    for tree in constraints:
        operator, bounds = _constraint(tree, number)
        if operator == "in":
            chosen = bounds if chosen is None else chosen & bounds
            continue
        (bound,) = bounds
        if operator == "!=":
            excluded.add(bound)
        if operator in ("<=", "<", "="):
            high = _tighter(min, high, bound - (operator == "<"))
        if operator in (">=", ">", "="):
            low = _tighter(max, low, bound + (operator == ">"))
    if (low is None or low < 0) and (chosen is None or min(chosen, default=0) < 0):
        raise NotLocal(constraints[0], "a count looks back only, so j <= i is needed")
    return _listed(constraints, low or 0, high, chosen, excluded)


def _tighter(choose: Callable[[int, int], int], old: int | None, new: int) -> int:
    return new if old is None else choose(old, new)


def _listed(
    constraints: Sequence[Tree], low: int, high: int | None, chosen: set[int] | None, excluded: set[int]
) -> tuple[int, ...] | None:
    if chosen is None and high is None:
        if low == 0 and not excluded:
            return None
        raise NotLocal(constraints[-1], "this relation holds for unboundedly many i - j, but not for all")
    top = max(chosen, default=-1) if high is None else high
    if top > FARTHEST:
        raise NotLocal(constraints[-1], f"this relation reaches {top} positions back, more than {FARTHEST}")
    inside = range(low, top + 1) if chosen is None else sorted(chosen)
    return tuple(d for d in inside if low <= d <= top and d not in excluded)


def _constraint(tree: Tree, number: Callable[[Tree], int]) -> tuple[str, set[int]]:
    """An operator and the numbers it compares i - j with."""
    if tree.data == "member":
        subject, *members = tree.children
        sign, constant = _in_distance(subject, number, tree)
        return "in", {sign * (number(member) - constant) for member in members}
    if tree.data != "compare" or len(tree.children) != 3:
        raise NotLocal(tree, "this is no relation between i and j")
    left, operator, right = tree.children
    i, j, constant = _minus(_affine(left, number), _affine(right, number))
    if (i, j) not in ((1, -1), (-1, 1)):
        raise NotLocal(tree, "this relation depends on more than i - j")
    return (str(operator), {-constant}) if i == 1 else (_FLIPPED[str(operator)], {constant})


def _in_distance(subject: Tree, number: Callable[[Tree], int], whole: Tree) -> tuple[int, int]:
    i, j, constant = _affine(subject, number)
    if (i, j) not in ((1, -1), (-1, 1)):
        raise NotLocal(whole, "this relation depends on more than i - j")
    return i, constant


def summands(tree: Tree) -> Iterator[tuple[int, Tree]]:
    """The parts of a sum and their signs, 1 or -1."""
    first, *rest = tree.children
    yield 1, first
    for sign, part in zip(rest[::2], rest[1::2], strict=True):
        yield (-1 if str(sign) == "-" else 1), part


def _minus(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _affine(tree: Tree, number: Callable[[Tree], int]) -> tuple[int, int, int]:
    """The factors of i and j and the constant of an expression."""
    word = str(tree.children[0]) if tree.data == "name" else None
    if word in ("i", "j"):
        return int(word == "i"), int(word == "j"), 0
    if not _mentions_i_or_j(tree):
        return 0, 0, number(tree)
    if tree.data == "negative":
        return _minus((0, 0, 0), _affine(tree.children[0], number))
    if tree.data == "add":
        parts = [(sign, *_affine(child, number)) for sign, child in summands(tree)]
        return tuple(sum(part[0] * part[place] for part in parts) for place in (1, 2, 3))
    if tree.data == "modulo":
        raise NotLocal(tree, "a residue of i - j holds for unboundedly many of them")
    raise NotLocal(tree, "this relation depends on more than i - j")


def _mentions_i_or_j(tree: Tree) -> bool:
    if not hasattr(tree, "data"):
        return False
    if tree.data == "name":
        return str(tree.children[0]) in ("i", "j")
    return any(map(_mentions_i_or_j, tree.children))
