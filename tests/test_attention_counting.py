"""Uniform attention is exactly uniform: counts and majorities, at up to a million tokens."""

import pytest
import torch
from attention_cases import OPTIONS, draw

from lengen_fast.ops import attention


@pytest.mark.parametrize("length", [1, 2, 3, 7, 150, 1000, 4095, 4096, 4097])
def test_uniform_attention_counts(length, device):
    """With q = k = 0 every row averages v over what it sees: for v in {0, 1}, count / n to one ulp."""
    ones = draw(length, 1, 1, seed=length) > 0.5
    v = ones.to(device, torch.float32)
    out = attention(torch.zeros_like(v), torch.zeros_like(v), v)
    assert_counts(out, ones.long().cumsum(0), torch.arange(1, length + 1).view(-1, 1, 1))


@pytest.mark.parametrize("length", [1, 65_536, 262_145, 1 << 20])
def test_uniform_attention_of_a_last_row_counts(length, device):
    ones = draw(length, 1, 1, seed=length) > 0.5
    v = ones.to(device, torch.float32)
    last = torch.tensor([length - 1], device=device)
    out = attention(torch.zeros_like(v[last]), torch.zeros_like(v), v, query_rows=last)
    assert_counts(out, ones.sum(), length)


@pytest.mark.slow
def test_uniform_attention_of_every_row_counts_at_65536(device):
    ones = draw(65_536, 1, 1) > 0.5
    v = ones.to(device, torch.float32)
    out = attention(torch.zeros_like(v), torch.zeros_like(v), v)
    assert_counts(out, ones.long().cumsum(0), torch.arange(1, 65_537).view(-1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
@pytest.mark.parametrize(("length", "chosen"), [(150, None), (4096, None), (65_536, 200), (1 << 20, 3)], ids=str)
def test_constant_terms_change_no_count(length, chosen, which, dtype, device):
    """Whatever all scores have in common: count / n to one ulp of fp32, and majority by one vote is decided right."""
    ones = torch.arange(length) % 2 == 0  # at odd lengths one more than half
    v = ones.to(device, dtype).view(-1, 1, 1)
    rows = None
    if chosen is not None:
        rows = torch.linspace(0, length - 1, chosen, device=device).long().clamp(max=length - 1)
        rows[-1] = length - 2  # the last odd length
    count = length if rows is None else len(rows)
    terms = {
        "bias": torch.full((1, 9), 0.7, device=device),
        "key_bias": torch.full((length, 1), -1.3, device=device),
        "logit_scale": torch.full((count, 1), 3.1, device=device),
    }
    q = torch.zeros(count, 1, 1, dtype=dtype, device=device)
    given = {name: terms[name] for name in which}
    out = attention(q, torch.zeros_like(v), v, **given, query_rows=rows, out_dtype=torch.float32)
    seen = torch.arange(1, length + 1) if rows is None else rows.cpu() + 1
    counts = ones.long().cumsum(0)[seen - 1]
    assert_counts(out.flatten(), counts, seen)
    assert torch.equal(out.flatten().cpu() > 0.5, 2 * counts > seen)


def assert_counts(actual, counts, of):
    """``actual`` is ``counts / of`` in fp32 or the number next to it."""
    share = (counts.double() / of).float()
    below, above = (torch.nextafter(share, torch.tensor(limit)) for limit in (-torch.inf, torch.inf))
    assert bool(((below <= actual.cpu()) & (actual.cpu() <= above)).all())
