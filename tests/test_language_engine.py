"""Languages in the engine against plain Python twins, and their independence of threads, splits and processor."""

import itertools

import numpy as np
import pytest
import torch
import twins
from hypothesis import given, settings
from hypothesis import strategies as st
from language_twins import string, weighted_length

from lengen_fast import _engine
from lengen_fast.tasks import Language, language, task, tasks
from lengen_fast.tasks.languages import _stopping_thresholds

NAMES = tuple(name for name in tasks() if isinstance(task(name), Language))
OWN = {
    "two lengths": language("aaa|bbbbb|(ab|ba)*", alphabet="ab"),
    "many symbols": language("(a|b|c|d|e|f|g|h|i)*.(a|b|c){3}", alphabet="abcdefghi"),
    "finite": language("a(b|c)?|cb", alphabet="abc"),
    "some a": language("(a|b)*a(a|b)*", alphabet="ab"),
    "some lengths": language("((a|b)(a|b)(a|b)(a|b))*", alphabet="ab"),
}
CASES = [
    *((name, "legal+end", how) for name in NAMES for how in ("paper", "uniform", "hard")),
    *((name, "membership", how) for name in NAMES for how in ("negative", "corrupted")),
    *((name, "legal", how) for name in OWN for how in ("uniform", "hard")),
    *((name, "membership", how) for name in OWN for how in ("negative", "corrupted")),
]
each_case = pytest.mark.parametrize(("name", "labels", "distribution"), CASES)


def find(name: str, labels: str) -> Language:
    return OWN[name].with_labels(labels) if name in OWN else task(name, labels=labels)


def lengths_of(chosen: Language, low: int, high: int, distribution: str):
    """The lengths in a range at which a distribution draws strings, or none."""
    try:
        return chosen.check_lengths(low, high, distribution)
    except ValueError:
        return ()


def shortest(chosen: Language, distribution: str) -> int:
    """The least length of a string that the distribution draws."""
    return next(n for n in range(20) if lengths_of(chosen, n, n, distribution))


def twin_row(chosen: Language, length, context: int, seed: int, stream: int, index: int, distribution: str):
    """One row as (tokens, offset, targets)."""
    lengths = lengths_of(chosen, *length, distribution)
    if chosen.recipes.get(distribution) == ("stopping",):
        thresholds = _stopping_thresholds(chosen.acceptor, np.array(lengths), *length)
        n = weighted_length(lengths, thresholds, seed, stream, index)
    else:
        n = lengths[twins.placement(seed, stream, index, twins.LENGTH, len(lengths))]
    x = string(chosen, twins.Words(seed, stream, index), n, distribution)
    tokens = [chosen.bos, *x, chosen.eos]
    offset = twins.placement(seed, stream, index, twins.OFFSET, context - len(tokens) + 1) if context else 0
    return tokens, offset, chosen.oracle(tokens)[1].tolist()


@each_case
def test_rows_equal_the_twin_bit_for_bit(name, labels, distribution):
    chosen = find(name, labels)
    least = shortest(chosen, distribution)
    top = min(chosen.max_length, 140)

    @settings(max_examples=8)
    @given(
        low=st.integers(least, min(top, 70)),
        more=st.integers(0, 70),
        seed=st.integers(0, 2**64 - 1),
        stream=st.integers(0, 2**64 - 1),
        first_row=st.integers(0, 2**32 - 3),
        extra=st.sampled_from([None, 0, 50]),
    )
    def compare(low, more, seed, stream, first_row, extra):
        length = low, min(low + more, top)
        lengths = lengths_of(chosen, *length, distribution)
        if not lengths:
            return
        context = 0 if extra is None else lengths[-1] + 2 + extra
        batch = chosen.sample(2, length, seed, distribution, stream=stream, first_row=first_row, context=context)
        expected = [twin_row(chosen, length, context, seed, stream, first_row + i, distribution) for i in range(2)]
        bounds = [0, *itertools.accumulate(len(tokens) for tokens, *_ in expected)]
        assert batch.cu_seqlens.tolist() == bounds
        assert batch.tokens.tolist() == [token for tokens, *_ in expected for token in tokens]
        assert batch.offsets.tolist() == [offset for _, offset, _ in expected]
        assert batch.scored.tolist() == [
            bounds[i] + place for i, (tokens, *_) in enumerate(expected) for place in range(len(tokens) - 1)
        ]
        assert batch.targets.tolist() == [target for *_, targets in expected for target in targets]

    compare()


@pytest.mark.parametrize("distribution", ["paper", "uniform", "hard"])
@pytest.mark.parametrize("name", NAMES)
def test_long_rows_equal_the_twin(name, distribution):
    chosen = task(name)
    n = chosen.reachable(1030, 1040)[0] if not name.startswith("boolean") else 330
    batch = chosen.sample(1, n, 5, distribution, first_row=7)
    tokens, _, targets = twin_row(chosen, (n, n), 0, 5, 0, 7, distribution)
    assert batch.tokens.tolist() == tokens
    assert batch.targets.tolist() == targets


def assert_same(one, other) -> None:
    for name in ("tokens", "cu_seqlens", "offsets", "scored", "targets"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@each_case
def test_threads_splits_and_plain_code_change_nothing(name, labels, distribution):
    chosen = find(name, labels)
    length = (shortest(chosen, distribution), min(150, chosen.max_length))
    whole = chosen.sample(203, length, 1, distribution, context=400, threads=1)
    for threads in (2, 3, 300):
        assert_same(whole, chosen.sample(203, length, 1, distribution, context=400, threads=threads))
    for first, last in itertools.pairwise((0, 1, 64, 130, 203)):
        part = chosen.sample(last - first, length, 1, distribution, context=400, first_row=first)
        begin, end = whole.cu_seqlens[first], whole.cu_seqlens[last]
        assert torch.equal(part.tokens, whole.tokens[begin:end])
        assert torch.equal(part.offsets, whole.offsets[first:last])
        inside = (whole.scored >= begin) & (whole.scored < end)
        assert torch.equal(part.targets, whole.targets[inside])
    before = _engine.path()
    _engine.use_path(_engine.Path.plain)
    try:
        assert_same(whole, chosen.sample(203, length, 1, distribution, context=400))
    finally:
        _engine.use_path(before)


@pytest.mark.parametrize("name", NAMES)
def test_long_rows_are_the_same_on_any_path_and_with_any_threads(name):
    chosen = task(name)
    n = chosen.reachable(20_000, 20_010)[0]
    before = _engine.path()
    for distribution in chosen.distributions:
        drawn = [chosen.sample(9, n, 3, distribution, threads=threads) for threads in (1, 4)]
        _engine.use_path(_engine.Path.plain)
        try:
            drawn.append(chosen.sample(9, n, 3, distribution))
        finally:
            _engine.use_path(before)
        for other in drawn[1:]:
            assert_same(drawn[0], other)


def test_the_engine_checks_its_own_arguments():
    automaton = task("tomita_4")._engine_acceptor
    request = lambda **changes: _engine.LanguageRequest(  # noqa: E731
        **(dict(lengths=[1, 2], thresholds=[], bos=4, inside=0, seed=0, context=0) | changes)
    )
    recipe = _engine.Recipe("uniform", [])
    for edit, message in (("shuffled", "unknown edit 'shuffled'"), ("corrupted", "has one symbol more")):
        with pytest.raises(ValueError, match=message):
            _engine.language_sampler(automaton, automaton, _engine.Recipe("uniform", [], edit), request())
    for changes, message in (
        ({"lengths": []}, "lengths must increase"),
        ({"lengths": [2, 2]}, "lengths must increase"),
        ({"lengths": [-1]}, "lengths must increase"),
        ({"thresholds": [3]}, "one for each length"),
        ({"thresholds": [3, 2]}, "must not fall"),
        ({"bos": 256}, "255 symbols and labels"),
        ({"context": 3}, "context is 3"),
    ):
        with pytest.raises(ValueError, match=message):
            _engine.language_sampler(automaton, automaton, recipe, request(**changes))
    for kind, numbers in (
        ("unknown", []),
        ("repeat", []),
        ("repeat", [[7]]),
        ("repeat", [[]]),
        ("blocks", []),
        ("blocks", [[1, 0, 0, 1]]),
        ("nested", [[0]]),
        ("nested", [[3, 4]]),
    ):
        with pytest.raises(ValueError, match=r"recipe|block|word|depth"):
            _engine.language_sampler(automaton, automaton, _engine.Recipe(kind, numbers), request())
    tables = dict(transitions=[[0, 1]], accepting=[1], live=[1], labels=[0])
    broken = _engine.Automaton(**{key: np.array(value) for key, value in tables.items()})
    with pytest.raises(ValueError, match="leads out of the states"):
        _engine.language_sampler(broken, broken, recipe, request())
