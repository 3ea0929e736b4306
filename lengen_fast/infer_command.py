"""``lengen infer``: the idealized inference on the command line."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path

from lengen_fast.printing import print_table
from lengen_fast.progress import StepReport
from lengen_fast.runs import RunDirectory, RunError, write_json
from lengen_fast.tasks import Task
from lengen_fast.tasks import task as find_task
from lengen_fast.theory import inference, inference_report
from lengen_fast.theory.candidates import DirectoryStore
from lengen_fast.theory.inference import Inference, Search

SIZES = (8, 16, 32)
SEARCH_OPTIONS = {"seeds": "seeds", "steps": "fit_steps", "rounds": "rounds"}


def infer(options: argparse.Namespace) -> tuple[dict, list[list[str]], list[str]]:
    """Search, write the result beside its candidates; what to print: JSON values, a table, and sentences."""
    options.out = options.out or f"runs/infer-{options.task}"
    directory = _resumed(options) if options.resume else _begun(options)
    task, search, sizes = directory.task, Search.from_dict(directory.config["search"]), directory.config["sizes"]
    store = DirectoryStore(directory.path, task, search.training)
    try:
        with directory.locked(), StepReport("searching", inference.most_steps(sizes, search)) as report:
            result = inference.infer(task, sizes, search, store=store, observer=report)
    except KeyboardInterrupt:
        command = ["lengen", "infer", task.name, "--out", str(options.out), "--resume"]
        raise KeyboardInterrupt(f"go on with: {shlex.join(command)}") from None
    return _written(result, directory.path)


def _written(result: Inference, path: Path) -> tuple[dict, list[list[str]], list[str]]:
    sentences = inference_report.sentences(result)
    content = {"directory": str(path), **result.as_dict(), "sentences": sentences}
    write_json(path / "inference.json", content)
    inference_report.save_figure([result], path / "inference.png")
    return content, inference_report.rows(result), [*sentences, f"figure: {path / 'inference.png'}"]


def _begun(options: argparse.Namespace) -> RunDirectory:
    sizes = list(options.sizes or SIZES)
    task = _task(options, sizes)
    given = {field: getattr(options, name) for name, field in SEARCH_OPTIONS.items()}
    search = replace(Search(), **{field: value for field, value in given.items() if value is not None})
    inference.check_sizes(task, sizes)
    symbols = task.symbols.count if task.alphabet_grows else None
    settings = {"task": {"name": task.name, "symbols": symbols}, "sizes": sizes, "search": search.as_dict()}
    return RunDirectory.create(options.out, settings)


def _task(options: argparse.Namespace, sizes: list[int]) -> Task:
    task = find_task(options.task, symbols=options.symbols)
    if options.symbols is None and task.alphabet_grows:
        return find_task(options.task, symbols=max(sizes))
    return task


def _resumed(options: argparse.Namespace) -> RunDirectory:
    directory = RunDirectory.open(options.out)
    config = directory.config
    if "sizes" not in config:
        raise RunError(f"{options.out} is no search of lengen infer: choose another directory with --out")
    stored = {"task": config["task"]["name"], "symbols": config["task"]["symbols"], "sizes": config["sizes"]}
    stored |= {name: config["search"][field] for name, field in SEARCH_OPTIONS.items()}
    for name, value in stored.items():
        asked = getattr(options, name)
        if asked is not None and asked != value:
            option = "TASK" if name == "task" else f"--{name}"
            raise ValueError(f"{options.out} was begun with {option} {value}, not {asked}: leave it out, or start anew")
    return directory


def show(options: argparse.Namespace, content: dict, rows: list[list[str]], sentences: list[str]) -> None:
    """Print a result as JSON, or as a table with sentences below it."""
    if options.json:
        print(json.dumps(content, indent=2))
        return
    print_table(rows)
    print("", *sentences, sep="\n")
