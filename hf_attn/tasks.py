# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The tasks that models are trained for, each as one record: its head, its name on the Hub, its pipeline, its scores.

Adapters, training, pipelines and cards read what they do by kind of task here. Classes are given by name, so that
nothing is imported before it is used.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import transformers


class Head(NamedTuple):
    """
    The top of a model, by which it writes, marks spans or classifies.

    Attributes:
        purpose: What a model with it does, after "to".
        auto_class: Name of the Auto class of transformers that loads it.
        peft_type: PEFT's `TaskType` of an adapter on it.
        modules: Names that families give the module, which is trained whole beside an adapter; none where it writes
            text, by a projection that the checkpoint has.
    """

    purpose: str
    auto_class: str
    peft_type: str
    modules: tuple[str, ...] = ()

    def load_class(self) -> Any:
        """The Auto class."""
        return getattr(transformers, self.auto_class)

    def modules_of(self, model: Any) -> list[str]:
        """Names of the head's modules that a model has."""
        return [name for name in self.modules if hasattr(model, name)]


WRITING_HEAD = Head("write text", "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM")
SPAN_HEAD = Head("mark answers", "AutoModelForQuestionAnswering", "QUESTION_ANS", ("qa_outputs",))
CLASSIFICATION_HEAD = Head(
    "classify texts", "AutoModelForSequenceClassification", "SEQ_CLS", ("score", "classifier", "classification_head")
)
HEADS = (WRITING_HEAD, SPAN_HEAD, CLASSIFICATION_HEAD)


@dataclass(frozen=True)
class Task:
    """
    A task.

    Attributes:
        name: What its card calls it.
        head: What a model for it has on top.
        hub_tag: The Hub's name of the task; on a card the Hub makes of it a call of `pipeline`, so that one without a
            pipeline has it only beside its scores.
        pipeline: What `pipeline` calls it; `None` where there is no pipeline.
        scores: Its scores on a test set, in the order in which they are reported.
        main_score: The one that early stopping compares, and that has an interval.
        watched_scores: Those that an evaluation during training has; `None`: all.
    """

    name: str
    head: Head
    hub_tag: str
    pipeline: str | None
    scores: tuple[str, ...]
    main_score: str
    watched_scores: tuple[str, ...] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names that `metric_for_best_model` takes beside the loss."""
        return self.scores if self.watched_scores is None else self.watched_scores


TRANSLATION = Task(
    "translation",
    WRITING_HEAD,
    "translation",
    "attn-translation",
    ("bleu", "chrf", "bleu_tok_lc", "formality_share"),
    main_score="bleu",
    watched_scores=("bleu", "chrf", "formality_share"),
)
SUMMARIZATION = Task(
    "summarization",
    WRITING_HEAD,
    "summarization",
    "attn-summarization",
    ("rouge1", "rouge2", "rougeL", "rougeLsum"),
    main_score="rougeL",
)
_ANSWER_SCORES = ("exact_match", "f1", "rougeL", "HasAns_f1", "NoAns_f1")
_ANSWER_METRICS = ("exact_match", "f1", "rougeL", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1")
EXTRACTIVE_ANSWERING = Task(
    "question answering",
    SPAN_HEAD,
    "question-answering",
    "attn-question-answering",
    _ANSWER_SCORES,
    main_score="f1",
    watched_scores=_ANSWER_METRICS,
)
# Written answers are compared by ROUGE-L, as those of FairytaleQA are (Xu et al. 2022).
GENERATIVE_ANSWERING = Task(
    "question answering",
    WRITING_HEAD,
    "question-answering",
    "attn-question-answering",
    _ANSWER_SCORES,
    main_score="rougeL",
    watched_scores=_ANSWER_METRICS,
)
# transformers' "fill-mask" is of masked language models, which fill each mask with one token.
PRETRAINING = Task(
    "restoring hidden text",
    WRITING_HEAD,
    "fill-mask",
    None,
    ("masked_loss", "perplexity", "accuracy", "unigram_perplexity"),
    main_score="masked_loss",
    watched_scores=("masked_loss", "perplexity", "accuracy"),
)
CLASSIFICATION = Task(
    "text classification",
    CLASSIFICATION_HEAD,
    "text-classification",
    # That of transformers.
    "text-classification",
    ("accuracy", "f1_macro"),
    main_score="accuracy",
)
TASKS = (
    TRANSLATION,
    SUMMARIZATION,
    EXTRACTIVE_ANSWERING,
    GENERATIVE_ANSWERING,
    PRETRAINING,
    CLASSIFICATION,
)


def head_of(model: Any) -> Head:
    """
    The head that a model has: one that writes, marks spans or classifies.

    Raises:
        ValueError: It has none of them.
    """
    if model.can_generate():
        return WRITING_HEAD
    for head in HEADS:
        if head.modules_of(model):
            return head
    loaders = ", ".join(f"`{head.auto_class}`" for head in HEADS)
    raise ValueError(f"`model` must have the head of a task, as what {loaders} load has, got {type(model).__name__}.")
