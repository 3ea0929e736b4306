"""Recall tasks of the field: the answer stands in the string beside something that comes again.

What ``paper`` draws:
    mqar: distinct random keys, independent values, every key asked for once, in random order. (Arora et al. put random
        tokens between the queries; here nothing stands between them.)
    induction_head: the first trigger at a random place, independent letters, as Gu and Dao.
"""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np

from lengen_fast.tasks.base import Geometry, NumberedSymbols, Task
from lengen_fast.tasks.questions import Answer, check_length, distinct, require, scored_behind, until

ZOOLOGY = "Arora et al., Zoology: Measuring and Improving Recall in Efficient Language Models, arXiv 2312.04927"
INDUCTION = "Gu and Dao, Mamba, arXiv 2312.00752, after Olsson et al., Induction Heads, arXiv 2209.11895"
VALUES = tuple(ascii_lowercase[:16])
TRIGGER = 16


def mqar(task: Task, tokens: np.ndarray) -> Answer:
    """At each key behind SEP, the value that stands behind it before SEP."""
    keys_there_are = task.symbols.count
    x = until(task, tokens, task.sep, "SEP")
    check_length(task, len(x))
    keys, values = x[::2], x[1::2]
    require(bool(np.all((keys >= 0) & (keys < keys_there_are))), task, "must have a key at each even place")
    require(
        bool(np.all((values >= keys_there_are) & (values < len(task.symbols)))),
        task,
        "must have a value at each odd place",
    )
    distinct(task, keys)
    queries = until(task, tokens, task.eos, "EOS")[len(x) + 1 :]
    require(np.array_equal(np.sort(queries), np.sort(keys)), task, "must ask for every key once")
    value_of = dict(zip(keys.tolist(), values.tolist(), strict=True))
    scored = np.arange(len(x) + 2, len(x) + 2 + len(queries))
    return scored, np.array([value_of[key] for key in queries.tolist()], dtype=np.int64)


def induction_head(task: Task, tokens: np.ndarray) -> Answer:
    """What stands behind the first trigger, at the second one."""
    first = until(task, tokens, TRIGGER, "*")
    rest = tokens[len(first) + 2 :]
    places = np.flatnonzero(rest == TRIGGER)
    require(len(places) > 0 and places[0] > 0, task, "must have a letter behind its first *, and a second *")
    x = tokens[1 : len(first) + 3 + places[0]]
    check_length(task, len(x))
    letters = np.delete(x, (len(first), len(x) - 1))
    require(
        bool(np.all((letters >= 0) & (letters < TRIGGER))), task, f"must have only ids 0..{TRIGGER} before its answer"
    )
    return scored_behind(task, len(x), [rest[0]])


RECALL = (
    Task(
        name="mqar",
        family="recall",
        description="multi-query associative recall: pairs of key and value, then the value of every key",
        hard_means="near misses: consecutive keys, and one value throughout but for one to three pairs",
        citation=ZOOLOGY,
        symbols=NumberedSymbols(150, last=VALUES),
        geometry=Geometry(
            2, tokens_at=lambda n: n + n // 2 + 3, context_for=lambda n: n + n // 2 + 3, stride=2, spare_symbols=0
        ),
        answer=mqar,
        alphabet_grows=True,
    ),
    Task(
        name="induction_head",
        family="recall",
        description="which letter stands behind the trigger, when the trigger comes again",
        hard_means="far and alike: the trigger in the first quarter, one letter throughout but for the one behind it",
        citation=INDUCTION,
        symbols=(*VALUES, "*"),
        geometry=Geometry(3, tokens_at=lambda n: n + 3, context_for=lambda n: n + 3),
        answer=induction_head,
        chance=1 / 16,
    ),
)
