#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# transformers 5.24 renames `past_key_values` to `cache`. The `forward` of BART, Marian and T5 in 5.23 takes `cache=`
# among its `**kwargs` and ignores it: a step that continues a prefix then sees its one token alone and gives other
# logits than the whole sequence, with no error and no warning. So code that was written for 5.24 computes something
# else on 5.23. The other way round, a model of one's own whose `forward` declares `past_key_values` and `**kwargs` is
# run by `generate` of 5.24 without its state: each step sees one token, and other tokens come out. There is no error,
# and the one warning is about the name in the model's output, which does work.
# Seen on 2026-11-30 with torch 2.13.0, transformers 5.23.0 and 5.24.0, on a CPU:
#   torch 2.13.0, transformers 5.23.0
#   bart, past_key_values=: differs by 6e-07, 0 warnings
#   bart, cache=: differs by 0.37, 0 warnings
#   marian, past_key_values=: differs by 1.4e-06, 0 warnings
#   marian, cache=: differs by 0.12, 0 warnings
#   t5, past_key_values=: differs by 7.2e-07, 0 warnings
#   t5, cache=: differs by 2.6, 0 warnings
#   generate of a model that declares past_key_values: [0, 15, 41, 41, 41, 41], 0 warnings
#     the same with use_cache=False: [0, 15, 41, 41, 41, 41]
#   torch 2.13.0, transformers 5.24.0
#   bart, past_key_values=: differs by 6e-07, 1 warnings
#   bart, cache=: differs by 6e-07, 0 warnings
#   marian, past_key_values=: differs by 1.4e-06, 1 warnings
#   marian, cache=: differs by 1.4e-06, 0 warnings
#   t5, past_key_values=: differs by 7.2e-07, 1 warnings
#   t5, cache=: differs by 7.2e-07, 0 warnings
#   generate of a model that declares past_key_values: [0, 41, 13, 51, 51, 51], 1 warnings
#     `past_key_values`/`cache_params` are deprecated. Use `cache` instead.
#     the same with use_cache=False: [0, 15, 41, 41, 41, 41]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'EOF'
import logging
import warnings

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
TINY = SPECIAL | {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
TINY |= dict.fromkeys(["encoder_layers", "decoder_layers", "num_layers", "num_decoder_layers"], 2)
TINY |= dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
TINY |= {"init_std": 0.5}
IS_NEW = transformers.__version__ == "5.24.0"

said: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
transformers.logging.get_logger().addHandler(handler)
transformers.logging.disable_default_handler()
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_, **__: said.append(str(message))


@torch.no_grad()
def step_difference(family: str, name: str) -> float:
    """How far the logits of a sixth token after a cache of five are from those of all six at once."""
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(CONFIG_MAPPING[family](**TINY)).eval()
    source = torch.arange(3, 11)[None]
    target = source.flip(1)[:, :6]
    whole = model(input_ids=source, decoder_input_ids=target).logits[:, -1]
    cache = model(input_ids=source, decoder_input_ids=target[:, :5], use_cache=True)[1]
    said.clear()
    step = model(input_ids=source, decoder_input_ids=target[:, 5:], **{name: cache}).logits[:, -1]
    return float((step - whole).abs().max())


class TinyConfig(PreTrainedConfig):
    model_type = "tiny"


class TinyModel(PreTrainedModel, GenerationMixin):
    """The next token depends on the mean of all tokens; `forward` declares the cache under its old name."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig):
        super().__init__(config)
        self.embedding = torch.nn.Embedding(64, 16)
        self.head = torch.nn.Linear(16, 64)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, past_key_values=None, **kwargs) -> CausalLMOutputWithPast:
        seen = self.embedding(input_ids)[:, None]
        if past_key_values is not None:
            seen, _ = past_key_values.update(seen, seen, 0)
        return CausalLMOutputWithPast(logits=self.head(seen.mean(dim=2)), past_key_values=past_key_values)


print(f"torch {torch.__version__}, transformers {transformers.__version__}")
changed = False
for family in ("bart", "marian", "t5"):
    for name in ("past_key_values", "cache"):
        difference = step_difference(family, name)
        is_same, is_deprecated = difference < 1e-4, any("deprecated" in text for text in said)
        print(f"{family}, {name}=: differs by {difference:.2g}, {len(said)} warnings")
        changed |= is_same != (IS_NEW or name == "past_key_values")
        changed |= is_deprecated != (IS_NEW and name == "past_key_values") or len(said) != is_deprecated
torch.manual_seed(0)
model = TinyModel(TinyConfig(num_hidden_layers=1)).eval()
search = {"attention_mask": torch.ones(1, 4), "max_new_tokens": 6, "pad_token_id": 0}
said.clear()
with_cache, without = (
    model.generate(torch.arange(3, 7)[None], use_cache=use_cache, **search)[0, 4:].tolist()
    for use_cache in (True, False)
)
print(f"generate of a model that declares past_key_values: {with_cache}, {len(said)} warnings")
for text in said:
    print(f"  {text}")
print(f"  the same with use_cache=False: {without}")
if changed or len(said) != IS_NEW or (with_cache == without) == IS_NEW:
    raise SystemExit("This is not what was seen before.")
EOF
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
for version in 5.23.0 5.24.0; do
    "$folder/venv/bin/pip" install --quiet "transformers==$version"
    "$folder/venv/bin/python" -I show.py
done
