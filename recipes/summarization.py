# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Train and score a model that summarizes documents or dialogues.

    accelerate launch recipes/summarization.py --config recipes/configs/samsum.yaml
    accelerate launch recipes/summarization.py --config FILE.yaml --text_column article --output_dir outputs/other
    accelerate launch recipes/summarization.py

The last line runs recipes/configs/quickstart_summarization.yaml. Every field of the dataclasses in `ARGUMENTS`, those
of `Seq2SeqTrainingArguments` included, is a flag and a key of the YAML file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

from datasets import Dataset

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.data.summarization import (
    LEAD_UNITS,
    check_documents,
    has_summaries,
    keep_covered,
    lead,
    references_of,
    summarization_preprocessor,
)
from hf_attn.metrics import RowStatistics, mean_statistics, rouge, rouge_rows
from hf_attn.tasks import SUMMARIZATION, Task
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
    read_splits,
    score_table,
    start_run,
    tokenize_splits,
    training_split,
    write_predictions,
)


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart_summarization.yaml"


@dataclass
class SummarizationArguments(TaskArguments):
    """What only summarization needs."""

    text_column: str = field(default="document", metadata={"help": "Column of the texts: document, dialogue, ..."})
    summary_column: str = field(default="summary", metadata={"help": "Column of the summary to learn."})
    references_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of the summaries to score against, a text or a list a row; default: `references` where "
            "there is one, else the summary to learn."
        },
    )
    lead_unit: str = field(
        default="sentence", metadata={"help": "What the baselines count: sentences, or turns, one a line."}
    )
    min_summary_coverage: float = field(
        default=0.0,
        metadata={
            "help": "Train on those rows of whose summaries at least this share of words, 0 to 1, stands in the text."
        },
    )
    language: str = field(default="en", metadata={"help": "Language of the texts, for the model card."})

    def __post_init__(self):
        if self.lead_unit not in LEAD_UNITS:
            raise ValueError(f"`lead_unit` must be one of {', '.join(LEAD_UNITS)}, got {self.lead_unit!r}.")
        if not 0 <= self.min_summary_coverage <= 1:
            raise ValueError(f"`min_summary_coverage` must be from 0 to 1, got {self.min_summary_coverage}.")


@dataclass
class DocumentArguments(DataArguments):
    """Documents are longer than sentences."""

    max_source_length: int = field(default=512, metadata={"help": "Longer sources are cut, in tokens."})


@dataclass
class SummarizationTrainingArguments(RecipeTrainingArguments):
    """ROUGE-L is what early stopping compares."""

    task: ClassVar[Task] = SUMMARIZATION


ARGUMENTS = (
    ModelArguments,
    AdapterArguments,
    DocumentArguments,
    SummarizationArguments,
    SummarizationTrainingArguments,
)
SCORE_NOTES = (
    "ROUGE is the F-score of rouge-score with stemming, of a row against its best reference; `lead_1` and `lead_3` "
    "take the first one or three sentences (of a dialogue: turns) of the source as its summary."
)
LEADS = (1, 3)
shortened = partial(shorten, width=200, placeholder=" ...")


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    run = start_run(ARGUMENTS, arguments, DEFAULT_CONFIG, "Train and score a model that summarizes.")
    task = run.task_args

    # Load.
    splits = read_splits(run.data_args, run.training_args)
    summary_columns = {name: summary_column_of(split, name, task) for name, split in splits.items()}
    for name, split in splits.items():
        check_documents(split, name, task.text_column, summary_columns[name])
    references = {
        name: references_of(split, name, summary_columns[name], task.references_column)
        for name, split in splits.items()
        if name != "train"
    }
    is_scored = references.get("test") is not None
    if task.min_summary_coverage and "train" in splits:
        splits["train"] = keep_covered(
            splits["train"], task.text_column, task.summary_column, task.min_summary_coverage
        )
    tokenizer = load_tokenizer(run.model_args, training_texts(splits, task))
    model = load_model(run.model_args, run.adapter_args, run.training_args, tokenizer)

    # Preprocess.
    preprocess = {
        name: summarization_preprocessor(
            tokenizer,
            task.text_column,
            summary_column,
            run.data_args.max_source_length,
            run.data_args.max_target_length,
            task.source_prefix,
        )
        for name, summary_column in summary_columns.items()
    }
    tokenized = tokenize_splits(run, splits, preprocess)
    prepare_generation(run, model, tokenizer, tokenized, source_prefix=task.source_prefix)

    def score(split: str, predictions: Sequence[str]) -> dict[str, float]:
        return {} if references[split] is None else rouge(predictions, references[split])

    def statistics(predictions: Sequence[str]) -> RowStatistics:
        return mean_statistics(rouge_rows(predictions, references["test"])[SUMMARIZATION.main_score])

    # Train.
    stages = Stages(run, model, tokenizer, tokenized, score, statistics=statistics if is_scored else None)
    if task.score_before:
        stages.predict("before")
    stages.train()

    # Evaluate.
    stages.evaluate()
    predictions = stages.predict()
    sources = list(splits["test"][task.text_column]) if predictions else []
    for count in LEADS:
        stages.add_baseline(f"lead_{count}", [lead(source, count, task.lead_unit) for source in sources])

    # Write.
    if stages.is_main_process:
        if predictions:
            write_predictions(run.training_args.output_dir, predictions)
            if is_scored:
                baselines = {f"first {task.lead_unit}s: {count}": f"lead_{count}" for count in LEADS}
                print(f"\n{score_table(stages.metrics, SUMMARIZATION.scores, baselines, SUMMARIZATION.main_score)}\n")
            rows = zip(sources, references["test"] or [[""]] * len(sources), predictions, strict=True)
            samples = [(source, texts[0], summary) for source, texts, summary in rows][: task.num_samples]
            print(format_table(["source", "reference", "summary"], [list(map(shortened, row)) for row in samples]))
        told = finish_run(
            run,
            stages.trainer,
            stages.metrics,
            task=SUMMARIZATION,
            languages=[task.language],
            score_notes=SCORE_NOTES,
            example=task.source_prefix + shortened(sources[0] if sources else "Ann: Lunch at one? Bob: Gladly."),
        )
        print(told)
    stages.trainer.accelerator.end_training()
    return stages.metrics


def summary_column_of(split: Dataset, name: str, task: SummarizationArguments) -> str | None:
    """The column of summaries; `None` where the test split comes without any."""
    return task.summary_column if name != "test" or has_summaries(split, name, task.summary_column) else None


def training_texts(splits: Mapping[str, Dataset], task: SummarizationArguments) -> Iterator[str]:
    """Documents and summaries of the training split, for a tokenizer."""
    for row in training_split(splits):
        yield from (row[task.text_column], row[task.summary_column])


if __name__ == "__main__":
    main()
