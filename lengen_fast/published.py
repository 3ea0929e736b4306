"""What arXiv 2410.02140 published of each task: accuracies by bin, the chosen settings, and its own prediction."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

BINS = ((0, 50), (51, 100), (101, 150))  # lengths of the published figures; the first starts at the task's minimum


@dataclass(frozen=True)
class Settings:
    """Training settings of one task and encoding, as the paper chose them by its search."""

    layers: int
    heads: int
    width: int
    learning_rate: float
    steps: int
    warmup: int


@dataclass(frozen=True)
class Published:
    """Figures of one task and encoding.

    Attributes:
        accuracy: exact match in the three ``BINS``, or None.
        predicted: True if the paper expects length generalization (a program in C-RASP[periodic, local] for "ape", in
            C-RASP without either for "nope"), or None.
        settings: training settings, or None.
        chance: exact match of guessing, or None.
    """

    accuracy: tuple[float, ...] | None
    predicted: bool | None
    settings: Settings | None
    chance: float | None


def published(task: str, positions: str, regularize: float = 0.0) -> Published:
    """The paper's figures for a task, an encoding and a coefficient; every field None where it has none."""
    entry = _tables()["tasks"].get(task, {})
    accuracy = entry.get({0.0: positions, 1e-4: f"{positions}_reg_1e4"}.get(regularize))
    settings = entry.get(f"config_{positions}")
    return Published(
        accuracy=tuple(accuracy) if accuracy else None,
        predicted=entry.get("predicted", {}).get(positions),
        settings=_parse_settings(settings) if settings else None,
        chance=entry.get("chance"),
    )


@cache
def _tables() -> dict:
    path = resources.files("lengen_fast") / "reference" / "paper_results.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _parse_settings(text: str) -> Settings:
    """Read settings such as "12l12h768d lr3e-5, 60k steps, 3k warm-up"."""
    shape = re.match(r"(\d+)l(\d+)h(\d+)d lr(\S+?)(?:,|$)", text)
    layers, heads, width = (int(shape[i]) for i in (1, 2, 3))
    steps = re.search(r"(\d+)k steps", text)
    warmup = re.search(r"(\d+)k warm-up", text)
    return Settings(
        layers=layers,
        heads=heads,
        width=width,
        learning_rate=float(shape[4]),
        steps=int(steps[1]) * 1000 if steps else 30_000,
        warmup=int(warmup[1]) * 1000 if warmup else 0,
    )
