# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The proof that two models are one: both run on the same inputs, and what they compute is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..tasks import WRITING_HEAD, head_of


TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}
"""The largest difference of two logits: in float64 as it is, in float32 a share of the largest logit."""

_ROWS, _SOURCE_LENGTH, _TARGET_LENGTH = 3, 24, 12
_NEW_TOKENS = 12


@dataclass(frozen=True)
class Proof:
    """
    A comparison of two models, and how well they agreed.

    Attributes:
        difference: Largest difference of two logits of real positions.
        largest: The largest of these logits, without sign.
        dtype: What both models ran in.
        generated: Numbers of beams with which both wrote the same tokens.
    """

    difference: float
    largest: float
    dtype: torch.dtype
    generated: tuple[int, ...]

    def __str__(self) -> str:
        text = f"largest difference of the logits {self.difference:.1e} of {self.largest:.1f} in {self.dtype}"
        if self.generated:
            text += f", the same tokens with {' and '.join(map(str, self.generated))} beams"
        return text


def prove(source: PreTrainedModel, target: PreTrainedModel, *, length: int | None = None) -> Proof:
    """
    Runs both models on the same random tokens, with padding on either side, and lets both write.

    They agree where float32 logits differ by no more than 1e-6 of the largest. Where they do not, both run in float64,
    and agree where they differ by no more than 1e-9, or than `source` in float32 differs from itself in float64.

    Args:
        source: The model that came, on the CPU, in evaluation mode.
        target: What was made of it; put into the same dtypes, and back.
        length: Tokens of the longest source; by default 24, or fewer where the positions end.

    Raises:
        ValueError: Logits differ, or tokens that were written; the message names the first layer that differs.
    """
    inputs = list(_inputs(source, target, length))
    with torch.no_grad():
        proof = _compare_logits(source, target, inputs)
        # Those with padding.
        beams = _compare_generated(source, target, inputs[1:]) if source.can_generate() else ()
    return Proof(proof.difference, proof.largest, proof.dtype, beams)


def _inputs(source: PreTrainedModel, target: Any, length: int | None) -> Any:
    """Batches for both models: without padding, with padding on the right, on the left."""
    config = target.config
    generator = torch.Generator().manual_seed(0)
    limits = [getattr(target.model, stack).positions.max_positions for stack in ("encoder", "decoder")]
    longest, longest_target = (
        size if limit is None else min(size, limit)
        for size, limit in zip((length or _SOURCE_LENGTH, _TARGET_LENGTH), limits, strict=True)
    )

    def tokens(size: int, vocab_size: int) -> torch.Tensor:
        plain = torch.tensor([token for token in range(vocab_size) if token not in _special(config)])
        return plain[torch.randint(len(plain), (_ROWS, size), generator=generator)]

    writes = head_of(target) is WRITING_HEAD
    # A reader of BART has its decoder attend to padding on the left, which none here does.
    for side in (None, "right", "left") if writes else (None, "right"):
        input_ids = tokens(longest, config.vocab_size)
        attention_mask = torch.ones_like(input_ids)
        if side is not None:
            for row, real in enumerate((longest, max(1, longest // 2), max(1, longest - 3))):
                padding = slice(real, None) if side == "right" else slice(None, longest - real)
                attention_mask[row, padding], input_ids[row, padding] = 0, config.pad_token_id
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if writes:
            decoder_input_ids = tokens(longest_target, config.target_vocab_size)
            decoder_input_ids[:, 0] = config.decoder_start_token_id
            batch |= {
                "decoder_input_ids": decoder_input_ids,
                "decoder_attention_mask": torch.ones_like(decoder_input_ids),
            }
        yield batch


def _special(config: Any) -> set[int]:
    ends = config.end_token_ids
    return {config.pad_token_id, config.decoder_start_token_id, config.bos_token_id, *ends} - {None}


def _compare_logits(source: PreTrainedModel, target: PreTrainedModel, inputs: list[dict[str, torch.Tensor]]) -> Proof:
    given = source.dtype
    both = (source, target)
    try:
        _to(both, torch.float32)
        rounded = [_logits(source, batch) for batch in inputs]
        proof = _differences(rounded, [_logits(target, batch) for batch in inputs], torch.float32)
        if proof.difference <= TOLERANCE[torch.float32] * proof.largest:
            return proof
        _to(both, torch.float64)
        precise = [_logits(source, batch) for batch in inputs]
        proof = _differences(precise, [_logits(target, batch) for batch in inputs], torch.float64)
        # Some families compute norms and weights in float32 whatever they are given.
        own_rounding = _differences(precise, rounded, torch.float64).difference
        if proof.difference <= max(TOLERANCE[torch.float64], own_rounding):
            return proof
        raise ValueError(
            f"The result does not compute what `SOURCE` does: logits differ by {proof.difference:.1e}, of "
            f"{proof.largest:.1f} at most, first in {_first_difference(source, target, inputs, own_rounding)}. "
            "Nothing was written."
        )
    finally:
        _to(both, given)


def _to(models: tuple[PreTrainedModel, ...], dtype: torch.dtype) -> None:
    for model in models:
        if model.dtype != dtype:
            model.to(dtype)  # type: ignore[arg-type]


def _logits(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of real positions, in one dimension."""
    # With a cache FSMT reads the last token alone.
    outputs = model(**batch, use_cache=False)
    if "logits" in outputs:
        return outputs.logits.flatten()
    is_real = batch["attention_mask"].bool()
    return torch.cat([outputs.start_logits[is_real], outputs.end_logits[is_real]])


def _differences(ours: list[torch.Tensor], theirs: list[torch.Tensor], dtype: torch.dtype) -> Proof:
    pairs = list(zip(ours, theirs, strict=True))
    difference = max(float((one.double() - other.double()).abs().max()) for one, other in pairs)
    largest = max(float(one.abs().max()) for one in ours)
    # A number that is none is no agreement.
    return Proof(difference if difference == difference else float("inf"), largest, dtype, ())


def _first_difference(
    source: PreTrainedModel, target: PreTrainedModel, inputs: list[dict[str, torch.Tensor]], rounding: float
) -> str:
    """The name of the first layer whose states differ, of the first batch in which any do."""
    for batch in inputs:
        outputs = [model(**batch, use_cache=False, output_hidden_states=True) for model in (source, target)]
        is_real = batch["attention_mask"].bool()
        for stack in ("encoder", "decoder"):
            states: Any = [output[f"{stack}_hidden_states"] for output in outputs]
            for index, (theirs, ours) in enumerate(zip(*states, strict=False)):
                if stack == "encoder":
                    # LED pads its inputs to whole windows.
                    theirs, ours = theirs[:, : is_real.shape[1]][is_real], ours[is_real]
                scale = float(theirs.abs().max())
                if not float((theirs - ours).abs().max()) <= max(rounding, 1e-6 * scale):
                    return f"the embedding of the {stack}" if index == 0 else f"{stack} layer {index - 1}"
    return "the output projection"


def _compare_generated(
    source: PreTrainedModel, target: PreTrainedModel, inputs: list[dict[str, torch.Tensor]]
) -> tuple[int, ...]:
    compared = []
    for num_beams in (1, 4):
        for batch in inputs:
            asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
            theirs, ours = (_generated(model, asked, num_beams) for model in (source, target))
            if not torch.equal(theirs, ours):
                raise ValueError(
                    f"The result does not write what `SOURCE` does, with {num_beams} beams: {ours.tolist()} in place "
                    f"of {theirs.tolist()}. Nothing was written."
                )
        compared.append(num_beams)
    return tuple(compared)


def _generated(model: PreTrainedModel, asked: dict[str, torch.Tensor], num_beams: int) -> torch.Tensor:
    options: dict[str, Any] = {
        "num_beams": num_beams, "do_sample": False, "max_length": None, "max_new_tokens": _NEW_TOKENS,
    }  # fmt: skip
    generation_config: Any = model.generation_config
    if (generation_config.min_length or 0) > _NEW_TOKENS:
        options["min_length"] = 0
    try:
        return model.generate(**asked, **options)  # type: ignore[operator]
    except IndexError:
        # transformers 5.23 builds the cache of a T5 from the encoder's layers, and runs out of them in the decoder.
        return model.generate(**asked, **options, use_cache=False)  # type: ignore[operator]
