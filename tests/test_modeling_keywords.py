# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""No `forward` ignores a keyword that nobody declares, and none refuses what a backend or transformers declares."""

import pytest
import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import TransformersKwargs

from hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES
from hf_attn.modeling_attention import eager_attention_forward
from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import tiny_batch, tiny_config, tiny_model


MODEL_CLASSES = [
    HfAttnModel,
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
]


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
@pytest.mark.parametrize(
    ("keyword", "nearest"),
    [
        ("decoder_inputs_ids", "decoder_input_ids"),
        ("use_caches", "use_cache"),
        ("output_attention", "output_attentions"),
        ("token_type_ids", None),
    ],
)
def test_an_unknown_keyword_is_refused(model_class, keyword, nearest):
    model = tiny_model(tiny_config(), model_class)
    expected = rf"{model_class.__name__}\.forward has no argument `{keyword}`"
    expected += "" if nearest is None else rf" \(did you mean `{nearest}`\?\)"
    with pytest.raises(TypeError, match=expected):
        model(tiny_batch(model.config)["input_ids"], **{keyword: None})


def test_the_nearest_name_is_that_of_the_installed_version():
    typo = CACHE_NAME.replace("a", "aa", 1)
    with pytest.raises(TypeError, match=rf"has no argument `{typo}` \(did you mean `{CACHE_NAME}`\?\)"):
        tiny_model()(torch.tensor([[5]]), **{typo: None})


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_stacks_refuse_too(stack):
    model = getattr(tiny_model(model_class=HfAttnModel), stack)
    with pytest.raises(TypeError, match=rf"{type(model).__name__}\.forward has no argument `inputs_embed` \(did"):
        model(torch.tensor([[5]]), inputs_embed=None)


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
def test_layers_and_mixers_refuse_too(layer_type):
    layer = tiny_model(tiny_config(decoder_layer_types=layer_type)).model.decoder.layers[0]
    for module in (layer, layer.mixer):
        with pytest.raises(TypeError, match=rf"{type(module).__name__}\.forward has no argument `past`"):
            module(torch.zeros(1, 1, 16), past=None)


@pytest.mark.parametrize("cross_attention_type", CROSS_ATTENTION_TYPES)
def test_cross_attentions_refuse_too(cross_attention_type):
    attention = tiny_model(tiny_config(cross_attention_type=cross_attention_type)).model.decoder.layers[0].encoder_attn
    with pytest.raises(TypeError, match=rf"{type(attention).__name__}\.forward has no argument `past`"):
        attention(torch.zeros(1, 1, 16), key_value_states=torch.zeros(1, 1, 16), past=None)


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_what_transformers_declares_is_taken(model_class):
    model = tiny_model(tiny_config(encoder_layer_types=["gru", "full_attention"]), model_class)
    batch = tiny_batch(model.config)
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model(**source)
    declared = dict.fromkeys(TransformersKwargs.__annotations__)
    torch.testing.assert_close(model(**source, **declared)[0], expected[0])
    assert isinstance(model(**source, return_dict=False), tuple)


def test_what_the_backend_declares_reaches_it():
    sharpened = []

    def sharp_attention(module: nn.Module, query, key, value, attention_mask, *, sharpness=1.0, **kwargs):
        sharpened.append(sharpness)
        return eager_attention_forward(module, query * sharpness, key, value, attention_mask, **kwargs)

    model = tiny_model()
    ids = tiny_batch(model.config)["input_ids"]
    with pytest.raises(TypeError, match="has no argument `sharpness`"):
        model(ids, sharpness=2.0)
    ALL_ATTENTION_FUNCTIONS["sharp"] = sharp_attention
    try:
        model.set_attn_implementation("sharp")
        outputs = model(ids, sharpness=2.0)
    finally:
        del ALL_ATTENTION_FUNCTIONS["sharp"]
    assert sharpened == [2.0] * 6 and outputs.logits.isfinite().all()
