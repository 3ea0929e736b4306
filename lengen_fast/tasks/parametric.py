"""Tasks that tell the engine more than their name and the size of their alphabet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lengen_fast import _engine
from lengen_fast.tasks.base import Task


@dataclass(frozen=True)
class ParametricTask(Task):
    """A task that is one of many the engine draws by one sampler.

    Attributes:
        engine: what the engine calls the sampler.
        parameters: numbers that the sampler needs beside the size of the alphabet.
    """

    engine: str = ""
    parameters: tuple[int, ...] = field(default=(), repr=False)

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> _engine.Sampler:
        symbols = self._engine_symbols
        return _engine.Sampler(self.engine, distribution, symbols, low, high, seed, context, self.parameters)


@dataclass(frozen=True)
class Numbered:
    """The tasks ``prefix`` + number, such as ``mode_20``.

    Attributes:
        prefix: what stands before the number.
        low, high: the numbers there are, inclusive.
        means: what the number is.
        make: the task of a name and a number.
    """

    prefix: str
    low: int
    high: int
    means: str
    make: Callable[[str, int], Task]

    def numbered(self, number: int) -> Task:
        """The task of that number, by its name."""
        return self.make(f"{self.prefix}{number}", number)

    def find(self, name: str) -> Task | None:
        """The task of that name, or None if it is no name of these tasks.

        Raises:
            ValueError: the name has a number out of range.
        """
        digits = name.removeprefix(self.prefix)
        if digits == name or not (digits.isascii() and digits.isdigit()):
            return None
        if str(int(digits)) != digits or not self.low <= int(digits) <= self.high:
            raise ValueError(
                f"there is no task {name!r}; the number behind {self.prefix} is {self.means}, {self.low} to {self.high}"
            )
        return self.numbered(int(digits))
