# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""An imported model computes what Marian does; files that do not belong together are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_attn.interop.marian import Origin, read_folder
from hf_attn.interop.marian.files import Quantization, read_model
from hf_attn.interop.marian.shortlist import from_lists, write_shortlist
from tests.interop.marian.examples import SHAPES, SMALL, lazy, load, random_arrays, spm_bytes, write_small
from tests.interop.marian.reference import log_probabilities


SOURCE, TARGET = [5, 9, 300, 17, 0], [7, 7, 258, 30, 4]


@pytest.mark.parametrize("shape", [*SHAPES, "quick_gelu"])
def test_a_model_computes_what_marian_does(tmp_path, shape):
    description = SHAPES.get(shape) or replace(SMALL, activation_function="quick_gelu")
    arrays = write_small(tmp_path, description, options={"version": "v1.9.0"} if shape == "quick_gelu" else None)
    read = read_folder(tmp_path)
    assert read.description == description
    model = load(read).double()
    pad = model.config.pad_token_id
    expected = log_probabilities(arrays, description, SOURCE, TARGET)
    # A second source, longer, pads the first one.
    input_ids = torch.tensor([[*SOURCE, pad, pad], [3, 4, 5, 6, 7, 8, 0]])
    attention_mask = input_ids.ne(pad).long()
    decoder_input_ids = torch.tensor([[pad, *TARGET]] * 2)
    with torch.no_grad():
        logits = model(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids).logits
    assert logits[..., pad].max() < -9000, "the start token is not written"
    found = logits[0].log_softmax(-1)[:, :pad].numpy()
    # Positions are single precision, in Marian too.
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_translations_are_cached_searches_with_marians_limits(tmp_path):
    write_small(tmp_path)
    (tmp_path / "config.yml").write_text(
        "models: [model.npz]\nvocabs: [vocab.spm, vocab.spm]\nbeam-size: 4\nnormalize: 0.6\n"
    )
    read = read_folder(tmp_path, max_positions=40)
    assert read.generation == {
        "pad_token_id": 320,
        "bos_token_id": None,
        "eos_token_id": 0,
        "decoder_start_token_id": 320,
        "max_length": 40,
        "suppress_tokens": [1],
        "num_beams": 4,
        "length_penalty": 0.6,
    }
    model = load(read)
    generated = model.generate(**read.tokenizer(["A man in a hat", "Two dogs"], return_tensors="pt", padding=True))
    assert generated.shape[1] <= 40 and not (generated == 1).any() and not (generated[:, 1:-1] == 320).all()
    (tmp_path / "config.yml").write_text(
        "models: [model.npz]\nvocabs: [vocab.spm, vocab.spm]\nallow-unk: true\nbeam-size: 1\n"
    )
    assert not {"suppress_tokens", "length_penalty"} & set(read_folder(tmp_path).generation)
    (tmp_path / "config.yml").write_text("models: [model.npz]\nvocabs: [vocab.spm, vocab.spm]\nbeam-size: many\n")
    with pytest.raises(ValueError, match=r"`beam-size` and `normalize` must be .* got 'many' and 0.0"):
        read_folder(tmp_path)


def test_8_bits_are_read_as_what_the_engine_computes_with(tmp_path):
    arrays = write_small(tmp_path, name="model.bin", quantization=Quantization({}, {"Wemb": 8.0, "none": 8.0}))
    read = read_folder(tmp_path)
    weights = dict(read.weights())
    embedding = arrays["Wemb"]
    step = np.abs(embedding).max() / 127
    assert np.abs(weights["model.shared.weight"][:320] - embedding).max() <= step / 2 * 1.001
    assert not weights["model.shared.weight"][320].any()
    in_proj = weights["model.decoder.layers.0.mixer.in_proj.weight"]
    np.testing.assert_allclose(in_proj[:64], arrays["decoder_l1_rnn_Wf"].T, atol=0.005)
    np.testing.assert_allclose(in_proj[64:], arrays["decoder_l1_rnn_W"].T, atol=0.005)
    assert not weights["model.decoder.layers.0.mixer.in_proj.bias"][64:].any()
    assert weights["lm_head.bias"][320] == -1e4
    assert read.origin.quantization.activations == {"Wemb": pytest.approx(8.0), "none": 8.0}


def test_two_vocabularies_of_different_sizes(tmp_path):
    description = replace(SHAPES["own_embeddings"], vocabulary_sizes=(304, 320))
    arrays = write_small(tmp_path, description)
    (tmp_path / "vocab.spm").unlink()
    (tmp_path / "srcvocab.xy.spm").write_bytes(spm_bytes(304))
    (tmp_path / "trgvocab.xy.spm").write_bytes(spm_bytes(320, seed_text="q"))
    read = read_folder(tmp_path)
    assert (read.config["vocab_size"], read.config["decoder_vocab_size"], read.config["pad_token_id"]) == (
        321,
        321,
        320,
    )
    model = load(read).double()
    expected = log_probabilities(arrays, description, [5, 9, 300, 0], TARGET)
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[5, 9, 300, 0]]), decoder_input_ids=torch.tensor([[320, *TARGET]])
        ).logits
    np.testing.assert_allclose(logits[0].log_softmax(-1)[:, :320].numpy(), expected, atol=2e-6)
    batch = read.tokenizer("A man", text_target="A man")
    assert batch.input_ids != batch.labels


def test_options_beside_the_model_stand_in_for_its_own(tmp_path):
    arrays = write_small(tmp_path)
    options = read_model(tmp_path / "model.npz").options_text
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(ValueError, match=r"holds no `special:model.yml`.* as `<file>.yml`"):
        read_folder(tmp_path)
    (tmp_path / "model.npz.yml").write_text(f"{options}\nlearn-rate: 0.1\nlog: ~\n")
    assert read_folder(tmp_path).description == SMALL
    (tmp_path / "model.npz.yml").write_text("[")
    with pytest.raises(ValueError, match=r"options of the training, '.*model.npz.yml', cannot be read"):
        read_folder(tmp_path)


def test_a_shortlist_comes_along(tmp_path):
    write_small(tmp_path)
    write_shortlist(tmp_path / "lex.s2t.bin", from_lists([[3]] * 320, 8, 1))
    read = read_folder(tmp_path)
    assert read.shortlist.targets_of(7).tolist() == [3]
    read.origin.save(tmp_path / "checkpoint")
    assert Origin.load(tmp_path / "checkpoint") == read.origin
    assert Origin.load(tmp_path) is None
    write_shortlist(tmp_path / "lex.s2t.bin", from_lists([[3]] * 319, 8, 1))
    with pytest.raises(ValueError, match=r"is for 319 source words .* it belongs to another model"):
        read_folder(tmp_path)
    (tmp_path / "checkpoint" / "marian" / "vocab.spm").write_bytes(b"")
    with pytest.raises(ValueError, match=r"origin of the checkpoint in '.*marian' cannot be read: .* it is empty"):
        Origin.load(tmp_path / "checkpoint")


def test_arrays_that_are_not_those_of_the_options_are_refused(tmp_path):
    write_small(tmp_path, options={"enc-depth": 3, "dec-depth": 2})
    with pytest.raises(
        ValueError, match=r"do not fit the options .*`encoder_l3_self_Wq` is missing; .*; and \d+ more"
    ):
        read_folder(tmp_path)
    write_small(tmp_path, options={"enc-depth": 1})
    with pytest.raises(ValueError, match="`encoder_l2_ffn_W1` is no array of a model with these options"):
        read_folder(tmp_path)
    write_small(tmp_path, options={"transformer-dim-ffn": 100})
    with pytest.raises(ValueError, match=r"`encoder_l1_ffn_W1` must have the shape \(64, 100\), got \(64, 128\)"):
        read_folder(tmp_path)


def test_vocabularies_of_another_model_are_refused(tmp_path):
    write_small(tmp_path)
    (tmp_path / "vocab.spm").write_bytes(spm_bytes(312))
    with pytest.raises(ValueError, match=r"'vocab.spm' has 312 tokens and the model's embedding 320"):
        read_folder(tmp_path)
    (tmp_path / "vocab.spm").unlink()
    (tmp_path / "srcvocab.spm").write_bytes(spm_bytes())
    (tmp_path / "trgvocab.spm").write_bytes(spm_bytes(seed_text="q"))
    with pytest.raises(
        ValueError, match=r"share one embedding, and their vocabularies 'srcvocab.spm' and 'trgvocab.spm'"
    ):
        read_folder(tmp_path)


def test_weights_are_writable_and_own_their_memory(tmp_path):
    write_small(tmp_path, name="model.bin")
    for name, weight in read_folder(tmp_path).weights():
        assert weight.flags.writeable and weight.flags.c_contiguous and weight.dtype == np.float32, name
    assert len(lazy(random_arrays(SMALL))) == len(read_model(tmp_path / "model.bin").shapes)
