# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The pipelines of `pipeline("attn-translation")`, `"attn-summarization"` and `"attn-question-answering"`.

They serve any seq2seq model, and any model that marks spans, from a directory or the Hub; the name of an adapter loads
its base too. Inputs and outputs are those of the pipelines that transformers 4 had under the names without `attn-`.
"""

# Steps of a pipeline take what the step before them gives, which their general signatures do not say.
# mypy: disable-error-code="override, assignment"

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import ChunkPipeline, Pipeline
from typing_extensions import override

from .loading.inference import AnswererLoader, Seq2SeqLoader
from .loading.position_limits import source_positions
from .tasks import EXTRACTIVE_ANSWERING, SUMMARIZATION, TRANSLATION
from .text.language_codes import language_token_id


# Candidates that share the probability among them.
_NUM_CANDIDATES = 20
_DEFAULT_MAX_SEQ_LEN = 384
_LEAST = {"top_k": 1, "max_seq_len": 1, "doc_stride": 0, "max_answer_len": 1}
# Of those that answer questions; the others are of models that mark spans.
_OPTIONS_OF_WRITERS = ("truncation", "prefix")


class _GeneratingPipeline(Pipeline):
    """The base of the pipelines that call `generate`."""

    model: Any
    tokenizer: Any
    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    @override
    def __call__(self, inputs: Any, **options: Any) -> Any:
        if isinstance(inputs, (list, tuple)):
            return super().__call__(list(inputs), **options) if len(inputs) else []
        is_stream = isinstance(inputs, Iterable) and not isinstance(inputs, (str, Mapping, Dataset))
        # The parent streams generators and its own kind of dataset.
        return super().__call__((item for item in inputs) if is_stream else inputs, **options)

    def _encode(self, *texts: str, truncation: bool) -> dict[str, torch.Tensor]:
        """Token ids and mask of a text or a pair, int64 of shape `(1, length)`; of a pair the second is cut."""
        from .text.source_texts import check_text

        for text in texts:
            check_text("inputs", text)
        limit = source_positions(self.model)
        options: dict[str, Any] = {"truncation": False}
        if truncation and limit is not None:
            options = {"truncation": True if len(texts) == 1 else "only_second", "max_length": limit}
        encoded = self.tokenizer(*texts, return_tensors="pt", verbose=False, **options)
        length = encoded["input_ids"].shape[1]
        if limit is not None and length > limit:
            raise ValueError(
                f"`inputs` must keep within the {limit} positions of the model, got a text of {length} tokens. Pass "
                "`truncation=True` to have the rest left out, or split the text."
            )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def _generate(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> torch.Tensor:
        """Token ids, int64 of shape `(batch_size, num_return_sequences, length)`."""
        # It loads more than a pipeline of spans needs.
        from .generation import length_limit

        # `generate` looks for `stop_strings` among the tokens of a tokenizer.
        options = {"tokenizer": self.tokenizer, **options}
        config = options.get("generation_config")
        limits = [options.get(name) or getattr(config, name, None) for name in ("max_new_tokens", "max_length")]
        if not any(limits):
            limit = length_limit(self.model, inputs["input_ids"].shape[1])
            if config is None:
                options |= limit
            else:
                # `generate` warns of a config with options beside it.
                options["generation_config"] = copy.deepcopy(config)
                options["generation_config"].update(**limit)
        generated = self.model.generate(**inputs, **options)
        token_ids = generated if isinstance(generated, torch.Tensor) else generated.sequences
        return token_ids.unflatten(0, (inputs["input_ids"].shape[0], -1))

    def _prefix(self, prefix: str | None) -> str:
        from .text.source_texts import source_prefix

        return source_prefix(self.model, prefix)

    def _texts(self, token_ids: torch.Tensor, **options: Any) -> list[str]:
        texts = self.tokenizer.batch_decode(token_ids, skip_special_tokens=True, **options)
        return [text.strip() for text in texts]


class TextToTextPipeline(_GeneratingPipeline):
    """
    Texts to texts. A call takes one text, a list, a generator, or any other iterable of texts, such as a column of a
    data set; lists give lists, streams are read as their results are asked for.

    A text gives `[{NAME_text: output}]`, with `num_return_sequences` as many; a list of texts with one output each
    gives `[{NAME_text: output}, ...]`. A blank text gives the output "".

    Options, of the pipeline or of a call:
        prefix: Put before each text, as T5 wants; by default the `prefix` of the model's config, if it has one.
        truncation: Cut texts to the positions of the model. Without it a longer text is an error.
        batch_size: Texts that go through the model together.
        return_tensors: Give `NAME_token_ids`, int64 of shape `(length,)` and padded as in its batch, in place of the
            text.
        clean_up_tokenization_spaces: As the tokenizer's `decode` takes it.
        others: Those of `generate`. Without a limit there or in the generation config, an output has at most twice
            the tokens of the longest source of its batch and 16 more.

    Raises:
        TypeError: An input is no text.
        ValueError: A text is longer than the positions of the model, or has a lone surrogate.
    """

    return_name = "generated"

    @override
    def _sanitize_parameters(
        self,
        prefix: str | None = None,
        truncation: bool | None = None,
        return_tensors: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        **generate_options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        reading = {"prefix": prefix, "truncation": truncation}
        writing = {
            "return_tensors": return_tensors,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
        }
        reading, writing = (
            {name: value for name, value in options.items() if value is not None} for options in (reading, writing)
        )
        return reading, generate_options, writing

    @override
    def __call__(self, inputs: str | Iterable[str], **options: Any) -> Any:
        results = super().__call__(inputs, **options)
        if isinstance(results, list) and not isinstance(inputs, str) and all(len(result) == 1 for result in results):
            return [result[0] for result in results]
        return results

    @override
    def preprocess(self, text: str, prefix: str | None = None, truncation: bool = False) -> dict[str, Any]:
        """Token ids of a text, and whether it is blank."""
        if not isinstance(text, str):
            raise TypeError(f"`inputs` must be a text, or an iterable of texts, got {type(text).__name__}: {text!r}")
        return {**self._encode(self._prefix(prefix) + text, truncation=truncation), "is_blank": not text.strip()}

    @override
    def _forward(self, inputs: dict[str, Any], **generate_options: Any) -> dict[str, Any]:
        is_blank = inputs.pop("is_blank")
        return {"output_ids": self._generate(inputs, generate_options), "is_blank": is_blank}

    @override
    def postprocess(
        self, outputs: dict[str, Any], return_tensors: bool = False, **decode_options: Any
    ) -> list[dict[str, Any]]:
        """The texts, or the token ids, of what was generated from one text."""
        token_ids = outputs["output_ids"][0]
        if outputs["is_blank"]:
            token_ids = token_ids[:, :0]
        if return_tensors:
            return [{f"{self.return_name}_token_ids": ids} for ids in token_ids]
        return [{f"{self.return_name}_text": text} for text in self._texts(token_ids, **decode_options)]


class TranslationPipeline(TextToTextPipeline):
    """
    `attn-translation`: gives `translation_text`.

    Further options, for multilingual models:
        src_lang, tgt_lang: Codes of the languages as the tokenizer writes them; without them those that it was saved
            with.

    Raises:
        ValueError: The tokenizer does not know the code, or is of one pair of languages.
    """

    return_name = "translation"

    @override
    def _sanitize_parameters(
        self, src_lang: str | None = None, tgt_lang: str | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**options)
        if src_lang is not None:
            language_token_id(self.tokenizer, "src_lang", src_lang)
            preprocess["src_lang"] = src_lang
        if tgt_lang is not None:
            forward["forced_bos_token_id"] = language_token_id(self.tokenizer, "tgt_lang", tgt_lang)
        return preprocess, forward, postprocess

    @override
    def preprocess(self, text: str, src_lang: str | None = None, **options: Any) -> dict[str, Any]:
        """As the parent, with the text in the language `src_lang`."""
        if src_lang is None:
            return super().preprocess(text, **options)
        usual = self.tokenizer.src_lang
        self.tokenizer.src_lang = src_lang
        try:
            return super().preprocess(text, **options)
        finally:
            self.tokenizer.src_lang = usual


class SummarizationPipeline(TextToTextPipeline):
    """`attn-summarization`: gives `summary_text`."""

    return_name = "summary"


class QuestionAnsweringPipeline(_GeneratingPipeline, ChunkPipeline):
    """
    `attn-question-answering`: answers from contexts, by marking or by writing, as the model does.

    A call takes `{"question": ..., "context": ...}`, a list or another iterable of these; or `question=` and
    `context=`, texts or lists, where one context may serve all questions.

    A model that marks spans gives `{"answer", "score", "start", "end"}`: what the context says from character `start`
    to before `end`, and its share of the probability among the best candidates. It reads a long context in windows
    that overlap. A model that writes gives `{"answer"}`.

    Options, of the pipeline or of a call, of any model:
        batch_size: Windows, or pairs, that go through the model together.

    Of a model that marks spans:
        top_k: How many answers; more than one come as a list, the best first.
        max_seq_len: Longest window, in tokens; by default 384, or what the model's positions allow.
        doc_stride: Tokens of the context that neighbouring windows share; by default 128, or a quarter of a window.
        max_answer_len: Longest answer, in tokens.
        handle_impossible_answer: Also offer the answer "", at 0, where the context may hold none.

    Of a model that writes:
        prefix: Put before each question, as T5 wants; by default the `prefix` of the model's config, if it has one.
        truncation: Cut a context to the positions of the model. Without it a longer one is an error.
        others: Those of `generate`.

    Raises:
        TypeError, ValueError: An input has no question or context, or one that is empty or no text; or the two are
            longer than the positions of a model that writes; or an option is out of its range, or one of the other
            kind of model.
    """

    @override
    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        max_answer_len: int | None = None,
        handle_impossible_answer: bool | None = None,
        truncation: bool | None = None,
        prefix: str | None = None,
        **generate_options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        reading = {"max_seq_len": max_seq_len, "doc_stride": doc_stride, "truncation": truncation, "prefix": prefix}
        answering = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
        }
        reading, answering = (
            {name: value for name, value in options.items() if value is not None} for options in (reading, answering)
        )
        self._check_options({**reading, **answering}, generate_options)
        return reading, generate_options, answering

    def _check_options(self, options: Mapping[str, Any], generate_options: Mapping[str, Any]) -> None:
        """Refuses what is out of its range, or of the other kind of model."""
        for name, least in _LEAST.items():
            if options.get(name, least) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {options[name]}")
        writes = self.model.can_generate()
        if generate_options and not writes:
            raise TypeError(
                f"{', '.join(f'`{name}`' for name in generate_options)} cannot be set for a model that marks spans; "
                "it takes `top_k`, `max_seq_len`, `doc_stride`, `max_answer_len` and `handle_impossible_answer`"
            )
        needed, found = ("marks spans", "writes answers") if writes else ("writes answers", "marks spans")
        for name, value in options.items():
            if (name in _OPTIONS_OF_WRITERS) != writes:
                instead = "; `num_return_sequences` gives several answers" if name == "top_k" else ""
                raise ValueError(
                    f"`{name}` has an effect only on a model that {needed}, got {value!r} and "
                    f"{type(self.model).__name__}, which {found}{instead}"
                )
        limit = source_positions(self.model)
        if limit is not None and options.get("max_seq_len", 0) > limit:
            raise ValueError(
                f"`max_seq_len` must keep within the {limit} positions of the model, got {options['max_seq_len']}"
            )

    @override
    def __call__(self, inputs: Any = None, *, question: Any = None, context: Any = None, **options: Any) -> Any:
        return super().__call__(_pairs(question, context) if inputs is None else inputs, **options)

    @override
    def preprocess(
        self,
        example: Mapping[str, str],
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        truncation: bool = False,
        prefix: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The windows of a context with its question, or the pair."""
        # It loads the package of data sets.
        from .data.question_answering import span_preprocessor

        if not isinstance(example, Mapping) or not {"question", "context"} <= example.keys():
            raise TypeError(f"`inputs` must hold `question` and `context`, got {example!r}")
        question, context = example["question"], example["context"]
        if self.model.can_generate():
            for name in ("question", "context"):
                if not isinstance(example[name], str):
                    raise TypeError(f"`{name}` must be text, got {example[name]!r}")
                if not example[name].strip():
                    raise ValueError(f"`{name}` must not be empty, got {example[name]!r}")
            pair = self._prefix(prefix) + question.strip(), context
            yield {**self._encode(*pair, truncation=truncation), "is_last": True}
            return
        if max_seq_len is None:
            max_seq_len = min(_DEFAULT_MAX_SEQ_LEN, source_positions(self.model) or _DEFAULT_MAX_SEQ_LEN)
        if doc_stride is None:
            doc_stride = min(128, max_seq_len // 4)
        cut = span_preprocessor(self.tokenizer, max_seq_len, doc_stride)
        windows = cut({"id": [""], "question": [question], "context": [context]})
        names = [name for name in self.tokenizer.model_input_names if name in windows]
        num_windows = len(windows["row"])
        for window in range(num_windows):
            yield {
                **{name: torch.tensor([windows[name][window]]) for name in names},
                "is_last": window == num_windows - 1,
                "context": context,
                "char_starts": windows["char_starts"][window],
                "char_ends": windows["char_ends"][window],
            }

    @override
    def _forward(self, inputs: dict[str, Any], **generate_options: Any) -> dict[str, Any]:
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        others = {name: value for name, value in inputs.items() if name not in tensors}
        if self.model.can_generate():
            return {"output_ids": self._generate(tensors, generate_options), **others}
        outputs = self.model(**tensors)
        return {
            "start_logits": outputs["start_logits"].float(),
            "end_logits": outputs["end_logits"].float(),
            "attention_mask": tensors["attention_mask"],
            **others,
        }

    @override
    def postprocess(
        self,
        windows: list[dict[str, Any]],
        top_k: int = 1,
        max_answer_len: int = 15,
        handle_impossible_answer: bool = False,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """The best answers, over all windows of a context."""
        if "output_ids" in windows[0]:
            answers: list[dict[str, Any]] = [{"answer": text} for text in self._texts(windows[0]["output_ids"][0])]
        else:
            answers = _best_answers(windows, top_k, max_answer_len, handle_impossible_answer)
        return answers[0] if len(answers) == 1 else answers


def _pairs(question: Any, context: Any) -> Any:
    """Rows of `question=` and `context=`."""
    if question is None or context is None:
        raise TypeError(
            '`inputs` must be {"question": ..., "context": ...} or an iterable of these; or both `question` and '
            f"`context` must be given, got {question!r} and {context!r}"
        )
    if isinstance(question, str):
        return {"question": question, "context": context}
    questions = list(question)
    contexts = [context] * len(questions) if isinstance(context, str) else list(context)
    if len(questions) != len(contexts):
        raise ValueError(
            f"`context` must be one text, or one for each question, got {len(contexts)} for {len(questions)} questions"
        )
    return [{"question": one, "context": other} for one, other in zip(questions, contexts, strict=True)]


def _best_answers(
    windows: list[dict[str, Any]], top_k: int, max_answer_len: int, with_null: bool
) -> list[dict[str, Any]]:
    # It loads the package of data sets.
    from .data.question_answering import best_spans

    length = max(len(window["char_starts"]) for window in windows)
    logits = np.zeros((2, len(windows), length), dtype=np.float32)
    for row, window in enumerate(windows):
        # Whichever side a batch was padded on.
        is_token = window["attention_mask"][0].bool()
        for side, name in enumerate(("start_logits", "end_logits")):
            values = window[name][0][is_token].numpy()
            logits[side, row, : len(values)] = values
    columns = {
        "row": [0] * len(windows),
        "char_starts": [window["char_starts"] for window in windows],
        "char_ends": [window["char_ends"] for window in windows],
    }
    spans = best_spans(
        logits[0],
        logits[1],
        columns,
        [windows[0]["context"]],
        n_best_size=max(top_k, _NUM_CANDIDATES),
        max_answer_length=max_answer_len,
        with_null=with_null,
    )[0]
    return [
        {"score": float(span.probability), "start": span.start, "end": span.end, "answer": span.text}
        for span in spans[:top_k]
    ]


TASKS: dict[str, tuple[type[Pipeline], type]] = {
    str(TRANSLATION.pipeline): (TranslationPipeline, Seq2SeqLoader),
    str(SUMMARIZATION.pipeline): (SummarizationPipeline, Seq2SeqLoader),
    str(EXTRACTIVE_ANSWERING.pipeline): (QuestionAnsweringPipeline, AnswererLoader),
}
"""Name of a task: its pipeline, and what loads its models."""
