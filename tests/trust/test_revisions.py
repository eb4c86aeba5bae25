# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A pinned revision is what is loaded, and it is written into the card and the adapter."""

import json

import datasets
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

from hf_attn.adapters import add_lora
from hf_attn.data import readers
from hf_attn.pipelines import Seq2SeqLoader
from hf_attn.tasks import TRANSLATION
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    load_model,
    load_tokenizer,
    read_splits,
)
from hf_attn.training.model_card import write_model_card
from tests.small_checkpoint import save_adapter, small_model


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def asked(monkeypatch, checkpoint) -> list[tuple[str, str, str | None]]:
    """What is asked of the Hub, (class, name, revision); the checkpoint on this machine is given for any name."""
    requests: list[tuple[str, str, str | None]] = []

    def answering(auto_class):
        own = auto_class.from_pretrained

        def from_pretrained(name, *arguments, revision=None, **options):
            # They call one another.
            if name == str(checkpoint):
                return own(name, *arguments, **options)
            requests.append((auto_class.__name__, name, revision))
            return own(str(checkpoint), *arguments, **options)

        return from_pretrained

    for auto_class in (AutoConfig, AutoTokenizer, AutoModelForSeq2SeqLM):
        monkeypatch.setattr(auto_class, "from_pretrained", answering(auto_class))
    return requests


def test_a_model_and_its_tokenizer(asked, tmp_path):
    arguments = ModelArguments(model_name_or_path="ann/model", model_revision=COMMIT)
    tokenizer = load_tokenizer(arguments, [])
    training = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    adapted = load_model(arguments, AdapterArguments(lora=True), training, tokenizer)
    assert asked == [(name, "ann/model", COMMIT) for name in ("AutoTokenizer", "AutoConfig", "AutoModelForSeq2SeqLM")]
    assert adapted.peft_config["default"].revision == COMMIT


def test_a_tokenizer_of_its_own_is_not_pinned_by_the_model(asked):
    load_tokenizer(ModelArguments(model_name_or_path="ann/model", model_revision="v1", tokenizer_name="bob/other"), [])
    assert asked == [("AutoTokenizer", "bob/other", "main")]


def test_an_adapter_brings_its_base_at_the_revision_of_its_training(asked, tmp_path, checkpoint):
    folder = save_adapter(tmp_path / "adapter", checkpoint)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "ann/model", "revision": COMMIT}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    Seq2SeqLoader.from_pretrained(str(folder))
    assert asked[-1] == ("AutoModelForSeq2SeqLM", "ann/model", COMMIT)
    Seq2SeqLoader.from_pretrained(str(folder), revision="v2")
    assert asked[-1] == ("AutoModelForSeq2SeqLM", "ann/model", "v2")


def test_an_adapter_on_the_main_branch_names_no_revision(tokenizer):
    adapted = add_lora(small_model(tokenizer), AdapterArguments(lora=True), revision="main")
    assert adapted.peft_config["default"].revision is None


def test_a_data_set(monkeypatch, tmp_path):
    requests = []

    def load_dataset(name, config, **options):
        requests.append((name, config, options["revision"]))
        return DatasetDict(train=Dataset.from_list([{"en": "a", "de": "b"}]))

    monkeypatch.setattr(readers, "load_dataset", load_dataset)
    data = DataArguments(dataset_name="ann/rows", dataset_config_name="en-de", dataset_revision=COMMIT)
    read_splits(data, RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True))
    assert requests == [("ann/rows", "en-de", COMMIT)]
    assert datasets.load_dataset is not load_dataset


def test_the_card_records_both(tmp_path, tokenizer):
    write_model_card(
        tmp_path,
        small_model(tokenizer),
        task=TRANSLATION,
        languages=["en", "de"],
        data="ann/rows",
        values={"model_revision": COMMIT, "dataset_revision": "v1.1"},
        metrics={"predict_bleu": 1.0},
        usage="",
        hub_dataset="ann/rows",
        base_model="ann/model",
        base_revision=COMMIT,
        dataset_revision="v1.1",
    )
    card = ModelCard.load(tmp_path / "README.md")
    assert f"fine-tuned from `ann/model` at revision `{COMMIT}`," in card.text
    assert "Training data: ann/rows at revision `v1.1`." in card.text
    assert card.data.eval_results[0].dataset_revision == "v1.1"
