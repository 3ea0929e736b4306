"""Which functions of two positions a product p_i^T W p_j learns beyond the distances it was trained on.

The experiment of the appendix of arXiv 2410.02140, in its published settings: 200 positions, windows of 50 at random
offsets, widths 32 and 256, 15,000 steps, one seed. Losses are mean squared errors in windows of 50, 100 and 150
positions, beside the published ones; the learned products are split into a local part, a periodic part and what is
left. Seconds are the processor's.

What was learned is kept below ``runs/phi`` and not learned again; ``--quick`` learns two functions in 500 steps. A
figure goes beside the record.
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import record
from benchmarks.plans import RUNS
from lengen_fast.runs import write_atomically
from lengen_fast.theory import product_figure
from lengen_fast.theory.product_functions import Learned, Protocol, assess, learn
from lengen_fast.theory.targets import NAMED

FIGURE = Path(__file__).parent / "results" / "phi.png"
WIDTHS, QUICK_STEPS = (32, 256), 500


def run(quick: bool) -> dict:
    """Losses and parts of every target at every width."""
    targets = ("previous", "third") if quick else tuple(NAMED)
    settings = {"steps": QUICK_STEPS} if quick else {}
    learned = [_learned(name, Protocol(width=width, **settings)) for name in targets for width in WIDTHS]
    results = [result for result, _ in learned]
    headings, *rows = product_figure.learned_rows(results)
    print(record.table(headings, rows))
    if not quick:
        product_figure.save_learned(results, FIGURE)
    return {"results": [result.as_dict() | {"seconds": round(seconds, 1)} for result, seconds in learned]}


def _learned(name: str, protocol: Protocol) -> tuple[Learned, float]:
    """The products of a target, those that are there or learned now, and the seconds that it took."""
    path = RUNS / "phi" / f"{name}-width{protocol.width}-steps{protocol.steps}-seed{protocol.seed}.npz"
    if path.exists():
        with np.load(path) as content:
            return assess(name, protocol, torch.from_numpy(content["products"])), float(content["seconds"])
    print(f"learning {name}, width {protocol.width}", flush=True)
    began = time.process_time()
    result = learn(name, protocol)
    seconds = time.process_time() - began
    content = io.BytesIO()
    np.savez(content, products=result.products.numpy(), seconds=seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
    return result, seconds
