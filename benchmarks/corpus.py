# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The sentence pairs that translators are measured on: Multi30k English-German, or what ships with the recipes."""

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_attn.data import train_tokenizer, translation_preprocessor


REPOSITORY = Path(__file__).resolve().parents[1]
EMBEDDED = REPOSITORY / "recipes" / "data" / "tatoeba_en_de_formal"
LONGEST = 128
"""Tokens to which each side is cut, as the recipes do."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Corpus:
    """Pairs of an English and a German sentence, by split; `test` is `test_2016_flickr` in Multi30k."""

    name: str
    folder: Path
    test_file: str

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of `train`, `validation` or `test`, in the order of the file."""
        name = self.test_file if split == "test" else split
        with gzip.open(self.folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line)["translation"] for line in lines]
        return [(row["en"], row["de"]) for row in rows]


def find_corpus() -> Corpus:
    """Multi30k under `HF_ATTN_DATA` or `../shared/data`; where it is not, says so and takes the embedded pairs."""
    root = Path(os.environ.get("HF_ATTN_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / "translation" / "multi30k_en_de"
    if folder.is_dir():
        return Corpus("Multi30k", folder, "test_2016_flickr")
    print(
        "Multi30k is skipped: it is not under ../shared/data (HF_ATTN_DATA names another directory). Measuring on "
        f"{EMBEDDED.relative_to(REPOSITORY)} instead; its sentences are shorter, so that its figures are others."
    )
    return Corpus("Tatoeba, embedded", EMBEDDED, "test")


def tokenizer_for(pairs: Sequence[Pair], vocab_size: int = 8000) -> PreTrainedTokenizerBase:
    """The tokenizer that the recipes would train on both sides."""
    return train_tokenizer((text for pair in pairs for text in pair), vocab_size)


def tokenized(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Rows of `input_ids`, `attention_mask` and `labels`, as the recipes make them."""
    preprocess = translation_preprocessor(tokenizer, "en", "de", LONGEST, LONGEST)
    sources, targets = zip(*pairs, strict=True)
    return Dataset.from_dict(preprocess({"en": sources, "de": targets}))
