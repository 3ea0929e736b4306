"""Where the time of a training step goes, by class of operation."""

from __future__ import annotations

from collections.abc import Callable

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

CLASSES = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "attention": ("scaled_dot_product",),
    "layer norm": ("layer_norm",),
    "activation": ("gelu", "tanh", "pow"),
    "loss": ("softmax", "nll_loss", "cross_entropy"),
    "rows: gather, scatter, embedding": ("index", "embedding", "gather", "scatter", "repeat_interleave"),
    "optimizer and clipping": ("adamw", "norm", "foreach"),
    "sums of rows": ("sum",),
    "memory: fill, copy, concatenate": ("fill_", "copy_", "cat", "zero_", "clone"),
    "element by element": ("add", "mul", "sub", "div", "where", "le", "masked"),
}
OUR_KERNELS = {
    "eager": "attention",
    "eagerbackward": "attention",
    "_gelu": "activation",
    "_gelubackward": "activation",
    "_embed": "rows: gather, scatter, embedding",
    "_embedbackward": "rows: gather, scatter, embedding",
}


def shares_of(work: Callable[[], object], device: str) -> dict[str, float]:
    """Share of the profiled time by class of operation; on a CPU the rest is Python, autograd and dispatch."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as profiler:
        work()
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:
            name = _class_of(event.key)
            spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
            times[name] = times.get(name, 0.0) + spent
    total = sum(times.values())
    return {name: round(value / total, 4) for name, value in sorted(times.items(), key=lambda item: -item[1])}


def _class_of(operation: str) -> str:
    name = operation.lower()
    if name in OUR_KERNELS:
        return OUR_KERNELS[name]
    if name.startswith("aten::"):
        for label, parts in CLASSES.items():
            if any(part in name for part in parts):
                return label
    return "optimizer and clipping" if "optimizer" in name else "autograd and dispatch"
