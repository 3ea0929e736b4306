"""Exact linear algebra over the rationals, done modulo primes in NumPy and confirmed in integers."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd, isqrt, lcm

import numpy as np


def nullspace(matrix: np.ndarray, last_only: bool = False) -> np.ndarray:
    """A basis of the x with ``matrix @ x == 0``, exact: D columns without common divisors.

    The echelon form is computed modulo primes below 2**31 and lifted by rational reconstruction. The lifted columns are
    then multiplied out in integers: if they vanish, they are independent solutions, as many as the rank modulo the
    prime leaves room for, and that rank is at most the true one; so they are a basis.

    Args:
        matrix: [R, C] int64.
        last_only: only the column of the basis that uses the last unknown, if there is one.

    Returns:
        [C, D] int64, or object where an entry needs more than 62 bits.
    """
    matrix = np.unique(np.asarray(matrix, dtype=np.int64), axis=0) if len(matrix) else np.asarray(matrix, np.int64)
    columns = matrix.shape[1]
    best: tuple[int, ...] | None = None
    modulus, residues = 1, np.zeros((columns, 0), dtype=object)
    for prime in _primes():
        pivots, basis = _nullspace_modulo(matrix, prime, last_only)
        if best is None or (-len(pivots), pivots) < (-len(best), best):
            best, modulus, residues = pivots, prime, basis.astype(object)
        elif pivots == best:
            residues = residues + modulus * ((basis - residues) * pow(modulus, -1, prime) % prime)
            modulus *= prime
        else:
            continue
        lifted = _lift(residues, modulus)
        if lifted is not None and not _times(matrix, lifted).any():
            return _narrow(lifted)


def solve(matrix: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Some x and least N > 0 with ``matrix @ x == N * target``, exact; None: the target is no combination of columns.

    Args:
        matrix: [R, C] int64.
        target: [R] int64.
    """
    solution = nullspace(np.column_stack([matrix, -np.asarray(target)]), last_only=True)
    if not solution.shape[1]:
        return None
    sign = 1 if solution[-1, 0] > 0 else -1
    return solution[:-1, 0] * sign, int(solution[-1, 0]) * sign


def _times(matrix: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """The exact product, in int64 where it cannot overflow."""
    largest = int(np.abs(matrix).max(initial=0)) * int(np.abs(lifted).max(initial=0)) * matrix.shape[1]
    kind = np.int64 if largest < 2**62 else object
    return matrix.astype(kind) @ lifted.astype(kind)


def _narrow(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) if int(np.abs(values).max(initial=0)) < 2**62 else values


def _nullspace_modulo(matrix: np.ndarray, prime: int, last_only: bool) -> tuple[tuple[int, ...], np.ndarray]:
    """Pivot columns of the reduced echelon form modulo a prime, and the nullspace basis it gives: [C, D] int64."""
    reduced = matrix % prime
    pivots: list[int] = []
    for column in range(matrix.shape[1]):
        rank = len(pivots)
        below = np.flatnonzero(reduced[rank:, column])
        if not len(below):
            continue
        pivot = rank + int(below[0])
        reduced[[rank, pivot]] = reduced[[pivot, rank]]
        reduced[rank] = reduced[rank] * pow(int(reduced[rank, column]), -1, prime) % prime
        others = np.flatnonzero(reduced[:, column])
        others = others[others != rank]
        filled = np.flatnonzero(reduced[rank])
        block = np.ix_(others, filled)
        reduced[block] = (reduced[block] - reduced[others, column][:, None] * reduced[rank, filled]) % prime
        pivots.append(column)
    free = np.setdiff1d(np.arange(matrix.shape[1]), pivots)
    free = free[free == matrix.shape[1] - 1] if last_only else free
    basis = np.zeros((matrix.shape[1], len(free)), dtype=np.int64)
    basis[free, np.arange(len(free))] = 1
    basis[pivots] = -reduced[: len(pivots), free] % prime
    return tuple(pivots), basis


def _lift(residues: np.ndarray, modulus: int) -> np.ndarray | None:
    """Integer columns proportional to the small rationals with these residues; None where there are none."""
    columns = []
    for column in residues.T:
        lifted = _lift_column([int(value) for value in column], modulus)
        if lifted is None:
            return None
        columns.append(lifted)
    return np.array(columns, dtype=object).reshape(len(columns), len(residues)).T


def _lift_column(residues: list[int], modulus: int) -> list[int] | None:
    fractions = {value: _rational(value, modulus) for value in set(residues)}
    if None in fractions.values():
        return None
    scale = lcm(*(denominator for _, denominator in fractions.values()))
    values = {value: n * (scale // d) for value, (n, d) in fractions.items()}
    divisor = gcd(*values.values()) or 1
    return [values[value] // divisor for value in residues]


def _rational(residue: int, modulus: int) -> tuple[int, int] | None:
    """The fraction n/d = residue (mod modulus) with |n|, d <= sqrt(modulus / 2), by the Euclidean algorithm."""
    bound = isqrt(modulus // 2)
    previous, value, below, factor = modulus, residue, 0, 1
    while value > bound:
        quotient = previous // value
        previous, value = value, previous - quotient * value
        below, factor = factor, below - quotient * factor
    if not 0 < abs(factor) <= bound or gcd(value, factor) != 1:
        return None
    return (value, factor) if factor > 0 else (-value, -factor)


def _primes() -> Iterator[int]:
    """Primes from 2**31 - 1 downwards."""
    candidate = 2**31 - 1
    while True:
        if _is_prime(candidate):
            yield candidate
        candidate -= 2


def _is_prime(number: int) -> bool:
    """Miller's test for odd numbers; with these bases it is exact below 3.2 * 10**9."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        if all((power := power * power % number) != number - 1 for _ in range(twos - 1)):
            return False
    return True
