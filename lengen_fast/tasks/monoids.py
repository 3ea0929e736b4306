"""Finite monoids by their tables: cyclic, symmetric and alternating groups, and the check of any other table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from lengen_fast.symbols import is_symbol_name

MOST_ELEMENTS = 256


@dataclass(frozen=True, eq=False)
class Monoid:
    """A finite set with an associative product and an identity.

    Attributes:
        names: m distinct names of the elements.
        table: [m, m] int64; the product of a and b, in this order, is ``table[a, b]``.
        identity: the number of the identity.
    """

    names: tuple[str, ...]
    table: np.ndarray
    identity: int

    @classmethod
    def checked(cls, table: object, names: Sequence[str] | None = None) -> Monoid:
        """The monoid of a square table.

        Raises:
            ValueError: the table is not square, too large, without identity or not associative; or the distinct names
                are not as many as the elements, or one cannot be shown.
        """
        table = _as_integers(table)
        count = len(table)
        names = tuple(map(str, range(count) if names is None else names))
        if len(names) != count or len(set(names)) != count:
            raise ValueError(f"names has {len(set(names))} distinct names; the table has {count} elements")
        for name in names:
            if not is_symbol_name(name):
                raise ValueError(
                    f"names has {name!r}; a name must be visible characters without spaces, and no special token's"
                )
        return cls(names, table, _identity_of(table))._associative()

    def _associative(self) -> Monoid:
        table, names = self.table, self.names
        for a in range(len(names)):
            left, right = table[table[a]], table[a][table]  # (a b) c and a (b c), by b and c
            wrong = np.argwhere(left != right)
            if len(wrong):
                b, c = map(int, wrong[0])
                raise ValueError(
                    f"table is not associative: with a = {names[a]}, b = {names[b]}, c = {names[c]}, "
                    f"(a b) c is {names[left[b, c]]} and a (b c) is {names[right[b, c]]}"
                )
        return self


def cyclic(order: int) -> Monoid:
    """The integers modulo ``order`` under addition."""
    numbers = np.arange(order)
    return Monoid(tuple(map(str, range(order))), (numbers[:, None] + numbers) % order, 0)


def symmetric(degree: int) -> Monoid:
    """All permutations of 1..degree, in one-line notation; the product p q is p first and then q."""
    return _permutation_group(list(permutations(range(degree))))


def alternating(degree: int) -> Monoid:
    """The even permutations of 1..degree."""
    return _permutation_group([p for p in permutations(range(degree)) if _is_even(p)])


def _permutation_group(elements: list[tuple[int, ...]]) -> Monoid:
    number = {element: i for i, element in enumerate(elements)}
    table = [[number[tuple(q[i] for i in p)] for q in elements] for p in elements]
    names = tuple("".join(str(i + 1) for i in element) for element in elements)
    return Monoid(names, np.array(table, dtype=np.int64), 0)


def _is_even(permutation: tuple[int, ...]) -> bool:
    return sum(first > second for first, second in combinations(permutation, 2)) % 2 == 0


def _as_integers(table: object) -> np.ndarray:
    try:
        array = np.array(table)
    except ValueError:
        array = np.empty(0)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not 2 <= len(array) <= MOST_ELEMENTS:
        raise ValueError(f"table has shape {array.shape}; it must be square, with 2 to {MOST_ELEMENTS} rows")
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"table holds {array.dtype}; it must hold integers, the numbers of elements")
    if array.min() < 0 or array.max() >= len(array):
        a, b = map(int, np.argwhere((array < 0) | (array >= len(array)))[0])
        raise ValueError(f"table[{a}, {b}] is {array[a, b]}; it must be an element, 0..{len(array) - 1}")
    return array.astype(np.int64)


def _identity_of(table: np.ndarray) -> int:
    everyone = np.arange(len(table))
    for element in everyone:
        if np.array_equal(table[element], everyone) and np.array_equal(table[:, element], everyone):
            return int(element)
    raise ValueError("table has no identity: no element leaves every other one unchanged from both sides")
