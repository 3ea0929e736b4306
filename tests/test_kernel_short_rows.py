"""The attention kernels for short rows: what takes them, how many programs, tiny sequences in one tile."""

import pytest
import torch
from kernel_cases import (
    EVERYTHING,
    Case,
    Counted,
    assert_follows_definition,
    by_dtype,
    poisoned_memory,
    problem_of,
    use_kernel,
    use_tiles,
)
from lengen_kernels import attention as kernels
from lengen_kernels import launch

pytestmark = [pytest.mark.usefixtures("kernel"), pytest.mark.parametrize("kernel", ["short"], indirect=True)]


@by_dtype
@pytest.mark.parametrize("rows", [None, [0, 3, 7, 8, 9, 25]], ids=["all rows", "chosen rows"])
@pytest.mark.parametrize("longest", [1, 2, 4, 8])
def test_tiny_sequences_share_a_tile(monkeypatch, longest, rows, dtype):
    lengths = [min(length, longest) for length in (8, 0, 1, 7, 2, 3, 5, 8, 4, 6)]
    rows = rows and [row for row in rows if row < sum(lengths)]
    options = EVERYTHING | dict(table_width=3, window=6)
    case = Case(lengths, 1, 8, dtype=dtype, rows=rows, models=2, **options)
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    assert_follows_definition(case)
    assert counted.programs["short_backward_kernel"] == 2 * -(-5 // (16 // longest))  # five sequences for each model


def test_short_rows_take_one_launch_for_each_pass(monkeypatch):
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    Case([35, 7], 2, 8, dtype=torch.float32, **EVERYTHING | dict(table_width=None)).compute()
    assert set(counted.programs) == {"short_forward_kernel", "short_backward_kernel"}
    Case([35, 7], 2, 8, dtype=torch.float32, **EVERYTHING).compute()
    assert set(counted.programs) == {"short_forward_kernel", "short_backward_kernel", "distance_gradient_kernel"}


@pytest.mark.parametrize(
    ("longest", "width", "chosen"), [(256, 64, "short"), (257, 64, "tiles"), (256, 65, "tiles"), (1, 1, "short")]
)
def test_short_rows_of_narrow_heads_have_kernels_of_their_own(longest, width, chosen):
    problem = problem_of(Case([longest], 1, width, dtype=torch.float32))
    assert kernels.choose_forward(problem) == kernels.choose_backward(problem) == chosen


@by_dtype
@pytest.mark.parametrize("tile", [(32, 128), (128, 128)], ids=str)
def test_short_rows_follow_the_definition_in_large_tiles(monkeypatch, tile, dtype):
    use_tiles(monkeypatch, *tile)
    assert_follows_definition(Case([150, 129, 64], 1, 16, dtype=dtype, **EVERYTHING | dict(window=100)))


@by_dtype
@pytest.mark.parametrize("longest", [33, 48, 49, 64])
def test_tiles_without_any_query_read_no_bias_beyond_the_table(monkeypatch, longest, dtype):
    """A row of one tile of keys, four times as long as those of queries, with a table that just covers it."""
    use_tiles(monkeypatch, 16, 64)
    assert_follows_definition(Case([longest, 0, 5], 1, 8, dtype=dtype, table_width=longest))


@pytest.mark.parametrize("tile", [(16, 16), (16, 64), (32, 64), (64, 64), (64, 128)], ids=str)
@pytest.mark.parametrize("lengths", [[70, 64, 0, 17, 1], [3, 0, 1, 4, 2] * 4, [150]], ids=str)
@pytest.mark.parametrize("table_width", [40, 150])
def test_gradients_of_a_table_of_16_bit_operands_are_sums_in_fp32(monkeypatch, tile, lengths, table_width):
    """As those by tiles, which add cells one by one; bf16, which is summed in its own bits, is left out."""
    use_tiles(monkeypatch, *tile)
    case = Case(lengths, 2, 8, dtype=torch.float16, table_width=table_width)
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    out, lse = kernels.forward(*qkv, **operands)
    gradients = []
    for kernel in ("short", "tiles"):
        use_kernel(monkeypatch, kernel)
        with poisoned_memory():
            gradients.append(kernels.backward(case.grad_out.to(out), *qkv, out, lse, **operands)[3])
    by_short_rows, by_tiles = gradients
    torch.testing.assert_close(by_short_rows, by_tiles, rtol=3e-5, atol=3e-6 * float(by_tiles.abs().max()))


@pytest.mark.parametrize("tile", [(16, 16), (16, 64), (32, 64)], ids=str)
@pytest.mark.parametrize("longest", [64, 128])
def test_sums_of_a_group_stay_in_its_own_memory(monkeypatch, tile, longest):
    """Not even zeros are added to those of the next group, whose program runs at the same time."""
    use_tiles(monkeypatch, *tile)
    case = Case([longest], 1, 8, dtype=torch.float16, table_width=longest)
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    out, lse = kernels.forward(*qkv, **operands)
    with poisoned_memory(beside=-0.0):  # and asserts that it is kept
        gradients = kernels.backward(case.grad_out.to(out), *qkv, out, lse, **operands)
    assert gradients[3].isfinite().all()
