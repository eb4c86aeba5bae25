# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Marian's options become a plain description, or are refused by name."""

import pytest

from hf_attn.interop.marian.files import dump_options, parse_options
from hf_attn.interop.marian.options import describe, model_options, options_of
from tests.interop.marian.examples import SHAPES, SMALL


@pytest.mark.parametrize("shape", SHAPES)
def test_a_description_comes_back_from_its_options(shape):
    options = options_of(SHAPES[shape])
    assert describe(options) == SHAPES[shape]
    assert describe(parse_options(dump_options(options))) == SHAPES[shape]


def test_what_a_model_came_with_is_kept():
    known = {**options_of(SMALL), "dim-rnn": 7, "version": "v1.9.56", "something-new": "x"}
    changed = options_of(SHAPES["swish"], known)
    assert (changed["dim-rnn"], changed["version"], changed["something-new"]) == (7, "v1.9.56", "x")
    assert changed["transformer-ffn-activation"] == "swish"


def test_the_options_of_a_training_are_reduced_to_those_of_the_model():
    training = {**options_of(SMALL), "learn-rate": 0.0003, "train-sets": ["a", "b"], "log": None, "vocabs": ["a", "b"]}
    assert model_options(training) == options_of(SMALL)


def test_gelu_is_another_function_in_versions_of_old():
    options = options_of(SHAPES["gelu"])
    for version, expected in (
        ("v1.9.56 94aeaa46 2021-04-28", "quick_gelu"),
        ("v1.12.0 65bf82f 2023-02-21", "quick_gelu"),
        ("v1.12.42", "gelu"),
        ("2.0.1", "gelu"),
    ):
        assert describe({**options, "version": version}).activation_function == expected
    del options["version"]
    with pytest.raises(ValueError, match=r"'gelu' is another function up to version 1.12.0 .* and `version` is None"):
        describe(options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "s2s"}, "`type` must be 'transformer', got 's2s'"),
        ({"type": ["transformer"]}, r"`type` must be 'transformer', got \['transformer'\]"),
        ({"transformer-decoder-autoreg": "average-attention"}, "'average-attention' averages all earlier positions"),
        ({"transformer-decoder-autoreg": "rnns"}, "must be one of self-attention, rnn, got 'rnns'"),
        ({"dec-cell": "gru"}, "`dec-cell`: 'gru' in a Transformer's decoder; 'ssru' alone is known"),
        ({"layer-normalization": True}, "`layer-normalization`: norms inside the cell"),
        ({"transformer-ffn-activation": "tanh"}, "must be one of relu, swish, gelu, got 'tanh'"),
        ({"transformer-postprocess": "danh"}, "must be '', 'dan', '' .* got \\('', 'danh', ''\\)"),
        ({"transformer-preprocess": "n"}, "got \\('n', 'dan', ''\\)"),
        ({"transformer-postprocess-emb": "dn"}, "`transformer-postprocess-emb`: 'dn' is more than dropout"),
        ({"transformer-ffn-depth": 3}, "`transformer-ffn-depth`: 3 is not the two layers"),
        ({"transformer-tied-layers": [1, 1]}, r"`transformer-tied-layers`: \[1, 1\] has decoder layers that share"),
        ({"transformer-no-projection": True}, "has heads without an output projection"),
        ({"right-left": True}, "`right-left`: True writes from right to left"),
        ({"lemma-dim-emb": 1}, "`lemma-dim-emb`: 1 has factored vocabularies"),
        ({"ulr": True}, "`ulr`: True has universal lexical representations"),
        ({"input-types": ["class", "sequence"]}, "`input-types`"),
        ({"transformer-pool": True}, "`transformer-pool`"),
        ({"dim-vocabs": [320]}, r"`dim-vocabs` must be the sizes of two vocabularies, got \[320\]"),
        ({"dim-vocabs": [320, 328]}, r"`dim-vocabs` must be equal for one embedding .* got \[320, 328\]"),
        ({"dim-emb": 0}, "`dim-emb` must be a number from 1 on, got 0"),
        ({"enc-depth": "six"}, "`enc-depth` must be a number from 1 on, got 'six'"),
        ({"dec-depth": True}, "`dec-depth` must be a number from 1 on, got True"),
        ({"transformer-heads": 5}, "`dim-emb` must be divisible by `transformer-heads`, got 64 and 5"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=f"The model cannot be imported: .*{message}"):
        describe({**options_of(SMALL), **changes})


def test_all_faults_are_named_at_once():
    options = {**options_of(SMALL), "ulr": True, "transformer-ffn-depth": 1}
    del options["dim-emb"], options["dim-vocabs"]
    with pytest.raises(ValueError, match=r"(?s)`dim-vocabs`.*`ulr`.*`transformer-ffn-depth`.*`dim-emb` .* got None"):
        describe(options)


def test_norms_before_the_layers_are_taken_where_marian_is_consistent():
    options = options_of(SHAPES["pre_norm"])
    with pytest.raises(ValueError, match=r"versions up to 1.12.0 do not normalize keys and values, and `version` is"):
        describe({**options, "version": "v1.11.5"})
    with pytest.raises(
        ValueError, match="normalizes keys and values of earlier positions in training, and does not in"
    ):
        describe({**options, "transformer-decoder-autoreg": "self-attention"})
