"""The attention kernels against the definition in fp64: every option and gradient, tile edges, poison and repeats."""

import contextlib
import math

import attention_oracle as oracle
import pytest
import torch
from lengen_kernels import attention as kernels
from lengen_kernels import tiles

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]
EDGES = [0, 1, 17, 33]  # around tiles of 16, with several tiles and a row of no tokens


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles so small that a few dozen rows visit every kind of tile."""
    use_tiles(monkeypatch, 16, 16)


def use_tiles(monkeypatch, block_m, block_n):
    monkeypatch.setattr(tiles, "choose", lambda *key: tiles.Tile(block_m, block_n, 4, 2))


@contextlib.contextmanager
def poisoned_memory():
    """Every tensor that a launcher allocates holds NaN until a kernel writes it."""
    empty = torch.empty

    def poison(*shape, **options):
        tensor = empty(*shape, **options)
        return tensor.fill_(math.nan) if tensor.is_floating_point() else tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poison)
        yield


class Case:
    """Operands of one call in fp64, with the values that they have in ``dtype``."""

    def __init__(self, lengths, heads, width, *, dtype, seed=0, key_heads=None, rows=None, models=1, **options):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        total = sum(lengths)
        bounds = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
        self.fixed = dict(cu_seqlens=bounds, softmax_scale=options.pop("softmax_scale", 1 / math.sqrt(width)))
        if rows is not None:
            self.fixed["query_rows"] = torch.tensor(rows, dtype=torch.int64)
        queries = total if rows is None else len(rows)
        self.longest = max(lengths)
        self.leaves = {
            "q": self.draw(queries, heads, width),
            "k": self.draw(total, key_heads or heads, width),
            "v": self.draw(total, key_heads or heads, width),
        }
        table_width = options.pop("table_width", None)
        if table_width is not None:
            self.leaves["table"] = self.draw(models, heads, table_width, dtype=torch.float32)
        if options.get("beyond") == "line":
            self.fixed["slope"] = -0.1 * self.draw(models, heads, dtype=torch.float32).abs()
        if options.pop("key_bias", False):
            self.leaves["key_bias"] = self.draw(total, heads, dtype=torch.float32)
        if options.pop("logit_scale", False):
            self.leaves["logit_scale"] = 1 + 0.5 * self.draw(queries, heads, dtype=torch.float32)
        self.fixed |= options
        self.grad_out = self.draw(queries, heads, width)

    def draw(self, *shape, dtype=None):
        values = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return values.to(dtype or self.dtype).double()

    def define(self, dtype):
        """Output, log-sum-exp and gradients by name, by the definition computed in ``dtype``."""
        leaves = {name: leaf.to(self.leaf_dtype(name, dtype)).requires_grad_() for name, leaf in self.leaves.items()}
        out, lse = oracle.attention(**leaves, **self.fixed)
        gradients = torch.autograd.grad(out, list(leaves.values()), self.grad_out.to(out.dtype), allow_unused=True)
        named = zip(leaves.items(), gradients, strict=True)
        grads = {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in named}
        return {"out": out.detach(), "lse": lse.detach()} | grads

    def leaf_dtype(self, name, dtype):
        return dtype if name in "qkv" or dtype == torch.float64 else torch.float32

    def operands(self):
        """What a launcher takes: tensors on the device in their dtype, and the host's numbers."""
        leaves = {name: leaf.to(DEVICE, self.leaf_dtype(name, self.dtype)) for name, leaf in self.leaves.items()}
        fixed = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in self.fixed.items()}
        if "slope" in fixed:
            fixed["slope"] = fixed["slope"].float()
        return leaves | fixed | {"longest": self.longest}

    def compute(self):
        """What ``define`` gives, by the kernels."""
        operands = self.operands()
        qkv = [operands.pop(name) for name in "qkv"]
        with poisoned_memory():
            out, lse = kernels.forward(*qkv, **operands)
            gradients = kernels.backward(self.grad_out.to(out), *qkv, out, lse, **operands)
        names = ("q", "k", "v", "table", "key_bias", "logit_scale")
        found = {"out": out, "lse": lse} | dict(zip(names, gradients, strict=True))
        return {name: values.cpu() for name, values in found.items() if values is not None}


def ulp(largest, dtype):
    """Distance of neighbouring numbers of ``dtype`` at ``largest``."""
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 0.0


def assert_follows_definition(case, compute=None):
    """Errors of at most twice those of the definition computed in the same dtype, and a few ulp of the largest value.

    The largest value is that of all gradients: one of them may be exactly 0 where two sums that cancel are computed.
    """
    actual = (compute or case.compute)()
    exact, eager = case.define(torch.float64), case.define(case.dtype)
    outputs = {"out", "lse"}
    largest = {
        name: max((float(x.abs().max()) for n, x in exact.items() if x.numel() and n not in outputs), default=0.0)
        for name in exact
    } | {name: float(exact[name].abs().max()) if exact[name].numel() else 0.0 for name in outputs}
    assert actual.keys() == exact.keys()
    for name, values in actual.items():
        assert values.shape == exact[name].shape, name
        if not values.numel():
            continue
        error = (values.double() - exact[name]).abs().max()
        allowed = (eager[name].double() - exact[name]).abs().max()
        coarsest = torch.float32 if name == "lse" else case.dtype
        assert error <= 2 * allowed + 8 * ulp(largest[name], coarsest), f"{name}: {error} against {allowed} of eager"


OPTIONS = {
    "plain": {},
    "table over all distances": dict(table_width=40),
    "short table, last value": dict(table_width=3),
    "table of one value": dict(table_width=1),
    "short table, zero": dict(table_width=5, beyond="zero"),
    "short table, line": dict(table_width=5, beyond="line"),
    "line alone": dict(table_width=1, beyond="line"),
    "key bias": dict(key_bias=True),
    "logit scale": dict(logit_scale=True),
    "window of one key": dict(window=1),
    "window": dict(window=9),
    "window of tiles": dict(window=32),
    "negative scale": dict(softmax_scale=-0.7),
    "everything": dict(table_width=7, beyond="line", key_bias=True, logit_scale=True, window=20),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_follows_the_definition(options, dtype):
    assert_follows_definition(Case(EDGES, 1, 8, dtype=dtype, **options))
