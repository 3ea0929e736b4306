"""The attention kernels where queries are few: keys in parts, and keys that heads share."""

import pytest
import torch
from kernel_cases import ON_GPU, Case, Counted, assert_follows_definition, by_dtype, by_kernel, use_tiles
from lengen_kernels import attention as kernels
from lengen_kernels import launch
from lengen_kernels.attention.problem import Problem

pytestmark = pytest.mark.usefixtures("kernel")


@by_dtype
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([69], {}),
        ([0, 10, 30, 69], dict(table_width=7, beyond="line", key_bias=True, logit_scale=True)),
        ([3, 69], dict(table_width=7, window=33)),
        ([69], dict(table_width=1)),
        (None, dict(table_width=3, logit_scale=True)),
    ],
    ids=["one row", "every bias", "window", "constant bias", "all rows"],
)
def test_keys_in_parts(monkeypatch, rows, options, dtype):
    monkeypatch.setattr(kernels, "SHORTEST_PART", 16)
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    case = Case([25, 45], 2, 8, dtype=dtype, rows=rows, **options)
    assert_follows_definition(case)
    assert counted.programs.keys() >= {"merge_kernel", "sum_kernel"}


def test_gradients_of_keys_in_parts_are_the_same_to_the_bit_again(monkeypatch):
    monkeypatch.setattr(kernels, "SHORTEST_PART", 16)
    options = dict(table_width=7, beyond="line", key_bias=True, logit_scale=True)
    case = Case([25, 45], 2, 8, dtype=torch.float32, rows=[0, 10, 30, 69], **options)
    first = case.compute()
    for _ in range(20 if ON_GPU else 1):
        again = case.compute()
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_few_rows_of_a_long_context_fill_the_device():
    q, k = torch.empty(1, 1, 16), torch.empty(1, 1, 16).expand(1 << 20, 1, 16)
    options = dict.fromkeys(("table", "slope", "key_bias", "logit_scale", "window"))
    bounds, rows = torch.tensor([0, 1 << 20]), torch.tensor([(1 << 20) - 1])
    options |= dict(beyond="last", precision="ieee", cu_seqlens=bounds, query_rows=rows, softmax_scale=1.0)
    problem = Problem.of(q, k, k, longest=1 << 20, cu_queries=None, **options)
    assert kernels.splits(problem) >= 2 * kernels.processors(q.device)


def test_gradients_of_few_rows_of_a_long_context_fill_the_device(monkeypatch):
    programs = {}
    monkeypatch.setattr(launch, "launch", lambda kernel, count, **arguments: programs.update({kernel.__name__: count}))
    q, k = torch.empty(1, 1, 16), torch.empty(1, 1, 16).expand(1 << 20, 1, 16)
    bounds, rows = torch.tensor([0, 1 << 20]), torch.tensor([(1 << 20) - 1])
    options = dict(cu_seqlens=bounds, longest=1 << 20, query_rows=rows, softmax_scale=1.0, table=torch.zeros(1, 1, 1))
    kernels.backward(q, q, k, k, q, torch.empty(1, 1), **options)
    assert programs["query_gradient_kernel"] >= 2 * kernels.processors(q.device)
    assert programs["key_gradient_kernel"] >= 2 * kernels.processors(q.device)


@by_kernel
@by_dtype
@pytest.mark.parametrize(
    "options",
    [{}, dict(logit_scale=True, window=9), dict(table_width=4), dict(key_bias=True)],
    ids=["plain", "scale and window", "table", "key bias"],
)
def test_chosen_rows_may_share_keys(options, dtype):
    assert_follows_definition(Case([20, 4], 3, 8, dtype=dtype, rows=[7, 19, 20], key_heads=1, **options))


def test_keys_that_heads_share_are_read_once_for_all_heads_of_a_tile(monkeypatch):
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    case = Case([40, 30], 5, 8, dtype=torch.float32, rows=[7, 39, 41, 69], key_heads=1, logit_scale=True)
    assert_follows_definition(case)
    assert counted.programs["forward_kernel"] == counted.programs["query_gradient_kernel"] == 2 * 2  # of 20 rows, 16
    case = Case([40, 30], 5, 8, dtype=torch.float32, rows=[7, 39, 41, 69], key_heads=1, table_width=3)
    assert_follows_definition(case)
    assert counted.programs["forward_kernel"] == counted.programs["query_gradient_kernel"] == 2 * 5


def test_heads_that_share_keys_of_a_long_context_are_parts_and_rows_at_once(monkeypatch):
    monkeypatch.setattr(kernels, "SHORTEST_PART", 16)
    assert_follows_definition(Case([5, 90], 6, 8, dtype=torch.float32, rows=[2, 60, 94], key_heads=1, logit_scale=True))


def test_a_line_is_as_exact_for_chosen_rows_at_the_end_of_a_long_context(monkeypatch):
    """Whose positions times the slope are large, and no power of two."""
    use_tiles(monkeypatch, 16, 1024)
    length = 1 << 15
    case = Case([length], 1, 4, dtype=torch.float32, rows=[length - 6, length - 1], table_width=1, beyond="line")
    case.fixed["slope"] = torch.tensor([[-0.343]]).double()
    assert_follows_definition(case)
