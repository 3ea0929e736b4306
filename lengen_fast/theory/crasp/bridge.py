"""Between programs and tasks: the target that a program predicts at each scored row of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from lengen_fast.theory.crasp import standard
from lengen_fast.theory.crasp.program import Program
from lengen_fast.theory.crasp.syntax import BOS, END, SEP

if TYPE_CHECKING:
    from lengen_fast.data import Batch
    from lengen_fast.tasks import Task

UNDECIDED = -1
TOKENS_AT_ONCE = 1 << 20
_END_IN_LABELS = "$"  # how the name of a label set says that the string may end


def program_for(task: Task) -> Program | None:
    """The program of the standard library that solves a task, over the task's alphabet; None if it has none."""
    return standard.program(task.name, input_symbols(task)) if task.name in standard.names() else None


def input_symbols(task: Task) -> tuple[str, ...]:
    """The ordinary symbols of a task; those that only stand for sets of labels are left out."""
    return tuple(symbol for symbol in task.symbols if not _is_label(task, symbol))


def predicted_targets(program: Program, task: Task, batch: Batch) -> np.ndarray:
    """What the program says where the task asks.

    Returns:
        [P] int64 token ids of the task: of a question with an answer, the one symbol whose NEXT line is true; of a
        language, the class of the legal set. ``UNDECIDED`` where not exactly one is true, or no class is that set.

    Raises:
        ValueError: the program has not the alphabet of the task.
    """
    ids = _program_ids(program, task)
    bounds, scored = batch.cu_seqlens.tolist(), batch.scored.numpy()
    predicted = np.empty(len(scored), np.int64)
    at_once = max(1, TOKENS_AT_ONCE // max(1, int(batch.cu_seqlens.diff().max())))
    for first in range(0, batch.rows, at_once):
        rows = range(first, min(first + at_once, batch.rows))
        begin, end = np.searchsorted(scored, (bounds[rows.start], bounds[rows.stop]))
        tokens = ids[batch.tokens[bounds[rows.start] : bounds[rows.stop]].numpy()]
        starts = np.array(bounds[rows.start : rows.stop + 1]) - bounds[rows.start]
        places = scored[begin:end] - bounds[rows.start]
        offsets = batch.offsets[rows.start : rows.stop].numpy()
        predicted[begin:end] = _targets(program, task, _legal_at(program, tokens, starts, offsets, places))
    return predicted


def correct_positions(program: Program, task: Task, batch: Batch) -> torch.Tensor:
    """[P] bool: whether the program predicts the target of each scored row."""
    return torch.from_numpy(predicted_targets(program, task, batch) == batch.targets.numpy())


def class_ids(program: Program, task: Task) -> dict[tuple[bool, ...], int]:
    """For a language the token that stands for each set, a row of ``Program.legal``."""
    names = [name for name in task.symbols if _is_label(task, name)]
    if task.labels == "membership":
        raise ValueError("sets of legal symbols have no classes when the labels say membership")
    return {
        tuple(symbol in _members(name) for symbol in (*program.alphabet, _END_IN_LABELS)): task.symbols.index(name)
        for name in names
    }


def _is_label(task: Task, symbol: str) -> bool:
    return hasattr(task, "labels") and symbol.startswith("{")


def _members(name: str) -> list[str]:
    return name[1:-1].split(",")


def check_alphabet(program: Program, task: Task) -> None:
    """Raise a ValueError unless the program has the alphabet of the task."""
    symbols = input_symbols(task)
    for ours, theirs, whose in ((program.alphabet, symbols, "task"), (symbols, program.alphabet, "program")):
        missing = sorted(set(ours) - set(theirs))
        if missing:
            raise ValueError(
                f"the program has not the alphabet of task {task.name}: symbol {missing[0]!r} is not in that of the "
                f"{whose}, {' '.join(theirs[:30])}"
            )


def _program_ids(program: Program, task: Task) -> np.ndarray:
    """[V] the program's id of each token of the task; -1 for labels, which are in no input."""
    check_alphabet(program, task)
    ids = np.full(task.vocab_size, UNDECIDED, np.int64)
    known = {name: i for i, name in enumerate(program.vocabulary)}
    for token, name in enumerate((*task.symbols, BOS, SEP, END)):
        ids[token] = known.get(name, UNDECIDED)
    return ids


def _legal_at(
    program: Program, tokens: np.ndarray, starts: np.ndarray, offsets: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """[P, S + 1] legal next symbols at some rows of packed strings."""
    lengths = np.diff(starts)
    row = np.repeat(np.arange(len(lengths)), lengths)
    column = np.arange(len(tokens)) - starts[row]
    padded = np.zeros((len(lengths), lengths.max(initial=0)), np.int64)
    padded[row, column] = tokens
    values = program.run(padded, offsets)
    at = row[places], column[places]
    nothing = np.zeros(len(places), bool)
    chosen = {name: value[at] for name, value in values.items()}
    return np.stack([chosen.get(name, nothing) for name in program.next_names], axis=1)


def _targets(program: Program, task: Task, legal: np.ndarray) -> np.ndarray:
    if not hasattr(task, "labels"):
        tokens = np.array([*(task.symbols.index(name) for name in program.alphabet), task.eos])
        return np.where(legal.sum(1) == 1, tokens[legal.argmax(1)], UNDECIDED)
    if task.labels == "membership":
        return np.where(legal[:, -1], task.symbols.index("{in}"), task.symbols.index("{out}"))
    if task.labels == "legal":
        legal = legal & (np.arange(legal.shape[1]) < legal.shape[1] - 1)
    classes = class_ids(program, task)
    rows: dict[bytes, int] = {}
    place = [rows.setdefault(row.tobytes(), len(rows)) for row in legal]
    sets = [tuple(map(bool, row)) for row in rows]
    return np.array([classes.get(each, UNDECIDED) for each in sets], np.int64)[place]
