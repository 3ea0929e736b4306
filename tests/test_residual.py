"""``lengen_fast.ops.residual``: bias and GELU, bias, residual sum and layer norm, against PyTorch in fp64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lengen_fast.layers import Block
from lengen_fast.ops import residual
from lengen_fast.ops.packing import Packing


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm_of(width):
    norm = nn.LayerNorm(width, eps=1e-5)
    norm.weight.data, norm.bias.data = draw(width, seed=1), draw(width, seed=2)
    return norm


def layers(width, hidden):
    expand, contract = nn.Linear(width, hidden), nn.Linear(hidden, width)
    assert residual.serves(draw(3, width), expand, contract)
    return expand, contract


def plain_feed_forward(x, expand, bias, contract):
    return F.linear(F.gelu(F.linear(x, expand, bias), approximate="tanh"), contract)


def plain_add_norm(stream, update, bias, weight, shift):
    total = stream + (update + bias)
    return total, F.layer_norm(total, weight.shape, weight, shift, 1e-5)


def gradients(outputs, leaves, *, weights, **options):
    loss = sum((out * weight.to(out)).sum() for out, weight in zip(outputs, weights, strict=True))
    return torch.autograd.grad(loss, leaves, **options)


def assert_close(actual, exact):
    assert actual.shape == exact.shape
    assert float((actual.detach().double() - exact.detach()).abs().max()) <= 2e-5 * max(
        1, float(exact.detach().abs().max())
    )


def doubled(leaves):
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


SHAPES = [(1, 8), (63, 16), (64, 24), (65, 40), (200, 128)]


@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_feed_forward_and_its_gradients(rows, width, path):
    expand, contract = layers(width, 3 * width)
    leaves = draw(rows, width).requires_grad_(), expand.weight, expand.bias, contract.weight
    exact_leaves, weights = doubled(leaves), [draw(rows, width, seed=3)]
    out, exact = residual.feed_forward(leaves[0], expand, contract), plain_feed_forward(*exact_leaves)
    assert_close(out, exact)
    pairs = gradients([out], leaves, weights=weights), gradients([exact], exact_leaves, weights=weights)
    for ours, plain in zip(*pairs, strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize(("rows", "width"), SHAPES)
@pytest.mark.parametrize("used", ["both", "sum", "norm"])
def test_add_norm_and_its_gradients(rows, width, used, path):
    norm = norm_of(width)
    leaves = (
        *(draw(*shape, seed=5).requires_grad_() for shape in [(rows, width), (rows, width), (width,)]),
        norm.weight,
        norm.bias,
    )
    exact_leaves, chosen = doubled(leaves), {"both": [0, 1], "sum": [0], "norm": [1]}[used]
    outputs, exact = residual.add_norm(*leaves[:3], norm), plain_add_norm(*exact_leaves)
    for ours, plain in zip(outputs, exact, strict=True):
        assert_close(ours, plain)
    weights = [draw(rows, width, seed=6 + i) for i in chosen]
    options = {"weights": weights, "allow_unused": True, "materialize_grads": True}
    ours = gradients([outputs[i] for i in chosen], leaves, **options)
    plain = gradients([exact[i] for i in chosen], exact_leaves, **options)
    for one, other in zip(ours, plain, strict=True):
        assert_close(one, other)


def test_rows_far_from_zero_keep_their_variance(path):
    norm, zero = nn.LayerNorm(64), torch.zeros(64)
    stream = 1000 + draw(5, 64)
    _, normalized = residual.add_norm(stream, torch.zeros(5, 64), zero, norm)
    torch.testing.assert_close(normalized, F.layer_norm(stream.double(), (64,)).float(), rtol=0, atol=1e-3)


def test_the_bits_do_not_depend_on_the_threads(path, threads):
    norm, (expand, contract) = norm_of(64), layers(64, 256)
    leaves = draw(500, 64).requires_grad_(), *(p for part in (norm, expand, contract) for p in part.parameters())

    def bits(count):
        threads(count)
        total, normalized = residual.add_norm(leaves[0], leaves[0] * 2, contract.bias, norm)
        total, normalized = residual.add_norm(
            total, residual.feed_forward(normalized, expand, contract), contract.bias, norm
        )
        torch.set_num_threads(1)  # PyTorch's own products may differ
        return (
            total.detach(),
            normalized.detach(),
            *torch.autograd.grad(normalized.square().sum() + total.sum(), leaves),
        )

    assert all(map(torch.equal, bits(1), bits(1)))
    gradient, x, bias = draw(500, 64, seed=1), draw(500, 64, seed=2), draw(64)
    found = []
    for count in (1, 2, 3):
        threads(count)
        mine = gradient.clone()
        found.append((residual.cpu.biased_gelu_backward(mine, x, bias), mine))
    assert all(torch.equal(one, other) for each in found[1:] for one, other in zip(found[0], each, strict=True))


def test_second_derivatives():
    norm, (expand, contract) = norm_of(8), layers(8, 16)
    leaves = draw(4, 8).requires_grad_(), norm.weight, expand.weight
    exact_leaves = doubled(leaves)

    def ours(x, weight, expanding):
        total, normalized = residual.add_norm(x, x * x, contract.bias, norm)
        return total + residual.feed_forward(normalized, expand, contract)

    def plain(x, weight, expanding):
        total, normalized = plain_add_norm(x, x * x, contract.bias.double(), weight, norm.bias.double())
        return total + plain_feed_forward(normalized, expanding, expand.bias.double(), contract.weight.double())

    results = []
    for function, operands in ((ours, leaves), (plain, exact_leaves)):
        first = torch.autograd.grad(function(*operands).square().sum(), operands, create_graph=True)
        results.append(torch.autograd.grad(sum(x.square().sum() for x in first), operands))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3)


def test_what_the_kernels_do_not_serve():
    rows, norm = draw(3, 16), nn.LayerNorm(16)
    assert residual.serves(rows, norm)
    assert not residual.serves(rows.double(), norm)
    assert not residual.serves(rows, nn.Identity())
    assert not residual.serves(rows, nn.LayerNorm(16, bias=False))
    assert not residual.serves(draw(3, 12), nn.LayerNorm(12))
    assert not residual.serves(rows, nn.Linear(16, 12))
    with torch.autocast("cpu"):
        assert not residual.serves(rows, norm)


@pytest.mark.parametrize("rows", [1, 70])
def test_a_block_is_the_same_whether_the_kernels_serve_it_or_not(rows, monkeypatch):
    block, norm = Block(32, 2), norm_of(32)
    stream, packing = draw(rows, 32).requires_grad_(), Packing.uniform(1, rows)
    leaves = stream, *block.parameters(), *norm.parameters()

    def outcome():
        out, normalized = block(stream, packing, next_norm=norm)
        return out.detach(), normalized.detach(), *torch.autograd.grad(out.sum() + normalized.square().sum(), leaves)

    fused = outcome()
    monkeypatch.setattr(residual, "serves", lambda *parts: False)
    for one, other in zip(fused, outcome(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["attention", "attention.out", "mlp_norm", "mlp", "mlp.expand", "mlp.contract"])
def test_hooks_on_the_parts_of_a_block_still_see_what_passes(name):
    block, seen = Block(16, 1), []
    block.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    block(draw(5, 16), Packing.uniform(1, 5), next_norm=norm_of(16))
    assert len(seen) == 1
