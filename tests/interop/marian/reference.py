# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Marian's Transformer as `src/models/transformer.h` of marian-dev has it, in numpy, on Marian's own arrays."""

import math
from collections.abc import Mapping

import numpy as np

from hf_attn.interop.marian.options import Description


def log_probabilities(
    arrays: Mapping[str, np.ndarray], model: Description, source: list[int], target: list[int]
) -> np.ndarray:
    """What Marian gives each next word after no word, the first, the first two, ...: (len(target) + 1, words)."""
    arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
    table = "Wemb" if model.shares_embedding else "{}_Wemb"
    start = np.zeros((1, model.d_model))
    states = _with_positions(arrays[table.format("encoder")][source])
    for layer in range(1, model.encoder_layers + 1):
        states = _attend(arrays, model, f"encoder_l{layer}_self", states, None)
        states = _feed_forward(arrays, model, f"encoder_l{layer}_ffn", states)
    source_states = _top(arrays, model, "encoder_top", states)
    states = _with_positions(np.concatenate([start, arrays[table.format("decoder")][target]]))
    for layer in range(1, model.decoder_layers + 1):
        if model.decoder == "ssru":
            states = _recur(arrays, model, f"decoder_l{layer}_rnn", states)
        else:
            states = _attend(arrays, model, f"decoder_l{layer}_self", states, None, is_causal=True)
        states = _attend(arrays, model, f"decoder_l{layer}_context", states, source_states)
        states = _feed_forward(arrays, model, f"decoder_l{layer}_ffn", states)
    states = _top(arrays, model, "decoder_top", states)
    output = arrays[table.format("decoder") if model.ties_output else "decoder_ff_logit_out_Wt"]
    logits = states @ output.T + arrays.get("decoder_ff_logit_out_b", 0.0)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _with_positions(embedded: np.ndarray) -> np.ndarray:
    length, width = embedded.shape
    signal = np.zeros((length, width))
    for position in range(length):
        for channel in range(width // 2):
            angle = position * math.exp(-channel * math.log(10000.0) / (width // 2 - 1))
            signal[position, channel], signal[position, channel + width // 2] = math.sin(angle), math.cos(angle)
    return math.sqrt(width) * embedded + signal


def _norm(arrays, model, prefix, states, ending=""):
    if model.norm_type == "rmsnorm":
        scale = arrays[f"{prefix}_rms_scale{ending}"]
        return scale * states / np.sqrt((states**2).mean(-1, keepdims=True) + 1e-6)
    scale, bias = arrays[f"{prefix}_ln_scale{ending}"], arrays[f"{prefix}_ln_bias{ending}"]
    return scale * (states - states.mean(-1, keepdims=True)) / np.sqrt(states.var(-1, keepdims=True) + 1e-6) + bias


def _before(arrays, model, prefix, states):
    return _norm(arrays, model, prefix, states, "_pre") if model.norm_position == "pre" else states


def _after(arrays, model, prefix, outputs, states):
    return outputs + states if model.norm_position == "pre" else _norm(arrays, model, prefix, outputs + states)


def _top(arrays, model, prefix, states):
    return _norm(arrays, model, prefix, states) if model.norm_position == "pre" else states


def _attend(arrays, model, prefix, states, source_states, is_causal=False):
    inputs = _before(arrays, model, f"{prefix}_Wo", states)
    seen = inputs if source_states is None else source_states
    query, key, value = (
        given @ arrays[f"{prefix}_W{letter}"] + arrays[f"{prefix}_b{letter}"]
        for letter, given in zip("qkv", (inputs, seen, seen), strict=True)
    )
    heads = []
    for columns in np.split(np.arange(model.d_model), model.heads):
        scores = query[:, columns] @ key[:, columns].T / math.sqrt(len(columns))
        if is_causal:
            scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ value[:, columns])
    outputs = np.concatenate(heads, -1) @ arrays[f"{prefix}_Wo"] + arrays[f"{prefix}_bo"]
    return _after(arrays, model, f"{prefix}_Wo", outputs, states)


def _recur(arrays, model, prefix, states):
    inputs = _before(arrays, model, prefix, states)
    cell, outputs = np.zeros(model.d_model), np.zeros_like(states)
    for position, row in enumerate(inputs):
        forget = 1 / (1 + np.exp(-(row @ arrays[f"{prefix}_Wf"] + arrays[f"{prefix}_bf"][0])))
        cell = forget * cell + (1 - forget) * (row @ arrays[f"{prefix}_W"])
        outputs[position] = np.maximum(cell, 0)
    return _after(arrays, model, f"{prefix}_ffn", outputs, states)


def _feed_forward(arrays, model, prefix, states):
    inner = _before(arrays, model, f"{prefix}_ffn", states) @ arrays[f"{prefix}_W1"] + arrays[f"{prefix}_b1"]
    outputs = _ACTIVATIONS[model.activation_function](inner) @ arrays[f"{prefix}_W2"] + arrays[f"{prefix}_b2"]
    return _after(arrays, model, f"{prefix}_ffn", outputs, states)


_ACTIVATIONS = {
    "relu": lambda inner: np.maximum(inner, 0),
    "silu": lambda inner: inner / (1 + np.exp(-inner)),
    "gelu": lambda inner: inner * np.vectorize(lambda number: (1 + math.erf(number / math.sqrt(2))) / 2)(inner),
    "quick_gelu": lambda inner: inner / (1 + np.exp(-1.702 * inner)),
}
