# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn tokenizer FILES... --vocab_size N --out DIR`: train a tokenizer that `AutoTokenizer` loads."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from hf_attn.data import iterate_texts, train_tokenizer
from hf_attn.text.tokenizer_files import TOKENIZER_FILES

from .out import check_writable


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains a tokenizer on files and saves it; see `hf-attn tokenizer --help`."""
    parser = argparse.ArgumentParser(
        prog="hf-attn tokenizer", description="Train a tokenizer that AutoTokenizer loads."
    )
    parser.add_argument(
        "files", metavar="FILES", nargs="+", type=Path, help="json, jsonl, csv, parquet or txt files, gzipped or not"
    )
    parser.add_argument(
        "--vocab_size", type=int, required=True, help="number of tokens, 256 bytes and 5 special included"
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to save to")
    parser.add_argument("--model", choices=("bpe", "unigram"), default="bpe", help="default: %(default)s")
    parser.add_argument(
        "--fields", nargs="+", help="columns to train on, such as translation.en; default: all that hold text"
    )
    parser.add_argument(
        "--model_max_length", type=int, default=1024, help="longest input in tokens; default: %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a tokenizer that --out holds")
    parsed = parser.parse_args(arguments)
    _check_out(parsed.out, parsed.overwrite)
    tokenizer = train_tokenizer(
        iterate_texts(parsed.files, parsed.fields),
        parsed.vocab_size,
        parsed.model,
        model_max_length=parsed.model_max_length,
        show_progress=sys.stderr.isatty(),
    )
    _save(tokenizer, parsed.out)
    sys.stdout.write(f"{len(tokenizer)} tokens saved to {parsed.out}\n")


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a directory, got the file {str(out)!r}")
    present = [name for name in TOKENIZER_FILES if (out / name).exists()]
    if present and not overwrite:
        raise ValueError(
            f"`--out` must not hold another tokenizer, but {str(out)!r} has {', '.join(present)}: choose another "
            "directory, or pass `--overwrite`"
        )
    check_writable(out)


def _save(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes beside `out` first, so that whoever reads `out` finds each file whole; leaves other files there alone."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        tokenizer.save_pretrained(temporary)
        out.mkdir(exist_ok=True)
        written = sorted(path.name for path in Path(temporary).iterdir())
        for name in written:
            os.replace(Path(temporary, name), out / name)
    for name in set(TOKENIZER_FILES) - set(written):
        (out / name).unlink(missing_ok=True)
