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
from transformers import DataCollatorForSeq2Seq, set_seed

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.adapters import add_lora, finish_adapter
from hf_attn.data import translation_preprocessor
from hf_attn.metrics import bleu, chrf, formality_share
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainer,
    RecipeTrainingArguments,
    SortedRows,
    add_prefix,
    format_table,
    load_model,
    load_tokenizer,
    log_to_terminal,
    longest_target,
    parse_arguments,
    published_bleu,
    read_splits,
    resume_or_refuse,
    score_table,
    set_generation,
    texts_of,
    usage_lines,
    write_attention,
    write_curves,
    write_model_card,
    write_predictions,
    write_results,
)


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart.yaml"


@dataclass
class TranslationArguments:
    """What only translation needs."""

    source_lang: str = field(default="en", metadata={"help": "Name of the source in the rows."})
    target_lang: str = field(default="de", metadata={"help": "Name of the target in the rows."})
    source_prefix: str = field(default="", metadata={"help": "Text put before every source, as T5 wants."})
    score_before: bool = field(default=False, metadata={"help": "Also score the test set before training."})
    score_formality: bool = field(default=False, metadata={"help": "Also score the share of formal German."})
    num_samples: int = field(default=5, metadata={"help": "Test rows shown at the end."})


SCORES = ("bleu", "chrf", "bleu_tok_lc", "formality_share")
ARGUMENTS = (ModelArguments, AdapterArguments, DataArguments, TranslationArguments, RecipeTrainingArguments)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    log_to_terminal()
    (model_args, adapter_args, data_args, task, training_args), values = parse_arguments(
        ARGUMENTS,
        arguments,
        default_config=DEFAULT_CONFIG,
        description="Train and score a translator.",
    )
    with training_args.main_process_first():
        checkpoint = resume_or_refuse(training_args.output_dir, values, training_args.process_index == 0)
    set_seed(training_args.seed)

    # Load.
    splits = read_splits(data_args, training_args)
    scored = [name for name in ("validation", "test") if name in splits]
    sources = {name: list(texts_of(splits[name], task.source_lang, "source")) for name in scored}
    references = {name: list(texts_of(splits[name], task.target_lang, "target")) for name in scored}
    tokenizer = load_tokenizer(model_args, training_texts(splits, task))
    model = load_model(model_args, adapter_args, training_args, tokenizer)
    if adapter_args.lora:
        model = add_lora(model, adapter_args)

    # Preprocess.
    preprocess = translation_preprocessor(
        tokenizer,
        task.source_lang,
        task.target_lang,
        data_args.max_source_length,
        data_args.max_target_length,
        task.source_prefix,
    )
    with training_args.main_process_first():
        tokenized = {
            name: split.map(preprocess, batched=True, with_indices=True, remove_columns=split.column_names)
            for name, split in splits.items()
        }
    validation, test = (SortedRows(tokenized[name]) if name in tokenized else None for name in ("validation", "test"))
    target_length = longest_target(tokenized.get("train"), data_args)
    set_generation(model, tokenizer, target_length, training_args.num_beams, task.target_lang)

    def score(split: str, predictions: Sequence[str]) -> dict[str, float]:
        scores = {
            "bleu": bleu(predictions, references[split])["bleu"],
            "chrf": chrf(predictions, references[split])["chrf"],
        }
        if split == "test":
            scores |= published_bleu(predictions, references[split], task.target_lang)
        if task.score_formality:
            scores["formality_share"] = formality_share(predictions)["formality_share"]
        return scores

    # Train.
    trainer = RecipeTrainer(
        model=model,
        args=training_args,
        train_dataset=tokenized.get("train"),
        eval_dataset=validation.dataset if validation else None,
        # A label smoother outside the model needs the decoder's input, which the model then does not make.
        data_collator=DataCollatorForSeq2Seq(tokenizer, model if training_args.label_smoothing_factor else None),
        processing_class=tokenizer,
        compute_metrics=validation.scorer(tokenizer, lambda texts: score("validation", texts)) if validation else None,
    )
    metrics: dict[str, float] = {}
    if test and task.score_before:
        predictions, speed = trainer.predict_texts(test, "before")
        metrics |= speed | add_prefix("before", score("test", predictions))
    if "train" in tokenized:
        metrics |= trainer.train_and_save(checkpoint)

    # Evaluate.
    if validation:
        metrics |= trainer.evaluate(num_beams=training_args.num_beams)
    if test:
        predictions, speed = trainer.predict_texts(test, "predict")
        metrics |= speed | add_prefix("predict", score("test", predictions))
        metrics |= add_prefix("predict_copy_source", score("test", sources["test"]))

    # Write.
    trainer.log_metrics("all", metrics)
    if trainer.is_world_process_zero():
        write_results(training_args.output_dir, metrics)
        write_curves(training_args.output_dir, trainer.state.log_history)
        if test:
            source = task.source_prefix + sources["test"][0]
            write_attention(training_args.output_dir, model, tokenizer, source, predictions[0])
        base_model = model_args.model_name_or_path
        example = sources["test"][0] if test else "Hello."
        usage = usage_lines(training_args.output_dir, base_model if adapter_args.lora else None, example)
        write_model_card(
            training_args.output_dir,
            model,
            task="translation",
            languages=[task.source_lang, task.target_lang],
            data=data_args.dataset_name or data_args.train_file,
            values=values,
            metrics=metrics,
            usage=usage,
            base_model=base_model,
            is_adapter=adapter_args.lora,
        )
        if test:
            write_predictions(training_args.output_dir, predictions)
            print(f"\n{score_table(metrics, SCORES)}\n")
            rows = zip(sources["test"], references["test"], predictions, strict=True)
            print(format_table(["source", "reference", "translation"], list(rows)[: task.num_samples]))
        if adapter_args.lora:
            finish_adapter(model, tokenizer, training_args.output_dir, merge=adapter_args.merge_adapter)
        print(f"\nThe result is in {training_args.output_dir}. To load it:\n\n{usage}")
    return metrics


def training_texts(splits: Mapping[str, Dataset], task: TranslationArguments) -> Iterator[str]:
    """Both sides of the training split, for a tokenizer."""
    if "train" not in splits:
        raise ValueError(
            "`train_file` or `dataset_name` must give a training split to train a tokenizer on, got none."
        )
    yield from texts_of(splits["train"], task.source_lang, "source")
    yield from texts_of(splits["train"], task.target_lang, "target")


if __name__ == "__main__":
    main()
