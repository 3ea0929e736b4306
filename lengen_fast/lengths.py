"""Lengths as users write them: a number, a range, or, where strings have two lengths at once, two ranges.

512                     one length
(51, 100)               an inclusive range                          51:100 on the command line
Pair(3, 7)              two lengths: operands of 3 and 7 digits     3x7
((1, 10), (20, 30))     an inclusive range for each of two lengths  1:10x20:30
"""

from __future__ import annotations

from typing import NamedTuple

from lengen_fast.data import check_integer


class Pair(NamedTuple):
    """Two lengths at once."""

    first: int
    second: int

    def __str__(self) -> str:
        return f"{self.first}x{self.second}"

    def __repr__(self) -> str:
        return f"Pair({self.first}, {self.second})"


Number = int | Pair
Length = int | Pair | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def bounds(length: Length) -> tuple[Number, Number]:
    """The least and the greatest of a length, both an int or both a ``Pair``.

    Raises:
        ValueError: it has none of the forms above.
        TypeError: one of its numbers is no integer.
    """
    if isinstance(length, Pair):
        return length, length
    if not isinstance(length, (tuple, list)):
        return _integer(length), _integer(length)
    if len(length) != 2:
        raise ValueError(f"length is {length!r}; it must be one integer, (low, high) or ((low, high), (low, high))")
    low, high = length
    if isinstance(low, Pair) and isinstance(high, Pair):
        return low, high
    ranges = [isinstance(each, (tuple, list)) and len(each) == 2 for each in length]
    if all(ranges):
        return Pair(_integer(low[0]), _integer(high[0])), Pair(_integer(low[1]), _integer(high[1]))
    return _integer(low), _integer(high)


def written(low: Number, high: Number) -> Length:
    """The inverse of ``bounds``: an int, a range, or two ranges."""
    if isinstance(low, Pair):
        return (low.first, high.first), (low.second, high.second)
    return low if low == high else (low, high)


def label(length: Length) -> str:
    """A length as the command line writes it: 512, 51:100, 3x7, 1:10x20:30."""
    low, high = bounds(length)
    if isinstance(low, Pair):
        return f"{_range_label(low.first, high.first)}x{_range_label(low.second, high.second)}"
    return _range_label(low, high)


def parse(text: str) -> Length:
    """The inverse of ``label``.

    Raises:
        ValueError: the text is no length.
    """
    ranges = [_parse_range(part) for part in text.split("x")]
    if len(ranges) > 2:
        raise ValueError(f"{text!r} has more than two lengths")
    if len(ranges) == 2:
        return ranges[0], ranges[1]
    low, high = ranges[0]
    return low if ":" not in text else (low, high)


def extent(number: Number) -> int:
    """A number to draw a length at: itself, or the sum of two lengths."""
    return sum(number) if isinstance(number, Pair) else number


def exceeds(number: Number, limit: Number) -> bool:
    """Whether a length is beyond a limit: one of two lengths, if both are pairs."""
    if isinstance(number, Pair) and isinstance(limit, Pair):
        return any(one > other for one, other in zip(number, limit, strict=True))
    return extent(number) > extent(limit)


def from_json(value: int | list[int]) -> Number:
    """A number that JSON holds as an integer or as a list of two."""
    return Pair(*(_integer(each) for each in value)) if isinstance(value, (list, tuple)) else _integer(value)


def _integer(value: object) -> int:
    return check_integer("length", value, -(2**63), 2**63)


def _range_label(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}:{high}"


def _parse_range(text: str) -> tuple[int, int]:
    numbers = text.split(":")
    if len(numbers) > 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{text!r} is no length and no range")
    return int(numbers[0]), int(numbers[-1])
