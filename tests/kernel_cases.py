"""What the tests of the attention kernels share: devices, tiny tiles, guarded memory, drawn cases and their judge."""

import contextlib
import math

import attention_oracle as oracle
import pytest
import torch
from attention_oracle import ulp
from lengen_kernels import attention as kernels
from lengen_kernels import tiles
from lengen_kernels.attention.problem import Problem

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]
TABLE = tiles.choose  # of tiles, before a test replaces it


def use_kernel(monkeypatch, name):
    monkeypatch.setattr(kernels, "LONGEST_SHORT_ROW", 256 if name == "short" else 0)


def use_tiles(monkeypatch, block_m, block_n):
    """Tiles of one size. A GPU cannot hold the large ones that save the interpreter time: there the table's stay."""
    if ON_GPU and max(block_m, block_n) > 32:
        monkeypatch.setattr(tiles, "choose", TABLE)
        return

    def choose(kernel, *key):
        return tiles.Tile(block_n if kernel.startswith("diagonal") else block_m, block_n, 4, 2)

    monkeypatch.setattr(tiles, "choose", choose)


GUARD = 64  # elements on either side of every buffer


def guarded(values, filler=math.nan):
    """The same values in memory that has ``filler`` on both sides."""
    buffer = torch.full((values.numel() + 2 * GUARD,), filler, dtype=values.dtype, device=values.device)
    inside = buffer[GUARD : GUARD + values.numel()].view(values.shape)
    return inside.copy_(values)


@contextlib.contextmanager
def poisoned_memory(beside=math.nan):
    """Whatever a launcher allocates holds NaN until a kernel writes it, and nothing is written ``beside`` it. A NaN
    there shows what is read, -0.0 also that zero is added."""
    empty, buffers = torch.empty, []

    def poison(*shape, dtype, device):
        shape = torch.Size(shape if isinstance(shape[0], int) else shape[0])
        buffer = empty(shape.numel() + 2 * GUARD, dtype=dtype, device=device).fill_(beside)
        buffers.append(buffer)
        return buffer[GUARD : GUARD + shape.numel()].fill_(math.nan).view(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poison)
        yield
    for buffer in buffers:
        for guard in (buffer[:GUARD], buffer[len(buffer) - GUARD :]):
            kept = guard.isnan() if math.isnan(beside) else (guard == beside) & guard.signbit()
            assert kept.all()


class Case:
    """Operands of one call in fp64, with the values that they have in ``dtype``."""

    def __init__(self, lengths, heads, width, *, dtype, seed=0, key_heads=None, rows=None, models=1, **options):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        total = sum(lengths)
        bounds = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32)
        self.fixed = dict(cu_seqlens=bounds, softmax_scale=options.pop("softmax_scale", 1 / math.sqrt(width)))
        if rows is not None:
            self.fixed["query_rows"] = torch.tensor(rows, dtype=torch.int32)  # as in a batch
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
        leaves = {
            name: leaf.detach().to(self.leaf_dtype(name, dtype), copy=True).requires_grad_()
            for name, leaf in self.leaves.items()
        }
        out, lse = oracle.attention(**leaves, **self.fixed)
        gradients = [None] * len(leaves)
        if out.numel():
            gradients = torch.autograd.grad(out, list(leaves.values()), self.grad_out.to(out.dtype), allow_unused=True)
        named = zip(leaves.items(), gradients, strict=True)
        grads = {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in named}
        return {"out": out.detach(), "lse": lse.detach()} | grads

    def bound_of_logits(self):
        """A bound of what q . k gives to a logit, in base 2."""
        lengths = [float(self.leaves[name].norm(dim=-1).max()) if self.leaves[name].numel() else 0.0 for name in "qk"]
        scale = self.leaves.get("logit_scale", torch.ones(1))
        steepest = float(scale.abs().max()) if scale.numel() else 0.0
        return lengths[0] * lengths[1] * abs(self.fixed["softmax_scale"]) * steepest * math.log2(math.e)

    def leaf_dtype(self, name, dtype):
        return dtype if name in "qkv" or dtype == torch.float64 else torch.float32

    def operands(self):
        """What a launcher takes: tensors on the device in their dtype, and the host's numbers."""
        leaves = {n: guarded(x.to(DEVICE, self.leaf_dtype(n, self.dtype))) for n, x in self.leaves.items()}
        fixed = {name: x.to(DEVICE) if isinstance(x, torch.Tensor) else x for name, x in self.fixed.items()}
        if "slope" in fixed:
            fixed["slope"] = guarded(fixed["slope"].float())
        if "query_rows" in fixed:
            fixed["query_rows"] = guarded(fixed["query_rows"], -(10**6))
        return leaves | fixed | {"longest": self.longest}

    def compute(self):
        """What ``define`` gives, by the kernels."""
        operands = self.operands()
        qkv = [operands.pop(name) for name in "qkv"]
        with poisoned_memory():
            out, lse = kernels.forward(*qkv, **operands)
            gradients = kernels.backward(guarded(self.grad_out.to(out)), *qkv, out, lse, **operands)
        names = ("q", "k", "v", "table", "key_bias", "logit_scale")
        found = {"out": out, "lse": lse} | dict(zip(names, gradients, strict=True))
        return {name: values.cpu() for name, values in found.items() if values is not None}


class Counted:
    """A launch that remembers how many programs each kernel had."""

    def __init__(self, launch):
        self.launch, self.programs = launch, {}

    def __call__(self, kernel, programs, **arguments):
        self.programs[kernel.__name__] = programs
        self.launch(kernel, programs, **arguments)


def problem_of(case):
    """The launchers' view of a case."""
    options = dict.fromkeys(("table", "slope", "key_bias", "logit_scale", "window", "query_rows", "cu_queries"))
    return Problem.of(**options | {"beyond": "last", "precision": "ieee"} | case.operands())


def largest_of(results, names):
    return max((float(results[name].abs().max()) for name in names if results[name].numel()), default=0.0)


def assert_follows_definition(case, compute=None):
    """Errors of at most twice those of the definition computed in the same dtype, and 8 ulp of the largest value.

    The largest value is that of all gradients: one of them may be exactly 0 where two sums that cancel are computed.
    Gradients may have the rounding of a logit more: a backward pass computes weights again, from products that may be
    summed in another order, while the definition keeps them.
    """
    actual = (compute or case.compute)()
    exact, eager = case.define(torch.float64), case.define(case.dtype)
    assert actual.keys() == exact.keys()
    recomputed = torch.finfo(torch.float32).eps * case.bound_of_logits()
    for name, values in actual.items():
        assert values.shape == exact[name].shape, name
        if not values.numel():
            continue
        is_gradient = name not in {"out", "lse"}
        largest = largest_of(exact, exact.keys() - {"out", "lse"} if is_gradient else {name})
        slack = 8 * ulp(largest, torch.float32 if name == "lse" else case.dtype) + is_gradient * recomputed * largest
        error = (values.double() - exact[name]).abs().max()
        of_eager = (eager[name].double() - exact[name]).abs().max()
        assert error <= 2 * of_eager + slack, f"{name}: error {error}, of eager {of_eager}, largest {largest}"


OPTIONS = {
    "plain": {},
    "table over all distances": dict(table_width=40),
    "table over all distances in a window": dict(table_width=40, window=9),
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
EVERYTHING = OPTIONS["everything"]
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
by_kernel = pytest.mark.parametrize("kernel", ["tiles", "short"], indirect=True)
