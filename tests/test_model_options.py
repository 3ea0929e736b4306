"""The options of Limit Transformers: such a model against its definition, its gradients, and what is refused."""

import math

import pytest
import torch

import lengen_fast as lf
from lengen_fast.model import ModelConfig, Transformer
from lengen_fast.ops import DistanceBias, reference

EVERYTHING = dict(
    head_width=3,
    mlp_width=10,
    activation="relu",
    heaviside_units=4,
    normalization="none",
    tied_embeddings=False,
    period=3,
    local_reach=2,
    log_n_scaling=True,
)


def build(**options):
    config = ModelConfig(7, 2, 2, 8, init_std=0.5, **options)
    model = Transformer(config).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() == 1 or parameter.shape[1] == config.local_reach:
                parameter += torch.linspace(-0.3, 0.4, parameter.numel()).view_as(parameter) * (1 + number % 3)
    return model


def define(model, tokens, offset):
    """Logits of one string by the formulas of a Limit Transformer."""
    n = len(tokens)
    stream = model.embedding.tokens[tokens] + model.embedding.positions[(torch.arange(n) + offset) % 3]
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        q, k, v = (x.reshape(n, 2, 3) for x in linear(attention.qkv, stream).chunk(3, dim=1))
        scale = torch.arange(1, n + 1).log()[:, None] * attention.log_n_factor
        bias = DistanceBias(attention.local_bias, "zero")
        stream = stream + linear(attention.out, reference.attention(q, k, v, bias=bias, logit_scale=scale).flatten(1))
        units = linear(mlp.expand, stream)
        stream = stream + linear(mlp.contract, torch.cat([(units[:, :4] > 0).double(), units[:, 4:].relu()], 1))
    return stream @ model.embedding.unembedding.T


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("rows", [None, [0, 8, 10]])
@pytest.mark.parametrize("length", [11, 90])  # in the longer string each token comes again at its place in the period
def test_a_model_with_every_option_follows_the_definition(offset, rows, length):
    model = build(**EVERYTHING)
    tokens = torch.randint(7, (length,), generator=torch.Generator().manual_seed(1))
    chosen = None if rows is None else torch.tensor(rows)
    found = model(tokens, offsets=torch.tensor([offset]), rows=chosen)
    expected = define(model, tokens, offset)
    torch.testing.assert_close(found, expected if rows is None else expected[chosen])


def test_every_parameter_learns():
    model = build(**EVERYTHING).float()
    model(torch.arange(7), offsets=torch.tensor([2])).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_nothing_comes_before_a_heaviside_unit():
    model = build(heaviside_units=32)
    model(torch.arange(7)).logsumexp(-1).sum().backward()
    assert model.blocks[0].mlp.expand.weight.grad.abs().sum() == 0
    assert model.blocks[0].mlp.contract.weight.grad.abs().sum() > 0


def test_without_options_the_parameters_are_those_of_gpt2():
    names = {name.removeprefix("blocks.0.") for name, _ in Transformer(ModelConfig(7, 1, 2, 8)).named_parameters()}
    parts = ("attention_norm", "attention.qkv", "attention.out", "mlp_norm", "mlp.expand", "mlp.contract", "final_norm")
    assert names == {"embedding.tokens", "embedding.positions"} | {
        f"{part}.{kind}" for part in parts for kind in ("weight", "bias")
    }


def test_a_configuration_names_only_the_options_in_use():
    plain = ModelConfig(7, 1, 2, 8).as_dict()
    assert len(plain) == 8
    config = ModelConfig(7, 1, 2, 8, **EVERYTHING)
    assert config.as_dict() == plain | EVERYTHING
    assert ModelConfig(**config.as_dict()) == config
    assert config.options == EVERYTHING


def test_a_new_factor_of_log_n_is_one_at_length_fifty():
    factor = Transformer(ModelConfig(7, 1, 2, 8, log_n_scaling=True)).blocks[0].attention.log_n_factor
    torch.testing.assert_close(factor * math.log(50), torch.ones(2))


def test_a_periodic_model_takes_any_length_and_is_evaluated_at_any_offset():
    config = ModelConfig(5, 1, 1, 4, context=2, period=3)
    assert config.longest is None
    table = lf.evaluate(Transformer(config), lf.task("binary_majority"), [100], count=3, offsets="random")
    assert table[100].offsets == "random"
    assert config.context_for(10) == 12


def test_a_periodic_model_trains_at_every_residue():
    task = lf.task("binary_majority")
    config = ModelConfig(task.vocab_size, 1, 1, 8, period=2)
    run = lf.train(config, task, lf.TrainConfig(steps=3, batch=4, length=(1, 5)))
    assert run.step == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(head_width=0), ValueError, "head_width must be at least 1, got 0"),
        (dict(mlp_width=0), ValueError, "mlp_width must be at least 1, got 0"),
        (dict(mlp_width=2.0), TypeError, "mlp_width must be a whole number, got 2.0"),
        (dict(activation="tanh"), ValueError, "activation must be one of gelu, relu, got 'tanh'"),
        (dict(heaviside_units=33), ValueError, "heaviside_units must be at most the 32 units, got 33"),
        (dict(heaviside_units=-1), ValueError, "heaviside_units must be at least 0, got -1"),
        (dict(normalization="batch"), ValueError, "normalization must be one of layer, none, got 'batch'"),
        (dict(tied_embeddings=1), TypeError, "tied_embeddings must be True or False, got 1"),
        (dict(period=0), ValueError, "period must be at least 1, got 0"),
        (
            dict(period=2, positions="nope"),
            ValueError,
            "period needs a position table: use positions 'ape', not 'nope'",
        ),
        (dict(local_reach=-1), ValueError, "local_reach must be at least 0, got -1"),
        (dict(log_n_scaling=None), TypeError, "log_n_scaling must be True or False, got None"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ModelConfig(7, 1, 2, 8, **options)


def test_gpt2_has_no_place_for_them():
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="model has head_width=2, which GPT-2 has no place for"):
        lf.to_gpt2(Transformer(ModelConfig(7, 1, 2, 8, head_width=2)))
