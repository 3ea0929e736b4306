"""A program as a circuit of attention heads and threshold units, each with the time at which its value is there.

Signals are Booleans at every position; a *literal* is the number of a signal, or ``~number`` for its negation. Times
count half-layers: 0 is the embedding, 2l - 1 the attention of layer l and 2l its MLP. Attention of layer l reads what
was there before the layer, the MLP of layer l also what that attention brings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lengen_fast.theory.crasp.syntax import BOS


@dataclass(frozen=True)
class Source:
    """What the embedding knows: "true"; "token", of that name; or "position", of (period, residues)."""

    kind: str
    data: object = None


@dataclass(frozen=True)
class Fetch:
    """A literal's value ``distance`` positions back; where there is no such position, that at BOS or at i itself.

    Distance 0 with sink "bos" is the value at BOS wherever i is.
    """

    value: int
    distance: int
    sink: str  # "bos" or "self"


@dataclass(frozen=True)
class Match:
    """Whether ``value`` holds at some j <= i where, for some (query, key) of ``pairs``, query holds at i and key at j.

    The queries exclude one another. Neither the keys nor the value hold at BOS.
    """

    pairs: tuple[tuple[int, int], ...]
    value: int


@dataclass(frozen=True)
class Select:
    """``form``, which has counts only, where ``condition`` holds, else 0."""

    condition: int
    form: Form


@dataclass(frozen=True)
class Form:
    """An integer at every position, without its constant: the sum of factor * term over all kinds of terms.

    Attributes:
        counts: (factor, literal), the positions j <= i at which the literal holds.
        booleans: (factor, signal), 1 where the signal holds.
        selects: (factor, Select).
        match: 1 or more if there is a match, else 0; stands alone.
    """

    counts: tuple[tuple[int, int], ...] = ()
    booleans: tuple[tuple[int, int], ...] = ()
    selects: tuple[tuple[int, Select], ...] = ()
    match: Match | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether it is held as a multiple of 1 / (i + 1), and not as an integer."""
        return bool(self.counts or self.selects or self.match)


@dataclass(frozen=True)
class Gate:
    """All ``literals`` hold, and low <= form <= high (None: no bound)."""

    literals: tuple[int, ...]
    form: Form | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Union:
    """Some of ``literals`` hold; no two ever do together, so that this is the sum of their values."""

    literals: tuple[int, ...]


Signal = Source | Fetch | Gate | Union
Bounds = tuple["int | None", "int | None"]


def after_attention(time: int) -> int:
    """When attention that reads what is there at ``time`` is done."""
    return time + 1 + time % 2


def after_mlp(time: int) -> int:
    """When an MLP that reads what is there at ``time`` is done."""
    return time // 2 * 2 + 2


MOST_EXCLUSIVE = 64
"""Operands of a disjunction that are compared with one another."""

UNIT_TIME = after_attention(0)  # of 1 / (i + 1)


class Circuit:
    """Signals, equal ones shared.

    Attributes:
        signals: what each is, operands before users.
        times: when each is there.
        at_bos: the value of each at the first position, which holds BOS; None where that may depend on the offset.
    """

    def __init__(self):
        self.signals: list[Signal] = []
        self.times: list[int] = []
        self.at_bos: list[bool | None] = []
        self._numbers: dict[Signal, int] = {}
        self.true = self.add(Source("true"))
        self.false = ~self.true
        self.bos = self.add(Source("token", BOS))

    def add(self, signal: Signal) -> int:
        """The number of a signal, new or old."""
        number = self._numbers.get(signal)
        if number is None:
            number = self._numbers[signal] = len(self.signals)
            self.times.append(self._time(signal))
            self.at_bos.append(self._at_bos(signal))
            self.signals.append(signal)
        return number

    def time(self, literal: int) -> int:
        return self.times[literal if literal >= 0 else ~literal]

    def value_at_bos(self, literal: int) -> bool | None:
        if literal >= 0:
            return self.at_bos[literal]
        return None if self.at_bos[~literal] is None else not self.at_bos[~literal]

    def never_at_bos(self, literal: int) -> bool:
        return self.value_at_bos(literal) is False

    # ---- Boolean operations on literals ----

    def at_first_position(self, literal: int) -> int | None:
        """Where the literal can hold at BOS only: a literal whose value at BOS is the same; else None."""
        signal = self.signals[literal] if literal >= 0 else None
        if literal == self.bos:
            return self.true
        if not isinstance(signal, Gate) or self.bos not in signal.literals:
            return None
        others = set(signal.literals) - {self.bos}
        return self._gate(others, signal.form, signal.low, signal.high)

    def conjunction(self, literals: Iterable[int]) -> int:
        """A literal that holds where all hold; comparisons of one form become one interval, and one form is fused."""
        plain, intervals = self._parts(literals)
        if plain is None:
            return self.false
        bounded = {self.bound(form, low, high) for form, (low, high) in intervals.items()}
        comparisons = sorted(literal for literal in bounded if self._interval(literal) is not None)
        fused = max(comparisons, key=lambda literal: self.form_time(self._interval(literal)[0]), default=None)
        plain |= bounded - {fused}
        return self._gate(plain, *((None, None, None) if fused is None else self._interval(fused)))

    def disjunction(self, literals: Iterable[int]) -> int:
        """A literal that holds where some hold: a sum, if they exclude one another and no gate is there as early."""
        literals = sorted(set(literals) - {self.false})
        gate = ~self.conjunction(~literal for literal in literals)
        if not literals or self.time(gate) <= max(map(self.time, literals)) or len(literals) > MOST_EXCLUSIVE:
            return gate
        pairs = itertools.combinations(literals, 2)
        return self.add(Union(tuple(literals))) if all(self._exclude(a, b) for a, b in pairs) else gate

    def _exclude(self, a: int, b: int) -> bool:
        """Whether two literals are known never to hold together."""
        return any(self._contradict(x, y) for x in self._conjuncts(a) for y in self._conjuncts(b))

    def _conjuncts(self, literal: int) -> list[int | tuple[Form, int | None, int | None]]:
        """Literals and intervals that hold wherever a literal does."""
        found: list = [literal]
        interval = self._interval(literal)
        signal = self.signals[literal] if literal >= 0 else None
        if isinstance(signal, Gate):
            found += signal.literals
            found += [x for x in map(self._interval, signal.literals) if x is not None]
            interval = None if signal.form is None else (signal.form, signal.low, signal.high)
        return found if interval is None else [*found, interval]

    def _contradict(self, x, y) -> bool:
        if isinstance(x, tuple) or isinstance(y, tuple):
            if not (isinstance(x, tuple) and isinstance(y, tuple)) or x[0] != y[0]:
                return False
            return any(a[2] is not None and b[1] is not None and a[2] < b[1] for a, b in ((x, y), (y, x)))
        if x == ~y:
            return True
        if x < 0 or y < 0 or x == y:
            return False
        match self.signals[x], self.signals[y]:
            case Source("token"), Source("token"):
                return True
            case Source("position", (period, residues)), Source("position", (other, others)):
                common = math.gcd(period, other)
                return not {r % common for r in residues} & {r % common for r in others}
        return False

    def _gate(self, plain: set[int], form: Form | None, low: int | None, high: int | None) -> int:
        plain = plain - {self.true}
        if self.false in plain or any(~literal in plain for literal in plain):
            return self.false
        if form is None and len(plain) <= 1:
            return next(iter(plain), self.true)
        return self.add(Gate(tuple(sorted(plain)), form, low, high))

    def _parts(self, literals: Iterable[int]) -> tuple[set[int] | None, dict[Form, Bounds]]:
        """Literals, and bounds of forms, whose conjunction is that of the literals; None if they contradict."""
        plain: set[int] = set()
        intervals: dict[Form, Bounds] = {}
        stack = list(literals)
        while stack:
            literal = stack.pop()
            signal, interval = self.signals[literal if literal >= 0 else ~literal], self._interval(literal)
            if literal >= 0 and isinstance(signal, Gate):
                stack += signal.literals
                interval = None if signal.form is None else (signal.form, signal.low, signal.high)
            elif interval is None:
                plain.add(literal)
            if interval is not None:
                form, low, high = interval
                old_low, old_high = intervals.get(form, (None, None))
                intervals[form] = _either(max, low, old_low), _either(min, high, old_high)
        contradiction = self.false in plain or any(~literal in plain for literal in plain)
        return (None if contradiction else plain), intervals

    def _interval(self, literal: int) -> tuple[Form, int | None, int | None] | None:
        """The form and its bounds, if that is all the literal says."""
        gate = self.signals[literal if literal >= 0 else ~literal]
        if not isinstance(gate, Gate) or gate.form is None or gate.literals:
            return None
        if literal >= 0:
            return gate.form, gate.low, gate.high
        return (gate.form, None, gate.low - 1) if gate.high is None else None

    def bound(self, form: Form, low: int | None, high: int | None) -> int:
        """A literal that holds where low <= form <= high."""
        least, most = self.range(form)
        if (low is not None and low > most) or (high is not None and high < least):
            return self.false
        if low is not None and high is not None and low > high:
            return self.false
        low, high = (None if low is None or low <= least else low), (None if high is None or high >= most else high)
        if low is None and high is None:
            return self.true
        if not form.is_ratio and form.booleans == ((1, form.booleans[0][1]),):
            return form.booleans[0][1] if low == 1 else ~form.booleans[0][1]
        if low is None:
            return ~self.add(Gate((), form, high + 1, None))
        return self.add(Gate((), form, low, high))

    def range(self, form: Form) -> tuple[float, float]:
        """Numbers between which the form lies."""
        least = sum(min(factor, 0) for factor, _ in form.booleans)
        most = sum(max(factor, 0) for factor, _ in form.booleans)
        factors = [factor for factor, _ in form.counts] + [1] * (form.match is not None)
        if form.selects or any(factor < 0 for factor in factors):
            least = -math.inf
        if form.selects or any(factor > 0 for factor in factors):
            most = math.inf
        return least, most

    # ---- times ----

    def form_time(self, form: Form) -> int:
        """When all terms of a form are there."""
        if not form.is_ratio:
            return max(self.time(signal) for _, signal in form.booleans)
        times = [UNIT_TIME]
        times += [after_attention(self.time(literal)) for _, literal in form.counts]
        times += [after_mlp(max(self.time(signal), UNIT_TIME)) for _, signal in form.booleans]
        times += [self.select_time(select) for _, select in form.selects]
        if form.match is not None:
            read = [form.match.value, *(literal for pair in form.match.pairs for literal in pair)]
            times.append(after_attention(max(map(self.time, read))))
        return max(times)

    def select_time(self, select: Select) -> int:
        return after_mlp(max(self.form_time(select.form), self.time(select.condition)))

    def _time(self, signal: Signal) -> int:
        match signal:
            case Fetch(value):
                return after_attention(self.time(value))
            case Union(literals):
                return max(map(self.time, literals))
            case Gate(literals, form):
                times = [self.time(literal) for literal in literals]
                return after_mlp(max([*times, *([self.form_time(form)] if form else [])]))
        return 0

    # ---- values at the first position ----

    def _at_bos(self, signal: Signal) -> bool | None:
        match signal:
            case Source("token", name):
                return name == BOS
            case Source("position"):
                return None
            case Fetch(value):
                return self.value_at_bos(value)
            case Union(literals):
                values = [self.value_at_bos(literal) for literal in literals]
                return True if True in values else None if None in values else False
            case Gate(literals, form, low, high):
                values = [self.value_at_bos(literal) for literal in literals]
                if form is not None:
                    values.append(self._is_between_at_bos(form, low, high))
                return False if False in values else None if None in values else True
        return True

    def _is_between_at_bos(self, form: Form, low: int | None, high: int | None) -> bool | None:
        terms = [(factor, self.value_at_bos(x)) for factor, x in (*form.counts, *form.booleans)]
        if form.selects or any(value is None for _, value in terms):
            return None
        total = sum(factor * value for factor, value in terms)
        return (low is None or total >= low) and (high is None or total <= high)


def _either(choose, a: int | None, b: int | None) -> int | None:
    given = [x for x in (a, b) if x is not None]
    return choose(given) if given else None


def normal_form(counts: dict[int, int], booleans: dict[int, int], selects: dict[Select, int]) -> tuple[Form, int]:
    """A form whose factors have no common divisor and whose first is positive, and what to multiply it with."""
    parts: Sequence[list] = [
        [(factor, key) for key, factor in terms.items() if factor] for terms in (counts, booleans, selects)
    ]
    parts = [sorted(parts[0], key=lambda x: x[1]), sorted(parts[1], key=lambda x: x[1]), parts[2]]
    factors = [factor for part in parts for factor, _ in part]
    if not factors:
        return Form(), 1
    scale = math.gcd(*factors) * (1 if factors[0] > 0 else -1)
    return Form(*(tuple((factor // scale, key) for factor, key in part) for part in parts)), scale
