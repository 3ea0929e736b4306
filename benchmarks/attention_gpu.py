"""The attention benchmark on a GPU: contenders, clocks, targets, tables."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import record
from benchmarks.attention_cases import Case, Contender, Operands, dense_bias, eager_attention, our_attention, sdpa
from lengen_fast.ops import attention, bias

TOKENS, MOST_ROWS = 32_768, 64
LENGTHS, WIDTHS = (150, 50, 2048, 8192, 512, 32_768), (64, 16, 128, 32)
FLEX_CASES = {("table", 64), ("table", 16), ("none", 64), ("alibi", 64), ("table + log-n", 64)}
LONGEST_DENSE, LONGEST_FLEX, LONGEST_EAGER = 8192, 8192, 2048
MILLION = 1 << 20
QUANTILES = [0.5, 0.2, 0.8]


@dataclass(frozen=True)
class Target:
    """At least ``least`` times as fast as the best of ``rivals`` in every measured case that ``applies``."""

    name: str
    least: float
    backward: bool | None
    rivals: tuple[str, ...]
    applies: Callable[[Case], bool]


SDPA = ("sdpa flash", "sdpa efficient", "sdpa cudnn")
TARGETS = (
    Target("short rows", 2.0, None, (*SDPA, "flex", "eager"), lambda case: case.length <= 150 and case.width <= 64),
    Target(
        "T >= 2k, D <= 64, no bias, forward",
        1.0,
        False,
        SDPA,
        lambda case: case.length >= 2048 and case.width <= 64 and case.kind == "none",
    ),
    Target(
        "T >= 2k, D <= 64, no bias, forward and backward",
        0.9,
        True,
        SDPA,
        lambda case: case.length >= 2048 and case.width <= 64 and case.kind == "none",
    ),
    Target(
        "T >= 2k, D = 128, no bias",
        0.7,
        None,
        SDPA,
        lambda case: case.length >= 2048 and case.width == 128 and case.kind == "none",
    ),
    Target("learned table against FlexAttention", 1.5, True, ("flex",), lambda case: case.is_learned),
    Target("learned table against a dense bias", 3.0, True, SDPA, lambda case: case.is_learned),
)
BACKENDS = {
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
}
MILLION_SECONDS, ROW_SECONDS = 0.5, 1e-3


def run(seconds: float, keep: Callable[[dict], object]) -> dict:
    """Every case that ``seconds`` suffice for, and the targets; ``keep`` takes the results after each case."""
    deadline = time.monotonic() + seconds
    results: dict = {"device": "cuda", "dtype": "torch.bfloat16", "million": _million(), "cases": [], "not_reached": []}
    results["targets"] = _judge_million(results["million"])
    flex = _Flex()
    for case in _gpu_cases():
        if time.monotonic() > deadline:
            results["not_reached"].append(case.name)
            continue
        results["cases"].append(_measure_case(case, flex))
        results["targets"] = [_judge(target, results["cases"]) for target in TARGETS]
        results["targets"] += _judge_million(results["million"])
        keep(results)
        with contextlib.suppress(RuntimeError):  # what broke in one case shows in the next ones
            torch.cuda.empty_cache()
    _print(results)
    return results


def _gpu_cases() -> Iterator[Case]:
    """The most telling first."""
    for length, width in sorted(
        itertools.product(LENGTHS, WIDTHS), key=lambda pair: LENGTHS.index(pair[0]) + WIDTHS.index(pair[1])
    ):
        for kind in ("none", "table", "alibi", "table + log-n"):
            yield Case(max(1, min(MOST_ROWS, TOKENS // length)), length, width, kind)


def _measure_case(case: Case, flex: _Flex) -> dict:
    operands = Operands.draw(case, "cuda", torch.bfloat16)
    ours = our_attention(case, operands)
    result: dict = {"case": case.name, **vars(case), "contenders": {}}
    expected = _attempt(lambda: ours().detach())
    for name, contender, leaves in [("ours", ours, operands.leaves(case)), *_rivals(case, operands, flex)]:
        result["contenders"][name] = _measure_contender(case, operands, contender, leaves, expected)
    return result


def _rivals(case: Case, operands: Operands, flex: _Flex) -> Iterator[tuple[str, Contender, list[Tensor]]]:
    """Name, computation, and leaves whose gradients it gives."""
    leaves = operands.leaves(case)
    dense = None
    if case.kind != "none" and case.length <= LONGEST_DENSE:
        dense = dense_bias(operands.table.detach()).to(operands.q.dtype).unsqueeze(0).requires_grad_(case.is_learned)
        leaves = leaves[:3] + [dense] * case.is_learned
    if case.kind == "none" or dense is not None:
        for name, backend in BACKENDS.items():
            if name != "sdpa flash" or dense is None:
                yield name, _with_backend(backend, sdpa(case, operands, lambda: dense)), leaves
    if case.length <= LONGEST_EAGER:
        mask = dense if dense is not None else dense_bias(torch.zeros(1, case.length, device="cuda"))
        yield "eager", eager_attention(case, operands, mask), leaves
    if case.length <= LONGEST_FLEX and (case.kind, case.width) in FLEX_CASES:
        yield "flex", flex.contender(case, operands), operands.leaves(case)


def _with_backend(backend: SDPBackend, contender: Contender) -> Contender:
    def compute() -> Tensor:
        with sdpa_kernel(backend):
            return contender()

    return compute


class _Flex:
    """FlexAttention, compiled once for each kind of bias and width, for lengths that vary."""

    def __init__(self):
        self.compiled: dict[tuple[str, int], Callable] = {}
        self.masks: dict[int, object] = {}

    def contender(self, case: Case, operands: Operands) -> Contender:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        if case.length not in self.masks:
            self.masks[case.length] = create_block_mask(
                lambda b, h, i, j: i >= j, None, None, case.length, case.length, device="cuda"
            )
        key = case.kind, case.width
        if key not in self.compiled:
            # all share one function's limit of variants, 8, behind which FlexAttention would run without its kernel
            torch._dynamo.config.recompile_limit = 64
            self.compiled[key] = torch.compile(flex_attention, dynamic=True, fullgraph=True)
        compiled, mask, table = self.compiled[key], self.masks[case.length], operands.table
        slopes = torch.tensor(bias.alibi_slopes(case.heads), device="cuda")

        def by_table(score, b, h, i, j):
            return score + table[h, torch.clamp(i - j, min=0)]

        def by_slope(score, b, h, i, j):
            return score - slopes[h] * (i - j)

        change = {"none": None, "alibi": by_slope}.get(case.kind, by_table)

        def compute() -> Tensor:
            q, k, v = (x.transpose(1, 2) for x in (operands.scaled_q(case), operands.k, operands.v))
            return compiled(q, k, v, score_mod=change, block_mask=mask).transpose(1, 2)

        return compute


def _measure_contender(
    case: Case, operands: Operands, contender: Contender, leaves: list[Tensor], expected: Tensor | str
) -> dict:
    """Difference from ours and both passes, or why not."""
    measured: dict = {}
    out = _attempt(lambda: contender().detach())
    if isinstance(out, str):
        return {"error": out}
    if isinstance(expected, Tensor):
        difference = float((out.float() - expected.float()).abs().max())
        measured["difference"] = difference if math.isfinite(difference) else str(difference)
    for name, backward in (("forward", False), ("forward and backward", True)):
        step = contender if not backward else (lambda: torch.autograd.grad(contender(), leaves, operands.grad_out))
        measured[name] = _measure_step(step, case.flop(backward))
    return measured


def _measure_step(step: Callable[[], object], flop: float) -> dict:
    from triton.testing import do_bench, do_bench_cudagraph

    result: dict = {"peak_mib": _attempt(lambda: _peak(step))}
    for name, measure in (
        ("do_bench", lambda: do_bench(step, warmup=5, rep=30, quantiles=QUANTILES)),
        ("cuda_graph", lambda: do_bench_cudagraph(step, rep=5, quantiles=QUANTILES)),
    ):
        milliseconds = _attempt(measure)
        if isinstance(milliseconds, str):
            result[name] = {"error": milliseconds}
            continue
        middle, low, high = milliseconds
        result[name] = {"ms": middle, "low": low, "high": high, "tflops": flop / middle / 1e9}
    return result


def _peak(step: Callable[[], object]) -> float:
    """MiB that a step takes above what is there before it."""
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _attempt(work: Callable[[], object]):
    """What ``work`` returns, or in a sentence why it cannot: contenders do not serve every case."""
    try:
        return work()
    except Exception as error:
        with contextlib.suppress(RuntimeError):
            torch.cuda.synchronize()
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}" if str(error) else repr(error)


@torch.no_grad()
def _million() -> dict:
    """Seconds of 1,048,576 tokens, one head of width 16: all rows, and the last row alone."""
    q, k, v = torch.randn(3, MILLION, 1, 16, device="cuda", dtype=torch.bfloat16).unbind()
    last = torch.tensor([MILLION - 1], device="cuda")
    return {
        "all_rows": _attempt(lambda: _seconds(lambda: attention(q[None], k[None], v[None]), 5)),
        "one_row": _attempt(lambda: _seconds(lambda: attention(q[-1:], k, v, query_rows=last), 50)),
    }


def _seconds(work: Callable[[], object], repetitions: int) -> float:
    """Median, by events on the device."""
    work()
    times = []
    for _ in range(repetitions):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return median(times)


# ---- targets and tables ----


def _judge(target: Target, cases: list[dict]) -> dict:
    """Ratios to the fastest rival, for both ways to measure; met if the least of them is enough."""
    passes = ("forward", "forward and backward")
    passes = passes if target.backward is None else passes[target.backward :][:1]
    verdict: dict = {"target": target.name, "least": target.least}
    for clock in ("do_bench", "cuda_graph"):
        ratios = {}
        for result, name in itertools.product(cases, passes):
            case = Case(*(result[field] for field in ("batch", "length", "width", "kind", "heads")))
            found = _ratio(result["contenders"], target.rivals, name, clock) if target.applies(case) else None
            if found is not None:
                ratios[f"{case.name}, {name}"] = found
        least = min(ratios.values(), default=None)
        verdict[clock] = {"ratios": ratios, "worst": least, "met": None if least is None else least >= target.least}
    return verdict


def _ratio(contenders: dict, rivals: tuple[str, ...], name: str, clock: str) -> float | None:
    """How many times as fast ours is as the fastest rival; 0 if ours failed, None if all rivals did."""
    times = {
        contender: measured[name][clock]["ms"]
        for contender, measured in contenders.items()
        if "error" not in measured and "error" not in measured[name][clock]
    }
    theirs = [times[rival] for rival in rivals if rival in times]
    if not theirs:
        return None
    return min(theirs) / times["ours"] if "ours" in times else 0.0


def _judge_million(million: dict) -> list[dict]:
    wanted = (("all_rows", "all rows", MILLION_SECONDS), ("one_row", "one row", ROW_SECONDS))
    return [
        {
            "target": f"1,048,576 tokens, {name}",
            "most_seconds": most,
            "seconds": million[key],
            "met": _is_below(million[key], most),
        }
        for key, name, most in wanted
    ]


def _is_below(seconds: float | str, most: float) -> bool:
    return not isinstance(seconds, str) and seconds < most


def _print(results: dict) -> None:
    clocks = ("do_bench", "cuda_graph")
    for name in ("forward", "forward and backward"):
        print(f"\n{name}: median ms by do_bench, by CUDA graph in brackets, TFLOP/s, peak MiB\n")
        names = list(dict.fromkeys(contender for case in results["cases"] for contender in case["contenders"]))
        lines = [
            (case["case"], *(_cell(case["contenders"].get(contender), name, clocks) for contender in names))
            for case in results["cases"]
        ]
        print(record.table(("case", *names), lines))
    print("\nTargets: the worst ratio of all cases measured, by do_bench and by CUDA graph\n")
    headings = ("target", "wanted", "measured", "verdict")
    print(record.table(headings, [_target_line(target, clocks) for target in results["targets"]]))
    if results["not_reached"]:
        print(f"\nno time was left for {len(results['not_reached'])} cases")


def _target_line(target: dict, clocks: tuple[str, str]) -> tuple[str, str, str, str]:
    if "seconds" in target:
        wanted = f"under {target['most_seconds']:g} s"
        return target["target"], wanted, str(target["seconds"]), _word(target["met"])
    worst = [target[clock]["worst"] for clock in clocks]
    measured = ", ".join("-" if ratio is None else f"{ratio:.2f}x" for ratio in worst)
    words = ", ".join(_word(target[clock]["met"]) for clock in clocks)
    return target["target"], f"at least {target['least']:g}x", measured, words


def _cell(measured: dict | None, name: str, clocks: tuple[str, str]) -> str:
    if measured is None:
        return "-"
    if "error" in measured:
        return "error"
    step = measured[name]
    times = ["error" if "error" in step[clock] else f"{step[clock]['ms']:.3g}" for clock in clocks]
    speed = next((f"{step[clock]['tflops']:.3g}" for clock in clocks if "error" not in step[clock]), "-")
    memory = step["peak_mib"] if isinstance(step["peak_mib"], str) else f"{step['peak_mib']:.0f}"
    return f"{times[0]} ({times[1]}) {speed} {memory}"


def _word(met: bool | None) -> str:
    return "not measured" if met is None else "pass" if met else "FAIL"
