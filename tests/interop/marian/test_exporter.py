# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What was imported leaves as the files that it came from, with what was trained and added since."""

from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch

from hf_attn.interop.marian import Origin, read_folder, with_tokens, write_folder
from hf_attn.interop.marian.files import Quantization, parse_options, read_model
from hf_attn.interop.marian.shortlist import from_lists, read_shortlist, write_shortlist
from tests.interop.marian.examples import SHAPES, SMALL, load, reader, spm_bytes, write_small


def _out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_comes_back_bit_by_bit(tmp_path, shape):
    arrays = write_small(tmp_path / "in", SHAPES[shape])
    read = read_folder(tmp_path / "in")
    model = load(read)
    written = write_folder(_out(tmp_path), model.config, reader(model), read.tokenizer, read.origin)
    assert {name: path.name for name, path in written.items()} == {
        "model": "model.npz",
        "source_vocabulary": "vocab.spm",
        "target_vocabulary": "vocab.spm",
        "settings": "config.yml",
    }
    back = read_model(written["model"])
    assert set(back.shapes) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    assert back.options_text == read.origin.options_text
    assert read_folder(tmp_path / "out").config == read.config


@pytest.mark.parametrize("activations", [{}, {"every": 5.0}])
def test_8_bits_come_back_byte_by_byte(tmp_path, activations):
    write_small(tmp_path / "in", name="model.ab.intgemm.alphas.bin", quantization=Quantization())
    if activations:
        matrices = read_model(tmp_path / "in" / "model.ab.intgemm.alphas.bin").quantization.weights
        every = dict.fromkeys([*matrices, "none"], 5.0)
        (tmp_path / "in" / "model.ab.intgemm.alphas.bin").unlink()
        write_small(tmp_path / "in", name="model.ab.intgemm.alphas.bin", quantization=Quantization({}, every))
    write_shortlist(tmp_path / "in" / "lex.50.50.ab.s2t.bin", from_lists([[3, 4]] * 320, 50, 50))
    read = read_folder(tmp_path / "in")
    read.origin.save(tmp_path)
    model = load(read)
    origin = Origin.load(tmp_path)
    written = write_folder(_out(tmp_path), model.config, reader(model), read.tokenizer, origin, quantize=True)
    ending = "intgemm.alphas.bin" if activations else "intgemm.bin"
    assert written["model"].name == f"model.ab.{ending}"
    for name, original in (("model", "model.ab.intgemm.alphas.bin"), ("shortlist", "lex.50.50.ab.s2t.bin")):
        assert written[name].read_bytes() == (tmp_path / "in" / original).read_bytes()
    settings = parse_options(written["settings"].read_text())
    assert settings["models"] == [written["model"].name] and settings["vocabs"] == ["vocab.spm", "vocab.spm"]
    assert settings["shortlist"] == ["lex.50.50.ab.s2t.bin", False] and settings["relative-paths"] is True
    assert settings["gemm-precision"] == ("int8shiftAlphaAll" if activations else "int8shiftAll")


def test_trained_weights_are_quantized_anew_and_others_stay(tmp_path):
    write_small(tmp_path / "in", name="model.bin", quantization=Quantization())
    read = read_folder(tmp_path / "in")
    model = load(read)
    with torch.no_grad():
        model.model.encoder.layers[0].mixer.q_proj.weight.mul_(1.5).add_(0.01)
    written = write_folder(_out(tmp_path), model.config, reader(model), read.tokenizer, read.origin, quantize=True)
    before, after = read.file, read_model(written["model"])
    for name in before.shapes:
        if name == "encoder_l1_self_Wq":
            expected = before[name] * np.float32(1.5) + np.float32(0.01)
            np.testing.assert_allclose(after[name], expected, atol=np.abs(expected).max() / 254 * 1.001)
        else:
            np.testing.assert_array_equal(after[name], before[name])
            assert after.quantization.weights.get(name) == before.quantization.weights.get(name)


@pytest.mark.parametrize("quantize", [False, True])
def test_added_tokens_become_pieces_with_rows(tmp_path, quantize):
    write_small(tmp_path / "in")
    write_shortlist(tmp_path / "in" / "lex.bin", from_lists([[3, 4]] * 320, 50, 50))
    read = read_folder(tmp_path / "in")
    tokens = ["€", "⟦ref⟧"]
    tokenizer, model = with_tokens(read.tokenizer, tokens), load(read)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.model.shared.weight[321:] = torch.tensor([[0.5], [-0.25]])
        model.lm_head.bias[321:] = torch.tensor([1.0, -2.0])
    written = write_folder(_out(tmp_path), model.config, reader(model), tokenizer, read.origin, quantize=quantize)
    back, size = read_model(written["model"]), 328 if quantize else 322
    assert back.options["dim-vocabs"] == [size, size] and back.shapes["Wemb"] == (size, 64)
    np.testing.assert_allclose(back["Wemb"][:320], read.file["Wemb"], atol=0.01 if quantize else 0)
    np.testing.assert_allclose(back["Wemb"][320:322].mean(1), [0.5, -0.25], atol=0.005)
    assert not back["Wemb"][322:].any()
    assert back["decoder_ff_logit_out_b"][0, 320:].tolist() == [1.0, -2.0, *[-1e4] * (size - 322)]
    processor = sentencepiece.SentencePieceProcessor(str(written["source_vocabulary"]))
    assert processor.get_piece_size() == size and processor.encode("€", out_type=str)[-1] == "€"
    shortlist = read_shortlist(written["shortlist"])
    shortlist.check_vocabularies(size, size)
    assert shortlist.targets_of(321).tolist() == [321] and shortlist.targets_of(5).tolist() == [3, 4]
    again = read_folder(tmp_path / "out")
    again_model = load(again)
    source = ["A hat costs 5€, see ⟦ref⟧.", "€"]
    if not quantize:
        ids = [
            one.generate(**tokens_of(source, return_tensors="pt", padding=True), max_length=20)
            for one, tokens_of in ((model, tokenizer), (again_model, again.tokenizer))
        ]
        shifted = torch.where(ids[0] > 320, ids[0] - 1, torch.where(ids[0] == 320, 322, ids[0]))
        assert shifted.tolist() == ids[1].tolist()


def test_two_vocabularies_leave_as_two(tmp_path):
    description = replace(SHAPES["own_embeddings"], vocabulary_sizes=(304, 320))
    arrays = write_small(tmp_path / "in", description, name="model.bin")
    (tmp_path / "in" / "vocab.spm").unlink()
    (tmp_path / "in" / "srcvocab.spm").write_bytes(spm_bytes(304))
    (tmp_path / "in" / "trgvocab.spm").write_bytes(spm_bytes(320, seed_text="q"))
    read = read_folder(tmp_path / "in")
    model = load(read)
    written = write_folder(_out(tmp_path), model.config, reader(model), read.tokenizer, read.origin)
    back = read_model(written["model"])
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
    for side, name in (("source", "srcvocab.spm"), ("target", "trgvocab.spm")):
        assert written[f"{side}_vocabulary"].read_bytes() == (tmp_path / "in" / name).read_bytes()
    read.tokenizer.add_tokens(["⟦ref⟧"])
    model.resize_token_embeddings(322)
    with pytest.raises(ValueError, match=r"Tokens cannot be added to two vocabularies, got \['⟦ref⟧'\]"):
        write_folder(tmp_path / "out", model.config, reader(model), read.tokenizer, read.origin)


def test_weights_without_a_place_in_marian_are_refused(tmp_path):
    write_small(tmp_path / "in")
    read = read_folder(tmp_path / "in")
    model, out = load(read), _out(tmp_path)
    weights = model.state_dict()
    for name, place, message in (
        ("model.decoder.layers.0.mixer.in_proj.bias", (100,), r"`.*in_proj.bias`: its second half must be zero"),
        (
            "model.shared.weight",
            (320, 3),
            r"`model.shared.weight`: row 320, from which the decoder starts, must be zero",
        ),
        (
            "model.encoder.layers.1.feed_forward.fc1.weight",
            (0, 0),
            r"`.*fc1.weight` holds a number that is not finite",
        ),
    ):
        before = weights[name][place].item()
        weights[name][place] = 0.5 if "fc1" not in name else float("nan")
        with pytest.raises(ValueError, match=message):
            write_folder(out, model.config, reader(model), read.tokenizer, read.origin)
        weights[name][place] = before
    write_folder(out, model.config, reader(model), read.tokenizer, read.origin)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("pre_norm", "`norm_position` must be 'post', got 'pre'"),
        ("rms_norm", "`norm_type` must be 'layernorm', got 'rmsnorm'"),
        ("gelu", "`activation_function` must be relu, silu or quick_gelu, got gelu"),
        ("untied", "`tie_word_embeddings` must be True, got False"),
        ("odd", "`decoder_ffn_dim` must be `encoder_ffn_dim`, got 80 and 128"),
    ],
)
def test_what_the_engine_of_8_bits_cannot_run_is_refused(tmp_path, shape, message):
    write_small(tmp_path / "in", SHAPES[shape])
    read = read_folder(tmp_path / "in")
    model, out = load(read), _out(tmp_path)
    with pytest.raises(ValueError, match=f"The engine of 8 bits cannot run this model: .*{message}.*Write float32"):
        write_folder(out, model.config, reader(model), read.tokenizer, read.origin, quantize=True)
    assert not list(out.iterdir())


def test_a_shape_that_intgemm_cannot_multiply_by_is_refused(tmp_path):
    write_small(tmp_path / "in", replace(SMALL, encoder_ffn_dim=96, decoder_ffn_dim=96))
    read = read_folder(tmp_path / "in")
    model, out = load(read), _out(tmp_path)
    with pytest.raises(ValueError, match=r"multiples of 64 .* `encoder_l1_ffn_W2` has 96 and 64. Write float32"):
        write_folder(out, model.config, reader(model), read.tokenizer, read.origin, quantize=True)
    assert not list(out.iterdir())
    model.config.gated_ffn = True
    with pytest.raises(ValueError, match="Marian cannot run this model: `gated_ffn` must be False, got True"):
        write_folder(out, model.config, reader(model), read.tokenizer, read.origin)
