# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Run as `python use_package.py FILE`: uses the package as its users do, and writes what comes out as json.

Imports, loads, translates the 70 rows of the formal test set, runs the first lines of the README, trains an adapter
for a step, saves and loads it and a whole model, and loads that as remote code where the package is not installed.
"""

import contextlib
import gzip
import io
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before transformers, which must not mind.
from hf_attn.generation import fast_generate  # isort: split


import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)


ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "recipes" / "checkpoints" / "tatoeba_en_de_hybrid"
ROWS = ROOT / "recipes" / "data" / "tatoeba_en_de_formal" / "test.jsonl.gz"
LIBRARIES = ["torch", "transformers", "peft", "accelerate", "datasets", "huggingface_hub", "tokenizers", "numpy"]
WITHOUT_PACKAGE = """
import json, pathlib, sys
sys.modules["hf_attn"] = None
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules.")
batch = tokenizer(json.loads(sys.argv[2]), padding=True, return_tensors="pt")
texts = tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)
pathlib.Path(sys.argv[3]).write_text(json.dumps(texts))
"""


def translations(model: Any, tokenizer: Any, texts: list[str], **options: Any) -> list[str]:
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return tokenizer.batch_decode(model.generate(**batch, **options), skip_special_tokens=True)


def readme_output() -> list[str]:
    """What the first Python lines of the README print, which must be what stands in the comment beside them."""
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    if re.findall(r"\)  # (.*)", block) != printed.getvalue().splitlines():
        sys.exit(f"The README says otherwise: {printed.getvalue()}{block}")
    return printed.getvalue().splitlines()


def trained_adapter(tokenizer: Any, pairs: list[dict[str, str]], folder: Path) -> tuple[float, float]:
    """Loss of a LoRA step by the stock trainer, and of the adapter once saved and loaded."""
    base = AutoModelForSeq2SeqLM.from_pretrained(CHECKPOINT, dtype=torch.float32, dropout=0.0)
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM"))
    rows = [tokenizer(pair["en"], text_target=pair["de"]) for pair in pairs]
    arguments = Seq2SeqTrainingArguments(
        str(folder / "run"), max_steps=1, per_device_train_batch_size=len(rows), learning_rate=1.0, optim="sgd",
        use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    collator = DataCollatorForSeq2Seq(tokenizer, model=model)
    torch.manual_seed(0)
    trainer = Seq2SeqTrainer(model, arguments, train_dataset=rows, data_collator=collator, processing_class=tokenizer)
    loss = trainer.train().training_loss
    model.save_pretrained(folder / "adapter")
    again = AutoModelForSeq2SeqLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(again, folder / "adapter").eval()
    batch = {name: tensor.to("cpu") for name, tensor in collator(rows).items()}
    with torch.no_grad():
        after, expected = (one.eval()(**batch).loss.item() for one in (loaded, model))
    if abs(after - expected) > 1e-5 or not after < loss:
        sys.exit(f"The adapter has loss {after} once loaded, {expected} once trained, and the base {loss}.")
    return loss, after


def main() -> None:
    with gzip.open(ROWS, "rt", encoding="utf-8") as lines:
        pairs = [json.loads(line)["translation"] for line in lines]
    texts = [pair["en"] for pair in pairs]
    # Stored in bfloat16, in which another torch rounds otherwise: one beam in seventy ends elsewhere.
    model = AutoModelForSeq2SeqLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    results: dict[str, Any] = {
        "greedy translations": translations(model, tokenizer, texts, num_beams=1),
        "translations of 5 beams": translations(model, tokenizer, texts, num_beams=5),
        "translations of the fast search": translations(model, tokenizer, texts, custom_generate=fast_generate),
        "output of the README": readme_output(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["loss"], results["loss of the adapter"] = trained_adapter(tokenizer, pairs[:8], folder)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        again = AutoModelForSeq2SeqLM.from_pretrained(folder / "model").eval()
        results["translations once saved"] = translations(again, tokenizer, texts[:10])
        command = [sys.executable, "-c", WITHOUT_PACKAGE, "model", json.dumps(texts[:10]), "remote.json"]
        subprocess.run(command, check=True, cwd=folder)
        results["translations by remote code"] = json.loads((folder / "remote.json").read_text())
    results["versions"] = {library: version(library) for library in ("hf_attn", *LIBRARIES)}
    Path(sys.argv[1]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
