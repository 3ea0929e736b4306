"""Tables, sentences and figures of the idealized inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lengen_fast.evaluation import percentage, wilson_interval
from lengen_fast.published import published
from lengen_fast.reporting import COLOURS, write_figure
from lengen_fast.theory.candidates import Candidate
from lengen_fast.theory.inference import Finding, Inference
from lengen_fast.theory.regularizer import Regularizer

GREY = "#5f6b77"
PARTS = ("size", "precision", "value rank", "norms", "positional")
NO_PROGRAM = "no candidate comes from a program: no program is known or was to be tried"
SHADES = ("#35424e", "#5f6b77", "#8e99a4", "#bcc5cd", "#d1542c")


def rows(result: Inference) -> list[list[str]]:
    """Header and lines of the table: R by parts, and what a model says of the lengths above n/2.

    A line for each T_n, and one with n in brackets for the best fitted model that comes from elsewhere than it.
    """
    table = [["n", "fitted on", *PARTS, "R", "agreement", "95% interval", "tested on", "shape", "found"]]
    for finding in result.findings:
        table.append(_row(finding, finding.best) if finding.best else _not_fitted(finding))
        table += [_row(finding, other, f"({finding.n})") for other in _best_of_other_origin(finding)]
    return table


def _best_of_other_origin(finding: Finding) -> list[Candidate]:
    others = [c for c in finding.candidates if c.regularizer and c.origin != finding.best.origin]
    return sorted(others, key=lambda candidate: candidate.regularizer.total)[:1]


def _not_fitted(finding: Finding) -> list[str]:
    steps = sum(candidate.steps for candidate in finding.candidates)
    where = ["-", "-", finding.tested_on, "-", f"not in {steps:,} steps"]
    return [str(finding.n), finding.fitted_on, *"-----", "not fitted", *where]


def _row(finding: Finding, candidate: Candidate, n: str | None = None) -> list[str]:
    low, high = wilson_interval(candidate.right, candidate.asked)
    return [
        n or str(finding.n),
        finding.fitted_on,
        *(f"{part:.3g}" for part in parts(candidate.regularizer)),
        f"{candidate.regularizer.total:.1f}",
        percentage(candidate.agreement),
        "exact" if finding.exhaustive[1] else f"{percentage(low)} to {percentage(high)}",
        finding.tested_on,
        str(candidate.shape),
        _found(candidate),
    ]


def _found(candidate: Candidate) -> str:
    """Where a model comes from, in words."""
    origin = "from the program" if candidate.origin == "program" else f"in {candidate.steps:,} steps"
    return origin if candidate.found_at is None else f"{origin}, at n = {candidate.found_at}"


def parts(terms: Regularizer) -> tuple[float, ...]:
    """R(T) in the five ``PARTS``."""
    return terms.size, terms.precision, terms.value_rank, terms.norms, terms.positional


def sentences(result: Inference) -> list[str]:
    """What was found, and whether it is what the theorem says of a task in the class or of one outside it."""
    missed = [str(finding.n) for finding in result.findings if finding.best is None]
    found = [finding for finding in result.findings if finding.best]
    has_program = any(c.origin == "program" for f in result.findings for c in f.candidates)
    origin, lines = [] if has_program else [NO_PROGRAM], []
    if missed:
        lines.append(f"no exact fit was found at n = {', '.join(missed)}: nothing is known of R there")
    if len(found) < 2:
        return [*lines, "fewer than two n were fitted, so that nothing can be said of how R grows", *origin]
    lines += [_found_sentence(result, found), *origin]
    expected = published(result.task, "ape").predicted
    inside = result.bounded and result.agrees
    if expected is None:
        return [*lines, f"the paper does not say whether {result.task} is in the class"]
    place = "in the class" if expected else "outside it"
    theorem = (
        "R stays bounded and agreement becomes 1" if expected else "not both does R stay bounded and agreement become 1"
    )
    verdict = "as found here" if inside == expected else "not found here, up to this n"
    return [*lines, f"the paper has {result.task} {place}: in the limit {theorem}; {verdict}"]


def _found_sentence(result: Inference, found: list[Finding]) -> str:
    totals, last = [finding.best.regularizer.total for finding in found], found[-1]
    growth = "by at most a tenth" if result.bounded else "by more than a tenth"
    grew = f"R went from {totals[0]:.1f} to {totals[-1]:.1f} over n = {found[0].n} to {last.n}, at last up {growth}"
    origin = "comes from the task's program" if last.best.origin == "program" else "was trained"
    lengths = f"lengths {last.n // 2 + 1} to {last.n}"
    return f"{grew}; T_{last.n} {origin} and is right on {percentage(last.best.agreement)} of {lengths}"


def save_figure(results: Sequence[Inference], path: Path) -> None:
    """R and agreement against n, one line a task, and below the parts of R, one panel a task."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(max(8.0, 2.7 * len(results)), 6.8), dpi=150, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    left, right = upper.subplots(1, 2)
    for result, colour in zip(results, COLOURS, strict=False):
        _draw_lines(left, right, result, colour)
    _finish(left, "R of the best $T_n$ found", results)
    left.set_ylim(bottom=0)
    left.plot([], [], linestyle="none", marker="o", color=GREY, label="trained")
    left.plot([], [], linestyle="none", marker="s", color=GREY, label="from the program")
    left.plot([], [], linestyle="none", marker=".", markersize=4, color=GREY, label="other exact fits")
    left.plot([], [], linestyle="none", marker="x", color=GREY, label="no exact fit found")
    _finish(right, "strings of lengths above n/2, up to n, that $T_n$ gets right", results)
    right.set_ylim(-0.03, 1.05)
    right.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0%", "25%", "50%", "75%", "100%"])
    upper.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    panels = lower.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, result in zip(panels, results, strict=True):
        _draw_parts(axes, result)
    panels[0].set_ylabel("parts of R")
    lower.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    write_figure(figure, path)


def _draw_lines(left, right, result: Inference, colour: str) -> None:
    found = [finding for finding in result.findings if finding.best]
    sizes = [finding.n for finding in found]
    left.plot(sizes, [finding.best.regularizer.total for finding in found], color=colour, label=result.task)
    right.plot(sizes, [finding.best.agreement for finding in found], color=colour)
    for finding in found:
        marker = "s" if finding.best.origin == "program" else "o"
        left.plot(finding.n, finding.best.regularizer.total, marker=marker, color=colour)
        right.plot(finding.n, finding.best.agreement, marker=marker, color=colour)
        for other in finding.candidates:  # every fitted one, small
            if other.regularizer:
                small = dict(linestyle="none", marker=".", markersize=3, color=colour, alpha=0.6)
                left.plot(finding.n, other.regularizer.total, **small)
                right.plot(finding.n, other.agreement, **small)
    intervals = [
        (f.best.agreement,) * 2 if f.exhaustive[1] else wilson_interval(f.best.right, f.best.asked) for f in found
    ]
    right.fill_between(sizes, *zip(*intervals, strict=True), color=colour, alpha=0.18, linewidth=0) if found else None
    missed = [finding.n for finding in result.findings if not finding.best]
    if missed:
        left.plot(missed, [0] * len(missed), linestyle="none", marker="x", color=colour, clip_on=False)


def _draw_parts(axes, result: Inference) -> None:
    found = [(place, finding.best) for place, finding in enumerate(result.findings) if finding.best]
    places, bottom = [place for place, _ in found], [0.0] * len(found)
    for index, (name, shade) in enumerate(zip(PARTS, SHADES, strict=True)):
        heights = [float(parts(best.regularizer)[index]) for _, best in found]
        axes.bar(places, heights, bottom=bottom, color=shade, width=0.65, label=name)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    for index, finding in enumerate(result.findings):
        if not finding.best:
            note = dict(xytext=(0, 4), textcoords="offset points", rotation=90, ha="center", va="bottom")
            axes.annotate("not fitted", (index, 0), fontsize=8, color=GREY, **note)
    axes.set_xlim(-0.6, len(result.findings) - 0.4)
    axes.set_xticks(range(len(result.findings)), [str(finding.n) for finding in result.findings])
    axes.set_title(result.task, fontsize=9)
    axes.set_xlabel("n", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _finish(axes, title: str, results: Sequence[Inference]) -> None:
    sizes = sorted({finding.n for result in results for finding in result.findings})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("n; fitted on lengths up to n/2", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(axis="y", color="#d9dee3", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
