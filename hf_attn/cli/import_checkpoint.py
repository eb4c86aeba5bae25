# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn import SOURCE OUT`: a checkpoint of others becomes one of hf_attn."""

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Imports a checkpoint; see `hf-attn import --help`."""
    parser = argparse.ArgumentParser(
        prog="hf-attn import",
        description="Make an hf_attn checkpoint of one of transformers, or of a folder of Firefox Translations or "
        "Marian. Both models are run on the same inputs first, and nothing is written unless they agree.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a directory, or the name of a checkpoint on the Hub")
    parser.add_argument("out", metavar="OUT", help="directory to write to: new, or empty")
    parser.add_argument("--adapter", metavar="DIR", help="a LoRA that PEFT trained on SOURCE; goes to OUT/adapter")
    parsed = parser.parse_args(arguments)

    from hf_attn.interop.importing import import_checkpoint

    imported = import_checkpoint(parsed.source, parsed.out, parsed.adapter)
    if imported.tokenizer is None:
        print("`SOURCE` has no tokenizer, so `OUT` has none.", file=sys.stderr)
    if imported.proof is not None:
        print(f"Equal to the source: {imported.proof}.")
    if imported.adapter_proof is not None:
        print(f"Equal with the adapter: {imported.adapter_proof}.")
    config = imported.model.config
    print(
        f"{parsed.out}: {imported.model.num_parameters():,} parameters, {config.encoder_layers} encoder and "
        f"{config.decoder_layers} decoder layers."
    )
