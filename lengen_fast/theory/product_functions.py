"""Which functions of two positions a product p_i^T W p_j learns beyond the distances it was trained on.

The experiment of the appendix of arXiv 2410.02140: vectors p_i and two matrices are trained so that, for j <= i in a
window at a random offset, the product of query p_i and key p_j is 2 ln 50 where a condition holds and 0 elsewhere. All
positions are trained, but no pair farther apart than the window. And the same view of a trained transformer: the
products of each head, split into a local part, a periodic part and what is left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources

import torch
from torch import Tensor

from lengen_fast.data import check_at_least, check_integer
from lengen_fast.model import Transformer
from lengen_fast.theory.regularizer import positional_logits
from lengen_fast.theory.targets import condition, expression

HEIGHT = 2 * math.log(50)  # of a target where its condition holds
MOST_POSITIONS = 512  # of a model, that are looked at


@dataclass(frozen=True)
class Protocol:
    """How products are learned; the published settings by default, but for the width, of which there are two.

    Attributes:
        width: C of the vectors and of the square matrices W_Q and W_K, whose product is W.
        steps: of Adam with ``learning_rate``.
        positions: vectors p_i; window: positions of one training window.
        batch: windows a step, at uniform offsets.
        decay: of the loss, what multiplies the mean square of the vectors, of W_Q and of W_K each.
        seed: of initial values and offsets.
    """

    width: int = 256
    steps: int = 15_000
    positions: int = 200
    window: int = 50
    batch: int = 64
    learning_rate: float = 1e-3
    decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "steps", "positions", "window", "batch"):
            check_at_least(name, getattr(self, name), 1)
        if 3 * self.window > self.positions:
            raise ValueError(
                f"window must be at most a third of the {self.positions} positions, for windows up to three times as "
                f"long are tested, got {self.window}"
            )

    @property
    def test_windows(self) -> tuple[int, int, int]:
        """Positions of the windows in which the products are tested: those of training, twice and three times these."""
        return self.window, 2 * self.window, 3 * self.window

    @property
    def is_published(self) -> bool:
        """Whether all but width, steps and seed is as in the published experiment."""
        free = ("width", "steps", "seed")
        return all(getattr(self, each.name) == each.default for each in fields(self) if each.name not in free)


@dataclass(frozen=True)
class Parts:
    """A function of query i and key j <= i as local part + periodic part + remainder.

    The profile f(d) is the mean of the function over all pairs at distance d = i - j. The periodic part is g(d mod
    Delta): the means of f over the distances above ``reach`` in each residue class, every pair counted once. Delta is
    the period of at most ``longest_period`` whose classes leave the least variance of f there, counting one degree of
    freedom a class. The local part is f - g at distances up to ``reach``, and 0 farther. What varies along a diagonal
    is in the remainder, and so is what f has beyond both parts.

    Attributes:
        local, periodic, remainder: [n, n] fp64, 0 for j > i.
        period: Delta; reach: the distance up to which the local part may be other than 0.
    """

    local: Tensor
    periodic: Tensor
    remainder: Tensor
    period: int
    reach: int

    def sizes(self) -> dict[str, float]:
        """Root of the mean square of each part over all pairs j <= i, in logits."""
        return {name: root_mean_square(getattr(self, name)) for name in ("local", "periodic", "remainder")}


@dataclass(frozen=True)
class Learned:
    """Products that were trained towards a condition.

    Attributes:
        target: the condition.
        protocol: how.
        products: [n, n] fp64: query i (row) times key j (column), of which training sees j <= i.
        losses: mean squared error over the pairs j <= i of all windows of each of ``protocol.test_windows``.
        parts: of the products.
        published: the published losses, or None where there are none.
    """

    target: str
    protocol: Protocol
    products: Tensor = field(repr=False)
    losses: tuple[float, float, float]
    parts: Parts = field(repr=False)
    published: tuple[float, float, float] | None

    def as_dict(self) -> dict:
        """Plain values, without the products."""
        return {
            "target": self.target,
            "width": self.protocol.width,
            "steps": self.protocol.steps,
            "seed": self.protocol.seed,
            "windows": list(self.protocol.test_windows),
            "losses": list(self.losses),
            "published": list(self.published) if self.published else None,
            "period": self.parts.period,
            "reach": self.parts.reach,
            "sizes": self.parts.sizes(),
        }


@dataclass(frozen=True)
class Head:
    """What positions alone add to the logits of one head.

    Attributes:
        layer, head: from 0.
        products: [n, n] fp64, see ``regularizer.positional_logits``.
        parts: of the products.
    """

    layer: int
    head: int
    products: Tensor = field(repr=False)
    parts: Parts = field(repr=False)

    @property
    def positions(self) -> int:
        """n."""
        return len(self.products)

    def as_dict(self) -> dict:
        """Plain values, without the products."""
        return {
            "layer": self.layer,
            "head": self.head,
            "period": self.parts.period,
            "reach": self.parts.reach,
            "sizes": self.parts.sizes(),
        }


def head_products(model: Transformer, reach: int = 8, longest_period: int = 12) -> list[Head]:
    """The products of each head over the first ``MOST_POSITIONS`` positions at most.

    Raises:
        ValueError: the model has no positions, or too few for that reach and period.
    """
    layers = positional_logits(model, positions=MOST_POSITIONS)
    if not layers:
        raise ValueError("the model has no positions: products of positions need positions ape, or a local reach")
    return [
        Head(layer, head, products, split(products, reach, longest_period))
        for layer, heads in enumerate(layers)
        for head, products in enumerate(heads)
    ]


def learn(
    target: str,
    protocol: Protocol | None = None,
    *,
    reach: int = 8,
    longest_period: int = 12,
    observer: Callable[[int], None] | None = None,
) -> Learned:
    """Train products towards a target, see ``targets.condition``.

    Args:
        reach, longest_period: of the split, see ``Parts``.
        observer: called with the steps done.

    Raises:
        ValueError: the target or a setting is not usable.
    """
    protocol = protocol or Protocol()
    wanted = _wanted(target, protocol)
    check_split(protocol.positions, reach, longest_period)
    products = _train(wanted, protocol, observer or (lambda step: None))
    return assess(target, protocol, products, reach=reach, longest_period=longest_period)


def assess(target: str, protocol: Protocol, products: Tensor, *, reach: int = 8, longest_period: int = 12) -> Learned:
    """Products [n, n] fp64 that were trained towards a target, with their losses and parts; see ``learn``."""
    errors = (products - _wanted(target, protocol)).square()
    losses = tuple(float((errors * _all_windows(protocol.positions, w)).sum()) for w in protocol.test_windows)
    parts = split(products, reach, longest_period)
    return Learned(expression(target), protocol, products, losses, parts, published_losses(target, protocol))


def _wanted(target: str, protocol: Protocol) -> Tensor:
    return condition(target, protocol.positions) * HEIGHT


def published_losses(target: str, protocol: Protocol) -> tuple[float, float, float] | None:
    """The published losses of a target at a width, or None."""
    if not protocol.is_published:
        return None
    for entry in _published()["losses"]:
        if expression(entry["target"]) == expression(target) and str(protocol.width) in entry:
            return tuple(entry[str(protocol.width)])
    return None


@cache
def _published() -> dict:
    path = resources.files("lengen_fast") / "reference" / "product_functions.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _train(wanted: Tensor, protocol: Protocol, observer: Callable[[int], None]) -> Tensor:
    """[n, n] fp64 products after training, in fp32."""
    generator = torch.Generator().manual_seed(protocol.seed)
    width = protocol.width

    def uniform(*shape: int, bound: float) -> torch.nn.Parameter:
        return torch.nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) * bound)

    table = uniform(protocol.positions, width, bound=1.0)
    query, key = (uniform(width, width, bound=width**-0.5) for _ in range(2))
    optimizer = torch.optim.Adam([table, query, key], lr=protocol.learning_rate, fused=True)
    places = protocol.positions - protocol.window + 1
    for step in range(protocol.steps):
        starts = torch.randint(places, (protocol.batch,), generator=generator)
        weights = _window_weights(starts, protocol.positions, protocol.window)
        products = (table @ query) @ (table @ key).T
        decay = protocol.decay * sum(x.square().mean() for x in (table, query, key))
        optimizer.zero_grad()
        ((products - wanted).square() * weights).sum().add(decay).backward()
        optimizer.step()
        observer(step + 1)
    with torch.no_grad():
        return (table.double() @ query.double()) @ (table.double() @ key.double()).T


def _window_weights(starts: Tensor, positions: int, window: int) -> Tensor:
    """[n, n]: the share of each pair j <= i among all pairs of all windows, which begin at ``starts``."""
    begun = torch.bincount(starts, minlength=positions).cumsum(0)  # windows that begin at each position or before
    over = torch.nn.functional.pad(begun, (window, 0))[:positions]  # windows that end before each position
    both = (begun[None, :] - over[:, None]).clamp(min=0).tril()  # windows that hold i (row) and j (column)
    return both / (len(starts) * window * (window + 1) / 2)


def _all_windows(positions: int, window: int) -> Tensor:
    return _window_weights(torch.arange(positions - window + 1), positions, window).double()


# ---- local, periodic, remainder ----


def check_split(positions: int, reach: int, longest_period: int) -> None:
    """Raise a ValueError for a reach or period that leaves nothing to tell periods from."""
    check_integer("reach", reach, 0, 2**31)
    if check_integer("longest_period", longest_period, 1, 2**31) * 2 > positions - 1 - reach:
        raise ValueError(
            f"longest_period must be at most half of the {positions - 1 - reach} distances above reach {reach} "
            f"that {positions} positions have, got {longest_period}"
        )


def split(products: Tensor, reach: int = 8, longest_period: int = 12) -> Parts:
    """[n, n] products of query i and key j as local part, periodic part and remainder; see ``Parts``.

    Raises:
        ValueError: there are too few positions for that reach and period.
    """
    n = len(products)
    check_split(n, reach, longest_period)
    profile, counts = diagonal_means(products), torch.arange(n, 0, -1, dtype=torch.float64)
    period, classes = _best_period(profile, counts, reach, longest_period)
    distances = torch.arange(n)
    periodic = classes[distances % period]
    local = torch.where(distances <= reach, profile - periodic, 0.0)
    local, periodic = _along_diagonals(local), _along_diagonals(periodic)
    return Parts(local, periodic, products.double().tril() - local - periodic, period, reach)


def diagonal_means(products: Tensor) -> Tensor:
    """[n] fp64: the mean of [n, n] over the pairs at each distance i - j = 0, 1, ..."""
    return torch.stack([products.double().diagonal(-distance).mean() for distance in range(len(products))])


def translation_variation(model: Transformer) -> float:
    """The share of the squares of all p_j^T K^T Q p_i, j <= i, that varies among pairs at one distance.

    0 for a model of the paper's class Theta_n, whose products are translation-invariant, and without positions.
    """
    whole = varying = 0.0
    for layer in positional_logits(model):
        for head in layer:
            varying += float((head.tril() - _along_diagonals(diagonal_means(head))).square().sum())
            whole += float(head.tril().square().sum())
    return varying / whole if whole else 0.0


def _best_period(profile: Tensor, counts: Tensor, reach: int, longest: int) -> tuple[int, Tensor]:
    """The period whose classes fit the profile above ``reach`` best, and the value of each class."""
    far = torch.arange(len(profile)) > reach
    candidates = []
    for period in range(1, longest + 1):
        residues = torch.arange(len(profile)) % period
        weights = torch.where(far, counts, 0.0)
        sums = torch.zeros(period, dtype=torch.float64).index_add(0, residues, weights * profile)
        classes = sums / torch.zeros(period, dtype=torch.float64).index_add(0, residues, weights)
        left = float((weights * (profile - classes[residues]).square()).sum())
        candidates.append((left / (int(far.sum()) - period), period, classes))
    _, period, classes = min(candidates, key=lambda candidate: candidate[0])
    return period, classes


def _along_diagonals(profile: Tensor) -> Tensor:
    """[n] by distance to [n, n], 0 for j > i."""
    distance = torch.arange(len(profile))[:, None] - torch.arange(len(profile))
    return torch.where(distance >= 0, profile[distance.clamp(min=0)], 0.0)


def root_mean_square(values: Tensor) -> float:
    """Over the pairs j <= i of [n, n]."""
    n = len(values)
    return math.sqrt(float(values.tril().square().sum()) / (n * (n + 1) / 2))
