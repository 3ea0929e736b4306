"""Theory's verdict against what a trained model did on strings longer than its training's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lengen_fast.evaluation import percentage
from lengen_fast.lengths import exceeds, extent
from lengen_fast.positions import encoding

if TYPE_CHECKING:
    from lengen_fast.evaluation import Accuracy
    from lengen_fast.reporting import Outcome
    from lengen_fast.tasks import Task
    from lengen_fast.theory import Outlook

THRESHOLD = 0.95  # exact match from which a model counts as right on longer strings
FARTHEST = 3  # times the longest training string: the last bin of the paper; theory names no length that must do
AGREES, DISAGREES, UNDECIDED, NOT_TESTED = "agrees", "disagrees", "undecided", "not tested"


@dataclass(frozen=True)
class Forecast:
    """Theory's verdict on a task and an encoding, as accuracy.json keeps it.

    Attributes:
        outcome: "generalizes", "fails" or "unknown"; None where theory has no verdict.
        claim: what it rests on, or why there is none.
        depth: of the program, or None without one.
        witness: whether there is one.
    """

    outcome: str | None
    claim: str
    depth: int | None = None
    witness: bool = False

    @classmethod
    def of(cls, task: Task, positions: str) -> Forecast:
        """What ``lengen predict`` says."""
        from lengen_fast.theory import predict

        if positions not in ("ape", "nope"):
            return cls(None, f"no verdict for {encoding(positions).title}")
        try:
            outlook: Outlook = getattr(predict(task), positions)
        except ValueError as error:
            return cls(None, f"no verdict: {error}")
        return cls(outlook.outcome, outlook.claim, outlook.depth, outlook.witness is not None)

    def as_dict(self) -> dict:
        """Plain values; the inverse of ``Forecast(**content)``."""
        return asdict(self)

    def __str__(self) -> str:
        return self.claim if self.outcome is None else f"{self.outcome}. {self.claim}"

    @property
    def short(self) -> str:
        """The outcome and its evidence in a few words."""
        if self.depth is not None:
            return f"{self.outcome} (program, depth {self.depth})"
        return f"{self.outcome} ({'with a witness' if self.witness else 'no witness'})"


@dataclass(frozen=True)
class Comparison:
    """A verdict beside an outcome.

    What decides is one line of the accuracy table: the longest lengths beyond training's that are at most ``FARTHEST``
    times as long, or if there are none the shortest ones. Exact match of at least ``THRESHOLD`` counts as
    generalizing, less as failing, and an interval with the threshold inside as neither.

    Attributes:
        result: "agrees", "disagrees", "undecided" or "not tested".
        sentence: the same with its figures.
    """

    result: str
    sentence: str

    def as_dict(self) -> dict:
        """Plain values."""
        return asdict(self)

    @classmethod
    def of(cls, forecast: Forecast, result: Outcome) -> Comparison:
        """The verdict of a task and an encoding against the finished run."""
        if forecast.outcome is None:
            return cls(NOT_TESTED, f"{forecast.claim}, so there is nothing to compare")
        said = f"theory said {forecast.short}"
        if not result.fitted:
            return cls(NOT_TESTED, f"{said}; training did not fit its own range, so this is not tested")
        line = _deciding(result)
        if line is None:
            return cls(NOT_TESTED, f"{said}; no length beyond the training range was tested")
        return _compared(forecast, said, line)


def _deciding(result: Outcome) -> Accuracy | None:
    beyond = [line for line in result.table if exceeds(line.low, result.trained[1])]
    limit = FARTHEST * extent(result.trained[1])
    near = [line for line in beyond if extent(line.high) <= limit]
    if near:
        return max(near, key=_reach)
    return min(beyond, key=_reach, default=None)


def _reach(line: Accuracy) -> tuple[int, int]:
    return extent(line.high), extent(line.low)


def _compared(forecast: Forecast, said: str, line: Accuracy) -> Comparison:
    figure = f"{said}; exact match at {line.label.replace(':', '-')} is {percentage(line.exact, 1)}"
    low, high = line.interval
    if forecast.outcome == "unknown":
        return Comparison(NOT_TESTED, f"{figure}: theory left it open, so nothing is tested")
    if low < THRESHOLD <= high:
        interval = f"{percentage(low, 1)} to {percentage(high, 1)}"
        around = f"around the {THRESHOLD:.0%} that count as generalizing"
        return Comparison(UNDECIDED, f"{figure} ({interval}, {around}): undecided")
    right = line.exact >= THRESHOLD
    result = AGREES if right == (forecast.outcome == "generalizes") else DISAGREES
    return Comparison(result, f"{figure}, {'at least' if right else 'below'} {THRESHOLD:.0%}: {result}")
