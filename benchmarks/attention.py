"""Attention against PyTorch's: on a GPU the targets of ``attention_gpu``; on a CPU no slower, within the spread, than
scaled_dot_product_attention where there is no bias, and with a learned bias at least 2 times as fast as attention with
a dense bias at 4,096 tokens, forward and backward.

Every contender computes the same thing from the same [B, T, H, D] operands, and its output is compared with ours first.
A learned bias is a table over distance for ``lengen_fast`` and FlexAttention (compiled); PyTorch's
scaled_dot_product_attention gets a dense [H, T, T] bias: on a GPU given as it is, with its own gradient, on a CPU built
from the table by indexing, with the gradient of the table. log-n scaling multiplies q beforehand for all but ours.
Forward passes are those of training, which keep what the backward pass needs.

On a GPU: bf16; medians and the 20% and 80% quantiles of ``triton.testing.do_bench`` (cold cache, with the gaps between
launches) and of ``do_bench_cudagraph`` (warm cache, without), TFLOP/s of the causal half (backward counted as 2.5
forward passes), and peak memory above the operands. Cases go from the most to the least important until the time is up,
and the record is written after each of them.
On a CPU: fp32, alternately in one process, as ratios; the full form draws a figure beside the record.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import attention_cpu, attention_gpu

QUICK_SECONDS, FULL_SECONDS = 170, 290  # on a GPU


def run(quick: bool, keep: Callable[[dict], object]) -> dict:
    if not torch.cuda.is_available():
        return attention_cpu.run(quick)
    return attention_gpu.run(QUICK_SECONDS if quick else FULL_SECONDS, keep)
