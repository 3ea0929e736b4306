"""The paper's protocol reproduced on a CPU, and beyond its bins.

Claim: trained as arXiv 2410.02140 trained (strings up to 50, its settings, stop at 100% in range), binary_majority,
majority and unique_copy reach the published accuracies in the bins 51-100 and 101-150, which are shown beside ours; and
the same models are tested at about 512 and 4,096 tokens. Without positions any length may be asked of a model; with
learned positions the table must be that long from the start, so those runs are trained twice: with the paper's table
for its bins, and with a table (and random offsets) of 4,100 positions for the longer lengths.

Takes hours on two cores. Each run is resumable: the same command goes on where it stopped. ``--quick`` trains
binary_majority alone, one seed of each kind. A figure goes beside the record.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.plans import Plan, result, trained_and_tested
from lengen_fast import reporting

FIGURE = Path(__file__).parent / "results" / "extrapolation.png"
BINS = ((1, 50), (51, 100), (101, 150))
LONGER = (512, 4096)
LONGER_COPIES = (254, 2046)  # strings of 511 and 4,095 tokens

PLANS = (
    *(Plan("binary_majority", "ape", seed, BINS) for seed in range(5)),
    *(Plan("binary_majority", "ape", seed, BINS, LONGER) for seed in range(5)),
    *(Plan("binary_majority", "nope", seed, BINS, LONGER) for seed in range(5)),
    *(Plan("majority", "nope", seed, BINS, LONGER) for seed in range(5)),
    Plan("unique_copy", "ape", 0, BINS),
    Plan("unique_copy", "ape", 0, BINS, LONGER_COPIES),
)


def run(quick: bool) -> dict:
    """Train and test every plan that is not there yet; one result a run."""
    plans = [plan for plan in PLANS if plan.task == "binary_majority" and plan.seed == 0] if quick else PLANS
    directories = [trained_and_tested(plan, "extrapolation") for plan in plans]
    if not quick:
        reporting.save_figure([reporting.outcome(directory) for directory in directories], FIGURE)
    return {"runs": [result(plan, directory) for plan, directory in zip(plans, directories, strict=True)]}
