"""The seventeen regular languages of the paper, with learned positions and without, beside its figures and predictions.

Claim: languages with a C-RASP program (C-RASP[periodic, local] with positions, C-RASP without) are learned from strings
up to 50 and stay right at longer ones; others do not. One small model each (2 layers, 4 heads, width 64, up to 10,000
steps, stopped at 100% in range), one seed, tested on the three bins of the paper and at 512 and 2,048. With learned
positions each is trained twice: with a table for the bins, as the paper has it, and with one for 2,048.

The published figures are of other strings: the published test sets of one-letter languages have 7 to 25 strings, the
third bin of the Tomita languages repeats the range of the second, bins of ab_d_bc and last_zero include short strings,
and labels of two-symbol languages were numbered anew for each string, which made them noisy. Here none of that is so.

Takes some three hours on one core, beside other work. Each run is resumable: the same command goes on where it stopped,
and ``--finished`` records the runs that have ended already. ``--quick`` trains two languages for 200 steps. A figure
goes beside the record.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from benchmarks.plans import Plan, is_finished, result, trained_and_tested
from lengen_fast import task
from lengen_fast.runs import write_atomically

FIGURE = Path(__file__).parent / "results" / "languages.png"
LANGUAGES = (
    *("tomita_1", "tomita_2", "tomita_4", "tomita_7", "dyck_depth_2", "dyck_depth_3", "dyck_depth_4", "dyck_depth_12"),
    *("ordered_blocks", "ab_d_bc", "aa_star", "aaaa_star", "abab_star"),
    *("tomita_3", "tomita_5", "tomita_6", "last_zero"),
)
KINDS = (("nope", (512, 2048)), ("ape", ()), ("ape", (512, 2048)))
TITLES = ("NoPE", "APE, the paper's table", "APE, 2,050 positions")
MODEL = dict(layers=2, heads=4, width=64)


def run(quick: bool, finished: bool = False) -> dict:
    """Train and test every plan that is not there yet, or with ``finished`` take those that are; one result a run."""
    languages = LANGUAGES[1:3] if quick else LANGUAGES
    folder = "languages-quick" if quick else "languages"
    plans = [_plan(language, *kind, quick) for kind in KINDS for language in languages]
    if finished:
        plans = [plan for plan in plans if is_finished(plan, folder)]
    results = [result(plan, trained_and_tested(plan, folder)) for plan in plans]
    if not quick:
        save_figure(results, FIGURE)
    return {"runs": results}


def _plan(language: str, positions: str, longer: tuple[int, ...], quick: bool) -> Plan:
    bins = ((task(language).min_length, 50), (51, 100), (101, 150))
    return Plan(language, positions, 0, bins, longer, MODEL, dict(steps=200 if quick else 10_000, test_every=500))


def save_figure(results: list[dict], path: Path) -> None:
    """Exact match of every language (rows) at every length (columns), one panel a kind; published figures in small."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(KINDS), sharey=True, width_ratios=[5, 3, 5])
    for (positions, longer), title, axes in zip(KINDS, TITLES, panels, strict=True):
        rows = [_of(results, language, positions, bool(longer)) for language in LANGUAGES]
        _draw_panel(axes, rows, 3 + len(longer), title)
    panels[0].set_yticks(range(len(LANGUAGES)), LANGUAGES, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())


def _of(results: list[dict], language: str, positions: str, has_longer: bool) -> dict | None:
    """The result of that run, if it is there."""
    lengths = 5 if has_longer else 3
    found = [each for each in results if (each["task"], each["positions"]) == (language, positions)]
    return next((each for each in found if len(each["lines"]) == lengths), None)


def _draw_panel(axes, rows: list[dict | None], columns: int, title: str) -> None:
    shares = np.array([[line["exact"] for line in row["lines"]] if row else [np.nan] * columns for row in rows])
    axes.imshow(shares, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(rows):
        if row is None:
            continue
        for x, share in enumerate(shares[y]):
            axes.text(x, y - 0.12, f"{100 * share:.4g}", ha="center", va="center", fontsize=8)
            if row["published"] is not None and x < len(row["published"]):
                axes.text(x, y + 0.27, f"({100 * row['published'][x]:.4g})", ha="center", va="center", fontsize=6)
        mark = {True: "yes", False: "no", None: "?"}[row["predicted"]]
        axes.text(shares.shape[1] - 0.42, y, mark, ha="left", va="center", fontsize=8)
    labels = ["to 50", "51-100", "101-150", "512", "2,048"][: shares.shape[1]]
    axes.set_xticks(range(shares.shape[1]), labels, fontsize=8)
    axes.tick_params(length=0)
    axes.set_title(f"{title}\n% exact match (published), prediction", fontsize=9)
    axes.spines[:].set_visible(False)
