"""Training takes at least 5 times as many steps a second as Hugging Face's ``Trainer`` with ``GPT2LMHeadModel`` at one
layer, one head and width 16, and at least 3 times as many at 2 layers, 4 heads, width 64 and at 4 layers, 2 heads,
width 256.

Ours is ``lengen_fast.training.train``. Theirs is the set-up of arXiv 2410.02140: a ``Trainer`` over a Python
``IterableDataset`` and a collator that pads, at the same task, batch, shape, optimizer, schedule and clipping; dropout,
saving and evaluation are off, and logging is sparse. A chunk of steps of one, then of the other; the first steps of a
chunk do not count. Both sides get the same threads to choose from, and the claim has to hold twice: as each does by
default, and (``best``) each with the number of threads that suits it. ``bound`` says what the arithmetic allows:
floating-point operations of a step (only scored rows go through the last block, and no row is padding) beside this
machine's fp32 matrix product at the same shapes, and where the time of a step goes.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import ClassVar

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from torch.utils.data import IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import python_tasks, record
from benchmarks.shares import shares_of
from benchmarks.timing import alternate, describe, ratio
from lengen_fast.data import Batch, Stream
from lengen_fast.interop import to_gpt2
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.tasks import task
from lengen_fast.training import TrainConfig, train, training_loss

BATCH, LONGEST_TRAINED, LONGEST_TESTED = 64, 50, 150
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01
IGNORED = -100  # label of a position that is not scored
COUNTED_BATCHES = 4  # over which operations are counted
STEPS = 30_000  # of the schedule; a chunk takes the first of them
CHUNK_SECONDS = 1.0
QUICK_SECONDS, FULL_SECONDS = 20, 240  # of the timings of one case


@dataclass(frozen=True)
class Case:
    """A shape, how many times as fast ours has to be there (None: no claim), and the steps that warm a chunk up."""

    task: str
    layers: int
    heads: int
    width: int
    least_ratio: float | None
    warm_steps: int

    @property
    def shape(self) -> str:
        return f"{self.layers}/{self.heads}/{self.width}"

    def model_config(self) -> ModelConfig:
        each = task(self.task)
        context = each.context_for(LONGEST_TESTED)
        return ModelConfig(each.vocab_size, self.layers, self.heads, self.width, context=context)


CASES = (
    Case("binary_majority", 1, 1, 16, least_ratio=5.0, warm_steps=10),
    Case("binary_majority", 2, 4, 64, least_ratio=3.0, warm_steps=4),
    Case("binary_majority", 4, 2, 256, least_ratio=3.0, warm_steps=1),
    Case("unique_copy", 2, 1, 64, least_ratio=None, warm_steps=4),
)


def run(quick: bool) -> dict:
    transformers.utils.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    most = torch.get_num_threads()
    results = {"cases": [_compare(case, device, most, quick) for case in CASES]}
    _print(results)
    return results


def _compare(case: Case, device: str, most: int, quick: bool) -> dict:
    """Steps a second of both sides, with one thread and with ``most``, and the bound."""
    torch.set_num_threads(most)
    choices = sorted({1, most}) if device == "cpu" else [most]
    workloads: dict[str, Callable[[], float]] = {}
    for threads in choices:
        workloads[f"hugging_face_{threads}"] = partial(_hugging_face_chunk, case, device, threads)
        workloads[f"ours_{threads}"] = partial(_our_chunk, case, device, threads)
    seconds = alternate(workloads, *((5, QUICK_SECONDS) if quick else (21, FULL_SECONDS)))
    default = {"hugging_face": most, "ours": _default_threads(case, most) if device == "cpu" else most}
    best = {side: min(choices, key=lambda n: median(seconds[f"{side}_{n}"])) for side in default}
    comparison, at_best = _ratio_at(seconds, default), _ratio_at(seconds, best)
    lower = min(comparison["ratio"], at_best["ratio"])
    step_seconds = {side: median(seconds[f"{side}_{threads}"]) for side, threads in best.items()}
    return {
        "task": case.task,
        "shape": case.shape,
        "device": device,
        "loss_difference": _loss_difference(case),
        "steps_per_second": {name: 1 / median(values) for name, values in seconds.items()},
        "default_threads": default,
        **comparison,
        "best": {"threads": best, **at_best},
        "least_ratio": case.least_ratio,
        "met": None if case.least_ratio is None else lower >= case.least_ratio,
        "bound": _bound(case, device, step_seconds, best),
    }


def _ratio_at(seconds: dict[str, list[float]], threads: dict[str, int]) -> dict[str, float]:
    return ratio(*(seconds[f"{side}_{threads[side]}"] for side in ("hugging_face", "ours")))


# ---- ours ----


def _our_chunk(case: Case, device: str, threads: int | None) -> float:
    """Seconds a step of ``lengen_fast.training.train``."""
    clock = _Clock(case, device)
    with contextlib.suppress(_ChunkDone):
        train(
            case.model_config(),
            task(case.task),
            _train_config(threads),
            device=device,
            observer=lambda step, tokens, loss: clock.step_done(step) if loss is None else None,
        )
    return clock.seconds_per_step


def _train_config(threads: int | None) -> TrainConfig:
    return TrainConfig(
        steps=STEPS,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        log_every=STEPS,
        threads=threads,
    )


def _default_threads(case: Case, most: int) -> int:
    """Threads that ``train`` uses when it may choose among ``most``."""
    seen = []

    def stop_at_once(*_) -> None:
        seen.append(torch.get_num_threads())
        raise _ChunkDone

    with contextlib.suppress(_ChunkDone):
        train(case.model_config(), task(case.task), _train_config(threads=None), observer=stop_at_once)
    return min(seen[0], most)


# ---- theirs ----


class PythonStrings(IterableDataset):
    """Training strings drawn one at a time in Python, each with a random offset."""

    def __init__(self, case: Case):
        self.task, self.context = task(case.task), case.model_config().context

    def __iter__(self) -> Iterator[dict]:
        lengths = (self.task.min_length, LONGEST_TRAINED)
        for row in python_tasks.rows(self.task, lengths, self.context):
            labels = [IGNORED] * len(row.tokens)
            for place, target in zip(row.scored, row.targets, strict=True):
                labels[place + 1] = target  # the model shifts them by one itself
            yield _example(row.tokens, labels, row.offset)


def _example(tokens: list[int], labels: list[int], offset: int) -> dict[str, list[int]]:
    """One string as Hugging Face's model takes it."""
    return {
        "input_ids": tokens,
        "labels": labels,
        "position_ids": list(range(offset, offset + len(tokens))),
        "attention_mask": [1] * len(tokens),
    }


class Collator:
    """Pads the strings of a batch on the right to the longest; padding has no label and no attention."""

    FILLERS: ClassVar = {"input_ids": 0, "labels": IGNORED, "position_ids": 0, "attention_mask": 0}

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        return {
            name: torch.tensor([row[name] + [filler] * (longest - len(row[name])) for row in rows])
            for name, filler in self.FILLERS.items()
        }


class _StepCallback(transformers.TrainerCallback):
    def __init__(self, clock: _Clock):
        self.clock = clock

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.clock.step_done(state.global_step)


def _hugging_face_chunk(case: Case, device: str, threads: int) -> float:
    """Seconds a step of ``transformers.Trainer``."""
    torch.set_num_threads(threads)
    clock = _Clock(case, device)
    with tempfile.TemporaryDirectory() as directory, contextlib.suppress(_ChunkDone):
        _trainer(case, device, directory, [_StepCallback(clock)]).train()
    return clock.seconds_per_step


def _trainer(case: Case, device: str, directory: str, callbacks: list) -> transformers.Trainer:
    arguments = transformers.TrainingArguments(
        output_dir=directory,
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        lr_scheduler_type="linear",
        logging_steps=STEPS,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
    )
    trainer = transformers.Trainer(
        model=_hugging_face_model(case),
        args=arguments,
        train_dataset=PythonStrings(case),
        data_collator=Collator(),
        callbacks=callbacks,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _hugging_face_model(case: Case) -> transformers.GPT2LMHeadModel:
    return to_gpt2(Transformer(case.model_config()))


# ---- the two side by side ----


class _ChunkDone(Exception):
    """Ends a training loop from inside."""


class _Clock:
    """Times the steps of one chunk of training, those that warm it up left out, and ends it after ``seconds``."""

    def __init__(self, case: Case, device: str, seconds: float = CHUNK_SECONDS):
        self.warm_steps, self.device, self.seconds = case.warm_steps, device, seconds
        self.first: int | None = None  # the last step of the warm-up
        self.began = self.seconds_per_step = math.nan

    def step_done(self, step: int) -> None:
        """To be called after step 1, 2, ..."""
        if step == 1:
            self.began = time.perf_counter()
        late = time.perf_counter() - self.began >= self.seconds
        if self.first is None and (step == self.warm_steps or late):
            _synchronize(self.device)
            self.first, self.began = step, time.perf_counter()
        elif self.first is not None and late:
            _synchronize(self.device)
            self.seconds_per_step = (time.perf_counter() - self.began) / (step - self.first)
            raise _ChunkDone


def _stream(case: Case, trim: bool = False) -> Stream:
    each = task(case.task)
    return Stream(each, BATCH, (each.min_length, LONGEST_TRAINED), context=case.model_config().context, trim=trim)


def _as_padded(batch: Batch) -> dict[str, Tensor]:
    """The same strings as Hugging Face's model takes them."""
    labels = torch.full_like(batch.tokens, IGNORED, dtype=torch.int64)
    labels[batch.scored + 1] = batch.targets
    bounds = batch.cu_seqlens.tolist()
    examples = [
        _example(batch.tokens[begin:end].tolist(), labels[begin:end].tolist(), offset)
        for (begin, end), offset in zip(pairwise(bounds), batch.offsets.tolist(), strict=True)
    ]
    return Collator()(examples)


@torch.no_grad()
def _loss_difference(case: Case) -> float:
    """Largest difference of the two losses at the same weights and strings: both sides train on the same thing."""
    model = Transformer(case.model_config())
    hf_model = to_gpt2(model)
    differences = []
    with _stream(case) as stream:
        for _ in range(2):
            batch = next(stream)
            differences.append(float(abs(training_loss(model, batch) - hf_model(**_as_padded(batch)).loss)))
    if max(differences) > 1e-4:
        raise RuntimeError(f"the two losses differ by {max(differences)}: the comparison would mean nothing")
    return max(differences)


def _bound(case: Case, device: str, step_seconds: dict[str, float], threads: dict[str, int]) -> dict:
    """Operations of a step, what this machine's matrix product would take for them, and where the time goes."""
    operations = _operations(case)
    peak = {side: _matmul_gflops(case, device, operations["rows"][side], threads[side]) for side in threads}
    least = {side: operations["gflop"][side] / peak[side] for side in threads}
    return {
        "rows_per_step": operations["rows"],
        "gflop_per_step": operations["gflop"],
        "operations_ratio": operations["gflop"]["hugging_face"] / operations["gflop"]["ours"],
        "matmul_gflops": peak,
        "achieved_gflops": {side: operations["gflop"][side] / step_seconds[side] for side in threads},
        "share_of_matmul_speed": {side: least[side] / step_seconds[side] for side in threads},
        "ratio_if_ours_were_only_matmul": step_seconds["hugging_face"] / least["ours"],
        "time_shares": {
            "ours": shares_of(lambda: _our_chunk(case, device, threads["ours"]), device),
            "hugging_face": shares_of(lambda: _hugging_face_chunk(case, device, threads["hugging_face"]), device),
        },
    }


def _operations(case: Case) -> dict[str, dict[str, float]]:
    """Rows and GFLOP (forward and backward) of a step of each side, on average."""
    model = Transformer(case.model_config())
    hf_model = to_gpt2(model)
    rows = {"ours": 0, "hugging_face": 0}
    gflop = {"ours": 0.0, "hugging_face": 0.0}
    with _stream(case) as stream, _stream(case, trim=True) as trimmed:
        for _ in range(COUNTED_BATCHES):
            batch, padded = next(trimmed), _as_padded(next(stream))
            rows["ours"] += len(batch.tokens)
            rows["hugging_face"] += padded["input_ids"].numel()
            gflop["ours"] += _gflop(lambda batch=batch: training_loss(model, batch)) + _attention_gflop(case, batch)
            gflop["hugging_face"] += _gflop(lambda padded=padded: hf_model(**padded).loss)
    return {
        "rows": {side: count / COUNTED_BATCHES for side, count in rows.items()},
        "gflop": {side: count / COUNTED_BATCHES for side, count in gflop.items()},
    }


def _gflop(loss: Callable[[], Tensor]) -> float:
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_FLOPS) as counter:
        loss().backward()
    return counter.get_total_flops() / 1e9


def _attention_gflop(case: Case, batch: Batch) -> float:
    """Of our kernel, which the counter does not see: two products forward and five backward for each pair of a query
    and a key that it sees. The last block has the scored rows for queries, and keys as wide as the model for each head
    where that is cheaper (see ``lengen_fast.layers``)."""
    seen = batch.packing.position_in_sequence + 1
    pairs, scored = int(seen.sum()), int(seen[batch.scored].sum())
    many = len(batch.tokens) * case.width <= len(batch.scored) * (case.width + batch.longest * (case.heads - 1))
    pairs = pairs * (case.layers - 1) + scored * (1 if many else case.heads)
    return 7 * 2 * case.width * pairs / 1e9


def _attention_flops(q: tuple[int, ...], k: tuple[int, ...], *rest, **options) -> int:
    """Two products of [Tq, D] and [D, Tk] a head; shapes [B, H, T, D]. The causal half is counted too."""
    return 2 * 2 * math.prod(q) * k[-2]


def _attention_backward_flops(gradient: tuple, q: tuple[int, ...], k: tuple[int, ...], *rest, **options) -> int:
    """Five such products."""
    return 5 * 2 * math.prod(q) * k[-2]


ATTENTION_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def _matmul_gflops(case: Case, device: str, rows: float, threads: int) -> float:
    """fp32 speed of the MLP's products [rows, C] x [C, 4C] and [rows, 4C] x [4C, C] alone, the best of several."""
    torch.set_num_threads(threads)
    hidden = torch.randn(round(rows), case.width, device=device)
    weight = torch.randn(4 * case.width, case.width, device=device)
    seconds = []
    for _ in range(30):
        _synchronize(device)
        began = time.perf_counter()
        F.linear(F.linear(hidden, weight), weight.T)
        _synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * 2 * hidden.numel() * 4 * case.width / min(seconds) / 1e9


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# ---- the tables ----


def _print(results: dict) -> None:
    print("\nSteps a second, ours against Hugging Face's Trainer; threads in brackets\n")
    headings = ("task", "shape", "Trainer", "ours", "ratio (quartiles)", "best against best", "claim")
    print(record.table(headings, [_line(case) for case in results["cases"]]))
    print("\nWhat the arithmetic allows (fp32 matrix products at these shapes)\n")
    headings = ("task", "shape", "GFLOP/step", "theirs", "GFLOP/s matmul", "ours", "theirs", "ratio if only matmul")
    print(record.table(headings, [_bound_line(case) for case in results["cases"]]))
    for case in results["cases"]:
        print(f"\n{case['task']} {case['shape']}: time of a step by class of operation")
        for side, shares in case["bound"]["time_shares"].items():
            shown = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.02)
            print(f"  {side}: {shown}")


def _line(case: dict) -> tuple:
    speeds = [
        f"{case['steps_per_second'][f'{side}_{threads}']:.3g} ({threads})"
        for side, threads in case["default_threads"].items()
    ]
    claim = "none" if case["met"] is None else "pass" if case["met"] else "FAIL"
    claim += "" if case["least_ratio"] is None else f", at least {case['least_ratio']:g}x"
    return case["task"], case["shape"], *speeds, describe(case), describe(case["best"]), claim


def _bound_line(case: dict) -> tuple:
    bound = case["bound"]
    return (
        case["task"],
        case["shape"],
        bound["gflop_per_step"]["ours"],
        bound["gflop_per_step"]["hugging_face"],
        bound["matmul_gflops"]["ours"],
        bound["achieved_gflops"]["ours"],
        bound["achieved_gflops"]["hugging_face"],
        bound["ratio_if_ours_were_only_matmul"],
    )
