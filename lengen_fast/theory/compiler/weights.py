"""The weights of an ordinary ``Transformer`` that computes a layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lengen_fast.layers import Block
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.ops.attention import WIDEST
from lengen_fast.theory.compiler.circuit import Fetch, Gate, Source
from lengen_fast.theory.compiler.layout import (
    Layout,
    Pattern,
    Place,
    Product,
    Selected,
    Truth,
    complement_of,
    place_of,
)
from lengen_fast.theory.compiler.precision import Precision

MOST_RESIDUES = 1 << 16
"""Rows of a position table that repeats."""

LANES = 8  # of the CPU kernel: head widths are multiples

HeadLoad = tuple[Pattern, list[tuple[Place, list[tuple[Place, int]]]]]


@dataclass(frozen=True)
class Sharpness:
    """Logits and biases so far apart that the softmax of a head is exactly 0 or uniform (``Precision.sharpness``).

    The first logit difference is at i = 1, where the factor log(i + 1) is least; a bias beats the greatest logit.
    """

    sink: float
    match: float
    fetch: float

    @classmethod
    def of(cls, precision: Precision) -> Sharpness:
        sink = 2.0 * precision.sharpness
        return cls(sink, 2 * sink, 64 * sink)


class Heads:
    """How the values of every layer are dealt out to heads of one width.

    Args:
        layout: with the values.
        most_values: of a head; None: its width.

    Attributes:
        width: D; count: H, of the layer that needs most.
        of_layer: for each layer the heads in use.
    """

    def __init__(self, layout: Layout, most_values: int | None = None):
        loads = [layout.heads(layer) for layer in range(1, layout.layers + 1)]
        least = max([1, *(len(p[1]) + 1 for load in loads for p in load if p[0] == "match")])
        if least > WIDEST:
            raise ValueError(
                f"the program matches {least - 1} pairs of symbols, and a head of width {WIDEST} holds {WIDEST - 1}: "
                f"compile it for a smaller alphabet"
            )
        widths = range(-(-least // LANES) * LANES, WIDEST + 1, LANES)
        self.width = min(widths, key=lambda width: (self._cost(loads, width), width))
        most_values = self.width if most_values is None else min(most_values, self.width)
        self.of_layer = [_split(load, most_values) for load in loads]
        self.count = max(1, *map(len, self.of_layer))

    @staticmethod
    def _cost(loads: Sequence[dict], width: int) -> int:
        """Operations for each pair of positions, the exponential counted as 24."""
        return max(1, *(len(_split(load, width)) for load in loads)) * (2 * width + 24)


def _split(load: dict, most: int) -> list[HeadLoad]:
    return [
        (pattern, carried.values[at : at + most])
        for pattern, carried in load.items()
        for at in range(0, len(carried.values), most)
    ]


def build(
    layout: Layout,
    precision: Precision,
    tokens: Sequence[str | None],
    readout: Sequence[list[tuple[Place, int]]],
    most_values: int | None = None,
) -> Transformer:
    """The model.

    Args:
        layout: what it computes.
        precision: of its parameters.
        tokens: names by id; None for those that are never in an input.
        readout: for each token the places, with weights, whose sum is its logit.
        most_values: that a head carries; None: as many as it is wide.
    """
    return _Builder(layout, precision, tokens, most_values).build(readout)


class _Builder:
    def __init__(
        self, layout: Layout, precision: Precision, tokens: Sequence[str | None], most_values: int | None = None
    ):
        self.layout, self.precision, self.tokens = layout, precision, tokens
        self.heads = Heads(layout, most_values)
        self.sharpness = Sharpness.of(precision)
        layers = range(1, layout.layers + 1)
        self.units = [self._units(layer) for layer in layers]
        self.steps = max(len(steps) for steps, _ in self.units)
        others = max(len(others) for _, others in self.units)
        signals = [layout.circuit.signals[number] for number in layout.signals()]
        fetches = [signal for signal in signals if isinstance(signal, Fetch)]
        patterns = {pattern[0] for load in self.heads.of_layer for pattern, _ in load}
        periods = [s.data[0] for s in signals if isinstance(s, Source) and s.kind == "position"]
        if math.lcm(*periods) > MOST_RESIDUES:
            raise ValueError(
                f"the common period of the positions is {math.lcm(*periods):,}, more than {MOST_RESIDUES:,}"
            )
        self.model = Transformer(
            ModelConfig(
                vocab_size=len(tokens),
                layers=layout.layers,
                heads=self.heads.count,
                width=len(layout.places),
                positions="ape" if periods else "nope",
                context=1,
                head_width=self.heads.width,
                mlp_width=max(1, self.steps + others),
                activation="relu",
                heaviside_units=self.steps,
                normalization="none",
                tied_embeddings=False,
                period=math.lcm(*periods) if periods else None,
                local_reach=max([fetch.distance + 1 for fetch in fetches if fetch.distance], default=0),
                log_n_scaling=bool({"fetch", "match"} & patterns),
            )
        ).to(torch.float64)

    @torch.no_grad()
    def build(self, readout: Sequence[list[tuple[Place, int]]]) -> Transformer:
        for parameter in self.model.parameters():
            parameter.zero_()
        self._embed()
        for layer, block in enumerate(self.model.blocks):
            if block.attention.log_n_factor is not None:
                block.attention.log_n_factor.fill_(1.0)
            for head, load in enumerate(self.heads.of_layer[layer]):
                self._attend(block, head, *load)
            self._think(block, *self.units[layer])
        unembedding = self.model.embedding.unembedding
        for token, places in enumerate(readout):
            for place, weight in places:
                unembedding[token, self._at(place)] += weight
        return self.model.to(self.precision.dtype)

    def _at(self, place: Place) -> int:
        return self.layout.coordinates[place]

    # ---- embedding ----

    def _embed(self) -> None:
        circuit, embedding = self.layout.circuit, self.model.embedding
        inputs = torch.tensor([name is not None for name in self.tokens])
        for number in self.layout.signals():
            signal = circuit.signals[number]
            if not isinstance(signal, Source):
                continue
            if signal.kind == "position":
                period, residues = signal.data
                rows = torch.tensor([r % period in residues for r in range(len(embedding.positions))])
                table = embedding.positions
            else:
                rows = torch.tensor([signal.kind == "true" or name == signal.data for name in self.tokens]) & inputs
                table = embedding.tokens
            for place, weight in self.layout.writes[number]:
                table[:, self._at(place)] += weight * rows.double()
        for place, constant in self.layout.constants.items():
            embedding.tokens[:, self._at(place)] += constant * inputs.double()

    # ---- attention ----

    def _attend(self, block: Block, head: int, pattern: Pattern, values) -> None:
        attention, width = block.attention, self.heads.width
        inner = attention.out.in_features
        first = head * width
        for column, (place, results) in enumerate(values):
            attention.qkv.weight[2 * inner + first + column, self._at(place)] = 1
            for result, weight in results:
                attention.out.weight[self._at(result), first + column] += weight
        if pattern[0] == "match":
            for row, (query, key) in enumerate(pattern[1]):
                self._logit(attention, first + row, query, key)
        if pattern[0] == "fetch":
            _, distance, sink = pattern
            if distance:
                attention.local_bias[head, distance] = self.sharpness.fetch
            if sink == "self":
                attention.local_bias[head, 0] = self.sharpness.fetch / 2
        if pattern[0] == "match" or pattern[-1] == "bos":
            row = first + width - 1
            attention.qkv.bias[row] = self.sharpness.sink * math.sqrt(width)
            attention.qkv.weight[inner + row, self._at(self.layout.bos)] = 1

    def _logit(self, attention, row: int, query: int, key: int) -> None:
        inner = attention.out.in_features
        attention.qkv.weight[row, self._at(place_of(query))] = self.sharpness.match * math.sqrt(self.heads.width)
        attention.qkv.weight[inner + row, self._at(place_of(key))] = 1

    # ---- MLP ----

    def _units(self, layer: int) -> tuple[list[Unit], list[Unit]]:
        """Heaviside units and ReLU units of a layer."""
        steps = [unit for number in self.layout.gates(layer) for unit in self._gate(number)]
        others = [unit for place in self.layout.gated_values(layer) for unit in self._gated(place)]
        return steps, others

    def _think(self, block: Block, steps: list[Unit], others: list[Unit]) -> None:
        mlp = block.mlp
        for row, unit in [*enumerate(steps), *enumerate(others, start=self.steps)]:
            for place, weight in unit.reads:
                mlp.expand.weight[row, self._at(place)] += weight
            mlp.expand.bias[row] += unit.bias
            for place, weight in unit.writes:
                mlp.contract.weight[self._at(place), row] += weight

    def _gate(self, number: int) -> list[Unit]:
        """Units whose sum is 1 where a gate holds: above its lower bound, minus above its upper one."""
        gate, writes = self.layout.circuit.signals[number], self.layout.writes[number]
        if gate.form is None:
            return [self._all_of(gate.literals, writes)]
        if gate.low is None:
            return [self._threshold(gate, -1, -gate.high, writes)]
        units = [self._threshold(gate, 1, gate.low, writes)]
        if gate.high is not None:
            taken = [(place, -weight) for place, weight in writes]
            units.append(self._threshold(gate, 1, gate.high + 1, taken))
        return units

    def _all_of(self, literals: Sequence[int], writes) -> Unit:
        reads = [(Truth(x), 1) if x >= 0 else (Truth(~x), -1) for x in literals]
        return Unit(reads, 0.5 - sum(x >= 0 for x in literals), writes)

    def _threshold(self, gate: Gate, sign: int, least: int, writes) -> Unit:
        """Positive where sign * form >= least and all literals of the gate hold."""
        layout, form = self.layout, gate.form
        reads = [(place, sign * factor) for place, factor in layout.terms(form)]
        refusal = _power_of_two(layout.form_magnitude(form) + abs(least) + 1)
        if form.is_ratio:
            reads.append((layout.unit, 0.5 - least))
            reads += [(complement_of(literal), -refusal) for literal in gate.literals]
            return Unit(reads, 0.0, writes)
        positive = sum(literal >= 0 for literal in gate.literals)
        reads += [(Truth(x), refusal) if x >= 0 else (Truth(~x), -refusal) for x in gate.literals]
        return Unit(reads, 0.5 - least - refusal * positive, writes)

    def _gated(self, place: Product | Selected) -> list[Unit]:
        """ReLU units whose sum is the ratio where a condition holds, else 0."""
        if isinstance(place, Product):
            refused = [(Truth(place.signal, negated=True), -1)]
            return [Unit([(self.layout.unit, 1), *refused], 0.0, [(place, 1)])]
        terms = self.layout.terms(place.select.form)
        refusal = _power_of_two(self.layout.magnitude(place))
        refused = [(complement_of(place.select.condition), -refusal)]
        return [
            Unit([(term, sign * factor) for term, factor in terms] + refused, 0.0, [(place, sign)]) for sign in (1, -1)
        ]


@dataclass(frozen=True)
class Unit:
    """One hidden unit: what it reads and writes, with weights, and its bias."""

    reads: list[tuple[Place, float]]
    bias: float
    writes: list[tuple[Place, int]]


def _power_of_two(least: int) -> int:
    """The first power of two above a number."""
    return 1 << least.bit_length()
