# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Run as `python push_with_package.py FOLDER TOKEN` with `HF_ENDPOINT` set and the recipes on the path: one of them
trains and pushes a model, then an adapter whose base it takes from the Hub; what they compute goes to FOLDER.
"""

import json
import sys
from pathlib import Path

import torch
import translation
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from hf_attn.adapters import load_adapter


TEXTS = ["one two", "three four five", "six"]


def main() -> None:
    folder, token = Path(sys.argv[1]), sys.argv[2]
    numbers = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf", "six": "sechs"}
    rows = [
        json.dumps({"en": f"{first} {second}", "de": f"{numbers[first]} {numbers[second]}"}) + "\n"
        for first in numbers
        for second in numbers
    ]
    (folder / "train.jsonl").write_text("".join(rows))
    (folder / "test.jsonl").write_text("".join(rows[:3]))
    shared = [
        f"--train_file={folder / 'train.jsonl'}", f"--test_file={folder / 'test.jsonl'}", "--max_steps=2", "--use_cpu",
        "--tokens_per_batch=200", "--num_beams=2", "--push_to_hub", "--data_license=cc-by-2.0", "--save_strategy=no",
    ]  # fmt: skip
    shape = "d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2"
    fresh = ["--model_config=hybrid_tiny", f"--config_overrides={shape},dropout=0.0", "--vocab_size=300"]
    # The command that the card shows.
    for name, arguments in {
        "translator": [*fresh, "--hub_model_id=translator", "--hub_private_repo=true", "--hub_token", token],
        "adapter": [
            "--model_name_or_path=ann/translator",
            "--lora",
            "--hub_model_id=ann/adapter",
            "--learning_rate=1",
        ],
    }.items():
        sys.argv = ["recipes/translation.py", *arguments, *shared, f"--output_dir={folder / name}"]
        translation.main(sys.argv[1:])
    tokenizer = AutoTokenizer.from_pretrained(folder / "translator")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "translator").eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    outputs = {}
    with torch.no_grad():
        outputs["translator"] = model(**batch, labels=batch["input_ids"]).logits
        outputs["translated"] = model.generate(**batch)
        adapted = load_adapter(model, folder / "adapter").eval()
        outputs["adapter"] = adapted(**batch, labels=batch["input_ids"]).logits
    torch.save({"texts": TEXTS, **outputs}, folder / "expected.pt")
    results = {
        f"{place}-{name}": pipeline("attn-translation", model=where, device="cpu")(TEXTS)
        for name in ("translator", "adapter")
        for place, where in (("here", str(folder / name)), ("hub", f"ann/{name}"))
    }
    (folder / "pipelines.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
