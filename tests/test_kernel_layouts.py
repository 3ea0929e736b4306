"""Where the attention kernels read and write: strides, batches, addresses, grids, captured launches."""

import pytest
import torch
from kernel_cases import DEVICE, EVERYTHING, ON_GPU, Case, by_dtype, by_kernel
from lengen_kernels import attention as kernels
from lengen_kernels import launch
from lengen_kernels.attention.forward import forward_kernel

pytestmark = pytest.mark.usefixtures("kernel")


@by_kernel
@by_dtype
@pytest.mark.parametrize("layout", ["packed", "batched", "heads first"])
def test_strided_views_give_the_bits_of_dense_operands(layout, dtype):
    shape = {"packed": (36, 3, 2, 8), "batched": (2, 18, 3, 2, 8), "heads first": (2, 3, 2, 18, 8)}[layout]
    fused = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(DEVICE, dtype)
    qkv = fused.unbind(2 if layout == "batched" else 1)
    if layout == "heads first":
        qkv = [x.transpose(1, 2) for x in qkv]
    bounds = torch.tensor([0, 18, 36], device=DEVICE) if layout == "packed" else None
    options = dict(cu_seqlens=bounds, longest=18, softmax_scale=0.3, table=torch.ones(1, 2, 3, device=DEVICE))
    grad_out = torch.ones((), device=DEVICE, dtype=dtype).expand(qkv[0].shape)

    def compute(*qkv):
        out, lse = kernels.forward(*qkv, **options)
        return out, lse, *kernels.backward(grad_out, *qkv, out, lse, **options)[:4]

    assert not any(x.is_contiguous() for x in qkv)
    for strided, dense in zip(compute(*qkv), compute(*(x.contiguous() for x in qkv)), strict=True):
        assert torch.equal(strided, dense)


@by_kernel
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_batched_operands_follow_the_definition(options):
    case = Case([18, 18, 18, 18], 2, 8, dtype=torch.float32, models=2, **options)
    packed = case.compute()
    case.fixed["cu_seqlens"] = None
    rows = {name for name in case.leaves if name not in {"table"}}
    case.leaves = {n: x.unflatten(0, (4, 18)) if n in rows else x for n, x in case.leaves.items()}
    case.grad_out = case.grad_out.unflatten(0, (4, 18))
    batched = case.compute()
    assert batched["out"].shape == (4, 18, 2, 8)
    assert batched["lse"].shape == (4, 18, 2)
    assert all(torch.equal(packed[name].flatten(), batched[name].flatten()) for name in packed)


@by_kernel
def test_addresses_beyond_31_bits():
    row = 1 << 27  # elements from one row to the next: the last of 18 lies beyond 2^31
    buffer = torch.empty(18 * row, dtype=torch.float16, device=DEVICE)  # only the pages of the rows are ever touched
    wide = buffer.as_strided((18, 3, 1, 8), (row, 8, 8, 1))
    dense = torch.randn(18, 3, 1, 8, generator=torch.Generator().manual_seed(0)).to(wide)
    wide.copy_(dense)
    options = dict(cu_seqlens=torch.tensor([0, 18], device=DEVICE), longest=18, softmax_scale=0.3)
    options["table"] = torch.ones(1, 1, 3, device=DEVICE)

    def compute(q, k, v):
        out, lse = kernels.forward(q, k, v, **options)
        return out, *kernels.backward(v, q, k, v, out, lse, **options)[:4]

    for far, near in zip(compute(*wide.unbind(1)), compute(*dense.unbind(1)), strict=True):
        assert torch.equal(far, near)


@by_kernel
def test_many_tiny_sequences_fit_a_launch(monkeypatch, kernel):
    launches = []
    monkeypatch.setattr(launch, "launch", lambda kernel, programs, **arguments: launches.append(programs))
    count = 200_000
    q = torch.empty(count, 2, 8, device=DEVICE)
    bounds = torch.arange(count + 1, device=DEVICE)
    kernels.forward(q, q, q, cu_seqlens=bounds, longest=1, softmax_scale=1.0)
    members = 16 if kernel == "short" else 1
    assert launches == [2 * count // members]  # all in the first dimension of the grid, the others end at 65,535


def test_a_grid_that_holds_too_many_programs_is_refused():
    with pytest.raises(ValueError, match="at most 2147483647 programs"):
        launch.launch(forward_kernel, 2**31)


@by_kernel
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_launches_are_captured_in_a_graph():
    case = Case([1, 0, 250], 2, 16, dtype=torch.float32, rows=[0, 7, 250], **EVERYTHING)
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    grad_out = case.grad_out.to(qkv[0])

    def compute():
        out, lse = kernels.forward(*qkv, **operands)
        return out, *kernels.backward(grad_out, *qkv, out, lse, **operands)

    eager = compute()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = compute()
    graph.replay()
    assert all(torch.equal(x, y) for x, y in zip(eager, captured, strict=True))
