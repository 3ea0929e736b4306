"""``lengen_fast.ops.gelu`` against PyTorch's in fp64."""

import pytest
import torch
import torch.nn.functional as F

from lengen_fast.ops import gelu


def exact(x):
    return F.gelu(x.double(), approximate="tanh")


def gradient(function, x):
    leaf = x.clone().requires_grad_()
    weights = torch.linspace(-2, 2, x.numel(), dtype=x.dtype, device=x.device).view(x.shape)
    return torch.autograd.grad((function(leaf) * weights).sum(), leaf)[0]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16_384, 16_385, 40_000])
def test_values_and_gradients(count, path, device):
    x = torch.linspace(-12, 12, count).to(device)
    assert float((gelu(x).cpu().double() - exact(x.cpu())).abs().max() if count else 0) <= 2e-6
    if count:
        torch.testing.assert_close(
            gradient(gelu, x).cpu().double(), gradient(exact, x.cpu().double()), rtol=0, atol=5e-6
        )


def test_extremes(device):
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 50.0, -50.0, 1e20, -1e20, float("nan")], device=device)
    y = gelu(x)
    assert y[:2].tolist() == [0, 0]
    assert y[4:8].tolist() == [50.0, pytest.approx(0, abs=1e-30), pytest.approx(1e20), pytest.approx(0, abs=1e-15)]
    assert bool(y[8].isnan())
    assert bool(gradient(gelu, x[:6]).isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_and_strides_go_through_pytorch(dtype, device):
    x = torch.linspace(-3, 3, 24, dtype=dtype, device=device).view(4, 6).T
    torch.testing.assert_close(gelu(x), F.gelu(x, approximate="tanh"))


def test_second_derivatives():
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    (first,) = torch.autograd.grad(gelu(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    expected = torch.func.vmap(torch.func.hessian(exact))(x.detach().double())
    torch.testing.assert_close(second.double(), expected, rtol=1e-4, atol=1e-5)


def test_compiled_and_transformed():
    x = torch.linspace(-2, 2, 12).view(3, 4)
    torch.testing.assert_close(torch.compile(gelu, backend="eager", fullgraph=True)(x), gelu(x))
    torch.testing.assert_close(torch.func.vmap(gelu)(x), gelu(x))
    torch.testing.assert_close(torch.func.grad(lambda x: gelu(x).sum())(x), gradient_of_sum(x))


def gradient_of_sum(x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(gelu(leaf).sum(), leaf)[0]


def test_vmap_over_strided_and_shared_inputs():
    for x in (torch.randn(6, 4)[::2], torch.randn(4).expand(3, 4)):
        torch.testing.assert_close(torch.vmap(gelu)(x), gelu(x.contiguous()))


def test_a_single_number():
    assert float(gelu(torch.tensor(1.0))) == pytest.approx(0.841192, abs=1e-6)
