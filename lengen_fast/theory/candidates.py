"""What a search for T_n has tried: one candidate a size, shape and seed, in memory or in directories."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lengen_fast.model import Transformer
from lengen_fast.runs import RunDirectory, RunError, read_json, write_json
from lengen_fast.tasks import Task
from lengen_fast.theory.regularizer import Regularizer
from lengen_fast.training import TrainConfig, run_settings


@dataclass(frozen=True)
class Shape:
    """Layers, heads, width of the residual stream, and units of each MLP."""

    layers: int
    heads: int
    width: int
    units: int

    def __str__(self) -> str:
        return f"{self.layers}/{self.heads}/{self.width}/{self.units}"


@dataclass(frozen=True)
class Candidate:
    """What one shape and seed came to at one n.

    Attributes:
        n: half of it is the longest length that had to be fitted.
        shape, seed: of the model.
        steps: that were taken.
        rounds: of penalties after which the fit was exact.
        regularizer: of the model of least R that was reached, or None if nothing fitted.
        variation: of that model, see ``product_functions.translation_variation``.
        right, asked: strings of lengths above n/2 up to n that it gets right, and all of them.
        found_at: the n at which it was found, if not this one; its table of positions was then cut, or lengthened by
            zeros.
    """

    n: int
    shape: Shape
    seed: int
    steps: int
    rounds: int
    regularizer: Regularizer | None
    variation: float
    right: int
    asked: int
    found_at: int | None = None

    @property
    def agreement(self) -> float:
        """Share of the strings above n/2 that are right at every scored position."""
        return self.right / self.asked

    def as_dict(self) -> dict:
        """Plain values; the inverse of ``from_dict``."""
        return asdict(self) | {
            "regularizer": self.regularizer.as_dict() if self.regularizer else None,
            "agreement": self.agreement,
        }

    @classmethod
    def from_dict(cls, content: dict) -> Candidate:
        """The inverse of ``as_dict``."""
        values = {name: content[name] for name in cls.__dataclass_fields__}
        terms = values["regularizer"]
        if terms is not None:
            values["regularizer"] = Regularizer(**{name: terms[name] for name in Regularizer.__dataclass_fields__})
        return cls(**values | {"shape": Shape(**values["shape"])})


class Store:
    """Where a search keeps its candidates and models, so that it need not repeat them; this one, in memory."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, Shape, int, int | None], tuple[Candidate, Transformer]] = {}

    def load(self, n: int, shape: Shape, seed: int) -> Candidate | None:
        """A candidate that was saved, or None."""
        return self._kept.get((n, shape, seed, None), (None, None))[0]

    def save(self, candidate: Candidate, model: Transformer) -> None:
        """Keep a candidate and the model it ended with."""
        self._kept[candidate.n, candidate.shape, candidate.seed, candidate.found_at] = candidate, model

    def model(self, candidate: Candidate) -> Transformer:
        """The model of a candidate that was saved."""
        return self._kept[candidate.n, candidate.shape, candidate.seed, candidate.found_at][1]


class DirectoryStore(Store):
    """Each candidate as a run directory of its own, below one directory.

    Its model is in the form of every run, so that ``lengen evaluate`` and ``lengen phi`` take it. The candidate itself
    is written last: what an interrupted search left without it is made anew.
    """

    def __init__(self, path: Path, task: Task, train: TrainConfig):
        self.path, self.task, self.train = path, task, train

    def load(self, n: int, shape: Shape, seed: int) -> Candidate | None:
        """A candidate that was saved, or None.

        Raises:
            RunError: its file is damaged.
        """
        file = self._place(n, shape, seed, None) / "candidate.json"
        if not file.exists():
            return None
        try:
            return Candidate.from_dict(read_json(file))
        except (KeyError, TypeError) as error:
            raise RunError(f"{file} is damaged ({error}): delete its directory and go on with --resume") from error

    def save(self, candidate: Candidate, model: Transformer) -> None:
        """Write the candidate and the model it ended with.

        Raises:
            RunError: it cannot be written.
        """
        place = self._place_of(candidate)
        length = (self.task.min_length, candidate.n // 2)
        train = replace(self.train, length=length, steps=candidate.steps, seed=candidate.seed)
        settings = {**run_settings(model.config, self.task, train), "device": "cpu"}
        begun = (place / "config.json").exists()
        directory = RunDirectory.open(place) if begun else RunDirectory.create(place, settings)
        directory.save_weights(model, {"step": candidate.steps, "tokens": 0, "seconds": 0.0, "in_range": None})
        write_json(place / "candidate.json", candidate.as_dict())

    def model(self, candidate: Candidate) -> Transformer:
        """The model of a candidate that was saved.

        Raises:
            RunError: its directory is damaged.
        """
        return RunDirectory.open(self._place_of(candidate)).load_model()[0]

    def _place_of(self, candidate: Candidate) -> Path:
        return self._place(candidate.n, candidate.shape, candidate.seed, candidate.found_at)

    def _place(self, n: int, shape: Shape, seed: int, found_at: int | None) -> Path:
        origin = "" if found_at is None else f"-found-at-{found_at}"
        return self.path / f"n{n}-{str(shape).replace('/', '-')}-seed{seed}{origin}"
