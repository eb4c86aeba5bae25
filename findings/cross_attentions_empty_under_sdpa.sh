#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# `model(..., output_attentions=True)` of these encoder-decoders returns an empty tuple for each kind of attention, and
# `generate` one empty tuple a step: under `sdpa`, which they use by default, the maps are never made. There is no
# error. One warning is logged in the life of a process, so that a second model, and every later call, says nothing.
# With `attn_implementation="eager"` there is one map a layer. `config.output_attentions = True` is an error instead.
# The same was seen with transformers 5.20.0, 5.22.0 and 5.23.0.
# Seen on 2026-11-30 with torch 2.13.0, transformers 5.24.0, on a CPU:
#   torch 2.13.0, transformers 5.24.0
#   bart, sdpa: (), generate ((), (), ()), 1 warnings
#     `sdpa` attention does not support `output_attentions=True`
#   blenderbot, sdpa: (), generate ((), (), ()), 0 warnings
#   blenderbot-small, sdpa: (), generate ((), (), ()), 0 warnings
#   encoder-decoder, sdpa: (), generate ((), (), ()), 0 warnings
#   m2m_100, sdpa: (), generate ((), (), ()), 0 warnings
#   marian, sdpa: (), generate ((), (), ()), 0 warnings
#   mbart, sdpa: (), generate ((), (), ()), 0 warnings
#   mt5, sdpa: (), generate ((), (), ()), 0 warnings
#   pegasus, sdpa: (), generate ((), (), ()), 0 warnings
#   plbart, sdpa: (), generate ((), (), ()), 0 warnings
#   t5, sdpa: (), generate ((), (), ()), 0 warnings
#   umt5, sdpa: (), generate ((), (), ()), 0 warnings
#   umt5, eager: maps of [(1, 2, 5, 8), (1, 2, 5, 8)]
#   ValueError: The `output_attentions` attribute is not supported when using the `attn_implementation` set to sdpa
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 numpy==2.4.6
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import logging

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForSeq2SeqLM

FAMILIES = "bart blenderbot blenderbot-small encoder-decoder m2m_100 marian mbart mt5 pegasus plbart t5 umt5".split()
SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
TINY = SPECIAL | {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
TINY |= dict.fromkeys(["encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers"], 2)
TINY |= dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
BERT = {"model_type": "bert", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16}
BERT |= {"num_hidden_layers": 2, "num_attention_heads": 2}
PAIR = SPECIAL | {"encoder": BERT, "decoder": BERT | {"is_decoder": True, "add_cross_attention": True}}

said: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
transformers.logging.disable_default_handler()


@torch.no_grad()
def cross_attentions(family: str, **choice: str) -> tuple[str, tuple, tuple]:
    """The backend in use, and what a forward pass of 8 source and 5 target tokens and a search of 3 steps return."""
    config = CONFIG_MAPPING[family](**(PAIR if family == "encoder-decoder" else TINY))
    model = AutoModelForSeq2SeqLM.from_config(config, **choice).eval()
    source = torch.arange(3, 11)[None]
    maps = model(input_ids=source, decoder_input_ids=source[:, :5], output_attentions=True).cross_attentions
    search = {"output_attentions": True, "return_dict_in_generate": True, "max_new_tokens": 3, "min_new_tokens": 3}
    return model.config._attn_implementation, maps, model.generate(source, **search).cross_attentions


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
changed = False
for family in FAMILIES:
    said.clear()
    backend, maps, searched = cross_attentions(family)
    warnings = [text for text in said if "output_attentions" in text]
    print(f"{family}, {backend}: {maps}, generate {searched}, {len(warnings)} warnings")
    changed |= backend != "sdpa" or maps != () or searched != ((), (), ()) or len(warnings) != (family == "bart")
    for text in warnings:
        print(f"  {text.split('. ')[0]}")
    backend, maps, searched = cross_attentions(family, attn_implementation="eager")
    shapes = [tuple(layer.shape) for layer in maps]
    changed |= shapes != [(1, 2, 5, 8)] * 2 or [len(step) for step in searched] != [2, 2, 2]
print(f"{family}, {backend}: maps of {shapes}")
try:
    CONFIG_MAPPING["bart"](**TINY, attn_implementation="sdpa").output_attentions = True
except ValueError as error:
    print(f"ValueError: {str(error).split('. ')[0]}")
else:
    changed = True
if changed:
    raise SystemExit("This is not what was seen before.")
EOF
