"""The attention kernels against the definition in fp64: every option and gradient, tile edges, poison and repeats."""

import contextlib
import itertools
import math

import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lengen_kernels import attention as kernels
from lengen_kernels import launch, tiles
from lengen_kernels.attention.forward import forward_kernel
from lengen_kernels.attention.problem import BEYOND, Problem

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if ON_GPU else [])]


TABLE = tiles.choose


@pytest.fixture(autouse=True)
def kernel(monkeypatch, request):
    """Which kernels a test runs over; with tiles so small that a few dozen rows visit every kind of tile."""
    use_tiles(monkeypatch, 16, 16)
    name = getattr(request, "param", "tiles")
    use_kernel(monkeypatch, name)
    return name


def use_kernel(monkeypatch, name):
    monkeypatch.setattr(kernels, "LONGEST_SHORT_ROW", 256 if name == "short" else 0)


def use_tiles(monkeypatch, block_m, block_n):
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
def poisoned_memory():
    """Whatever a launcher allocates holds NaN until a kernel writes it, and nothing is written beside it."""
    empty, buffers = torch.empty, []

    def poison(*shape, dtype, device):
        shape = torch.Size(shape if isinstance(shape[0], int) else shape[0])
        buffer = empty(shape.numel() + 2 * GUARD, dtype=dtype, device=device).fill_(math.nan)
        buffers.append(buffer)
        return buffer[GUARD : GUARD + shape.numel()].view(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", poison)
        yield
    for buffer in buffers:
        assert buffer[:GUARD].isnan().all()
        assert buffer[len(buffer) - GUARD :].isnan().all()


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


def ulp(largest, dtype):
    """Distance of neighbouring numbers of ``dtype`` at ``largest``."""
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(largest)) if largest > 0 else 0.0


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


@by_kernel
@by_dtype
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_option_follows_the_definition(options, dtype):
    assert_follows_definition(Case([1, 0, 35], 1, 8, dtype=dtype, **options))


@by_kernel
@by_dtype
@pytest.mark.parametrize(("tile", "options"), [((16, 32), dict(table_width=40)), ((32, 16), EVERYTHING)])
def test_lengths_around_the_edges_of_tiles(monkeypatch, options, tile, dtype):
    use_tiles(monkeypatch, *tile)
    assert_follows_definition(Case([15, 16, 17, 31, 32, 33], 1, 4, dtype=dtype, **options))


@by_dtype
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_tiles_of_the_table(monkeypatch, options, dtype):
    monkeypatch.setattr(tiles, "choose", TABLE)
    assert_follows_definition(Case([70, 130], 1, 16, dtype=dtype, **options))


def test_every_row_of_the_tile_table_is_a_tile():
    for kernel, width, operands, longest in itertools.product(
        ("forward", "query_gradient", "key_gradient", "diagonal", "chosen_rows", "split", "merge", "table_gradient"),
        tiles.WIDTHS,
        ("16", "ieee", "tf32", "tf32x3"),
        (1, 128, 129, 1 << 20),
    ):
        for name in (kernel, f"{kernel} with options"):
            tile = TABLE(name, width, operands, longest, "sm90")
            assert all(size >= 16 and size.bit_count() == 1 for size in tile[:2])
            assert kernel != "diagonal" or tile.block_m == tile.block_n


def test_the_interpreter_computes_bf16_in_fp32():
    q, k, v = torch.randn(3, 20, 1, 8, generator=torch.Generator().manual_seed(0)).bfloat16().to(DEVICE).unbind()
    bounds = torch.tensor([0, 20], device=DEVICE)
    options = dict(cu_seqlens=bounds, longest=20, softmax_scale=1.0)
    out, _ = kernels.forward(q, k, v, out_dtype=torch.float32, **options)
    exact, _ = oracle.attention(*(x.cpu().double() for x in (q, k, v)), cu_seqlens=bounds.cpu(), softmax_scale=1.0)
    assert torch.allclose(out.cpu().double(), exact, atol=2e-2 if ON_GPU else 1e-6)


@by_dtype
@pytest.mark.parametrize(
    ("width", "kernel"),
    [*((width, "tiles") for width in (1, 3, 16, 20, 130, 256)), *((width, "short") for width in (1, 20, 64))],
    indirect=["kernel"],
)
def test_every_head_width(width, dtype):
    assert_follows_definition(Case([17], 2, width, dtype=dtype, table_width=4))


@by_kernel
@by_dtype
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_heads_of_queries_may_share_keys(key_heads, dtype):
    assert_follows_definition(Case([3, 18], 4, 8, dtype=dtype, key_heads=key_heads, table_width=4, key_bias=True))


@by_kernel
@by_dtype
@pytest.mark.parametrize(
    "options",
    [{}, dict(window=3), dict(table_width=40), dict(table_width=4), EVERYTHING],
    ids=["plain", "window", "long table", "short table", "everything"],
)
def test_chosen_rows_see_the_keys_up_to_their_own_position(options, dtype):
    rows = [2, 4, *range(5, 30, 3), 34, 35, 36, 38, 66]
    assert_follows_definition(Case([5, 0, 30, 4, 1, 27], 1, 8, dtype=dtype, rows=rows, **options))


@by_kernel
@by_dtype
def test_chosen_rows_may_share_keys(dtype):
    assert_follows_definition(Case([20, 4], 3, 8, dtype=dtype, rows=[7, 19], key_heads=1, table_width=4))


@by_kernel
def test_no_chosen_rows():
    case = Case([3, 4], 2, 8, dtype=torch.float32, rows=[], table_width=3, key_bias=True, logit_scale=True)
    assert_follows_definition(case)


@by_kernel
@pytest.mark.parametrize("lengths", [[0], [0, 0]], ids=str)
def test_no_rows(lengths):
    case = Case(lengths, 2, 8, dtype=torch.float32, table_width=3, key_bias=True, logit_scale=True)
    assert_follows_definition(case)


@by_kernel
@by_dtype
@pytest.mark.parametrize("rows", [None, [0, 5, 20, 41, 42, 43]], ids=["all rows", "chosen rows"])
def test_stacked_models_have_tables_of_their_own(rows, dtype):
    options = dict(table_width=6, beyond="line", models=2)
    assert_follows_definition(Case([3, 18, 21, 2], 2, 8, dtype=dtype, rows=rows, **options))


@by_dtype
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([69], {}),
        ([0, 10, 30, 69], dict(table_width=7, beyond="line", key_bias=True, logit_scale=True)),
        ([3, 69], dict(table_width=7, window=33)),
    ],
    ids=["one row", "every bias", "window"],
)
def test_keys_in_parts(monkeypatch, rows, options, dtype):
    monkeypatch.setattr(kernels, "SHORTEST_PART", 16)
    case = Case([25, 45], 2, 8, dtype=dtype, rows=rows, **options)
    assert kernels.choose_forward(problem_of(case)) == "split"
    assert_follows_definition(case)


def test_few_rows_of_a_long_context_fill_the_device():
    q, k = torch.empty(1, 1, 16), torch.empty(1, 1, 16).expand(1 << 20, 1, 16)
    options = dict.fromkeys(("table", "slope", "key_bias", "logit_scale", "window"))
    bounds, rows = torch.tensor([0, 1 << 20]), torch.tensor([(1 << 20) - 1])
    options |= dict(beyond="last", precision="ieee", cu_seqlens=bounds, query_rows=rows, softmax_scale=1.0)
    problem = Problem.of(q, k, k, longest=1 << 20, cu_queries=None, **options)
    assert kernels.splits(problem) >= 2 * kernels.processors(q.device)


@by_dtype
@pytest.mark.parametrize("kernel", ["short"], indirect=True)
@pytest.mark.parametrize("rows", [None, [0, 3, 7, 8, 9, 25]], ids=["all rows", "chosen rows"])
@pytest.mark.parametrize("longest", [1, 2, 4, 8])
def test_tiny_sequences_share_a_tile(monkeypatch, longest, rows, dtype):
    lengths = [min(length, longest) for length in (8, 0, 1, 7, 2, 3, 5, 8, 4, 6)]
    rows = rows and [row for row in rows if row < sum(lengths)]
    options = EVERYTHING | dict(table_width=3, window=6)
    case = Case(lengths, 1, 8, dtype=dtype, rows=rows, models=2, **options)
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    assert_follows_definition(case)
    assert counted.programs["short_backward_kernel"] == 2 * -(-5 // (16 // longest))  # five sequences for each model


@pytest.mark.parametrize("kernel", ["short"], indirect=True)
def test_short_rows_take_one_launch_for_each_pass(monkeypatch):
    monkeypatch.setattr(launch, "launch", counted := Counted(launch.launch))
    Case([35, 7], 2, 8, dtype=torch.float32, **EVERYTHING | dict(table_width=None)).compute()
    assert set(counted.programs) == {"short_forward_kernel", "short_backward_kernel"}
    Case([35, 7], 2, 8, dtype=torch.float32, **EVERYTHING).compute()
    assert set(counted.programs) == {"short_forward_kernel", "short_backward_kernel", "distance_gradient_kernel"}


@pytest.mark.parametrize("kernel", ["short"], indirect=True)
@pytest.mark.parametrize(
    ("longest", "width", "chosen"), [(256, 64, "short"), (257, 64, "tiles"), (256, 65, "tiles"), (1, 1, "short")]
)
def test_short_rows_of_narrow_heads_have_kernels_of_their_own(longest, width, chosen):
    problem = problem_of(Case([longest], 1, width, dtype=torch.float32))
    assert kernels.choose_forward(problem) == kernels.choose_backward(problem) == chosen


@by_dtype
@pytest.mark.parametrize("kernel", ["short"], indirect=True)
@pytest.mark.parametrize("tile", [(32, 128), (128, 128)], ids=str)
def test_short_rows_follow_the_definition_in_large_tiles(monkeypatch, tile, dtype):
    use_tiles(monkeypatch, *tile)
    assert_follows_definition(Case([150, 129, 64], 1, 16, dtype=dtype, **EVERYTHING | dict(window=100)))


@by_kernel
@by_dtype
@pytest.mark.parametrize("layout", ["packed", "batched", "heads first"])
def test_strided_views_give_the_bits_of_dense_operands(layout, dtype):
    shape = {"packed": (36, 3, 2, 8), "batched": (2, 18, 3, 2, 8), "heads first": (2, 3, 2, 18, 8)}[layout]
    fused = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(DEVICE, dtype)
    qkv = fused.unbind(2 if layout == "batched" else 1)
    if layout == "heads first":
        qkv = [x.transpose(1, 2) for x in qkv]
    bounds = torch.tensor([0, 18, 36], device=DEVICE) if layout == "packed" else None
    options = dict(cu_seqlens=bounds, longest=18, softmax_scale=0.3, table=torch.ones(1, 2, 3, device=DEVICE))
    grad_out = torch.ones((), device=DEVICE, dtype=dtype).expand(qkv[0].shape)

    def compute(*qkv):
        out, lse = kernels.forward(*qkv, **options)
        return out, lse, *kernels.backward(grad_out, *qkv, out, lse, **options)[:4]

    assert not any(x.is_contiguous() for x in qkv)
    for strided, dense in zip(compute(*qkv), compute(*(x.contiguous() for x in qkv)), strict=True):
        assert torch.equal(strided, dense)


@by_kernel
@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["plain", "everything"])
def test_batched_operands_follow_the_definition(options):
    case = Case([18, 18, 18, 18], 2, 8, dtype=torch.float32, models=2, **options)
    packed = case.compute()
    case.fixed["cu_seqlens"] = None
    rows = {name for name in case.leaves if name not in {"table"}}
    case.leaves = {n: x.unflatten(0, (4, 18)) if n in rows else x for n, x in case.leaves.items()}
    case.grad_out = case.grad_out.unflatten(0, (4, 18))
    batched = case.compute()
    assert batched["out"].shape == (4, 18, 2, 8)
    assert batched["lse"].shape == (4, 18, 2)
    assert all(torch.equal(packed[name].flatten(), batched[name].flatten()) for name in packed)


@by_kernel
@by_dtype
def test_repeats_give_equal_bits(dtype):
    case = Case([1, 35], 2, 8, dtype=dtype, **EVERYTHING)
    first = case.compute()
    for _ in range(20 if ON_GPU else 1):
        again = case.compute()
        assert all(torch.equal(first[name], again[name]) for name in first)


@by_kernel
def test_capacity_beyond_the_longest_row_changes_no_bit():
    case = Case([1, 35], 1, 8, dtype=torch.float32, **EVERYTHING)
    first = case.compute()
    case.longest = 80
    again = case.compute()
    assert all(torch.equal(first[name], again[name]) for name in ("out", "lse", "q", "k", "v", "key_bias"))
    assert_follows_definition(case, lambda: again)


@by_kernel
@pytest.mark.parametrize("needed", ["table", "key_bias", "logit_scale"])
def test_only_needed_gradients_are_computed(needed):
    case = Case([17], 1, 8, dtype=torch.float32, **EVERYTHING)
    exact = case.compute()
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    out, lse = kernels.forward(*qkv, **operands)
    flags = {f"needs_{name}": name == needed for name in ("table", "key_bias", "logit_scale")}
    grads = dict(
        zip(
            ("q", "k", "v", "table", "key_bias", "logit_scale"),
            kernels.backward(case.grad_out.to(out), *qkv, out, lse, **operands, **flags),
            strict=True,
        )
    )
    assert {name for name, grad in grads.items() if grad is not None} == {"q", "k", "v", needed}
    assert all(torch.equal(grad.cpu(), exact[name]) for name, grad in grads.items() if grad is not None)


@by_dtype
@pytest.mark.parametrize(
    ("length", "kernel"), [(150, "tiles"), (4096, "tiles"), (150, "short"), (256, "short")], indirect=["kernel"]
)
def test_counts_are_exact(monkeypatch, length, dtype):
    use_tiles(monkeypatch, 256, 256)
    ones = torch.arange(length, device=DEVICE) * 7 % 3 == 1
    nothing = torch.zeros(length, 1, 1, dtype=dtype, device=DEVICE)
    bounds = torch.tensor([0, length], device=DEVICE)
    v = ones.to(dtype).view(-1, 1, 1)
    out, _ = kernels.forward(
        nothing, nothing, v, cu_seqlens=bounds, longest=length, softmax_scale=1.0, out_dtype=torch.float32
    )
    exact = ones.cumsum(0).float() / torch.arange(1, length + 1, device=DEVICE).float()
    assert torch.equal(out.flatten(), exact)


@by_dtype
@pytest.mark.parametrize("parts", [1, 64], ids=["whole", "parts"])
@pytest.mark.parametrize("length", [65536, 1 << 20])
def test_counts_of_chosen_rows_are_exact_and_majorities_by_one_vote_right(monkeypatch, length, parts, dtype):
    use_tiles(monkeypatch, 16, 1 << 15)
    monkeypatch.setattr(kernels, "MOST_SPLITS", parts)
    rows = torch.tensor([0, 1, length // 2, length - 2, length - 1], device=DEVICE)
    v = (torch.arange(length, device=DEVICE) % 2).to(dtype).view(-1, 1, 1)
    k = torch.zeros(length, 1, 1, dtype=dtype, device=DEVICE)
    q = torch.zeros(len(rows), 1, 1, dtype=dtype, device=DEVICE)
    bounds = torch.tensor([0, length], device=DEVICE)
    options = dict(cu_seqlens=bounds, longest=length, softmax_scale=1.0, query_rows=rows, out_dtype=torch.float32)
    out, _ = kernels.forward(q, k, v, **options)
    assert torch.equal(out.flatten(), (rows + 1).div(2, rounding_mode="floor").float() / (rows + 1).float())
    assert (out.flatten() < 0.5).tolist() == [True, False, True, True, False]


@by_kernel
def test_addresses_beyond_31_bits():
    row = 1 << 27  # elements from one row to the next: the last of 18 lies beyond 2^31
    buffer = torch.empty(18 * row, dtype=torch.float16, device=DEVICE)  # only the pages of the rows are ever touched
    wide = buffer.as_strided((18, 3, 1, 8), (row, 8, 8, 1))
    dense = torch.randn(18, 3, 1, 8, generator=torch.Generator().manual_seed(0)).to(wide)
    wide.copy_(dense)
    options = dict(cu_seqlens=torch.tensor([0, 18], device=DEVICE), longest=18, softmax_scale=0.3)
    options["table"] = torch.ones(1, 1, 3, device=DEVICE)

    def compute(q, k, v):
        out, lse = kernels.forward(q, k, v, **options)
        return out, *kernels.backward(v, q, k, v, out, lse, **options)[:4]

    for far, near in zip(compute(*wide.unbind(1)), compute(*dense.unbind(1)), strict=True):
        assert torch.equal(far, near)


@by_kernel
def test_many_tiny_sequences_fit_a_launch(monkeypatch, kernel):
    launches = []
    monkeypatch.setattr(launch, "launch", lambda kernel, programs, **arguments: launches.append(programs))
    count = 200_000
    q = torch.empty(count, 2, 8, device=DEVICE)
    bounds = torch.arange(count + 1, device=DEVICE)
    kernels.forward(q, q, q, cu_seqlens=bounds, longest=1, softmax_scale=1.0)
    members = 16 if kernel == "short" else 1
    assert launches == [2 * count // members]  # all in the first dimension of the grid, the others end at 65,535


def test_a_grid_that_holds_too_many_programs_is_refused():
    with pytest.raises(ValueError, match="at most 2147483647 programs"):
        launch.launch(forward_kernel, 2**31)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(q=torch.zeros(4, 2, 8, dtype=torch.float64)), "fp32, fp16 or bf16, and q is"),
        (dict(k=torch.zeros(4, 2, 8, dtype=torch.float16)), "of one dtype"),
        (dict(q=torch.zeros(4, 2, 16)[..., ::2]), "last dimension of q must have stride 1"),
        (dict(q=torch.zeros(4, 2, 4)), "do not go together"),
        (dict(q=torch.zeros(4, 3, 8)), "do not go together"),
        (dict(cu_seqlens=None), "need cu_seqlens"),
        (dict(precision="fp8"), "precision must be one of"),
        (dict(beyond="nothing"), "beyond must be one of"),
        (dict(beyond="line"), "with a slope for a line"),
    ],
)
def test_operands_that_the_kernels_do_not_serve_are_refused(changes, message):
    rows = torch.zeros(4, 2, 8)
    operands = dict(q=rows, k=rows, v=rows, cu_seqlens=torch.tensor([0, 4]), longest=4, softmax_scale=1.0)
    with pytest.raises(ValueError, match=message):
        kernels.forward(**operands | changes)


def test_head_widths_beyond_256_are_refused():
    rows = torch.zeros(4, 1, 257)
    with pytest.raises(ValueError, match="1 to 256, got 257"):
        kernels.forward(rows, rows, rows, cu_seqlens=torch.tensor([0, 4]), longest=4, softmax_scale=1.0)


@settings(max_examples=10 if not ON_GPU else 200)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    heads=st.sampled_from([(1, 1), (2, 2), (2, 1)]),
    width=st.integers(1, 20),
    kernel=st.sampled_from(["tiles", "short"]),
    tile=st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32])),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_drawn_cases_follow_the_definition(lengths, heads, width, kernel, tile, dtype, seed, data):
    total = sum(lengths)
    rows = data.draw(st.none() | st.sets(st.integers(0, max(0, total - 1)), max_size=total).map(sorted))
    options = dict(key_bias=data.draw(st.booleans()), logit_scale=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        options |= dict(table_width=data.draw(st.integers(1, 45)), beyond=data.draw(st.sampled_from(list(BEYOND))))
    if data.draw(st.booleans()):
        options["window"] = data.draw(st.integers(1, 45))
    case = Case(lengths, heads[0], width, key_heads=heads[1], rows=rows, dtype=dtype, seed=seed, **options)
    with pytest.MonkeyPatch.context() as patch:
        use_tiles(patch, *tile)
        use_kernel(patch, kernel)
        assert_follows_definition(case)


@by_kernel
@pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
def test_launches_are_captured_in_a_graph():
    case = Case([1, 0, 250], 2, 16, dtype=torch.float32, rows=[0, 7, 250], **EVERYTHING)
    operands = case.operands()
    qkv = [operands.pop(name) for name in "qkv"]
    grad_out = case.grad_out.to(qkv[0])

    def compute():
        out, lse = kernels.forward(*qkv, **operands)
        return out, *kernels.backward(grad_out, *qkv, out, lse, **operands)

    eager = compute()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = compute()
    graph.replay()
    assert all(torch.equal(x, y) for x, y in zip(eager, captured, strict=True))
