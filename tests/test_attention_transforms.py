"""Attention under torch.compile, torch.func, fake tensors, autocast and checkpointing, and as an operator."""

import contextlib
import os

import pytest
import torch
import torch.utils.checkpoint
from attention_cases import OPTIONS, assert_all_close, bounds_of, draw, draw_terms, gradients_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
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


@pytest.fixture(params=["cpu", "launchers"])
def eager_path(request):
    """What an eager call in fp32 goes through: the CPU's kernels, or those of a GPU in the interpreter."""
    if request.param == "launchers" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("the interpreter is off")
    with contextlib.nullcontext() if request.param == "cpu" else attention_op.launchers_on_cpu():
        yield


def draw_rows(count=3):
    return draw(count, 5, 2, 4, dtype=torch.float32).unbind()


class Names(TorchDispatchMode):
    """The names of all operators."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.seen.add(operator.name())
        return operator(*args, **kwargs or {})


@pytest.mark.usefixtures("eager_path")
@pytest.mark.parametrize("around", ["both passes", "the backward pass"])
def test_a_mode_that_sees_every_operator_sees_attention(around):
    q, k, v = draw_rows()
    with Names() if around == "both passes" else contextlib.nullcontext() as outer:
        loss = attention(q.requires_grad_(), k, v).sum()
        with Names() as names:
            loss.backward()
    assert attention_op.BACKWARD in names.seen
    assert outer is None or attention_op.FORWARD in outer.seen


@pytest.mark.usefixtures("eager_path")
def test_a_mode_that_sees_every_function_sees_attention():
    seen = set()

    class Functions(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.add(str(function))
            return function(*args, **kwargs or {})

    with Functions():
        attention(*draw_rows())
    assert any("attention_forward" in name for name in seen)


@pytest.mark.usefixtures("eager_path")
@pytest.mark.parametrize("negated", range(5))
def test_a_negation_that_waits_is_done(negated):
    """A view with the negative bit, as of an imaginary part of a conjugate."""
    q, k, v, grad_out = draw_rows(4)
    operands = [q, k, v, torch.linspace(-1, 1, 10).view(2, 5), grad_out]
    views = [torch._neg_view(x) if i == negated else x for i, x in enumerate(operands)]
    operands[negated] = -operands[negated]
    results = []
    for q, k, v, table, grad_out in (views, operands):
        leaf = q.requires_grad_()
        out = attention(leaf, k, v, bias=table)
        results.append((out.detach(), torch.autograd.grad(out, leaf, grad_out)[0]))
    assert_all_close(*results)


@pytest.mark.usefixtures("eager_path")
def test_gradients_of_many_outputs_at_once():
    q, k, v = draw_rows()
    q.requires_grad_()
    out = attention(q, k, v)
    many = torch.randn(3, *out.shape, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([torch.autograd.grad(out, q, each, retain_graph=True)[0] for each in many])
    (gradients,) = torch.autograd.grad(out, q, many, is_grads_batched=True, retain_graph=True)
    torch.testing.assert_close(gradients, expected)
    torch.testing.assert_close(
        torch.func.vmap(lambda each: torch.autograd.grad(out, q, each, retain_graph=True)[0])(many), expected
    )


@pytest.mark.usefixtures("eager_path")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("needs_grad", [False, True])
def test_a_trace_computes_anew(needs_grad):
    rows = [x.requires_grad_(needs_grad) for x in draw_rows()]
    traced = torch.jit.trace(lambda q, k, v: attention(q, k, v) * 1.0, rows, check_trace=False)
    others = [x.detach() + 1 + i for i, x in enumerate(rows)]
    torch.testing.assert_close(traced(*others), attention(*others) * 1.0)


@pytest.mark.usefixtures("eager_path")
@pytest.mark.parametrize("before", [False, True])
def test_a_graph_of_operators_has_attention(before):
    graph = make_fx(lambda q, k, v: attention(q, k, v), tracing_mode="real", pre_dispatch=before)(*draw_rows())
    assert "attention_forward" in graph.code
    others = draw(3, 5, 2, 4, seed=1, dtype=torch.float32).unbind()
    torch.testing.assert_close(graph(*others), attention(*others))


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
