# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The bad inputs: each a call that has to be refused. `table.py` makes docs/errors.md of what they say."""

import functools
import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, Features, Image
from transformers import DynamicCache, pipeline

from hf_attn import HfAttnConfig, HfAttnForQuestionAnswering, metrics
from hf_attn.adapters import add_lora, finish_adapter, load_adapter
from hf_attn.cli import main as command
from hf_attn.data import (
    LengthBucketBatchSampler,
    load_splits,
    require_columns,
    train_tokenizer,
    translation_preprocessor,
)
from hf_attn.data.pretraining import build_noise, documents, largest_block
from hf_attn.data.question_answering import answer_preprocessor, check_ids, has_answers, span_preprocessor
from hf_attn.data.readers import iterate_texts
from hf_attn.data.summarization import (
    check_documents,
    has_summaries,
    keep_covered,
    lead,
    references_of,
    summarization_preprocessor,
)
from hf_attn.generation import Glossary, TextGenerator, load_for_inference
from hf_attn.modeling_versions import check_version
from hf_attn.plotting import attention_map, save_figure, training_curves
from hf_attn.text.language_codes import set_languages
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    TaskArguments,
    average_checkpoints,
    load_model,
    load_tokenizer,
    parse_arguments,
    start_run,
)
from hf_attn.training.arguments import RecipeTrainingArguments
from hf_attn.training.loading import check_base
from hf_attn.training.pretraining import parse_corpora
from hf_attn.training.question_answering import check_window, prepare_span_training
from hf_attn.training.run_directory import record_run, resume_or_refuse
from hf_attn.training.trainer.hub import claim_repository, push_directory
from tests.hub.hub_server import TOKEN, Hub, Repository
from tests.utils import tiny_config, tiny_model


TEXTS = ["A small dog runs.", "Two dogs run far."]
RECIPE = (ModelArguments, AdapterArguments, DataArguments, RecipeTrainingArguments)


class Bench:
    """
    What the cases work on, made when it is asked for.

    Attributes:
        folder: An empty one for each case.
        shared: Holds what several cases read.
    """

    def __init__(self, shared: Path):
        self.shared = shared
        self.folder = shared

    @functools.cached_property
    def tokenizer(self):
        return train_tokenizer(TEXTS, 270)

    @functools.cached_property
    def model(self):
        return tiny_model(tiny_config(vocab_size=270, encoder_layers=1, decoder_layers=1, max_position_embeddings=16))

    @functools.cached_property
    def checkpoint(self) -> str:
        folder = self.shared / "checkpoint"
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return str(folder)

    @functools.cached_property
    def adapter(self) -> Path:
        adapted = add_lora(tiny_model(self.model.config, seed=3), AdapterArguments(lora=True, lora_r=2))
        adapted.save_pretrained(self.shared / "adapter")
        finish_adapter(adapted, self.tokenizer, self.shared / "adapter")
        return self.shared / "adapter"

    @functools.cached_property
    def hub(self) -> Hub:
        server = Hub()
        server.__enter__()
        server.repositories["ann/taken"] = Repository(files={"config.json": b"{}"})
        server.repositories["bob/model"] = Repository(files={"config.json": b"{}"})
        return server

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def copy_of_checkpoint(self, **files: str | bytes | None) -> str:
        """The checkpoint with some files replaced, or taken out where they are `None`; `__` stands for a point."""
        for path in Path(self.checkpoint).iterdir():
            (self.folder / path.name).write_bytes(path.read_bytes())
        for name, content in files.items():
            name = name.replace("__", ".")
            if content is None:
                (self.folder / name).unlink()
            else:
                self.file(name, content)
        return str(self.folder)

    def training(self, **options: Any) -> RecipeTrainingArguments:
        return RecipeTrainingArguments(output_dir=str(self.folder / "run"), use_cpu=True, **options)

    def load(self, **arguments: Any) -> Any:
        adapter_arguments = arguments.pop("adapter_arguments", AdapterArguments())
        return load_model(ModelArguments(**arguments), adapter_arguments, self.training(), self.tokenizer)

    def close(self) -> None:
        if "hub" in self.__dict__:
            self.hub.__exit__()


class Case(NamedTuple):
    """A bad input.

    Attributes:
        area: Heading in the table.
        what: What is wrong, in words.
        call: Has to raise.
    """

    area: str
    what: str
    call: Callable[[Bench], Any]


CASES: list[Case] = []


def case(area: str, what: str) -> Callable[[Callable[[Bench], Any]], Callable[[Bench], Any]]:
    def add(call: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        CASES.append(Case(area, what, call))
        return call

    return add


def cases(area: str, **calls: Callable[[Bench], Any]) -> None:
    """Several of one area; a name is what is wrong, with `_` for spaces."""
    for what, call in calls.items():
        case(area, what.replace("_", " "))(call)


def run_command(bench: Bench, *arguments: str) -> None:
    """`hf-attn ...`, whose message goes to standard error and whose status is 2."""
    printed = io.StringIO()
    with redirect_stderr(printed):
        try:
            command(list(arguments))
        except SystemExit as error:
            lines = printed.getvalue().strip().splitlines()
            raise SystemExit(f"{error.code}: {lines[-1]}") from error


for what, values in {
    "an unknown field": {"d_modle": 16},
    "a value of another type": {"use_bias": "yes"},
    "a number out of range": {"d_model": 0},
    "a share out of range": {"dropout": 1.5},
    "more layers than anything has": {"encoder_layers": 10**9},
    "an unknown layer type": {"encoder_layer_types": "lsm"},
    "a list of layer types of another length": {"decoder_layer_types": ["lstm"]},
    "an unknown cross-attention": {"cross_attention_type": "aditive"},
    "an unknown position scheme": {"position_embedding_type": "rotary"},
    "an unknown norm": {"norm_type": "batchnorm"},
    "a width that the heads do not divide": {"encoder_attention_heads": 3},
    "grouped heads that do not divide the heads": {"decoder_key_value_heads": 3},
    "two vocabularies with one table": {"decoder_vocab_size": 30},
    "windows of more layers than there are": {"sliding_window": [4, 4, 4], "encoder_layer_types": "sliding_attention"},
    "an offset of positions that have none": {"position_offset": 2, "position_embedding_type": "rope"},
    "projections of global tokens without windows": {"global_attention_projections": True},
    "a scheme that acts on scores, without scores": {
        "encoder_layer_types": "gru",
        "decoder_layer_types": "ssru",
        "position_embedding_type": "alibi",
    },
    "global tokens without windows": {"global_attention_tokens": 1},
    "copying without cross-attention": {"copy_attention": True, "cross_attention_type": "none"},
    "matches without an end between the texts": {"match_embedding": True, "eos_token_id": None},
    "a token id outside the vocabulary": {"pad_token_id": 40},
    "too many labels": {"num_labels": 10**9},
    "a dtype that is none": {"dtype": "nn"},
}.items():
    case("Configuration", what)(lambda bench, values=values: tiny_config(**values))

cases(
    "Configuration",
    an_unknown_preset=lambda bench: HfAttnConfig.from_preset("transformer_tny"),
    a_key_that_names_a_method=lambda bench: HfAttnConfig.from_dict({"to_dict": 3}),
    no_object=lambda bench: HfAttnConfig.from_dict([]),
)

TOKENS = torch.tensor([[5, 6, 2]])
cases(
    "Models",
    an_unknown_keyword=lambda bench: bench.model(TOKENS, decoder_inputs_ids=TOKENS),
    two_caches=lambda bench: bench.model(TOKENS, cache=DynamicCache(), past_key_values=DynamicCache()),
    a_token_outside_the_vocabulary=lambda bench: bench.model(TOKENS + 270),
    an_empty_text=lambda bench: bench.model(TOKENS[:, :0]),
    a_text_longer_than_the_positions=lambda bench: bench.model(TOKENS.repeat(1, 6)),
    half_a_span=lambda bench: tiny_model(model_class=HfAttnForQuestionAnswering)(TOKENS, start_positions=TOKENS[:, 0]),
    another_version_of_transformers=lambda bench: check_version("5.19.0"),
)


def parse(bench: Bench, *arguments: str) -> Any:
    usual = [f"--output_dir={bench.folder / 'run'}", "--use_cpu"]
    return parse_arguments(RECIPE, [*usual, *arguments])


DESCRIBED = ("--model_config=hybrid_tiny", "--train_file=rows.jsonl")
for what, flags in {
    "an unknown flag": [*DESCRIBED, "--learning_rat=1"],
    "a value of another type": [*DESCRIBED, "--vocab_size=many"],
    "neither model nor config": ["--train_file=rows.jsonl"],
    "both model and config": [*DESCRIBED, "--model_name_or_path=x"],
    "no data": ["--model_config=hybrid_tiny"],
    "a data set and files": [*DESCRIBED, "--dataset_name=x"],
    "a revision of a model that is not on the Hub": [*DESCRIBED, "--model_revision=v1"],
    "a revision without a data set": [*DESCRIBED, "--dataset_revision=v1"],
    "an option of adapters without `lora`": [*DESCRIBED, "--use_dora"],
    "no rank": [*DESCRIBED, "--lora", "--lora_r=0"],
    "no scale of an adapter": [*DESCRIBED, "--lora", "--lora_alpha=0"],
    "dropping out everything": [*DESCRIBED, "--lora", "--lora_dropout=1"],
    "nothing generated to score": [*DESCRIBED, "--predict_with_generate=false"],
    "nothing kept to score": [*DESCRIBED, "--prediction_loss_only=true"],
    "merging 4-bit weights": [*DESCRIBED, "--lora", "--load_in_4bit", "--merge_adapter"],
    "no rows to keep": [*DESCRIBED, "--max_train_samples=0"],
    "no room for a token": [*DESCRIBED, "--max_source_length=1"],
    "no budget": [*DESCRIBED, "--tokens_per_batch=0"],
    "an update without a budget of its batches": [*DESCRIBED, "--tokens_per_update=4096"],
    "no beams": [*DESCRIBED, "--num_beams=0"],
    "a length penalty without beams": [*DESCRIBED, "--num_beams=1", "--length_penalty=1.2"],
    "no stage": [*DESCRIBED, "--do_train=false", "--do_eval=false", "--do_predict=false"],
    "a negative length of what must not repeat": [*DESCRIBED, "--no_repeat_ngram_size=-1"],
    "no room for an output": [*DESCRIBED, "--generation_max_length=1"],
    "a generation config": [*DESCRIBED, "--generation_config=generation.json"],
    "a metric that is not measured": [*DESCRIBED, "--metric_for_best_model=f1"],
    "metrics by the batch": [*DESCRIBED, "--batch_eval_metrics"],
    "early stopping without evaluations": [*DESCRIBED, "--early_stopping_patience=2"],
    "averaging and the best checkpoint": [
        *DESCRIBED,
        "--average_checkpoints=2",
        "--load_best_model_at_end",
        "--eval_strategy=steps",
    ],
    "averaging more checkpoints than are kept": [*DESCRIBED, "--average_checkpoints=3", "--save_total_limit=2"],
    "an unknown answer to losses that are not finite": [*DESCRIBED, "--nonfinite_loss=ignore"],
    "`--config` without a file": ["--config"],
    "a config that is not there": ["--config", "no.yaml"],
}.items():
    case("Arguments and YAML", what)(lambda bench, flags=flags: parse(bench, *flags))

for what, text in {
    "an unknown key": "num_beans: 3\n",
    "a value of another type in YAML": "vocab_size: 3.5\n",
    "no keys": "- vocab_size\n",
    "broken YAML": "vocab_size: [\n",
    "an alias": "lora_target_modules: &a [x]\noptim: *a\n",
    "an object of Python": "optim: !!python/object/apply:os.system [ls]\n",
    "an element of a list that is a flag": 'lora_target_modules: ["--trust_remote_code"]\n',
    "YAML in another encoding": b"optim: \xff\n",
}.items():
    case("Arguments and YAML", what)(lambda bench, text=text: parse(bench, "--config", bench.file("run.yaml", text)))

BEGUN = ("--model_config=hybrid_tiny", "--use_cpu", "--output_dir=run")
for what, flags in {
    "a push without a training": ["--test_file=rows.jsonl", "--push_to_hub"],
    "an adapter on weights that start fresh": ["--train_file=rows.jsonl", "--lora"],
    "a stream without an end": ["--train_file=rows.jsonl", "--streaming"],
    "a stream sorted by length": ["--train_file=rows.jsonl", "--streaming", "--max_steps=9", "--tokens_per_batch=512"],
    "weights rounded before the training": ["--train_file=rows.jsonl", "--score_before", "--bf16_full_eval"],
    "a checkpoint to resume that is not there": ["--train_file=rows.jsonl", "--resume_from_checkpoint=checkpoint-9"],
}.items():
    case("Arguments and YAML", what)(
        lambda bench, flags=flags: start_run([*RECIPE[:3], TaskArguments, RECIPE[3]], [*BEGUN, *flags], "no.yaml", "")
    )

cases(
    "Arguments and YAML",
    overrides_in_another_form=lambda bench: bench.load(model_config="luong2015", config_overrides="d_model"),
    an_override_that_is_no_field=lambda bench: bench.load(model_config="luong2015", config_overrides="d_modle=9"),
    an_override_of_the_vocabulary=lambda bench: bench.load(model_config="luong2015", config_overrides="vocab_size=9"),
    a_config_that_is_neither_preset_nor_file=lambda bench: bench.load(model_config="luong2016"),
    a_config_file_that_is_no_json=lambda bench: bench.load(model_config=bench.file("model.json", "{d_model: 3}")),
    a_config_file_that_holds_a_list=lambda bench: bench.load(model_config=bench.file("model.json", "[]")),
    corpora_that_are_no_json=lambda bench: parse_corpora("novels"),
    a_corpus_without_files=lambda bench: parse_corpora('{"novels": {}}'),
    an_unknown_argument_of_a_corpus=lambda bench: parse_corpora('{"novels": {"train": "a.txt", "wieght": 1}}'),
    a_corpus_without_a_share=lambda bench: parse_corpora('{"novels": {"train": "a.txt", "weight": 0}}'),
    a_corpus_of_one_language=lambda bench: parse_corpora('{"pairs": {"train": "a.txt", "source_lang": "en"}}'),
    an_adapter_on_fresh_weights=lambda bench: check_base(
        ModelArguments(model_config="hybrid_tiny"), AdapterArguments(lora=True)
    ),
    smoothing_of_a_span_head=lambda bench: prepare_span_training(bench.training(label_smoothing_factor=0.1)),
    two_label_smoothings=lambda bench: load_model(
        ModelArguments(
            model_config="transformer_tiny",
            config_overrides="d_model=16,encoder_layers=1,decoder_layers=1,label_smoothing=0.2",
        ),
        AdapterArguments(),
        bench.training(label_smoothing_factor=0.1),
        bench.tokenizer,
    ),
)


def read(bench: Bench, name: str, content: str | bytes) -> Any:
    return load_splits(train_file=bench.file(name, content))


def packed(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../outside.jsonl", content)
    return archive.getvalue()


def parquet_of_images() -> bytes:
    schema = Features({"image": Image()}).arrow_schema
    table = pa.Table.from_pylist([{"image": {"bytes": None, "path": "/etc/hostname"}}], schema=schema)
    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written)
    return written.getvalue()


GOOD = b'{"en": "a", "de": "b"}\n'
for what, name, content in [
    ("an unknown ending", "rows.tsv", GOOD),
    ("no rows", "rows.jsonl", b""),
    ("a table of column names alone", "rows.csv", b"en,de\n"),
    ("a line that is no json", "rows.jsonl", GOOD + b'{"en": }\n'),
    ("a row of another type", "rows.jsonl", GOOD + b"3\n"),
    ("a row that is null", "rows.jsonl", GOOD + b"null\n"),
    ("rows nested too deeply", "rows.jsonl", b'{"a":' * 200 + b"1" + b"}" * 200),
    ("another encoding", "rows.txt", b"one\ncaf\xe9\n"),
    ("lines of different numbers of cells", "rows.csv", b"en,de\na,b\na,b,c\n"),
    ("a gzip file that is cut off", "rows.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-12]),
    ("no parquet", "rows.parquet", b"not parquet"),
    ("an archive", "rows.jsonl", packed(GOOD)),
    ("a column that refers to other files", "rows.parquet", parquet_of_images()),
]:
    case("Data files", what)(lambda bench, name=name, content=content: read(bench, name, content))

cases(
    "Data files",
    a_file_that_is_not_there=lambda bench: load_splits(train_file=bench.folder / "rows.jsonl"),
    neither_a_data_set_nor_files=lambda bench: load_splits(),
    a_data_set_that_is_not_there=lambda bench: load_splits(str(bench.folder / "nowhere")),
    a_limit_for_a_split_that_is_not_there=lambda bench: load_splits(
        train_file=bench.file("rows.jsonl", GOOD), max_samples={"test": 1}
    ),
    a_missing_column=lambda bench: require_columns(Dataset.from_list([{"en": "a"}]), "train", ["text", "summary"]),
    a_field_without_text=lambda bench: list(iterate_texts([bench.file("rows.jsonl", b'{"n": 3}\n')], ["n"])),
)


def translate(bench: Bench, **columns: list) -> Any:
    return translation_preprocessor(bench.tokenizer, "en", "de")(columns, [7])


def summarize(bench: Bench, document: Any, summary: Any) -> Any:
    preprocess = summarization_preprocessor(bench.tokenizer, "document", "summary")
    return preprocess({"document": [document], "summary": [summary]}, [7])


QUESTION = {"id": "q1", "context": "A small dog runs.", "question": "Who?"}


def mark(bench: Bench, max_seq_length: int = 60, **changes: Any) -> Any:
    row = {**QUESTION, "answers": {"text": ["dog"], "answer_start": [8]}, **changes}
    batch = {name: [value] for name, value in row.items() if value is not None}
    return span_preprocessor(bench.tokenizer, max_seq_length, 8)(batch, [7])


cases(
    "Rows",
    missing_languages=lambda bench: translate(bench, text=["a"]),
    a_missing_language=lambda bench: translate(bench, translation=[{"en": "a", "fr": "b"}]),
    an_empty_source=lambda bench: translate(bench, en=[" "], de=["b"]),
    a_source_that_is_no_text=lambda bench: translate(bench, en=[3], de=["b"]),
    a_lone_surrogate=lambda bench: translate(bench, en=["a\ud800"], de=["b"]),
    a_missing_column_of_documents=lambda bench: check_documents(
        Dataset.from_list([{"text": "a"}]), "train", "document", "summary"
    ),
    an_empty_document=lambda bench: summarize(bench, "", "b"),
    a_summary_that_is_no_text=lambda bench: summarize(bench, "a", ["b"]),
    references_that_are_no_text=lambda bench: references_of(
        Dataset.from_list([{"summary": "a", "all": 3}]), "test", "summary", "all"
    ),
    a_missing_column_of_references=lambda bench: references_of(
        Dataset.from_list([{"summary": "a"}]), "test", "summary", "all"
    ),
    summaries_in_some_rows=lambda bench: has_summaries(
        Dataset.from_list([{"summary": "a"}, {"summary": None}]), "test", "summary"
    ),
    no_summary_that_its_text_covers=lambda bench: keep_covered(
        Dataset.from_list([{"document": "A dog runs.", "summary": "cats"}]), "document", "summary", 0.5
    ),
    an_unknown_unit_of_a_lead=lambda bench: lead("A dog. It runs.", 1, "word"),
    a_missing_column_of_questions=lambda bench: mark(bench, context=None),
    an_empty_context=lambda bench: mark(bench, context=" "),
    an_answer_that_is_not_at_its_offset=lambda bench: mark(bench, answers={"text": ["dog"], "answer_start": [7]}),
    answers_in_another_form=lambda bench: mark(bench, answers=["dog"]),
    an_offset_that_is_no_number=lambda bench: mark(bench, answers={"text": ["dog"], "answer_start": ["8"]}),
    an_empty_answer=lambda bench: mark(bench, answers={"text": [""], "answer_start": [0]}),
    answers_in_some_rows=lambda bench: has_answers(
        Dataset.from_list([{"answers": {"text": ["dog"], "answer_start": [8]}}, {"answers": None}]), "test"
    ),
    a_question_that_fills_the_window=lambda bench: mark(bench, max_seq_length=12),
    a_question_that_fills_the_source=lambda bench: answer_preprocessor(bench.tokenizer, 6)(
        {name: [value] for name, value in QUESTION.items()}, [7]
    ),
    an_id_that_comes_twice=lambda bench: check_ids(Dataset.from_list([QUESTION, QUESTION]), "train"),
    a_window_beyond_the_positions=lambda bench: check_window(bench.model, 64),
    an_unknown_objective=lambda bench: build_noise(bench.tokenizer, "denoising"),
    sentinels_that_a_tokenizer_lacks=lambda bench: build_noise(bench.tokenizer, "span_corruption"),
    a_share_of_masks_out_of_range=lambda bench: build_noise(bench.tokenizer, "text_infilling", 1.5),
    no_room_for_a_block=lambda bench: largest_block(build_noise(bench.tokenizer, "text_infilling"), 1, 9),
    an_empty_text=lambda bench: documents(Dataset.from_list([{"text": ""}]), "novels", ["text"]),
    a_row_longer_than_the_budget=lambda bench: LengthBucketBatchSampler([(9, 9)], 10),
    more_batches_in_a_step_than_rows=lambda bench: LengthBucketBatchSampler([(2, 2)], 10, batches_per_step=2),
)


cases(
    "Tokenizers",
    too_few_tokens=lambda bench: train_tokenizer(TEXTS, 261),
    too_many_tokens=lambda bench: train_tokenizer(TEXTS, 10**9),
    an_unknown_model=lambda bench: train_tokenizer(TEXTS, 270, "wordpiece"),
    no_text=lambda bench: train_tokenizer(["", ""], 270),
    one_text=lambda bench: train_tokenizer("A dog", 270),
    a_text_that_is_none=lambda bench: train_tokenizer(["a", 3], 270),
    a_lone_surrogate_in_a_text=lambda bench: train_tokenizer(["a\ud800"], 270),
    languages_for_a_tokenizer_without=lambda bench: set_languages(bench.tokenizer, "en", "de"),
)


def pickled(bench: Bench) -> str:
    torch.save(bench.model.state_dict(), bench.folder / "pytorch_model.bin")
    return bench.copy_of_checkpoint(model__safetensors=None)


def with_config(bench: Bench, **changes: Any) -> str:
    config = json.loads((Path(bench.checkpoint) / "config.json").read_text())
    return bench.copy_of_checkpoint(config__json=json.dumps({**config, **changes}))


INDEX = {"metadata": {}, "weight_map": {"lm_head.weight": "../other/model.safetensors"}}
cases(
    "Checkpoints",
    weights_as_a_pickle=lambda bench: bench.load(model_name_or_path=pickled(bench)),
    a_checkpoint_that_is_not_there=lambda bench: bench.load(model_name_or_path=str(bench.folder / "nowhere")),
    a_tokenizer_that_is_not_there=lambda bench: load_tokenizer(
        ModelArguments(model_config="luong2015", tokenizer_name=str(bench.folder)), []
    ),
    a_config_that_is_cut_off=lambda bench: bench.load(
        model_name_or_path=bench.copy_of_checkpoint(config__json='{"model_type": "hf_a')
    ),
    weights_that_are_cut_off=lambda bench: bench.load(
        model_name_or_path=bench.copy_of_checkpoint(model__safetensors=b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    ),
    weights_that_are_missing_or_have_other_shapes=lambda bench: bench.load(
        model_name_or_path=with_config(bench, encoder_ffn_dim=8)
    ),
    a_config_of_a_far_larger_model=lambda bench: bench.load(model_name_or_path=with_config(bench, vocab_size=10**9)),
    an_index_that_names_files_elsewhere=lambda bench: bench.load(
        model_name_or_path=bench.copy_of_checkpoint(
            model__safetensors=None, **{"model__safetensors__index__json": json.dumps(INDEX)}
        )
    ),
    code_that_comes_with_a_checkpoint=lambda bench: bench.load(
        model_name_or_path=with_config(bench, model_type="other", auto_map={"AutoConfig": "other.OtherConfig"})
    ),
    more_tokens_than_embeddings=lambda bench: load_model(
        ModelArguments(model_name_or_path=bench.checkpoint),
        AdapterArguments(),
        bench.training(),
        train_tokenizer([*TEXTS, "many more words than before, and then some"], 300, min_frequency=1),
    ),
    an_override_that_changes_the_weights=lambda bench: bench.load(
        model_name_or_path=bench.checkpoint, config_overrides="encoder_ffn_dim=8"
    ),
    fewer_checkpoints_than_are_averaged=lambda bench: average_checkpoints(bench.folder, 2),
)


def adapter_with(bench: Bench, **changes: Any) -> Path:
    for path in bench.adapter.iterdir():
        bench.file(path.name, path.read_bytes())
    config = json.loads((bench.folder / "adapter_config.json").read_text())
    bench.file("adapter_config.json", json.dumps({**config, **changes}))
    return bench.folder


def pickled_adapter(bench: Bench) -> Path:
    folder = adapter_with(bench)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


cases(
    "Adapters",
    an_adapter_of_another_base=lambda bench: load_adapter(bench.model, bench.adapter),
    an_adapter_as_a_pickle=lambda bench: load_adapter(bench.model, pickled_adapter(bench)),
    an_adapter_that_names_files_elsewhere=lambda bench: load_adapter(
        bench.model, adapter_with(bench, tokenizer_name_or_path="other/tokenizer")
    ),
    an_embedding_that_nothing_reads=lambda bench: load_adapter(
        bench.model, adapter_with(bench, modules_to_save=["shared"])
    ),
    an_adapter_that_is_not_there=lambda bench: load_for_inference(bench.checkpoint, str(bench.folder)),
    a_target_that_no_layer_has=lambda bench: add_lora(
        bench.model, AdapterArguments(lora=True, lora_target_modules=["query"])
    ),
    a_target_that_is_a_tied_embedding=lambda bench: add_lora(
        bench.model, AdapterArguments(lora=True, lora_target_modules=["lm_head"])
    ),
    an_adapter_on_weights_that_are_new=lambda bench: bench.load(
        model_name_or_path=bench.checkpoint,
        config_overrides="copy_attention=true",
        adapter_arguments=AdapterArguments(lora=True),
    ),
)


@case("Output directory", "another run's")
def _(bench: Bench) -> None:
    record_run(bench.folder, {"learning_rate": 0.1})
    resume_or_refuse(bench.folder, {"learning_rate": 0.2})


@case("Output directory", "files that no run wrote")
def _(bench: Bench) -> None:
    bench.file("thesis.tex", "")
    resume_or_refuse(bench.folder, {})


@case("Output directory", "a file in its place")
def _(bench: Bench) -> None:
    resume_or_refuse(bench.file("run", ""), {})


@case("Output directory", "no permission to write")
def _(bench: Bench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # Root may write anywhere.
        patch.setattr(os, "access", lambda *arguments: False)
        resume_or_refuse(bench.folder / "run", {})


@case("Output directory", "a record that is cut off")
def _(bench: Bench) -> None:
    bench.file("run.json", '{"seed')
    resume_or_refuse(bench.folder, {})


@case("Output directory", "data that has changed since")
def _(bench: Bench) -> None:
    values = {"train_file": bench.file("rows.jsonl", GOOD)}
    record_run(bench.folder / "run", values)
    bench.file("rows.jsonl", GOOD + GOOD)
    resume_or_refuse(bench.folder / "run", values)


cases(
    "Metrics",
    no_rows=lambda bench: metrics.bleu([], []),
    unequal_numbers_of_rows=lambda bench: metrics.rouge(["a", "b"], ["a"]),
    one_text_in_place_of_rows=lambda bench: metrics.chrf("a", ["a"]),
    a_row_that_is_no_text=lambda bench: metrics.bleu(["a", None], ["a", "b"]),
    a_row_without_references=lambda bench: metrics.rouge(["a"], [[]]),
    no_rows_in_a_metric_of_evaluate=lambda bench: metrics.Rouge().compute(predictions=[], references=[]),
    an_id_without_a_prediction=lambda bench: metrics.Squad().compute(
        predictions=[{"id": "1", "prediction_text": "a"}], references=[{"id": "2", "answers": {"text": ["a"]}}]
    ),
)


def pipe(bench: Bench, task: str, **options: Any) -> Any:
    return pipeline(task, model=bench.checkpoint, device="cpu", **options)


def described(bench: Bench, **config: Any) -> str:
    """A directory with the config of a checkpoint, and nothing else."""
    return str(Path(bench.file("source/config.json", json.dumps(config))).parent)


cases(
    "Import and export",
    a_family_that_cannot_be_held=lambda bench: run_command(
        bench, "import", described(bench, model_type="pegasus_x"), str(bench.folder / "out")
    ),
    a_model_of_another_kind=lambda bench: run_command(
        bench, "import", described(bench, model_type="bert"), str(bench.folder / "out")
    ),
    a_folder_of_another_kind=lambda bench: run_command(
        bench, "import", str(Path(bench.file("source/notes.txt", "")).parent), str(bench.folder / "out")
    ),
    a_damaged_file_of_marian=lambda bench: run_command(
        bench, "import", bench.file("model.bin", b"\1" * 20), str(bench.folder / "out")
    ),
    an_output_that_holds_something=lambda bench: run_command(
        bench, "import", "x", str(Path(bench.file("out/notes.txt", "")).parent)
    ),
    an_unknown_format=lambda bench: run_command(bench, "export", "x", str(bench.folder / "out"), "--format", "tflite"),
    eight_bits_where_there_are_none=lambda bench: run_command(
        bench, "export", "x", str(bench.folder / "out"), "--format", "transformers", "--quantization", "int8"
    ),
)
cases(
    "Generation",
    an_unknown_command=lambda bench: run_command(bench, "genrate"),
    a_model_that_is_not_there=lambda bench: run_command(bench, "generate", str(bench.folder / "nowhere")),
    an_empty_forced_prefix=lambda bench: run_command(bench, "generate", "x", "--forced_prefix", " "),
    a_picture_of_another_kind=lambda bench: run_command(
        bench, "attention", "x", "--source", "a", "--out", str(bench.folder / "a.gif")
    ),
    a_tokenizer_in_the_way=lambda bench: run_command(
        bench,
        *("tokenizer", "a.txt", "--vocab_size=270"),
        f"--out={Path(bench.file('out/tokenizer.json', '{}')).parent}",
    ),
    a_picture_where_a_folder_is=lambda bench: run_command(
        bench, "attention", "x", "--source", "a", "--out", str(Path(bench.file("a.png/b.png", "")).parent)
    ),
    a_length_penalty_that_is_no_number=lambda bench: TextGenerator(bench.model, bench.tokenizer, length_penalty="2"),
    no_beams=lambda bench: TextGenerator(bench.model, bench.tokenizer, num_beams=0),
    a_line_longer_than_the_positions=lambda bench: TextGenerator(bench.model, bench.tokenizer)(
        ["A dog.", "A small dog runs. " * 9]
    ),
    a_lone_surrogate_to_translate=lambda bench: TextGenerator(bench.model, bench.tokenizer)(["A dog.", "a\ud800"]),
    forced_prefixes_of_another_number=lambda bench: TextGenerator(bench.model, bench.tokenizer)(
        ["A dog."], forced_prefix=["Ein", "Zwei"]
    ),
    a_glossary_in_another_form=lambda bench: Glossary.from_file(bench.file("terms.tsv", "dog Hund\n")),
    an_empty_glossary=lambda bench: Glossary({}),
    a_context_longer_than_the_positions=lambda bench: pipe(bench, "attn-question-answering")(
        question="Who?", context="A small dog runs. " * 9
    ),
    a_text_longer_than_the_positions=lambda bench: pipe(bench, "attn-translation")("A small dog runs. " * 9),
    an_input_that_is_no_text=lambda bench: pipe(bench, "attn-summarization")(3),
    a_question_without_context=lambda bench: pipe(bench, "attn-question-answering")(question="Who?"),
    no_answers=lambda bench: pipe(bench, "attn-question-answering", top_k=0),
    a_pipeline_on_a_pickle=lambda bench: pipeline("attn-translation", model=pickled(bench), device="cpu"),
)


cases(
    "Pictures",
    weights_that_do_not_fit_the_tokens=lambda bench: attention_map(np.ones((1, 2)), ["a"], ["b"]),
    weights_that_are_not_finite=lambda bench: attention_map([[float("nan")]], ["a"], ["b"]),
    a_run_without_losses=lambda bench: training_curves([{"step": 1}]),
    an_unknown_kind_of_file=lambda bench: save_figure(attention_map([[1.0]], ["a"], ["b"]), bench.folder / "a.gif"),
)


def on_hub(call: Callable[[Bench], Any], token: str = TOKEN) -> Callable[[Bench], Any]:
    """A call while this process speaks to the Hub of the bench."""

    def with_hub(bench: Bench) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(huggingface_hub.constants, "ENDPOINT", bench.hub.endpoint)
            patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
            patch.setenv("HF_TOKEN", token)
            return call(bench)

    return with_hub


@case("The Hub", "the network gone amid a push")
@on_hub
def _(bench: Bench) -> None:
    bench.file("run/model.safetensors", b"weights")
    repository = claim_repository("new", bench.folder / "run")
    bench.hub.fails_at = "/commit/"
    try:
        push_directory(bench.folder / "run", repository)
    finally:
        bench.hub.fails_at = None


@case("The Hub", "a Hub that does not answer")
@on_hub
def _(bench: Bench) -> None:
    bench.hub.fails_at = "/api/"
    try:
        claim_repository("new", bench.folder)
    finally:
        bench.hub.fails_at = None


case("The Hub", "a token that is rejected")(on_hub(lambda bench: claim_repository("new", bench.folder), "hf_wrong"))
cases(
    "The Hub",
    a_name_that_is_taken=on_hub(lambda bench: claim_repository("ann/taken", bench.folder)),
    a_name_that_somebody_else_has=on_hub(lambda bench: claim_repository("bob/model", bench.folder)),
    a_name_in_another_form=on_hub(lambda bench: claim_repository("a/b/c", bench.folder)),
    nothing_to_push=on_hub(lambda bench: push_directory(bench.folder / "nowhere", "ann/model")),
    a_damaged_record_of_the_repository=on_hub(
        lambda bench: claim_repository("new", Path(bench.file("run/hub.json", "{")).parent)
    ),
)
