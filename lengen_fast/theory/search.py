"""A search for a small program that solves a task: decision trees over counts, grown from strings of the task.

A node of a tree compares a count, the difference of two, or a sum of counts that is the same wherever some target comes
next, with a small number; a leaf says what comes next. Trees are fitted to short strings, tested on longer ones, and
fitted again with more. What is returned was right on every string tried, the ``hard`` and long ones among them; what is
not found may exist all the same.

Letters: B strings, T tokens of the longest, P scored positions, F features, C targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from lengen_fast.data import Batch
from lengen_fast.tasks import Task
from lengen_fast.theory.checks import sample
from lengen_fast.theory.crasp import Program, parse, predicted_targets
from lengen_fast.theory.crasp.bridge import input_symbols
from lengen_fast.theory.crasp.syntax import header, quoted
from lengen_fast.theory.linear import nullspace

MOST_SYMBOLS, MOST_LEAVES, MOST_FEATURES = 30, 16, 600
THRESHOLDS = (-2, -1, 0, 1, 2)
MOST_WEIGHT = 8
Lengths = tuple[int, int]
LENGTHS: tuple[Lengths, ...] = ((0, 14), (10, 30), (20, 60))
"""Of the strings that trees are fitted to, one range more in each round."""
LONG_LENGTHS: Lengths = (100, 400)
STRINGS = 80

Feature = tuple[str, np.ndarray]
"""The text of a count or a Boolean, and its values [B, T]."""
Test = tuple[int, str, int]
"""Number of a feature, sign, threshold."""


@dataclass(frozen=True)
class Bounds:
    """What a program may see besides counts.

    Attributes:
        period: of the lengths; 1: none.
        window: so many symbols before a position.
    """

    period: int = 1
    window: int = 0

    def __str__(self) -> str:
        seen = "no positions" if (self.period, self.window) == (1, 0) else f"period {self.period}, window {self.window}"
        return (
            f"{seen}, counts nested at most two deep, decision trees with at most {MOST_LEAVES} leaves over counts, "
            f"differences of two, and sums that are the same wherever some target comes next, compared with "
            f"{THRESHOLDS[0]} to {THRESHOLDS[-1]}"
        )


def search(task: Task, bounds: Bounds) -> Program | None:
    """A program right on everything tried, or None.

    Args:
        task: with a fixed alphabet; not one with more than ``MOST_SYMBOLS`` symbols.
        bounds: what the program may see.
    """
    if task.alphabet_grows or len(input_symbols(task)) > MOST_SYMBOLS:
        return None
    draw = cache(lambda lengths: list(sample(task, lengths, STRINGS, seed=0)))
    for nested in (False, True):
        found = _search(task, bounds, nested, draw)
        if found is not None:
            return found
    return None


def _search(task: Task, bounds: Bounds, nested: bool, draw: Callable[[Lengths], list[Batch]]) -> Program | None:
    examples: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    sums = _constant_sums(task, draw(LENGTHS[0]))
    for lengths in LENGTHS:
        for batch in draw(lengths):
            names, values = _features(task, batch, bounds, nested, sums)
            examples.append(values)
            targets.append(batch.targets.numpy())
        tree = _grow(np.concatenate(examples), np.concatenate(targets), MOST_LEAVES)
        if tree is None:
            return None
        program = _program(task, names, tree)
        if all(_is_right(program, task, batch) for each in (LENGTHS[-1], LONG_LENGTHS) for batch in draw(each)):
            return program
    return None


def _is_right(program: Program, task: Task, batch: Batch) -> bool:
    return bool((predicted_targets(program, task, batch) == batch.targets.numpy()).all())


# ---- features ----


def _features(
    task: Task, batch: Batch, bounds: Bounds, nested: bool, sums: list[np.ndarray]
) -> tuple[list[str], np.ndarray]:
    """Texts of the features, and their values [P, F] at the scored positions."""
    tokens, at = _padded(batch)
    names, values = [], []
    for name, value in _feature_arrays(task, tokens, bounds, nested, sums):
        names.append(name)
        values.append(value[at])
        if len(names) == MOST_FEATURES:
            break
    return names, np.stack(values, axis=1).astype(np.int64)


def _padded(batch: Batch) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """[B, T] tokens, -1 behind the end, and the rows and columns of the scored ones."""
    starts = batch.cu_seqlens.numpy()
    row = np.repeat(np.arange(batch.rows), np.diff(starts))
    column = np.arange(len(row)) - starts[row]
    tokens = np.full((batch.rows, int(column.max()) + 1), -1)
    tokens[row, column] = batch.tokens.numpy()
    scored = batch.scored.numpy()
    return tokens, (row[scored], column[scored])


def _constant_sums(task: Task, batches: list[Batch]) -> list[np.ndarray]:
    """Weights of the symbols whose weighted count is the same wherever some target comes next."""
    counts, targets = [], []
    for batch in batches:
        tokens, at = _padded(batch)
        counts.append(np.stack([np.cumsum(seen, axis=1)[at] for _, seen in _symbols(task, tokens)], axis=1))
        targets.append(batch.targets.numpy())
    counts, targets = np.concatenate(counts), np.concatenate(targets)
    found: dict[tuple[int, ...], np.ndarray] = {}
    for target in np.unique(targets):
        where = counts[targets == target]
        for weights in nullspace(where[1:] - where[0]).T:
            if np.count_nonzero(weights) > 2 and np.abs(weights).max() <= MOST_WEIGHT:
                found[tuple(weights * np.sign(weights[np.flatnonzero(weights)[0]]))] = weights
    return [np.array(weights) for weights in found]


def _feature_arrays(
    task: Task, tokens: np.ndarray, bounds: Bounds, nested: bool, sums: list[np.ndarray]
) -> Iterator[Feature]:
    """Differences first, because a tree takes the first of equally good tests."""
    seen = list(_symbols(task, tokens))
    where = [*seen, *_nearby(tokens, seen, bounds)]
    counted = list(_counted(task, tokens, seen, where))
    counts = [(f"#({name})", np.cumsum(value, axis=1)) for name, value in counted]
    differences = [(f"{a} - {b}", x - y) for (a, x), (b, y) in combinations(counts, 2)]
    differences += [_weighted(weights, seen) for weights in sums]
    yield from differences
    yield from counts
    yield from ((f"({name} ? 1 : 0)", value) for name, value in where)
    if nested:
        for name, value in differences:
            for test, holds in ((">= 1", value >= 1), ("<= -1", value <= -1)):
                yield f"#({name} {test})", np.cumsum(holds, axis=1)
        for name, value in seen:
            for inner, count in counts[: len(seen)]:
                yield f"#({name} and {inner} >= 1)", np.cumsum(value & (count >= 1), axis=1)


def _weighted(weights: np.ndarray, seen: list[Feature]) -> Feature:
    used = [(int(weight), *feature) for weight, feature in zip(weights, seen, strict=True) if weight]
    text = " + ".join(f"{weight} * #{name}" for weight, name, _ in used).replace("+ -", "- ")
    return text, sum(weight * np.cumsum(value, axis=1) for weight, _, value in used)


def _symbols(task: Task, tokens: np.ndarray) -> Iterator[Feature]:
    for symbol in input_symbols(task):
        yield f"Q_{quoted(symbol)}", tokens == task.symbols.index(symbol)


def _nearby(tokens: np.ndarray, seen: list[Feature], bounds: Bounds) -> Iterator[Feature]:
    """Symbols a few positions back, and lengths modulo the period."""
    for back in range(1, bounds.window + 1):
        for name, value in seen:
            shifted = np.zeros_like(value)
            shifted[:, back:] = value[:, :-back]
            yield f"exists[j <= i, j = i - {back}] {name}", shifted
    if bounds.period > 1:
        length = np.broadcast_to(np.arange(tokens.shape[1]) % bounds.period, tokens.shape)
        for residue in range(bounds.period):
            yield f"REL({bounds.period}, {residue})", length == residue


def _counted(task: Task, tokens: np.ndarray, seen: list[Feature], where: list[Feature]) -> Iterator[Feature]:
    """What is counted: symbols, before the separator alone and altogether, alone and with what is near."""
    behind = np.logical_or.accumulate(tokens == task.sep, axis=1)
    near = where[len(seen) :]
    conditions = [("not exists Q_<sep>", ~behind), None] if behind.any() else [None]
    for condition in conditions:
        for name, value in seen:
            guarded, holds = (
                (name, value) if condition is None else (f"{name} and {condition[0]}", value & condition[1])
            )
            yield guarded, holds
            yield from ((f"{guarded} and {other}", holds & also) for other, also in near)
    if behind.any():
        yield "exists Q_<sep>", behind


# ---- trees ----


@dataclass(frozen=True)
class _Leaf:
    target: int


@dataclass(frozen=True)
class _Fork:
    """``below`` where feature <= threshold, else ``above``."""

    feature: int
    threshold: int
    below: _Leaf | _Fork
    above: _Leaf | _Fork


def _grow(values: np.ndarray, targets: np.ndarray, leaves: int) -> _Leaf | _Fork | None:
    """A tree that is right on all of [P, F] examples, by the greatest gain in purity; None: it needs more leaves."""
    rows = np.unique(np.column_stack([values, targets]), axis=0)
    if len(np.unique(rows[:, :-1], axis=0)) < len(rows):
        return None  # two targets look the same
    tree, used = _subtree(rows[:, :-1], rows[:, -1], leaves)
    return tree if used <= leaves else None


def _subtree(values: np.ndarray, targets: np.ndarray, leaves: int) -> tuple[_Leaf | _Fork | None, int]:
    if (targets == targets[0]).all():
        return _Leaf(int(targets[0])), 1
    if leaves < 2:
        return None, leaves + 2
    best = _best_test(values, targets)
    if best is None:
        return None, leaves + 2
    feature, threshold = best
    low = values[:, feature] <= threshold
    below, used_below = _subtree(values[low], targets[low], leaves - 1)
    above, used_above = _subtree(values[~low], targets[~low], leaves - used_below)
    if below is None or above is None:
        return None, leaves + 2
    return _Fork(feature, threshold, below, above), used_below + used_above


def _best_test(values: np.ndarray, targets: np.ndarray) -> tuple[int, int] | None:
    """The feature and threshold with the least expected Gini impurity; None: no test parts the examples."""
    kinds, numbers = np.unique(targets, return_inverse=True)
    one_hot = np.eye(len(kinds), dtype=np.float32)[numbers.reshape(-1)]
    best: tuple[float, int, int] | None = None
    for threshold in sorted(THRESHOLDS, key=abs):
        low = (values <= threshold).astype(np.float32).T @ one_hot  # [F, C]
        high = one_hot.sum(axis=0) - low
        sizes = low.sum(axis=1), high.sum(axis=1)
        purity = sum((part**2).sum(axis=1) / np.maximum(size, 1) for part, size in zip((low, high), sizes, strict=True))
        purity[(sizes[0] == 0) | (sizes[1] == 0)] = -1
        feature = int(purity.argmax())
        if purity[feature] >= 0 and (best is None or purity[feature] > best[0] + 1e-3):
            best = float(purity[feature]), feature, threshold
    return None if best is None else best[1:]


# ---- text ----


def _program(task: Task, names: list[str], tree: _Leaf | _Fork) -> Program:
    alphabet = [quoted(symbol) for symbol in input_symbols(task)]
    cases = {symbol: _cases(tree, symbol, task) for symbol in (*alphabet, "<end>")}
    used = sorted({feature for paths in cases.values() for path in paths for feature, _, _ in path})
    short = {feature: f"C_{number}" for number, feature in enumerate(used, 1)}
    lines = [header(input_symbols(task)), *(f"{short[feature]} := {names[feature]}" for feature in used)]
    for symbol, paths in cases.items():
        texts = [" and ".join(f"{short[f]} {sign} {threshold}" for f, sign, threshold in path) for path in paths]
        texts = [f"({text})" if " and " in text and len(texts) > 1 else text or "true" for text in texts]
        if texts:
            lines.append(f"NEXT_{symbol} := {' or '.join(texts)}")
    return parse("\n".join(lines) + "\n")


def _cases(tree: _Leaf | _Fork, symbol: str, task: Task) -> list[tuple[Test, ...]]:
    """The paths to the leaves that let a symbol come next; a fork that makes no difference is left out."""
    if isinstance(tree, _Leaf):
        return [()] if symbol in _next_symbols(task, tree.target) else []
    below, above = _cases(tree.below, symbol, task), _cases(tree.above, symbol, task)
    if below == above:
        return below
    return [((tree.feature, "<=", tree.threshold), *path) for path in below] + [
        ((tree.feature, ">", tree.threshold), *path) for path in above
    ]


def _next_symbols(task: Task, target: int) -> list[str]:
    """The symbols that a target says may come next, as in the names of lines."""
    if target == task.eos:
        return ["<end>"]
    name = task.symbols[target]
    if not hasattr(task, "labels"):
        return [quoted(name)]
    if task.labels == "membership":
        return ["<end>"] if name == "{in}" else []
    return ["<end>" if member == "$" else quoted(member) for member in name[1:-1].split(",") if member]
