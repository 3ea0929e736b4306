"""The run directory: configuration, metrics, checkpoint and weights of one training run, never half written.

    config.json           task, model and training settings, versions, commit; with a digest of them all
    metrics.jsonl         one JSON object a line: losses and in-range tests
    checkpoint.safetensors  while training: weights, optimizer state, position in the data; gone when training ends
    weights.safetensors   the final weights
    accuracy.json, accuracy.png   written by ``lengen run`` after evaluation

Every file is written under another name, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy
import torch
from torch import Tensor

from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.tasks import Task, from_definition

FORMAT = 1

_MISPLACED = (FileNotFoundError, NotADirectoryError, PermissionError)  # room does not help


class RunError(Exception):
    """A run directory that cannot be read or written; the message says which file and what to do."""


class RunDirectory:
    """One run on disk. Use ``create`` or ``open``.

    Attributes:
        path: the directory.
        config: content of config.json.
    """

    def __init__(self, path: Path, config: dict):
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: str | os.PathLike, settings: dict) -> RunDirectory:
        """Start a run in a new directory (an empty one will do).

        Args:
            path: where; parents are made.
            settings: JSON values with the keys task, model, train and seed, and whatever else belongs to the run.

        Raises:
            ValueError: the directory holds something already.
            RunError: it cannot be written.
        """
        path = Path(path)
        if path.is_dir() and any(path.iterdir()):
            advice = (
                "continue it with --resume, or choose another" if (path / "config.json").exists() else "choose another"
            )
            raise ValueError(f"{path} exists and is not empty: {advice} directory with --out")
        config = {
            "format": FORMAT,
            **settings,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions(),
            "commit": commit(),
        }
        config["digest"] = _digest(config)
        existed = path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"could not make the directory {path}: {error.strerror}") from error
        try:
            write_atomically(path / "config.json", _as_json(config), new=True)
        except FileExistsError:
            raise ValueError(f"{path} was taken by another process a moment ago: choose another directory") from None
        except RunError:
            if not existed:
                path.rmdir()
            raise
        return cls(path, config)

    @classmethod
    def open(cls, path: str | os.PathLike) -> RunDirectory:
        """Read the configuration of an existing run.

        Raises:
            RunError: there is no run, or config.json is damaged, edited or of another format.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RunError(f"{path} is not a run directory: it has no config.json")
        config = read_json(path / "config.json")
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise RunError(f"{path}/config.json is not of format {FORMAT}: it was written by another version")
        if config.get("digest") != _digest(config):
            raise RunError(f"{path}/config.json was edited after the run began: restore it, or train again elsewhere")
        return cls(path, config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing this run; the system lets go when this process ends, however it ends.

        Raises:
            RunError: another process writes it.
        """
        with open(self.path / "config.json", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path} is being trained by another process: wait for it or stop it") from None
            yield

    @property
    def task(self) -> Task:
        """The task with the alphabet and the labels of the run."""
        return from_definition(self.config["task"])

    @property
    def model_config(self) -> ModelConfig:
        """The shape of the model."""
        return ModelConfig(**self.config["model"])

    @property
    def finished(self) -> bool:
        """Whether training has ended and the final weights are there."""
        return (self.path / "weights.safetensors").exists()

    def save_weights(self, model: Transformer, state: dict) -> None:
        """Write the final weights with ``state`` (JSON values such as step and fitted) and drop the checkpoint."""
        self._save_tensors("weights.safetensors", model.state_dict(), state)
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def load_model(self, device: str | torch.device = "cpu") -> tuple[Transformer, dict]:
        """The trained model on ``device``, in evaluation mode, and the state saved with it.

        Raises:
            RunError: training has not ended, or the weights are damaged or of another run.
        """
        if not self.finished:
            raise RunError(f"{self.path} has no weights.safetensors: finish its training with --resume first")
        tensors, state = self._load_tensors("weights.safetensors")
        model = Transformer(self.model_config)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise RunError(f"{self.path}/weights.safetensors does not fit the model in config.json") from error
        return model.to(device).eval(), state

    def save_checkpoint(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Replace the checkpoint by these tensors and JSON values."""
        self._save_tensors("checkpoint.safetensors", tensors, state)

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict] | None:
        """What ``save_checkpoint`` wrote last; None if there is no checkpoint yet."""
        if not (self.path / "checkpoint.safetensors").exists():
            return None
        return self._load_tensors("checkpoint.safetensors")

    def append_metrics(self, line: dict) -> None:
        """Add one line to metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise _write_error(path, error) from error

    def read_metrics(self) -> list[dict]:
        """Every whole line of metrics.jsonl; a last line cut short by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        if not all(isinstance(line, dict) and "step" in line for line in lines):
            raise RunError(f"{path} is damaged: every line must be an object with a step")
        return lines

    def discard_leftovers(self) -> None:
        """Drop what a killed process was writing when it died."""
        for path in self.path.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        if self.finished:
            (self.path / "checkpoint.safetensors").unlink(missing_ok=True)

    def discard_if_unsaved(self) -> None:
        """Remove a run that saved nothing to go on from, so that its name is free again."""
        if any((self.path / name).exists() for name in ("checkpoint.safetensors", "weights.safetensors")):
            return
        for name in ("metrics.jsonl", "config.json"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files stay, and the directory with them
            self.path.rmdir()

    def rewind_metrics(self, step: int) -> list[dict]:
        """Drop the lines after ``step``, which a resumed run will write again; return those kept."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())
        return kept

    def _save_tensors(self, name: str, tensors: dict[str, Tensor], state: dict) -> None:
        from safetensors.torch import save  # here, so that kernels and benchmarks need nothing but PyTorch

        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        header = {"digest": self.config["digest"], "state": state, "checksum": _checksum(tensors, state)}
        # one entry: safetensors writes several in no fixed order, and equal runs should give equal files
        write_atomically(self.path / name, save(tensors, {"run": json.dumps(header)}))

    def _load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict]:
        from safetensors import SafetensorError, safe_open

        path = self.path / name
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["run"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            digest, state, checksum = (header[key] for key in ("digest", "state", "checksum"))
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise RunError(f"{path} is damaged and cannot be read: {error}") from error
        if digest != self.config["digest"]:
            raise RunError(f"{path} belongs to another run than the config.json beside it")
        if checksum != _checksum(tensors, state):
            raise RunError(f"{path} is damaged: its content does not match its checksum")
        return tensors, state


def write_atomically(path: Path, content: bytes, new: bool = False) -> None:
    """Write a file under another name, flush it to disk and rename it; on failure the old file stays and no other.

    Where ``path`` is a link, the file that it points to is written.

    Raises:
        FileExistsError: with ``new``, the file is there already.
        RunError: the disk is full, something else than a file has this name, or the file cannot be written for another
            reason.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise RunError(f"could not write {path}: it is not a file; choose another place")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(temporary, target)  # which never replaces
        else:
            os.replace(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """``write_atomically`` of indented JSON."""
    write_atomically(path, _as_json(content))


def _as_json(content: dict) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def read_json(path: Path) -> dict:
    """Content of a JSON file.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    for name in ("lengen-fast", "triton"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of this package's source, with '+' behind it when the tree is changed; None outside a checkout."""
    source = Path(__file__).resolve().parent
    command = ["git", "-C", str(source), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(source), "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
        )
        if tracked.returncode:
            return None
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _digest(config: dict) -> str:
    content = {key: value for key, value in config.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(tensors: dict[str, Tensor], state: dict) -> str:
    """SHA-256 of every name, value and the state: safetensors itself notices only a damaged header."""
    sha = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _write_error(path: Path, error: OSError) -> RunError:
    remedy = "choose another place" if isinstance(error, _MISPLACED) else "make room there or choose another place"
    return RunError(f"could not write {path}: {error.strerror or error}; {remedy}")
