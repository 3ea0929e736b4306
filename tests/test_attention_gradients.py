"""Gradients of attention by finite differences, through any strides and checkpoints, and none beyond the first."""

import pytest
import torch
import torch.utils.checkpoint
from attention_cases import OPTIONS, bounds_of, draw, draw_terms, with_beyond

from lengen_fast.ops import DistanceBias, attention, attention_op, reference


@pytest.mark.parametrize("lengths", [[3], [2, 2], [1, 3, 0], [2, 0, 2, 1]], ids=str)
def test_gradients_by_finite_differences(lengths, device):
    operands = draw(3, sum(lengths), 2, 2, device=device).requires_grad_().unbind()
    bounds = bounds_of(lengths, device)
    assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, cu_seqlens=bounds), operands)


@pytest.mark.parametrize("rows", [[0], [1, 3], [0, 1, 2, 3, 4]], ids=str)
def test_gradients_of_chosen_rows_by_finite_differences(rows, device):
    q, k, v = draw(3, 5, 1, 2, device=device).requires_grad_().unbind()
    bounds, rows = bounds_of([2, 3], device), torch.tensor(rows, device=device)
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(q[rows], k, v, cu_seqlens=bounds, query_rows=rows), (q, k, v)
    )


@pytest.mark.parametrize("which", [[], ["bias"], ["key_bias"], ["logit_scale"], OPTIONS], ids=" ".join)
@pytest.mark.parametrize("beyond", ["last", "zero", "line"])
@pytest.mark.parametrize("function", [attention, reference.attention], ids=["attention", "definition"])
def test_gradients_of_every_term_by_finite_differences(function, which, beyond):
    lengths, rows = [1, 0, 4], 5
    terms = draw_terms(which, (rows,), 2, 2)
    operands = [x.detach().requires_grad_() for x in (*draw(3, rows, 2, 2).unbind(), *terms.values())]

    def compute(q, k, v, *values):
        given = with_beyond(dict(zip(terms, values, strict=True)), beyond)
        return function(q, k, v, **given, window=3, cu_seqlens=bounds_of(lengths))

    assert torch.autograd.gradcheck(compute, operands)


def test_gradients_of_every_term_of_chosen_rows_by_finite_differences():
    rows = torch.tensor([0, 2, 3])
    terms = draw_terms(OPTIONS, (4,), 2, 3)
    terms["logit_scale"] = terms["logit_scale"][rows]
    operands = [x.detach().requires_grad_() for x in (*draw(3, 4, 2, 2).unbind(), *terms.values())]
    assert torch.autograd.gradcheck(
        lambda q, k, v, *values: attention(q[rows], k, v, query_rows=rows, **dict(zip(OPTIONS, values, strict=True))),
        operands,
    )


@pytest.mark.parametrize("beyond", ["last", "zero", "line"])
def test_a_table_for_each_model_of_a_stack(beyond):
    """The operator takes M tables; sequence b reads table b // (B // M)."""
    lengths, models = [3, 1, 0, 5, 2, 2], 3
    q, k, v = draw(3, sum(lengths), 2, 4).unbind()
    tables = draw(models, 2, 3, seed=7).requires_grad_()
    slope = draw(models, 2, seed=8) if beyond == "line" else None
    options = slope, bounds_of(lengths), None, None, 5, 0.5, beyond, None, "auto", None
    out, _ = attention_op.Attention.apply(q, k, v, tables, None, None, *options)
    gradient = torch.autograd.grad((out * draw(*out.shape, seed=9)).sum(), tables)[0]
    parts = []
    for i, rows in enumerate([slice(0, 4), slice(4, 9), slice(9, 13)]):
        term = DistanceBias(tables[i], slope[i] if beyond == "line" else beyond)
        bounds = bounds_of(lengths[2 * i : 2 * i + 2])
        parts.append(reference.attention(q[rows], k[rows], v[rows], bias=term, cu_seqlens=bounds, softmax_scale=0.5))
    expected = torch.cat(parts)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * draw(*out.shape, seed=9)).sum(), tables)[0])


@pytest.mark.parametrize("heads", [2, 3])
@pytest.mark.parametrize("spread", ["summed heads", "transposed", "every second"])
def test_gradients_of_the_output_may_have_any_strides(heads, spread):
    rows = torch.tensor([0, 2, 5, 6])
    operands = draw(4, heads, 8), draw(7, 1, 8, seed=1), draw(7, 1, 8, seed=2)
    shapes = {
        "summed heads": lambda x: x.sum(1).square(),
        "transposed": lambda x: x.transpose(0, 1) * draw(heads, 4, 8, seed=3).to(x),
        "every second": lambda x: x[..., ::2] * 2,
    }

    def gradients(function, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in operands]
        out = function(*leaves, cu_seqlens=bounds_of([3, 4]), query_rows=rows)
        return torch.autograd.grad(shapes[spread](out).sum(), leaves)

    def define(q, k, v, **options):
        return reference.attention(q.new_zeros(7, heads, 8).index_copy(0, rows, q), k, v, **options)

    for one, other in zip(gradients(attention, torch.float32), gradients(define, torch.float64), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_computes_the_same():
    q = draw(5, 1, 8, dtype=torch.float32).requires_grad_()
    loss = torch.utils.checkpoint.checkpoint(lambda q: attention(q, q, q).square().sum(), q, use_reentrant=False)
    (gradient,) = torch.autograd.grad(loss, q)
    assert torch.equal(gradient, torch.autograd.grad(attention(q, q, q).square().sum(), q)[0])


@pytest.mark.parametrize("which", [[], ["bias"]], ids=["plain", "bias"])
def test_second_derivatives_are_refused(which):
    operands = [x.requires_grad_() for x in draw(3, 5, 2, 4).unbind()]
    out = attention(*operands, **draw_terms(which, (5,), 2, 3))
    (gradient,) = torch.autograd.grad(out.square().sum(), operands[:1], create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative|is not implemented"):
        gradient.sum().backward()


def test_nothing_to_compute_stays_in_the_graph():
    """A batch without rows can go through a training step."""
    q, k, v = torch.zeros(3, 0, 2, 4, requires_grad=True).unbind()
    out = attention(q, k, v, cu_seqlens=bounds_of([0, 0]))
    assert out.shape == (0, 2, 4)
    out.sum().backward()
