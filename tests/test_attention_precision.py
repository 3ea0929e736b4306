"""The errors that the docstring of ``attention`` states for fp32 operands on a GPU, by emulation of its products.

Tensor cores ignore the last 13 bits of an fp32 operand: "tf32" hands operands over as they are (the compiled kernels
hold no rounding, ``cvt.rna.tf32``), "tf32x3" rounds each to 10 bits first and takes what is left as a second operand.
Sums are those of PyTorch in fp32; a tensor core's own may differ. On a GPU the kernels themselves are held to it.
"""

import math

import pytest
import torch
from attention_cases import draw

from lengen_fast.ops import attention

# Largest errors: of a logit over |q| |k| / sqrt(D), of the output over its largest value, of a gradient over its own.
STATED = {"ieee": (3e-7, 2.5e-6, 2.5e-6), "tf32x3": (3e-7, 2.5e-6, 2.5e-6), "tf32": (1.0e-3, 2e-3, 3.5e-3)}
SHAPES = [(16, 1), (16, 4), (64, 1), (64, 4)]  # width, and how large queries are
LENGTH = 512


def cut(x):
    """Without the last 13 bits."""
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def rounded(x):
    """To 10 bits after the point, halves away from zero."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def three_products(a, b):
    large_a, large_b = rounded(a), rounded(b)
    return large_a @ cut(b - large_b) + cut(a - large_a) @ large_b + large_a @ large_b


PRODUCTS = {"ieee": torch.matmul, "tf32x3": three_products, "tf32": lambda a, b: cut(a) @ cut(b)}


def differentiate(q, k, v, grad_out, multiply):
    """Products of q and k, the output, and gradients of q, k and v of one head, as the kernels make them."""
    scale = q.shape[1] ** -0.5
    products = multiply(q, k.T)
    logits = (products * scale).masked_fill(torch.ones(len(q), len(q), dtype=torch.bool).triu(1), -math.inf)
    largest = logits.amax(1, keepdim=True)
    weights = (logits - largest).exp()
    total = weights.sum(1, keepdim=True)
    out = multiply(weights, v) / total
    weights = (logits - (largest + total.log())).exp()
    grad_logits = weights * (multiply(grad_out, v.T) - (out * grad_out).sum(1, keepdim=True))
    grad_q, grad_k = multiply(grad_logits, k) * scale, multiply(grad_logits.T, q) * scale
    return products, out, grad_q, grad_k, multiply(weights.T, grad_out)


def operands(width, size):
    q, k, v, grad_out = draw(4, LENGTH, width, seed=width, dtype=torch.float32).unbind()
    return size * q, k, v, grad_out


def relative_errors(found, exact):
    return [float((x.double() - y).abs().max() / y.abs().max()) for x, y in zip(found, exact, strict=True)]


@pytest.mark.parametrize("precision", STATED)
def test_stated_errors_are_those_of_the_emulation(precision):
    """No larger, and not much smaller: a figure that nobody would meet says nothing."""
    worst = [0.0, 0.0, 0.0]
    for width, size in SHAPES:
        given = operands(width, size)
        exact = differentiate(*(x.double() for x in given), torch.matmul)
        products, *found = differentiate(*given, PRODUCTS[precision])
        lengths = given[0].double().norm(dim=1).unsqueeze(1) * given[1].double().norm(dim=1)
        out, *gradients = relative_errors(found, exact[1:])
        errors = float(((products.double() - exact[0]).abs() / lengths).max()), out, max(gradients)
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
    for error, stated in zip(worst, STATED[precision], strict=True):
        assert stated / 3 < error < stated, worst


def test_operands_that_are_cut_lean_toward_zero():
    given = operands(64, 1)
    exact = differentiate(*(x.double() for x in given), torch.matmul)
    for precision, leans in (("tf32", True), ("tf32x3", False)):
        for found, true in zip(differentiate(*given, PRODUCTS[precision])[1:], exact[1:], strict=True):
            lean = float(((found.double() - true) * true.sign()).mean() / true.abs().mean())
            assert -2.5e-3 < lean < -0.8e-3 if leans else abs(lean) < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", STATED)
def test_kernels_on_a_gpu_are_as_exact_as_stated(precision):
    for width, size in SHAPES:
        *given, grad_out = operands(width, size)
        exact = differentiate(*(x.double() for x in (*given, grad_out)), torch.matmul)[1:]
        leaves = [x.cuda().unsqueeze(1).requires_grad_() for x in given]
        out = attention(*leaves, precision=precision)
        gradients = torch.autograd.grad(out, leaves, grad_out.cuda().unsqueeze(1))
        errors = relative_errors([x.detach().squeeze(1).cpu() for x in (out, *gradients)], exact)
        assert errors[0] < 1.5 * STATED[precision][1]
        assert max(errors[1:]) < 1.5 * STATED[precision][2]
