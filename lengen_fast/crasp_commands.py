"""``lengen crasp check | run | compile``: programs of C-RASP[periodic, local] on the command line."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lengen_fast.printing import print_table

if TYPE_CHECKING:
    from lengen_fast.lengths import Length
    from lengen_fast.tasks import Task
    from lengen_fast.theory.crasp import Program

TESTED_STRINGS = 8
LONGEST_TEST = 1024  # tokens, unless asked otherwise


def check(options: argparse.Namespace) -> None:
    """What a program uses, and with a task how often it is right."""
    if options.length is not None and options.task is None:
        raise ValueError("--length is of the strings of a task: add --task, or leave it out")
    program, task = program_and_task(options)
    properties = program.properties
    facts = {
        "fragment": properties.fragment,
        "depth": properties.depth,
        "period": properties.period,
        "reach": properties.reach,
        "positive": properties.positive,
        "alphabet": list(program.alphabet),
        "lines": len(program.lines),
        "outputs": list(program.outputs),
        "unused": list(properties.unused),
    }
    if task is not None:
        facts["right"] = _right(program, task, options)
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    facts |= {"alphabet": _listing(facts["alphabet"]), "outputs": _listing(facts["outputs"])}
    facts["positive"] = "yes" if facts["positive"] else "no"
    facts["unused"] = _listing(facts["unused"]) or "nothing"
    right = facts.pop("right", None)
    _print_facts(facts)
    for line in right or ():
        print(f"right on {line['right']} of {line['strings']} strings of {task.name}, {line['distribution']}")


def run(options: argparse.Namespace) -> None:
    """Values of a program at every position of a string."""
    program, _ = program_and_task(options)
    tokens = program.encode(" ".join(options.tokens))
    values = program.run(tokens, options.offset)
    names = [program.vocabulary[token] for token in tokens]
    if options.json:
        print(json.dumps({"tokens": names, "outputs": {name: x.tolist() for name, x in values.items()}}, indent=2))
        return
    rows = [["position", "token", *_columns(program)]]
    for place, name in enumerate(names):
        rows.append([str(place + options.offset), name, *_values(program, values, place)])
    print_table(rows)


def compile_(options: argparse.Namespace) -> None:
    """A program as a transformer: its shape, its guarantee, and a test beside the interpreter."""
    import torch

    from lengen_fast.evaluation import evaluate
    from lengen_fast.theory import compiler

    if options.lengths is not None and options.task is None:
        raise ValueError("--lengths are of the strings of a task: add --task, or leave them out")
    if options.test_length is not None and options.test_length < 1:
        raise ValueError(f"--test-length is {options.test_length}; it must be 1 or more")
    program, task = program_and_task(options)
    lengths = options.lengths or (None if task is None else [_longest_range(task, options.max_length)])
    dtype = getattr(torch, options.dtype)
    model = program.compile(options.max_length, dtype)
    for each in options.lengths or ():
        _check_guaranteed(task, each, model.guarantee.tokens)
    length = min(options.max_length, LONGEST_TEST if options.test_length is None else options.test_length)
    tested = compiler.verify(program, model, length, TESTED_STRINGS)
    facts = {**asdict(model.guarantee), "tested": {"length": length, **asdict(tested)}}
    if task is not None:
        model = program.compile(options.max_length, dtype, task)
        table = evaluate(model, task, lengths, offsets="random")
        facts["task"] = table.as_dict()
    if options.out is not None:
        compiler.save(model, program, options.out)
        facts["file"] = options.out
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        _print_compiled(facts)
    if tested.wrong:
        raise RuntimeError(f"the model differs from the program after {tested.first_wrong} tokens")


# ---- reading ----


def program_and_task(options: argparse.Namespace) -> tuple[Program, Task | None]:
    """The program of a file, or of the standard library, over the alphabet that was asked for."""
    from lengen_fast.tasks import task as find_task
    from lengen_fast.theory import crasp

    task = None if getattr(options, "task", None) is None else find_task(options.task)
    text = _text(options.file)
    alphabet = None if options.alphabet is None else options.alphabet.split()
    if alphabet == []:
        raise ValueError("--alphabet is empty; give symbols with spaces between them, such as --alphabet 'a b'")
    if alphabet is None and crasp.standard.is_template(text):
        alphabet = _alphabet_of_template(options.file, task)
    program = crasp.parse(text, alphabet)
    if task is not None:
        crasp.bridge.check_alphabet(program, task)
    return program, task


def _text(file: str) -> str:
    from lengen_fast.theory.crasp import standard

    path = Path(file)
    if not path.exists() and path.name == file:
        try:
            return standard.source(file)
        except ValueError as error:
            raise ValueError(f"there is no file {file!r}, and {error}") from None
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"the program {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error


def _alphabet_of_template(file: str, task: Task | None) -> tuple[str, ...] | None:
    """That of the task, or for a program of the standard library of its own task."""
    import lengen_fast as lf
    from lengen_fast.theory.crasp import bridge

    if task is None and file in lf.tasks():
        task = lf.task(file)
    return None if task is None else bridge.input_symbols(task)


def _right(program: Program, task: Task, options: argparse.Namespace) -> list[dict]:
    from lengen_fast.theory.crasp import bridge

    low, high = options.length or task.usual_lengths
    found = []
    for distribution in getattr(task, "distributions", ("paper", "hard")):
        batch = task.sample(options.count, (low, high), options.seed, distribution, context=2 * task.tokens_at(high))
        right = bridge.correct_positions(program, task, batch)
        strings = batch.selection.packing.sequence_of_row[~right].unique()
        found.append(
            {
                "distribution": distribution,
                "strings": batch.rows,
                "right": batch.rows - len(strings),
                "length": [low, high],
            }
        )
    return found


def _check_guaranteed(task: Task, length: Length, guaranteed: int) -> None:
    """Raise a ValueError for strings that are longer than the model is sure to be right on."""
    from lengen_fast.lengths import bounds, label

    low, high = bounds(length)
    task.check_lengths(low, high)
    tokens = task.tokens_at(high)
    if tokens > guaranteed:
        raise ValueError(
            f"--lengths has {label(length)}, whose strings have up to {tokens:,} tokens; the model is guaranteed for "
            f"{guaranteed:,}: shorten them"
        )


def _longest_range(task: Task, tokens: int) -> tuple[int, int]:
    """The lengths up to 50 whose strings fit into so many tokens."""
    fits = [n for n in task.reachable(task.min_length, min(50, task.max_length)) if task.tokens_at(n) <= tokens]
    if not fits:
        raise ValueError(
            f"--max-length is {tokens}; strings of {task.name} need {task.tokens_at(task.min_length)} tokens"
        )
    return fits[0], fits[-1]


# ---- printing ----


def _columns(program: Program) -> list[str]:
    return ["next"] if set(program.outputs) <= set(program.next_names) else list(program.outputs)


def _values(program: Program, values: dict, place: int) -> list[str]:
    if _columns(program) != ["next"]:
        return [str(value[place]).lower() for value in values.values()]
    pairs = zip(program.next_symbols, program.next_names, strict=True)
    return [" ".join(symbol for symbol, name in pairs if name in values and values[name][place]) or "-"]


def _print_compiled(facts: dict) -> None:
    tested = facts["tested"]
    _print_facts(
        {
            "guarantee": f"exact up to {facts['tokens']:,} tokens in {facts['dtype']}",
            "counts": facts["counts"],
            "counting depth": facts["depth"],
            "layers": facts["layers"],
            "heads": f"{facts['heads']} of width {facts['head_width']}",
            "width": facts["width"],
            "MLP units": facts["units"],
            "tested": f"{tested['tokens'] - tested['wrong']:,} of {tested['tokens']:,} positions right, "
            f"{tested['strings']} strings of {tested['length']:,} tokens",
        }
    )
    for line in facts.get("task", {"lines": ()})["lines"]:
        print(
            f"{facts['task']['task']} {line['low']}:{line['high']}: {line['correct']} of {line['count']} strings right"
        )
    if "file" in facts:
        print(f"written: {facts['file']}")


def _print_facts(facts: dict) -> None:
    print_table([[f"{name}:", str(value)] for name, value in facts.items()])


def _listing(names: list[str], most: int = 20) -> str:
    return " ".join([*names[:most], *([f"... ({len(names)})"] if len(names) > most else [])])
