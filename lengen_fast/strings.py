"""Strings of a task in print: tokens, and below each scored one what is to be predicted behind it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lengen_fast.data import Batch
from lengen_fast.lengths import Length
from lengen_fast.tasks import Language, Task
from lengen_fast.tasks.languages import CORRUPTED

MARGIN = 2
KINDS = {0: "replaced", 1: "added", -1: "removed"}  # by how much longer the string is than the member


class Edit(NamedTuple):
    """How a string of ``"corrupted"`` comes from a member: the index in x of a symbol, and what was done with it."""

    place: int
    kind: str

    def __str__(self) -> str:
        return f"symbol {self.place + 1} {self.kind}"


def drawn(
    task: Task, count: int, length: Length, seed: int, distribution: str | None, first: int
) -> tuple[Batch, list[Edit] | None]:
    """Strings of a task from number ``first`` on, and of ``"corrupted"`` the edit of each."""
    if distribution == CORRUPTED and isinstance(task, Language):
        batch, members, places = task.sample_corrupted(count, length, seed, first_row=first)
        longer = (batch.lengths - members.lengths).tolist()
        return batch, [Edit(place, KINDS[more]) for place, more in zip(places.tolist(), longer, strict=True)]
    return task.sample(count, length, seed, distribution, first_row=first), None


def show(task: Task, batch: Batch, form: str, first: int = 0, edits: Sequence[Edit] | None = None) -> None:
    """Print the strings of a batch.

    Args:
        task: of the batch.
        batch: B strings.
        form: ``"text"``, aligned in columns; ``"tokens"``, one string a line; or ``"json"``, one object a line.
        first: number of the first string.
        edits: of each string; None: there were none.
    """
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    for number, (tokens, scored, targets) in enumerate(_each(task, batch), first):
        if form == "tokens":
            print(" ".join(tokens))
        elif form == "json":
            edit = {} if edits is None else dict(zip(("edited", "edit"), edits[number - first], strict=True))
            print(json.dumps({"tokens": tokens, "scored": scored, "targets": targets, **edit}))
        else:
            title = f"string {number}, {len(scored)} of {len(tokens)} tokens scored"
            title += "" if edits is None else f", {edits[number - first]}"
            print(*aligned(title, tokens, scored, targets, width), sep="")


def aligned(title: str, tokens: Sequence[str], scored: Sequence[int], targets: Sequence[str], width: int) -> Iterator:
    """Lines of one string: tokens above, targets below, broken where ``width`` characters are full."""
    wanted = dict(zip(scored, targets, strict=True))
    columns = [(token, wanted.get(place, "")) for place, token in enumerate(tokens)]
    widths = [max(map(len, column)) for column in columns]
    yield title + "\n"
    begin = 0
    while begin < len(columns):
        end, used = begin + 1, MARGIN + len("predict") + 2 + widths[begin]
        while end < len(columns) and used + 1 + widths[end] <= width:
            used += 1 + widths[end]
            end += 1
        for name, line in (("token", 0), ("predict", 1)):
            cells = (columns[place][line].ljust(widths[place]) for place in range(begin, end))
            yield f"{'':{MARGIN}}{name:9}{' '.join(cells)}".rstrip() + "\n"
        begin = end


def _each(task: Task, batch: Batch) -> Iterator[tuple[list[str], list[int], list[str]]]:
    """Tokens, scored positions and targets of each string."""
    bounds = batch.cu_seqlens.tolist()
    for begin, end in pairwise(bounds):
        inside = (batch.scored >= begin) & (batch.scored < end)
        yield (
            task.decode(batch.tokens[begin:end].tolist()),
            (batch.scored[inside] - begin).tolist(),
            task.decode(batch.targets[inside].tolist()),
        )
