# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""BART, Marian and T5 with random weights, and this family with the same weights: equal logits, equal beams."""

import re

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_attn import HfAttnForConditionalGeneration
from tests.utils import tiny_batch, tiny_config


SIZES = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 48,
}
# Patterns of the reference's names, and ours. None: has no counterpart.
BART_NAMES = {
    r"\.embed_positions\.": ".positions.embedding.",
    r"\.self_attn\.": ".mixer.",
    r"\.self_attn_layer_norm\.": ".mixer_layer_norm.",
    r"\.(fc[12])\.": r".feed_forward.\1.",
    r"^final_logits_bias$": "lm_head.bias",
}
T5_NAMES = {
    r"^shared\.": "model.shared.",
    r"^(encoder|decoder)\.": r"model.\1.",
    r"\.block\.": ".layers.",
    r"\.layer\.0\.SelfAttention\.relative_attention_bias\.": ".POSITIONS.",
    r"\.layers\.0\.POSITIONS\.": ".positions.embedding.",
    r"\.layer\.0\.SelfAttention\.": ".mixer.",
    r"\.layer\.0\.layer_norm\.": ".mixer_layer_norm.",
    r"\.layer\.1\.EncDecAttention\.": ".encoder_attn.",
    r"decoder(.*)\.layer\.1\.layer_norm\.": r"decoder\1.encoder_attn_layer_norm.",
    r"\.layer\.[12]\.layer_norm\.": ".final_layer_norm.",
    r"\.layer\.[12]\.DenseReluDense\.": ".feed_forward.",
    r"\.(q|k|v)\.": r".\1_proj.",
    r"\.o\.": ".out_proj.",
    r"\.wi\.": ".fc1.",
    r"\.wi_0\.": ".gate.",
    r"\.wi_1\.": ".fc1.",
    r"\.wo\.": ".fc2.",
    r"\.final_layer_norm\.weight$": ".final_layer_norm.weight",
    r"(encoder|decoder)\.final_layer_norm\.": r"\1.layer_norm.",
}


def renamed(weights, patterns):
    result = {}
    for name, weight in weights.items():
        for pattern, replacement in patterns.items():
            name = re.sub(pattern, replacement, name)
        result[name] = weight.clone()
    return result


def randomize(model):
    """Weights large enough for attention to be far from uniform."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(std=0.3)
        if getattr(model, "final_logits_bias", None) is not None:
            model.final_logits_bias.normal_()
    return model.eval()


def bart():
    reference = randomize(
        BartForConditionalGeneration(
            BartConfig(**SIZES, dropout=0.0, scale_embedding=True, decoder_start_token_id=2, forced_eos_token_id=None)
        )
    )
    config = tiny_config(
        norm_position="post",
        normalize_embedding=True,
        position_embedding_type="learned",
        activation_function="gelu",
        logits_bias=True,
    )
    weights = renamed(reference.state_dict(), BART_NAMES)
    for name in [name for name in weights if "positions.embedding" in name]:
        weights[name] = weights[name][2:]  # BART's positions start at 2
    weights["lm_head.bias"] = weights["lm_head.bias"][0]
    return reference, config, weights


def marian():
    reference = randomize(
        MarianMTModel(
            MarianConfig(
                **SIZES,
                dropout=0.0,
                scale_embedding=True,
                activation_function="swish",
                pad_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
                forced_eos_token_id=None,
            )
        )
    )
    config = tiny_config(norm_position="post", activation_function="swish", logits_bias=True, decoder_start_token_id=1)
    weights = renamed(reference.state_dict(), BART_NAMES)
    weights = {name: weight for name, weight in weights.items() if "positions" not in name}
    weights["lm_head.bias"] = weights["lm_head.bias"][0]
    return reference, config, weights


def t5(feed_forward="relu"):
    reference = randomize(
        T5ForConditionalGeneration(
            T5Config(
                vocab_size=40,
                d_model=16,
                d_kv=6,  # heads need not add up to d_model
                d_ff=24,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
                relative_attention_num_buckets=8,
                relative_attention_max_distance=16,
                feed_forward_proj=feed_forward,
                pad_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            )
        )
    )
    config = tiny_config(
        head_dim=6,
        norm_type="rmsnorm",
        layer_norm_eps=1e-6,
        position_embedding_type="relative_bias",
        relative_attention_num_buckets=8,
        relative_attention_max_distance=16,
        activation_function="relu" if feed_forward == "relu" else "gelu_new",
        gated_ffn=feed_forward != "relu",
        use_bias=False,
        scale_attention=False,
        scale_embedding=False,
        decoder_start_token_id=1,
    )
    weights = renamed(reference.state_dict(), T5_NAMES)
    # T5 scales the last hidden states where the head is tied to the embedding.
    weights["model.decoder.layer_norm.weight"] *= config.d_model**-0.5
    return reference, config, weights


def gated_t5():
    return t5("gated-gelu")


@pytest.fixture(params=[bart, marian, t5, gated_t5], ids=lambda family: family.__name__)
def pair(request):
    reference, config, weights = request.param()
    model = HfAttnForConditionalGeneration(config)
    model.load_state_dict(weights, strict=True)
    return reference, model.eval()


def test_equal_logits_and_gradients(pair):
    reference, model = pair
    batch = tiny_batch(model.config, padding="right")
    decoder_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    outputs = [each(**batch, decoder_input_ids=decoder_ids) for each in (reference, model)]
    torch.testing.assert_close(outputs[1].logits, outputs[0].logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss, atol=1e-5, rtol=1e-5)
    for output in outputs:
        output.loss.backward()
    # T5 trains the embedding of the padding token as any other; we and the others do not.
    real = torch.arange(model.config.vocab_size) != model.config.pad_token_id
    gradients = [each.get_input_embeddings().weight.grad[real] for each in (reference, model)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_equal_beam_search(pair):
    reference, model = pair
    batch = tiny_batch(model.config, padding="right", source_length=9)
    del batch["labels"]
    settings = {"num_beams": 4, "max_new_tokens": 12, "num_return_sequences": 2, "no_repeat_ngram_size": 1}
    sequences = [each.generate(**batch, **settings) for each in (reference, model)]
    assert torch.equal(*sequences)
    assert len({tuple(row) for row in sequences[0].tolist()}) > 2
