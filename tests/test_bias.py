"""``lengen_fast.ops.bias``: every family against its formula, written once more from its paper, and the log-n scale."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.t5.modeling_t5 import T5Attention

import lengen_fast as lf
from lengen_fast.ops import DistanceBias, Packing, attention, bias, log_n_scale, reference
from lengen_fast.ops.packing import RowSelection

FAR = 400


def values(term, count=FAR):
    """[H, count]: what a bias adds at distances 0, 1, ... by the definition of attention."""
    columns = [reference._bias_at(term, [distance]) for distance in range(count)]
    return torch.cat(columns, dim=1)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    ("heads", "slopes"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2**-i for i in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (12, [2**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_is_minus_slope_times_distance(heads, slopes):
    """The slopes are the figures that the paper prints for 8 heads, and those of its code for other numbers."""
    expected = -torch.tensor(slopes).unsqueeze(1) * torch.arange(FAR)
    torch.testing.assert_close(values(bias.alibi(heads)), expected)
    torch.testing.assert_close(values(bias.alibi(torch.tensor(slopes))), expected)


@given(st.integers(2, 40), st.integers(2, 200))
def test_t5_buckets_begin_where_the_paper_puts_them(buckets, max_distance):
    """Half of them one distance each, then powers of max_distance / exact, compared in whole numbers; then the last."""
    exact = buckets // 2
    if max_distance <= exact:
        with pytest.raises(ValueError, match="max_distance must exceed half"):
            bias.t5(torch.zeros(1, buckets), max_distance)
        return

    def bucket_of(distance):
        if distance < exact:
            return distance
        if distance >= max_distance:
            return buckets - 1
        far = buckets - exact
        powers = Fraction(distance, exact) ** far
        return exact + max(m for m in range(far) if Fraction(max_distance, exact) ** m <= powers)

    numbered = bias.t5(torch.arange(float(buckets)).unsqueeze(0), max_distance)
    assert values(numbered)[0].tolist() == [bucket_of(distance) for distance in range(FAR)]


def test_t5_as_in_the_decoder_of_hugging_face():
    numbered = values(bias.t5(torch.arange(32.0).unsqueeze(0)))[0]
    theirs = T5Attention._relative_position_bucket(-torch.arange(FAR), bidirectional=False)
    assert numbered.tolist() == theirs.tolist()


def test_clipped_relative_positions_repeat_the_last_scalar():
    table = random(3, 5)
    expected = torch.stack([table[:, min(distance, 4)] for distance in range(FAR)], dim=1)
    assert torch.equal(values(bias.clipped_relative(table)), expected)


def test_kerple_kernels():
    r1, r2 = random(4), 2 * random(4, seed=1)
    distance = torch.arange(FAR, dtype=torch.float64)
    logarithmic = torch.stack([-a * torch.log(1 + b * distance) for a, b in zip(r1, r2, strict=True)])
    power = torch.stack([-a * distance**b for a, b in zip(r1, r2, strict=True)])
    torch.testing.assert_close(values(bias.kerple_log(r1, r2, FAR)), logarithmic)
    torch.testing.assert_close(values(bias.kerple_power(r1, r2, FAR)), power)


def test_local_functions_vanish_beyond_their_table():
    phi = random(2, 7)
    expected = torch.cat([phi, torch.zeros(2, FAR - 7)], dim=1)
    assert torch.equal(values(bias.local(phi)), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: bias.t5(x, 6),
        bias.clipped_relative,
        lambda x: bias.kerple_log(*x.abs().T[:2], 5),
        lambda x: bias.kerple_power(*x.abs().T[:2], 5),
        bias.local,
    ],
    ids=["t5", "clipped", "kerple log", "kerple power", "local"],
)
def test_gradients_reach_the_parameters_of_a_family(make):
    x = (1 + random(2, 4)).requires_grad_()
    q, k, v = (random(7, 2, 3, seed=i) for i in range(3))
    assert torch.autograd.gradcheck(lambda x: attention(q, k, v, bias=make(x)), (x,))


@pytest.mark.parametrize("beyond", ["last", "zero", torch.tensor([-0.5, 2.0])], ids=str)
def test_a_bias_at_any_distances(beyond):
    term = DistanceBias(random(2, 5, dtype=torch.float32), beyond)
    distances = torch.tensor([[0, 4, 5], [6, 40, 1]])
    torch.testing.assert_close(term.at(distances), values(term)[:, distances])
    assert term.heads == 2


def test_a_slope_is_a_setting_and_gets_no_gradient():
    table, slope = random(2, 3).requires_grad_(), random(2).requires_grad_()
    q, k, v = random(3, 9, 2, 4).unbind()
    out = attention(q, k, v, bias=DistanceBias(table, slope)).sum()
    assert torch.autograd.grad(out, (table, slope), allow_unused=True)[1] is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistanceBias(torch.zeros(3)), r"shape \[H, W\]"),
        (lambda: DistanceBias(torch.zeros(3, 0)), "W of at least 1"),
        (lambda: DistanceBias(torch.zeros(2, 3).long()), "floating dtype.*int64"),
        (lambda: DistanceBias(torch.zeros(2, 3), "nothing"), "beyond must be 'last', 'zero' or a slope.*'nothing'"),
        (lambda: DistanceBias(torch.zeros(2, 3), torch.zeros(3)), "a slope for each of 2 heads.*3"),
        (lambda: bias.alibi(0), "heads must be at least 1"),
        (lambda: bias.t5(torch.zeros(2, 1)), "at least 2 buckets"),
        (lambda: bias.kerple_log(torch.ones(1), torch.ones(1), 0), "length must be at least 1"),
        (lambda: log_n_scale(torch.ones(1), 3, n="rows"), "n must be 'position' or 'length'"),
    ],
)
def test_what_is_no_bias_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LENGTHS = [3, 0, 1, 5]
PACKING = Packing.from_cu_seqlens(torch.tensor([0, *LENGTHS]).cumsum(0), sum(LENGTHS))


def test_log_n_is_the_logarithm_of_the_keys_seen_or_of_the_length():
    factor = torch.tensor([1.0, 0.25])
    seen = [math.log(i + 1) for length in LENGTHS for i in range(length)]
    whole = [math.log(length) for length in LENGTHS for _ in range(length)]
    for n, expected in (("position", seen), ("length", whole)):
        torch.testing.assert_close(log_n_scale(factor, PACKING, n=n), torch.tensor(expected).unsqueeze(1) * factor)
    rows = torch.tensor([2, 3, 8])
    for choice in (rows, RowSelection.from_rows(rows, PACKING)):
        assert torch.equal(log_n_scale(factor, PACKING, query_rows=choice), log_n_scale(factor, PACKING)[rows])


def test_log_n_of_one_sequence_and_of_a_batch():
    factor = torch.tensor([0.5, 2.0])
    one = log_n_scale(factor, 4)
    torch.testing.assert_close(one, torch.arange(1, 5).log().unsqueeze(1) * factor)
    assert torch.equal(log_n_scale(factor, (3, 4)), one.expand(3, 4, 2))


def test_log_n_keeps_attention_to_one_key_as_rows_grow():
    """Chiang and Cholak: with logits 1 and 0, the weight of the one key of logit 1 is n / (n + n - 1)."""
    q, k = torch.ones(64, 1, 1), torch.zeros(64, 1, 1)
    k[0] = 1.0
    scale = log_n_scale(torch.ones(1), 64)
    out = attention(q, k, k, softmax_scale=1.0, logit_scale=scale)
    n = torch.arange(1.0, 65).view(-1, 1, 1)
    torch.testing.assert_close(out, n / (2 * n - 1))


def test_a_learned_factor_gets_its_gradient():
    factor = torch.tensor([0.5, 0.8], dtype=torch.float64, requires_grad=True)
    q, k, v = random(3, 9, 2, 3).unbind()
    assert torch.autograd.gradcheck(
        lambda factor: attention(q, k, v, cu_seqlens=PACKING, logit_scale=log_n_scale(factor, PACKING)), (factor,)
    )


def test_public_names():
    assert lf.DistanceBias is DistanceBias
    assert lf.log_n_scale is log_n_scale
    assert lf.bias is bias
