"""Which devices there are here."""

from __future__ import annotations

import torch


def check_device(device: str | torch.device) -> None:
    """Raise a ValueError if there is no such device here."""
    try:
        torch.empty(0, device=device)
        there = torch.device(device).type != "meta"
    except (RuntimeError, AssertionError, NotImplementedError):
        there = False
    if not there:
        found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ValueError(f"there is no device {str(device)!r} here: choose one of {', '.join(found)}")
