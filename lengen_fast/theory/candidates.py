"""What a search for T_n has tried: one candidate a size, shape and seed, and one from the task's program."""

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
    """What one shape and seed, or the task's program, came to at one n.

    Attributes:
        n: half of it is the longest length that had to be fitted.
        shape: of the model.
        seed: of its initial weights; None: they are those of the task's program, and were not trained.
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
    seed: int | None
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

    @property
    def origin(self) -> str:
        """Where the model comes from: "training" or "program"."""
        return "program" if self.seed is None else "training"

    @property
    def place(self) -> str:
        """A name that no other candidate of a search has."""
        return place(self.n, self.shape, self.seed, self.found_at)

    def as_dict(self) -> dict:
        """Plain values; the inverse of ``from_dict``."""
        return asdict(self) | {
            "regularizer": self.regularizer.as_dict() if self.regularizer else None,
            "agreement": self.agreement,
            "origin": self.origin,
        }

    @classmethod
    def from_dict(cls, content: dict) -> Candidate:
        """The inverse of ``as_dict``."""
        values = {name: content[name] for name in cls.__dataclass_fields__}
        terms = values["regularizer"]
        if terms is not None:
            values["regularizer"] = Regularizer(**{name: terms[name] for name in Regularizer.__dataclass_fields__})
        return cls(**values | {"shape": Shape(**values["shape"])})


def place(n: int, shape: Shape | None, seed: int | None, found_at: int | None = None) -> str:
    """The name of a candidate; a seed of None: from the program, whatever its shape."""
    origin = "program" if seed is None else f"{str(shape).replace('/', '-')}-seed{seed}"
    return f"n{n}-{origin}" + ("" if found_at is None else f"-found-at-{found_at}")


class Store:
    """Where a search keeps its candidates and models, so that it need not repeat them; this one, in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Candidate, Transformer]] = {}

    def load(self, n: int, shape: Shape | None, seed: int | None) -> Candidate | None:
        """A candidate that was saved, or None; without shape and seed, that of the program."""
        return self._kept.get(place(n, shape, seed), (None, None))[0]

    def save(self, candidate: Candidate, model: Transformer) -> None:
        """Keep a candidate and the model it ended with."""
        self._kept[candidate.place] = candidate, model

    def model(self, candidate: Candidate) -> Transformer:
        """The model of a candidate that was saved."""
        return self._kept[candidate.place][1]


class DirectoryStore(Store):
    """Each candidate as a run directory of its own, below one directory.

    Its model is in the form of every run, so that ``lengen evaluate`` and ``lengen phi`` take it. The candidate itself
    is written last: what an interrupted search left without it is made anew.
    """

    def __init__(self, path: Path, task: Task, train: TrainConfig):
        self.path, self.task, self.train = path, task, train

    def load(self, n: int, shape: Shape | None, seed: int | None) -> Candidate | None:
        """A candidate that was saved, or None; without shape and seed, that of the program.

        Raises:
            RunError: its file is damaged.
        """
        file = self.path / place(n, shape, seed) / "candidate.json"
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
        path = self.path / candidate.place
        train = replace(
            self.train,
            length=(self.task.min_length, candidate.n // 2),
            steps=max(1, candidate.steps),
            seed=candidate.seed or 0,
        )
        settings = {**run_settings(model.config, self.task, train), "device": "cpu"}
        begun = (path / "config.json").exists()
        directory = RunDirectory.open(path) if begun else RunDirectory.create(path, settings)
        directory.save_weights(model, {"step": candidate.steps, "tokens": 0, "seconds": 0.0, "in_range": None})
        write_json(path / "candidate.json", candidate.as_dict())

    def model(self, candidate: Candidate) -> Transformer:
        """The model of a candidate that was saved.

        Raises:
            RunError: its directory is damaged.
        """
        return RunDirectory.open(self.path / candidate.place).load_model()[0]
