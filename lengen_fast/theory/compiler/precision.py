"""To which length a compiled program is exact in each dtype: bounds on every rounding, against margins of half a unit.

All Booleans are exactly 0 or 1, and sums of integers are exact while they fit the mantissa. What rounds is the mean of
a uniform head, and the argument of a unit that compares means. With n = i + 1 such an argument is, exactly, an odd
multiple of 1 / (2 n), so its sign is right while its error stays below 1 / (2 n).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lengen_fast.theory.compiler.circuit import Gate
from lengen_fast.theory.compiler.layout import Found, Layout, Mixture, Place, Product, Ratio, Selected

LONGEST = 1 << 40
"""No guarantee goes beyond: 64-bit counts of operations end soon after."""


@dataclass(frozen=True)
class Precision:
    """How numbers are held and summed.

    Attributes:
        dtype: of parameters and of the residual stream.
        digits: of its mantissa.
        sum_digits: of the mantissa in which attention sums.
        sums_weights: whether attention sums values times weights 1 / n (``ops/attention_torch.py``), each rounded; else
            it sums values, which is exact for integers, and divides once (``csrc/cpu/attention.hpp`` and the kernels).
        least: the smallest number with a whole mantissa is 2 ** -least.
        sharpness: logits that differ by this much make the smaller weight exactly 0.
    """

    dtype: torch.dtype
    digits: int
    sum_digits: int = 24
    sums_weights: bool = False
    least: int = 126
    sharpness: int = 128

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def rounding(self) -> float:
        """Largest relative error of a number when it is stored."""
        return 2.0**-self.digits

    def mean_error(self, magnitude: int) -> Error:
        """Largest absolute error of the mean of integers up to ``magnitude``."""
        if self.sums_weights:
            unit = magnitude * 2.0**-self.sum_digits
            return Error(4 * unit, unit)
        return Error(magnitude * self.relative_mean_error)

    @property
    def relative_mean_error(self) -> float:
        """Largest relative error of a mean whose sum is exact: one division, twice its rounding, and storing it."""
        return 2 * 2.0**-self.sum_digits + (self.rounding if self.digits < self.sum_digits else 0.0)


@dataclass(frozen=True)
class Error:
    """At length n an absolute error of at most ``fixed`` + ``growing`` * n."""

    fixed: float
    growing: float = 0.0

    def __add__(self, other: Error) -> Error:
        return Error(self.fixed + other.fixed, self.growing + other.growing)

    def times(self, factor: int) -> Error:
        return Error(abs(factor) * self.fixed, abs(factor) * self.growing)


@dataclass(frozen=True)
class Margin:
    """What decides to which length one comparison of ratios is exact.

    Attributes:
        error: of its sum, but for what is a multiple of the unit.
        relative: error of each of its terms, relative to the term.
        beside: the most that stands beside its means, in units.
        one_sign: no term takes away from another, so that |sum| is at most the argument and what stands beside it.
    """

    error: Error
    relative: float
    beside: float
    one_sign: bool

    def holds(self, n: int) -> bool:
        """Whether the sign of the argument, an odd multiple of half a unit, is right at length n."""
        if self.one_sign:
            return self.relative * (4 * self.beside + 3) < 1
        return (self.error.fixed + self.error.growing * n) * n + self.relative * self.beside < 0.5


PRECISIONS = {
    precision.dtype: precision
    for precision in (
        Precision(torch.bfloat16, 8),
        Precision(torch.float16, 11, least=14),
        Precision(torch.float32, 24),
        Precision(torch.float64, 53, sum_digits=53, sums_weights=True, least=1022, sharpness=1024),
    )
}


def guaranteed_length(layout: Layout, precision: Precision) -> int:
    """Tokens up to which every unit of the model is exact; 0 if its integers do not fit the dtype."""
    if not _integers_fit(layout, precision):
        return 0
    margins = {_margin(layout, precision, gate) for gate in _comparisons(layout)}
    most_carried = max([1, *(layout.magnitude(x.value) for x in layout.places if isinstance(x, Ratio))])
    has_unit = any(isinstance(place, (Ratio, Found)) for place in layout.places)

    def exact(n: int) -> bool:
        if n > 1 << precision.least and has_unit:
            return False
        return n * most_carried <= 1 << precision.sum_digits and all(margin.holds(n) for margin in margins)

    low, high = 0, LONGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if exact(middle) else (low, middle - 1)
    return low


Terms = list[tuple[Place, int]]


def _comparisons(layout: Layout) -> Iterator[Gate]:
    """The gates that compare ratios."""
    for number in layout.signals():
        gate = layout.circuit.signals[number]
        if isinstance(gate, Gate) and gate.form is not None and gate.form.is_ratio:
            yield gate


def _margin(layout: Layout, precision: Precision, gate: Gate) -> Margin:
    """Of a gate whose argument is a sum of terms and of (bound + 1 / 2) units.

    Multiplying with weights and adding in any order makes a relative error of ``roundings``, weights included.
    """
    terms = layout.terms(gate.form)
    means = [(place, factor) for place, factor in terms if not isinstance(place, Product)]
    products = sum(abs(factor) for place, factor in terms if isinstance(place, Product))
    bound = max(abs(bound) for bound in (gate.low, gate.high) if bound is not None)
    roundings = (len(terms) + 4) * precision.rounding
    sizes = sum(abs(factor) * layout.magnitude(place) for place, factor in means)
    error = Error(roundings * sizes)
    for place, factor in means:
        error += _error(layout, precision, place).times(factor)
    return Margin(
        error=error,
        relative=precision.relative_mean_error + roundings,
        beside=bound + 1.5 + products,
        one_sign=_one_sign(means) and not precision.sums_weights,
    )


def _one_sign(means: Terms) -> bool:
    if any(isinstance(place, Selected) for place, _ in means):
        return False
    signs = {factor > 0 for place, factor in means}
    mixed = len(means) > 1 and any(isinstance(p, Ratio) and isinstance(p.value, Mixture) for p, _ in means)
    return len(signs) <= 1 and not mixed


def _error(layout: Layout, precision: Precision, place: Place) -> Error:
    """Largest absolute error of a ratio that a coordinate holds."""
    if not isinstance(place, Selected):
        return precision.mean_error(layout.magnitude(place))
    terms = layout.terms(place.select.form)
    error = Error(0.0)
    for term, factor in terms:
        error += _error(layout, precision, term).times(factor)
    is_copy = len(terms) == 1 and abs(terms[0][1]) == 1
    return error if is_copy else error + Error((len(terms) + 3) * precision.rounding * layout.magnitude(place))


def _integers_fit(layout: Layout, precision: Precision) -> bool:
    """Whether every sum of integers and halves that a unit or a coordinate holds fits the mantissa."""
    most = 1
    for place in layout.places:
        if isinstance(place, Mixture):
            most = max(most, 2 * layout.magnitude(place))
    for number in layout.signals():
        gate = layout.circuit.signals[number]
        if isinstance(gate, Gate):
            most = max(most, _integers_of(layout, gate))
    return 2 * most <= 1 << precision.digits


def _integers_of(layout: Layout, gate: Gate) -> int:
    if gate.form is None:
        return 2 * len(gate.literals) + 1
    if gate.form.is_ratio:
        return len(gate.literals) + 1
    size = layout.form_magnitude(gate.form) + max(abs(bound) for bound in (gate.low, gate.high) if bound is not None)
    return (size + 1) * (len(gate.literals) + 2)
