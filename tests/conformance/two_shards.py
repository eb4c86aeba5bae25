# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models split over two processes by their tensor-parallel plan: `torchrun two_shards.py FOLDER OUT.json`."""

import json
import sys
from pathlib import Path

import torch
from transformers.distributed import DistributedConfig

from hf_attn import HfAttnForConditionalGeneration
from tests.utils import tiny_batch


@torch.no_grad()
def difference(folder: Path) -> float:
    """The largest difference of a logit between the whole model and the split one; infinite if beams differ."""
    whole = HfAttnForConditionalGeneration.from_pretrained(folder).eval()
    split = HfAttnForConditionalGeneration.from_pretrained(
        folder, distributed_config=DistributedConfig(tp_size=2)
    ).eval()
    batch = tiny_batch(whole.config)
    largest = (split(**batch).logits - whole(**batch).logits).abs().max().item()
    del batch["labels"]
    settings = {"max_new_tokens": 6, "num_beams": 2}
    same = torch.equal(split.generate(**batch, **settings), whole.generate(**batch, **settings))
    return largest if same else float("inf")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    differences = {folder.name: difference(folder) for folder in sorted(Path(sys.argv[1]).iterdir())}
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(differences))
    torch.distributed.destroy_process_group()
