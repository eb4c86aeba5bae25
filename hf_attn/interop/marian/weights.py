# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
The map between Marian's arrays and the weights of `HfAttnForConditionalGeneration`: one table, read both ways.

Marian computes x W, so that its matrices are torch's transposed. Its decoder starts from a vector of zeros; ours reads
a token. So there is one more token at the end of the vocabulary, `<pad>`, from which the decoder starts: its embedding
is zero, and its logit is too small to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .files import LazyArray
from .options import Description


PAD_LOGIT = -1e4
"""The bias of the logit of `<pad>`."""

_LARGEST_START = 1e-6


class Entry(NamedTuple):
    """
    One line of the table.

    Attributes:
        marian: Name of Marian's array; `None`: it has none there, where it is all zeros.
        shape: Its shape.
        ours: Name of the weight.
        kind: `matrix`: the other way round. `vector`: a row there. `embedding`: a token a row, here with that of
            `<pad>`. `output_bias`: a token a number, here with `PAD_LOGIT`.
        part: Which part of how many equal ones of the weight's rows this is.
        is_source: The tokens are the source's.
    """

    marian: str | None
    shape: tuple[int, ...]
    ours: str
    kind: str
    part: tuple[int, int] = (0, 1)
    is_source: bool = False


def table(description: Description) -> list[Entry]:
    """The lines of a model, in the order of its layers."""
    lines = _embeddings(description)
    for stack, num_layers in (("encoder", description.encoder_layers), ("decoder", description.decoder_layers)):
        for layer in range(num_layers):
            lines += _layer(description, stack, layer)
        if description.norm_position == "pre":
            lines += _norm(description, f"{stack}_top", f"model.{stack}.layer_norm")
    return lines


def _embeddings(description: Description) -> list[Entry]:
    source, target = ((size, description.d_model) for size in description.vocabulary_sizes)
    if description.shares_embedding:
        lines = [Entry("Wemb", source, "model.shared.weight", "embedding")]
    else:
        lines = [
            Entry("encoder_Wemb", source, "model.encoder.embed_tokens.weight", "embedding", is_source=True),
            Entry("decoder_Wemb", target, "model.decoder.embed_tokens.weight", "embedding"),
        ]
    if not description.ties_output:
        lines.append(Entry("decoder_ff_logit_out_Wt", target, "lm_head.weight", "embedding"))
    bias = "decoder_ff_logit_out_b" if description.has_output_bias else None
    lines.append(Entry(bias, (1, target[0]), "lm_head.bias", "output_bias"))
    return lines


def _layer(description: Description, stack: str, layer: int) -> list[Entry]:
    theirs, ours = f"{stack}_l{layer + 1}", f"model.{stack}.layers.{layer}"
    ffn_dim = description.decoder_ffn_dim if stack == "decoder" else description.encoder_ffn_dim
    if stack == "decoder" and description.decoder == "ssru":
        lines = _recurrence(description, f"{theirs}_rnn", f"{ours}.mixer")
        # The one norm whose name depends on where it stands.
        norm = f"{theirs}_rnn" if description.norm_position == "pre" else f"{theirs}_rnn_ffn"
    else:
        lines = _attention(description, f"{theirs}_self", f"{ours}.mixer")
        norm = f"{theirs}_self_Wo"
    lines += _norm(description, norm, f"{ours}.mixer_layer_norm")
    if stack == "decoder":
        lines += _attention(description, f"{theirs}_context", f"{ours}.encoder_attn")
        lines += _norm(description, f"{theirs}_context_Wo", f"{ours}.encoder_attn_layer_norm")
    for place, (width_in, width_out) in enumerate([(description.d_model, ffn_dim), (ffn_dim, description.d_model)], 1):
        lines += _linear(f"{theirs}_ffn_{{}}{place}", width_in, width_out, f"{ours}.feed_forward.fc{place}")
    return lines + _norm(description, f"{theirs}_ffn_ffn", f"{ours}.final_layer_norm")


def _attention(description: Description, theirs: str, ours: str) -> list[Entry]:
    lines = []
    for letter, name in zip("qkvo", ("q_proj", "k_proj", "v_proj", "out_proj"), strict=True):
        lines += _linear(f"{theirs}_{{}}{letter}", description.d_model, description.d_model, f"{ours}.{name}")
    return lines


def _recurrence(description: Description, theirs: str, ours: str) -> list[Entry]:
    """The simpler simple recurrent unit: forget gate and candidate, and no bias of the latter."""
    square, row = (description.d_model, description.d_model), (1, description.d_model)
    return [
        Entry(f"{theirs}_Wf", square, f"{ours}.in_proj.weight", "matrix", (0, 2)),
        Entry(f"{theirs}_W", square, f"{ours}.in_proj.weight", "matrix", (1, 2)),
        Entry(f"{theirs}_bf", row, f"{ours}.in_proj.bias", "vector", (0, 2)),
        Entry(None, row, f"{ours}.in_proj.bias", "vector", (1, 2)),
    ]


def _linear(theirs: str, width_in: int, width_out: int, ours: str) -> list[Entry]:
    return [
        Entry(theirs.format("W"), (width_in, width_out), f"{ours}.weight", "matrix"),
        Entry(theirs.format("b"), (1, width_out), f"{ours}.bias", "vector"),
    ]


def _norm(description: Description, theirs: str, ours: str) -> list[Entry]:
    row = (1, description.d_model)
    # A norm before its branch says so, that of a whole stack does not.
    ending = "_pre" if description.norm_position == "pre" and not theirs.endswith("_top") else ""
    if description.norm_type == "rmsnorm":
        return [Entry(f"{theirs}_rms_scale{ending}", row, f"{ours}.weight", "vector")]
    return [
        Entry(f"{theirs}_ln_scale{ending}", row, f"{ours}.weight", "vector"),
        Entry(f"{theirs}_ln_bias{ending}", row, f"{ours}.bias", "vector"),
    ]


def check_arrays(shapes: Mapping[str, tuple[int, ...]], description: Description) -> None:
    """
    Refuses arrays that are not those of the table.

    Raises:
        ValueError: One is missing, is of another shape, or is one too many; several are named.
    """
    expected = {line.marian: line.shape for line in table(description) if line.marian is not None}
    faults = []
    for name, shape in expected.items():
        if name not in shapes:
            faults.append(f"`{name}` is missing")
        elif shapes[name] != shape:
            faults.append(f"`{name}` must have the shape {shape}, got {shapes[name]}")
    faults += [f"`{name}` is no array of a model with these options" for name in shapes if name not in expected]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"The arrays do not fit the options of the model: {'; '.join(faults[:5])}{more}.")


def import_weights(
    read: Callable[[str], np.ndarray], description: Description, pad_token_id: int
) -> Iterator[tuple[str, np.ndarray]]:
    """
    The weights of `HfAttnForConditionalGeneration`, one after another, float32. Tied ones come once: the shared
    embedding as `model.shared.weight`.

    Args:
        read: Returns Marian's array of a name, float32.
        description: Of the model; `check_arrays` has accepted its arrays.
        pad_token_id: The last row of the vocabularies; those between a smaller one and this one cannot be chosen.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for line in table(description):
        array = np.zeros(line.shape, np.float32) if line.marian is None else read(line.marian)
        if line.kind == "matrix":
            array = array.T
        elif line.kind == "vector":
            array = array.reshape(-1)
        elif line.kind == "embedding":
            array = np.pad(array, ((0, pad_token_id + 1 - len(array)), (0, 0)))
        else:
            array = np.pad(array.reshape(-1), (0, pad_token_id + 1 - array.size), constant_values=PAD_LOGIT)
        parts.setdefault(line.ours, []).append(array)
        if len(parts[line.ours]) == line.part[1]:
            weights = parts.pop(line.ours)
            weight = weights[0] if len(weights) == 1 else np.concatenate(weights)
            # A file mapped into memory is not to be written to.
            yield line.ours, np.require(weight, requirements=["C", "W"])


def export_weights(
    read: Callable[[str], np.ndarray],
    description: Description,
    pad_token_id: int,
    source_rows: np.ndarray,
    target_rows: np.ndarray,
) -> Iterator[LazyArray]:
    """
    Marian's arrays, each computed when its turn comes.

    Args:
        read: Returns the weight of a name, float32.
        description: Of the model as Marian shall have it.
        pad_token_id: The token that the decoder starts from.
        source_rows, target_rows: Which row of an embedding each of Marian's is, int (`vocabulary_sizes`,); -1: a row
            of zeros, which no search chooses.

    Raises:
        ValueError: A weight is not zero where Marian has none. On computing: a weight is not finite, or the embedding
            of `pad_token_id` not zero.
    """
    for line in table(description):
        if line.marian is None:
            _check_absent(line, read)
            continue

        def compute(line: Entry = line) -> np.ndarray:
            weight = read(line.ours)
            if not np.isfinite(weight).all():
                raise ValueError(f"`{line.ours}` holds a number that is not finite.")
            rows = source_rows if line.is_source else target_rows
            if line.kind == "matrix":
                return _part(line, weight).T
            if line.kind == "vector":
                return _part(line, weight)[None]
            if line.kind == "output_bias":
                return np.where(rows < 0, np.float32(PAD_LOGIT), weight[rows])[None]
            if np.abs(weight[pad_token_id]).max() > _LARGEST_START:
                raise ValueError(
                    f"`{line.ours}`: row {pad_token_id}, from which the decoder starts, must be zero, for Marian's "
                    f"decoder starts from zero; the largest is {np.abs(weight[pad_token_id]).max():.3g}."
                )
            return np.where(rows[:, None] < 0, np.float32(0), weight[rows])

        yield LazyArray(line.marian, line.shape, compute)


def _check_absent(line: Entry, read: Callable[[str], np.ndarray]) -> None:
    """
    Refuses a weight that Marian has no place for, unless it is zero.

    Raises:
        ValueError: It is not.
    """
    if line.kind != "vector":
        return
    largest = np.abs(_part(line, read(line.ours))).max()
    if largest > 0:
        raise ValueError(
            f"`{line.ours}`: its second half must be zero, for Marian's SSRU has no bias on the candidate; the "
            f"largest is {largest:.3g}. Leave it out of training, or train an adapter on `in_proj`."
        )


def _part(line: Entry, weight: np.ndarray) -> np.ndarray:
    place, number = line.part
    return np.split(weight, number)[place]
