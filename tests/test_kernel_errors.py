"""Operands that the attention kernels do not serve are refused, with a sentence that names them."""

import pytest
import torch
from lengen_kernels import attention as kernels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(q=torch.zeros(4, 2, 8, dtype=torch.float64)), "fp32, fp16 or bf16, and q is"),
        (dict(k=torch.zeros(4, 2, 8, dtype=torch.float16)), "of one dtype"),
        (dict(q=torch.zeros(4, 2, 16)[..., ::2]), "last dimension of q must have stride 1"),
        (dict(q=torch.zeros(4, 2, 4)), "do not go together"),
        (dict(q=torch.zeros(4, 3, 8)), "do not go together"),
        (dict(cu_seqlens=None), "need cu_seqlens"),
        (dict(precision="fp8"), "precision must be one of"),
        (dict(beyond="nothing"), "beyond must be one of"),
        (dict(beyond="line"), "with a slope for a line"),
    ],
)
def test_operands_that_the_kernels_do_not_serve_are_refused(changes, message):
    rows = torch.zeros(4, 2, 8)
    operands = dict(q=rows, k=rows, v=rows, cu_seqlens=torch.tensor([0, 4]), longest=4, softmax_scale=1.0)
    with pytest.raises(ValueError, match=message):
        kernels.forward(**operands | changes)


def test_head_widths_beyond_256_are_refused():
    rows = torch.zeros(4, 1, 257)
    with pytest.raises(ValueError, match="1 to 256, got 257"):
        kernels.forward(rows, rows, rows, cu_seqlens=torch.tensor([0, 4]), longest=4, softmax_scale=1.0)
