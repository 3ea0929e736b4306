"""Short conditions that hold for some examples and for none of some others.

Examples are rows of small integers, one column a feature. A condition is a disjunction of *cubes*; a cube bounds each
feature from below and above, or leaves it free.

Letters: F features, P and M examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FREE = 2**40
"""A bound beyond every value: -FREE from below, FREE from above."""


@dataclass(frozen=True)
class Feature:
    """Something that a program sees at a position.

    Attributes:
        name: what it is called in a program's text.
        values: texts of the tests for single values; None: an integer, which may be compared.
    """

    name: str
    values: dict[int, str] | None = None

    def test(self, low: int, high: int) -> str:
        """The text of low <= feature <= high."""
        if self.values is not None:
            return self.values[low]
        if low == high:
            return f"{self.name} = {low}"
        if low == -FREE:
            return f"{self.name} <= {high}"
        return f"{self.name} >= {low}" if high == FREE else f"{low} <= {self.name} <= {high}"


@dataclass(frozen=True)
class Condition:
    """A disjunction of cubes.

    Attributes:
        features: the F features.
        bounds: [cubes, 2, F] int64, least and greatest values.
    """

    features: tuple[Feature, ...]
    bounds: np.ndarray

    def holds(self, examples: np.ndarray) -> np.ndarray:
        """[P] bool, for [P, F] examples."""
        low, high = self.bounds[:, None, 0], self.bounds[:, None, 1]
        return ((examples >= low) & (examples <= high)).all(axis=2).any(axis=0)

    @property
    def always(self) -> bool:
        """Whether some cube leaves every feature free."""
        return bool((np.abs(self.bounds) == FREE).all(axis=(1, 2)).any())

    def cubes(self) -> list[list[str]]:
        """The tests of each cube."""
        return [
            [
                feature.test(int(low), int(high))
                for feature, low, high in zip(self.features, *bounds, strict=True)
                if (low, high) != (-FREE, FREE)
            ]
            for bounds in self.bounds
        ]


def separate(features: Sequence[Feature], positives: np.ndarray, negatives: np.ndarray) -> Condition:
    """A condition that holds for every one of [P, F] examples and for none of [M, F] others.

    Each cube begins as one example and gives up its features, the first one first, as far as no negative example then
    fulfils it; it is short, not always shortest.

    Raises:
        ValueError: some example is both positive and negative.
    """
    positives, negatives = np.asarray(positives, np.int64), np.asarray(negatives, np.int64)
    cubes, left = [], positives
    while len(left):
        cube = _widest(features, left[0], negatives)
        inside = ((left >= cube[0]) & (left <= cube[1])).all(axis=1)
        if not inside.any():
            raise ValueError("an example is both positive and negative")
        cubes.append(cube)
        left = left[~inside]
    return Condition(tuple(features), np.array(cubes, dtype=np.int64).reshape(len(cubes), 2, len(features)))


def _widest(features: Sequence[Feature], example: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """[2, F]: the bounds of a cube around an example."""
    cube = np.stack([example, example])
    inside = negatives == example  # the cube, in each feature
    outside = (~inside).sum(axis=1)  # features in which a negative example lies outside the cube
    if not outside.all():
        cube[0] = FREE  # no example lies in it
        return cube
    for column, feature in enumerate(features):
        rivals = negatives[outside - ~inside[:, column] == 0, column]
        if feature.values is not None and len(rivals):
            continue
        below, above = rivals[rivals < example[column]], rivals[rivals > example[column]]
        cube[0, column] = below.max() + 1 if len(below) else -FREE
        cube[1, column] = above.min() - 1 if len(above) else FREE
        now = (negatives[:, column] >= cube[0, column]) & (negatives[:, column] <= cube[1, column])
        outside -= now.astype(int) - inside[:, column]
        inside[:, column] = now
    return cube
