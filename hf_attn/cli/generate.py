# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn generate MODEL [--adapter DIR]`: each line of standard input becomes one line of standard output."""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

# Registers the family with the Auto classes.
import hf_attn  # noqa: F401
from hf_attn.adapters import load_adapter


# Lines that are sorted by length together; output follows after so many.
_WINDOW = 4096


def load_for_inference(
    name: str, adapter: str | None = None, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A seq2seq model in evaluation mode, on the GPU where there is one, and its tokenizer.

    Args:
        name: A directory or the name of a checkpoint on the Hub.
        adapter: A directory of a PEFT adapter to put on it.
        options: For `AutoModelForSeq2SeqLM.from_pretrained`, such as `attn_implementation`.

    Raises:
        ValueError: There is no such model or adapter, or the adapter was made for another base.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(name, **options)
    except OSError as error:
        raise ValueError(f"`MODEL` must be a checkpoint with a tokenizer, got {name!r}: {error}") from error
    if adapter is not None:
        if not Path(adapter, "adapter_config.json").is_file():
            raise ValueError(f"`--adapter` must be the directory of a PEFT adapter, got {adapter!r}")
        # A run saves how its adapter is to generate beside it.
        if Path(adapter, "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(adapter)
        model = load_adapter(model, adapter)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def main(arguments: Sequence[str] | None = None) -> None:
    """Generates from standard input; see `hf-attn generate --help`."""
    parser = argparse.ArgumentParser(
        prog="hf-attn generate",
        description="Lines of standard input to lines of standard output, in order. An empty line stays empty.",
    )
    parser.add_argument("model", metavar="MODEL", help="directory, or name on the Hub, of any seq2seq model")
    parser.add_argument("--adapter", metavar="DIR", help="directory of a PEFT adapter for MODEL")
    parser.add_argument("--num_beams", type=int, metavar="N", help="default: that of the model's generation config")
    parser.add_argument(
        "--max_new_tokens",
        type=int,
        metavar="N",
        help="longest output in tokens; default: that of the generation config, or else twice the source and 16 more",
    )
    parser.add_argument(
        "--tokens_per_batch",
        type=int,
        default=4096,
        metavar="N",
        help="most source tokens, padding included, that go through the model at once; default: %(default)s",
    )
    parsed = parser.parse_args(arguments)
    for name in ("num_beams", "max_new_tokens", "tokens_per_batch"):
        value = getattr(parsed, name)
        if value is not None and value < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {value}")
    model, tokenizer = load_for_inference(parsed.model, parsed.adapter)
    for stream in (sys.stdin, sys.stdout):
        # A line ends at a line feed and nowhere else, whatever the platform.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", newline="\n")
    outputs = generate_lines(
        model,
        tokenizer,
        sys.stdin,
        num_beams=parsed.num_beams,
        max_new_tokens=parsed.max_new_tokens,
        tokens_per_batch=parsed.tokens_per_batch,
    )
    for output in outputs:
        sys.stdout.write(f"{output}\n")
        sys.stdout.flush()


def generate_lines(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Iterable[str],
    *,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    tokens_per_batch: int = 4096,
) -> Iterator[str]:
    """One output a line, in the order of the lines; batches are made of lines of like length.

    Args:
        model: A seq2seq model, in evaluation mode.
        tokenizer: Its tokenizer.
        lines: Read as they come, 4096 at a time. White space around a line is dropped; a line without more gives "".
        num_beams: `None`: that of the model's generation config.
        max_new_tokens: `None`: the limit of the generation config, or else twice the longest source of the batch and
            16 more, within `max_position_embeddings`.
        tokens_per_batch: Most source tokens of a batch, padding included; a longer line is a batch of its own.

    Raises:
        ValueError: The model refuses a batch; the message names its longest line, counted from 1.
    """
    iterator, first = iter(lines), 1
    while window := [line.strip() for line in islice(iterator, _WINDOW)]:
        outputs = [""] * len(window)
        filled = [place for place, line in enumerate(window) if line]
        lengths = dict(zip(filled, _num_tokens(tokenizer, [window[place] for place in filled]), strict=True))
        for batch in _batches(lengths, tokens_per_batch):
            try:
                texts = _generate(model, tokenizer, [window[place] for place in batch], num_beams, max_new_tokens)
            except ValueError as error:
                raise ValueError(f"line {first + batch[0]} ({lengths[batch[0]]} tokens): {error}") from error
            for place, text in zip(batch, texts, strict=True):
                outputs[place] = " ".join(text.split())
        yield from outputs
        first += len(window)


def _num_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    return [len(token_ids) for token_ids in tokenizer(texts)["input_ids"]] if texts else []


def _batches(lengths: dict[int, int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Places from the longest to the shortest, cut so that rows times the longest stay within the budget."""
    batch: list[int] = []
    for place in sorted(lengths, key=lengths.__getitem__, reverse=True):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.inference_mode()
def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    num_beams: int | None,
    max_new_tokens: int | None,
) -> list[str]:
    inputs = tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
    options: dict[str, Any] = {} if num_beams is None else {"num_beams": num_beams}
    output_ids = model.generate(  # type: ignore[operator]
        **inputs, **options, **length_limit(model, inputs["input_ids"].shape[1], max_new_tokens)
    )
    return tokenizer.batch_decode(output_ids, skip_special_tokens=True)


def length_limit(model: PreTrainedModel, source_length: int, max_new_tokens: int | None = None) -> dict[str, int]:
    """The keyword of `generate` that bounds the output: as asked, else by the generation config, else by the source.

    Args:
        model: Its `generation_config` and `config.max_position_embeddings` are read.
        source_length: In tokens.
        max_new_tokens: The limit asked for.
    """
    if max_new_tokens is not None:
        return {"max_new_tokens": max_new_tokens}
    if model.generation_config.max_new_tokens is not None or model.generation_config.max_length is not None:
        return {}
    positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    return {"max_new_tokens": min(2 * source_length + 16, positions - 1)}
