#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# `from_pretrained` makes the parameters that a checkpoint lacks from uninitialised memory and leaves the rest to
# `_init_weights`. The one of PreTrainedModel knows Linear, Embedding, Conv, LSTM and norms, but no GRU, RNN or cell
# and no bare `nn.Parameter`. Those keep whatever the memory held, although `Model(config)` sets them; the report of
# missing keys says that they were "newly initialized". Here torch fills uninitialised memory with NaN, so that it
# shows; without that it is often 0, or the numbers of a tensor that was freed.
# The same was seen with transformers 5.20.0, 5.22.0 and 5.23.0.
# Seen on 2026-11-30 with torch 2.13.0, transformers 5.24.0, on a CPU:
#   torch 2.13.0, transformers 5.24.0
#   missing keys: 21 of 22
#   bare: uninitialised
#   embedding: initialised
#   linear: initialised
#   norm: initialised
#   lstm: initialised
#   gru: uninitialised
#   rnn: uninitialised
#   cell: uninitialised
#   uninitialised in `TinyModel(config)`: 0
#   - MISSING: those params were newly initialized because missing from the checkpoint
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 numpy==2.4.6
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
"$folder/venv/bin/python" -I - <<'EOF'
import logging

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

UNINITIALISED = {"gru", "rnn", "cell", "bare"}

said: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
transformers.logging.disable_default_handler()
transformers.logging.disable_progress_bar()


class TinyConfig(PreTrainedConfig):
    model_type = "tiny"


class TinyModel(PreTrainedModel):
    """One part of each kind; it keeps the `_init_weights` of PreTrainedModel."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(8, 4)
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.lstm = nn.LSTM(4, 4)
        self.gru = nn.GRU(4, 4)
        self.rnn = nn.RNN(4, 4)
        self.cell = nn.GRUCell(4, 4)
        self.bare = nn.Parameter(torch.ones(4))
        self.post_init()


def uninitialised(model: TinyModel) -> set[str]:
    """The parts that hold NaN."""
    return {name.split(".")[0] for name, value in model.named_parameters() if value.isnan().any()}


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
torch.use_deterministic_algorithms(True)  # torch then fills uninitialised memory with NaN
made = TinyModel(TinyConfig())
made.save_pretrained("checkpoint", state_dict={"embedding.weight": made.embedding.weight})
loaded, info = TinyModel.from_pretrained("checkpoint", output_loading_info=True)
found = uninitialised(loaded)
print(f"missing keys: {len(info['missing_keys'])} of {len(loaded.state_dict())}")
for part in dict.fromkeys(name.split(".")[0] for name, _ in made.named_parameters()):
    print(f"{part}: {'uninitialised' if part in found else 'initialised'}")
print(f"uninitialised in `TinyModel(config)`: {len(uninitialised(made))}")
report = "".join(said)
print(*(line.split(". ")[0] for line in report.splitlines() if line.startswith("- ")))
if found != UNINITIALISED or uninitialised(made) or "newly initialized" not in report:
    raise SystemExit("This is not what was seen before.")
EOF
