"""R(T): every term against its definition, worked out plainly from the weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lengen_fast as lf
from lengen_fast.theory import Regularizer
from lengen_fast.theory.product_functions import translation_variation
from lengen_fast.theory.regularizer import fractional_bits, positional_logits

VOCABULARY, WIDTH, CONTEXT = 7, 8, 6


def build(layers=2, heads=2, seed=0, **options):
    config = lf.ModelConfig(VOCABULARY, layers, heads, WIDTH, context=CONTEXT, init_std=0.5, **options)
    model = lf.Transformer(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases and gains are 0 and 1 at first
                parameter += torch.randn(parameter.shape, generator=generator) * 0.3
        for block in model.blocks:
            if block.attention.local_bias is not None:
                block.attention.local_bias.normal_(generator=generator)
    return model


def gain(norm):
    return torch.diag(norm.weight) if isinstance(norm, torch.nn.LayerNorm) else torch.eye(WIDTH, dtype=torch.float64)


@torch.no_grad()
def heads_of(block):
    """For each head K^T Q and V, [C, C], of the logits and values that its inputs have."""
    attention, g = block.attention, gain(block.attention_norm)
    inner = attention.out.in_features
    for head in range(attention.heads):
        size = inner // attention.heads
        rows = [slice(part * inner + head * size, part * inner + (head + 1) * size) for part in range(3)]
        query, key, value = (attention.qkv.weight[each] @ g for each in rows)
        factor = 1.0 if attention.log_n_factor is None else attention.log_n_factor[head]
        out = attention.out.weight[:, head * size : (head + 1) * size]
        yield factor * key.T @ query / math.sqrt(size), out @ value


@torch.no_grad()
def define(model):
    """Every continuous term by its definition."""
    heads = [head for block in model.blocks for head in heads_of(block)]
    norm, spectral = torch.linalg.matrix_norm, lambda x: torch.linalg.matrix_norm(x, ord=2)
    table = model.embedding.positions
    unembedding = model.embedding.tokens if model.embedding.tied else model.embedding.unembedding
    positional = 0.0
    for block in model.blocks:
        bias = block.attention.local_bias
        for head, (key_query, _) in enumerate(heads_of(block)):
            for i in range(CONTEXT):
                product = 0.0 if table is None else table[0] @ key_query @ table[i % len(table)]
                distance = bias[head, i] if bias is not None and i < bias.shape[1] else 0.0
                positional += (product + distance) ** 2
    biases = [x for name, x in model.named_parameters() if name.split(".")[-1] == "bias"]
    return {
        "query_key_norm": max(spectral(key_query) for key_query, _ in heads),
        "value_norm": max(spectral(value) for _, value in heads),
        "expand_norm": max(norm(block.mlp.expand.weight @ gain(block.mlp_norm)) for block in model.blocks),
        "contract_norm": max(norm(block.mlp.contract.weight) for block in model.blocks),
        "unembedding_norm": spectral(unembedding @ gain(model.final_norm)),
        "bias_norm": max(x.norm() for x in biases),
        "token_norm": max(x.norm() for x in model.embedding.tokens),
        "position_norm": 0.0 if table is None else max(x.norm() for x in table),
        "positional": positional,
    }


OPTIONS = {
    "gpt2": {},
    "no positions": {"positions": "nope"},
    "theory": {"normalization": "none", "log_n_scaling": True, "tied_embeddings": False, "mlp_width": 3},
    "wide heads": {"head_width": 5, "normalization": "none"},
    "local": {"local_reach": 3, "head_width": 1},
    "local, no positions": {"local_reach": 9, "positions": "nope"},
    "periodic": {"period": 4},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_terms_follow_their_definitions(options):
    model = build(**options)
    measured = Regularizer.of(model).as_dict()
    for name, value in define(model).items():
        assert measured[name] == pytest.approx(float(value), rel=1e-9, abs=1e-12), name
    assert measured["size"] == 4
    assert measured["value_rank"] == max(
        int(torch.linalg.matrix_rank(value)) for block in model.blocks for _, value in heads_of(block)
    )


def test_the_total_is_the_sum_of_the_named_terms():
    found = Regularizer.of(build())
    terms = found.as_dict()
    total = terms.pop("total")
    assert total == pytest.approx(sum(terms.values()))
    assert found.norms == pytest.approx(sum(value for name, value in terms.items() if name.endswith("_norm")))


@given(st.lists(st.tuples(st.integers(-(2**20), 2**20), st.integers(-3, 30)), min_size=1, max_size=5))
def test_precision_is_the_least_number_of_fractional_bits(fractions):
    values = torch.tensor([m / 2.0**e for m, e in fractions], dtype=torch.float64)
    holder = torch.nn.ParameterList([torch.nn.Parameter(values)])
    bits = fractional_bits(holder)
    assert torch.equal(values * 2.0**bits, torch.round(values * 2.0**bits))
    if bits:
        assert not torch.equal(values * 2.0 ** (bits - 1), torch.round(values * 2.0 ** (bits - 1)))


def test_precision_of_zeros_and_of_the_smallest_number():
    holder = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(3))])
    assert fractional_bits(holder) == 0
    with torch.no_grad():
        holder[0][1] = 2.0**-149
    assert fractional_bits(holder) == 149


@settings(max_examples=20)
@given(st.integers(0, 4), st.integers(0, 100))
def test_the_rank_of_low_rank_values_survives_single_precision(rank, seed):
    model = build(layers=1, seed=seed).float()
    attention = model.blocks[0].attention
    with torch.no_grad():
        for part in attention.out.weight.chunk(attention.heads, dim=1):
            part[:, rank:] = part[:, :rank] @ torch.ones(rank, 4 - rank) if rank else 0.0
    assert Regularizer.of(model).value_rank == rank


def test_positional_logits_are_what_position_vectors_add_to_the_scores():
    model = build(normalization="none", log_n_scaling=True, local_reach=2)
    table = model.embedding.positions
    for block, logits in zip(model.blocks, positional_logits(model), strict=True):
        for head, (key_query, _) in enumerate(heads_of(block)):
            for i in range(CONTEXT):
                for j in range(CONTEXT):
                    bias = block.attention.local_bias[head, i - j] if 0 <= i - j < 2 else 0.0
                    expected = float(table[j] @ key_query @ table[i] + bias)
                    assert float(logits[head, i, j]) == pytest.approx(expected, abs=1e-12)


def test_without_positions_there_are_no_positional_logits():
    assert positional_logits(build(positions="nope")) == []


def test_only_products_that_depend_on_the_distance_alone_do_not_vary():
    assert translation_variation(build(positions="nope", local_reach=3)) == pytest.approx(0.0, abs=1e-20)
    assert translation_variation(build(positions="nope")) == 0.0
    assert 0.1 < translation_variation(build()) <= 1.0
    periodic = build(period=1)  # all positions alike
    assert translation_variation(periodic) == pytest.approx(0.0, abs=1e-20)
