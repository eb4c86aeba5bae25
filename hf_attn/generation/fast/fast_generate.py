# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A decoding loop for `hf_attn` models that does no more than greedy and beam search need.

`model.generate(**inputs, custom_generate=fast_generate)` gives what `generate` gives. It saves what a call of the
whole model costs at each step, shares a source between its beams, and drops sequences that have ended
from the batch.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput, GenerationMode
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.modeling_outputs import BaseModelOutput

from ...modeling_hf_attn import HfAttnForConditionalGeneration
from ...modeling_versions import CACHE_NAME
from .compiled_steps import CompiledSteps, compiled_steps
from .decoder_steps import DecoderSteps, Sources


# The score of what does not exist, and the distance to it of what must not live on; as in `generate`.
_NOTHING = np.float32(-1e9)
# Ended sequences leave the batch once they are this part of it: to leave, the others must be copied.
_ENDED_PART = 8


def fast_generate(
    model: HfAttnForConditionalGeneration,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_inputs: Any,
) -> torch.Tensor | GenerateEncoderDecoderOutput | GenerateBeamEncoderDecoderOutput:
    """
    Greedy and beam search; pass it to `generate` as `custom_generate`.

    In float32 it finds the tokens and scores that `generate` finds without it. All layer types, cross-attentions and
    positions have their steps, adapters included. Logits processors and stopping criteria act as they do there; with
    any but those that end a sequence at `eos_token_id` or `max_length`, or with scores to return, ended sequences stay
    in the batch. What is lacking: sampling, assisted generation and other strategies, attention maps, hidden states,
    a cache of one's own, padding in the decoder's prompt. All of these are refused. `generate` hands no
    `streamer` to a `custom_generate`; and there is no cache to return.

    Args:
        model: In evaluation mode.
        input_ids: int64 (batch_size * num_beams, prompt_length), the decoder's prompt.
        logits_processor, stopping_criteria, generation_config: As `generate` prepares them.
        model_inputs: Of the model: `encoder_outputs`, `attention_mask`, ...

    Returns:
        `torch.Tensor` or output: As `generate`.

    Raises:
        TypeError: `model` is of another family.
        ValueError: An option is one of those that are lacking, or the prompts are not as many as the sources.
    """
    _check(model, input_ids, generation_config, model_inputs)
    num_beams = generation_config.num_beams or 1
    sources = _sources(model, model_inputs, num_beams)
    search = _beam_search if num_beams > 1 else _greedy_search
    with torch.inference_mode():
        decoder = compiled_steps(model, sources) or DecoderSteps(model, sources)
        return search(decoder, input_ids, logits_processor, stopping_criteria, generation_config)


def _check(
    model: Any, input_ids: torch.Tensor, generation_config: GenerationConfig, model_inputs: dict[str, Any]
) -> None:
    if not isinstance(model, HfAttnForConditionalGeneration):
        raise TypeError(
            f"`fast_generate` decodes `hf_attn` models, got {type(model).__name__}. Generate without "
            "`custom_generate`."
        )
    mode = generation_config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.BEAM_SEARCH):
        raise ValueError(
            f"`fast_generate` has greedy and beam search, got options of {mode.value.replace('_', ' ')}. Leave out "
            "`custom_generate`, or these options."
        )
    for name in ("output_attentions", "output_hidden_states"):
        if getattr(generation_config, name):
            raise ValueError(f"`{name}` must be False with `fast_generate`, which keeps none. Leave out one of both.")
    if generation_config.use_cache is False:
        raise ValueError("`use_cache` must be True with `fast_generate`, which always carries a state, got False.")
    past = model_inputs.get(CACHE_NAME)
    if past is not None and past.get_seq_length() > 0:
        raise ValueError(
            f"`{CACHE_NAME}` must be empty with `fast_generate`, got {past.get_seq_length()} tokens. Pass these "
            "as `decoder_input_ids`."
        )
    prompt_mask = model_inputs.get("decoder_attention_mask")
    if prompt_mask is not None and not bool(prompt_mask.all()):
        raise ValueError(
            "`decoder_attention_mask` must be 1 everywhere with `fast_generate`, got padding. Generate from prompts "
            "of one length together."
        )
    num_beams, num_sources = generation_config.num_beams or 1, len(model_inputs["encoder_outputs"].last_hidden_state)
    if len(input_ids) != num_sources:
        raise ValueError(
            f"`decoder_input_ids` must have a row for each source, got {len(input_ids) // num_beams} rows and "
            f"{num_sources // num_beams} sources."
        )


def _sources(model: HfAttnForConditionalGeneration, model_inputs: dict[str, Any], num_beams: int) -> Sources:
    """The encoded sources, each once; `generate` has repeated them for each beam."""
    encoder_outputs: BaseModelOutput = model_inputs["encoder_outputs"]
    mask = model_inputs.get("attention_mask")
    states: Any = encoder_outputs.last_hidden_state
    if num_beams > 1:
        states, mask = states[::num_beams], None if mask is None else mask[::num_beams]
    pooled_context = None
    if model.model.decoder.needs_pooling:
        pooled_context = model.model.encoder.pool(states, None if mask is None else mask.bool())
    token_ids = None
    if model.copy_head is not None:
        token_ids = _copyable_tokens(model_inputs, encoder_outputs, states, num_beams)
    if mask is not None:
        mask = None if bool(mask.all()) else mask.bool()
    return Sources(states, mask, token_ids, pooled_context, num_beams)


def _copyable_tokens(
    model_inputs: dict[str, Any], encoder_outputs: BaseModelOutput, states: torch.Tensor, num_beams: int
) -> torch.Tensor:
    token_ids = model_inputs.get("source_ids")
    if token_ids is None:
        token_ids = getattr(encoder_outputs, "source_ids", None)
    if token_ids is None:
        raise ValueError("`source_ids` must hold the token of each source position, for `copy_attention` to copy.")
    return token_ids[::num_beams].to(states.device)


def _is_end_only(criteria: Iterable[Any]) -> bool:
    """Whether all that ends a sequence is its end token or its length."""
    return all(type(criterion) in (EosTokenCriteria, MaxLengthCriteria) for criterion in criteria)


def _end_token_ids(stopping_criteria: Iterable[Any]) -> list[int]:
    """Tokens that end a sequence."""
    return [
        token_id
        for criterion in stopping_criteria
        if hasattr(criterion, "eos_token_id")
        for token_id in criterion.eos_token_id.tolist()
    ]


def _read_prompt(decoder: DecoderSteps | CompiledSteps, prompt: torch.Tensor) -> torch.Tensor:
    """The output of the decoder at the last token of the prompt (rows, prompt_length)."""
    for token_ids in prompt.unbind(1)[:-1]:
        decoder.read(token_ids)
    return decoder.read(prompt[:, -1])


def _greedy_search(
    decoder: DecoderSteps | CompiledSteps,
    prompt: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: StoppingCriteriaList,
    config: Any,
) -> torch.Tensor | GenerateEncoderDecoderOutput:
    end_token_ids = _end_token_ids(stopping_criteria)
    keeps_scores = bool(config.return_dict_in_generate and (config.output_scores or config.output_logits))
    drops_ended = not logits_processor and not keeps_scores and _is_end_only(stopping_criteria)
    padding = 0 if config._pad_token_tensor is None else int(config._pad_token_tensor)
    sequences = prompt.new_full((len(prompt), config.max_length), padding, dtype=torch.int64)
    length = prompt.shape[1]
    sequences[:, :length] = prompt
    if drops_ended and length < config.max_length and isinstance(decoder, CompiledSteps):
        length = decoder.search(sequences, length, end_token_ids)
        return _greedy_output(sequences[:, :length], config, [], [])
    all_scores: list[torch.Tensor] = []
    all_logits: list[torch.Tensor] = []

    rows = np.arange(len(prompt))  # the sequences that are still in the batch
    alive = np.ones(len(prompt), dtype=bool)  # of these, the ones that go on
    hidden_states = _read_prompt(decoder, prompt)
    while True:
        logits = decoder.logits(hidden_states)
        scores = logits
        if logits_processor:
            scores = logits_processor(sequences[:, :length].contiguous(), logits.clone())
        if keeps_scores:
            all_scores.append(scores)
            all_logits.append(logits)
        # On a CPU numpy finds it in a tenth of the time.
        tokens = scores.numpy().argmax(axis=-1) if scores.device.type == "cpu" else scores.argmax(dim=-1).cpu().numpy()
        if end_token_ids and not alive.all():
            tokens = np.where(alive, tokens, padding)
        token_ids = torch.from_numpy(tokens).to(prompt.device)
        if len(rows) == len(prompt):
            sequences[:, length] = token_ids
        else:
            sequences[torch.from_numpy(rows).to(prompt.device), length] = token_ids
        length += 1
        if drops_ended:
            for end_token_id in end_token_ids:
                alive &= tokens != end_token_id
            if length >= config.max_length:
                break
        else:
            scores_so_far = tuple(all_scores) if config.output_scores and keeps_scores else None
            ended = stopping_criteria(sequences[:, :length].contiguous(), scores_so_far)
            alive &= ~ended.cpu().numpy()
        num_alive = int(alive.sum())
        if num_alive == 0:
            break
        if drops_ended and (len(alive) - num_alive) * _ENDED_PART >= len(alive):
            kept = torch.from_numpy(np.flatnonzero(alive)).to(prompt.device)
            decoder.keep(kept)
            token_ids, rows = token_ids[kept], rows[alive]
            alive = np.ones(num_alive, dtype=bool)
        hidden_states = decoder.read(token_ids)

    return _greedy_output(sequences[:, :length], config, all_scores, all_logits)


def _greedy_output(
    sequences: torch.Tensor, config: Any, all_scores: list[torch.Tensor], all_logits: list[torch.Tensor]
) -> torch.Tensor | GenerateEncoderDecoderOutput:
    if not config.return_dict_in_generate:
        return sequences
    return GenerateEncoderDecoderOutput(
        sequences=sequences,  # type: ignore[arg-type]
        scores=tuple(all_scores) if config.output_scores else None,  # type: ignore[arg-type]
        logits=tuple(all_logits) if config.output_logits else None,  # type: ignore[arg-type]
    )


def _beam_search(
    decoder: DecoderSteps | CompiledSteps,
    prompt: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: StoppingCriteriaList,
    config: Any,
) -> torch.Tensor | GenerateBeamEncoderDecoderOutput:
    keeps_scores = bool(config.return_dict_in_generate and (config.output_scores or config.output_logits))
    drops_ended = not logits_processor and _is_end_only(stopping_criteria) and not keeps_scores
    beams = _Beams(prompt, config, _end_token_ids(stopping_criteria))
    device = prompt.device
    all_scores: list[torch.Tensor] = []
    all_logits: list[torch.Tensor] = []
    hidden_states = _read_prompt(decoder, prompt)
    while True:
        if logits_processor or keeps_scores:
            logits = decoder.logits(hidden_states)
            log_probs = nn.functional.log_softmax(logits, dim=-1)
            log_probs = logits_processor(torch.from_numpy(beams.hypotheses()).to(device), log_probs)
            all_scores.append(log_probs.clone())
            all_logits.append(logits)
            best = log_probs.topk(min(beams.num_candidates, log_probs.shape[-1]), dim=-1)
            top, tokens = best.values.cpu().numpy(), best.indices.cpu().numpy()
        else:
            top, tokens = decoder.best(hidden_states, beams.num_candidates)
        ended = beams.extend(top, tokens)
        if not drops_ended:
            scores_so_far = tuple(all_scores) if config.output_scores and keeps_scores else None
            candidates = torch.from_numpy(beams.candidates()).to(device)
            ended = stopping_criteria(candidates, scores_so_far).cpu().numpy().reshape(ended.shape)
        parents = beams.choose(ended)
        if beams.is_done(ended):
            break
        if (parents != np.arange(len(parents))).any():
            decoder.reorder(torch.from_numpy(parents).to(device))
        if drops_ended:
            kept = beams.drop_ended()
            if kept is not None:
                decoder.keep(torch.from_numpy(kept).to(device))
        hidden_states = decoder.read(torch.from_numpy(beams.last_tokens()).to(device))

    sequences, scores, beam_indices = (
        torch.from_numpy(array).to(device) for array in beams.results(config.num_return_sequences)
    )
    if not config.return_dict_in_generate:
        return sequences
    return GenerateBeamEncoderDecoderOutput(
        sequences=sequences,  # type: ignore[arg-type]
        sequences_scores=scores if config.output_scores else None,
        scores=tuple(all_scores) if config.output_scores else None,  # type: ignore[arg-type]
        logits=tuple(all_logits) if config.output_logits else None,  # type: ignore[arg-type]
        beam_indices=beam_indices,  # type: ignore[arg-type]
    )


class _Beams:
    """
    The hypotheses of a beam search, in numpy, where tiny arrays cost little.

    The rules are those of `generate`. Candidates are the best `num_candidates` continuations for a source. Of these
    the first `num_beams` may end a hypothesis; the best that have not ended live on. Of ended hypotheses the best
    `num_beams` are kept, by their score: the log-probability over length ** length_penalty.

    Arrays: (batch_size, num_beams), histories (batch_size, num_beams, length).
    """

    def __init__(self, prompt: torch.Tensor, config: Any, end_token_ids: list[int]):
        self.num_beams = config.num_beams
        self.num_candidates = max(2, 1 + len(end_token_ids)) * self.num_beams
        self.end_token_ids = end_token_ids
        self.max_length = config.max_length
        self.early_stopping = config.early_stopping
        self.length_penalty = config.length_penalty
        self.prompt_length = self.length = prompt.shape[1]
        batch_size = len(prompt) // self.num_beams
        shape = (batch_size, self.num_beams)
        fill = -1
        if end_token_ids:
            fill = int(config._pad_token_tensor or end_token_ids[0])
        self.running = np.full((*shape, self.max_length), fill, dtype=np.int64)
        self.running[:, :, : self.length] = prompt.cpu().numpy().reshape(*shape, -1)
        self.running_beams = np.full((*shape, self.max_length - self.length), -1, dtype=np.int32)
        self.running_scores = np.zeros(shape, dtype=np.float32)
        # All beams are alike at first: only one of them counts.
        self.running_scores[:, 1:] = _NOTHING
        self.active = np.arange(batch_size)
        # Of all sources, of which those in `active` are still searched.
        self.best = self.running.copy()
        self.best_beams = self.running_beams.copy()
        self.best_scores = np.full(shape, _NOTHING, dtype=np.float32)
        self.has_ended = np.zeros(shape, dtype=bool)
        self.can_improve = np.ones(batch_size, dtype=bool)
        # Of the candidates, (batch_size, num_candidates).
        self._top_parents: np.ndarray = np.empty((batch_size, 0), dtype=np.int64)
        self._top_tokens: np.ndarray = self._top_parents
        self._top_scores: np.ndarray = np.empty((batch_size, 0), dtype=np.float32)

    def hypotheses(self) -> np.ndarray:
        """(rows, length)"""
        return self.running[:, :, : self.length].reshape(-1, self.length)

    def last_tokens(self) -> np.ndarray:
        """(rows,)"""
        return self.running[:, :, self.length - 1].reshape(-1)

    def extend(self, log_probs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """
        Finds the candidates, from the best continuations of each row, and says which of them end by themselves.

        Args:
            log_probs, tokens: (rows, continuations), the best first.

        Returns:
            bool (batch_size, num_candidates).
        """
        batch_size, per_row = len(self.active), tokens.shape[1]
        scores = (log_probs.reshape(batch_size, self.num_beams, per_row) + self.running_scores[..., None]).reshape(
            batch_size, -1
        )
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.num_candidates]
        self._top_scores = np.take_along_axis(scores, order, axis=1)
        self._top_parents = order // per_row
        self._top_tokens = np.take_along_axis(tokens.reshape(batch_size, -1), order, axis=1)
        if self.length + 1 >= self.max_length:
            return np.ones(order.shape, dtype=bool)
        ended = np.zeros(order.shape, dtype=bool)
        for end_token_id in self.end_token_ids:
            ended |= self._top_tokens == end_token_id
        return ended

    def candidates(self) -> np.ndarray:
        """The tokens of the candidates, (batch_size * num_candidates, length + 1)."""
        return self._histories(np.arange(self._top_parents.shape[1])[None])[0].reshape(-1, self.length + 1)

    def _histories(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and beams of the candidates at `places` (batch_size, number), the newest included."""
        rows = np.arange(len(self.active))[:, None]
        parents, tokens = self._top_parents[rows, places], self._top_tokens[rows, places]
        sequences = self.running[rows, parents, : self.length + 1]
        sequences[:, :, self.length] = tokens
        steps = self.length - self.prompt_length
        beams = self.running_beams[rows, parents, : steps + 1]
        beams[:, :, steps] = self.active[:, None] * self.num_beams + parents
        return sequences, beams

    def choose(self, ended: np.ndarray) -> np.ndarray:
        """
        Keeps the best of what has `ended` (batch_size, num_candidates), and the best that goes on.

        Returns:
            Of each row the row that it continues, (rows,).
        """
        newly_ended = ended[:, : self.num_beams]
        if newly_ended.any():
            self._keep_best(newly_ended)
        scores = self._top_scores + ended.astype(np.float32) * _NOTHING
        places = np.argsort(-scores, axis=1, kind="stable")[:, : self.num_beams]
        rows = np.arange(len(self.active))[:, None]
        sequences, beams = self._histories(places)
        self.running_scores = scores[rows, places]
        self.running[:, :, : self.length + 1] = sequences
        self.running_beams[:, :, : beams.shape[2]] = beams
        self.length += 1
        self._update_hopes()
        return (self._top_parents[rows, places] + rows * self.num_beams).reshape(-1)

    def _keep_best(self, newly_ended: np.ndarray) -> None:
        """Puts ended candidates among the best of their sources."""
        new_length = self.length + 1 - self.prompt_length
        scores = self._top_scores[:, : self.num_beams] / new_length**self.length_penalty
        counts = newly_ended & self._is_open()[:, None]
        for row in np.flatnonzero(counts.any(axis=1)):
            batch_idx, places = self.active[row], np.flatnonzero(counts[row])
            parents = self._top_parents[row, places]
            sequences, beams = self.running[row, parents], self.running_beams[row, parents]
            sequences[:, self.length] = self._top_tokens[row, places]
            beams[:, self.length - self.prompt_length] = batch_idx * self.num_beams + parents
            merged = np.concatenate([self.best_scores[batch_idx], scores[row, places]])
            order = np.argsort(-merged, kind="stable")[: self.num_beams]
            self.best_scores[batch_idx] = merged[order]
            self.best[batch_idx] = np.concatenate([self.best[batch_idx], sequences])[order]
            self.best_beams[batch_idx] = np.concatenate([self.best_beams[batch_idx], beams])[order]
            self.has_ended[batch_idx] = np.concatenate([self.has_ended[batch_idx], np.ones_like(places, dtype=bool)])[
                order
            ]

    def _update_hopes(self) -> None:
        """Whether the best running hypothesis for a source could still beat the worst one that is kept."""
        length = self.length - self.prompt_length
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.max_length - self.prompt_length
        hopes = self.running_scores[:, :1] / length**self.length_penalty
        worst = self.best_scores[self.active].min(axis=1, keepdims=True)
        beaten = hopes > np.where(self.has_ended[self.active], worst, _NOTHING)
        self.can_improve[self.active] &= beaten.any(axis=1)

    def _is_open(self) -> np.ndarray:
        """Which of the sources in `active` may still change their results."""
        is_open = self.can_improve[self.active]
        return is_open & ~self.has_ended[self.active].all(axis=1) if self.early_stopping is True else is_open

    def is_done(self, ended: np.ndarray) -> bool:
        """Whether the search is over, after a step whose candidates had `ended`."""
        return bool(ended.all()) or not self._is_open().any()

    def drop_ended(self) -> np.ndarray | None:
        """Drops sources whose results are final, if they are many: which stay, of those that were there."""
        is_open = self._is_open()
        if (~is_open).sum() * _ENDED_PART < max(1, len(is_open)):
            return None
        self.active = self.active[is_open]
        self.running, self.running_beams = self.running[is_open], self.running_beams[is_open]
        self.running_scores = self.running_scores[is_open]
        return np.flatnonzero(is_open)

    def results(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each source the best `number` hypotheses: tokens, scores, and the rows that wrote each token."""
        beams = self.best_beams[:, :number].reshape(-1, self.best_beams.shape[2])
        num_steps = int((beams >= 0).sum(axis=1).max())
        sequences = self.best[:, :number].reshape(-1, self.max_length)
        scores = self.best_scores[:, :number].reshape(-1)
        return sequences[:, : self.prompt_length + num_steps], scores, beams[:, :num_steps]
