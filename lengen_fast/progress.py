"""Progress of long work on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_SECONDS = 10.0  # between lines where there is no terminal
REFRESH_SECONDS = 0.1  # between refreshes of a bar


class _Report:
    """A bar, or lines, about ``total`` units of work."""

    def __init__(self, name: str, total: int):
        self.name, self.total = name, total
        console = Console(stderr=True)
        self.interval = REFRESH_SECONDS if console.is_terminal else LINE_SECONDS
        self.began = self.last = time.monotonic()
        self.bar = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Progress(*columns, console=console, transient=True)
            self.line = self.bar.add_task(name, total=total, note="")

    def __enter__(self):
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def _due(self) -> bool:
        return time.monotonic() - self.last >= self.interval

    def _show(self, done: int, note: str) -> None:
        self.last = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.line, completed=done, note=note)
        else:
            print(f"{self.name}: {done} of {self.total}, {note}", file=sys.stderr, flush=True)


class TrainingReport(_Report):
    """Loss, steps/s, tokens/s and time left of a training run; the observer of ``lengen_fast.train``."""

    def __init__(self, steps: int):
        super().__init__("training", steps)
        self.loss: float | None = None
        self.first: tuple[float, int, int] | None = None

    def __call__(self, step: int, tokens: int, loss: float | None) -> None:
        """Note that ``step`` steps and ``tokens`` tokens are done."""
        self.loss = self.loss if loss is None else loss
        if self.first is None:
            self.first = (time.monotonic(), step, tokens)
        elif self._due():
            self._show(step, self._note(step, tokens))

    def _note(self, step: int, tokens: int) -> str:
        began, first_step, first_tokens = self.first
        seconds = max(time.monotonic() - began, 1e-9)
        speed = (step - first_step) / seconds
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        left = duration((self.total - step) / speed) if speed else "?"
        return f"{loss}{speed:,.0f} steps/s, {(tokens - first_tokens) / seconds:,.0f} tokens/s, at most {left} left"


class EvaluationReport(_Report):
    """Strings done of each range of lengths; the progress of ``lengen_fast.evaluate``."""

    def __init__(self, labels: list[str]):
        super().__init__("evaluating", 0)
        self.labels = labels
        self.index = -1

    def __call__(self, index: int, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` strings of range ``index`` are done."""
        if index != self.index:
            self.index, self.total, self.began = index, total, time.monotonic()
            if self.bar is not None:
                self.bar.update(self.line, total=total)
        if self._due():
            seconds = time.monotonic() - self.began
            left = duration(seconds * (total - done) / done)
            self._show(done, f"length {self.labels[index]} ({index + 1} of {len(self.labels)}), {left} left of it")


class StepReport(_Report):
    """Steps of a search, what is being done, and the time left if no further step can be spared."""

    def __init__(self, name: str, steps: int):
        super().__init__(name, steps)
        self.taken = 0

    def __call__(self, step: int, note: str) -> None:
        """Note one more step, after which ``step`` of all steps are done or spared."""
        self.taken += 1
        if self._due():
            seconds = time.monotonic() - self.began
            left = duration((self.total - step) * seconds / self.taken)
            self._show(step, f"{note}, at most {left} left")


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
