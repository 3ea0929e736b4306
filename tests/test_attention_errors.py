"""Bad input of attention: one sentence that names the argument and what it should be."""

import pytest
import torch
from attention_cases import draw

from lengen_fast.ops import DistanceBias, Packing, attention
from lengen_fast.ops.packing import RowSelection

X = torch.zeros(6, 2, 4)
GOOD = {"q": X, "k": X, "v": X}
OTHER_SELECTION = RowSelection.from_rows(torch.tensor([1]), Packing.uniform(3, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v": X[:5]}, "k and v must have one shape.*6, 2, 4.*5, 2, 4"),
        ({"q": X[0], "k": X[0], "v": X[0]}, "k and v must have one shape"),
        ({"k": X[..., :0], "v": X[..., :0]}, "k and v must have a head width D of at least 1"),
        (dict.fromkeys("qkv", torch.zeros(2, 1, 257)), "head width D of at least 1 and at most 256, got .2, 1, 257"),
        ({"bias": torch.zeros(3, 4)}, "bias must have a table for the 2 heads of q.*3 heads"),
        ({"bias": torch.zeros(4)}, r"table of a bias must be .* shape \[H, W\]"),
        ({"bias": torch.zeros(2, 3).long()}, "table of a bias must be of a floating dtype.*int64"),
        ({"bias": torch.zeros(2, 3, device="meta")}, "bias must have a table .* on cpu.*on meta"),
        ({"bias": DistanceBias(torch.zeros(1, 3))}, "bias must have a table for the 2 heads"),
        ({"key_bias": torch.zeros(6)}, "key_bias must be .* shape .6, 2. .*6,"),
        ({"key_bias": torch.zeros(5, 2)}, "key_bias must be .* shape .6, 2.*5, 2"),
        ({"key_bias": torch.zeros(6, 2).long()}, "key_bias must be of a floating dtype.*int64"),
        ({"logit_scale": torch.zeros(6, 1)}, "logit_scale must be .* shape .6, 2.*6, 1"),
        ({"logit_scale": torch.zeros(6, 2, device="meta")}, "logit_scale must be .*on cpu.*on meta"),
        (
            {"q": X[:1], "query_rows": torch.tensor([1]), "logit_scale": torch.zeros(6, 2)},
            "logit_scale must be .* shape .1, 2",
        ),
        ({"window": 0}, "window must be a whole number of keys, at least 1.*0"),
        ({"window": 2.5}, "window must be a whole number.*2.5"),
        ({"precision": "fp32"}, "precision must be one of auto, ieee, tf32x3, tf32, got 'fp32'"),
        ({"out_dtype": torch.float16}, "out_dtype must be torch.float32 or the dtype of q"),
        ({"q": X[:5]}, "q must have shape .6, 2, 4. .*5, 2, 4"),
        ({"q": X[:, :1]}, "q must have shape"),
        ({"q": X.long(), "k": X.long(), "v": X.long()}, "floating dtype, got torch.int64"),
        ({"k": X.double()}, "share dtype.*k is torch.float64"),
        ({"v": X.half()}, "share dtype.*v is torch.float16"),
        ({"k": X.to("meta")}, "share dtype and device.*k is .* on meta"),
        ({"cu_seqlens": torch.tensor([1, 6])}, "cu_seqlens must start at 0.*starts at 1"),
        ({"cu_seqlens": torch.tensor([0, 7])}, "cu_seqlens must .* end at .*6.*ends at 7"),
        ({"cu_seqlens": torch.tensor([0, 5])}, "cu_seqlens must .* end at .*6.*ends at 5"),
        ({"cu_seqlens": torch.tensor([0, 4, 3, 6])}, "cu_seqlens must never decrease"),
        ({"cu_seqlens": torch.tensor([0.0, 6.0])}, "cu_seqlens must be a vector.*float32"),
        ({"cu_seqlens": torch.tensor([0])}, "cu_seqlens must be a vector of at least two"),
        ({"cu_seqlens": torch.tensor([[0, 6]])}, "cu_seqlens must be a vector"),
        ({"cu_seqlens": Packing.uniform(2, 4)}, "cu_seqlens packs 8 rows.*6"),
        ({"q": X[:1], "query_rows": torch.tensor([6])}, "query_rows must lie in 0..5"),
        ({"q": X[:1], "query_rows": torch.tensor([-1])}, "query_rows must lie in 0..5"),
        ({"q": X[:2], "query_rows": torch.tensor([3, 1])}, "query_rows must increase"),
        ({"q": X[:2], "query_rows": torch.tensor([3, 3])}, "query_rows must increase"),
        ({"q": X[:4], "query_rows": torch.tensor([0, 2**63 - 1, -(2**63), 3])}, "query_rows must increase"),
        ({"q": X[:1], "query_rows": torch.tensor([1.0])}, "query_rows must be an int32 or int64 vector.*float32"),
        ({"q": X[:1], "query_rows": torch.tensor(1)}, "query_rows must be an int32 or int64 vector"),
        ({"q": X[:3], "query_rows": torch.tensor([1, 2])}, "q must have shape .2, 2, 4. .* query_rows"),
        ({"q": X[:1], "query_rows": OTHER_SELECTION}, "query_rows were chosen from other packed rows"),
    ],
)
def test_what_does_not_fit_together_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        attention(**GOOD | changes)


@pytest.mark.parametrize(
    ("option", "value"), [("cu_seqlens", torch.tensor([0, 3])), ("query_rows", torch.tensor([1]))], ids=str
)
def test_packed_arguments_with_batched_operands_are_refused(option, value):
    x = torch.zeros(1, 3, 2, 4)
    with pytest.raises(ValueError, match="cu_seqlens and query_rows need packed q, k and v"):
        attention(x, x, x, **{option: value})


@pytest.mark.parametrize("option", ["q", "k", "v", "key_bias", "logit_scale", "cu_seqlens", "query_rows", "bias"])
def test_lists_are_refused(option):
    with pytest.raises(TypeError, match=f"{option} must be a tensor.*got list"):
        attention(**GOOD | {option: [0, 6]})


@pytest.mark.parametrize("given", [
    {"cu_seqlens": torch.tensor([0, 5], device="meta")},
    {"query_rows": torch.tensor([0, 1, 2, 3, 4], device="meta")},
])  # fmt: skip
def test_rows_elsewhere_are_refused(given):
    with pytest.raises(ValueError, match="must be on the device of k"):
        attention(*draw(3, 5, 1, 4).unbind(), **given)


BAD_ROWS = [
    ({"cu_seqlens": torch.tensor([1, 6])}, "cu_seqlens must start at 0.*starts at 1"),
    ({"cu_seqlens": torch.tensor([0, 4, 3, 6])}, "cu_seqlens must never decrease"),
    ({"q": X[:1], "query_rows": torch.tensor([6])}, "query_rows must lie in 0..5"),
    ({"q": X[:2], "query_rows": torch.tensor([3, 1])}, "query_rows must increase"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ROWS)
def test_rows_are_checked_inside_transforms_and_operators_too(changes, message):
    given = GOOD | changes
    x = given.pop("q")
    for term in (None, torch.zeros(2, 1)):
        with pytest.raises(ValueError, match=message):
            torch.func.grad(lambda x, term=term: attention(x, **given, bias=term).sum())(x)
    with pytest.raises(ValueError, match=message):
        torch.compile(attention, backend="eager", fullgraph=True)(x, **given)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("changes", "message"), BAD_ROWS)
def test_rows_on_a_gpu_are_checked_when_debugging(changes, message, monkeypatch):
    monkeypatch.setenv("LENGEN_DEBUG", "1")
    with pytest.raises(ValueError, match=message):
        attention(**{name: x.cuda() for name, x in (GOOD | changes).items()})
