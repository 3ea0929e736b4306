"""A compiled model as one safetensors file: weights, shape, guarantee and program."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lengen_fast.model import ModelConfig
from lengen_fast.runs import RunError, write_atomically
from lengen_fast.theory.compiler.compile import CompiledTransformer, Guarantee

if TYPE_CHECKING:
    from lengen_fast.theory.crasp.program import Program

FORMAT = "lengen compiled program 1"


def save(model: CompiledTransformer, program: Program, path: str | Path) -> None:
    """Write a model and the program it was compiled from.

    Raises:
        RunError: the file cannot be written.
    """
    from safetensors.torch import save as serialize

    content = {"config": model.config.as_dict(), "guarantee": asdict(model.guarantee), "program": str(program)}
    metadata = {"format": FORMAT, **{name: json.dumps(value) for name, value in content.items()}}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_atomically(Path(path), serialize(tensors, metadata))


def load(path: str | Path) -> tuple[CompiledTransformer, Program]:
    """What ``save`` wrote.

    Raises:
        RunError: there is no such file, or it is something else.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from lengen_fast.theory.crasp import parse

    try:
        with safe_open(Path(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read as a compiled program: {error}") from error
    if metadata.get("format") != FORMAT:
        raise RunError(f"{path} is no compiled program: write one with lengen crasp compile --out")
    guarantee = Guarantee(**json.loads(metadata["guarantee"]))
    model = CompiledTransformer(ModelConfig(**json.loads(metadata["config"])))
    model = model.to(getattr(torch, guarantee.dtype))
    model.load_state_dict(tensors)
    model.guarantee = guarantee
    return model.eval(), parse(json.loads(metadata["program"]))
