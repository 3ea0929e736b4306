"""Attention under torch.compile, torch.func, fake tensors, autocast and checkpointing, and as an operator."""

import os

import pytest
import torch
import torch.utils.checkpoint
from attention_cases import OPTIONS, assert_all_close, bounds_of, draw, draw_terms, gradients_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lengen_fast.ops import DistanceBias, Packing, attention, attention_op, attention_torch, reference


def everything(q, k, v, table, key_bias, logit_scale):
    """A loss through all terms on packed rows, of which some are chosen, and on batched ones."""
    bounds, rows = bounds_of([4, 0, 5]), torch.tensor([1, 3, 8])
    packed = attention(q, k, v, bias=table, key_bias=key_bias, logit_scale=logit_scale, cu_seqlens=bounds)
    term = DistanceBias(table, "zero")
    chosen = attention(q[rows], k, v, bias=term, window=3, cu_seqlens=bounds, query_rows=rows)
    q, k, v, key_bias = (x.unflatten(0, (3, 3)) for x in (q, k, v, key_bias))
    batched = attention(q, k, v, key_bias=key_bias, bias=table)
    plain = attention(q, k, v)
    parts = torch.cat([x.flatten() for x in (packed, chosen, batched, plain)])
    return (parts * (1 + torch.arange(len(parts)).sin())).sum()


def operands_of_everything(seed=0):
    terms = draw_terms(OPTIONS, (9,), 2, 3, seed + 10)
    return [*draw(3, 9, 2, 4, seed=seed).unbind(), *terms.values()]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_without_a_break_in_the_graph(backend):
    operands = operands_of_everything()
    compiled = torch.compile(everything, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(*operands), everything(*operands))
    assert_all_close(gradients_of(compiled, operands), gradients_of(everything, operands))


@pytest.mark.parametrize("bias", [None, torch.linspace(0, 1, 8, dtype=torch.float64).view(2, 4)], ids=["plain", "bias"])
def test_compiled_with_one_tensor_as_queries_keys_and_values(bias):
    x, packing = draw(9, 2, 4), Packing.from_cu_seqlens(bounds_of([4, 5]), 9)

    def loss(x):
        return attention(x, x, x, bias=bias, cu_seqlens=packing).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_all_close(gradients_of(compiled, [x]), gradients_of(loss, [x]))


def test_a_mode_that_sees_every_operator_sees_attention():
    seen = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            seen.add(operator.name())
            return operator(*args, **kwargs or {})

    q, k, v = draw(3, 5, 2, 4)
    with Names():
        attention(q.requires_grad_(), k, v).sum().backward()
    assert {attention_op.FORWARD, attention_op.BACKWARD} <= seen


def test_gradients_by_torch_func():
    operands = operands_of_everything()
    gradients = torch.func.grad(everything, argnums=tuple(range(6)))(*operands)
    assert_all_close(gradients, gradients_of(everything, operands))


@pytest.mark.parametrize("shared", [(), (3,), (3, 4, 5), (0,), (1, 2)], ids=str)
def test_models_by_vmap_of_gradients_and_gradients_of_vmap(shared):
    """Operands that are ``shared`` by the models are not stacked."""
    models, each = 3, [operands_of_everything(seed) for seed in range(3)]
    for i in shared:
        for operands in each[1:]:
            operands[i] = each[0][i]
    stacked = [each[0][i] if i in shared else torch.stack([x[i] for x in each]) for i in range(6)]
    dims = tuple(None if i in shared else 0 for i in range(6))
    expected = [gradients_of(everything, operands) for operands in each]

    over = torch.func.vmap(torch.func.grad(everything, argnums=tuple(range(6))), in_dims=dims)(*stacked)
    for model in range(models):
        assert_all_close([x[model] for x in over], expected[model])

    def total(*stacked):
        return torch.func.vmap(everything, in_dims=dims)(*stacked).sum()

    under = torch.func.grad(total, argnums=tuple(range(6)))(*stacked)
    for i, gradient in enumerate(under):
        every = torch.stack([gradients[i] for gradients in expected])
        torch.testing.assert_close(gradient, every.sum(0) if i in shared else every)


def test_models_with_rows_of_different_lengths_by_vmap():
    q, k, v = draw(3, 2, 7, 2, 4).unbind()
    bounds = torch.stack([bounds_of([3, 4]), bounds_of([7, 0])])
    rows = torch.tensor([[0, 4], [2, 6]])
    table = draw(2, 3, seed=4)
    out = torch.func.vmap(
        lambda q, k, v, bounds, rows: attention(q[rows], k, v, bias=table, cu_seqlens=bounds, query_rows=rows)
    )(q, k, v, bounds, rows)
    for i in range(2):
        expected = reference.attention(q[i], k[i], v[i], bias=table, cu_seqlens=bounds[i], query_rows=rows[i])
        torch.testing.assert_close(out[i], expected)


def test_vmap_inside_vmap():
    q, k, v = draw(3, 2, 3, 5, 2, 4).unbind()
    tables = draw(2, 2, 3, seed=4)
    per_model = torch.func.vmap(lambda q, k, v, table: attention(q, k, v, bias=table), in_dims=(0, 0, 0, None))
    out = torch.func.vmap(per_model)(q, k, v, tables)
    for i in range(2):
        for j in range(3):
            expected = reference.attention(q[i, j], k[i, j], v[i, j], bias=tables[i])
            torch.testing.assert_close(out[i, j], expected)


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
def test_shapes_without_values(which):
    with FakeTensorMode():
        q, k, v = (torch.empty(9, 2, 4, requires_grad=True) for _ in range(3))
        terms = {name: torch.empty(x.shape) for name, x in draw_terms(which, (9,), 2, 3).items()}
        out = attention(q, k, v, **terms, cu_seqlens=torch.empty(3, dtype=torch.int64))
        out.sum().backward()
    assert out.shape == q.grad.shape == (9, 2, 4)
    meta = attention(*(torch.empty(9, 2, 4, device="meta") for _ in range(3)))
    assert meta.shape == (9, 2, 4)


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
def test_autocast_casts_as_for_pytorch(which, device):
    q, k, v = draw(3, 9, 2, 4, dtype=torch.float32, device=device).unbind()
    terms = draw_terms(which, (9,), 2, 3, dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        out = attention(q, k, v, **terms)
    expected = attention(*(x.bfloat16() for x in (q, k, v)), **terms)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected)


def test_activation_checkpointing():
    operands = operands_of_everything()

    def checkpointed(*operands):
        return torch.utils.checkpoint.checkpoint(everything, *operands, use_reentrant=False)

    assert_all_close(gradients_of(checkpointed, operands), gradients_of(everything, operands))


def operator_arguments(requires_grad=False):
    q, k, v, *terms = (x.float().requires_grad_(requires_grad) for x in operands_of_everything())
    q, k, v = (x.permute(1, 0, 2).contiguous().permute(1, 0, 2) for x in (q, k, v))
    terms[0] = terms[0].unsqueeze(0)
    return q, k, v, *terms, None, bounds_of([4, 0, 5]), None, None, 5, 0.5, "zero", 3, "auto", None


@pytest.mark.parametrize("requires_grad", [False, True])
def test_operators_pass_the_checks_of_pytorch(requires_grad):
    arguments = operator_arguments(requires_grad)
    torch.library.opcheck(torch.ops.lengen.attention_forward, arguments)
    plain = (*arguments[:3], None, None, None, *arguments[6:13], None, *arguments[14:])
    torch.library.opcheck(torch.ops.lengen.attention_forward, plain)


def test_backward_operator_passes_the_checks_of_pytorch():
    arguments = operator_arguments()
    out, lse = torch.ops.lengen.attention_forward(*arguments)
    grad_out = draw(*out.shape, dtype=torch.float32)
    for needs in ((True, True, True), (False, True, False)):
        backward = grad_out, *arguments[:3], out, lse, *arguments[3:-1], *needs
        torch.library.opcheck(torch.ops.lengen.attention_backward, backward)


class Launchers:
    """Stands in for ``lengen_kernels.attention``: the same signatures, computed in PyTorch."""

    def __init__(self):
        self.calls = []

    def forward(self, *operands, **options):
        self._note("forward", options)
        return attention_torch.forward(*operands, **options)

    def backward(self, *operands, **options):
        self._note("backward", options)
        return attention_torch.backward(*operands, **options)

    def _note(self, name, options):
        self.calls.append((name, *(options[each] for each in ("longest", "precision", "cu_queries"))))


def test_operands_for_a_gpu_go_through_the_launchers(monkeypatch):
    """With what is known on the host alone; fp64 stays with PyTorch."""
    launchers = Launchers()
    monkeypatch.setattr(attention_op, "launchers", lambda: launchers)
    operands = [x.float() for x in operands_of_everything()]
    expected = gradients_of(everything, operands)
    assert not launchers.calls
    with attention_op.launchers_on_cpu():
        for one, other in zip(gradients_of(everything, operands), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert [name for name, *_ in launchers.calls] == ["forward"] * 4 + ["backward"] * 4
        assert launchers.calls[0][1:] == (5, "ieee", None)
        launchers.calls.clear()
        attention(*draw(3, 4, 2, 4, dtype=torch.float32).unbind(), precision="tf32x3", bias=torch.zeros(2, 1))
        assert launchers.calls == [("forward", 4, "tf32x3", None)]
        launchers.calls.clear()
        everything(*(x.double() for x in operands))
        assert not launchers.calls


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="TRITON_INTERPRET=1 is not set")
def test_kernels_under_the_interpreter_agree_with_pytorch():
    assert attention_op.launchers() is not None
    operands = [x.float() for x in operands_of_everything()]
    expected = gradients_of(everything, operands)
    with attention_op.launchers_on_cpu():
        for one, other in zip(gradients_of(everything, operands), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
