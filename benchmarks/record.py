"""What a benchmark leaves behind: a JSON record with commit, machine and versions, and the table a reader sees."""

from __future__ import annotations

import inspect
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

PACKAGES = ("lengen-fast", "torch", "triton", "numpy", "transformers", "accelerate")
SOURCE = Path(__file__).resolve().parents[1]


def surroundings() -> dict:
    """Commit, machine and versions. Take it before a benchmark begins: it tells how busy the machine is already."""
    return {"commit": commit(), "machine": machine(), "versions": versions()}


def write(directory: Path, name: str, claim: str, arguments: dict, surroundings: dict, results: dict) -> Path:
    """Write ``directory/name.json`` under another name and rename it; its path."""
    content = {
        "benchmark": name,
        "claim": inspect.cleandoc(claim),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "arguments": arguments,
        **surroundings,
        "results": results,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    temporary = directory / f".{name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(_narrow(json.dumps(content, indent=2, allow_nan=False)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _narrow(text: str) -> str:
    """Indented JSON with each innermost list or object on one line, if it fits there."""

    def one_line(match: re.Match) -> str:
        line = re.sub(r"\n *", " ", match[0])
        return match[1] + line[2:-2] + match[2] if len(line) <= 320 else match[0]

    return re.sub(r"([\[{])\n[^\[\]{}]*\n *([\]}])", one_line, text)


def commit() -> str | None:
    """The commit of this checkout, with '+' behind it when files differ from it; None outside a checkout."""
    command = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict:
    """Processor, cores this process may use, load of the last minute, and the GPU if there is one."""
    return {"cpu": _cpu(), "cores": cores(), "load": round(os.getloadavg()[0], 2), "gpu": gpu()}


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def gpu() -> str | None:
    """Name of the first GPU that PyTorch sees."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def table(headings: Sequence[str], rows: Sequence[Sequence]) -> str:
    """Aligned columns: text to the left, figures to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    figures = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headings))]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if figure else text.ljust(width)
            for text, width, figure in zip(texts, widths, figures, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(headings), line(["-" * width for width in widths]), *map(line, cells)])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
