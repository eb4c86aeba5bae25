# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn generate MODEL [--adapter DIR]`: each line of standard input becomes one line of standard output."""

import argparse
import io
import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import set_seed

# Registers the family with the Auto classes.
import hf_attn  # noqa: F401
from hf_attn.generation import UTILITIES, Glossary, TextGenerator, length_limit, load_for_inference, pack_linears
from hf_attn.text.language_codes import language_token_id


__all__ = ["length_limit", "load_for_inference", "main"]

# Flag -> type, placeholder and help of what `TextGenerator` takes.
_OPTIONS = {
    "num_beams": (int, "N", "default: that of the model's generation config; 1 with --do_sample"),
    "num_return_sequences": (
        int,
        "N",
        "write the N best outputs of each line: the line's number, from 1, the score and the text, separated by tabs",
    ),
    "length_penalty": (
        float,
        "X",
        "beams divide the log-probability of an output by its length to the power of X: above 0 favours long ones",
    ),
    "no_repeat_ngram_size": (int, "N", "let no N tokens in a row occur twice in an output"),
    "max_new_tokens": (
        int,
        "N",
        "longest output in tokens; default: that of the generation config, or else twice the source and 16 more",
    ),
    "temperature": (float, "X", "with --do_sample: divide the logits by X"),
    "top_k": (int, "N", "with --do_sample: only the N likeliest tokens; 0: all"),
    "top_p": (float, "X", "with --do_sample: only the likeliest tokens that together have probability X"),
    "prefix": (str, "TEXT", "put TEXT before each line, as T5 wants; default: the prefix that MODEL was trained with"),
    "num_candidates": (int, "N", "candidates of --mbr; default: 32"),
    "tokens_per_batch": (
        int,
        "N",
        "most source tokens of a batch, padding included, times the beams or samples of each; default: 8192",
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Generates from standard input; see `hf-attn generate --help`."""
    parsed = _parse(arguments)
    if parsed.forced_prefix is not None and not parsed.forced_prefix.strip():
        raise ValueError(f"`--forced_prefix` must hold text, got {parsed.forced_prefix!r}")
    glossary = Glossary.from_file(parsed.glossary) if parsed.glossary is not None else None
    weights = "int8" if parsed.int8 else "float32" if parsed.fast and not torch.cuda.is_available() else None
    model, tokenizer = load_for_inference(parsed.model, parsed.adapter, trust_remote_code=parsed.trust_remote_code)
    if weights is not None:
        model = packed(model, weights)
    options = {name: getattr(parsed, name) for name in _OPTIONS if getattr(parsed, name) is not None}
    options |= {name: True for name in ("do_sample", "truncation") if getattr(parsed, name)}
    if parsed.src_lang is not None:
        language_token_id(tokenizer, "--src_lang", parsed.src_lang)
        tokenizer.src_lang = parsed.src_lang
    if parsed.tgt_lang is not None:
        options["forced_bos_token_id"] = language_token_id(tokenizer, "--tgt_lang", parsed.tgt_lang)
        tokenizer.tgt_lang = parsed.tgt_lang
    generator = TextGenerator(model, tokenizer, glossary=glossary, mbr=parsed.mbr, fast=parsed.fast, **options)
    if parsed.seed is not None:
        if not generator.do_sample:
            raise ValueError(f"`--seed` has an effect only with `--do_sample`, got {parsed.seed}")
        set_seed(parsed.seed)
    for stream in (sys.stdin, sys.stdout):
        # A line ends at a line feed and nowhere else, whatever the platform.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", newline="\n")
    with_scores = parsed.num_return_sequences is not None
    for number, hypotheses in enumerate(generator.stream(sys.stdin, parsed.forced_prefix, with_scores), start=1):
        for text, score in hypotheses if with_scores else hypotheses[:1]:
            line = " ".join(text.split())
            sys.stdout.write(f"{number}\t{score:.4f}\t{line}\n" if with_scores else f"{line}\n")
        sys.stdout.flush()


def packed(model: Any, weights: str) -> Any:
    """A loaded model on the CPU, made ready by `pack_linears`; an adapter is merged into it first."""
    # What is merged must not be rounded to fewer bits than the sum of both has.
    model = model.to("cpu").float()
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return pack_linears(model, weights)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hf-attn generate",
        description="Lines of standard input to lines of standard output, in order. An empty line stays empty.",
    )
    parser.add_argument("model", metavar="MODEL", help="directory, or name on the Hub, of any seq2seq model")
    parser.add_argument("--adapter", metavar="DIR", help="directory of a PEFT adapter for MODEL")
    parser.add_argument("--trust_remote_code", action="store_true", help="run modelling code that comes with MODEL")
    for name, (value_type, placeholder, text) in _OPTIONS.items():
        parser.add_argument(f"--{name}", type=value_type, metavar=placeholder, help=text)
    parser.add_argument(
        "--truncation",
        action="store_true",
        help="cut lines to the positions of MODEL; without it a longer line is an error",
    )
    parser.add_argument(
        "--src_lang",
        metavar="CODE",
        help="language of the lines, for tokenizers with a token for each; default: the one that it was saved with",
    )
    parser.add_argument("--tgt_lang", metavar="CODE", help="language of the outputs, likewise")
    parser.add_argument("--do_sample", action="store_true", help="draw tokens instead of searching for the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", help="with --do_sample: makes a run repeatable")
    parser.add_argument(
        "--mbr",
        choices=sorted(UTILITIES),
        help="choose by minimum Bayes risk among samples (--do_sample) or the best of as many beams: the output that "
        "this score finds most like the others",
    )
    parser.add_argument(
        "--glossary",
        metavar="FILE",
        help="lines of a source term, a tab, and the target term that it must become; needs beams",
    )
    parser.add_argument(
        "--fast", action="store_true", help="for hf_attn models: the same outputs in less time, without --do_sample"
    )
    parser.add_argument(
        "--int8", action="store_true", help="on a CPU: round the weights to eight bits, faster still and less exact"
    )
    parser.add_argument("--forced_prefix", metavar="TEXT", help="what every output starts with")
    return parser.parse_args(arguments)
