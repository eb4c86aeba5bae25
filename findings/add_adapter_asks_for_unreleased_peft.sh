#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# transformers 5.24.0 asks for PEFT 0.22.0 in the methods that its models have for adapters; on 2026-11-30 the newest on
# PyPI was 0.21.2. `add_adapter` raises a ValueError. `load_adapter` does not ask, and gives the very logits of the
# adapter that it loads; of the model that it leaves, `save_pretrained` and the methods that choose or switch off
# adapters raise the same. What is PEFT's own works: `get_peft_model`, `PeftModel.from_pretrained`, and their saving.
# Seen on 2026-11-30 with torch 2.13.0, transformers 5.24.0, peft 0.21.2, on a CPU:
#   torch 2.13.0, transformers 5.24.0, peft 0.21.2
#   bart:
#     the very logits of get_peft_model: PeftModel.from_pretrained, from_pretrained, load_adapter
#     ValueError: add_adapter, save_pretrained, set_adapter, enable_adapters, disable_adapters,
#       active_adapters, get_adapter_state_dict, delete_adapter
#     The version of PEFT you are using is not compatible, please use a version >= 0.22.0
#   t5:
#     the very logits of get_peft_model: PeftModel.from_pretrained, from_pretrained, load_adapter
#     ValueError: add_adapter, save_pretrained, set_adapter, enable_adapters, disable_adapters,
#       active_adapters, get_adapter_state_dict, delete_adapter
#     The version of PEFT you are using is not compatible, please use a version >= 0.22.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 peft==0.21.2 numpy==2.4.6
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import textwrap
from collections.abc import Callable

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import CONFIG_MAPPING, AutoModelForSeq2SeqLM

SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
TINY = SPECIAL | {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
TINY |= dict.fromkeys(["encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers"], 2)
TINY |= dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
TARGETS = {"bart": ["q_proj", "v_proj"], "t5": ["q", "v"]}
REFUSAL = "The version of PEFT you are using is not compatible, please use a version >= 0.22.0"


def made(family: str) -> torch.nn.Module:
    """The same random model each time."""
    torch.manual_seed(0)
    return AutoModelForSeq2SeqLM.from_config(CONFIG_MAPPING[family](**TINY)).eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    source = torch.arange(3, 11)[None]
    return model(input_ids=source, decoder_input_ids=source[:, :5]).logits


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "none"


transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
changed = False
for family, targets in TARGETS.items():
    print(f"{family}:")
    made(family).save_pretrained("base")
    base = AutoModelForSeq2SeqLM.from_pretrained("base")
    # Of weights that change something: the default ones of LoRA add 0.
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=targets, init_lora_weights=False)
    adapted = get_peft_model(base, config).eval()
    adapted.save_pretrained("adapter")
    expected = logits(adapted)
    loaded = made(family)
    loaded.load_adapter("adapter")
    ways = {
        "PeftModel.from_pretrained": PeftModel.from_pretrained(made(family), "adapter"),
        "from_pretrained": AutoModelForSeq2SeqLM.from_pretrained("adapter"),
        "load_adapter": loaded,
        "no adapter": made(family),
    }
    same = [name for name, model in ways.items() if torch.equal(logits(model), expected)]
    print(f"  the very logits of get_peft_model: {', '.join(same)}")
    changed |= same != list(ways)[:3]
    calls = {
        "add_adapter": lambda: made(family).add_adapter(config),
        "save_pretrained": lambda: loaded.save_pretrained("saved"),
        "set_adapter": lambda: loaded.set_adapter("default"),
        "enable_adapters": lambda: loaded.enable_adapters(),
        "disable_adapters": lambda: loaded.disable_adapters(),
        "active_adapters": lambda: loaded.active_adapters(),
        "get_adapter_state_dict": lambda: loaded.get_adapter_state_dict(),
        "delete_adapter": lambda: loaded.delete_adapter("default"),
    }
    raised = {name: refusal(call) for name, call in calls.items()}
    refused = [name for name, text in raised.items() if REFUSAL in text]
    print(textwrap.fill(f"ValueError: {', '.join(refused)}", 100, initial_indent="  ", subsequent_indent="    "))
    print(f"  {raised['add_adapter']}")
    changed |= refused != list(calls)
if changed:
    raise SystemExit("This is not what was seen before.")
EOF
