"""Where a circuit's values stand in the residual stream, and which heads and units of each layer write them.

A count stands as the ratio count / (i + 1) that a uniform head yields; 1 / (i + 1) itself is the unit. Only what the
outputs need gets a place.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from lengen_fast.theory.compiler.circuit import (
    UNIT_TIME,
    Circuit,
    Fetch,
    Form,
    Gate,
    Match,
    Select,
    Union,
    after_attention,
    after_mlp,
)

MOST_COORDINATES = 16_384
"""A model wider than this is not built."""


@dataclass(frozen=True)
class Truth:
    """1 where the signal holds, else 0; or with ``negated`` the other way round."""

    signal: int
    negated: bool = False


@dataclass(frozen=True)
class Mixture:
    """The sum of factor * literal: an integer at every position."""

    terms: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Ratio:
    """The mean of a value over j <= i."""

    value: Truth | Mixture


@dataclass(frozen=True)
class Found:
    """Of the positions that a match finds, the share whose value holds."""

    match: Match


@dataclass(frozen=True)
class Product:
    """1 / (i + 1) where the signal holds, else 0."""

    signal: int


@dataclass(frozen=True)
class Selected:
    """The form of a selection as a ratio, or 0."""

    select: Select


Place = Truth | Mixture | Ratio | Found | Product | Selected


@dataclass
class HeadValues:
    """What heads of one pattern carry: each value's place, and where its result goes, as (place, weight)."""

    values: list[tuple[Place, list[tuple[Place, int]]]] = field(default_factory=list)


Pattern = tuple  # ("uniform",), ("fetch", distance, sink) or ("match", pairs)


class Layout:
    """Coordinates of the residual stream.

    Args:
        circuit: what to lay out.
        outputs: literals that are read at the end.
        differences: each comparison of counts has a value of its own, whose mean is their difference; else every count
            has one, and comparisons subtract means.

    Attributes:
        places: in the order of their coordinates.
        coordinates: of each place.
        constants: what a place holds before anything is written to it.
        writes: for each signal, where its value goes, and with which weight.
        layers: how many the outputs take.
    """

    def __init__(self, circuit: Circuit, outputs: list[int], differences: bool):
        self.circuit, self.differences = circuit, differences
        self.places: list[Place] = []
        self.coordinates: dict[Place, int] = {}
        self.latest = 0
        self.bos, self.unit = Truth(circuit.bos), Ratio(Truth(circuit.bos))
        for place in (self.bos, Truth(circuit.true), *(Truth(max(literal, ~literal)) for literal in outputs)):
            self._add(place)
        for place in self.places:  # grows
            for needed in self.needs(place):
                self._add(needed)
        self.layers = max(1, -(-self.latest // 2))
        self.constants: dict[Place, int] = {}
        self.writes: dict[int, list[tuple[Place, int]]] = defaultdict(list)
        for place in self.places:
            if isinstance(place, (Truth, Mixture)):
                self.constants[place], factors = self.affine(place)
                for signal, factor in factors.items():
                    self.writes[signal].append((place, factor))

    def _add(self, place: Place) -> None:
        if place not in self.coordinates:
            if len(self.places) == MOST_COORDINATES:
                raise ValueError(
                    f"the program is too large to compile: its model would be wider than {MOST_COORDINATES}"
                )
            self.coordinates[place] = len(self.places)
            self.places.append(place)
            self.latest = max(self.latest, self.time(place))

    # ---- places ----

    def time(self, place: Place) -> int:
        """When the value of a place is complete."""
        circuit = self.circuit
        match place:
            case Truth(signal):
                return circuit.times[signal]
            case Mixture(terms):
                return max(circuit.time(literal) for _, literal in terms)
            case Ratio(value):
                return after_attention(self.time(value))
            case Found(found):
                return circuit.form_time(Form(match=found))
            case Product(signal):
                return after_mlp(max(circuit.times[signal], UNIT_TIME))
            case Selected(select):
                return circuit.select_time(select)
        raise AssertionError(place)

    def needs(self, place: Place) -> list[Place]:
        """The places that what writes a place reads."""
        circuit = self.circuit
        match place:
            case Truth() | Mixture():
                signals = (circuit.signals[x] for x in self.affine(place)[1])
                return [needed for signal in signals for needed in self._signal_needs(signal)]
            case Ratio(value):
                return [value]
            case Found(found):
                return [place_of(found.value), *(place_of(literal) for pair in found.pairs for literal in pair)]
            case Product(signal):
                return [self.unit, Truth(signal, negated=True)]
            case Selected(select):
                return [complement_of(select.condition), *(place for place, _ in self.terms(select.form))]
        raise AssertionError(place)

    def _signal_needs(self, signal) -> list[Place]:
        if isinstance(signal, Fetch):
            return [place_of(signal.value)]
        if not isinstance(signal, Gate):
            return []
        if signal.form is None or not signal.form.is_ratio:
            places = [Truth(literal if literal >= 0 else ~literal) for literal in signal.literals]
        else:
            places = [self.unit, *map(complement_of, signal.literals)]
        return places + ([] if signal.form is None else [place for place, _ in self.terms(signal.form)])

    def terms(self, form: Form) -> list[tuple[Place, int]]:
        """The places that a form is the sum of, each with its factor."""
        if form.match is not None:
            return [(Found(form.match), 1)]
        if not form.is_ratio:
            return [(Truth(signal), factor) for factor, signal in form.booleans]
        terms: list[tuple[Place, int]] = [(Product(signal), factor) for factor, signal in form.booleans]
        terms += [(Selected(select), factor) for factor, select in form.selects]
        return terms + self._counts(form.counts)

    def _counts(self, counts: tuple[tuple[int, int], ...]) -> list[tuple[Place, int]]:
        if not self.differences or len(counts) <= 1:
            return [(Ratio(place_of(literal)), factor) for factor, literal in counts]
        sign = 1 if counts[0][0] > 0 else -1
        return [(Ratio(Mixture(tuple((sign * factor, literal) for factor, literal in counts))), sign)]

    # ---- layers ----

    def affine(self, place: Truth | Mixture) -> tuple[int, dict[int, int]]:
        """A place as a constant plus factor times signal, no signal a union."""
        if isinstance(place, Truth):
            signal = self.circuit.signals[place.signal]
            members = [(1, x) for x in signal.literals] if isinstance(signal, Union) else None
        else:
            members = place.terms
        if members is None:
            constant, factors = 0, {place.signal: 1}
        else:
            constant, factors = 0, defaultdict(int)
            for factor, literal in members:
                inner, parts = self.affine(place_of(literal))
                constant += factor * inner
                for signal, own in parts.items():
                    factors[signal] += factor * own
        if isinstance(place, Truth) and place.negated:
            return 1 - constant, {signal: -factor for signal, factor in factors.items()}
        return constant, dict(factors)

    def signals(self) -> list[int]:
        """Every signal that is written, in order."""
        return sorted(self.writes)

    def heads(self, layer: int) -> dict[Pattern, HeadValues]:
        """What the attention of a layer (from 1) carries, by pattern."""
        time, patterns = 2 * layer - 1, defaultdict(HeadValues)
        for place in self.places:
            if isinstance(place, Ratio) and self.time(place) == time:
                patterns["uniform",].values.append((place.value, [(place, 1)]))
            if isinstance(place, Found) and self.time(place) == time:
                patterns["match", place.match.pairs].values.append((place_of(place.match.value), [(place, 1)]))
        for signal in self.signals():
            fetch = self.circuit.signals[signal]
            if isinstance(fetch, Fetch) and self.circuit.times[signal] == time:
                pattern = ("fetch", fetch.distance, fetch.sink)
                patterns[pattern].values.append((place_of(fetch.value), self.writes[signal]))
        return patterns

    def gates(self, layer: int) -> list[int]:
        """The gates in the MLP of a layer (from 1)."""
        circuit = self.circuit
        return [x for x in self.signals() if isinstance(circuit.signals[x], Gate) and circuit.times[x] == 2 * layer]

    def gated_values(self, layer: int) -> list[Product | Selected]:
        """The products and selections in the MLP of a layer (from 1)."""
        kinds = (Product, Selected)
        return [place for place in self.places if isinstance(place, kinds) and self.time(place) == 2 * layer]

    def magnitude(self, place: Place) -> int:
        """What the absolute value of a place never passes."""
        match place:
            case Mixture(terms):
                return sum(abs(factor) for factor, _ in terms)
            case Ratio(value):
                return self.magnitude(value)
            case Selected(select):
                return self.form_magnitude(select.form)
        return 1

    def form_magnitude(self, form: Form) -> int:
        return sum(abs(factor) * self.magnitude(place) for place, factor in self.terms(form))


def place_of(literal: int) -> Truth:
    """Where it is 1 that the literal holds."""
    return Truth(literal) if literal >= 0 else Truth(~literal, negated=True)


def complement_of(literal: int) -> Truth:
    """Where it is 0 that the literal holds."""
    return place_of(~literal)
