"""lengen_fast.interop: the same weights give the same logits in Hugging Face's GPT-2, in both directions."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lengen_fast.interop import from_gpt2, to_gpt2
from lengen_fast.model import ModelConfig, Transformer

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4  # largest difference of two fp32 logits
VOCAB, CONTEXT = 29, 40
SHAPES = [(1, 1, 16), (2, 4, 64), (4, 2, 32), (3, 3, 48), (1, 8, 8)]
LENGTHS = [7, 1, 19, 12, 19]
OFFSETS = [3, 39, 0, 11, 21]


def randomize(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter, biases and norms too, a value that shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() < 2) * 0.5)
    return module.eval()


def hugging_face(layers: int, heads: int, width: int, **options) -> transformers.GPT2LMHeadModel:
    config = transformers.GPT2Config(
        **{"vocab_size": VOCAB, "n_positions": CONTEXT, "n_layer": layers, "n_head": heads, "n_embd": width} | options
    )
    return randomize(transformers.GPT2LMHeadModel(config))


def ours(layers: int, heads: int, width: int, **options) -> Transformer:
    return randomize(Transformer(ModelConfig(VOCAB, layers, heads, width, **{"context": CONTEXT} | options)))


def padded_batch(lengths: list[int], offsets: list[int], seed: int = 1):
    """tokens [B, T], attention mask [B, T] and position_ids [B, T] of a right-padded batch."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(max(lengths))
    mask = steps < torch.tensor(lengths)[:, None]
    tokens = torch.randint(VOCAB, mask.shape, generator=generator)
    positions = (steps + torch.tensor(offsets)[:, None]).clamp(max=CONTEXT - 1)
    return tokens, mask, positions


@torch.no_grad()
def assert_same_logits(model: Transformer, hf_model, lengths=LENGTHS, offsets=OFFSETS) -> None:
    """Packed logits of ours against each row of the padded batch of theirs."""
    tokens, mask, positions = padded_batch(lengths, offsets)
    expected = hf_model(tokens, attention_mask=mask.long(), position_ids=positions).logits[mask]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    packed = model(tokens[mask], cu_seqlens=cu_seqlens, offsets=torch.tensor(offsets))
    assert expected.abs().max() > 0.5, "the weights are too small for the comparison to mean anything"
    for begin, end in pairwise(cu_seqlens):
        assert (packed[begin:end] - expected[begin:end]).abs().max() < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_from_gpt2_gives_the_same_logits(shape):
    hf_model = hugging_face(*shape)
    assert_same_logits(from_gpt2(hf_model), hf_model)


@pytest.mark.parametrize("positions", ["ape", "nope"])
@pytest.mark.parametrize("shape", SHAPES)
def test_to_gpt2_gives_the_same_logits(shape, positions):
    model = ours(*shape, positions=positions)
    assert_same_logits(model, to_gpt2(model).eval())


@torch.no_grad()
def test_an_offset_is_the_first_position_id():
    hf_model = hugging_face(2, 2, 32)
    model = from_gpt2(hf_model)
    tokens, _, _ = padded_batch([20] * 3, [0] * 3)
    offsets = torch.tensor([0, 5, 20])
    position_ids = torch.arange(20) + offsets[:, None]
    expected = hf_model(tokens, position_ids=position_ids).logits
    assert (model(tokens, offsets=offsets) - expected).abs().max() < TOLERANCE


@torch.no_grad()
def test_selected_rows_are_rows_of_their_logits():
    hf_model = hugging_face(2, 2, 32)
    tokens, mask, positions = padded_batch(LENGTHS, OFFSETS)
    expected = hf_model(tokens, attention_mask=mask.long(), position_ids=positions).logits[mask]
    rows = torch.tensor([0, 6, 7, 20, 26, 57])
    cu_seqlens = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    chosen = from_gpt2(hf_model)(tokens[mask], cu_seqlens=cu_seqlens, offsets=torch.tensor(OFFSETS), rows=rows)
    assert (chosen - expected[rows]).abs().max() < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trips_keep_every_bit(shape):
    model, hf_model = ours(*shape), hugging_face(*shape)
    assert_equal_weights(from_gpt2(to_gpt2(model)), model)
    assert_equal_weights(to_gpt2(from_gpt2(hf_model)), hf_model)


def test_round_trips_keep_the_shape():
    model = ours(2, 2, 32, init_std=0.1, layer_norm_epsilon=1e-3)
    assert from_gpt2(to_gpt2(model)).config == model.config


def assert_equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    expected = other.state_dict()
    assert one.state_dict().keys() == expected.keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_copy_shares_no_memory():
    hf_model = hugging_face(1, 1, 16)
    model = from_gpt2(hf_model)
    before = model.blocks[0].attention.qkv.weight.clone()
    hf_model.transformer.h[0].attn.c_attn.weight.data.zero_()
    assert torch.equal(model.blocks[0].attention.qkv.weight, before)


def test_half_precision_is_widened():
    hf_model = hugging_face(1, 1, 16).bfloat16()
    model = from_gpt2(hf_model)
    assert model.embedding.tokens.dtype == torch.float32
    assert torch.equal(model.embedding.tokens, hf_model.transformer.wte.weight.float())


def test_a_model_without_positions_gets_a_table_of_zeros():
    hf_model = to_gpt2(ours(1, 2, 16, positions="nope"), context=77)
    assert hf_model.transformer.wpe.weight.shape == (77, 16)
    assert not hf_model.transformer.wpe.weight.any()


def test_exported_models_have_no_dropout_and_tied_embeddings():
    hf_model = to_gpt2(ours(1, 1, 16))
    assert (hf_model.config.resid_pdrop, hf_model.config.embd_pdrop, hf_model.config.attn_pdrop) == (0, 0, 0)
    assert hf_model.lm_head.weight is hf_model.transformer.wte.weight


def test_exported_models_can_be_stored_and_read_again(tmp_path):
    model = ours(2, 2, 32)
    to_gpt2(model).save_pretrained(tmp_path)
    assert_equal_weights(from_gpt2(transformers.GPT2LMHeadModel.from_pretrained(tmp_path)), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"activation_function": "gelu"}, "activation_function 'gelu'"),
        ({"n_inner": 48}, "an MLP of 48 units, not 4 \\* 16"),
        ({"add_cross_attention": True}, "cross-attention"),
        ({"scale_attn_weights": False}, "sqrt"),
        ({"scale_attn_by_inverse_layer_idx": True}, "number of the layer"),
        ({"tie_word_embeddings": False}, "not tied"),
    ],
)
def test_other_architectures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        from_gpt2(hugging_face(1, 1, 16, **options))


@pytest.mark.parametrize("options", [{"activation_function": "gelu_pytorch_tanh"}, {"n_inner": 64}])
def test_other_names_of_the_same_architecture_are_taken(options):
    hf_model = hugging_face(1, 1, 16, **options)
    assert_same_logits(from_gpt2(hf_model), hf_model)


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="GPT2LMHeadModel, got GPT2Model"):
        from_gpt2(hugging_face(1, 1, 16).transformer)


@pytest.mark.parametrize(("positions", "context", "message"), [("ape", 41, "leave it out"), ("nope", 0, "at least 1")])
def test_a_wrong_context_is_refused(positions, context, message):
    with pytest.raises(ValueError, match=message):
        to_gpt2(ours(1, 1, 16, positions=positions), context=context)


@pytest.mark.parametrize("convert", [from_gpt2, to_gpt2])
def test_the_error_without_transformers_says_what_to_install(convert, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install 'transformers>=5'"):
        convert(ours(1, 1, 16))


def test_the_training_benchmark_gives_both_sides_the_same_loss(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from benchmarks import training

    assert training._loss_difference(training.CASES[0]) < 1e-5
