"""The transformer against its definition, string by string; chosen rows, offsets, initial weights and limits."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lengen_fast import positions
from lengen_fast.layers import MLP, CausalSelfAttention
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.ops import Packing, reference
from lengen_fast.ops.packing import RowSelection
from lengen_fast.optimizer import AdamW

VOCABULARY, CONTEXT = 7, 16
lengths_of_sequences = st.lists(st.integers(0, 8), min_size=1, max_size=4).filter(any)


def build(encoding="ape", *, layers=2, heads=2, width=8, seed=0, init_std=0.5, dtype=torch.float64):
    """A small model whose weights are large enough for every part to matter."""
    config = ModelConfig(VOCABULARY, layers, heads, width, encoding, CONTEXT, init_std)
    model = Transformer(config, seed).to(dtype)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() == 1:
                parameter += torch.linspace(-0.3, 0.4, len(parameter), dtype=dtype) * (1 + number % 3)
    return model


def define(model, tokens, offset=0):
    """Logits of one string, by the formulas of GPT-2."""
    table = model.embedding.tokens
    stream = reference.embed(tokens, table, model.embedding.positions, offsets=torch.tensor([offset]))
    for block in model.blocks:
        heads = block.attention.heads
        parts = linear(block.attention.qkv, norm(block.attention_norm, stream)).chunk(3, dim=1)
        q, k, v = (part.reshape(len(tokens), heads, -1) for part in parts)
        stream = stream + linear(block.attention.out, reference.attention(q, k, v).flatten(1))
        inner = linear(block.mlp.expand, norm(block.mlp_norm, stream))
        gelu = inner / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        stream = stream + linear(block.mlp.contract, gelu)
    return norm(model.final_norm, stream) @ table.T


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


def norm(layer, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def strings(lengths, seed=0):
    """Packed random tokens and the bounds of the strings."""
    tokens = torch.randint(VOCABULARY, (sum(lengths),), generator=torch.Generator().manual_seed(seed))
    return tokens, torch.tensor([0, *lengths]).cumsum(0).int()


def gradients(model, logits):
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return torch.autograd.grad((logits * weights).sum(), list(model.parameters()))


def assert_close(actual, expected, atol=1e-10):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


# ---- against the definition ----


@settings(max_examples=30)
@given(lengths_of_sequences, st.sampled_from(positions.NAMES), st.sampled_from([(1, 1), (1, 2), (3, 4)]), st.data())
@example([1], "ape", (1, 1), None)
@example([0, 8, 1], "nope", (3, 4), None)
def test_packed_strings_follow_the_definition_one_by_one(lengths, encoding, layers_and_heads, data):
    model = build(encoding, layers=layers_and_heads[0], heads=layers_and_heads[1])
    tokens, bounds = strings(lengths)
    offsets = [0] * len(lengths) if data is None else [data.draw(st.integers(0, CONTEXT - n)) for n in lengths]
    logits = model(tokens, cu_seqlens=bounds, offsets=torch.tensor(offsets))
    expected = [define(model, *each) for each in zip(tokens.split(lengths), offsets, strict=True) if len(each[0])]
    assert_close(logits, torch.cat(expected))


@pytest.mark.parametrize("encoding", positions.NAMES)
def test_gradients_of_packed_strings_follow_the_definition(encoding):
    model, lengths = build(encoding), [3, 1, 5]
    tokens, bounds = strings(lengths)
    expected = gradients(model, torch.cat([define(model, string) for string in tokens.split(lengths)]))
    for actual, definition in zip(gradients(model, model(tokens, cu_seqlens=bounds)), expected, strict=True):
        assert_close(actual, definition)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("encoding", "offset"), [("nope", 0), ("ape", 0), ("ape", 5)])
def test_inputs_that_occur_many_times_are_projected_once_and_nothing_else_changes(encoding, offset, dtype):
    model = build(encoding, layers=3, dtype=dtype)
    lengths = [0, 1, 8, *[1 + number % 8 for number in range(150)]]
    tokens, bounds = strings(lengths)
    offsets = torch.arange(len(lengths)) % (offset + 1)
    projected = []
    hook = model.blocks[0].attention.qkv.register_forward_pre_hook(lambda _, given: projected.append(len(given[0])))
    logits = model(tokens, cu_seqlens=bounds, offsets=offsets)
    hook.remove()
    positions = torch.cat([torch.arange(n) + first for n, first in zip(lengths, offsets, strict=True)])
    inputs = torch.stack([tokens, positions if encoding == "ape" else 0 * positions])
    assert projected == [inputs.unique(dim=1).shape[1]]
    pairs = zip(tokens.split(lengths), offsets.tolist(), strict=True)
    expected = torch.cat([define(model, string, first) for string, first in pairs if len(string)])
    close = dict(rtol=1e-3, atol=1e-3) if dtype == torch.float32 else {}
    torch.testing.assert_close(logits, expected, **close)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    parameters = list(model.parameters())
    ours, plain = (torch.autograd.grad((x * weights).sum(), parameters) for x in (logits, expected))
    for gradient, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient, wanted, **({k: 10 * v for k, v in close.items()}))


def test_single_precision_is_close_to_double():
    exact, lengths = build(), [8, 3]
    model = build(dtype=torch.float32)
    tokens, bounds = strings(lengths)
    assert_close(model(tokens, cu_seqlens=bounds).double(), exact(tokens, cu_seqlens=bounds), atol=1e-4)


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 5), (1, CONTEXT)])
def test_strings_of_one_length_may_come_as_a_matrix(batch, length):
    model, (tokens, bounds) = build(), strings([length] * batch)
    offsets = torch.arange(batch) % (CONTEXT - length + 1)
    packed = model(tokens, cu_seqlens=bounds, offsets=offsets)
    assert torch.equal(model(tokens.view(batch, length), offsets=offsets), packed.view(batch, length, VOCABULARY))


def test_without_bounds_the_tokens_are_one_string():
    model, (tokens, bounds) = build(), strings([6])
    assert torch.equal(model(tokens), model(tokens, cu_seqlens=bounds))


def test_steps_in_single_precision_do_not_depend_on_the_default_dtype():
    tokens, packing = strings([5, 3])
    found = []
    for default in (torch.float32, torch.float64):
        model = build(dtype=torch.float32)
        torch.set_default_dtype(default)
        try:
            optimizer = AdamW(model, 0.01, clip_norm=1.0)
            loss = model(tokens, cu_seqlens=packing).square().mean()
            loss.backward()
            optimizer.step(0.1)
        finally:
            torch.set_default_dtype(torch.float32)
        found.append([loss.detach(), *(parameter.detach().clone() for parameter in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.equal(one, other)


def test_padding_behind_a_string_changes_nothing():
    """What a caller with padded tensors sees: the logits of the string are those without the padding."""
    model, (tokens, _) = build(), strings([9])
    padded = model(tokens[None, :])[0, :4]
    assert_close(padded, model(tokens[None, :4])[0])


# ---- chosen rows ----


@settings(max_examples=30)
@given(lengths_of_sequences, st.sampled_from(positions.NAMES), st.integers(1, 3), st.data())
def test_logits_at_rows_are_all_logits_at_these_rows(lengths, encoding, layers, data):
    model = build(encoding, layers=layers)
    tokens, bounds = strings(lengths)
    rows = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(tokens) - 1), min_size=1))))
    every = model(tokens, cu_seqlens=bounds)[rows]
    chosen = model(tokens, cu_seqlens=bounds, rows=rows)
    assert_close(chosen, every)
    for few, full in zip(gradients(model, chosen), gradients(model, every), strict=True):
        assert_close(few, full)


def test_prepared_packing_and_rows_change_nothing():
    model, (tokens, bounds) = build(), strings([4, 3])
    rows = torch.tensor([3, 5, 6])
    packing = Packing.from_cu_seqlens(bounds, 7)
    prepared = model(tokens, cu_seqlens=packing, rows=RowSelection.from_rows(rows, packing))
    assert torch.equal(prepared, model(tokens, cu_seqlens=bounds, rows=rows))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_stacked_models_and_their_gradients_by_torch_func(dtype):
    tokens, bounds = strings([4, 3])
    tokens, rows, models = tokens.to(dtype), torch.tensor([1, 3, 6], dtype=dtype), [build(seed=0), build(seed=1)]

    def logits(parameters):
        return torch.func.functional_call(models[0], parameters, (tokens,), dict(cu_seqlens=bounds, rows=rows))

    stacked, _ = torch.func.stack_module_state(models)
    out = torch.func.vmap(logits)(stacked)
    slopes = torch.func.vmap(torch.func.grad(lambda parameters: logits(parameters).square().sum()))(stacked)
    for number, model in enumerate(models):
        alone = model(tokens, cu_seqlens=bounds, rows=rows)
        assert_close(out[number], alone)
        alone.square().sum().backward()
        for name, parameter in model.named_parameters():
            assert_close(slopes[name][number], parameter.grad)


def test_no_rows_wanted_and_no_tokens_at_all():
    model, (tokens, bounds) = build(), strings([4, 3])
    none = torch.tensor([], dtype=torch.int64)
    assert model(tokens, cu_seqlens=bounds, rows=none).shape == (0, VOCABULARY)
    assert model(tokens[:0]).shape == (0, VOCABULARY)
    assert model(tokens[:0].view(2, 0)).shape == (2, 0, VOCABULARY)


def test_logits_are_the_unembedded_hidden_rows():
    model, (tokens, bounds) = build(), strings([4, 3])
    hidden = model.hidden(tokens, cu_seqlens=bounds)
    assert torch.equal(model.unembed(hidden), model(tokens, cu_seqlens=bounds))


# ---- what a token can see ----


@pytest.mark.parametrize("encoding", positions.NAMES)
@pytest.mark.parametrize("changed", [0, 3, 4, 8])
def test_a_token_is_seen_by_itself_and_by_later_rows_of_its_string(encoding, changed):
    model, (tokens, bounds) = build(encoding), strings([4, 5])
    other = tokens.clone()
    other[changed] = (tokens[changed] + 1) % VOCABULARY
    differs = (model(tokens, cu_seqlens=bounds) - model(other, cu_seqlens=bounds)).abs().amax(1) > 1e-9
    begin, end = (0, 4) if changed < 4 else (4, 9)
    assert differs.tolist() == [changed <= row and begin <= row < end for row in range(9)]


# ---- offsets ----


def test_without_positions_offsets_are_ignored():
    model, (tokens, bounds) = build("nope"), strings([4, 5])
    far = torch.tensor([3, 10**9])
    assert torch.equal(model(tokens, cu_seqlens=bounds, offsets=far), model(tokens, cu_seqlens=bounds))


@pytest.mark.parametrize("offset", [0, 1, CONTEXT - 9])
def test_an_offset_shifts_the_position_table(offset):
    model, shifted, (tokens, _) = build(), build(), strings([9])
    with torch.no_grad():
        shifted.embedding.positions.copy_(model.embedding.positions.roll(-offset, 0))
    moved = model(tokens, offsets=torch.tensor([offset]))
    assert torch.equal(moved, shifted(tokens))
    assert torch.equal(moved, model(tokens)) == (offset == 0)


# ---- limits ----


def test_a_string_past_the_position_table_is_refused_with_advice():
    model, (tokens, _) = build(), strings([CONTEXT + 1])
    for arguments in ({"tokens": tokens}, {"tokens": tokens[1:], "offsets": torch.tensor([1])}):
        with pytest.raises(ValueError, match=r"needs 17 positions and the position table has 16: .*context.*nope"):
            model(**arguments)
    assert model(tokens[1:]).shape == (CONTEXT, VOCABULARY)


def test_without_positions_no_string_is_too_long():
    model, (tokens, _) = build("nope"), strings([10 * CONTEXT])
    assert model.config.longest is None
    assert_close(model(tokens, rows=torch.tensor([159])), define(model, tokens)[-1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cu_seqlens": torch.tensor([0, 5])}, "cu_seqlens must start at 0 and end at .* 6"),
        ({"cu_seqlens": Packing.uniform(2, 4)}, "cu_seqlens packs 8 rows and is given with 6"),
        ({"rows": torch.tensor([6])}, r"query_rows must lie in 0\.\.5"),
        ({"rows": torch.tensor([2, 1])}, "query_rows must increase"),
        ({"offsets": torch.tensor([0, 0])}, "offsets must be one for each of 1 sequences"),
    ],
)
def test_arguments_that_do_not_fit_the_tokens_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build()(torch.zeros(6, dtype=torch.int64), **arguments)


@pytest.mark.parametrize("option", ["cu_seqlens", "rows"])
def test_packed_arguments_with_a_matrix_are_refused(option):
    with pytest.raises(ValueError, match=r"tokens of shape \[B, T\] go without cu_seqlens and rows"):
        build()(torch.zeros(2, 3, dtype=torch.int64), **{option: torch.tensor([0, 3])})


GOOD = {"vocab_size": 5, "layers": 1, "heads": 2, "width": 8}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        *(({name: 0}, ValueError, f"{name} must be at least 1, got 0") for name in GOOD),
        ({"context": -3}, ValueError, "context must be at least 1, got -3"),
        ({"layers": 1.0}, TypeError, "layers must be a whole number, got 1.0"),
        ({"heads": True}, TypeError, "heads must be a whole number, got True"),
        ({"width": "8"}, TypeError, "width must be a whole number, got '8'"),
        ({"context": None}, TypeError, "context must be a whole number, got None"),
        ({"heads": 3}, ValueError, "width must be a multiple of heads, got width 8 and 3 heads"),
        ({"positions": "rope"}, ValueError, "unknown positions 'rope': choose one of ape, nope"),
        ({"init_std": -0.1}, ValueError, "init_std must be positive, got -0.1"),
        ({"init_std": math.nan}, ValueError, "init_std must be positive, got nan"),
        ({"layer_norm_epsilon": 0.0}, ValueError, "layer_norm_epsilon must be positive, got 0.0"),
    ],
)
def test_a_wrong_shape_is_named_in_one_sentence(changes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ModelConfig(**GOOD | changes)


def test_a_configuration_survives_its_dictionary():
    config = ModelConfig(**GOOD, positions="nope", context=9, init_std=0.1)
    assert ModelConfig(**config.as_dict()) == config


@pytest.mark.parametrize("heads", [0, 3])
def test_attention_layer_refuses_heads_that_do_not_divide_its_width(heads):
    with pytest.raises(ValueError, match=f"width must be a multiple of heads, got width 8 and {heads} heads"):
        CausalSelfAttention(8, heads)


# ---- initial weights ----


def test_the_seed_alone_decides_the_weights():
    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        return torch.cat(
            [parameter.detach().flatten() for parameter in Transformer(ModelConfig(**GOOD), seed).parameters()]
        )

    assert torch.equal(weights(3, 0), weights(3, 1))
    assert not torch.equal(weights(3, 0), weights(4, 0))


def test_initial_weights_are_those_of_gpt2():
    """N(0, 0.02), residual projections over sqrt(2 L), biases 0, norms the identity, all in fp32."""
    model = Transformer(ModelConfig(vocab_size=500, layers=3, heads=2, width=128, context=200))
    for name, parameter in model.state_dict().items():
        assert parameter.dtype == torch.float32
        if parameter.dim() == 1:
            assert bool((parameter == (1.0 if "norm" in name and name.endswith("weight") else 0.0)).all()), name
            continue
        std = 0.02 / math.sqrt(6) if name.endswith(("out.weight", "contract.weight")) else 0.02
        errors = 5 / math.sqrt(parameter.numel())  # five standard errors of the mean
        assert abs(float(parameter.mean())) < errors * std, name
        assert float(parameter.std()) == pytest.approx(std, rel=errors), name


@pytest.mark.parametrize("encoding", positions.NAMES)
def test_number_of_parameters(encoding):
    """Token and output table are one; only "ape" has a position table."""
    layers, width, context = 3, 16, 40
    model = Transformer(ModelConfig(VOCABULARY, layers, 4, width, encoding, context))
    block = 12 * width**2 + 13 * width
    tables = VOCABULARY * width + (context * width if encoding == "ape" else 0)
    assert sum(parameter.numel() for parameter in model.parameters()) == layers * block + tables + 2 * width


# ---- parts ----


@pytest.mark.parametrize("which", [(), ("bias", "window"), ("logit_scale",), ("key_bias",)], ids=str)
@pytest.mark.parametrize("rows", [[11], [0, 3, 4, 9, 11], list(range(12))], ids=len)
def test_attention_layer_passes_on_the_terms_of_a_score(which, rows):
    """All rows by the definition; chosen rows, by whichever way is cheaper, as out of all."""
    layer, bounds = CausalSelfAttention(8, 2).double(), torch.tensor([0, 4, 4, 12])
    hidden, packing = torch.arange(96.0).double().sin().view(12, 8), Packing.from_cu_seqlens(bounds, 12)
    table, column = torch.tensor([[0.3, -1.0, 0.5], [0.0, 2.0, -0.7]]).double(), torch.linspace(0, 2, 24).view(12, 2)
    terms = {"bias": table, "window": 3, "key_bias": column.double(), "logit_scale": column.cos().double()}
    terms = {name: terms[name] for name in which}
    q, k, v = layer.qkv(hidden).view(12, 3, 2, 4).unbind(1)
    expected = layer.out(reference.attention(q, k, v, cu_seqlens=packing.cu_seqlens, **terms).flatten(1))
    assert_close(layer(hidden, packing, **terms), expected, atol=1e-12)
    if "logit_scale" in terms:
        terms["logit_scale"] = terms["logit_scale"][rows]
    chosen = RowSelection.from_rows(torch.tensor(rows), packing)
    assert_close(layer(hidden, packing, chosen, **terms), expected[rows], atol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 20])
def test_mlp_without_gradients_takes_rows_in_pieces(rows, monkeypatch):
    monkeypatch.setattr(MLP, "ROWS_AT_ONCE", 8)
    mlp, hidden = MLP(4).double(), torch.linspace(-3, 3, 4 * rows, dtype=torch.float64).view(rows, 4)
    whole = mlp(hidden)
    with torch.no_grad():
        assert_close(mlp(hidden), whole.detach(), atol=1e-14)
    assert whole.requires_grad


def test_gelu_is_the_tanh_form():
    mlp = MLP(1).double()
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.fill_(0.0)
        mlp.expand.weight[0] = mlp.contract.weight[0, 0] = 1.0
        x = torch.linspace(-4, 4, 9, dtype=torch.float64).view(-1, 1)
        assert_close(mlp(x), F.gelu(x, approximate="tanh"), atol=1e-15)
        assert float((mlp(x) - F.gelu(x)).abs().max()) > 1e-4
