"""``lengen_fast.optimizer.AdamW`` on a CPU against PyTorch's AdamW, path by path."""

import pytest
import torch
from torch import nn

from lengen_fast import optimizer
from lengen_fast.optimizer import AdamW


@pytest.fixture(params=[0, AdamW.LARGEST_FLAT], ids=["each tensor by itself", "one vector"])
def layout(request, monkeypatch):
    monkeypatch.setattr(AdamW, "LARGEST_FLAT", request.param)


def model_of(seed=0):
    model = nn.Sequential(nn.Linear(7, 33), nn.LayerNorm(33), nn.Linear(33, 600), nn.Linear(600, 3))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return model


def backward(model, step, scale=1.0):
    (model(torch.randn(5, 7, generator=torch.Generator().manual_seed(step))).square().mean() * scale).backward()


@pytest.mark.parametrize("clip", [None, 0.05, 1e6])
def test_a_few_steps_are_those_of_adamw(clip, layout, path):
    model, plain = model_of(), model_of()
    ours = AdamW(model, 0.1, clip)
    groups = [[p for p in plain.parameters() if (p.dim() >= 2) == decays] for decays in (True, False)]
    theirs = torch.optim.AdamW([{"params": p, "weight_decay": d} for p, d in zip(groups, (0.1, 0.0), strict=True)])
    for step in range(6):
        rate = 1e-2 / (step + 1)
        for group in theirs.param_groups:
            group["lr"] = rate
        theirs.zero_grad()
        backward(model, step)
        backward(plain, step)
        if clip is not None:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        theirs.step()
        ours.step(rate)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_both_ways_to_update_are_one(layout, monkeypatch):
    outcomes = []
    for update in (optimizer._CpuUpdate, optimizer._FusedUpdate):
        monkeypatch.setattr(optimizer, "_CpuUpdate", update)
        model = model_of()
        ours = AdamW(model, 0.1, 0.5)
        for step in range(4):
            backward(model, step)
            ours.step(1e-2)
        outcomes.append((model.state_dict(), ours.state))
    (weights, state), (other_weights, other_state) = outcomes
    torch.testing.assert_close(weights, other_weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(state, other_state, rtol=1e-4, atol=1e-7)


def test_the_bits_do_not_depend_on_the_threads(layout, path):
    before, outcomes = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        model = model_of()
        ours = AdamW(model, 0.1, 0.5)
        for step in range(3):
            torch.set_num_threads(1)
            backward(model, step)
            torch.set_num_threads(threads)
            ours.step(1e-2)
        outcomes.append([parameter.detach().clone() for parameter in model.parameters()])
    torch.set_num_threads(before)
    for other in outcomes[1:]:
        assert all(map(torch.equal, outcomes[0], other))


def test_gradients_are_forgotten_after_a_step(layout):
    model = model_of()
    ours = AdamW(model, 0.1, 0.5)
    backward(model, 0)
    ours.step(1e-2)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_parameter_without_a_gradient_only_decays(layout):
    model = model_of()
    before = model[3].weight.detach().clone(), model[3].bias.detach().clone()
    ours = AdamW(model, 0.1, 0.5)
    model[2](model[1](model[0](torch.ones(2, 7)))).sum().backward()
    ours.step(1e-2)
    torch.testing.assert_close(model[3].weight.detach(), before[0] * (1 - 1e-3))
    assert torch.equal(model[3].bias.detach(), before[1])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_shows_in_the_weights(clip, layout):
    model = model_of()
    ours = AdamW(model, 0.1, clip)
    backward(model, 0, float("nan"))
    ours.step(1e-2)
    assert not ours.is_finite


def test_a_restored_state_goes_on_to_the_same_bits(layout):
    model, other = model_of(), model_of()
    ours, again = AdamW(model, 0.1, 0.5), AdamW(other, 0.1, 0.5)
    for step in range(3):
        backward(model, step)
        ours.step(1e-2)
    other.load_state_dict(model.state_dict())
    again.restore({name: x.clone() for name, x in ours.state.items()})
    for each, update in ((model, ours), (other, again)):
        backward(each, 7)
        update.step(1e-2)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
