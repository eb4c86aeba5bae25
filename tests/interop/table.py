# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`python -m tests.interop.table`: how well imported models agree with those of transformers (docs/interop.md)."""

import sys

import torch

from hf_attn.interop.conversion import convert
from hf_attn.interop.proof import prove
from hf_attn.interop.to_transformers import to_transformers
from tests.interop.families import SHAPES, batches, build


HEADER = (
    "| family and shape | logits, float64: largest difference | logits, float32: share of the largest "
    "| tokens of greedy and 4-beam search | goes back |\n|---|---|---|---|---|"
)


def row(name: str) -> str:
    """The line of a shape."""
    source = build(name)
    target = convert(source)
    proof = prove(source, target)
    back = prove(to_transformers(target, source.config), target)
    precise = "–"  # FSMT fills masks with a number that float64 lacks
    if source.config.model_type != "fsmt":
        source = build(name).double()
        target = convert(source)
        precise = f"{max(difference(source, target, batch) for batch in batches(source.config)):.0e}"
    share = f"{proof.difference / proof.largest:.0e}" if proof.dtype == torch.float32 else "–"
    equal = "equal" if proof.generated == (1, 4) else "differ"
    return f"| {name} | {precise} | {share} | {equal} | {'equal' if back.generated == (1, 4) else 'differs'} |"


def difference(source: torch.nn.Module, target: torch.nn.Module, batch: dict[str, torch.Tensor]) -> float:
    """The largest difference of two logits."""
    with torch.no_grad():
        theirs, ours = (model(**batch, use_cache=False).logits for model in (source, target))
    return float((theirs - ours).abs().max())


if __name__ == "__main__":
    sys.stdout.write(HEADER + "\n")
    for shape in SHAPES:
        sys.stdout.write(row(shape) + "\n")
