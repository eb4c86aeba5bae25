# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the stages say of rows that are too long, and that nothing is written before they begin."""

import logging
from types import SimpleNamespace

import pytest
from datasets import Dataset

from hf_attn import HfAttnConfig
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    TaskArguments,
    prepare_generation,
    start_run,
    tokenize_splits,
)
from tests.training.tiny_training import build_trainer
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
