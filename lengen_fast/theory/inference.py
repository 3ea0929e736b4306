"""The idealized inference of arXiv 2410.02140 (section 3), as far as a search can follow it.

For each n the paper takes, among the transformers of context n that are right on all strings of length at most n/2 at
all offsets, one with R(T_n) at most 1/n above the least possible. Its theorem: for a function in the class of Limit
Transformers that are PERIODIC and LOCAL, R(T_n) stays bounded and, from some n on, T_n is right up to length n; for
any other function not both hold.

What is found here is an upper bound of the least R. The search fits transformers as the theory has them (no layer
normalization, log-n scaling, ReLU) by gradient descent, raises penalties while the fit stays exact, and cuts the rank
and the bits of what it reached. Where a C-RASP program of the task is known, one more candidate is that program,
compiled to the weights of an ordinary transformer and made smaller in the same way: the construction by which the
theorem bounds R. What was found for one n is tried at the others too. Translation invariance, which the
paper asks of T_n exactly, is left to random offsets; ``variation`` says how far from it the model is. Lengths are the
task's n, and T_n has the positions that these need.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from lengen_fast.data import Batch, Stream, check_at_least, check_integer
from lengen_fast.evaluation import wilson_interval
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.optimizer import AdamW
from lengen_fast.tasks import Task
from lengen_fast.theory.candidates import Candidate, Shape, Store
from lengen_fast.theory.compression import Compressed, compress, shrink, with_context
from lengen_fast.theory.instances import Instances, instances
from lengen_fast.theory.product_functions import translation_variation
from lengen_fast.theory.realization import from_program
from lengen_fast.theory.regularizer import Regularizer
from lengen_fast.training import TrainConfig, training_loss

Observer = Callable[[int, str], None]


@dataclass(frozen=True)
class Search:
    """How a transformer of small R is looked for.

    Shapes are tried in order, each from every seed, up to the first one that any seed fits; a shape that did not fit at
    one n is not tried at greater ones. Steps take their strings from the task's distributions in turn.

    Attributes:
        shapes: in the order of L + H.
        program: whether the task's program, if one is known, is a candidate at every n.
        seeds: initial weights a shape.
        fit_steps: most steps until every string is right.
        rounds, round_steps: then, so many times, so many steps with penalties. They rise after a round at whose end
            the fit is exact; else they fall, and the next round begins where the last exact one ended.
        penalty, penalty_factor: coefficient of the positional-product penalty in the first round, and what it is
            multiplied by to rise and divided by to fall.
        decay, decay_factor: the same of the weight decay, which in rounds shrinks every parameter.
        learning_rate: falls linearly to a fiftieth over the steps of a fit, and from half of it in every round.
        batch: strings a step.
        test_every: steps between tests on the strings to fit.
        init_std: of the initial weights.
    """

    shapes: tuple[Shape, ...] = (Shape(1, 1, 16, 1), Shape(2, 1, 64, 1), Shape(2, 2, 32, 128))
    seeds: int = 2
    fit_steps: int = 4000
    rounds: int = 6
    round_steps: int = 500
    penalty: float = 1e-3
    penalty_factor: float = 4.0
    decay: float = 0.5
    decay_factor: float = 2.0
    learning_rate: float = 3e-3
    batch: int = 64
    test_every: int = 250
    init_std: float = 0.1
    program: bool = True

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ValueError("shapes must have at least one, got none")
        for name in ("seeds", "fit_steps", "rounds", "round_steps", "batch", "test_every"):
            check_at_least(name, getattr(self, name), 0 if name == "rounds" else 1)

    @property
    def most_steps(self) -> int:
        """Steps of one shape and seed, at most."""
        return self.fit_steps + self.rounds * self.round_steps

    @property
    def training(self) -> TrainConfig:
        """How a fit is trained, as the config.json of a run says it."""
        return TrainConfig(steps=self.fit_steps, batch=self.batch, learning_rate=self.learning_rate)

    def as_dict(self) -> dict:
        """Plain values, as config.json holds them; the inverse of ``from_dict``."""
        return asdict(self) | {"shapes": [list(asdict(shape).values()) for shape in self.shapes]}

    @classmethod
    def from_dict(cls, content: dict) -> Search:
        """The inverse of ``as_dict``."""
        return cls(**content | {"shapes": tuple(Shape(*shape) for shape in content["shapes"])})


@dataclass(frozen=True)
class Finding:
    """The result for one n.

    Attributes:
        n: half of it is the longest length that had to be fitted.
        fitted_on, tested_on: the strings, in words, up to n/2 and above.
        exhaustive: whether both (fitted, tested) were all there are.
        best: the fitted candidate with the least R, T_n; None if none fitted.
        candidates: all of them; one found at another n is among them if it is the best.
    """

    n: int
    fitted_on: str
    tested_on: str
    exhaustive: tuple[bool, bool]
    best: Candidate | None
    candidates: tuple[Candidate, ...] = field(repr=False)

    def as_dict(self) -> dict:
        """Plain values, with the interval of the agreement where it is a sample's."""
        content = {
            "n": self.n,
            "fitted_on": self.fitted_on,
            "tested_on": self.tested_on,
            "exhaustive": list(self.exhaustive),
            "fitted": self.best is not None,
            "best": self.best.as_dict() if self.best else None,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
        }
        if self.best and not self.exhaustive[1]:
            content["interval"] = list(wilson_interval(self.best.right, self.best.asked))
        return content


@dataclass(frozen=True)
class Inference:
    """R(T_n) and the agreement of T_n with a task, for some n.

    Attributes:
        task: its name; symbols: its alphabet where that can grow, else None.
        search: how the models were looked for.
        findings: one an n, in increasing order.
    """

    task: str
    symbols: int | None
    search: Search
    findings: tuple[Finding, ...]

    MOST_GROWTH = 1.1  # of R over the last doubling, where it counts as bounded

    @property
    def bounded(self) -> bool | None:
        """Whether R grew by at most a tenth over the last two n that were fitted; None if fewer were."""
        totals = [finding.best.regularizer.total for finding in self.findings if finding.best]
        return None if len(totals) < 2 else totals[-1] <= self.MOST_GROWTH * totals[-2]

    @property
    def agrees(self) -> bool | None:
        """Whether the last T_n that was found is right on every string up to length n; None if none was found."""
        found = [finding.best for finding in self.findings if finding.best]
        return found[-1].right == found[-1].asked if found else None

    def as_dict(self) -> dict:
        """Plain values, as --json prints them."""
        return {
            "task": self.task,
            "symbols": self.symbols,
            "search": self.search.as_dict(),
            "bounded": self.bounded,
            "agrees": self.agrees,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def infer(
    task: Task,
    sizes: Sequence[int],
    search: Search | None = None,
    *,
    store: Store | None = None,
    observer: Observer | None = None,
) -> Inference:
    """Look for T_n of each size n.

    Args:
        task: with an alphabet that serves the greatest n.
        sizes: increasing, each at least twice the task's shortest length.
        search: how; the default if None.
        store: candidates that it has are not trained again.
        observer: called with (steps done or spared so far of ``most_steps``, what is being done).

    Raises:
        ValueError: sizes that are none, or lengths that the task cannot draw.
    """
    check_sizes(task, sizes)
    search, store = search or Search(), store or Store()
    return Inference(
        task.name,
        task.symbols.count if task.alphabet_grows else None,
        search,
        tuple(_exchanged(task, list(_findings(task, sizes, search, store, observer or _ignore)), store)),
    )


def check_sizes(task: Task, sizes: Sequence[int]) -> None:
    """Raise a ValueError for sizes that do not increase or have no strings on one of their sides."""
    if not sizes or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise ValueError(f"sizes must increase, such as 8 16 32, got {' '.join(map(str, sizes)) or 'none'}")
    for n in sizes:
        least = 2 * max(1, task.min_length)
        if check_integer("size", n, -(2**63), 2**63) < least:
            raise ValueError(f"size {n} is too small: {task.name} needs sizes of at least {least}")
        for low, high in _ranges(task, n):
            task.check_lengths(low, high)


def most_steps(sizes: Sequence[int], search: Search) -> int:
    """Steps of a whole search, at most."""
    return len(sizes) * len(search.shapes) * search.seeds * search.most_steps


def _ranges(task: Task, n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Lengths to be fitted and lengths to be tested."""
    return (task.min_length, n // 2), (n // 2 + 1, n)


def _findings(task: Task, sizes: Sequence[int], search: Search, store: Store, observer: Observer) -> Iterator[Finding]:
    shapes, each = list(search.shapes), search.seeds * search.most_steps
    for index, n in enumerate(sizes):
        to_fit, to_test = _instances(task, n)
        candidates: list[Candidate] = []
        for shape in list(shapes):
            before = (index * len(search.shapes) + search.shapes.index(shape)) * each
            for seed in range(search.seeds):
                candidate = store.load(n, shape, seed)
                if candidate is None:
                    say = _from(observer, before + seed * search.most_steps, f"n {n}, {shape}, seed {seed}")
                    attempt = _Attempt(task, n, shape, seed, search, to_fit, say)
                    candidate = attempt.candidate(to_test)
                    store.save(candidate, attempt.best or attempt.model)
                candidates.append(candidate)
            if any(candidate.regularizer for candidate in candidates):
                break
            shapes.remove(shape)
        if search.program and (candidate := _from_program(task, n, to_fit, to_test, store)):
            candidates.append(candidate)
        fitted = [candidate for candidate in candidates if candidate.regularizer]
        yield Finding(
            n,
            to_fit.describe(),
            to_test.describe(),
            (to_fit.exhaustive, to_test.exhaustive),
            min(fitted, key=lambda candidate: candidate.regularizer.total, default=None),
            tuple(candidates),
        )


def _from_program(task: Task, n: int, to_fit: Instances, to_test: Instances, store: Store) -> Candidate | None:
    """The candidate that is the task's program, kept or made now; None if no program is known."""
    kept = store.load(n, None, None)
    model = None if kept else from_program(task, task.context_for(n), to_fit.fitted)
    if model is None:
        return kept
    config, terms = model.config, None
    if to_fit.fitted(model):
        model, terms = _shrunk(model, to_fit)
    candidate = Candidate(
        n=n,
        shape=Shape(config.layers, config.heads, config.width, config.units),
        seed=None,
        steps=0,
        rounds=0,
        regularizer=terms,
        variation=translation_variation(model),
        right=to_test.correct(model),
        asked=to_test.count,
    )
    store.save(candidate, model)
    return candidate


def _shrunk(model: Transformer, to_fit: Instances) -> Compressed:
    """A model that fits, made smaller on a few batches only, and on one more as long as it then fails one."""
    batches = to_fit.batches[:1]
    while True:
        smaller = shrink(model, Instances(batches, to_fit.count, exhaustive=False).fitted)
        mistake = to_fit.first_mistake(smaller[0])
        if mistake is None:
            return smaller
        batches = (mistake, *batches)


def _exchanged(task: Task, findings: list[Finding], store: Store) -> Iterator[Finding]:
    """Findings in which the best candidate of another n is the best where it fits too and has a smaller R."""
    for finding in findings:
        others = [other.best for other in findings if other.best and other is not finding]
        for candidate in sorted(others, key=lambda other: other.regularizer.total):
            carried = _carried(task, finding, candidate, store)
            if carried is not None:
                finding = replace(finding, best=carried, candidates=(*finding.candidates, carried))
                break
        yield finding


def _carried(task: Task, finding: Finding, candidate: Candidate, store: Store) -> Candidate | None:
    """A candidate of another n as one of this n, if it has a smaller R than the best here and fits."""
    n, context = finding.n, task.context_for(finding.n)
    model = with_context(store.model(candidate), context)
    terms = Regularizer.of(model)
    if finding.best and terms.total >= finding.best.regularizer.total:
        return None
    to_fit, to_test = _instances(task, n)
    if not to_fit.fitted(model):
        return None
    carried = replace(
        candidate,
        n=n,
        regularizer=terms,
        variation=translation_variation(model),
        right=to_test.correct(model),
        asked=to_test.count,
        found_at=candidate.n,
    )
    store.save(carried, model)
    return carried


def _instances(task: Task, n: int) -> tuple[Instances, Instances]:
    """What T_n has to be fitted to, and what it is tested on."""
    fitted, tested = _ranges(task, n)
    context = task.context_for(n)
    return (
        instances(task, *fitted, context, purpose="validation"),
        instances(task, *tested, context, purpose="test"),
    )


class _Attempt:
    """One model from its initial weights to the least R that it reaches."""

    def __init__(self, task: Task, n: int, shape: Shape, seed: int, search: Search, to_fit: Instances, say: Observer):
        self.task, self.n, self.shape, self.seed, self.search = task, n, shape, seed, search
        self.to_fit, self.say = to_fit, say
        self.model = Transformer(self._config(), seed=seed)
        self.optimizer = AdamW(self.model, 0.01, clip_norm=1.0)
        self.vectors = [x.data for x in self.model.parameters() if x.dim() < 2]
        self.steps = self.rounds = 0
        self.best: Transformer | None = None
        self.least: Regularizer | None = None

    def _config(self) -> ModelConfig:
        shape = self.shape
        return ModelConfig(
            self.task.vocab_size,
            shape.layers,
            shape.heads,
            shape.width,
            context=self.task.context_for(self.n),
            mlp_width=shape.units,
            init_std=self.search.init_std,
            activation="relu",
            normalization="none",
            tied_embeddings=False,
            log_n_scaling=True,
        )

    def candidate(self, to_test: Instances) -> Candidate:
        """Fit, squeeze, and test."""
        if self._fit():
            self._keep()
            self._squeeze()
        if self.best:
            self.best, self.least = _shrunk(self.best, self.to_fit)
        variation = translation_variation(self.best) if self.best else 0.0
        right = to_test.correct(self.best) if self.best else 0
        return Candidate(
            self.n, self.shape, self.seed, self.steps, self.rounds, self.least, variation, right, to_test.count
        )

    def _fit(self) -> bool:
        """Train until a test is passed; whether one was."""
        return self._train(self.search.fit_steps, self.search.learning_rate, "fitting", until_fitted=True)

    def _squeeze(self) -> None:
        """Train with penalties as great as an exact fit bears, and keep the model of least R."""
        search, level, exact = self.search, 0, copy.deepcopy(self.model.state_dict())
        for _ in range(search.rounds):
            note = f"R {self.least.total:.1f}" if self.least else "no R yet"
            penalty, decay = search.penalty * search.penalty_factor**level, search.decay * search.decay_factor**level
            if self._train(search.round_steps, search.learning_rate / 2, note, penalty, decay):
                self.rounds += 1
                self._keep()
                level, exact = level + 1, copy.deepcopy(self.model.state_dict())
            else:
                level -= 1
                self.model.load_state_dict(exact)

    def _train(
        self,
        steps: int,
        rate: float,
        note: str,
        penalty: float = 0.0,
        decay: float | None = None,
        until_fitted: bool = False,
    ) -> bool:
        """Take steps with a rate that falls to a fiftieth; whether the last test was passed."""
        self.optimizer.weight_decay = 0.01 if decay is None else decay
        fitted = False
        for step, batch in enumerate(self._batches(steps)):
            now = rate * (1 - 0.98 * step / steps)
            training_loss(self.model, batch, penalty).backward()
            self.optimizer.step(now)
            if decay is not None:
                torch._foreach_mul_(self.vectors, 1 - now * decay)
            self.steps += 1
            self.say(self.steps, note)
            if (step + 1) % self.search.test_every == 0 or step + 1 == steps:
                fitted = self.to_fit.fitted(self.model)
                if fitted and until_fitted:
                    break
        return fitted

    def _batches(self, steps: int) -> Iterator[Batch]:
        """Strings of the next steps, from the distributions in turn."""
        names = self.task.distributions
        (low, high), _ = _ranges(self.task, self.n)
        streams = [
            Stream(
                self.task,
                self.search.batch,
                (low, high),
                self.seed,
                distribution=name,
                context=self.model.config.longest,
                start=self.steps,
                stop=self.steps + steps,
                trim=True,
            )
            for name in names
        ]
        try:
            yield from itertools.islice(itertools.chain.from_iterable(zip(*streams, strict=True)), steps)
        finally:
            for stream in streams:
                stream.close()

    def _keep(self) -> None:
        """Compress the model as it is, and keep it if its R is the least so far."""
        compressed = compress(self.model, self.to_fit.fitted)
        if compressed is not None and (self.least is None or compressed[1].total < self.least.total):
            self.best, self.least = compressed


def _from(observer: Observer, begun: int, where: str) -> Observer:
    return lambda steps, note: observer(begun + steps, f"{where}: {note}")


def _ignore(steps: int, note: str) -> None:
    pass
