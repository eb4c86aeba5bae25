# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn attention`: the maps of a pair of texts, as a picture or a page; bad input."""

import json
import re

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from hf_attn import cli
from hf_attn.cli.attention import cross_attention
from hf_attn.data import train_tokenizer
from tests.utils import tiny_config, tiny_model


SOURCE, TARGET = "the small house", "das kleine haus"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([SOURCE, TARGET, "a dog"] * 5, vocab_size=320, show_progress=False)


@pytest.fixture(scope="module")
def save(tokenizer, tmp_path_factory):
    """Saves a model with the tokenizer and returns the directory."""

    def save_model(model):
        directory = tmp_path_factory.mktemp("checkpoint")
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
        return str(directory)

    return save_model


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tiny_config(vocab_size=len(tokenizer)))


@pytest.fixture(scope="module")
def checkpoint(model, save):
    return save(model)


def page_data(page):
    return json.loads(re.search(r"const data = (.*);\n", page.read_text(encoding="utf-8")).group(1))


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["attention", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_maps_of_a_given_target(model, tokenizer):
    drawn = cross_attention(model, tokenizer, SOURCE, TARGET)
    assert drawn.source_tokens == ["the", "small", "house", "</s>"]
    assert drawn.target_tokens == ["das", "kleine", "haus", "</s>"]
    assert [tuple(weights.shape) for weights in drawn.weights] == [(4, 4, 4)] * 2
    for weights in drawn.weights:
        torch.testing.assert_close(weights.sum(-1), torch.ones(4, 4))


def test_row_t_is_of_the_step_that_predicts_token_t(model, tokenizer):
    drawn = cross_attention(model, tokenizer, SOURCE, TARGET)
    labels = tokenizer(text_target=TARGET)["input_ids"]
    decoder_input_ids = torch.tensor([[model.config.decoder_start_token_id, *labels[:2]]])
    with torch.inference_mode():
        outputs = model(
            **tokenizer(SOURCE, return_tensors="pt"), decoder_input_ids=decoder_input_ids, output_attentions=True
        )
    torch.testing.assert_close(drawn.weights[1][:, 2], outputs.cross_attentions[1][0, :, 2])


def test_maps_of_a_generated_target(model, tokenizer):
    drawn = cross_attention(model, tokenizer, SOURCE)
    inputs = tokenizer(SOURCE, return_tensors="pt")
    generated = model.generate(**inputs, max_new_tokens=2 * inputs["input_ids"].shape[1] + 16)
    assert len(drawn.target_tokens) == generated.shape[1] - 1
    assert drawn.weights[0].shape[1:] == (len(drawn.target_tokens), 4)


def test_picture(checkpoint, tmp_path):
    out = tmp_path / "new" / "map.png"
    assert cli.main(["attention", checkpoint, "--source", SOURCE, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_page_of_a_layer_and_its_heads(checkpoint, model, tokenizer, tmp_path):
    out = tmp_path / "map.html"
    given = ["attention", checkpoint, "--source", SOURCE, "--target", TARGET, "--out", str(out)]
    expected = cross_attention(model, tokenizer, SOURCE, TARGET).weights
    for arguments, maps in (
        ([], expected[1].mean(0, keepdim=True)),
        (["--layer", "0"], expected[0].mean(0, keepdim=True)),
        (["--layer", "0", "--head", "3"], expected[0][3:4]),
        (["--head", "all"], expected[1]),
    ):
        assert cli.main([*given, *arguments]) == 0
        torch.testing.assert_close(torch.tensor(page_data(out)["maps"]), maps, atol=1e-4, rtol=0)
    assert page_data(out)["names"] == ["head 0", "head 1", "head 2", "head 3"]


def test_a_model_of_another_family(tokenizer, save, tmp_path):
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    out = tmp_path / "map.html"
    directory = save(BartForConditionalGeneration(config))
    assert cli.main(["attention", directory, "--source", SOURCE, "--target", TARGET, "--out", str(out)]) == 0
    assert torch.tensor(page_data(out)["maps"]).shape == (1, 4, 4)


def test_bad_input(checkpoint, capsys):
    given = [checkpoint, "--source", SOURCE, "--target", TARGET, "--out"]
    assert "`--out` must end in .png or .html, got 'map.gif'" in fails(capsys, *given, "map.gif")
    assert "`--layer` must be from 0 to 1, got 2" in fails(capsys, *given, "map.png", "--layer", "2")
    assert "`--head` must be from 0 to 3, got 4" in fails(capsys, *given, "map.png", "--head", "4")
    message = "`--head` must be the number of a head, `mean` or `all`, got 'first'"
    assert message in fails(capsys, *given, "map.png", "--head", "first")
    assert "`source` must hold text, got ' '" in fails(capsys, checkpoint, "--source", " ", "--out", "map.png")


def test_texts_beyond_the_positions(model, tokenizer):
    limit = model.config.max_position_embeddings
    long = " ".join([SOURCE] * 100)
    for texts, name in (((long,), "source"), ((SOURCE, long), "target")):
        with pytest.raises(
            ValueError, match=rf"^`{name}` must keep within the {limit} positions of the model, got \d+"
        ):
            cross_attention(model, tokenizer, *texts)
    with pytest.raises(ValueError, match="`source` must be text that UTF-8 can write"):
        cross_attention(model, tokenizer, "a\ud800")


def test_the_prefix_of_the_config_stands_before_the_source(model, tokenizer, monkeypatch):
    expected = cross_attention(model, tokenizer, f"a dog {SOURCE}", TARGET)
    monkeypatch.setattr(model.config, "prefix", "a dog ", raising=False)
    drawn = cross_attention(model, tokenizer, SOURCE, TARGET)
    assert drawn.source_tokens == expected.source_tokens
    torch.testing.assert_close(drawn.weights, expected.weights)


def test_out_is_looked_at_before_the_model(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_attn.cli.attention.load_for_inference", lambda *_, **__: pytest.fail("loaded"))
    file = tmp_path / "file"
    file.touch()
    (tmp_path / "map.png").mkdir()
    given = [checkpoint, "--source", SOURCE, "--out"]
    out = str(file / "map.png")
    assert f"`--out` must be a path to write to, got {out!r}: Not a directory" in fails(capsys, *given, out)
    assert "`--out` must be a path to write to, got '/proc/map.png': " in fails(capsys, *given, "/proc/map.png")
    assert "`--out` must be a file, got the directory" in fails(capsys, *given, str(tmp_path / "map.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "map.png"]


def test_a_model_without_cross_attention(tokenizer, save, capsys):
    config = tiny_config(
        vocab_size=len(tokenizer), encoder_layer_types="gru", decoder_layer_types="gru", cross_attention_type="none"
    )
    message = fails(capsys, save(tiny_model(config)), "--source", SOURCE, "--target", TARGET, "--out", "map.png")
    assert "`MODEL` must have cross-attention to draw, but it returned no maps" in message
    assert "its `cross_attention_type` is 'none', by which the decoder sees one fixed context" in message
