# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The translation recipe through the user's command, in a process of its own, on a corpus that the test writes."""

import importlib
import json
import logging
import re
from functools import partial

import pytest
import yaml
from transformers import AutoModelForSeq2SeqLM

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.adapters import load_adapter
from hf_attn.training import parse_arguments
from tests.recipes.launching import RECIPES, SHAPE, succeeded
from tests.recipes.launching import launch as launch_recipe


CONFIGS = sorted((RECIPES / "configs").glob("*.yaml"))
MARIAN = {
    "model_type": "marian", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip


launch = partial(launch_recipe, recipe="recipes/translation.py")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[str]:
    """Numbers in words, English to German, and the flags of two quick steps on them."""
    folder = tmp_path_factory.mktemp("corpus")
    english = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    german = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
    for name, num_rows in (("train", 64), ("validation", 9), ("test", 7)):
        rows = []
        for row in range(num_rows):
            digits = [(row * 7 + place * place) % 9 for place in range(1 + row % 5)]
            pair = {
                language: " ".join(words[digit] for digit in digits)
                for language, words in (("en", english), ("de", german))
            }
            rows.append(json.dumps({"translation": pair}, ensure_ascii=False) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
    files = [f"--{name}_file={folder / name}.jsonl" for name in ("train", "validation", "test")]
    return [*files, "--vocab_size=300", "--max_steps=2", "--tokens_per_batch=200", "--num_beams=2", "--use_cpu"]


def test_fresh_weights_from_end_to_end(tmp_path, corpus):
    run = tmp_path / "run"
    arguments = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE}", f"--output_dir={run}", *corpus]
    arguments += ["--save_steps=1", "--eval_strategy=steps", "--eval_steps=1", "--average_checkpoints=2"]
    arguments += ["--label_smoothing_factor=0.1"]
    shown = succeeded(launch(*arguments)).stdout
    assert "copy of the source" in shown and "AutoModelForSeq2SeqLM.from_pretrained" in shown
    results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
    for name in ("eval_bleu", "eval_chrf", "predict_bleu", "predict_chrf", "train_tokens_per_second"):
        assert name in results
    assert len((run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 7
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "predict_bleu" in card and "pipeline_tag: translation" in card
    for name in ("trainer_state.json", "generation_config.json", "tokenizer.json", "plots/training_curves.png"):
        assert (run / name).is_file()
    model = AutoModelForSeq2SeqLM.from_pretrained(run)
    assert model.config.label_smoothing == 0.1 and model.config.use_cache
    assert model.generation_config.num_beams == 2

    # The same command goes on where the run ended; another one is refused.
    again = succeeded(launch(*arguments))
    assert "goes on from" in again.stderr
    assert (
        json.loads((run / "all_results.json").read_text(encoding="utf-8"))["predict_bleu"] == results["predict_bleu"]
    )
    refused = launch(*arguments, "--learning_rate=0.5")
    assert refused.returncode != 0
    assert "already holds a different run: `learning_rate` was its default and is 0.5" in refused.stderr


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("translation")


def test_unknown_flag(corpus, recipe):
    message = r"`--learing_rate=1` is not a flag of this recipe \(did you mean `--learning_rate`\?\)"
    with pytest.raises(ValueError, match=message):
        recipe.main(["--model_config=transformer_tiny", *corpus, "--learing_rate=1"])


FRESH = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE}"]
PAIR = {"translation": {"en": "one", "de": "eins"}}


@pytest.mark.parametrize("file_name", ["test.jsonl", "test.txt"])
def test_a_test_split_without_targets_is_translated_only(tmp_path, corpus, recipe, capsys, caplog, file_name):
    test, run = tmp_path / file_name, tmp_path / "run"
    sources = ["one two", "three", "four five six"]
    lines = [json.dumps({"translation": {"en": source}}) if test.suffix == ".jsonl" else source for source in sources]
    test.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    caplog.set_level(logging.WARNING, "hf_attn")
    arguments = [*FRESH, *corpus, f"--test_file={test}", f"--output_dir={run}", "--score_before", "--score_formality"]
    metrics = recipe.main(arguments)
    assert "`test` has no `de`: it is predicted without the scores and the loss that need one." in caplog.text
    assert len((run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()) == 3
    results = json.loads((run / "all_results.json").read_text(encoding="utf-8"))
    assert "eval_bleu" in results and results.keys() == metrics.keys()
    speed = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    measured = {name.split("_", 1)[1] for name in results if name.startswith(("predict_", "before_"))}
    assert measured and measured <= set(speed)
    shown = capsys.readouterr().out
    assert "four five six" in shown and "test set" not in shown
    assert "eval_bleu" in (run / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("split", "rows", "flags", "message"),
    [
        (
            "train",
            [PAIR],
            ["--source_lang=fr"],
            "`translation` must have the languages `fr`, `de`, but row 0 of `train` has only `de`, `en`: set "
            "`source_lang` and `target_lang`",
        ),
        (
            "train",
            [{"en": "one", "de": "eins"}],
            ["--target_lang=fr", "--streaming"],
            "`train` must have a column `translation`, or the columns `en`, `fr`, or `source`, `target`; it has only "
            "`en`, `de`: set `source_lang` and `target_lang`",
        ),
        (
            "train",
            [PAIR, {"translation": {"en": "two"}}],
            ["--streaming"],
            "`translation` must have the languages `de`, but row 1 has only `en`: set `source_lang`",
        ),
        (
            "test",
            [PAIR, {"translation": "x"}],
            [],
            "`translation` must hold an object a row, got 'x' in row 1 of `test`",
        ),
        (
            "test",
            [PAIR, {"translation": {"en": "two"}}],
            [],
            "`de` must be in every row of `test`, or in none for predictions without scores; got none in row 1",
        ),
        (
            "validation",
            [{"translation": {"en": "two"}}],
            [],
            "`translation` must have the languages `en`, `de`, but row 0 of `validation` has only `en`",
        ),
    ],
)
def test_bad_rows_are_refused_and_leave_nothing(tmp_path, corpus, recipe, split, rows, flags, message):
    file, run = tmp_path / "rows.jsonl", tmp_path / "run"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # A stream is not sorted by length.
    shared = [flag for flag in corpus if "--streaming" not in flags or not flag.startswith("--tokens_per_batch")]
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe.main([*FRESH, *shared, f"--{split}_file={file}", f"--output_dir={run}", *flags])
    assert not run.exists()


def test_unknown_task():
    result = launch("translaton", recipe="recipes/")
    assert result.returncode != 0
    assert "must be a task, one of classification, pretrain, question_answering, " in result.stderr
    assert "got 'translaton' (did you mean translation?)" in result.stderr


@pytest.mark.slow
def test_stock_model_by_the_name_of_the_task_then_an_adapter_on_it(tmp_path, corpus):
    (tmp_path / "marian.json").write_text(json.dumps(MARIAN), encoding="utf-8")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    result = launch(
        "translation", f"--model_config={tmp_path / 'marian.json'}", f"--output_dir={base}", *corpus, recipe="recipes/"
    )
    assert "MarianMTModel ignores `num_items_in_batch`" in succeeded(result).stderr
    arguments = [f"--model_name_or_path={base}", "--lora", "--merge_adapter", "--score_before", "--score_formality"]
    arguments += ["--lora_target_modules", "q_proj", "v_proj", f"--output_dir={adapter}"]
    shown = succeeded(launch(*arguments, *corpus)).stdout
    assert "before training" in shown and "formality_share" in shown and "PeftModel.from_pretrained" in shown
    load_adapter(AutoModelForSeq2SeqLM.from_pretrained(base), adapter)
    AutoModelForSeq2SeqLM.from_pretrained(adapter / "merged")


@pytest.mark.slow
def test_predictions_do_not_depend_on_processes_or_batches(tmp_path, corpus):
    base = tmp_path / "base"
    succeeded(launch("--model_config=hybrid_tiny", f"--config_overrides={SHAPE}", f"--output_dir={base}", *corpus))
    predictions = []
    for processes, batch_size in ((1, 8), (1, 2), (2, 2)):
        run = tmp_path / f"run_{processes}_{batch_size}"
        arguments = [f"--model_name_or_path={base}", "--do_predict", f"--per_device_eval_batch_size={batch_size}"]
        succeeded(launch(*arguments, f"--output_dir={run}", *corpus, processes=processes))
        predictions.append((run / "generated_predictions.txt").read_text(encoding="utf-8"))
    assert predictions[0] == predictions[1] == predictions[2]
    assert predictions[0] == (base / "generated_predictions.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, corpus):
    def arguments(name: str) -> list[str]:
        run = f"--output_dir={tmp_path / name}"
        options = ["--save_steps=2", "--logging_steps=1", "--bf16=false", "--config_overrides", SHAPE, run]
        return ["--model_config=transformer_tiny", *options, *corpus, "--max_steps=4"]

    succeeded(launch(*arguments("whole")))
    succeeded(launch(*arguments("halves")))
    for name in ("checkpoint-4", "model.safetensors", "all_results.json"):
        path = tmp_path / "halves" / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()
    assert "goes on from" in succeeded(launch(*arguments("halves"))).stderr
    histories = [
        json.loads((tmp_path / name / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        for name in ("whole", "halves")
    ]
    losses = [[entry["loss"] for entry in history if "loss" in entry] for history in histories]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_shipped_configs_start_with_their_command_and_hold_known_keys(config, tmp_path, monkeypatch):
    first, *rest = config.read_text(encoding="utf-8").splitlines()
    launched = re.fullmatch(r"# accelerate launch recipes/(\w+)\.py(?: --config (\S+))?", first)
    assert launched, first
    assert launched[2] in (f"recipes/configs/{config.name}", None)
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module(launched[1])
    if launched[2] is None:
        assert config == recipe.DEFAULT_CONFIG
    parse_arguments(recipe.ARGUMENTS, ["--config", str(config), "--output_dir", str(tmp_path), "--use_cpu"])
    # Every kind of key is explained where it first stands.
    keys = list(yaml.safe_load("\n".join(rest)))
    commented = [line for line in rest if "#" in line]
    assert len(commented) >= len(keys) / 2


def test_there_are_configs_to_check():
    assert len(CONFIGS) >= 7
