"""The training loop: fresh strings at every step, no padding in the linear layers, resumable to the last bit."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lengen_fast.data import STRINGS, Batch, Stream, check_at_least, check_integer
from lengen_fast.devices import check_device
from lengen_fast.evaluation import Accuracy, check_context, evaluate
from lengen_fast.lengths import Number, bounds, written
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.optimizer import AdamW
from lengen_fast.published import published
from lengen_fast.runs import RunDirectory, RunError
from lengen_fast.signals import collected_signals
from lengen_fast.tasks import DISTRIBUTIONS, Task
from lengen_fast.theory import positional_product_penalty


@dataclass(frozen=True)
class TrainConfig:
    """The paper's protocol (arXiv 2410.02140, section 5), by default.

    Attributes:
        steps: optimizer steps; the learning rate falls linearly to 0 over them.
        batch: strings a step.
        learning_rate: its highest value.
        warmup: steps over which it rises linearly from 0 first.
        weight_decay: AdamW's, on matrices and tables; biases and norms are not decayed.
        clip_norm: gradients are scaled down to this global norm, as the Hugging Face Trainer does; None: not at all.
        length: (low, high) of the training strings, or a range for each of two lengths; None: ``task.usual_lengths``.
        distribution: one of the task's; None: its first.
        regularize: coefficient of the positional-product penalty added to the loss.
        test_every: steps between tests on strings of the training range that no step trains on (never longer ones).
        test_count: strings of such a test.
        stop_when_fitted: end at the first test with every string right.
        seed: of the initial weights and the strings.
        log_every: steps between losses in metrics.jsonl, each the mean since the one before.
        save_every: steps between checkpoints.
        threads: CPU threads of PyTorch during training; None: chosen by width, at most what is set.
    """

    steps: int = 30_000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    length: tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | None = None
    distribution: str | None = None
    regularize: float = 0.0
    test_every: int = 3000
    test_count: int = 2000
    stop_when_fitted: bool = True
    seed: int = 0
    log_every: int = 100
    save_every: int = 1000
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "test_every", "test_count", "log_every", "save_every", "threads"):
            value = getattr(self, name)
            if not (name == "threads" and value is None):
                check_at_least(name, value, 1)
        if self.batch >= 2**31:
            raise ValueError(f"batch must be at most {2**31 - 1}, got {self.batch}")
        check_integer("seed", self.seed, 0, 2**64 - 1)
        check_integer("warmup", self.warmup, 0, 2**63)
        if self.distribution is not None and self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be {' or '.join(DISTRIBUTIONS)}, got {self.distribution!r}")
        for name in ("weight_decay", "regularize"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not (name == "clip_norm" and value is None) and not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and positive, got {value}")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup must be shorter than the {self.steps} steps, got {self.warmup}")
        if self.length is not None:
            if not isinstance(self.length, (tuple, list)) or len(self.length) != 2:
                raise TypeError(f"length must be a pair (low, high) or None, got {self.length!r}")
            low, high = bounds(self.length)
            object.__setattr__(self, "length", (low, high) if isinstance(low, int) else written(low, high))

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: linear warm-up, then linear decay to 0 at ``steps``."""
        if step < self.warmup:
            return self.learning_rate * step / self.warmup
        return self.learning_rate * (self.steps - step) / (self.steps - self.warmup)

    def as_dict(self) -> dict:
        """Plain values, as config.json holds them."""
        settings = asdict(self)
        settings["length"] = _as_lists(self.length) if self.length else None
        return settings


@dataclass
class Run:
    """A trained model and how it came to be.

    Attributes:
        model: the trained transformer.
        task: what it was trained on.
        train_config: how.
        step: optimizer steps taken.
        in_range: the last test on the training range.
        history: lines of metrics.jsonl.
        directory: where it is stored, or None.
    """

    model: Transformer
    task: Task
    train_config: TrainConfig
    step: int
    in_range: Accuracy | None
    history: list[dict] = field(repr=False)
    directory: RunDirectory | None

    @property
    def fitted(self) -> bool:
        """Whether every string of the last in-range test was right."""
        return self.in_range is not None and self.in_range.correct == self.in_range.count


class Interrupted(KeyboardInterrupt):
    """Training was stopped by SIGINT or SIGTERM after saving a checkpoint.

    Attributes:
        step: steps done; signal_number: which signal.
    """

    def __init__(self, step: int, signal_number: int):
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.signal_number = signal_number


class TrainingDiverged(Exception):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


def default_configs(
    task: Task,
    positions: str = "ape",
    *,
    longest: Number | None = None,
    model: dict | None = None,
    train: dict | None = None,
) -> tuple[ModelConfig, TrainConfig]:
    """The paper's settings for a task and an encoding, with replacements.

    Args:
        longest: the longest length, or pair of lengths, to be evaluated; the position table serves it, and the training
            strings. None: that of ``task.usual_bins``, 150 of most tasks.
        model, train: fields of ``ModelConfig`` and ``TrainConfig`` to set otherwise.

    For a task without published settings: 2 layers, 1 head, width 64, and the defaults of ``TrainConfig``.
    """
    settings = published(task.name, positions).settings
    shape = (
        dict(layers=2, heads=1, width=64)
        if settings is None
        else dict(layers=settings.layers, heads=settings.heads, width=settings.width)
    )
    schedule = (
        {}
        if settings is None
        else dict(learning_rate=settings.learning_rate, steps=settings.steps, warmup=settings.warmup)
    )
    if train and "steps" in train and "warmup" not in train and schedule.get("warmup", 0) >= train["steps"]:
        schedule["warmup"] = 0
    schedule |= dict(length=task.usual_lengths, distribution=task.distributions[0])
    trained = bounds((train or {}).get("length") or schedule["length"])[1]
    longest = task.usual_bins[-1][1] if longest is None else longest
    context = max(map(task.context_for, (longest, trained)))
    shape |= dict(vocab_size=task.vocab_size, positions=positions, context=context)
    return ModelConfig(**shape | (model or {})), TrainConfig(**schedule | (train or {}))


def train(
    config: ModelConfig,
    task: Task,
    train_config: TrainConfig | None = None,
    *,
    out: str | Path | RunDirectory | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    observer: Callable[[int, int, float | None], None] | None = None,
) -> Run:
    """Train a transformer from scratch on fresh strings.

    The same arguments give the same weights, bit for bit, on the same machine, whether or not training was interrupted
    (Ctrl-C, SIGTERM, kill -9) and resumed on the way.

    Args:
        config: shape of the model; its vocabulary must be the task's.
        task: from ``lengen_fast.task``.
        train_config: how; the paper's protocol if None.
        out: a new directory for metrics, checkpoints and weights; None keeps all in memory. SIGINT and SIGTERM save a
            checkpoint there and raise ``Interrupted``.
        resume: ``out`` holds this run already: go on from its checkpoint, or return at once if it has ended.
        device: "cpu", "cuda", "cuda:1", ...
        observer: called after every step with (step, tokens so far, mean loss of the last window or None).

    Raises:
        ValueError: before any work: settings that do not fit together.
        RunError: the directory cannot be read or written.
        TrainingDiverged: the loss became NaN or infinite; ``out`` keeps its last good checkpoint, or is removed.

    What fails before its first step leaves no directory behind.
    """
    train_config = train_config or TrainConfig()
    train_config = _settled(train_config, task)
    check_settings(config, task, train_config)
    check_device(device)
    settings = {**run_settings(config, task, train_config), "device": str(device)}
    directory = _directory(settings, out, resume)
    alone = contextlib.nullcontext() if directory is None else directory.locked()
    with alone, _threads(train_config.threads or _threads_for(config)):
        trainer = None
        try:
            trainer = _Trainer(config, task, train_config, directory, torch.device(device), observer or _ignore)
            if directory is not None and directory.finished:
                directory.discard_leftovers()
                return trainer.finished_run()
            if resume:
                trainer.restore()
            return trainer.run()
        except Exception as error:
            begun = resume or (trainer is not None and trainer.step > 0)
            if directory is not None and (isinstance(error, TrainingDiverged) or not begun):
                directory.discard_if_unsaved()
            raise


def training_loss(model: Transformer, batch: Batch, regularize: float = 0.0) -> Tensor:
    """Mean cross-entropy over the scored rows, plus ``regularize`` times the positional-product penalty."""
    logits = model(batch.tokens, cu_seqlens=batch.packing, offsets=batch.offsets, rows=batch.selection)
    loss = F.cross_entropy(logits, batch.targets)
    return loss + regularize * positional_product_penalty(model) if regularize else loss


class _Trainer:
    """One run from its first or last saved step to its end."""

    def __init__(self, config, task, train_config, directory, device, observer):
        self.task, self.config, self.directory, self.device = task, train_config, directory, device
        self.observer = observer
        self.model = Transformer(config, seed=train_config.seed).to(device)
        self.optimizer = AdamW(self.model, train_config.weight_decay, train_config.clip_norm)
        self.step = self.tokens = 0
        self.seconds = 0.0
        self.in_range: Accuracy | None = None
        self.history: list[dict] = []
        self.losses = torch.zeros(train_config.log_every, device=device)

    def run(self) -> Run:
        config = self.config
        context = self.model.config.longest
        stream = Stream(
            self.task,
            config.batch,
            config.length,
            config.seed,
            distribution=config.distribution,
            context=context,
            start=self.step,
            stop=config.steps,
            trim=True,
        )
        with stream, collected_signals(self.directory is not None) as signals:
            began = time.perf_counter() - self.seconds
            for batch in stream:
                self._optimize(batch.to(self.device, non_blocking=True))
                self.seconds = time.perf_counter() - began
                if self.step % config.log_every == 0:
                    self._log()
                if self.step % config.test_every == 0 or self.step == config.steps:
                    self._test()
                    if config.stop_when_fitted and self._fitted:
                        break
                if self.step % config.save_every == 0 or signals:
                    self._save()
                if signals:
                    raise Interrupted(self.step, signals[0])
            run = self._finish()
            if signals:  # they came while the last step was tested or saved
                raise Interrupted(self.step, signals[0])
        return run

    def _optimize(self, batch: Batch) -> None:
        config = self.config
        loss = training_loss(self.model, batch, config.regularize)
        loss.backward()
        self.optimizer.step(config.rate_at(self.step))
        self.losses[self.step % config.log_every] = loss.detach()
        self.step += 1
        self.tokens += len(batch.tokens)
        self.observer(self.step, self.tokens, None)

    def _log(self) -> None:
        self._check_finite()
        loss = float(self.losses.double().mean())
        self._record(
            {
                "step": self.step,
                "loss": loss,
                "learning_rate": self.config.rate_at(self.step - 1),
                "tokens": self.tokens,
                "seconds": round(self.seconds, 3),
            }
        )
        self.observer(self.step, self.tokens, loss)

    def _check_finite(self) -> None:
        """Raise if a loss since the last log is not finite; its window is [step - filled, step)."""
        filled = (self.step - 1) % self.config.log_every + 1
        bad = torch.nonzero(~torch.isfinite(self.losses[:filled])).flatten()
        if len(bad):
            step = self.step - filled + int(bad[0]) + 1
            raise TrainingDiverged(f"the loss became NaN or infinite at step {step}: {self._advice()}")

    def _advice(self) -> str:
        checkpoint = self.directory is not None and (self.directory.path / "checkpoint.safetensors").exists()
        return "lower the learning rate" + (
            f"; {self.directory.path} keeps its last good checkpoint" if checkpoint else ""
        )

    def _check_weights(self) -> None:
        """Raise if the last update, whose loss nobody has seen, left a weight that is not finite."""
        if not self.optimizer.is_finite:
            raise TrainingDiverged(f"a weight became NaN or infinite at step {self.step}: {self._advice()}")

    def _test(self) -> None:
        table = evaluate(
            self.model,
            self.task,
            [self.config.length],
            count=self.config.test_count,
            distribution=self.config.distribution,
            seed=self.config.seed,
            purpose="validation",
        )
        self.in_range = table.lines[0]
        self._record({"step": self.step, "in_range": self.in_range.as_dict()})

    @property
    def _fitted(self) -> bool:
        return self.in_range is not None and self.in_range.correct == self.in_range.count

    def _record(self, line: dict) -> None:
        self.history.append(line)
        if self.directory is not None:
            self.directory.append_metrics(line)

    def _state(self) -> dict:
        in_range = self.in_range.as_dict() if self.in_range else None
        return {"step": self.step, "tokens": self.tokens, "seconds": self.seconds, "in_range": in_range}

    def _save(self) -> None:
        if self.directory is None:
            return
        self._check_finite()
        self._check_weights()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state.items()}
        self.directory.save_checkpoint(tensors | {"losses": self.losses}, self._state())

    def restore(self) -> None:
        """Go back to the last checkpoint of the directory; without one, training starts anew."""
        self.directory.discard_leftovers()
        saved = self.directory.load_checkpoint()
        if saved is None:
            self.directory.rewind_metrics(0)
            return
        tensors, state = saved
        self.model.load_state_dict(_below("model.", tensors))
        self.optimizer.restore(_below("optimizer.", tensors))
        self.losses.copy_(tensors["losses"])
        self._adopt(state)
        self.history = self.directory.rewind_metrics(self.step)

    def _adopt(self, state: dict) -> None:
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.in_range = Accuracy.from_dict(state["in_range"]) if state["in_range"] else None

    def finished_run(self) -> Run:
        """The run as stored when its training ended."""
        self.model, state = self.directory.load_model(self.device)
        self._adopt(state)
        self.history = self.directory.read_metrics()
        return self._as_run()

    def _finish(self) -> Run:
        self._check_finite()
        self._check_weights()
        if self.directory is not None:
            self.directory.save_weights(self.model, self._state())
        return self._as_run()

    def _as_run(self) -> Run:
        self.optimizer.release()
        return Run(self.model.eval(), self.task, self.config, self.step, self.in_range, self.history, self.directory)


def check_settings(config: ModelConfig, task: Task, train_config: TrainConfig) -> None:
    """Raise a ValueError if a model of that shape cannot be trained so on the task."""
    if config.vocab_size != task.vocab_size:
        raise ValueError(
            f"the model has {config.vocab_size} tokens and task {task.name} has {task.vocab_size}: "
            f"set vocab_size to task.vocab_size"
        )
    low, high = bounds(train_config.length or task.usual_lengths)
    check_context(config, task, task.check_lengths(low, high, train_config.distribution)[-1])


def _settled(train_config: TrainConfig, task: Task) -> TrainConfig:
    """The configuration with what it leaves to the task."""
    length = train_config.length or task.usual_lengths
    return replace(train_config, length=length, distribution=train_config.distribution or task.distributions[0])


def _directory(settings: dict, out: str | os.PathLike | RunDirectory | None, resume: bool) -> RunDirectory | None:
    if out is None:
        if resume:
            raise ValueError("resume needs out, the directory of the run to go on with")
        return None
    if isinstance(out, RunDirectory):
        directory = out
    else:
        directory = RunDirectory.open(out) if resume else RunDirectory.create(out, settings)
    if directory.config.get("strings") != STRINGS:
        remedy = "go on with the commit of its config.json, or begin anew in another directory"
        raise RunError(f"{directory.path} was begun by a version that drew other strings for its seed: {remedy}")
    if (other := _first_difference(directory.config, settings)) is not None:
        raise ValueError(f"{directory.path} was begun with another {other}: resume it with that of its config.json")
    return directory


def _first_difference(config: dict, settings: dict) -> str | None:
    """Where ``config`` has something else than ``settings``, as train.steps; None if nowhere."""
    for key, value in settings.items():
        if isinstance(value, dict):
            inner = _first_difference(config[key], value)
            if inner is not None:
                return f"{key}.{inner}"
        elif config.get(key) != value:
            return key
    return None


def run_settings(config: ModelConfig, task: Task, train_config: TrainConfig) -> dict:
    """What config.json says of a run, and what a resumed run must share."""
    return {
        "task": task.definition(),
        "model": config.as_dict(),
        "train": {**train_config.as_dict(), "threads": train_config.threads or _threads_for(config)},
        "seed": train_config.seed,
        "strings": STRINGS,
    }


def _threads_for(config: ModelConfig) -> int:
    """Small models lose more to the hand-over between threads than they gain."""
    return torch.get_num_threads() if config.width > 32 else 1


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _as_lists(value: object) -> object:
    """Nested tuples as JSON gives them back."""
    return [_as_lists(each) for each in value] if isinstance(value, tuple) else value


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _ignore(step: int, tokens: int, loss: float | None) -> None:
    pass
