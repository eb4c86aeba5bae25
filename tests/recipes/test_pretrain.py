# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pre-training by the user's command: a mixture with sentence pairs, going on, equal scores, and what is refused."""

import importlib
import json
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, EvalPrediction

from hf_attn.training.pretraining import HeldOutRows, count_tokens, parse_corpora, token_losses
from tests.recipes.launching import RECIPES, SHAPE, succeeded
from tests.recipes.launching import launch as launch_recipe


launch = partial(launch_recipe, recipe="recipes/pretrain.py")

SENTENCE = "the old king sent his three sons to look for golden apples beyond a dark green forest"
WORDS = SENTENCE.split()


def story(number: int) -> str:
    words = [WORDS[(number + step * 5) % len(WORDS)] for step in range(5 + number % 17)]
    return " ".join(words).capitalize() + ". He left. So did she."


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> list[str]:
    """Stories and pairs, and the flags of two quick steps on them."""
    folder = tmp_path_factory.mktemp("corpora")
    entries: dict[str, dict] = {
        "stories": {"columns": ["context"]},
        "pairs": {"source_lang": "en", "target_lang": "de"},
    }
    for split, numbers in (("train", range(40)), ("validation", range(100, 111))):
        contents = {
            "stories": [{"context": story(number), "question": ""} for number in numbers],
            "pairs": [{"translation": {"en": WORDS[number % 9], "de": WORDS[-1 - number % 9]}} for number in numbers],
        }
        for name, rows in contents.items():
            file = folder / f"{name}_{split}.jsonl"
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            entries[name][split] = str(file)
    options = ["--model_config=hybrid_tiny", f"--config_overrides={SHAPE}", "--vocab_size=300", "--max_steps=2"]
    options += ["--tokens_per_batch=400", "--max_source_length=64", "--max_target_length=64", "--min_block_length=16"]
    return [f"--corpora={json.dumps(entries)}", *options, "--use_cpu", "--num_beams=1"]


def results_of(run) -> dict[str, float]:
    return json.loads((run / "all_results.json").read_text(encoding="utf-8"))


def test_mixture_from_end_to_end(tmp_path, mixture):
    run = tmp_path / "run"
    arguments = [*mixture, f"--output_dir={run}", "--save_dtype=bfloat16", "--score_before", "--temperature=2"]
    shown = succeeded(launch(*arguments, "--eval_strategy=steps", "--eval_steps=1")).stdout
    assert "| times an epoch |" in shown and "| held-out text |" in shown and "<mask>" in shown
    assert "split_special_tokens=False" in shown
    results = results_of(run)
    for name in ("", "stories_", "pairs_"):
        assert results[f"eval_{name}perplexity"] == pytest.approx(np.exp(results[f"eval_{name}masked_loss"]))
        assert 1 < results[f"eval_{name}unigram_perplexity"] < 300
        assert 0 <= results[f"eval_{name}accuracy"] <= 1 and f"before_eval_{name}masked_loss" in results
    assert results["train_tokens_per_second"] > 0
    assert {tensor.dtype for tensor in load_file(run / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag" not in card and "pipeline(" not in card and "stories_train.jsonl" in card
    # The lines that are shown work: a mask is a mask.
    tokenizer = AutoTokenizer.from_pretrained(run)
    assert tokenizer.mask_token_id in tokenizer("a <mask>", split_special_tokens=False)["input_ids"]
    assert AutoModelForSeq2SeqLM.from_pretrained(run).config.vocab_size == len(tokenizer) == 300


@pytest.mark.slow
def test_going_on_with_span_corruption_from_sentinels_and_files(tmp_path, mixture):
    corpora = json.loads(mixture[0].removeprefix("--corpora="))
    files = [f"--{split}_file={corpora['stories'][split]}" for split in ("train", "validation")]
    options = [*mixture[3:], "--text_columns=context", "--objective=span_corruption", *files]
    base, further = tmp_path / "base", tmp_path / "further"
    succeeded(launch("--model_config=hybrid_tiny", f"--config_overrides={SHAPE}", *options, f"--output_dir={base}"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert len(tokenizer) == 400 and tokenizer.convert_tokens_to_ids("<extra_id_99>") == 399
    scores = ["--test_file=" + corpora["stories"]["validation"], f"--model_name_or_path={base}", "--score_before"]
    succeeded(launch(*options, *scores, f"--output_dir={further}"))
    results = results_of(further)
    assert results["before_eval_masked_loss"] == pytest.approx(results_of(base)["eval_masked_loss"], rel=1e-5)
    assert results["predict_text_masked_loss"] == results["eval_text_masked_loss"] == results["eval_masked_loss"]


@pytest.mark.slow
def test_equal_scores_on_two_processes_and_after_an_interruption(tmp_path, mixture):
    def run(name: str, *options: str, processes: int = 1) -> dict[str, float]:
        arguments = [*mixture, "--max_steps=6", "--bf16=false", "--save_steps=3", f"--output_dir={tmp_path / name}"]
        arguments += ["--config_overrides", f"{SHAPE},dropout=0"]
        succeeded(launch(*arguments, *options, processes=processes))
        return {key: value for key, value in results_of(tmp_path / name).items() if key.endswith("masked_loss")}

    whole = run("whole")
    # Workers draw what the process itself draws.
    assert run("workers", "--dataloader_num_workers=1", "--dataloader_persistent_workers") == whole
    for name in ("checkpoint-6", "model.safetensors", "all_results.json"):
        path = tmp_path / "workers" / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()
    again = run("workers", "--dataloader_num_workers=1", "--dataloader_persistent_workers")
    assert again == pytest.approx(whole, rel=1e-5)
    options = ["--do_eval", f"--model_name_or_path={tmp_path / 'whole'}", *mixture[3:], mixture[0], "--bf16=false"]
    scores = []
    for processes in (1, 2):
        scored = tmp_path / f"scored_{processes}"
        succeeded(launch(*options, f"--output_dir={scored}", processes=processes))
        results = results_of(scored)
        scores.append({key: value for key, value in results.items() if key.endswith(("masked_loss", "accuracy"))})
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert scores[0]["eval_stories_masked_loss"] == pytest.approx(whole["eval_stories_masked_loss"], rel=1e-5)


@pytest.mark.slow
def test_processes_part_before_the_interpreter_ends(tmp_path, mixture):
    # Gloo's threads abort a process that ends while they run, now and then.
    script = tmp_path / "ends.py"
    script.write_text(
        f"""
import sys
import torch
sys.path.insert(0, {str(RECIPES)!r})
import pretrain
pretrain.main(sys.argv[1:])
assert not torch.distributed.is_initialized()
""",
        encoding="utf-8",
    )
    succeeded(launch_recipe(*mixture, f"--output_dir={tmp_path / 'run'}", recipe=str(script), processes=2))


def test_scores_count_hidden_tokens_alone():
    # Two corpora, sources of 1, 3 and 2 tokens: the rows are sorted.
    corpora = {
        "one": Dataset.from_dict(
            {
                "input_ids": [[5], [5, 5, 5]],
                "labels": [[1, 2], [3, 0, 1]],
                "is_hidden": [[True, False], [False, True, True]],
            }
        ),
        "two": Dataset.from_dict({"input_ids": [[5, 5]], "labels": [[2]], "is_hidden": [[True]]}),
    }
    rows = HeldOutRows(corpora)
    assert [len(row["input_ids"]) for row in rows.dataset] == [3, 2, 1]
    logits = torch.randn(3, 3, 4)
    labels = torch.tensor([[3, 0, 1], [2, -100, -100], [1, 2, -100]])
    losses, is_right = token_losses((logits, None), labels)
    # Several processes repeat the first row to fill their last batches.
    gathered = tuple(torch.cat([values, values[:1]]).numpy() for values in (losses, is_right))
    metrics = rows.metrics(EvalPrediction(predictions=gathered, label_ids=labels.numpy()))
    log_probabilities = logits.log_softmax(-1)
    hidden = [log_probabilities[0, 1, 0], log_probabilities[0, 2, 1], log_probabilities[2, 0, 1]]
    expected = -torch.stack(hidden).mean().item()
    assert metrics["one_masked_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["one_perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert metrics["two_masked_loss"] == pytest.approx(-log_probabilities[1, 0, 2].item(), rel=1e-5)
    assert metrics["masked_loss"] == pytest.approx((3 * expected + metrics["two_masked_loss"]) / 4, rel=1e-5)
    guesses = logits.argmax(-1)
    right = [guesses[0, 1] == 0, guesses[0, 2] == 1, guesses[2, 0] == 1, guesses[1, 0] == 2]
    assert metrics["accuracy"] == pytest.approx(sum(map(int, right)) / 4)
    counts = count_tokens(corpora["one"], 4)
    assert counts.tolist() == [1, 2, 1, 1]
    assert rows.unigram_metrics(counts)["two_unigram_perplexity"] == pytest.approx(9 / 2)
    assert [row["labels"] for row in rows.shortest(1)] == [[1, 2], [2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "`corpora` must be json, got '{'"),
        ('["a"]', '`corpora` must hold names with an object each, such as {"novels"'),
        ('{"a": {"file": "x"}}', "`file` of `a` in `corpora` must be one of train, validation, test, columns"),
        ('{"a": {"columns": ["text"]}}', "`a` in `corpora` must name a file for train, validation, test or"),
        ('{"a": {"train": 3}}', "`a` in `corpora`: `train` must name a file, or a pattern of files, got 3"),
        (
            '{"a": {"train": "x", "weight": NaN}}',
            "`a` in `corpora`: `weight` must be a number greater than 0, got nan",
        ),
        ('{"a": {"train": "x", "weight": "much"}}', "`corpora`: `weight` must be a number greater than 0, got 'much'"),
        ('{"a": {"train": "x", "columns": "text"}}', "`corpora`: `columns` must be a list of names, got 'text'"),
        ('{"a": {"train": "x", "source_lang": "en"}}', "make a corpus a parallel one together, got 'en' and None"),
        ('{"a": {"train": "x", "prefix": "en: "}}', "`prefix` is for parallel corpora, got 'en: ' without"),
    ],
)
def test_corpora_that_are_refused(text, message):
    with pytest.raises(ValueError) as raised:
        parse_corpora(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file=x.txt"], "`corpora` says itself where text comes from, got `train_file` 'x.txt' too"),
        (["--streaming"], "`streaming` cannot make blocks of documents or mix corpora"),
        (["--save_dtype=int8"], "`save_dtype` must be one of float32, bfloat16, float16, got 'int8'"),
        (["--predict_with_generate"], "`predict_with_generate` must be false in pre-training"),
        (["--objective=masking"], "`objective` must be one of 'text_infilling', 'span_corruption', got 'masking'"),
        (["--min_block_length=0"], "`min_block_length` must be from 1 to 63"),
        (["--do_eval"], "must give a training split to train a tokenizer on, got none"),
    ],
)
def test_flags_that_are_refused(flags, message, mixture, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("pretrain")
    run = tmp_path / "run"
    with pytest.raises(ValueError) as raised:
        recipe.main([*mixture, f"--output_dir={run}", *flags])
    assert message in str(raised.value)
    assert not run.exists()
