"""What the tests of ``lengen_fast.ops.attention`` share: drawn operands and terms, and their judges."""

import torch
from attention_oracle import ulp
from hypothesis import strategies as st

from lengen_fast.ops import DistanceBias, attention, reference

lengths_of_sequences = st.one_of(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    st.builds(lambda length, count: [length] * count, st.integers(0, 7), st.integers(1, 4)),
    st.lists(st.sampled_from([0, 1, 15, 16, 17]), min_size=1, max_size=2),
)
seeds = st.integers(0, 2**32 - 1)
beyonds = st.sampled_from(["last", "zero", "line"])
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
OPTIONS = ("bias", "key_bias", "logit_scale")
some_options = st.sets(st.sampled_from(OPTIONS))


def bounds_of(lengths, device=None):
    return torch.tensor([0, *lengths], dtype=torch.int32, device=device).cumsum(0, dtype=torch.int32)


def draw(*shape, seed=0, dtype=torch.float64, device=None):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def error_of(actual, exact):
    assert actual.shape == exact.shape
    return float((actual.cpu().double() - exact).abs().max()) if exact.numel() else 0.0


def results(function, *operands):
    """Output and gradients of a random projection of it."""
    leaves = [operand.detach().clone().requires_grad_() for operand in operands]
    out = function(*leaves)
    if not out.numel():
        return [out, *map(torch.zeros_like, leaves)]
    weights = draw(*out.shape, seed=99, dtype=out.dtype, device=out.device)
    gradients = torch.autograd.grad((out * weights).sum(), leaves)
    return [out.detach(), *gradients]


def assert_agrees(operands, compute, define):
    """``compute`` is as exact as ``define`` in the same dtype, both judged by ``define`` in fp64 on the CPU.

    The output may have twice the error and 4 ulp of its largest value; a gradient twice the error and 16 ulp of the
    largest value of all gradients: it may be exactly 0 (one key, weight 1) where two sums that cancel are computed, and
    the weights are computed again, from logits whose rounding grows with them, while the definition keeps them.
    """
    dtype = operands[0].dtype
    exact = results(define, *(operand.cpu().double() for operand in operands))
    eager = exact if dtype == torch.float64 else results(define, *(operand.cpu() for operand in operands))
    largest = [max((float(x.abs().max()) for x in part if x.numel()), default=0.0) for part in (exact[:1], exact[1:])]
    for i, actual in enumerate(results(compute, *operands)):
        assert actual.dtype == dtype
        slack = 4 * ulp(largest[0], dtype) if i == 0 else 16 * ulp(largest[1], dtype)
        allowed = 1e-12 if dtype == torch.float64 else 2 * error_of(eager[i], exact[i]) + slack
        assert error_of(actual, exact[i]) <= allowed


def draw_terms(which, rows, heads, width, seed=0, dtype=torch.float64, device=None):
    """Those of bias [H, W], key_bias [rows, H] and logit_scale [rows, H] that are named in ``which``."""
    shapes = {"bias": (heads, width), "key_bias": (*rows, heads), "logit_scale": (*rows, heads)}
    terms = {name: draw(*shapes[name], seed=seed + i, dtype=dtype, device=device) for i, name in enumerate(OPTIONS)}
    return {name: terms[name] for name in OPTIONS if name in which}


def with_beyond(terms, beyond):
    """``terms`` as arguments of attention, the bias with what holds beyond its table."""
    if "bias" not in terms or beyond == "last":
        return terms
    if beyond == "line":
        beyond = -0.3 * torch.arange(1, len(terms["bias"]) + 1).to(terms["bias"])
    return terms | {"bias": DistanceBias(terms["bias"], beyond)}


def assert_terms_agree(q, k, v, terms, beyond="last", rows=None, **options):
    """Output and all gradients, with ``rows`` of the chosen rows alone, against the definition."""
    names = list(terms)

    def compute(q, k, v, *values):
        given = with_beyond(dict(zip(names, values, strict=True)), beyond)
        return attention(q, k, v, **given, **options, query_rows=rows)

    def define(q, k, v, *values):
        given = with_beyond(dict(zip(names, values, strict=True)), beyond)
        plain = {name: x.cpu() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        if rows is None:
            return reference.attention(q, k, v, **given, **plain)
        whole = [
            x.new_zeros(len(k), *x.shape[1:]).index_copy(0, rows.cpu(), x)
            for x in (q, *([given["logit_scale"]] if "logit_scale" in given else []))
        ]
        given |= dict(zip(("logit_scale",), whole[1:], strict=False))
        return reference.attention(whole[0], k, v, **given, **plain, query_rows=rows.cpu())

    assert_agrees((q, k, v, *terms.values()), compute, define)


def gradients_of(function, operands):
    leaves = [x.detach().clone().requires_grad_() for x in operands]
    return torch.autograd.grad(function(*leaves), leaves)


def assert_all_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
