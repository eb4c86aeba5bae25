#!/usr/bin/env bash
# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# The same 8 rows, trained on as one batch of 8 and as 8 accumulated batches of 1, should give one loss and one
# gradient. Under Seq2SeqTrainer most encoder-decoders of transformers give 8 times as much for the second: their
# `forward` takes `**kwargs`, so Trainer hands it `num_items_in_batch` and no longer divides by the accumulation steps,
# and `forward` ignores what it was handed. There is no padding and no dropout here, so both splits have the same mean.
# Of the 22 families here only T5Gemma divides by it. With label smoothing Trainer makes the loss itself, and the two agree.
# The same ratios were seen with transformers 5.20.0, 5.22.0 and 5.23.0.
# Seen on 2026-11-30 with torch 2.13.0, transformers 5.24.0, accelerate 1.15.0, on a CPU:
#   torch 2.13.0, transformers 5.24.0, accelerate 1.15.0
#   bart: loss 4.168 -> 33.343, x8.00; gradient x8.00
#   bigbird_pegasus: loss 4.141 -> 33.130, x8.00; gradient x8.00
#   blenderbot: loss 4.179 -> 33.434, x8.00; gradient x8.00
#   blenderbot-small: loss 4.132 -> 33.054, x8.00; gradient x8.00
#   encoder-decoder: loss 4.184 -> 33.474, x8.00; gradient x8.00
#   fsmt: loss 4.150 -> 33.201, x8.00; gradient x8.00
#   led: loss 4.174 -> 33.391, x8.00; gradient x8.00
#   longt5: loss 4.781 -> 38.249, x8.00; gradient x8.00
#   m2m_100: loss 4.150 -> 33.203, x8.00; gradient x8.00
#   marian: loss 4.166 -> 33.327, x8.00; gradient x8.00
#   mbart: loss 4.168 -> 33.343, x8.00; gradient x8.00
#   mt5: loss 11.877 -> 95.014, x8.00; gradient x8.00
#   mvp: loss 4.168 -> 33.343, x8.00; gradient x8.00
#   nllb-moe: loss 4.173 -> 33.387, x8.00; gradient x8.00
#   pegasus: loss 4.166 -> 33.328, x8.00; gradient x8.00
#   pegasus_x: loss 4.159 -> 33.274, x8.00; gradient x8.00
#   plbart: loss 4.168 -> 33.342, x8.00; gradient x8.00
#   prophetnet: loss 4.184 -> 33.473, x8.00; gradient x8.00
#   switch_transformers: loss 4.635 -> 37.078, x8.00; gradient x8.00
#   t5: loss 4.781 -> 38.249, x8.00; gradient x8.00
#   umt5: loss 4.800 -> 38.400, x8.00; gradient x8.00
#   t5gemma: loss 4.177 -> 4.177, x1.00; gradient x1.00
#   bart with label smoothing: loss 4.167 -> 4.167, x1.00; gradient x1.00
#   21 families grow 8-fold, 1 not: t5gemma
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 numpy==2.4.6
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
cd "$folder"
"$folder/venv/bin/python" -I -W ignore - <<'EOF'
import accelerate
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

GROWS = (
    "bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder fsmt led longt5 m2m_100 marian mbart mt5 mvp "
    "nllb-moe pegasus pegasus_x plbart prophetnet switch_transformers t5 umt5"
).split()
DIVIDES = ["t5gemma"]
SPECIAL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
NO_DROPOUT = dict.fromkeys(["dropout", "attention_dropout", "activation_dropout", "dropout_rate"], 0.0)
NO_DROPOUT |= dict.fromkeys(["encoder_layerdrop", "decoder_layerdrop", "router_jitter_noise"], 0.0)
SIZES = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
SIZES |= dict.fromkeys(["encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"], 2)
SIZES |= {"num_layers": 2, "num_decoder_layers": 2}
EXPERTS = {"num_experts": 2, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
EXPERTS |= {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
HALF = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = HALF | {"model_type": "bert", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
DECODER = {"is_decoder": True, "add_cross_attention": True}
GEMMA = HALF | {"num_key_value_heads": 2, "head_dim": 8, "attention_dropout": 0.0}
OWN = {  # what a family wants besides, or instead
    "encoder-decoder": SPECIAL | {"encoder": BERT, "decoder": BERT | DECODER},
    "fsmt": SPECIAL | NO_DROPOUT | SIZES | {"src_vocab_size": 64, "tgt_vocab_size": 64, "langs": ["en", "de"]},
    "led": SPECIAL | NO_DROPOUT | SIZES | {"attention_window": 4},
    "prophetnet": SPECIAL | NO_DROPOUT | {"hidden_size": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
    "nllb-moe": SPECIAL | NO_DROPOUT | SIZES | EXPERTS,
    "switch_transformers": SPECIAL | NO_DROPOUT | SIZES | EXPERTS,
    "t5gemma": SPECIAL | {"encoder": GEMMA, "decoder": GEMMA, "dropout_rate": 0.0, "attention_dropout": 0.0},
}

torch.manual_seed(0)
source, target = torch.randint(3, 64, (8, 16)), torch.randint(3, 64, (8, 8))
shifted = torch.cat([torch.full((8, 1), 2), target[:, :-1]], dim=1)
COLUMNS = {"input_ids": source, "attention_mask": torch.ones_like(source)}
COLUMNS |= {"decoder_input_ids": shifted, "labels": target}
ROWS = [{name: column[row] for name, column in COLUMNS.items()} for row in range(8)]


def one_update(family: str, accumulation_steps: int, label_smoothing: float = 0.0) -> tuple[float, float]:
    """The loss and the gradient norm that Trainer logs for one update on all rows."""
    set_seed(0)
    config = CONFIG_MAPPING[family](**OWN.get(family, SPECIAL | NO_DROPOUT | SIZES))
    arguments = Seq2SeqTrainingArguments(
        "run",
        per_device_train_batch_size=8 // accumulation_steps,
        gradient_accumulation_steps=accumulation_steps,
        label_smoothing_factor=label_smoothing,
        max_steps=1,
        learning_rate=0.0,
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(AutoModelForSeq2SeqLM.from_config(config), arguments, train_dataset=ROWS)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer.state.log_history[0]["loss"], float(trainer.state.log_history[0]["grad_norm"])


def growth(family: str, label_smoothing: float = 0.0) -> list[float]:
    """How many times larger loss and gradient are with 8 accumulation steps."""
    whole, split = (one_update(family, steps, label_smoothing) for steps in (1, 8))
    ratios = [b / a for a, b in zip(whole, split, strict=True)]
    kind = " with label smoothing" if label_smoothing else ""
    print(f"{family}{kind}: loss {whole[0]:.3f} -> {split[0]:.3f}, x{ratios[0]:.2f}; gradient x{ratios[1]:.2f}")
    return ratios


transformers.logging.set_verbosity_error()
print(f"torch {torch.__version__}, transformers {transformers.__version__}, accelerate {accelerate.__version__}")
measured = {family: growth(family) for family in GROWS + DIVIDES}
grown = [family for family, ratios in measured.items() if all(abs(ratio - 8) < 0.2 for ratio in ratios)]
divided = [family for family, ratios in measured.items() if all(abs(ratio - 1) < 0.02 for ratio in ratios)]
smoothed = growth("bart", label_smoothing=0.1)
print(f"{len(grown)} families grow 8-fold, {len(divided)} not: {', '.join(divided)}")
if grown != GROWS or divided != DIVIDES or any(abs(ratio - 1) > 0.02 for ratio in smoothed):
    raise SystemExit("This is not what was seen before.")
EOF
