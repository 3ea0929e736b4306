"""A Python function as a task: slower than the engine, by the same protocol.

A row is a pure function of (seed, stream, row) here too: the function gets a NumPy generator of its own for every row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from numbers import Real

import numpy as np

from lengen_fast.data import MOST_STEPS, check_integer
from lengen_fast.symbols import is_symbol_name
from lengen_fast.tasks.base import LONGEST_LENGTH, Geometry, Oracle, Task

Draw = Callable[[np.random.Generator, int], tuple]

_CONTENT, _PLACEMENT = 0, 1
_CACHED_TOKENS = 2**22  # of evaluation sets, which are drawn again at every test


def task_from_function(
    function: Draw,
    *,
    symbols: Sequence[str],
    name: str | None = None,
    shortest: int = 1,
    longest: int = LONGEST_LENGTH,
    tokens_at: Callable[[int], int] | None = None,
    hard: Draw | None = None,
    oracle: Oracle | None = None,
    description: str | None = None,
    chance: float = 0.0,
) -> FunctionTask:
    """A task whose strings a Python function draws.

    Args:
        function: called with a ``numpy.random.Generator`` and a length n. It returns a question and its answer (x, y),
            which become `BOS x SEP y EOS` with `y EOS` scored, or (tokens, scored, targets): a whole string, the
            increasing positions of it that are scored, and the token that each has to predict. Tokens are ids, names,
            or one text of names. It must draw from nothing but the generator.
        symbols: names of the ordinary tokens; ``<bos>``, ``<sep>`` and ``<eos>`` follow them.
        name: what to call the task; None: the name of the function.
        shortest, longest: the lengths that the function can draw.
        tokens_at: the most tokens of a string of length n; None: 2 n + 3, as for an answer as long as the question.
        hard: the function of the ``hard`` distribution; None: there is none.
        oracle: called with the task and the tokens of a string; returns its scored positions and targets.
        description: one line; None: the first line of the function's docstring.
        chance: exact match of a guesser that knows the format but not the answer.

    Raises:
        TypeError: something to be called cannot be called, or a number is none.
        ValueError: symbols that are not distinct names, a name that could be no file's, a range of lengths without a
            length, or a chance that is none.

    Drawing raises a ValueError if the function returns anything else, and a RuntimeError from an exception of its own.
    """
    for what, given in (("function", function), ("tokens_at", tokens_at), ("hard", hard), ("oracle", oracle)):
        if not callable(given) and (given is not None or what == "function"):
            raise TypeError(f"{what} is {given!r}; it must be a function")
    own_name = getattr(function, "__name__", type(function).__name__)
    lines = (getattr(function, "__doc__", None) or "").strip().splitlines()
    symbols, longest = _checked_names(symbols), _checked_longest(shortest, longest)
    size = (lambda n: 2 * n + 3) if tokens_at is None else partial(_checked_size, tokens_at)
    size(shortest)
    return FunctionTask(
        name=_checked_name(own_name if name is None else name),
        family="user",
        description=description or (lines[0] if lines else f"the Python function {own_name}"),
        hard_means="there is none" if hard is None else f"the Python function {getattr(hard, '__name__', 'hard')}",
        citation="",
        symbols=symbols,
        label="what the function says",
        geometry=Geometry(shortest, tokens_at=size, context_for=size),
        answer=oracle or _no_oracle,
        chance=_checked_chance(chance),
        distributions=("paper",) if hard is None else ("paper", "hard"),
        draws=(function,) if hard is None else (function, hard),
        longest=longest,
    )


@dataclass(frozen=True)
class FunctionTask(Task):
    """A task whose strings are drawn by Python functions, one for each distribution."""

    draws: tuple[Draw, ...] = field(kw_only=True, repr=False)
    longest: int = field(kw_only=True)
    cache: EvaluationSets = field(default_factory=lambda: EvaluationSets(), compare=False, repr=False)

    @property
    def max_length(self) -> int:
        return self.longest

    def _why_no_longer(self, length: int) -> str:
        return f"the longest string of {self.name} has length {self.longest}"

    def definition(self) -> dict:
        function = self.draws[0]
        place = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', self.name)}"
        return super().definition() | {"function": place}

    def _engine_sampler(self, distribution: str, low: int, high: int, seed: int, context: int) -> FunctionSampler:
        function = self.draws[self.distributions.index(distribution)]
        return FunctionSampler(self, function, self.reachable(low, high), seed, context)


@dataclass(frozen=True)
class Rows:
    """Packed rows as arrays, under the names that a batch of the engine has."""

    tokens: np.ndarray
    cu_seqlens: np.ndarray
    offsets: np.ndarray
    scored: np.ndarray
    targets: np.ndarray
    longest: int
    most_scored: int

    @classmethod
    def packed(cls, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], offsets: list[int]) -> Rows:
        """Rows of tokens, scored positions and targets, end to end."""
        starts = list(accumulate((len(tokens) for tokens, _, _ in rows), initial=0))
        return cls(
            tokens=np.concatenate([tokens for tokens, _, _ in rows]).astype(np.int32),
            cu_seqlens=np.array(starts, dtype=np.int32),
            offsets=np.array(offsets, dtype=np.int64),
            scored=np.concatenate([start + scored for start, (_, scored, _) in zip(starts, rows, strict=False)]).astype(
                np.int32
            ),
            targets=np.concatenate([targets for _, _, targets in rows]),
            longest=max(len(tokens) for tokens, _, _ in rows),
            most_scored=max(len(scored) for _, scored, _ in rows),
        )

    def copy(self) -> Rows:
        """The same in memory of its own."""
        return Rows(
            **{name: np.copy(value) if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}
        )


class EvaluationSets:
    """The rows of evaluation sets that were drawn last, up to a number of tokens."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple, Rows] = OrderedDict()
        self._tokens = 0

    def get(self, key: tuple, draw: Callable[[], Rows]) -> Rows:
        """Those kept under a key, or else drawn now and kept."""
        if key in self._rows:
            self._rows.move_to_end(key)
            return self._rows[key].copy()
        rows = draw()
        if len(rows.tokens) <= _CACHED_TOKENS:
            self._rows[key] = rows.copy()
            self._tokens += len(rows.tokens)
            while self._tokens > _CACHED_TOKENS:
                self._tokens -= len(self._rows.popitem(last=False)[1].tokens)
        return rows


@dataclass(frozen=True)
class FunctionSampler:
    """Rows of a Python function by (stream, row); what the engine's sampler is to other tasks."""

    task: FunctionTask
    function: Draw
    lengths: Sequence[int]
    seed: int
    context: int

    def sample(self, rows: int, stream: int = 0, first_row: int = 0, threads: int = 1) -> Rows:
        """Rows ``first_row .. first_row + rows - 1`` of a stream, on one thread whatever is asked for."""
        draw = lambda: self._draw(rows, stream, first_row)  # noqa: E731
        if stream < MOST_STEPS:
            return draw()
        key = (self.function, self.lengths[0], self.lengths[-1], self.seed, self.context, rows, stream, first_row)
        return self.task.cache.get(key, draw)

    def stream(self, rows: int, *, start: int, stop: int, trim: bool, **_: int) -> FunctionStream:
        """Batches of consecutive steps, each drawn when it is asked for."""
        return FunctionStream(self, rows, start, stop, trim)

    def _draw(self, rows: int, stream: int, first_row: int) -> Rows:
        drawn, offsets = [], []
        for row in range(first_row, first_row + rows):
            placement = self._generator(stream, row, _PLACEMENT)
            n = self.lengths[int(placement.integers(len(self.lengths)))]
            where = f"for n = {n} (seed {self.seed}, stream {stream}, row {row})"
            drawn.append(_checked_row(self.task, self._called(stream, row, n, where), n, where))
            room = self.context - len(drawn[-1][0]) + 1
            offsets.append(int(placement.integers(room)) if self.context else 0)
        return Rows.packed(drawn, offsets)

    def _called(self, stream: int, row: int, n: int, where: str) -> object:
        """What the function returns; an exception of its own says where it came up."""
        try:
            return self.function(self._generator(stream, row, _CONTENT), n)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"the function of {self.task.name} failed {where}: {reason}") from error

    def _generator(self, stream: int, row: int, part: int) -> np.random.Generator:
        key, counter = np.array([self.seed, stream], dtype=np.uint64), np.array([0, 0, row, part], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


class FunctionStream:
    """An iterator over steps with the methods that the engine's stream has."""

    def __init__(self, sampler: FunctionSampler, rows: int, start: int, stop: int, trim: bool) -> None:
        self._sampler, self._rows, self._step, self._stop, self._trim = sampler, rows, start, stop, trim

    def next(self) -> Rows:
        """The batch of the next step; StopIteration at the end."""
        if self._step >= self._stop:
            raise StopIteration
        batch = self._sampler.sample(self._rows, stream=self._step)
        self._step += 1
        return _trimmed(batch) if self._trim else batch

    def close(self) -> None:
        """Ends the stream."""
        self._stop = self._step


def _trimmed(batch: Rows) -> Rows:
    """The rows without the tokens behind the last scored one of each."""
    rows = []
    for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
        here = (batch.scored >= start) & (batch.scored < end)
        scored = batch.scored[here] - start
        rows.append((batch.tokens[start : start + scored[-1] + 1], scored, batch.targets[here]))
    return Rows.packed(rows, batch.offsets.tolist())


def _checked_row(task: Task, returned: object, n: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, scored positions and targets of what a function returned, or a ValueError that says what is wrong."""
    wrong = f"{task.name} {where} returned"
    if not isinstance(returned, (tuple, list)) or len(returned) not in (2, 3):
        raise ValueError(f"{wrong} {_brief(returned)}; it must return (x, y) or (tokens, scored, targets)")
    if len(returned) == 2:
        x, y = (_ids(task, part, name, wrong) for part, name in zip(returned, ("x", "y"), strict=True))
        tokens = np.concatenate([[task.bos], x, [task.sep], y, [task.eos]])
        scored = np.arange(len(x) + 1, len(tokens) - 1)
        targets = tokens[scored + 1]
    else:
        tokens = _ids(task, returned[0], "tokens", wrong)
        scored = _integers(returned[1], "scored", wrong)
        targets = _ids(task, returned[2], "targets", wrong)
        _check_scored(tokens, scored, targets, wrong)
    most = task.tokens_at(n)
    if len(tokens) > most:
        raise ValueError(
            f"{wrong} a string of {len(tokens)} tokens, and tokens_at({n}) is {most}; give the right tokens_at"
        )
    return tokens, scored, targets


def _check_scored(tokens: np.ndarray, scored: np.ndarray, targets: np.ndarray, wrong: str) -> None:
    if len(scored) != len(targets):
        raise ValueError(f"{wrong} {len(scored)} scored positions and {len(targets)} targets; give as many of both")
    if len(scored) == 0:
        raise ValueError(f"{wrong} no scored position; there must be one at least")
    if scored[0] < 0 or scored[-1] >= len(tokens) or np.any(np.diff(scored) <= 0):
        raise ValueError(
            f"{wrong} scored = {_brief(scored.tolist())}; positions must increase, from 0 to {len(tokens) - 1}"
        )


def _ids(task: Task, part: object, name: str, wrong: str) -> np.ndarray:
    """[T] int64 ids of a sequence of ids or names, or of a text of names."""
    try:
        named = isinstance(part, str) or (isinstance(part, Iterable) and any(isinstance(each, str) for each in part))
        ids = task.encode(part) if named else _integers(part, name, wrong)
    except ValueError as error:
        raise error if str(error).startswith(wrong) else ValueError(f"{wrong} {name}: {error}") from None
    if len(ids) and not 0 <= ids.min() <= ids.max() < task.vocab_size:
        odd = ids[(ids < 0) | (ids >= task.vocab_size)][0]
        raise ValueError(f"{wrong} {name} with the id {odd}; ids must be in 0..{task.vocab_size - 1}")
    return ids


def _integers(part: object, name: str, wrong: str) -> np.ndarray:
    try:
        array = np.asarray(part)
    except ValueError:  # a ragged list
        array = np.empty((0, 0))
    if array.ndim != 1 or not (len(array) == 0 or np.issubdtype(array.dtype, np.integer)):
        shape = f"of shape {array.shape} and type {array.dtype}"
        raise ValueError(f"{wrong} {name} {shape}; it must be a sequence of integers")
    return array.astype(np.int64)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _checked_names(symbols: Sequence[str]) -> tuple[str, ...]:
    names = tuple(symbols) if isinstance(symbols, Iterable) else ()
    if not names or not all(map(is_symbol_name, names)) or len(set(names)) != len(names):
        raise ValueError(f"symbols is {_brief(symbols)}; it must be distinct names without spaces, such as ['a', 'b']")
    return names


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not name.strip(". ") or set(name) & set("/\\"):
        raise ValueError(f"name is {_brief(name)}; it must be a name without slashes, such as 'my_task'")
    return name


def _checked_chance(chance: object) -> float:
    if isinstance(chance, bool) or not isinstance(chance, Real) or not 0 <= chance <= 1:
        raise ValueError(f"chance is {_brief(chance)}; it must be a number from 0 to 1")
    return float(chance)


def _checked_size(tokens_at: Callable[[int], int], n: int) -> int:
    return check_integer(f"tokens_at({n})", tokens_at(n), 1, 2**31 - 1)


def _checked_longest(shortest: object, longest: object) -> int:
    for name, value in (("shortest", shortest), ("longest", longest)):
        check_integer(name, value, -(2**63), 2**63)
    if not 0 <= shortest <= longest <= LONGEST_LENGTH:
        raise ValueError(
            f"shortest and longest are {shortest} and {longest}; they must increase in 0..{LONGEST_LENGTH}"
        )
    return longest


def _no_oracle(task: Task, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raise ValueError(f"{task.name} has no oracle; give task_from_function one")
