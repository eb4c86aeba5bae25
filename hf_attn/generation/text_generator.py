# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Any seq2seq model as a function from texts to texts, in their order, whatever the batches."""

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice, repeat
from typing import Any, NamedTuple

import torch
from transformers import BatchEncoding, GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..loading.position_limits import source_positions, target_positions
from ..modeling_hf_attn import HfAttnForConditionalGeneration
from ..text.source_texts import check_text, source_prefix
from .fast.fast_generate import fast_generate
from .glossary import Glossary, GlossaryLogitsProcessor, TermTokens, has_term
from .minimum_bayes_risk import check_utility, rank_by_utility


logger = logging.get_logger(__name__)

# Texts that are sorted by length together; results follow after so many.
_WINDOW = 4096
_DEFAULT_CANDIDATES = 32

_SAMPLING_OPTIONS = (
    "temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
_BEAM_OPTIONS = ("length_penalty", "early_stopping")
_COUNTS = ("num_beams", "num_return_sequences", "max_new_tokens")
# Options that this class sets itself, and so does not take.
_OWN_OPTIONS = ("max_length", "return_dict_in_generate", "output_scores", "output_logits")
_DEFAULTS: dict[str, Any] = {"num_beams": 1, "num_return_sequences": 1, "do_sample": False, "length_penalty": 1.0}


class Hypothesis(NamedTuple):
    """One output of a text.

    Attributes:
        text: Without special tokens.
        score: From beams, the sum of the log-probabilities of its tokens, the end included, divided by their number
            to the power of `length_penalty`, as `generate` returns it; the same of samples, under the model's own
            distribution. With minimum Bayes risk, the expected utility, 0 to 100. `nan` without scores.
    """

    text: str
    score: float


class TextGenerator:
    """
    Generates from texts; `generate` does the work, so that any seq2seq model and all its options will do.

    Texts of like length go through the model together, and results come in the order of the texts. White space around
    a text is dropped; a text without more gives `""`.

    Args:
        model: A seq2seq model in evaluation mode.
        tokenizer: Its tokenizer.
        prefix: Put before each text, as T5 wants; by default the `prefix` of the model's config, if it has one.
        truncation: Cut texts to the positions of the model. Without it a longer text is an error.
        glossary: Source terms that must become given target terms: a `Glossary`, or what it is made from. It needs
            beams; more beams find better positions for the terms.
        mbr: Choose by minimum Bayes risk with this utility, `chrf` or `bleu`, among `num_candidates`: samples with
            `do_sample`, taken from the model's whole distribution where no option cuts it (`top_k` is then 0);
            otherwise the best of as many beams.
        num_candidates: Default: 32.
        tokens_per_batch: Most source tokens of a batch, padding included, times the beams or samples of each text; a
            longer text is a batch of its own.
        fast: Search with `fast_generate`: the same outputs in less time, for `hf_attn` models, without `do_sample`.
        options: Of `GenerationConfig`: `num_beams`, `num_return_sequences`, `length_penalty`, `no_repeat_ngram_size`,
            `max_new_tokens`, `do_sample`, `temperature`, `top_p`, ...; what is not given, or `None`, is that of the
            model's generation config, except that `do_sample` means one beam where `num_beams` is not given. Samples
            come from torch's global generators: call `transformers.set_seed` first.

    Raises:
        TypeError: `generate` has no such option, or `glossary` is none.
        ValueError: An option is out of its range, or would have no effect beside the others.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prefix: str | None = None,
        truncation: bool = False,
        glossary: Glossary | Mapping[str, str] | None = None,
        mbr: str | None = None,
        num_candidates: int | None = None,
        tokens_per_batch: int = 8192,
        fast: bool = False,
        **options: Any,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self._options = {name: value for name, value in options.items() if value is not None}
        self._prefix = source_prefix(model, prefix)
        self._truncation = truncation
        self._tokens_per_batch = tokens_per_batch
        self._fast = fast
        self._mbr = mbr
        _check_names(self._options)
        _check_numbers({**self._options, "num_candidates": num_candidates, "tokens_per_batch": tokens_per_batch})
        if self._options.get("do_sample"):
            self._options.setdefault("num_beams", 1)
        if mbr is not None:
            check_utility(mbr)
            if self.do_sample and not any(name in self._options for name in _SAMPLING_OPTIONS):
                self._options["top_k"] = 0
        elif num_candidates is not None:
            raise ValueError(f"`num_candidates` has an effect only with `mbr`, got {num_candidates}")
        # Outputs that `generate` returns of each text, and those of them that remain.
        self._num_results = self._option("num_return_sequences")
        self._num_generated = self._num_results if mbr is None else num_candidates or _DEFAULT_CANDIDATES
        self._check_effects(glossary is not None)
        self._glossary = Glossary(glossary) if isinstance(glossary, Mapping) else glossary
        if self._glossary is not None and not isinstance(self._glossary, Glossary):
            raise TypeError(f"`glossary` must map source terms to target terms, got {glossary!r}")
        self._term_tokens = TermTokens(tokenizer) if glossary is not None else None

    @property
    def do_sample(self) -> bool:
        """Whether chance has a part in the outputs."""
        return bool(self._option("do_sample"))

    def _option(self, name: str) -> Any:
        """The value that `generate` will take: as given, or that of the generation config, or of the `_DEFAULTS`."""
        for value in (self._options.get(name), getattr(self.model.generation_config, name), _DEFAULTS.get(name)):
            if value is not None:
                return value

    def _check_effects(self, has_glossary: bool) -> None:
        """Refuses options that the others leave without effect, and more results than there can be."""
        num_beams = self._option("num_beams")
        for names, has_effect, condition in (
            (_SAMPLING_OPTIONS, self.do_sample, "`do_sample`"),
            (_BEAM_OPTIONS, num_beams > 1, "`num_beams` of at least 2"),
        ):
            for name in names:
                if name in self._options and not has_effect:
                    raise ValueError(f"`{name}` has an effect only with {condition}, got {self._options[name]}")
        if has_glossary and (self.do_sample or num_beams < 2):
            raise ValueError(
                "`glossary` needs `num_beams` of at least 2 and no `do_sample`: beams are where it finds the "
                f"positions of its terms, got {num_beams} beams and `do_sample` {self.do_sample}"
            )
        base = _without_adapter(self.model)
        if self._fast and not isinstance(base, HfAttnForConditionalGeneration):
            raise ValueError(f"`fast` is for `hf_attn` models, got {type(base).__name__}: leave out `fast`")
        if self._fast and self.do_sample:
            raise ValueError("`fast` has no effect on samples: leave out `fast` or `do_sample`, got both")
        stop_strings = self._option("stop_strings")
        if self._fast and stop_strings is not None:
            raise ValueError(f"`fast` knows no `stop_strings`: leave out one of both, got {stop_strings!r}")
        name = "num_return_sequences" if self._mbr is None else "num_candidates"
        if self._num_generated > num_beams and not (self.do_sample and num_beams == 1):
            raise ValueError(
                f"`{name}` must be at most `num_beams`, got {self._num_generated} and {num_beams}: set `num_beams` to "
                f"{self._num_generated}, or sample with `do_sample` from one beam"
            )
        if self._mbr is not None and not max(2, self._num_results) <= self._num_generated:
            raise ValueError(
                "`num_candidates` must be at least 2 and at least `num_return_sequences`, got "
                f"{self._num_generated} and {self._num_results}"
            )

    def __call__(self, texts: Iterable[str], forced_prefix: str | Sequence[str | None] | None = None) -> list[str]:
        """
        The best output of each text.

        Args:
            texts: Sources.
            forced_prefix: The beginning of outputs: the same for all, or one a text (`None` or "": none).

        Raises:
            TypeError: `texts` is a text itself, or one of them, or of the prefixes, is no text.
            ValueError: A text is longer than the positions of the model, or has a lone surrogate; or the model refuses
                a batch. The message names the text, or the longest of the batch, counted from 1.
        """
        return [hypotheses[0].text for hypotheses in self.stream(texts, forced_prefix)]

    def n_best(
        self, texts: Iterable[str], forced_prefix: str | Sequence[str | None] | None = None
    ) -> list[list[Hypothesis]]:
        """
        The `num_return_sequences` best outputs of each text with their scores, the best first; or its samples, where
        `do_sample` draws several. There are fewer where fewer candidates of minimum Bayes risk differ, or where a
        glossary leaves fewer.

        Args:
            texts: As in a call, which also says what it raises.
            forced_prefix: As there.
        """
        return list(self.stream(texts, forced_prefix, with_scores=True))

    def stream(
        self,
        texts: Iterable[str],
        forced_prefix: str | Sequence[str | None] | None = None,
        with_scores: bool = False,
    ) -> Iterator[list[Hypothesis]]:
        """
        The lists that `n_best` returns, one after the other; the texts are read 4096 at a time.

        Args:
            texts: As in a call, which also says what it raises.
            forced_prefix: As there.
            with_scores: Score the outputs, which keeps the scores of the vocabulary at each step of a batch in memory.
        """
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be an iterable of texts, got one text, {texts!r}: put it into a list")
        prefixes = self._prefixes(texts, forced_prefix)
        iterator, first = iter(texts), 1
        while window := [
            _checked("texts", text, number).strip() for number, text in enumerate(islice(iterator, _WINDOW), first)
        ]:
            yield from self._window(window, list(islice(prefixes, len(window))), first, with_scores)
            first += len(window)

    def _prefixes(self, texts: Iterable[str], forced_prefix: str | Sequence[str | None] | None) -> Iterator[str]:
        if forced_prefix is None or isinstance(forced_prefix, str):
            check_text("forced_prefix", forced_prefix or "")
            return repeat((forced_prefix or "").rstrip())
        if not isinstance(forced_prefix, Sequence):
            raise TypeError(
                "`forced_prefix` must be one text, or a list with one for each of `texts`, got "
                f"{type(forced_prefix).__name__}: put its texts into a list"
            )
        if not isinstance(texts, Sequence) or len(texts) != len(forced_prefix):
            number = len(texts) if isinstance(texts, Sequence) else "a stream"
            raise ValueError(
                f"`forced_prefix` must be one text, or one for each of `texts`, got {len(forced_prefix)} for {number}"
            )
        prefixes = ["" if prefix is None else prefix for prefix in forced_prefix]
        return iter([_checked("forced_prefix", prefix, number).rstrip() for number, prefix in enumerate(prefixes, 1)])

    def _window(self, texts: list[str], prefixes: list[str], first: int, with_scores: bool) -> list[list[Hypothesis]]:
        outputs = [[Hypothesis("", 0.0)] for _ in texts]
        filled = [index for index, text in enumerate(texts) if text]
        if not filled:
            return outputs
        token_ids = self._encode([texts[index] for index in filled])["input_ids"]
        lengths = {index: len(ids) for index, ids in zip(filled, token_ids, strict=True)}
        limit = source_positions(self.model)
        for index, length in lengths.items():
            if limit is not None and length > limit:
                raise ValueError(
                    f"`texts` must keep within the {limit} positions of the model, got {length} tokens in text "
                    f"{first + index}: pass `truncation` to have the rest left out, or split the text"
                )
        prompts = {index: self._prompt(prefixes[index]) for index in filled}
        budget = self._tokens_per_batch // max(self._option("num_beams"), self._num_generated)
        for batch in _batches(lengths, {index: len(prompt) for index, prompt in prompts.items()}, budget):
            try:
                hypotheses = self._generate(
                    [texts[index] for index in batch], [prompts[index] for index in batch], with_scores
                )
            except ValueError as error:
                raise ValueError(f"text {first + batch[0]} ({lengths[batch[0]]} tokens): {error}") from error
            for index, text_hypotheses in zip(batch, hypotheses, strict=True):
                outputs[index] = text_hypotheses
        return outputs

    def _encode(self, texts: list[str], **options: Any) -> BatchEncoding:
        """The tokens of texts with the prefix before each."""
        limit = source_positions(self.model) if self._truncation else None
        if limit is not None:
            options |= {"truncation": True, "max_length": limit}
        return self.tokenizer([self._prefix + text for text in texts], verbose=False, **options)

    def _prompt(self, prefix: str) -> list[int]:
        """Token ids that the decoder starts with."""
        start, first = self._option("decoder_start_token_id"), self._option("forced_bos_token_id")
        prompt = [self._option("bos_token_id") if start is None else start]
        if prefix:
            if first is not None:
                prompt.append(first)
            prompt += self.tokenizer(text_target=prefix, add_special_tokens=False)["input_ids"]
        return prompt

    @torch.inference_mode()
    def _generate(self, texts: list[str], prompts: list[list[int]], with_scores: bool) -> list[list[Hypothesis]]:
        inputs = self._encode(texts, padding=True, return_tensors="pt").to(self.model.device)
        options: dict[str, Any] = {name: value for name, value in self._options.items() if name != "max_new_tokens"}
        # It looks for `stop_strings` among the tokens of a tokenizer.
        options |= {"num_return_sequences": self._num_generated, "tokenizer": self.tokenizer}
        prompt_length = len(prompts[0])
        if prompt_length > 1:
            options["decoder_input_ids"] = torch.tensor(prompts, device=self.model.device)
        source_length, max_new_tokens = inputs["input_ids"].shape[1], self._options.get("max_new_tokens")
        options |= length_limit(self.model, source_length, max_new_tokens, prompt_length)
        needs_scores = with_scores and self._mbr is None
        if needs_scores:
            has_beams = self._option("num_beams") > 1
            options |= {"return_dict_in_generate": True, "output_scores": has_beams, "output_logits": not has_beams}
        terms = [self._glossary.target_terms(text) if self._glossary else [] for text in texts]
        if self._term_tokens is not None and any(terms):
            glossary_processor = GlossaryLogitsProcessor(
                terms,
                self._term_tokens,
                prompts,
                num_beams=self._option("num_beams"),
                max_length=options.get("max_length") or prompt_length + options["max_new_tokens"],
                eos_token_ids=self._eos_token_ids,
            )
            options["logits_processor"] = LogitsProcessorList([glossary_processor])
        if self._fast:
            options["custom_generate"] = fast_generate
        generated = self.model.generate(**inputs, **options)  # type: ignore[operator]
        sequences = generated if isinstance(generated, torch.Tensor) else generated.sequences
        outputs = [text.strip() for text in self.tokenizer.batch_decode(sequences, skip_special_tokens=True)]
        scores = self._scores(generated, prompt_length) if needs_scores else [math.nan] * len(outputs)
        hypotheses = [Hypothesis(text, score) for text, score in zip(outputs, scores, strict=True)]
        starts = range(0, len(hypotheses), self._num_generated)
        return [
            self._results(text, row_terms, hypotheses[start : start + self._num_generated])
            for text, row_terms, start in zip(texts, terms, starts, strict=True)
        ]

    @property
    def _eos_token_ids(self) -> list[int]:
        ids = self._option("eos_token_id")
        return [ids] if isinstance(ids, int) else list(ids or ())

    def _scores(self, generated: Any, prompt_length: int) -> list[float]:
        """The scores of outputs, as beams have them."""
        if self._option("num_beams") > 1:
            return generated.sequences_scores.tolist()
        token_ids = generated.sequences[:, prompt_length:]
        log_probs = torch.stack(
            [
                logits.float().log_softmax(dim=-1).gather(1, token_ids[:, step, None]).squeeze(1)
                for step, logits in enumerate(generated.logits)
            ],
            dim=1,
        )
        ends = torch.isin(token_ids, token_ids.new_tensor(self._eos_token_ids))
        # The first end counts, what follows is padding.
        real = (ends.cumsum(dim=1) - ends.long()) == 0
        return ((log_probs * real).sum(dim=1) / real.sum(dim=1) ** self._option("length_penalty")).tolist()

    def _results(self, text: str, terms: list[str], hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """The outputs of a text that remain: those with its terms, and the best candidates by minimum Bayes risk."""
        if terms:
            with_terms = [
                hypothesis for hypothesis in hypotheses if all(has_term(hypothesis.text, term) for term in terms)
            ]
            if not with_terms:
                logger.warning(
                    f"No output for {text!r} holds {', '.join(map(repr, terms))}: other options forbid tokens that "
                    "the terms need."
                )
            hypotheses = with_terms or hypotheses
        if self._mbr is None:
            return hypotheses
        ranked = rank_by_utility([hypothesis.text for hypothesis in hypotheses], self._mbr)
        return [Hypothesis(text, score) for text, score in ranked[: self._num_results]]


def _without_adapter(model: Any) -> Any:
    """The base inside a PEFT model, any other as it is; transformers' own function for it imports PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def length_limit(
    model: PreTrainedModel, source_length: int, max_new_tokens: int | None = None, prompt_length: int = 1
) -> dict[str, int]:
    """The keyword of `generate` that limits the output: as given, else by the generation config, else by the source.

    Without it `generate` makes 20 tokens where the generation config sets no limit. A limit that is not given keeps
    within the positions of the decoder.

    Args:
        model: Its `generation_config` and its positions are read.
        source_length: In tokens.
        max_new_tokens: The limit; `None`: that of the generation config, or else twice the source and 16 more.
        prompt_length: Tokens that the decoder starts with.
    """
    config = model.generation_config
    limit = max_new_tokens
    if limit is None:
        if config.max_new_tokens is not None:
            limit = config.max_new_tokens
        elif config.max_length is not None:
            limit = config.max_length - prompt_length
        else:
            limit = 2 * source_length + 16
        positions = target_positions(model)
        if positions is not None:
            limit = max(1, min(limit, positions - prompt_length))
    # `generate` warns where both names have a value.
    return {"max_new_tokens": limit} if config.max_length is None else {"max_length": prompt_length + limit}


def _checked(name: str, text: Any, number: int) -> str:
    if not isinstance(text, str):
        raise TypeError(f"`{name}` must be an iterable of texts, got {text!r} as text {number}")
    check_text(name, text, f" as text {number}")
    return text


def _batches(
    lengths: Mapping[int, int], prompt_lengths: Mapping[int, int], tokens_per_batch: int
) -> Iterator[list[int]]:
    """Batches of the indices of texts, from the longest to the shortest, in which rows times the longest stay within
    the budget, and all prompts are of one length."""
    batch: list[int] = []
    for index in sorted(lengths, key=lambda index: (prompt_lengths[index], lengths[index]), reverse=True):
        if batch and (
            (len(batch) + 1) * lengths[batch[0]] > tokens_per_batch or prompt_lengths[index] < prompt_lengths[batch[0]]
        ):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _check_names(options: Mapping[str, Any]) -> None:
    known = [name for name in vars(GenerationConfig()) if not name.startswith("_") and name not in _OWN_OPTIONS]
    for name in options:
        if name in _OWN_OPTIONS:
            raise TypeError(
                f"`{name}` is set by the generator; it takes `max_new_tokens`, and `n_best` returns scores"
            )
        if name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise TypeError(f"`{name}` is no option of `generate`; did you mean `{nearest}`?")


def _check_numbers(options: Mapping[str, Any]) -> None:
    """Refuses numbers out of their range; `None` passes."""
    whole = dict.fromkeys((*_COUNTS, "num_candidates", "tokens_per_batch"), 1)
    whole |= {"no_repeat_ngram_size": 0, "top_k": 0}
    for name, smallest in whole.items():
        value = options.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < smallest):
            raise ValueError(f"`{name}` must be a whole number of at least {smallest}, got {value!r}")
    for name, largest in (("temperature", math.inf), ("top_p", 1.0)):
        value = options.get(name)
        if value is not None and not (_is_finite(value) and 0 < value <= largest):
            upper = "" if largest == math.inf else f" and at most {largest:g}"
            raise ValueError(f"`{name}` must be a number above 0{upper}, got {value!r}")
    length_penalty = options.get("length_penalty")
    if length_penalty is not None and not _is_finite(length_penalty):
        raise ValueError(f"`length_penalty` must be a finite number, got {length_penalty!r}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)
