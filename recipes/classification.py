# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Train and score a model that classifies texts.

    accelerate launch recipes/classification.py
    accelerate launch recipes/classification.py --lora --learning_rate 5e-3 --num_train_epochs 3 --output_dir outputs/a
    accelerate launch recipes/classification.py --train_file my.jsonl.gz --validation_file dev.jsonl.gz \
        --test_file test.jsonl.gz --text_column sentence --label_column label --output_dir outputs/mine

The first line runs recipes/configs/quickstart_classification.yaml. Rows have a text and a class, which is text or a
number. Every field of the dataclasses in `ARGUMENTS`, those of `Seq2SeqTrainingArguments` included, is a flag and a
key of the YAML file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

from datasets import Dataset

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.data.classification import CLASS, class_preprocessor, name_classes
from hf_attn.metrics import RowStatistics, classification, classification_rows, mean_statistics
from hf_attn.tasks import CLASSIFICATION, Task
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    Stages,
    TaskArguments,
    check_positions,
    finish_run,
    format_table,
    load_model,
    load_tokenizer,
    read_splits,
    score_table,
    start_run,
    tokenize_splits,
    training_split,
    write_predictions,
)
from hf_attn.training.classification import (
    ClassRows,
    choose_labels,
    class_logits,
    class_usage_lines,
    prepare_class_training,
)


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart_classification.yaml"


@dataclass
class ClassificationArguments(TaskArguments):
    """Arguments of classification alone."""

    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    label_column: str = field(default="label", metadata={"help": "Column of the classes, names or numbers."})
    language: str = field(default="en", metadata={"help": "Language of the texts, for the model card."})


@dataclass
class ClassificationTrainingArguments(RecipeTrainingArguments):
    """Accuracy is what early stopping compares."""

    task: ClassVar[Task] = CLASSIFICATION


ARGUMENTS = (
    ModelArguments,
    AdapterArguments,
    DataArguments,
    ClassificationArguments,
    ClassificationTrainingArguments,
)
BASELINES = {"the most frequent class": "majority"}
SCORE_NOTES = (
    "`accuracy` is the share of rows with the right class, `f1_macro` the mean F1 of the classes, both in percent; "
    "`majority` gives each row the class that the training set has most often."
)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    run = start_run(ARGUMENTS, arguments, DEFAULT_CONFIG, "Train and score a model that classifies texts.")
    task = run.task_args
    prepare_class_training(run)

    # Load.
    splits = {
        name: name_classes(split, name, task.text_column, task.label_column)
        for name, split in read_splits(run.data_args, run.training_args).items()
    }
    classes = {name: list(split[CLASS]) for name, split in splits.items() if CLASS in split.column_names}
    labels = choose_labels(run.model_args, splits)
    tokenizer = load_tokenizer(run.model_args, training_texts(splits))
    model = load_model(
        run.model_args, run.adapter_args, run.training_args, tokenizer, CLASSIFICATION.head, labels=labels
    )

    # Preprocess.
    preprocess = class_preprocessor(tokenizer, labels, run.data_args.max_source_length, task.source_prefix)
    tokenized = tokenize_splits(run, splits, preprocess)
    check_positions(model, tokenized)

    def score(split: str, predictions: Sequence[str]) -> dict[str, float]:
        return classification(predictions, classes[split]) if split in classes else {}

    def statistics(predictions: Sequence[str]) -> RowStatistics:
        return mean_statistics(classification_rows(predictions, classes["test"]))

    # Train.
    stages = Stages(
        run,
        model,
        tokenizer,
        tokenized,
        score,
        rows={name: ClassRows(split, labels) for name, split in tokenized.items() if name != "train"},
        statistics=statistics if "test" in classes else None,
        preprocess_logits_for_metrics=class_logits,
    )
    if task.score_before:
        stages.predict("before")
    stages.train()

    # Evaluate.
    stages.evaluate()
    predictions = stages.predict()
    if "train" in classes and "test" in classes:
        (majority, _), *_ = Counter(classes["train"]).most_common(1)
        stages.add_baseline("majority", [majority] * len(predictions))

    # Write.
    if stages.is_main_process:
        if predictions:
            write_predictions(run.training_args.output_dir, predictions)
            if "test" in classes:
                print(
                    f"\n{score_table(stages.metrics, CLASSIFICATION.scores, BASELINES, CLASSIFICATION.main_score)}\n"
                )
            texts = [shorten(text, 200, placeholder=" ...") for text in splits["test"]["text"]]
            rows = zip(texts, classes.get("test", [""] * len(texts)), predictions, strict=True)
            print(format_table(["text", "class", "class by the model"], list(rows)[: task.num_samples]))
        told = finish_run(
            run,
            stages.trainer,
            stages.metrics,
            task=CLASSIFICATION,
            languages=[task.language],
            score_notes=SCORE_NOTES,
            example=task.source_prefix + shorten(next(iter(splits.values()))[0]["text"], 300, placeholder=" ..."),
            usage=partial(class_usage_lines, labels=labels),
        )
        print(told)
    stages.trainer.accelerator.end_training()
    return stages.metrics


def training_texts(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """The texts of the training split, for a tokenizer."""
    yield from training_split(splits)["text"]


if __name__ == "__main__":
    main()
