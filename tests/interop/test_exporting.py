# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What was imported goes back to its family, with equal outputs; what no family can hold is refused."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from hf_attn.cli import main
from hf_attn.interop.conversion import convert
from hf_attn.interop.importing import import_checkpoint
from hf_attn.interop.proof import prove
from hf_attn.interop.to_transformers import to_transformers
from tests.interop.families import SHAPES, build
from tests.utils import tiny_config, tiny_model


def save_tokenizer(directory):
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"word{index}" for index in range(46))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )
    tokenizer.save_pretrained(directory)


@pytest.mark.parametrize("name", SHAPES)
def test_families_go_back(name):
    source = build(name)
    model = convert(source)
    back = to_transformers(model, source.config)
    assert type(back) is type(source)
    assert prove(back, model).generated == (1, 4)
    weights, expected = back.state_dict(), source.state_dict()
    compared = 0
    for key, value in expected.items():
        # Rows before the first position, and tables that no stack reads, have no effect.
        if key.endswith("shared.weight") or "embed_positions" in key:
            continue
        assert torch.equal(weights[key], value), key
        compared += 1
    assert compared > 40


def test_without_an_origin_the_first_family_that_fits_is_taken():
    for name, kind in (("pegasus", "Pegasus"), ("umt5", "UMT5"), ("led", "LED"), ("bart", "Bart")):
        model = convert(build(name))
        back = to_transformers(model)
        assert type(back).__name__ == f"{kind}ForConditionalGeneration"
        prove(back, model)


def test_a_shape_of_no_family_is_refused():
    model = tiny_model(tiny_config(decoder_layer_types="ssru"))
    with pytest.raises(ValueError, match=r"no family of transformers can hold\. bart: .*`decoder_layer_types` is"):
        to_transformers(model)


@pytest.fixture
def imported(tmp_path):
    build("bart").save_pretrained(tmp_path / "source")
    save_tokenizer(tmp_path / "source")
    import_checkpoint(tmp_path / "source", tmp_path / "model")
    return tmp_path / "model"


def test_the_command_goes_back(imported, tmp_path, capsys):
    assert main(["export", str(imported), str(tmp_path / "out"), "--format", "transformers"]) == 0
    assert "BartForConditionalGeneration, equal to the model" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "bart" and "hf_attn" not in json.dumps(config)
    theirs, ours = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("source", "out"))
    ids = torch.randint(5, 39, (2, 9))
    assert torch.equal(theirs.generate(ids, max_length=15), ours.generate(ids, max_length=15))


def test_adapters_are_merged_with_a_line_that_says_so(imported, tmp_path, capsys):
    base = AutoModelForSeq2SeqLM.from_pretrained(imported)
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=4))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(tmp_path / "lora")
    assert main(["export", str(tmp_path / "lora"), str(tmp_path / "out"), "--format", "transformers"]) == 0
    assert "was merged into" in capsys.readouterr().out
    back = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    ids = torch.randint(5, 39, (2, 9))
    with torch.no_grad():
        theirs = adapted.eval()(input_ids=ids, decoder_input_ids=ids).logits
        torch.testing.assert_close(back(input_ids=ids, decoder_input_ids=ids).logits, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "tensorflow"], "`format` must be one of marian, transformers, got 'tensorflow'"),
        (["--format", "marian", "--quantization", "int4"], "`quantization` must be one of int8, got 'int4'"),
        (["--format", "transformers", "--quantization", "int8"], "`quantization` has no effect with `format`"),
        (["--format", "marian"], "has no SentencePiece vocabulary"),
    ],
)
def test_refusals_leave_nothing(options, message, imported, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(imported), str(tmp_path / "out"), *options])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "source"]
