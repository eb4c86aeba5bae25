# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn generate`: one line out for each line in, in order, whatever the batches; adapters; bad input."""

import io
from shutil import copytree

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig

from hf_attn import HfAttnForConditionalGeneration, cli
from hf_attn.cli.generate import _batches, generate_lines, length_limit, load_for_inference
from hf_attn.data import train_tokenizer
from tests.utils import tiny_config, tiny_model


LINES = ["das haus", "", "ein kleines haus und ein hund", "  ", "hund", "das haus und das haus", "haus"]


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["das haus und ein hund", "ein kleines haus", "the house and a dog", "a small house"] * 5
    return train_tokenizer(texts, vocab_size=300, show_progress=False)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))


@pytest.fixture(scope="module")
def checkpoint(model, tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="module")
def adapter(checkpoint, tmp_path_factory):
    """An adapter whose weights are all set, so that it changes the outputs."""
    torch.manual_seed(0)
    base = HfAttnForConditionalGeneration.from_pretrained(checkpoint)
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["fc1", "fc2", "q_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    directory = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(directory)
    return str(directory)


def run(monkeypatch, capsys, text, *arguments):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert cli.main(["generate", *arguments]) == 0
    return capsys.readouterr().out


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["generate", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def alone(model, tokenizer, line, **options):
    """What the model makes of one line by itself."""
    inputs = tokenizer(line, return_tensors="pt")
    with torch.inference_mode():
        output_ids = model.generate(**inputs, **options)
    return " ".join(tokenizer.decode(output_ids[0], skip_special_tokens=True).split())


@pytest.mark.parametrize("tokens_per_batch", [1, 20, 4096])
def test_each_line_is_answered_in_its_place(model, tokenizer, tokens_per_batch):
    options = {"num_beams": 2, "max_new_tokens": 6}
    outputs = list(generate_lines(model, tokenizer, LINES, tokens_per_batch=tokens_per_batch, **options))
    expected = [alone(model, tokenizer, line, **options) if line.strip() else "" for line in LINES]
    assert outputs == expected
    assert len(set(outputs)) > 2


def test_lines_are_answered_window_by_window(model, tokenizer, monkeypatch):
    whole = list(generate_lines(model, tokenizer, LINES, max_new_tokens=4))
    monkeypatch.setattr("hf_attn.cli.generate._WINDOW", 2)
    read = []
    outputs = generate_lines(model, tokenizer, (read.append(line) or line for line in LINES), max_new_tokens=4)
    assert next(outputs) == whole[0]
    assert len(read) == 2
    assert list(outputs) == whole[1:]


def test_batches_are_of_like_length_within_the_budget():
    lengths = {0: 3, 2: 9, 3: 4, 5: 30, 6: 4}
    assert list(_batches(lengths, 12)) == [[5], [2], [3, 6, 0]]


def test_length_limit(model):
    assert length_limit(model, 4, 7) == {"max_new_tokens": 7}
    assert length_limit(model, 4) == {"max_new_tokens": 24}
    assert length_limit(model, 40) == {"max_new_tokens": model.config.max_position_embeddings - 1}
    limited = tiny_model()
    limited.generation_config.max_length = 9
    assert length_limit(limited, 4) == {}


def test_command(checkpoint, model, tokenizer, monkeypatch, capsys):
    arguments = ["--num_beams", "2", "--max_new_tokens", "6"]
    output = run(monkeypatch, capsys, "".join(f"{line}\n" for line in LINES), checkpoint, *arguments)
    expected = generate_lines(model, tokenizer, LINES, num_beams=2, max_new_tokens=6)
    assert output == "".join(f"{line}\n" for line in expected)
    assert run(monkeypatch, capsys, "", checkpoint) == ""


def test_command_with_an_adapter(checkpoint, adapter, monkeypatch, capsys):
    arguments = [checkpoint, "--max_new_tokens", "6"]
    text = "das haus\nhund\n"
    adapted = run(monkeypatch, capsys, text, *arguments, "--adapter", adapter)
    assert len(adapted.splitlines()) == 2
    assert adapted != run(monkeypatch, capsys, text, *arguments)


def test_the_generation_config_beside_an_adapter_is_used(checkpoint, adapter, tmp_path):
    copy = copytree(adapter, tmp_path / "adapter")
    GenerationConfig(num_beams=3, max_length=11).save_pretrained(copy)
    model, _ = load_for_inference(checkpoint, str(copy))
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (3, 11)


def test_a_model_of_another_family(tokenizer, tmp_path, monkeypatch, capsys):
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert len(run(monkeypatch, capsys, "das haus\n\nhund\n", str(tmp_path)).splitlines()) == 3


def test_bad_input(checkpoint, tmp_path, monkeypatch, capsys):
    assert "`--num_beams` must be at least 1, got 0" in fails(capsys, checkpoint, "--num_beams", "0")
    assert "`--tokens_per_batch` must be at least 1, got -1" in fails(capsys, checkpoint, "--tokens_per_batch", "-1")
    missing = str(tmp_path / "nothing")
    assert "`MODEL` must be a checkpoint with a tokenizer, got '" in fails(capsys, missing)
    message = fails(capsys, checkpoint, "--adapter", missing)
    assert f"`--adapter` must be the directory of a PEFT adapter, got '{missing}'" in message


def test_a_line_that_the_model_refuses_is_named(tokenizer):
    model = tiny_model(
        tiny_config(vocab_size=len(tokenizer), position_embedding_type="learned", max_position_embeddings=8)
    )
    lines = ["hund", "das haus und das haus und das haus"]
    with pytest.raises(ValueError, match=r"^line 2 \(\d+ tokens\): .*max_position_embeddings"):
        list(generate_lines(model, tokenizer, lines))
