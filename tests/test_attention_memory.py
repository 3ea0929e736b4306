"""Attention keeps nothing of the size of all pairs in memory, and its bits depend on neither memory nor threads."""

import pytest
import torch
from attention_cases import OPTIONS, bounds_of, draw, draw_terms, results

from lengen_fast.ops import attention

ATTEND = """
import torch
from lengen_fast.ops import attention
def run(rows, length):
    q, k, v = (torch.randn(count, 4, 16, requires_grad=True) for count in (rows or length, length, length))
    chosen = torch.arange(length - rows, length) if rows else None
    attention(q, k, v, query_rows=chosen).sum().backward()
run(0, 64), run(2, 64)
"""
TERMS = """
import torch
from lengen_fast.ops import attention
def run(length, backward):
    q, k, v = (torch.randn(length, 1, 16, requires_grad=backward) for _ in range(3))
    table = torch.randn(1, length, requires_grad=backward)
    out = attention(q, k, v, bias=table)
    if backward:
        out.sum().backward()
run(64, True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("length", "backward"), [(32_768, False), (16_384, True)], ids=["forward", "backward"])
def test_no_bias_of_all_pairs_in_memory(length, backward, memory_growth):
    """One head's scores or biases of all pairs are 1 GiB or more; a table bias takes a tenth of that."""
    assert memory_growth(TERMS, f"run({length}, {backward})") < 100 << 20


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length"), [(0, 16_384), (2, 262_144)], ids=["all rows", "two rows"])
def test_no_scores_of_all_pairs_in_memory(rows, length, memory_growth):
    """Forward and backward stay below 24 tensors of the size of q; one head's scores of all pairs are 1 GiB or more."""
    assert memory_growth(ATTEND, f"run({rows}, {length})") < 24 * (length * 4 * 16 * 4)


@pytest.mark.parametrize("which", [[], OPTIONS], ids=["plain", "all terms"])
@pytest.mark.parametrize("rows", [None, [0, 3, 9, 29]], ids=["all rows", "chosen rows"])
def test_equal_bits_from_run_to_run_whatever_memory_held(which, rows, device):
    """Fresh memory is NaN under deterministic algorithms: an output that nobody wrote would show."""
    lengths = [17, 1, 12]
    rows = None if rows is None else torch.tensor(rows, device=device)
    terms = draw_terms(which, (30,), 2, 9, dtype=torch.float32, device=device)
    if rows is not None and "logit_scale" in terms:
        terms["logit_scale"] = terms["logit_scale"][rows]

    def compute(q, k, v, *values):
        q = q if rows is None else q[rows]
        given = dict(zip(terms, values, strict=True))
        return attention(q, k, v, **given, cu_seqlens=bounds_of(lengths, device), query_rows=rows)

    operands = [*draw(3, 30, 2, 8, dtype=torch.float32, device=device).unbind(), *terms.values()]
    first = results(compute, *operands)
    assert all(bool(x.isfinite().all()) for x in first)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(20):
            assert all(map(torch.equal, first, results(compute, *operands)))
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("lengths", [[3, 0, 70, 9], [1300]], ids=["several sequences", "one in parts"])
def test_equal_bits_from_any_number_of_threads(lengths, threads):
    rows = sum(lengths)
    operands = [*draw(3, rows, 2, 8, dtype=torch.float32).unbind(), *draw_terms(OPTIONS, (rows,), 2, 9).values()]
    operands = [x.float() for x in operands]

    def compute(q, k, v, *values):
        return attention(q, k, v, **dict(zip(OPTIONS, values, strict=True)), cu_seqlens=bounds_of(lengths))

    threads(1)
    alone = results(compute, *operands)
    for count in (2, 3):
        threads(count)
        assert all(map(torch.equal, alone, results(compute, *operands)))
