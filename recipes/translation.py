# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Train and score a translator.

    accelerate launch recipes/translation.py --config recipes/configs/multi30k_en_de_transformer_tiny.yaml
    accelerate launch recipes/translation.py --config FILE.yaml --learning_rate 1e-3 --output_dir outputs/other
    accelerate launch recipes/translation.py

The last line runs recipes/configs/quickstart.yaml. Every field of the dataclasses in `ARGUMENTS`, those
of `Seq2SeqTrainingArguments` included, is a flag and a key of the YAML file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.data.translation import check_pairs, has_targets, translation_preprocessor
from hf_attn.metrics import RowStatistics, bleu, bleu_statistics, chrf, formality_share
from hf_attn.tasks import TRANSLATION
from hf_attn.text.language_codes import has_language_codes, set_languages
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    Stages,
    TaskArguments,
    finish_run,
    format_table,
    load_model,
    load_tokenizer,
    prepare_generation,
    published_bleu,
    read_splits,
    score_table,
    start_run,
    texts_of,
    tokenize_splits,
    training_split,
    write_attention,
    write_predictions,
)


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart.yaml"


@dataclass
class TranslationArguments(TaskArguments):
    """What only translation needs."""

    source_lang: str = field(default="en", metadata={"help": "Name of the source in the rows."})
    target_lang: str = field(default="de", metadata={"help": "Name of the target in the rows."})
    src_lang: str | None = field(
        default=None,
        metadata={
            "help": "Multilingual tokenizers: their code of the source language, such as en_XX or eng_Latn. Without "
            "it: source_lang."
        },
    )
    tgt_lang: str | None = field(
        default=None, metadata={"help": "Their code of the target language. Without it: target_lang."}
    )
    score_formality: bool = field(default=False, metadata={"help": "Also score the share of formal German."})


ARGUMENTS = (ModelArguments, AdapterArguments, DataArguments, TranslationArguments, RecipeTrainingArguments)
BASELINES = {"copy of the source": "copy_source"}
SCORE_NOTES = (
    "BLEU is sacreBLEU on cased, detokenised text; `bleu_tok_lc` is tokenised and lower-cased, as many papers report "
    "it; `copy_source` scores the source itself as if it were the translation."
)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    run = start_run(ARGUMENTS, arguments, DEFAULT_CONFIG, "Train and score a translator.")
    task = run.task_args

    # Load.
    splits = read_splits(run.data_args, run.training_args)
    target_langs = {name: target_lang_of(split, name, task) for name, split in splits.items()}
    for name, split in splits.items():
        check_pairs(split, name, task.source_lang, target_langs[name])
    references = {
        name: list(texts_of(splits[name], target_lang, "target"))
        for name, target_lang in target_langs.items()
        if name != "train" and target_lang is not None
    }
    is_scored = "test" in references
    tokenizer = load_tokenizer(run.model_args, training_texts(splits, task))
    first_token_id = place_languages(tokenizer, task)
    model = load_model(run.model_args, run.adapter_args, run.training_args, tokenizer)

    # Preprocess.
    preprocess = {
        name: translation_preprocessor(
            tokenizer,
            task.source_lang,
            target_lang,
            run.data_args.max_source_length,
            run.data_args.max_target_length,
            task.source_prefix,
        )
        for name, target_lang in target_langs.items()
    }
    tokenized = tokenize_splits(run, splits, preprocess)
    prepare_generation(run, model, tokenizer, tokenized, first_token_id, source_prefix=task.source_prefix)

    def score(split: str, predictions: Sequence[str]) -> dict[str, float]:
        if split not in references:
            return {}
        scores = {
            "bleu": bleu(predictions, references[split])["bleu"],
            "chrf": chrf(predictions, references[split])["chrf"],
        }
        if split == "test":
            scores |= published_bleu(predictions, references[split], task.target_lang)
        if task.score_formality:
            scores["formality_share"] = formality_share(predictions)["formality_share"]
        return scores

    def statistics(predictions: Sequence[str]) -> RowStatistics:
        return bleu_statistics(predictions, references["test"])

    # Train.
    stages = Stages(run, model, tokenizer, tokenized, score, statistics=statistics if is_scored else None)
    if task.score_before:
        stages.predict("before")
    stages.train()

    # Evaluate.
    stages.evaluate()
    predictions = stages.predict()
    sources = list(texts_of(splits["test"], task.source_lang, "source")) if predictions else []
    stages.add_baseline("copy_source", sources)

    # Write.
    output_dir = run.training_args.output_dir
    if predictions:
        source = task.source_prefix + sources[0]
        # On every process: each may hold a part of the weights.
        write_attention(output_dir, model, tokenizer, source, predictions[0], is_drawn=stages.is_main_process)
    if stages.is_main_process:
        if predictions:
            write_predictions(output_dir, predictions)
            if is_scored:
                print(f"\n{score_table(stages.metrics, TRANSLATION.scores, BASELINES, TRANSLATION.main_score)}\n")
            rows = zip(sources, references.get("test", [""] * len(sources)), predictions, strict=True)
            print(format_table(["source", "reference", "translation"], list(rows)[: task.num_samples]))
        told = finish_run(
            run,
            stages.trainer,
            stages.metrics,
            task=TRANSLATION,
            languages=list(dict.fromkeys((task.source_lang, task.target_lang))),
            score_notes=SCORE_NOTES,
            example=task.source_prefix + (sources[0] if predictions else "Hello."),
        )
        print(told)
    stages.trainer.accelerator.end_training()
    return stages.metrics


def target_lang_of(split: Dataset, name: str, task: TranslationArguments) -> str | None:
    """The target language; `None` where the test split comes without translations."""
    return task.target_lang if name != "test" or has_targets(split, name, task.target_lang) else None


def place_languages(tokenizer: PreTrainedTokenizerBase, task: TranslationArguments) -> int | None:
    """Tell a multilingual tokenizer its languages; gives the token that its outputs start with."""
    if not (has_language_codes(tokenizer) or task.src_lang or task.tgt_lang):
        return None
    return set_languages(tokenizer, task.src_lang or task.source_lang, task.tgt_lang or task.target_lang)


def training_texts(splits: Mapping[str, Dataset], task: TranslationArguments) -> Iterator[str]:
    """Both sides of the training split, for a tokenizer."""
    train = training_split(splits)
    yield from texts_of(train, task.source_lang, "source")
    yield from texts_of(train, task.target_lang, "target")


if __name__ == "__main__":
    main()
