# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Inputs grown by coverage: `python -m tests.fuzz.coverage_guided TARGET FOLDER -runs=N`, with atheris installed.

The targets are `config` and `checkpoint`; FOLDER is taken for their files. What ends a run, apart from the number of
runs, is an exception that is none of the package's errors, or an input that takes more than 20 seconds.
"""

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

# The settings of the tests, before the libraries are imported.
import tests.conftest  # noqa: F401


# What is grown towards: the branches of the readers.
with atheris.instrument_imports(
    include=[
        "hf_attn.configuration_hf_attn",
        "hf_attn.configuration_mechanisms",
        "hf_attn.loading.checkpoint_files",
        "hf_attn.loading.json_files",
    ]
):
    import hf_attn
    from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES
    from hf_attn.loading.checkpoint_files import check_size, reading_checkpoint
    from hf_attn.loading.json_files import read_json_object

from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from tests.small_checkpoint import save_adapter, save_checkpoint


FILES = ["config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json"]
WORDS = sorted(hf_attn.HfAttnConfig.known_keywords() | set(LAYER_TYPES) | set(CROSS_ATTENTION_TYPES))
WORDS += ["weight_map", "transformers_weights", "base_model_name_or_path", "dtype", "shape", "data_offsets", "F32"]
INDEX = {"metadata": {}, "weight_map": {"model.shared.weight": "model.safetensors"}}


def config_target(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Contents to begin with, and what reads others as a `config.json`."""

    def read(content: bytes) -> None:
        file = folder / "config.json"
        file.write_bytes(content)
        hf_attn.HfAttnConfig.from_dict(read_json_object(file, "`config`:")).to_dict()

    presets = [hf_attn.HfAttnConfig.from_preset(name).to_json_string().encode() for name in hf_attn.PRESETS]
    return [*presets, b'{"encoder_layers": 2, "encoder_layer_types": ["lstm", "gru"]}'], read


def checkpoint_target(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """As `config_target` for a file of a checkpoint; the first byte says which."""
    whole = save_checkpoint(folder / "whole")
    adapter = save_adapter(folder / "adapter", whole)
    (whole / FILES[2]).write_text(json.dumps(INDEX))
    shutil.copy(adapter / FILES[3], whole)
    copy = folder / "copy"

    def read(content: bytes) -> None:
        name = FILES[content[0] % len(FILES)] if content else FILES[0]
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in FILES[:2] if name in FILES[:2] else [*FILES[:2], name]:
            shutil.copy(whole / file, copy)
        (copy / name).write_bytes(content[1:])
        with reading_checkpoint("model", str(copy)):
            config = AutoConfig.from_pretrained(str(copy), trust_remote_code=False)
            check_size(str(copy), config, AutoModelForSeq2SeqLM)
            with safe_open(copy / FILES[1], framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    tensors.get_tensor(key)

    return [bytes([number]) + (whole / name).read_bytes() for number, name in enumerate(FILES)], read


TARGETS = {"config": config_target, "checkpoint": checkpoint_target}


def main() -> None:
    target, folder, *options = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    beginnings, read = TARGETS[target](Path(folder))
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for number, content in enumerate(beginnings):
        (corpus / f"beginning-{number}").write_bytes(content)

    def one_input(content: bytes) -> None:
        try:
            read(content)
        except (ValueError, TypeError, ImportError) as error:
            if "`" not in str(error):
                raise

    words = Path(folder) / "words"
    words.write_text("".join(json.dumps(json.dumps(word)) + "\n" for word in WORDS))
    limits = ["-timeout=20", "-rss_limit_mb=0", "-seed=1", "-max_len=20000", f"-artifact_prefix={folder}/"]
    limits.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
