# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn attention MODEL --source TEXT --out FILE`: a picture of which source tokens each target token looks at."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_attn.loading.position_limits import source_positions, target_positions
from hf_attn.plotting import attention_html, attention_map, save_figure, token_labels
from hf_attn.text.source_texts import check_text, source_prefix

from .generate import length_limit, load_for_inference
from .out import check_writable


class CrossAttention(NamedTuple):
    """The cross-attention of one pair of texts.

    Attributes:
        weights: Of each layer that has a map, float32 of shape `(heads, target_length, source_length)`; a row sums
            to 1. Row t is of the step that predicts target token t.
        source_tokens: `source_length` labels.
        target_tokens: `target_length` labels.
    """

    weights: list[torch.Tensor]
    source_tokens: list[str]
    target_tokens: list[str]


@torch.inference_mode()
def cross_attention(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, target: str | None = None
) -> CrossAttention:
    """The cross-attention maps of a source and its target.

    Args:
        model: A seq2seq model that returns its maps: hf_attn ones always do, others under `eager` attention.
        tokenizer: Its tokenizer.
        source: The source text; the `prefix` of the model's config goes before it, as in training.
        target: The target text; `None`: what the model generates.

    Raises:
        ValueError: A text is empty, has a lone surrogate or is longer than the positions of the model, or the model
            returns no cross-attention maps.
    """
    for name, text in (("source", source), ("target", target)):
        if text is not None and not text.strip():
            raise ValueError(f"`{name}` must hold text, got {text!r}")
        check_text(name, text or "")
    inputs = tokenizer(source_prefix(model) + source, return_tensors="pt", verbose=False).to(model.device)
    _check_length("source", inputs["input_ids"].shape[1], source_positions(model))
    if target is None:
        generated = model.generate(**inputs, **length_limit(model, inputs["input_ids"].shape[1]))  # type: ignore[operator]
        # The first token starts the decoder; it is not predicted.
        labels = generated[:, 1:].clone()
    else:
        labels = tokenizer(text_target=target, return_tensors="pt", verbose=False)["input_ids"].to(model.device)
        _check_length("target", labels.shape[1], target_positions(model))
    maps = model(**inputs, labels=labels, output_attentions=True).cross_attentions
    weights = [layer_map[0].float().cpu() for layer_map in maps or () if layer_map is not None]
    if not weights:
        kind = getattr(model.config, "cross_attention_type", None)
        raise ValueError(
            "`MODEL` must have cross-attention to draw, but it returned no maps"
            + (
                f": its `cross_attention_type` is {kind!r}, by which the decoder sees one fixed context"
                if kind
                else ""
            )
        )
    return CrossAttention(
        weights,
        token_labels(tokenizer, inputs["input_ids"][0].tolist()),
        token_labels(tokenizer, labels[0].tolist()),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws an attention picture; see `hf-attn attention --help`."""
    parser = argparse.ArgumentParser(
        prog="hf-attn attention", description="Draw which source tokens each target token looks at."
    )
    parser.add_argument("model", metavar="MODEL", help="directory, or name on the Hub, of any seq2seq model")
    parser.add_argument("--source", required=True, metavar="TEXT", help="source text")
    parser.add_argument("--target", metavar="TEXT", help="target text; default: what the model generates")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write, .png or .html")
    parser.add_argument("--adapter", metavar="DIR", help="directory of a PEFT adapter for MODEL")
    parser.add_argument("--trust_remote_code", action="store_true", help="run modelling code that comes with MODEL")
    parser.add_argument("--layer", type=int, metavar="N", help="decoder layer, from 0; default: the last")
    parser.add_argument(
        "--head",
        default="mean",
        metavar="N",
        help="a head from 0, `mean` of all heads (default), or `all` side by side",
    )
    parsed = parser.parse_args(arguments)
    # Wrong arguments are refused before a model is loaded.
    if parsed.out.suffix not in (".png", ".html"):
        raise ValueError(f"`--out` must end in .png or .html, got {str(parsed.out)!r}")
    if parsed.out.is_dir():
        raise ValueError(f"`--out` must be a file, got the directory {str(parsed.out)!r}")
    check_writable(parsed.out)
    if parsed.head not in ("mean", "all") and not parsed.head.isdecimal():
        raise ValueError(f"`--head` must be the number of a head, `mean` or `all`, got {parsed.head!r}")
    # Only eager attention returns its weights in every family.
    model, tokenizer = load_for_inference(
        parsed.model, parsed.adapter, attn_implementation="eager", trust_remote_code=parsed.trust_remote_code
    )
    drawn = cross_attention(model, tokenizer, parsed.source, parsed.target)
    layer = len(drawn.weights) - 1 if parsed.layer is None else parsed.layer
    _check_number("layer", layer, len(drawn.weights))
    weights, names = drawn.weights[layer], None
    if parsed.head == "mean":
        title = f"layer {layer}, mean of {len(weights)} heads" if len(weights) > 1 else f"layer {layer}"
        weights = weights.mean(dim=0)
    elif parsed.head == "all":
        title = f"layer {layer}"
        names = [f"head {head}" for head in range(len(weights))]
    else:
        head = int(parsed.head)
        _check_number("head", head, len(weights))
        title = f"layer {layer}, head {head}"
        weights = weights[head]
    content = (weights, drawn.source_tokens, drawn.target_tokens, f"Cross-attention, {title}")
    if parsed.out.suffix == ".png":
        save_figure(attention_map(*content, names=names), parsed.out)
    else:
        parsed.out.parent.mkdir(parents=True, exist_ok=True)
        parsed.out.write_text(attention_html(*content, names=names), encoding="utf-8")


def _check_length(name: str, length: int, limit: int | None) -> None:
    if limit is not None and length > limit:
        raise ValueError(f"`{name}` must keep within the {limit} positions of the model, got {length} tokens")


def _check_number(name: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise ValueError(f"`--{name}` must be from 0 to {count - 1}, got {number}")
