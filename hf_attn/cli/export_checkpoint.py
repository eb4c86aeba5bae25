# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn export MODEL OUT --format NAME`: a checkpoint of hf_attn for another engine."""

import argparse
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Exports a checkpoint; see `hf-attn export --help`."""
    parser = argparse.ArgumentParser(
        prog="hf-attn export",
        description="Write a checkpoint of hf_attn for another engine, checked where that can be run.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a directory, the name of a checkpoint on the Hub, or an adapter"
    )
    parser.add_argument("out", metavar="OUT", help="directory to write to: new, or empty")
    parser.add_argument("--format", required=True, help="marian or transformers")
    parser.add_argument("--quantization", help="int8: 8 bits, of marian")
    parser.add_argument("--adapter", metavar="DIR", help="an adapter for MODEL, which is merged into it first")
    parsed = parser.parse_args(arguments)

    from hf_attn.interop.exporting import export_checkpoint

    for line in export_checkpoint(parsed.model, parsed.out, parsed.format, parsed.quantization, parsed.adapter):
        print(line)
