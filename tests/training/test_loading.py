# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models, tokenizers and splits from arguments."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MarianConfig, MarianMTModel

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration, HfAttnForQuestionAnswering
from hf_attn.data import train_tokenizer
from hf_attn.tasks import SPAN_HEAD
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    build_config,
    load_model,
    load_tokenizer,
    longest_target,
    parse_overrides,
    read_splits,
    set_generation,
)


TEXTS = ["a man walks", "a dog runs", "two men walk a dog"] * 3
SMALL = "d_model=16,encoder_attention_heads=2,decoder_attention_heads=2,encoder_ffn_dim=16,decoder_ffn_dim=16"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 270)


@pytest.fixture
def training(tmp_path):
    return RecipeTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, label_smoothing_factor=0.1)


def test_overrides_are_yaml():
    text = "d_model=192,dropout=0.3,layer_norm_eps=1e-6,encoder_layer_types=[lstm,gru],use_bias=false"
    assert parse_overrides(text) == {
        "d_model": 192,
        "dropout": 0.3,
        "layer_norm_eps": 1e-6,
        "encoder_layer_types": ["lstm", "gru"],
        "use_bias": False,
    }
    assert parse_overrides(None) == {}


@pytest.mark.parametrize("text", ["d_model", "d_model=192,,", "d_model=", "=3"])
def test_bad_overrides_are_refused(text):
    with pytest.raises(ValueError, match="`config_overrides` must look like d_model=192"):
        parse_overrides(text)


def test_preset_takes_its_sizes_from_the_tokenizer(tokenizer):
    config = build_config(ModelArguments(model_config="transformer_tiny", config_overrides="dropout=0.3"), tokenizer)
    assert isinstance(config, HfAttnConfig)
    assert (config.vocab_size, config.dropout, config.d_model) == (len(tokenizer), 0.3, 128)
    ids = (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id)
    assert ids == (1, 0, 2, 2)


def test_json_of_another_family(tmp_path, tokenizer):
    file = tmp_path / "marian.json"
    file.write_text(json.dumps({"model_type": "marian", "d_model": 16, "decoder_start_token_id": 58100}))
    config = build_config(ModelArguments(model_config=str(file), config_overrides="d_model=32"), tokenizer)
    assert isinstance(config, MarianConfig)
    assert (config.d_model, config.vocab_size, config.decoder_vocab_size) == (32, len(tokenizer), len(tokenizer))
    assert config.decoder_start_token_id == tokenizer.pad_token_id
    with pytest.raises(ValueError, match="`config_overrides` names `d_modle`, which is not a field of MarianConfig"):
        build_config(ModelArguments(model_config=str(file), config_overrides="d_modle=32"), tokenizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"model_config": "transformer_tini"},
            r"`model_config` must be a preset \(bahdanau2015, .*got 'transformer_t",
        ),
        ({"model_config": "luong2015", "config_overrides": "vocab_size=9"}, "cannot set `vocab_size`"),
        ({"model_config": "luong2015", "config_overrides": "d_modle=9"}, "`d_modle` is not a field of HfAttnConfig"),
    ],
)
def test_bad_configs_are_refused(tokenizer, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_config(ModelArguments(**arguments), tokenizer)


def test_tokenizer_is_trained_for_fresh_weights_and_else_that_of_the_checkpoint(tmp_path, tokenizer):
    trained = load_tokenizer(ModelArguments(model_config="luong2015", vocab_size=265), iter(TEXTS))
    assert len(trained) == 265
    tokenizer.save_pretrained(tmp_path)
    assert len(load_tokenizer(ModelArguments(model_name_or_path=str(tmp_path)), iter(()))) == len(tokenizer)


def test_a_vocabulary_size_beside_a_tokenizer_has_no_effect_and_says_so(tmp_path, tokenizer, caplog):
    tokenizer.save_pretrained(tmp_path)
    load_tokenizer(ModelArguments(model_name_or_path=str(tmp_path)), iter(()))
    assert "vocab_size" not in caplog.text
    named = ModelArguments(model_config="luong2015", vocab_size=265, tokenizer_name=str(tmp_path))
    assert len(load_tokenizer(named, iter(()))) == len(tokenizer)
    assert "`vocab_size`=265 has no effect: " in caplog.text and "from `tokenizer_name`" in caplog.text


def test_label_smoothing_of_our_models_moves_into_the_config(tokenizer, training):
    arguments = ModelArguments(model_config="transformer_tiny", config_overrides=SMALL)
    model = load_model(arguments, AdapterArguments(), training, tokenizer)
    assert (model.config.label_smoothing, training.label_smoothing_factor) == (0.1, 0.0)
    assert model.config._attn_implementation == "eager"


def test_two_different_label_smoothings_are_refused(tokenizer, training):
    arguments = ModelArguments(model_config="transformer_tiny", config_overrides=f"{SMALL},label_smoothing=0.2")
    with pytest.raises(ValueError, match=r"`label_smoothing_factor` and the `label_smoothing` .* got 0.1 and 0.2"):
        load_model(arguments, AdapterArguments(), training, tokenizer)


def test_checkpoint_too_small_for_the_tokenizer(tmp_path, tokenizer, training):
    config = MarianConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(tmp_path)
    arguments = ModelArguments(model_name_or_path=str(tmp_path))
    with pytest.raises(ValueError, match=f"has {len(tokenizer)} tokens and the model 20 embeddings"):
        load_model(arguments, AdapterArguments(), training, tokenizer)
    assert training.label_smoothing_factor == 0.1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors, key: tensors.pop(key), "`model.encoder.layers.0.feed_forward.fc1.weight` is missing"),
        (
            lambda tensors, key: tensors.update({key: tensors[key][:3].clone()}),
            r"`model.encoder.layers.0.feed_forward.fc1.weight` has shape \(3, 16\), the config says \(16, 16\)",
        ),
    ],
    ids=["missing", "mis-shaped"],
)
def test_checkpoint_that_is_not_whole(tmp_path, tokenizer, training, damage, message):
    config = build_config(ModelArguments(model_config="transformer_tiny", config_overrides=SMALL), tokenizer)
    HfAttnForConditionalGeneration(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors, "model.encoder.layers.0.feed_forward.fc1.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=message):
        load_model(ModelArguments(model_name_or_path=str(tmp_path)), AdapterArguments(), training, tokenizer)


@pytest.fixture
def checkpoint(tmp_path, tokenizer):
    config = build_config(ModelArguments(model_config="transformer_tiny", config_overrides=SMALL), tokenizer)
    HfAttnForConditionalGeneration(config).save_pretrained(tmp_path / "checkpoint")
    return str(tmp_path / "checkpoint")


def test_overrides_of_a_checkpoint(checkpoint, tokenizer, training):
    overrides = "dropout=0.3,copy_attention=true,match_embedding=true"
    arguments = ModelArguments(model_name_or_path=checkpoint, config_overrides=overrides)
    model = load_model(arguments, AdapterArguments(), training, tokenizer)
    assert (model.config.dropout, model.model.encoder.config.dropout) == (0.3, 0.3)
    stored = load_file(f"{checkpoint}/model.safetensors")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert {name for name in loaded if "copy_head" in name} == {"copy_head.gate.weight", "copy_head.gate.bias"}
    assert not loaded["model.encoder.match_embedding.weight"].any()


def test_a_new_span_head_beside_new_vectors(checkpoint, tokenizer, training):
    arguments = ModelArguments(model_name_or_path=checkpoint, config_overrides="match_embedding=true")
    options = training, tokenizer, SPAN_HEAD
    assert not load_model(arguments, AdapterArguments(), *options).model.encoder.match_embedding.weight.any()
    with pytest.raises(ValueError, match=r"lacks `model.encoder.match_embedding.weight`: an adapter could not"):
        load_model(arguments, AdapterArguments(lora=True), *options)


def test_writing_starts_from_a_checkpoint_that_marks(tmp_path, tokenizer, training):
    overrides = f"{SMALL},copy_attention=true"
    config = build_config(ModelArguments(model_config="transformer_tiny", config_overrides=overrides), tokenizer)
    HfAttnForQuestionAnswering(config).save_pretrained(tmp_path)
    model = load_model(ModelArguments(model_name_or_path=str(tmp_path)), AdapterArguments(), training, tokenizer)
    stored, loaded = load_file(tmp_path / "model.safetensors"), model.state_dict()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored if not name.startswith("qa_outputs"))
    assert torch.isfinite(loaded["copy_head.gate.weight"]).all()


@pytest.mark.parametrize(
    ("overrides", "lora", "message"),
    [
        ("d_modle=8", False, "`config_overrides` names `d_modle`, which is not a field of HfAttnConfig"),
        ("encoder_ffn_dim=8", False, r"has shape \(16, 16\), the config says \(8, 16\)"),
        ("encoder_layers=9", False, "`encoder_layers` is 9, got a list of 4"),
        ("match_embedding=true", True, "lacks `model.encoder.match_embedding.weight`: an adapter could not"),
        ("copy_attention=true", True, "lacks `copy_head.gate.bias`, `copy_head.gate.weight`: an adapter could not"),
    ],
)
def test_overrides_that_a_checkpoint_does_not_take(checkpoint, tokenizer, training, overrides, lora, message):
    arguments = ModelArguments(model_name_or_path=checkpoint, config_overrides=overrides)
    with pytest.raises(ValueError, match=message):
        load_model(arguments, AdapterArguments(lora=lora), training, tokenizer)


def test_generation_fits_the_training_data(tokenizer, training):
    arguments = ModelArguments(model_config="transformer_tiny", config_overrides=SMALL)
    model = load_model(arguments, AdapterArguments(), training, tokenizer)
    set_generation(model, tokenizer, 9, num_beams=4)
    config = model.generation_config
    # Half as many tokens again as the longest target.
    assert (config.max_new_tokens, config.max_length, config.num_beams, config.eos_token_id) == (14, None, 4, 2)
    assert config.use_cache
    assert not config.early_stopping  # as in transformers: a search goes on while a better output is likely
    set_generation(model, tokenizer, None, num_beams=2, length_penalty=1.4, early_stopping=True)
    assert (config.max_new_tokens, config.num_beams, config.length_penalty) == (14, 2, 1.4)
    set_generation(model, tokenizer, None, num_beams=1)
    assert (config.max_new_tokens, config.num_beams, config.length_penalty) == (14, 1, 1.4)


def test_generation_drops_the_least_length_of_a_checkpoint(checkpoint, tokenizer, training, caplog):
    model = load_model(ModelArguments(model_name_or_path=checkpoint), AdapterArguments(), training, tokenizer)
    model.generation_config.update(min_length=56, min_new_tokens=50, max_length=142)
    set_generation(model, tokenizer, None, num_beams=1)
    assert (model.generation_config.min_length, model.generation_config.max_length) == (56, 142)
    with caplog.at_level("INFO", logger="hf_attn"):
        for _ in range(2):
            set_generation(model, tokenizer, 9, num_beams=1)
    config = model.generation_config
    assert (config.min_length, config.min_new_tokens, config.max_new_tokens) == (None, None, 14)
    assert caplog.text.count("`min_length`=56 of the checkpoint is dropped: targets may be shorter.") == 1
    assert caplog.text.count("`min_new_tokens`=50 of the checkpoint is dropped") == 1


def test_generation_without_training_is_not_cut_at_a_default(checkpoint, tokenizer, training):
    model = load_model(ModelArguments(model_name_or_path=checkpoint), AdapterArguments(), training, tokenizer)
    model.generation_config.update(max_length=None, max_new_tokens=None)
    set_generation(model, tokenizer, None, num_beams=1, max_target_length=100)
    assert model.generation_config.max_new_tokens == 100
    set_generation(model, tokenizer, None, num_beams=1, max_target_length=50)
    assert model.generation_config.max_new_tokens == 100


def test_generation_takes_a_length_that_was_asked_for(checkpoint, tokenizer, training):
    model = load_model(ModelArguments(model_name_or_path=checkpoint), AdapterArguments(), training, tokenizer)
    set_generation(model, tokenizer, 9, num_beams=1, max_length=7, no_repeat_ngram_size=3)
    config = model.generation_config
    assert (config.max_new_tokens, config.max_length, config.no_repeat_ngram_size) == (6, None, 3)


def test_generation_keeps_within_the_positions(tokenizer, training):
    overrides = f"{SMALL},position_embedding_type=learned,max_position_embeddings=24"
    arguments = ModelArguments(model_config="transformer_tiny", config_overrides=overrides)
    model = load_model(arguments, AdapterArguments(), training, tokenizer)
    set_generation(model, tokenizer, 20, num_beams=1)
    assert model.generation_config.max_new_tokens == 23


def test_an_adapter_needs_a_base(tokenizer, training):
    message = "`lora` needs `model_name_or_path`: an adapter on weights that start fresh .* `model_config`='luong2015'"
    with pytest.raises(ValueError, match=message):
        load_model(ModelArguments(model_config="luong2015"), AdapterArguments(lora=True), training, tokenizer)


def test_splits_that_are_not_scored_are_not_kept(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"source": "a", "target": "b"}\n' * 3, encoding="utf-8")
    data = DataArguments(train_file=str(file), validation_file=str(file), test_file=str(file), max_predict_samples=2)
    everything = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert {name: len(split) for name, split in read_splits(data, everything).items()} == {
        "train": 3,
        "validation": 3,
        "test": 2,
    }
    prediction = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, do_predict=True)
    assert list(read_splits(data, prediction)) == ["test"]
    assert longest_target(None, data) is None


def test_only_the_training_split_is_streamed(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"source": "a", "target": "b"}\n' * 3, encoding="utf-8")
    data = DataArguments(train_file=str(file), test_file=str(file), streaming=True)
    splits = read_splits(data, RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True))
    assert not hasattr(splits["train"], "__len__") and len(splits["test"]) == 3
