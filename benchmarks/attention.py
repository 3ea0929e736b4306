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
forward passes), and peak memory above the operands. Cases go from the most to the least important until the time is up.
On a CPU: fp32, alternately in one process, as ratios.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import attention_gpu, record
from benchmarks.attention_cases import Case, Contender, Operands, dense_bias, our_attention, sdpa
from benchmarks.timing import alternate, describe, ratio, repeated

QUICK_SECONDS, FULL_SECONDS = 170, 290  # on a GPU


def run(quick: bool) -> dict:
    if not torch.cuda.is_available():
        return _run_on_cpu(quick)
    return attention_gpu.run(QUICK_SECONDS if quick else FULL_SECONDS)


CPU_CASES = (
    Case(64, 50, 16, "none"),
    Case(16, 150, 16, "none"),
    Case(1, 2048, 16, "none"),
    Case(1, 2048, 64, "none"),
    Case(64, 50, 16, "table"),
    Case(16, 150, 16, "table"),
    Case(1, 1024, 16, "table"),
    Case(1, 4096, 16, "table", heads=2),
    Case(1, 4096, 64, "table + log-n", heads=1),
)
CPU_SECONDS = {True: 6, False: 25}  # of a case


def _run_on_cpu(quick: bool) -> dict:
    results = {"device": "cpu", "dtype": "torch.float32", "threads": torch.get_num_threads()}
    results["cases"] = [
        _compare_on_cpu(case, backward, CPU_SECONDS[quick]) for case in CPU_CASES for backward in (False, True)
    ]
    headings = ("case", "pass", "how many times as fast as PyTorch (quartiles)", "wanted")
    lines = [(each["case"], each["pass"], describe(each), _verdict(each)) for each in results["cases"]]
    print("\nAttention on a CPU, against scaled_dot_product_attention, with a dense bias where there is one\n")
    print(record.table(headings, lines))
    return results


def _compare_on_cpu(case: Case, backward: bool, most_seconds: float) -> dict:
    operands = Operands.draw(case, "cpu", torch.float32)
    mask = (lambda: None) if case.kind == "none" else (lambda: dense_bias(operands.table))
    contenders = {"theirs": sdpa(case, operands, mask), "ours": our_attention(case, operands)}
    difference = _difference(*(contender() for contender in contenders.values()))
    steps = {name: repeated(_step(case, operands, contender, backward)) for name, contender in contenders.items()}
    comparison = ratio(*alternate(steps, 41, most_seconds).values())
    least = 1.0 if case.kind == "none" else 2.0 if case.length >= 4096 and backward else None
    return {
        "case": case.name,
        "pass": "forward and backward" if backward else "forward",
        "difference": difference,
        **comparison,
        "least_ratio": least,
        "met": None if least is None else comparison["high" if case.kind == "none" else "ratio"] >= least,
    }


def _verdict(result: dict) -> str:
    if result["met"] is None:
        return "none"
    return f"at least {result['least_ratio']:g}x: {'pass' if result['met'] else 'FAIL'}"


def _step(case: Case, operands: Operands, contender: Contender, backward: bool) -> Callable[[], object]:
    if not backward:
        return contender
    leaves = operands.leaves(case)
    return lambda: torch.autograd.grad(contender(), leaves, operands.grad_out)


def _difference(theirs: Tensor, ours: Tensor) -> float:
    """Largest difference of two outputs, which compute the same thing."""
    difference = float((theirs.detach().float() - ours.detach().float()).abs().max())
    if not difference <= (1e-4 if ours.dtype == torch.float32 else 0.1):
        raise RuntimeError(f"the two outputs differ by {difference}: the comparison would mean nothing")
    return difference
