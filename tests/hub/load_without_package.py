# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Run as `python -I load_without_package.py FOLDER`, where hf_attn cannot be imported: loads each checkpoint of FOLDER as
remote code and writes what it computes beside it.
"""

import sys
from pathlib import Path

import torch
import transformers
from peft import PeftModel


torch.set_num_threads(1)
sys.modules["hf_attn"] = None  # an installed package is as good as absent


def load(folder: Path, auto_class: str):
    model = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True).eval()
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    return model


def main() -> None:
    root = Path(sys.argv[1])
    for folder in sorted(root.iterdir()):
        task = torch.load(folder / "task.pt")
        with torch.no_grad():
            model = load(folder / "model", task["auto_class"])
            results = {"outputs": model(**task["inputs"]).to_tuple()[0]}
            if "generated" in task:
                results["generated"] = model.generate(**task["inputs"], **task["generation"])
            model.save_pretrained(folder / "again")
            results["again"] = load(folder / "again", task["auto_class"])(**task["inputs"]).to_tuple()[0]
            if (folder / "adapter").is_dir():
                adapted = PeftModel.from_pretrained(model, folder / "adapter")
                results["adapted"] = adapted(**task["inputs"]).to_tuple()[0]
                results["merged"] = adapted.merge_and_unload()(**task["inputs"]).to_tuple()[0]
        torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main()
