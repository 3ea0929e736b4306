"""The attention benchmark on a CPU: cases, ratios, table and figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import record
from benchmarks.attention_cases import Case, Contender, Operands, dense_bias, our_attention, sdpa
from benchmarks.timing import alternate, describe, ratio, repeated
from lengen_fast.reporting import write_figure

FIGURE = Path(__file__).parent / "results" / "attention.png"
KINDS = ("none", "alibi", "table", "table + log-n")
QUICK = (
    Case(64, 50, 16, "none"),
    Case(16, 150, 16, "none"),
    Case(1, 2048, 64, "none"),
    Case(64, 50, 16, "table"),
    Case(16, 150, 16, "table"),
    Case(1, 4096, 16, "table", heads=2),
    Case(1, 4096, 64, "table + log-n", heads=1),
)
SHAPES = ((64, 50, 4), (16, 150, 4), (4, 512, 4), (1, 2048, 4), (1, 4096, 2))  # sequences, rows, heads
FULL = tuple(
    Case(batch, length, width, kind, heads) for kind in KINDS for width in (16, 64) for batch, length, heads in SHAPES
)
SECONDS = {True: 10, False: 6}  # of a case; there are many in the full form
PASSES = ("forward", "forward and backward")


def run(quick: bool) -> dict:
    results = {"device": "cpu", "dtype": "torch.float32", "threads": torch.get_num_threads()}
    cases = QUICK if quick else FULL
    results["cases"] = [_compare(case, name, SECONDS[quick]) for case in cases for name in PASSES]
    headings = ("case", "pass", "how many times as fast as PyTorch (quartiles)", "wanted")
    lines = [(each["case"], each["pass"], describe(each), _verdict(each)) for each in results["cases"]]
    print("\nAttention on a CPU, against scaled_dot_product_attention, with a dense bias where there is one\n")
    print(record.table(headings, lines))
    if not quick:
        save_figure(results["cases"], FIGURE)
    return results


def _compare(case: Case, name: str, most_seconds: float) -> dict:
    backward = name == PASSES[1]
    operands = Operands.draw(case, "cpu", torch.float32)
    mask = (lambda: None) if case.kind == "none" else (lambda: dense_bias(operands.table))
    contenders = {"theirs": sdpa(case, operands, mask), "ours": our_attention(case, operands)}
    difference = largest_difference(*(contender() for contender in contenders.values()))
    steps = {side: repeated(_step(case, operands, each, backward), untimed=1) for side, each in contenders.items()}
    comparison = ratio(*alternate(steps, 41, most_seconds).values())
    least = 1.0 if case.kind == "none" else 2.0 if case.is_learned and case.length >= 4096 and backward else None
    return {
        "case": case.name,
        "kind": case.kind,
        "length": case.length,
        "width": case.width,
        "pass": name,
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


def largest_difference(theirs: Tensor, ours: Tensor) -> float:
    """Largest difference of two outputs, which compute the same thing."""
    difference = float((theirs.detach().float() - ours.detach().float()).abs().max())
    if not difference <= (1e-4 if ours.dtype == torch.float32 else 0.1):
        raise RuntimeError(f"the two outputs differ by {difference}: the comparison would mean nothing")
    return difference


# ---- the figure ----

COLORS = {16: "#1f6fb4", 64: "#d1701c"}
MARKS = {PASSES[0]: ("o", "--"), PASSES[1]: ("s", "-")}
TITLES = {
    "none": "no bias",
    "alibi": "ALiBi",
    "table": "learned table",
    "table + log-n": "learned table, log-n scaling",
}


def save_figure(cases: list[dict], path: Path) -> None:
    """How many times as fast as PyTorch against the length, one panel a kind of bias; bars are quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(KINDS), sharey=True)
    for axes, kind in zip(panels, KINDS, strict=True):
        for width in COLORS:
            for name in PASSES:
                _draw_line(axes, [x for x in cases if (x["kind"], x["width"], x["pass"]) == (kind, width, name)])
        _finish(axes, [case for case in cases if case["kind"] == kind], TITLES[kind])
    panels[0].set_ylabel("times as fast as PyTorch")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    write_figure(figure, path)


def _draw_line(axes, cases: list[dict]) -> None:
    lengths, ratios = [case["length"] for case in cases], [case["ratio"] for case in cases]
    bars = [[abs(case["ratio"] - case[end]) for case in cases] for end in ("low", "high")]
    mark, line = MARKS[cases[0]["pass"]]
    label = f"head width {cases[0]['width']}, {cases[0]['pass']}"
    color = COLORS[cases[0]["width"]]
    axes.errorbar(lengths, ratios, bars, color=color, marker=mark, ls=line, ms=4, lw=1.2, capsize=2, label=label)


def _finish(axes, cases: list[dict], title: str) -> None:
    axes.set(xscale="log", yscale="log", title=title, xlabel="tokens in a row")
    lengths = sorted({case["length"] for case in cases})
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths], fontsize=7)
    axes.minorticks_off()
    axes.set_yticks(TICKS, [f"{tick:g}x" for tick in TICKS], fontsize=8)
    axes.set_ylim(bottom=TICKS[0])
    axes.axhline(1, color="#8a949e", lw=0.8)
    axes.grid(axis="y", color="#e3e7eb", lw=0.6)
    for case in cases:
        if case["least_ratio"] is not None:
            reach = case["length"] / 1.25, case["length"] * 1.25
            axes.plot(reach, [case["least_ratio"]] * 2, color="#b3261e", lw=2.5, zorder=0)
    if any(case["least_ratio"] is not None for case in cases):
        least = max(case["least_ratio"] or 0 for case in cases)
        place = {"x": 0.03, "y": 0.03, "va": "bottom", "transform": axes.transAxes}
        axes.text(s=f"red: wanted, {least:g}x", color="#b3261e", fontsize=7, **place)


TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)
