"""``lengen phi``: products of positions on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from lengen_fast.progress import StepReport
from lengen_fast.reporting import check_figure_name
from lengen_fast.runs import RunDirectory
from lengen_fast.theory import product_figure
from lengen_fast.theory.product_functions import Learned, Protocol, head_products, learn
from lengen_fast.theory.targets import NAMED, expression

WIDTHS = (32, 256)
EXPERIMENT_OPTIONS = ("targets", "widths", "steps", "seed")


def phi(options: argparse.Namespace) -> tuple[dict, list[list[str]], list[str]]:
    """Learn or show, and draw; what to print: JSON values, a table, and sentences."""
    check_figure_name(options.out)
    return _shown(options) if options.run is not None else _learned(options)


def _shown(options: argparse.Namespace) -> tuple[dict, list[list[str]], list[str]]:
    for name in EXPERIMENT_OPTIONS:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} goes with learning, not with the products of a run: leave it out")
    directory = RunDirectory.open(options.run)
    model, _ = directory.load_model()
    heads = head_products(model, options.reach, options.longest_period)
    trained = directory.config["train"]["length"][1]
    window = directory.task.tokens_at(trained) if isinstance(trained, int) else None
    product_figure.save_heads(heads, window, Path(options.out))
    content = {"directory": options.run, "figure": options.out, "heads": [head.as_dict() for head in heads]}
    note = f"root mean square over pairs j <= i of the first {heads[0].positions} positions, in logits"
    return content, product_figure.head_rows(heads), [note, f"figure: {options.out}"]


def _learned(options: argparse.Namespace) -> tuple[dict, list[list[str]], list[str]]:
    targets = [expression(target) for target in options.targets or NAMED]
    settings = {name: getattr(options, name) for name in ("steps", "seed") if getattr(options, name) is not None}
    protocols = [Protocol(width=width, **settings) for width in options.widths or WIDTHS]
    results = list(_learn_all(targets, protocols, options))
    product_figure.save_learned(results, Path(options.out))
    content = {"figure": options.out, "results": [result.as_dict() for result in results]}
    note = (
        "losses: mean squared error over pairs j <= i in windows of 50 (as trained), 100 and 150 positions; "
        "parts: root mean square in logits"
    )
    return content, product_figure.learned_rows(results), [note, f"figure: {options.out}"]


def _learn_all(targets: list[str], protocols: list[Protocol], options: argparse.Namespace) -> Iterator[Learned]:
    split = dict(reach=options.reach, longest_period=options.longest_period)
    done = 0
    with StepReport("learning", len(targets) * sum(protocol.steps for protocol in protocols)) as report:
        for target in targets:
            for protocol in protocols:
                note, begun = f"{target}, width {protocol.width}", done
                yield learn(target, protocol, **split, observer=lambda step, b=begun, n=note: report(b + step, n))
                done += protocol.steps
