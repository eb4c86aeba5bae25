# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Marian's options of a model (`special:model.yml`), as a plain description; and options for a description.

Their meaning is read off marian-dev's `src/models/transformer.h`, `src/layers/embedding.cpp` and `output.cpp`, and
was checked with marian-dev 1.12.42. Its `transformer-train-position-embeddings` has no effect there, nor here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


ACTIVATIONS = {"relu": "relu", "silu": "swish", "gelu": "gelu", "quick_gelu": "gelu"}
"""Marian's names for those of `transformers.activations.ACT2FN`."""

NORMS = {"n": "layernorm", "r": "rmsnorm"}
"""`norm_type` for the letters of `transformer-postprocess`."""

DECODERS = {"self-attention": "full_attention", "rnn": "ssru"}
"""Layer types for `transformer-decoder-autoreg`."""


# What the options mean has changed since in two places.
_LAST_UNCORRECTED = "1.12.0"
_CHECKED = "v1.12.42"


@dataclass(frozen=True)
class Description:
    """
    A model of Marian's type `transformer`.

    Attributes:
        vocabulary_sizes: Rows of the source's and the target's embedding.
        d_model, encoder_layers, decoder_layers, heads, encoder_ffn_dim, decoder_ffn_dim: Sizes.
        decoder: `full_attention` or `ssru`.
        activation_function: A name in `transformers.activations.ACT2FN`.
        norm_type: `layernorm` or `rmsnorm`.
        norm_position: `post`, or `pre` with a norm behind the last layer.
        shares_embedding: Source and target have one embedding, `Wemb`.
        ties_output: The output projection is the target's embedding.
        has_output_bias: The output projection has a bias.
    """

    vocabulary_sizes: tuple[int, int]
    d_model: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    decoder: str = "full_attention"
    activation_function: str = "relu"
    norm_type: str = "layernorm"
    norm_position: str = "post"
    shares_embedding: bool = True
    ties_output: bool = True
    has_output_bias: bool = True


def describe(options: Mapping[str, Any]) -> Description:
    """
    The description of a model.

    Raises:
        ValueError: An option is missing or no value that Marian writes, or asks for what has no counterpart; all of
            them are named.
    """
    faults: list[str] = []

    def number(name: str, default: int | None = None) -> int:
        value = options.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            faults.append(f"`{name}` must be a number from 1 on, got {value!r}")
            return 1
        return value

    sizes = options.get("dim-vocabs")
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(size) is int and size > 0 for size in sizes):
        faults.append(f"`dim-vocabs` must be the sizes of two vocabularies, got {sizes!r}")
        sizes = [1, 1]
    for name, (is_supported, meaning) in _NEEDED.items():
        if name in options and not is_supported(options[name]):
            faults.append(f"`{name}`: {options[name]!r} {meaning}")
    if not _in(("transformer",))(options.get("type")):
        faults.append(f"`type` must be 'transformer', got {options.get('type')!r}")
    autoregression = options.get("transformer-decoder-autoreg", "self-attention")
    if autoregression == "average-attention":
        faults.append(
            "`transformer-decoder-autoreg`: 'average-attention' averages all earlier positions under two gates; there "
            "is no such layer type"
        )
    elif not _in(DECODERS)(autoregression):
        faults.append(f"`transformer-decoder-autoreg` must be one of {', '.join(DECODERS)}, got {autoregression!r}")
    elif autoregression == "rnn":
        if options.get("dec-cell") != "ssru":
            faults.append(f"`dec-cell`: {options.get('dec-cell')!r} in a Transformer's decoder; 'ssru' alone is known")
        if options.get("layer-normalization", False) is not False:
            faults.append("`layer-normalization`: norms inside the cell have no counterpart")
    norm_type, norm_position = _norms(options, faults)
    if norm_position == "pre" and autoregression == "self-attention":
        faults.append(
            "`transformer-preprocess`: in a decoder of self-attention Marian normalizes keys and values of earlier "
            "positions in training, and does not in translation"
        )
    elif norm_position == "pre" and not _is_corrected(options):
        faults.append(
            f"`transformer-preprocess`: versions up to {_LAST_UNCORRECTED} do not normalize keys and values, "
            f"and `version` is {options.get('version')!r}"
        )
    ffn_dim = number("transformer-dim-ffn")
    shares_embedding = bool(options.get("tied-embeddings-all", False) or options.get("tied-embeddings-src", False))
    if shares_embedding and sizes[0] != sizes[1]:
        faults.append(f"`dim-vocabs` must be equal for one embedding of source and target, got {sizes}")
    description = Description(
        vocabulary_sizes=(sizes[0], sizes[1]),
        d_model=number("dim-emb"),
        encoder_layers=number("enc-depth"),
        decoder_layers=number("dec-depth"),
        heads=number("transformer-heads"),
        encoder_ffn_dim=ffn_dim,
        decoder_ffn_dim=number("transformer-decoder-dim-ffn")
        if options.get("transformer-decoder-dim-ffn")
        else ffn_dim,
        decoder=DECODERS.get(str(autoregression), "full_attention"),
        activation_function=_activation(options, faults),
        norm_type=norm_type,
        norm_position=norm_position,
        shares_embedding=shares_embedding,
        ties_output=bool(options.get("tied-embeddings-all", False) or options.get("tied-embeddings", False)),
        has_output_bias=not options.get("output-omit-bias", False),
    )
    if description.d_model % description.heads:
        faults.append(
            f"`dim-emb` must be divisible by `transformer-heads`, got {description.d_model} and {description.heads}"
        )
    if faults:
        raise ValueError(f"The model cannot be imported: {'; '.join(faults)}.")
    return description


def options_of(description: Description, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Marian's options for a description.

    Args:
        description: Of the model.
        known: Options that the model came with; what the description does not speak of is kept.
    """
    letter = {norm_type: letter for letter, norm_type in NORMS.items()}[description.norm_type]
    is_pre = description.norm_position == "pre"
    autoregression = {layer_type: name for name, layer_type in DECODERS.items()}[description.decoder]
    described = {
        "dim-vocabs": list(description.vocabulary_sizes),
        "dim-emb": description.d_model,
        "enc-depth": description.encoder_layers,
        "dec-depth": description.decoder_layers,
        "transformer-heads": description.heads,
        "transformer-dim-ffn": description.encoder_ffn_dim,
        "transformer-decoder-autoreg": autoregression,
        "transformer-ffn-activation": ACTIVATIONS[description.activation_function],
        "transformer-preprocess": letter if is_pre else "",
        "transformer-postprocess": "da" if is_pre else f"da{letter}",
        "transformer-postprocess-top": letter if is_pre else "",
        "tied-embeddings-all": description.shares_embedding and description.ties_output,
        "tied-embeddings-src": description.shares_embedding and not description.ties_output,
        "tied-embeddings": description.ties_output and not description.shares_embedding,
        "output-omit-bias": not description.has_output_bias,
    }
    if description.decoder == "ssru":
        described["dec-cell"] = "ssru"
    if description.decoder_ffn_dim != description.encoder_ffn_dim:
        described["transformer-decoder-dim-ffn"] = description.decoder_ffn_dim
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in described}
    return {**defaults, **(known or {}), **described}


def model_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training that describe the model, as its file would hold them."""
    described = options_of(Description((1, 1), 1, 1, 1, 1, 1, 2, decoder="ssru"))
    return {name: value for name, value in options.items() if name in described or name in _NEEDED}


def _norms(options: Mapping[str, Any], faults: list[str]) -> tuple[str, str]:
    """`norm_type` and `norm_position`; the letters stand for dropout, addition and a norm."""
    names = ("transformer-preprocess", "transformer-postprocess", "transformer-postprocess-top")
    given = tuple(str(options.get(name, default)) for name, default in zip(names, ("", "dan", ""), strict=True))
    written = tuple(letters.replace("d", "") for letters in given)
    for letter, norm_type in NORMS.items():
        if written == ("", f"a{letter}", ""):
            return norm_type, "post"
        if written == (letter, "a", letter):
            return norm_type, "pre"
    faults.append(
        f"{', '.join(f'`{name}`' for name in names)} must be '', 'dan', '' (norms behind each branch) or 'n', 'da', "
        f"'n' (norms before it and at the top), with r in place of n for RMS norms, got {given}"
    )
    return "layernorm", "post"


def _activation(options: Mapping[str, Any], faults: list[str]) -> str:
    """A name in `ACT2FN`. Marian's gelu was x * sigmoid(1.702 x) first."""
    name = options.get("transformer-ffn-activation", "swish")
    ours = {theirs: ours for ours, theirs in ACTIVATIONS.items() if ours != "quick_gelu"}
    if not _in(ours)(name):
        faults.append(f"`transformer-ffn-activation` must be one of {', '.join(ours)}, got {name!r}")
        return "relu"
    if name == "gelu" and _version(options) is None:
        faults.append(
            f"`transformer-ffn-activation`: 'gelu' is another function up to version {_LAST_UNCORRECTED} than later, "
            f"and `version` is {options.get('version')!r}"
        )
    return "quick_gelu" if name == "gelu" and not _is_corrected(options) else ours[name]


def _version(options: Mapping[str, Any]) -> tuple[int, ...] | None:
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", str(options.get("version", "")))
    return None if match is None else tuple(map(int, match.groups()))


def _is_corrected(options: Mapping[str, Any]) -> bool:
    version = _version(options)
    return version is not None and version > tuple(map(int, _LAST_UNCORRECTED.split(".")))


def _in(allowed: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in allowed


def _off(value: Any) -> bool:
    return value in (False, 0, "", None, [])


# What may be asked for in one way only.
_NEEDED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "right-left": (_off, "writes from right to left"),
    "input-types": (_off, "reads more than two sequences, or classes"),
    "ulr": (_off, "has universal lexical representations"),
    "lemma-dim-emb": (_off, "has factored vocabularies"),
    "lemma-dependency": (_off, "has factored vocabularies"),
    "factors-dim-emb": (_off, "has factored vocabularies"),
    "transformer-no-projection": (_off, "has heads without an output projection"),
    "transformer-tied-layers": (_off, "has decoder layers that share weights"),
    "transformer-pool": (_off, "pools the source in place of attending to it"),
    "transformer-ffn-depth": (lambda value: value == 2, "is not the two layers of a feed-forward"),
    "transformer-decoder-ffn-depth": (lambda value: value in (0, 2), "is not the two layers of a feed-forward"),
    "transformer-postprocess-emb": (lambda value: value in ("", "d"), "is more than dropout on the embedding"),
    "transformer-no-bias": (_off, "has projections without biases"),
    "transformer-no-affine": (_off, "has norms without scale and bias"),
    "transformer-rnn-projection": (_off, "has a projection behind the recurrence"),
}

# What a file of today says beside that, in files of Firefox's students.
_DEFAULTS: dict[str, Any] = {
    "bert-train-type-embeddings": True,
    "bert-type-vocab-size": 2,
    "dec-cell": "gru",
    "dec-cell-base-depth": 2,
    "dec-cell-high-depth": 1,
    "dim-rnn": 1024,
    "enc-cell": "gru",
    "enc-cell-depth": 1,
    "enc-type": "bidirectional",
    "input-types": [],
    "layer-normalization": False,
    "lemma-dim-emb": 0,
    "right-left": False,
    "skip": False,
    "transformer-aan-activation": "swish",
    "transformer-aan-depth": 2,
    "transformer-aan-nogate": False,
    "transformer-dim-aan": 2048,
    "transformer-ffn-depth": 2,
    "transformer-guided-alignment-layer": "last",
    "transformer-no-projection": False,
    "transformer-pool": False,
    "transformer-postprocess-emb": "d",
    "transformer-tied-layers": [],
    "transformer-train-position-embeddings": False,
    "type": "transformer",
    "ulr": False,
    "ulr-dim-emb": 0,
    "ulr-trainable-transformation": False,
    "version": _CHECKED,
}
