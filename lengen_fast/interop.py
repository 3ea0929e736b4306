"""Weights to and from Hugging Face's GPT-2, the architecture that arXiv 2410.02140 trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengen_fast.model import ModelConfig, Transformer

if TYPE_CHECKING:
    from transformers import GPT2Config, GPT2LMHeadModel

GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")  # Hugging Face's names of the activation in ``layers.MLP``


def from_gpt2(hf_model: GPT2LMHeadModel) -> Transformer:
    """A ``Transformer`` with learned positions and the weights of a Hugging Face GPT-2, on its device and in fp32.

    Only weights are copied: dropout, generation settings and special token ids stay behind. An offset of
    ``Transformer.forward`` is the first of Hugging Face's ``position_ids``.

    Raises:
        TypeError: it is not a ``GPT2LMHeadModel``.
        ValueError: it differs from GPT-2 in a way that ``Transformer`` has no place for.
        ImportError: transformers is not installed.
    """
    _check_convertible(hf_model)
    config = hf_model.config
    model = Transformer(
        ModelConfig(
            vocab_size=config.vocab_size,
            layers=config.n_layer,
            heads=config.n_head,
            width=config.n_embd,
            positions="ape",
            context=config.n_positions,
            init_std=config.initializer_range,
            layer_norm_epsilon=config.layer_norm_epsilon,
        )
    ).to(hf_model.device)
    _copy((ours, theirs) for theirs, ours in _pairs(model, hf_model))
    return model


def to_gpt2(model: Transformer, context: int | None = None) -> GPT2LMHeadModel:
    """A Hugging Face ``GPT2LMHeadModel`` with the weights of ``model``, without dropout, on its device.

    Args:
        model: with learned positions ("ape") or none ("nope").
        context: rows of the position table for a model without positions, whose table is all zeros; None takes
            ``model.config.context``. A model with a table keeps its own.

    Raises:
        ValueError: ``context`` is below 1, or is not the length of the table that the model has; or the model has
            options that GPT-2 has not.
        ImportError: transformers is not installed.
    """
    if model.config.options:
        name, value = next(iter(model.config.options.items()))
        raise ValueError(f"model has {name}={value!r}, which GPT-2 has no place for")
    transformers = _transformers()
    hf_model = transformers.GPT2LMHeadModel(_gpt2_config(model.config, context)).to(model.embedding.tokens.device)
    hf_model.generation_config = transformers.GenerationConfig()
    if model.embedding.positions is None:
        hf_model.transformer.wpe.weight.data.zero_()
    _copy(_pairs(model, hf_model))
    return hf_model


def _pairs(model: Transformer, hf_model: GPT2LMHeadModel) -> Iterator[tuple[Tensor, Tensor]]:
    """(Hugging Face's, ours): views of one shape that hold the same numbers. Their Conv1D is a transposed Linear."""
    theirs = hf_model.transformer
    yield theirs.wte.weight, model.embedding.tokens
    if model.embedding.positions is not None:
        yield theirs.wpe.weight, model.embedding.positions
    yield from _norm(theirs.ln_f, model.final_norm)
    for their_block, block in zip(theirs.h, model.blocks, strict=True):
        yield from _norm(their_block.ln_1, block.attention_norm)
        yield from _linear(their_block.attn.c_attn, block.attention.qkv)
        yield from _linear(their_block.attn.c_proj, block.attention.out)
        yield from _norm(their_block.ln_2, block.mlp_norm)
        yield from _linear(their_block.mlp.c_fc, block.mlp.expand)
        yield from _linear(their_block.mlp.c_proj, block.mlp.contract)


def _norm(theirs, ours) -> Iterator[tuple[Tensor, Tensor]]:
    yield theirs.weight, ours.weight
    yield theirs.bias, ours.bias


def _linear(conv1d, linear) -> Iterator[tuple[Tensor, Tensor]]:
    yield conv1d.weight.T, linear.weight
    yield conv1d.bias, linear.bias


@torch.no_grad()
def _copy(pairs: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Write the second of each pair into the first."""
    for destination, source in pairs:
        destination.copy_(source)


def _gpt2_config(config: ModelConfig, context: int | None) -> GPT2Config:
    if config.longest is not None and context not in (None, config.longest):
        raise ValueError(f"context is {context}, but the model has a table of {config.longest} positions; leave it out")
    context = config.context if context is None else context
    if context < 1:
        raise ValueError(f"context must be at least 1, got {context}")
    return _transformers().GPT2Config(
        vocab_size=config.vocab_size,
        n_layer=config.layers,
        n_head=config.heads,
        n_embd=config.width,
        n_positions=context,
        initializer_range=config.init_std,
        layer_norm_epsilon=config.layer_norm_epsilon,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )


def _check_convertible(hf_model: GPT2LMHeadModel) -> None:
    if not isinstance(hf_model, _transformers().GPT2LMHeadModel):
        raise TypeError(f"hf_model must be a transformers.GPT2LMHeadModel, got {type(hf_model).__name__}")
    config = hf_model.config
    table = hf_model.transformer.wte.weight
    for fits, difference in (
        (config.activation_function in GELU_TANH, f"has activation_function {config.activation_function!r}"),
        (config.n_inner in (None, 4 * config.n_embd), f"has an MLP of {config.n_inner} units, not 4 * {config.n_embd}"),
        (not config.add_cross_attention, "has cross-attention"),
        (config.scale_attn_weights, "does not divide the attention logits by sqrt(head width)"),
        (not config.scale_attn_by_inverse_layer_idx, "divides the attention logits by the number of the layer"),
        (torch.equal(hf_model.lm_head.weight, table), "has an unembedding that is not tied to the token embedding"),
    ):
        if not fits:
            raise ValueError(
                f"hf_model {difference}; only GPT-2 with GELU in its tanh form, an MLP of 4 times the width, causal "
                f"self-attention scaled by 1/sqrt(head width) and tied embeddings can be taken over"
            )


def _transformers():
    try:
        import transformers
    except ImportError as error:
        raise ImportError("Hugging Face models need the transformers package: pip install 'transformers>=5'") from error
    return transformers
