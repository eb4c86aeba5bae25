# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn generate`: one line out for each line in, in order, whatever the batches; adapters; bad input."""

import io
import os
from shutil import copytree
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, GenerationConfig, NllbTokenizer

from hf_attn import HfAttnForConditionalGeneration, HfAttnForQuestionAnswering, cli
from hf_attn.cli import generate
from hf_attn.data import train_tokenizer
from hf_attn.generation import TextGenerator, has_term, load_for_inference
from hf_attn.generation.fast.int8_linear import Int8Linear
from hf_attn.generation.fast.packed_linear import PackedLinear
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


def test_command(checkpoint, model, tokenizer, monkeypatch, capsys):
    arguments = ["--num_beams", "2", "--max_new_tokens", "6"]
    output = run(monkeypatch, capsys, "".join(f"{line}\n" for line in LINES), checkpoint, *arguments)
    expected = TextGenerator(model, tokenizer, num_beams=2, max_new_tokens=6)(LINES)
    assert output == "".join(f"{' '.join(text.split())}\n" for text in expected)
    assert run(monkeypatch, capsys, "", checkpoint) == ""


def test_n_best_lists_have_scores(checkpoint, model, tokenizer, monkeypatch, capsys):
    options = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "length_penalty": 0.5}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    output = run(monkeypatch, capsys, "das haus\n\nhund\n", checkpoint, *flags)
    expected = []
    for number, hypotheses in enumerate(
        TextGenerator(model, tokenizer, **options).n_best(["das haus", "", "hund"]), 1
    ):
        for text, score in hypotheses:
            expected.append(f"{number}\t{score:.4f}\t{' '.join(text.split())}\n")
    assert output == "".join(expected)
    assert len(expected) == 5


def test_samples_and_minimum_bayes_risk(checkpoint, monkeypatch, capsys):
    flags = [checkpoint, "--do_sample", "--temperature", "0.8", "--top_p", "0.9", "--max_new_tokens", "6"]
    text = "das haus\nhund\n"
    first, again, other = (run(monkeypatch, capsys, text, *flags, "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again != other
    flags += ["--mbr", "chrf", "--num_candidates", "4", "--seed", "1"]
    assert len(run(monkeypatch, capsys, text, *flags).splitlines()) == 2


def test_glossary_and_prefix(checkpoint, tmp_path, monkeypatch, capsys):
    path = tmp_path / "glossary.tsv"
    path.write_text("haus\tbig house\nhund\tdog\n", encoding="utf-8")
    flags = ["--glossary", str(path), "--num_beams", "3", "--max_new_tokens", "16", "--forced_prefix", "the"]
    house, both = run(monkeypatch, capsys, "das haus\nhund und haus\n", checkpoint, *flags).splitlines()
    assert has_term(house, "big house")
    assert has_term(both, "big house")
    assert has_term(both, "dog")
    assert house.startswith("the")
    assert both.startswith("the")


def test_a_prefix_and_lines_beyond_the_positions(checkpoint, model, tokenizer, monkeypatch, capsys):
    arguments = [checkpoint, "--max_new_tokens", "6"]
    expected = run(monkeypatch, capsys, "ein kleines haus\n", *arguments)
    assert run(monkeypatch, capsys, "haus\n", *arguments, "--prefix", "ein kleines ") == expected
    text = f"haus\n{'haus ' * 100}\nhund\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    limit = model.config.max_position_embeddings
    error = fails(capsys, *arguments)
    assert f"`texts` must keep within the {limit} positions of the model, got " in error
    assert "tokens in text 2: pass `truncation`" in error
    cut = run(monkeypatch, capsys, text, *arguments, "--truncation")
    assert cut.splitlines()[::2] == run(monkeypatch, capsys, "haus\nhund\n", *arguments).splitlines()


def test_languages(model, tmp_path, monkeypatch, capsys):
    vocabulary = {piece: number for number, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", "\u2581", "a", "b"])}
    codes = ["eng_Latn", "deu_Latn"]
    NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=codes).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    seen = []
    generate = HfAttnForConditionalGeneration.generate

    def spy(*arguments, **options):
        seen.append((options["input_ids"][0, 0].item(), options["forced_bos_token_id"]))
        return generate(*arguments, **options)

    monkeypatch.setattr(HfAttnForConditionalGeneration, "generate", spy)
    flags = ["--src_lang", "deu_Latn", "--tgt_lang", "eng_Latn", "--max_new_tokens", "3"]
    run(monkeypatch, capsys, "a\n", str(tmp_path), *flags)
    english, german = AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids(codes)
    assert seen == [(german, english)]
    assert "`--tgt_lang` must be one of the 2 language codes" in fails(capsys, str(tmp_path), "--tgt_lang", "de")


def test_a_reader_that_has_gone(checkpoint, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as output:
        monkeypatch.setattr("sys.stdin", io.StringIO("haus\n"))
        monkeypatch.setattr("sys.stdout", output)
        assert cli.main(["generate", checkpoint, "--max_new_tokens", "2"]) == 1
        # What Python does at the end.
        output.flush()


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
    message = "`fast` is for `hf_attn` models, got BartForConditionalGeneration: leave out `fast`"
    assert message in fails(capsys, str(tmp_path), "--fast")


def test_bad_input(checkpoint, tmp_path, monkeypatch, capsys):
    for flags, message in (
        (["--num_beams", "0"], "`num_beams` must be a whole number of at least 1, got 0"),
        (["--tokens_per_batch", "-1"], "`tokens_per_batch` must be a whole number of at least 1, got -1"),
        (["--temperature", "0.5"], "`temperature` has an effect only with `do_sample`, got 0.5"),
        (["--seed", "5"], "`--seed` has an effect only with `--do_sample`, got 5"),
        (["--forced_prefix", " "], "`--forced_prefix` must hold text, got ' '"),
        (["--glossary", str(tmp_path / "none.tsv")], "`glossary` must be a text file in UTF-8, got "),
    ):
        assert message in fails(capsys, checkpoint, *flags)
    missing = str(tmp_path / "nothing")
    assert f"`MODEL` {missing!r} cannot be loaded" in fails(capsys, missing)
    message = fails(capsys, checkpoint, "--adapter", missing)
    assert f"`--adapter` must be the directory of a PEFT adapter, got '{missing}'" in message


def test_a_model_for_marking_and_an_adapter_write_nothing(adapter, checkpoint, tokenizer, tmp_path, capsys):
    config = tiny_config(vocab_size=len(tokenizer), copy_attention=True)
    tiny_model(config, HfAttnForQuestionAnswering).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    message = fails(capsys, str(tmp_path))
    assert f"`MODEL` {str(tmp_path)!r} cannot be loaded: it lacks `copy_head.gate" in message
    assert "It was saved as HfAttnForQuestionAnswering: use it as that" in message
    message = fails(capsys, adapter)
    assert f"`MODEL` {adapter!r} holds an adapter for {checkpoint!r}" in message
    assert f"`hf-attn generate {checkpoint} --adapter {adapter}`" in message


def test_fast_and_with_eight_bits(checkpoint, adapter, monkeypatch, capsys):
    text = "\n".join(LINES)
    expected = run(monkeypatch, capsys, text, checkpoint, "--num_beams", "2")
    assert run(monkeypatch, capsys, text, checkpoint, "--num_beams", "2", "--fast") == expected
    adapted = run(monkeypatch, capsys, text, checkpoint, "--adapter", adapter)
    assert run(monkeypatch, capsys, text, checkpoint, "--adapter", adapter, "--fast") == adapted
    rounded = run(monkeypatch, capsys, text, checkpoint, "--int8")
    fast = run(monkeypatch, capsys, text, checkpoint, "--int8", "--fast")
    assert fast.count("\n") == rounded.count("\n") == len(LINES)
    # Compiled sums have another order, and of untrained weights the best two tokens are nearly equal.
    pairs = zip(fast.splitlines(), rounded.splitlines(), strict=True)
    assert sum(one[:20] == other[:20] for one, other in pairs) >= len(LINES) - 1


@pytest.mark.parametrize("has_adapter", [False, True])
@pytest.mark.parametrize(
    ("flags", "has_gpu", "expected"),
    [
        ([], False, nn.Linear),
        (["--num_beams", "2"], False, nn.Linear),
        (["--fast"], False, PackedLinear),
        # The layout is that of a CPU's kernel.
        (["--fast"], True, nn.Linear),
        (["--int8"], False, Int8Linear),
        (["--int8", "--fast"], False, Int8Linear),
        (["--int8"], True, Int8Linear),
    ],
)
def test_weights_are_packed_where_that_is_asked_for(
    checkpoint, adapter, monkeypatch, capsys, flags, has_gpu, expected, has_adapter
):
    models = []

    class Watched(TextGenerator):
        def __init__(self, model, *arguments, **options):
            models.append(model)
            super().__init__(model, *arguments, **options)

    monkeypatch.setattr(generate, "TextGenerator", Watched)
    monkeypatch.setattr(generate, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has_gpu)))
    run(monkeypatch, capsys, "", checkpoint, *flags, *(["--adapter", adapter] if has_adapter else []))
    (model,) = models
    linear_classes = (nn.Linear, PackedLinear, Int8Linear)
    assert {type(module) for module in model.modules() if isinstance(module, linear_classes)} == {expected}
    # An adapter is merged only to be packed.
    assert hasattr(model, "merge_and_unload") == (has_adapter and expected is nn.Linear)


def test_an_adapter_is_merged_with_all_its_digits():
    torch.manual_seed(0)
    base = tiny_model(tiny_config(tie_word_embeddings=False)).bfloat16()
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", init_lora_weights=False)).eval()
    name = "model.decoder.layers.0.encoder_attn.q_proj"
    layer = adapted.get_base_model().get_submodule(name)
    expected = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    merged = generate.packed(adapted, "float32")
    assert type(merged) is HfAttnForConditionalGeneration
    torch.testing.assert_close(merged.get_submodule(name).weight, expected, rtol=1e-6, atol=1e-6)
