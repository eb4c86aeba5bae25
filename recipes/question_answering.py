# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Train and score a model that answers questions on a context, by marking the answer there or by writing it.

    accelerate launch recipes/question_answering.py --config recipes/configs/squadshifts.yaml
    accelerate launch recipes/question_answering.py --config FILE.yaml --mode generative --output_dir outputs/other
    accelerate launch recipes/question_answering.py

The last line runs recipes/configs/quickstart_question_answering.yaml. Rows are SQuAD's: `id`, `context`, `question`
and `answers`. Every field of the dataclasses in `ARGUMENTS`, those of `Seq2SeqTrainingArguments` included, is a flag
and a key of the YAML file; those of spans have the names of transformers' `run_qa.py`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import ClassVar

from datasets import Dataset
from transformers.utils import logging

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.data import require_columns
from hf_attn.data.question_answering import (
    QUESTION_COLUMNS,
    answer_preprocessor,
    check_ids,
    has_answers,
    overlap_sentence,
    question_texts,
    span_preprocessor,
)
from hf_attn.metrics import (
    RowStatistics,
    mean_statistics,
    rouge_rows,
    squad,
    squad_rows,
    squad_v2,
    squad_v2_rows,
)
from hf_attn.tasks import EXTRACTIVE_ANSWERING, GENERATIVE_ANSWERING, Task
from hf_attn.training import (
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
    Run,
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
from hf_attn.training.question_answering import (
    SpanRows,
    check_window,
    mask_padding,
    prepare_span_training,
    question_usage_lines,
    span_loss,
    start_and_end_logits,
    write_answers,
)


logger = logging.get_logger(__name__)

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "quickstart_question_answering.yaml"
# Mode -> options that the other one does not heed.
MODES = {
    "extractive": ("max_seq_length", "doc_stride", "n_best_size", "max_answer_length"),
    "generative": (
        "source_prefix",
        "max_source_length",
        "max_target_length",
        "num_beams",
        "length_penalty",
        "early_stopping",
        "generation_num_beams",
        "generation_max_length",
        "no_repeat_ngram_size",
    ),
}


@dataclass
class QuestionAnsweringArguments(TaskArguments):
    """What only question answering needs."""

    mode: str = field(
        default="extractive", metadata={"help": "Mark the answer in the context, or write it: generative."}
    )
    language: str = field(default="en", metadata={"help": "Language of the data, for the model card."})
    max_seq_length: int = field(
        default=384, metadata={"help": "Extractive: longest window of question and context, in tokens."}
    )
    doc_stride: int = field(
        default=128, metadata={"help": "Extractive: tokens that neighbouring windows of a long context share."}
    )
    version_2_with_negative: bool = field(
        default=False, metadata={"help": "Some questions have no answer; they are answered with nothing."}
    )
    null_score_diff_threshold: float = field(
        default=0.0, metadata={"help": "Extractive: by how much no answer must score higher than the best span."}
    )
    n_best_size: int = field(default=20, metadata={"help": "Extractive: candidates in nbest_predictions.json."})
    max_answer_length: int = field(default=30, metadata={"help": "Extractive: longest answer, in tokens."})

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)}, got {self.mode!r}.")
        if self.null_score_diff_threshold and not (self.version_2_with_negative and self.mode == "extractive"):
            raise ValueError(
                "`null_score_diff_threshold` needs `version_2_with_negative` and `mode` extractive, got "
                f"{self.null_score_diff_threshold} without."
            )
        for name, smallest in (("max_seq_length", 8), ("doc_stride", 0), ("n_best_size", 1), ("max_answer_length", 1)):
            if getattr(self, name) < smallest:
                raise ValueError(f"`{name}` must be at least {smallest}, got {getattr(self, name)}.")


@dataclass
class QuestionDataArguments(DataArguments):
    """Contexts are longer than sentences."""

    max_source_length: int = field(
        default=1024, metadata={"help": "Generative: of a longer question and context the context is cut, in tokens."}
    )


@dataclass
class QuestionTrainingArguments(RecipeTrainingArguments):
    """F1 is what early stopping compares."""

    task: ClassVar[Task] = EXTRACTIVE_ANSWERING


ARGUMENTS = (
    ModelArguments,
    AdapterArguments,
    QuestionDataArguments,
    QuestionAnsweringArguments,
    QuestionTrainingArguments,
)
BASELINES = {"best sentence of the context": "best_sentence", "no answer": "empty"}
SCORE_NOTES = (
    "Exact match and F1 over words follow the rules of SQuAD's scripts. `best_sentence` answers with the sentence of "
    "the context that shares the most words with the question, `empty` never answers."
)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Parse, load, preprocess, train, evaluate, write; returns every metric."""
    run = start_run(ARGUMENTS, arguments, DEFAULT_CONFIG, "Train and score a model that answers questions.")
    task = run.task_args
    is_extractive = task.mode == "extractive"
    kind = EXTRACTIVE_ANSWERING if is_extractive else GENERATIVE_ANSWERING

    check_mode(run, sys.argv[1:] if arguments is None else arguments)
    if is_extractive:
        prepare_span_training(run.training_args)

    # Load.
    splits = read_splits(run.data_args, run.training_args)
    for name, split in splits.items():
        if name != "test":
            require_columns(split, name, ["answers"])
        if name != "train":
            check_ids(split, name)
    if "test" in splits and not has_answers(splits["test"], "test"):
        splits["test"] = splits["test"].select_columns(list(QUESTION_COLUMNS))
    tokenizer = load_tokenizer(run.model_args, training_texts(splits, is_extractive))
    model = load_model(run.model_args, run.adapter_args, run.training_args, tokenizer, kind.head)

    # Preprocess.
    if is_extractive:
        check_window(model, task.max_seq_length)
        mask_padding(model)
        preprocess = span_preprocessor(tokenizer, task.max_seq_length, task.doc_stride)
    else:
        preprocess = answer_preprocessor(
            tokenizer, run.data_args.max_source_length, run.data_args.max_target_length, task.source_prefix
        )
    tokenized = tokenize_splits(run, splits, preprocess)
    answers = {name: answers_of(splits[name], name, task) for name in splits if name != "train"}
    options = {}
    if is_extractive:
        rows = {name: SpanRows(tokenized[name], splits[name]["context"], **span_options(task)) for name in answers}
        options = {
            "rows": rows,
            "compute_loss_func": span_loss,
            "preprocess_logits_for_metrics": start_and_end_logits,
        }
    else:
        prepare_generation(run, model, tokenizer, tokenized, source_prefix=task.source_prefix)

    def score(split: str, predictions: Sequence[str]) -> dict[str, float]:
        references = answers[split]
        if references is None:
            return {}
        scores = squad_v2(predictions, references) if task.version_2_with_negative else squad(predictions, references)
        scores = {name: value for name, value in scores.items() if not name.endswith("total")}
        if not is_extractive:
            by_row = rouge_of_answers(predictions, references)
            scores["rougeL"] = sum(by_row) / len(by_row)
        return scores

    def statistics(predictions: Sequence[str]) -> RowStatistics:
        references = answers["test"]
        if not is_extractive:
            return mean_statistics(rouge_of_answers(predictions, references))
        rows = squad_v2_rows if task.version_2_with_negative else squad_rows
        return mean_statistics(rows(predictions, references)[kind.main_score])

    # Train.
    if answers.get("test") is not None:
        options |= {"statistics": statistics, "main_score": kind.main_score}
    stages = Stages(run, model, tokenizer, tokenized, score, **options)
    if task.score_before:
        stages.predict("before")
    stages.train()

    # Evaluate.
    stages.evaluate()
    predictions = stages.predict()
    if predictions:
        pairs = zip(splits["test"]["question"], splits["test"]["context"], strict=True)
        stages.add_baseline("best_sentence", [overlap_sentence(question, context) for question, context in pairs])
        if task.version_2_with_negative:
            stages.add_baseline("empty", [""] * len(predictions))

    # Write.
    if stages.is_main_process:
        example = next(iter(next(iter(splits.values()))))
        context = shorten(example["context"], 300, placeholder=" ...")
        if predictions:
            test, output_dir = splits["test"], run.training_args.output_dir
            write_predictions(output_dir, [" ".join(answer.split()) for answer in predictions])
            write_answers(output_dir, test["id"], predictions, rows["test"].spans if is_extractive else None)
            if answers["test"] is not None:
                print(f"\n{score_table(stages.metrics, kind.scores, BASELINES, kind.main_score)}\n")
            references = [" | ".join(dict.fromkeys(texts)) for texts in answers["test"] or [[]] * len(test)]
            shown = zip(test["question"], references, predictions, strict=True)
            print(format_table(["question", "answers", "answer of the model"], list(shown)[: task.num_samples]))
        told = finish_run(
            run,
            stages.trainer,
            stages.metrics,
            task=kind,
            languages=[task.language],
            score_notes=SCORE_NOTES,
            example=task.source_prefix + example["question"],
            usage=partial(question_usage_lines, context=context, is_extractive=is_extractive),
        )
        print(told)
    stages.trainer.accelerator.end_training()
    return stages.metrics


def check_mode(run: Run, arguments: Sequence[str]) -> None:
    """Refuses flags that only the other mode heeds; a YAML file may be for both, and its keys are only warned of."""
    flags = {argument.lstrip("-").split("=")[0].replace("-", "_") for argument in arguments if argument[:2] == "--"}
    for mode, names in MODES.items():
        for name in run.values.keys() & set(names) if mode != run.task_args.mode else ():
            message = f"`{name}` has an effect only with `mode` {mode}, got {run.values[name]!r} with"
            if name in flags:
                raise ValueError(f"{message} {run.task_args.mode}. Leave it out.")
            logger.warning(f"{message} {run.task_args.mode}.")


def training_texts(splits: Mapping[str, Dataset], is_extractive: bool) -> Iterator[str]:
    """Questions and contexts of the training split, and written answers, for a tokenizer."""
    yield from question_texts(training_split(splits), with_answers=not is_extractive)


def span_options(task: QuestionAnsweringArguments) -> dict[str, float | None]:
    """How spans become answers."""
    return {
        "n_best_size": task.n_best_size,
        "max_answer_length": task.max_answer_length,
        "null_score_diff_threshold": task.null_score_diff_threshold if task.version_2_with_negative else None,
    }


def rouge_of_answers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L of each row; where there is no answer, 100 for saying so with "" and 0 for any other, as F1 has it."""
    scores = rouge_rows(predictions, [texts or [""] for texts in references])["rougeL"]
    triples = zip(scores, predictions, references, strict=True)
    return [
        score if any(map(str.strip, texts)) else 100.0 * (not prediction.strip())
        for score, prediction, texts in triples
    ]


def answers_of(split: Dataset, name: str, task: QuestionAnsweringArguments) -> list[list[str]] | None:
    """The answers of each row, checked before; `None` where the test split comes without."""
    if "answers" not in split.column_names:
        return None
    answers = [list(row["text"]) for row in split["answers"]]
    if not task.version_2_with_negative and not all(answers):
        raise ValueError(
            f"`{name}` has rows without an answer, the first is row {answers.index([])}: set "
            "`version_2_with_negative`."
        )
    return answers


if __name__ == "__main__":
    main()
