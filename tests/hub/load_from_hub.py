# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Run as `python -I load_from_hub.py FOLDER` with `HF_ENDPOINT` set, where hf_attn cannot be imported: loads what
`push_with_package.py` pushed, and compares what it computes.
"""

import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForSeq2SeqLM
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer


torch.set_num_threads(1)
sys.modules["hf_attn"] = None  # an installed package is as good as absent


def main() -> None:
    expected = torch.load(Path(sys.argv[1]) / "expected.pt")
    tokenizer = AutoTokenizer.from_pretrained("ann/translator")
    batch = tokenizer(expected["texts"], padding=True, return_tensors="pt")
    models = {
        "translator": AutoModelForSeq2SeqLM.from_pretrained("ann/translator", trust_remote_code=True),
        "adapter": AutoPeftModelForSeq2SeqLM.from_pretrained("ann/adapter", trust_remote_code=True),
    }
    assert AutoTokenizer.from_pretrained("ann/adapter").get_vocab() == tokenizer.get_vocab()
    assert type(models["translator"]).__module__.startswith("transformers_modules.")
    with torch.no_grad():
        for name, model in models.items():
            logits = model.eval()(**batch, labels=batch["input_ids"]).logits
            torch.testing.assert_close(logits, expected[name], atol=1e-5, rtol=1e-5, msg=name)
        assert models["translator"].generate(**batch).tolist() == expected["translated"].tolist()


if __name__ == "__main__":
    main()
