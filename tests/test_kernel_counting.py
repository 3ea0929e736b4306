"""Uniform attention by the kernels is exactly uniform: counts at up to a million tokens."""

import pytest
import torch
from kernel_cases import DEVICE, ON_GPU, by_dtype, by_kernel, use_tiles
from lengen_kernels import attention as kernels

pytestmark = pytest.mark.usefixtures("kernel")


@by_dtype
@pytest.mark.parametrize(
    ("length", "kernel"), [(150, "tiles"), (4096, "tiles"), (150, "short"), (256, "short")], indirect=["kernel"]
)
def test_counts_are_exact(monkeypatch, length, dtype):
    use_tiles(monkeypatch, 256, 256)
    ones = torch.arange(length, device=DEVICE) * 7 % 3 == 1
    nothing = torch.zeros(length, 1, 1, dtype=dtype, device=DEVICE)
    bounds = torch.tensor([0, length], device=DEVICE)
    v = ones.to(dtype).view(-1, 1, 1)
    out, _ = kernels.forward(
        nothing, nothing, v, cu_seqlens=bounds, longest=length, softmax_scale=1.0, out_dtype=torch.float32
    )
    exact = ones.cumsum(0).float() / torch.arange(1, length + 1, device=DEVICE).float()
    assert torch.equal(out.flatten(), exact)


@by_dtype
def test_counts_at_65536_tokens_are_exact(monkeypatch, dtype):
    """Of every row on a GPU; in the interpreter, which takes two minutes for that, of one row in every 64, which comes
    from every place of a tile of 64."""
    use_tiles(monkeypatch, 1024, 1024)
    length = 65536
    rows = torch.arange(length, device=DEVICE)
    if not ON_GPU:
        rows = rows.view(-1, 64)[rows[: length // 64], rows[: length // 64] % 64]
        assert set((rows % 64).tolist()) == set(range(64))
    ones = torch.arange(length, device=DEVICE) * 7 % 3 == 1
    k, q = (torch.zeros(count, 1, 1, dtype=dtype, device=DEVICE) for count in (length, len(rows)))
    options = dict(cu_seqlens=torch.tensor([0, length], device=DEVICE), longest=length, softmax_scale=1.0)
    options |= dict(out_dtype=torch.float32, query_rows=None if ON_GPU else rows)
    out, _ = kernels.forward(q, k, ones.to(dtype).view(-1, 1, 1), **options)
    assert torch.equal(out.flatten(), ones.cumsum(0)[rows].float() / (rows + 1).float())


@by_dtype
@pytest.mark.parametrize("parts", [1, 64], ids=["whole", "parts"])
@pytest.mark.parametrize("length", [65536, 1 << 20])
def test_counts_of_chosen_rows_are_exact_and_majorities_by_one_vote_right(monkeypatch, length, parts, dtype):
    use_tiles(monkeypatch, 16, 1 << 15)
    monkeypatch.setattr(kernels, "MOST_SPLITS", parts)
    rows = torch.tensor([0, 1, length // 2, length - 2, length - 1], device=DEVICE)
    v = (torch.arange(length, device=DEVICE) % 2).to(dtype).view(-1, 1, 1)
    k = torch.zeros(length, 1, 1, dtype=dtype, device=DEVICE)
    q = torch.zeros(len(rows), 1, 1, dtype=dtype, device=DEVICE)
    bounds = torch.tensor([0, length], device=DEVICE)
    options = dict(cu_seqlens=bounds, longest=length, softmax_scale=1.0, query_rows=rows, out_dtype=torch.float32)
    out, _ = kernels.forward(q, k, v, **options)
    assert torch.equal(out.flatten(), (rows + 1).div(2, rounding_mode="floor").float() / (rows + 1).float())
    assert (out.flatten() < 0.5).tolist() == [True, False, True, True, False]


@by_kernel
@pytest.mark.parametrize("bias", ["none", "zero beyond", "last beyond", "over all distances", "of keys"])
def test_equal_logits_have_equal_weights_in_all_tiles(monkeypatch, kernel, bias):
    """As in a compiled program's head that finds keys: those that match have one large logit, the others none."""
    use_tiles(monkeypatch, 16, 32)
    length = 250
    options = {
        "none": {},
        "zero beyond": dict(table=torch.zeros(1, 1, 4, device=DEVICE), beyond="zero"),
        "last beyond": dict(table=torch.zeros(1, 1, 4, device=DEVICE)),
        "over all distances": dict(table=torch.zeros(1, 1, length, device=DEVICE)),
        "of keys": dict(key_bias=torch.zeros(length, 1, device=DEVICE)),
    }[bias]
    matches = torch.arange(length, device=DEVICE) * 7 % 3 == 1
    ones = torch.arange(length, device=DEVICE) // 2 % 2 == 1
    q = torch.full((length, 1, 1), 700.3, device=DEVICE)
    k, v = (each.float().view(-1, 1, 1) for each in (matches, ones))
    scale = torch.arange(2, length + 2, device=DEVICE).log().view(-1, 1)
    bounds = torch.tensor([0, length], device=DEVICE)
    options |= dict(cu_seqlens=bounds, longest=length, softmax_scale=1.0, logit_scale=scale)
    out, _ = kernels.forward(q, k, v, **options)
    exact = (ones & matches).cumsum(0) / matches.cumsum(0)
    seen = matches.cumsum(0) > 0
    error = (out.flatten() - exact)[seen].abs().max()
    assert error <= (1e-6 if ON_GPU else 0)  # a GPU's fused multiplication makes each weight 1 but for a rounding
