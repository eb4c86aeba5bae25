# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The stages name rows that are too long, and write nothing before they begin."""

import logging
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from hf_attn import HfAttnConfig
from hf_attn.metrics import mean_statistics, paired_bootstrap
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    Stages,
    TaskArguments,
    prepare_generation,
    score_table,
    start_run,
    tokenize_splits,
)
from tests.training.tiny_training import build_trainer, rows_and_tokenizer
from tests.utils import tiny_config, tiny_model


ARGUMENTS = (ModelArguments, AdapterArguments, DataArguments, TaskArguments, RecipeTrainingArguments)


@pytest.fixture
def run(tmp_path):
    command = [f"--output_dir={tmp_path / 'run'}", "--model_config=x", "--train_file=a.json", "--use_cpu"]
    return start_run(ARGUMENTS, [*command, "--max_source_length=5"], tmp_path / "unused.yaml", "A test.")


def tokens(batch, indices=None):
    return {
        "input_ids": [[3] * min(length, 5) for length in batch["length"]],
        "labels": [[3, 2] for _ in batch["length"]],
        "source_length": batch["length"],
    }


def test_share_of_cut_sources_is_logged(run, caplog):
    split = Dataset.from_dict({"length": [2, 9, 5, 7]})
    # Loggers of transformers and of the package do not hand on to the root that caplog listens to.
    logger = logging.getLogger("hf_attn")
    logger.addHandler(caplog.handler)
    tokenized = tokenize_splits(run, {"train": split, "test": split.select([0])}, tokens)
    logger.removeHandler(caplog.handler)
    assert tokenized["train"].column_names == ["input_ids", "labels"]
    assert (
        "50.0% of the 4 sources of `train` are longer than `max_source_length`=5 tokens and cut there; the longest "
        "has 9." in caplog.text
    )
    assert "`test`" not in caplog.text


@pytest.mark.parametrize("side", ["source", "target"])
def test_rows_beyond_the_positions_are_refused(run, side):
    lengths = {"source": 3, "target": 3, side: 9}
    rows = Dataset.from_dict({"input_ids": [[3] * lengths["source"]], "labels": [[3] * lengths["target"]]})
    model = tiny_model(tiny_config(max_position_embeddings=8))
    message = f"`max_{side}_length` must keep within the 8 positions of the model, got a {side} of 9 tokens in `test`"
    with pytest.raises(ValueError, match=message):
        prepare_generation(run, model, None, {"test": rows})


def test_splits_may_have_a_preprocessor_each_and_rows_no_labels(run):
    def sources(batch, indices=None):
        return {"input_ids": tokens(batch)["input_ids"]}

    split = Dataset.from_dict({"length": [2, 5]})
    tokenized = tokenize_splits(run, {"train": split, "test": split}, {"train": tokens, "test": sources})
    assert tokenized["train"].column_names == ["input_ids", "labels"]
    assert tokenized["test"].column_names == ["input_ids"]
    model = tiny_model(tiny_config(max_position_embeddings=4))
    with pytest.raises(ValueError, match="got a source of 5 tokens in `test`"):
        prepare_generation(run, model, None, {"test": tokenized["test"]})


def test_nothing_is_written_before_the_training_begins(run, tmp_path):
    assert list(tmp_path.iterdir()) == []
    assert run.base_model is None and run.data == "a.json"
    trainer = build_trainer(tmp_path / "run", tokens_per_batch=1)
    run.record(trainer)
    with pytest.raises(ValueError, match="must hold the longest row, got 1"):
        trainer.train()
    assert list((tmp_path / "run").iterdir()) == []
    trainer = build_trainer(tmp_path / "run", max_steps=1)
    run.record(trainer)
    trainer.train()
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_run_without_training_begins_at_once(run, tmp_path):
    run.record(SimpleNamespace(train_dataset=None))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_the_prefix_of_the_sources_is_kept_for_pipelines(run, tmp_path):
    model = tiny_model()
    tokenizer = SimpleNamespace(pad_token_id=1, eos_token_id=2)
    rows = {"train": Dataset.from_dict({"input_ids": [[3, 2]], "labels": [[3, 2]]})}
    prepare_generation(run, model, tokenizer, rows)
    assert getattr(model.config, "prefix", None) is None
    prepare_generation(run, model, tokenizer, rows, source_prefix="summarize: ")
    model.save_pretrained(tmp_path)
    assert HfAttnConfig.from_pretrained(tmp_path).prefix == "summarize: "
    prepare_generation(run, model, tokenizer, {"test": rows["train"]})
    assert model.config.prefix == "summarize: "
    prepare_generation(run, model, tokenizer, rows)
    assert model.config.prefix is None


def untrained_stages(output_dir, splits, score, *flags, **options):
    """Stages of an untrained model on a few rows, the same in each of `splits`; the rows, too."""
    command = [f"--output_dir={output_dir}", "--model_config=x", "--train_file=a.json", "--use_cpu", "--bf16=False"]
    run = start_run(ARGUMENTS, [*command, *flags], output_dir / "unused.yaml", "A test.")
    rows, tokenizer = rows_and_tokenizer(12)
    # Peaked enough for beams to find what greedy search does not.
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    with torch.no_grad():
        model.lm_head.weight.mul_(5)
    tokenized = dict.fromkeys(splits, rows)
    prepare_generation(run, model, tokenizer, tokenized)
    model.generation_config.max_new_tokens = 8
    return Stages(run, model, tokenizer, tokenized, score, **options), rows


def generated(stages, rows, num_beams):
    """One text a row, by `generate` alone."""
    model, tokenizer = stages.trainer.model, stages.trainer.processing_class
    outputs = [model.generate(torch.tensor([row]), num_beams=num_beams)[0] for row in rows["input_ids"]]
    return [" ".join(text.split()) for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def test_evaluations_of_the_end_search_with_the_beams_of_the_end(tmp_path):
    scored = []

    def score(split, texts):
        scored.append((split, list(texts)))
        return {"bleu": float(len(scored))}

    flags = ["--num_beams=3", "--generation_num_beams=1", "--eval_strategy=steps", "--eval_steps=1", "--max_steps=1"]
    flags += ["--save_strategy=no", "--learning_rate=0", "--predict_with_generate"]
    stages, rows = untrained_stages(tmp_path / "run", ("train", "validation", "test"), score, *flags)
    stages.train()
    stages.evaluate()
    stages.predict()
    greedy, beams = (generated(stages, rows, num_beams) for num_beams in (1, 3))
    assert greedy != beams
    assert scored == [("validation", greedy), ("validation", beams), ("test", beams)]
    assert stages.metrics["eval_bleu"] == 2 and stages.metrics["predict_bleu"] == 3
    # By itself the saved model searches as at the end.
    assert stages.trainer.model.generation_config.num_beams == 3


def test_p_values_are_of_the_distance_from_the_trained_model(tmp_path):
    def statistics(texts):
        # Numbers by which no system is much better than another: each two differ with another p-value.
        return mean_statistics([sum(text.encode()) % 11 for text in texts])

    options = {"statistics": statistics, "main_score": "bleu"}
    score = {"bleu": 1.0}
    stages, rows = untrained_stages(tmp_path / "run", ("test",), lambda *_: score, "--num_beams=1", **options)
    texts = {"before": stages.predict("before")}
    assert not any(name.endswith("p_value") for name in stages.metrics)
    with torch.no_grad():
        for weights in stages.trainer.model.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.3)
    texts["predict"] = stages.predict()
    texts["predict_copy_source"] = stages.trainer.processing_class.batch_decode(list(rows["input_ids"]))
    stages.add_baseline("copy_source", texts["predict_copy_source"])

    systems = {name: statistics(of_system) for name, of_system in texts.items()}
    p_values = {
        name: paired_bootstrap(systems["predict"], systems[name]).p_value for name in ("before", "predict_copy_source")
    }
    others = (1.0, paired_bootstrap(systems["before"], systems["predict_copy_source"]).p_value)
    assert len({*p_values.values(), *others}) == 4
    found = {name: value for name, value in stages.metrics.items() if name.endswith("p_value")}
    assert found == {f"{name}_p_value": value for name, value in p_values.items()}
    table = score_table(stages.metrics, ["bleu"], {"copy of the source": "copy_source"}, "bleu").splitlines()[2:]
    cells = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in table}
    assert cells == {
        "copy of the source": f"{p_values['predict_copy_source']:.3f}",
        "before training": f"{p_values['before']:.3f}",
        "trained": "",
    }


@pytest.mark.parametrize(("before", "trained", "p_value"), [(0, 1, 1 / 1001), (1, 0, 1 / 1001), (1, 1, 1.0)])
def test_p_values_of_clear_cases(tmp_path, before, trained, p_value):
    scores = iter((before, trained))
    options = {"statistics": lambda texts: mean_statistics([next(scores)] * len(texts)), "main_score": "bleu"}
    score = {"bleu": 1.0}
    stages, _ = untrained_stages(tmp_path / "run", ("test",), lambda *_: score, "--num_beams=1", **options)
    stages.predict("before")
    stages.predict()
    assert stages.metrics["before_p_value"] == pytest.approx(p_value)
