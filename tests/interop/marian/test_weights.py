# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The table of names, read in both directions."""

from dataclasses import replace

import numpy as np
import pytest

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.interop.marian.configuration import config_fields
from hf_attn.interop.marian.options import Description
from hf_attn.interop.marian.weights import check_arrays, export_weights, import_weights, table
from tests.interop.marian.examples import SHAPES, SMALL, random_arrays


def test_names_are_those_of_firefox():
    names = {line.marian for line in table(replace(SMALL, encoder_layers=1))}
    norms = (
        "encoder_l1_self_Wo",
        "encoder_l1_ffn_ffn",
        "decoder_l1_rnn_ffn",
        "decoder_l1_context_Wo",
        "decoder_l1_ffn_ffn",
    )
    linears = [f"{stack}_{letter}" for stack in ("encoder_l1_self", "decoder_l1_context") for letter in "qkvo"]
    expected = {f"{name[:-1]}{kind}{name[-1]}" for name in linears for kind in "Wb"}
    expected |= {
        f"{stack}_l1_ffn_{kind}{place}" for stack in ("encoder", "decoder") for kind in "Wb" for place in (1, 2)
    }
    expected |= {f"{norm}_ln_{kind}" for norm in norms for kind in ("scale", "bias")}
    expected |= {"Wemb", "decoder_ff_logit_out_b", "decoder_l1_rnn_W", "decoder_l1_rnn_Wf", "decoder_l1_rnn_bf", None}
    assert names == expected


def test_norms_before_the_layers_have_names_of_their_own():
    names = {line.marian for line in table(SHAPES["pre_norm"])}
    assert {"encoder_l1_self_Wo_ln_scale_pre", "decoder_l1_rnn_ln_bias_pre", "decoder_l1_ffn_ffn_ln_bias_pre"} <= names
    assert {"encoder_top_ln_scale", "decoder_top_ln_bias"} <= names
    names = {line.marian for line in table(SHAPES["rms_pre_norm"])}
    assert {"decoder_l1_rnn_rms_scale_pre", "encoder_top_rms_scale"} <= names


@pytest.mark.parametrize("shape", SHAPES)
def test_the_table_names_every_weight_of_the_model_once(shape):
    description = SHAPES[shape]
    model = HfAttnForConditionalGeneration(HfAttnConfig(**config_fields(description)))
    weights = dict(import_weights(random_arrays(description).__getitem__, description, 320))
    parameters = dict(model.named_parameters())  # tied ones once
    assert set(weights) == set(parameters)
    for name, weight in weights.items():
        assert weight.shape == tuple(parameters[name].shape), name


def test_rows_are_taken_from_where_they_are():
    description = Description((4, 3), 2, 1, 1, 1, 2, 2, shares_embedding=False)
    arrays = random_arrays(description)
    weights = dict(import_weights(arrays.__getitem__, description, 4))
    assert weights["model.encoder.embed_tokens.weight"].shape == (5, 2)
    assert weights["lm_head.bias"][3:].tolist() == [-1e4, -1e4]
    exported = {
        array.name: array.read()
        for array in export_weights(weights.__getitem__, description, 4, np.array([0, 1, 2, 3]), np.array([2, -1, 0]))
    }
    np.testing.assert_array_equal(exported["encoder_Wemb"], arrays["encoder_Wemb"])
    np.testing.assert_array_equal(exported["decoder_Wemb"], arrays["decoder_Wemb"][[2, 1, 0]] * [[1], [0], [1]])
    bias = arrays["decoder_ff_logit_out_b"][0]
    np.testing.assert_array_equal(exported["decoder_ff_logit_out_b"], [[bias[2], -1e4, bias[0]]])
    check_arrays({name: array.shape for name, array in exported.items()}, description)
