"""Strings with offsets: every one of them, or a sample; and which a model gets right."""

from itertools import product

import pytest
import torch

import lengen_fast as lf
from lengen_fast.theory import instances as module
from lengen_fast.theory.instances import instances


def pairs_of(found):
    """(tokens up to the last scored one, offset) -> targets."""
    pairs = {}
    for batch in found.batches:
        ends = batch.cu_seqlens.tolist()
        for row in range(batch.rows):
            inside = (batch.scored >= ends[row]) & (batch.scored < ends[row + 1])
            last = int(batch.scored[inside][-1]) - ends[row]
            key = tuple(batch.row(row).tolist()[: last + 1]), int(batch.offsets[row])
            assert key not in pairs
            pairs[key] = tuple(batch.targets[inside].tolist())
    return pairs


def plainly(task, low, high, context, symbols):
    """The same by the oracle alone."""
    pairs = {}
    for n in range(low, high + 1):
        for x in product(range(symbols), repeat=n):
            try:
                _, targets = task.oracle([task.bos, *x, task.sep])
            except ValueError:
                continue
            tokens = (task.bos, *x, task.sep, *targets[:-1].tolist())
            for offset in range(context - len(tokens)):
                pairs[tokens, offset] = tuple(targets.tolist())
    return pairs


@pytest.mark.parametrize(
    ("name", "symbols", "low", "high"),
    [
        ("binary_majority", 2, 1, 5),
        ("parity", 2, 0, 4),
        ("unique_copy", 4, 1, 3),
        ("repeat_copy", 2, 1, 4),
        ("sort", 3, 2, 3),
        ("binary_majority_interleave", 2, 3, 6),
    ],
)
def test_every_string_at_every_offset(name, symbols, low, high):
    task = lf.task(name, symbols=symbols) if lf.task(name).alphabet_grows else lf.task(name)
    context = task.context_for(2 * high) if not task.alphabet_grows else 12
    found = instances(task, low, high, context, purpose="test")
    expected = plainly(task, low, high, context, symbols)
    assert found.exhaustive
    assert found.count == len(expected)
    assert pairs_of(found) == expected


def test_offsets_are_those_that_training_draws():
    task = lf.task("binary_majority")
    offsets = {offset for (_, offset) in pairs_of(instances(task, 3, 3, 12, purpose="test"))}
    assert offsets == set(task.sample(500, 3, context=12).offsets.tolist())


@pytest.mark.parametrize(("name", "low", "high"), [("addition", 4, 6), ("tomita_4", 1, 3), ("binary_majority", 20, 24)])
def test_what_is_too_much_or_of_another_form_is_sampled(name, low, high):
    task = lf.task(name)
    context = task.context_for(high)
    found = instances(task, low, high, context, purpose="test")
    assert not found.exhaustive
    each = module.SAMPLED_INSTANCES // len(task.distributions)
    assert found.count == sum(batch.rows for batch in found.batches) == each * len(task.distributions)
    assert found.describe() == f"a sample of {found.count:,}"
    again, other = (instances(task, low, high, context, purpose=purpose) for purpose in ("test", "validation"))
    assert torch.equal(found.batches[0].tokens, again.batches[0].tokens)
    assert not torch.equal(found.batches[0].tokens[:500], other.batches[0].tokens[:500])


def test_more_pairs_than_are_asked_one_by_one_are_sampled(monkeypatch):
    task = lf.task("parity")
    assert instances(task, 0, 3, 10, purpose="test").exhaustive
    monkeypatch.setattr(module, "MOST_INSTANCES", 70)
    assert not instances(task, 0, 3, 10, purpose="test").exhaustive


def test_right_strings_are_those_right_at_every_scored_position():
    task = lf.task("repeat_copy")
    found = instances(task, 1, 4, 14, purpose="test")
    model = lf.Transformer(lf.ModelConfig(task.vocab_size, 1, 1, 8, context=14, init_std=0.5))
    right = 0
    with torch.no_grad():
        for (tokens, offset), targets in pairs_of(found).items():
            logits = model(torch.tensor(tokens), offsets=torch.tensor([offset]))
            right += logits[-len(targets) :].argmax(-1).tolist() == list(targets)
    assert found.correct(model) == right
    assert not found.fitted(model)


def test_fitted_means_no_mistake_at_all(monkeypatch):
    found = instances(lf.task("parity"), 0, 2, 8, purpose="test")
    monkeypatch.setattr(
        module, "correct_positions", lambda model, batch: torch.ones(len(batch.targets), dtype=torch.bool)
    )
    assert found.fitted(None)
    assert found.correct(None) == found.count

    def one_mistake(model, batch):
        right = torch.ones(len(batch.targets), dtype=torch.bool)
        right[-1] = batch is not found.batches[-1]
        return right

    monkeypatch.setattr(module, "correct_positions", one_mistake)
    assert not found.fitted(None)
    assert found.correct(None) == found.count - 1


def test_lengths_that_a_task_cannot_draw_are_named():
    with pytest.raises(ValueError, match="shortest string of binary_majority"):
        instances(lf.task("binary_majority"), 0, 3, 10, purpose="test")
