# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What training a preset takes: memory for its state and its activations, and bytes that processes exchange.

    python benchmarks/scaling.py

prints the tables of docs/scaling.md, which explains the formulae. A test holds the formulae to what a forward pass
keeps for the backward pass, and the tables of the document to these.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hf_attn import HfAttnConfig, HfAttnForConditionalGeneration
from hf_attn.configuration_hf_attn import PRESETS
from hf_attn.data import LengthBucketBatchSampler, load_splits
from hf_attn.training import format_table


@dataclass(frozen=True)
class Precision:
    """
    What a layer keeps for the backward pass, in bytes a token.

    Attributes:
        by_width: Layer type to the bytes a unit of `d_model`, in an encoder layer and in a decoder layer, norms,
            residuals and dropout included, and in the decoder the cross-attention.
        by_ffn: Bytes a unit of the feed-forward layer's inner width.
        by_score: Bytes an attention score; 0 where the kernel keeps none.
        by_head: Bytes a head beside the scores.
        outside: Bytes a unit of `d_model` outside the layers: embedding and last norm, of a source and a target token.
    """

    by_width: dict[str, tuple[float, float]]
    by_ffn: float
    by_score: float
    by_head: float
    outside: tuple[float, float]


PRECISIONS = {
    "float32": Precision(
        by_width={
            "full_attention": (40, 68),
            "sliding_attention": (47, 75),
            "linear_attention": (70, 115),
            "lstm": (127, 118),
            "gru": (68, 80),
            "rnn": (44, 56),
            "ssru": (52, 76),
        },
        by_ffn=4,
        by_score=4,
        by_head=0,
        outside=(15, 15),
    ),
    "bfloat16": Precision(
        by_width={
            "full_attention": (28, 48),
            "sliding_attention": (31, 51),
            "linear_attention": (64, 101),
            "lstm": (95, 84),
            "gru": (43, 56),
            "rnn": (30, 39),
            "ssru": (44, 60),
        },
        by_ffn=2,
        by_score=0,
        by_head=4,
        outside=(12, 12),
    ),
}
# Of a norm with its mean and its scale in float32.
NORM_BYTES = 8
# Weights, gradients and both moments of Adam in float32.
WEIGHT_BYTES, GRADIENT_BYTES, ADAM_BYTES = 4, 4, 8
MIB = 2**20


def build(config: HfAttnConfig) -> HfAttnForConditionalGeneration:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return HfAttnForConditionalGeneration(config)


def num_parameters(module: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def layer_bytes(
    config: HfAttnConfig, stack: str, layer_type: str, precision: str, length: int, source_length: int
) -> float:
    """
    What one layer keeps for the backward pass, in bytes a token of its own sequence.

    Args:
        config: Widths and heads.
        stack: `encoder` or `decoder`.
        layer_type: As in `encoder_layer_types`.
        precision: A key of `PRECISIONS`.
        length: Tokens of the layer's own sequence.
        source_length: Tokens that the cross-attention of a decoder layer sees.

    Raises:
        ValueError: There is no measurement of `layer_type`.
    """
    table = PRECISIONS[precision]
    heads = getattr(config, f"{stack}_attention_heads")
    is_decoder = stack == "decoder"
    if layer_type not in table.by_width:
        raise ValueError(f"`{layer_type}` layers were not measured; those that were: {', '.join(table.by_width)}.")
    total = table.by_width[layer_type][is_decoder] * config.d_model
    total += table.by_ffn * getattr(config, f"{stack}_ffn_dim") + NORM_BYTES * (2 + is_decoder)
    if layer_type == "full_attention":
        total += heads * (table.by_score * length + table.by_head)
    if layer_type == "sliding_attention":
        # Blocks of queries see their window and themselves; without scores to keep there is the mask of each block.
        seen = min(length, config.sliding_window + min(max(config.sliding_window // 2, 64), 256))
        total += heads * (table.by_score * seen + table.by_head) + (0 if table.by_score else 2 * seen)
    if is_decoder and config.cross_attention_type != "none":
        total += heads * (table.by_score * source_length + table.by_head)
    return total


def activation_bytes(
    config: HfAttnConfig,
    precision: str,
    rows: int,
    source_length: int,
    target_length: int,
    checkpointing: bool = False,
) -> float:
    """
    What a forward pass with loss keeps for the backward pass, in bytes.

    Args:
        config: The model.
        precision: `float32`, with attention that keeps its scores, or `bfloat16` autocast, with attention that does
            not.
        rows: Rows of the batch.
        source_length, target_length: Tokens of each row, padding included.
        checkpointing: Keep the input of each layer alone, and all of one layer at a time.
    """
    table = PRECISIONS[precision]
    total = 0.0
    largest = 0.0
    for stack, length in (("encoder", source_length), ("decoder", target_length)):
        tokens = rows * length
        total += table.outside[stack == "decoder"] * config.d_model * tokens
        for layer_type in getattr(config, f"{stack}_layer_types"):
            kept = tokens * layer_bytes(config, stack, layer_type, precision, length, source_length)
            largest = max(largest, kept)
            total += 4 * config.d_model * tokens if checkpointing else kept
    return total + largest * checkpointing


def state_bytes(parameters: int, trained: int, sharding: str, processes: int) -> float:
    """
    Weights, gradients and optimizer on one process, in bytes.

    Args:
        parameters: Of the model.
        trained: Those that are trained.
        sharding: `none` (one process), `ddp`, `zero2` or `fsdp2`, which is ZeRO-3 too.
        processes: They are spread over so many.
    """
    weights, gradients, adam = WEIGHT_BYTES * parameters, GRADIENT_BYTES * trained, ADAM_BYTES * trained
    if sharding == "fsdp2":
        return (weights + gradients + adam) / processes
    if sharding == "zero2":
        return weights + (gradients + adam) / processes
    # DDP sends gradients from buckets of their size.
    return weights + gradients * (2 if sharding == "ddp" else 1) + adam


def exchanged_bytes(parameters: int, trained: int, sharding: str, processes: int) -> float:
    """
    What one process sends in an update, in bytes, by the ring algorithms; arguments as in `state_bytes`.

    DDP and ZeRO-2 reduce gradients and spread the sum, or the new weights; FSDP2 gathers the weights for the forward
    and for the backward pass and reduces the gradients.
    """
    share = (processes - 1) / processes
    if sharding == "fsdp2":
        return share * (2 * WEIGHT_BYTES * parameters + GRADIENT_BYTES * trained)
    return share * (GRADIENT_BYTES + WEIGHT_BYTES) * trained if processes > 1 else 0.0


def measured_activation_bytes(
    model: HfAttnForConditionalGeneration, batch: dict[str, torch.Tensor], precision: str
) -> int:
    """
    What a forward pass with loss keeps for the backward pass on the CPU, in bytes: tensors that are no weights.

    Args:
        model: In training mode.
        batch: As the model takes it.
        precision: A key of `PRECISIONS`.
    """
    weights = [*model.parameters(), *model.buffers()]
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    # Under autocast also copies of weights are kept.
    shapes = {tuple(shape) for weight in weights for shape in (weight.shape, weight.shape[::-1])}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        is_copy = tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes
        if storage.data_ptr() not in own and not is_copy:
            kept[storage.data_ptr()] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model(**batch, skip_logits=True).loss
    loss.detach()
    # The loss makes the gradients of the output weights in the forward pass: they are no activations.
    head = model.get_output_embeddings().weight
    return sum(storage.nbytes() for storage in kept.values() if storage.nbytes() != 4 * head.numel())


def memory_table(vocab_size: int = 8000, rows: int = 32, length: int = 128, processes: int = 8) -> str:
    """Memory of every preset, in MiB, as Markdown."""
    lines = []
    for name in PRESETS:
        config = HfAttnConfig.from_preset(name, vocab_size=vocab_size)
        count = num_parameters(build(config))
        states = [state_bytes(count, count, "none", 1), state_bytes(count, count, "ddp", processes)]
        states += [state_bytes(count, count, "zero2", processes), state_bytes(count, count, "fsdp2", processes)]
        kept = [
            activation_bytes(config, precision, rows, length, length, checkpointing)
            for precision, checkpointing in (("float32", False), ("bfloat16", False), ("bfloat16", True))
        ]
        lines.append([name, f"{count / 1e6:.1f}", *(f"{number / MIB:.0f}" for number in states + kept)])
    header = ["preset", "parameters, millions", "one process", f"DDP, {processes}", f"ZeRO-2, {processes}"]
    header += [f"FSDP2, {processes}", "activations, float32", "bfloat16", "bfloat16, checkpointing"]
    return format_table(header, lines)


def layer_table(width: int = 512, ffn: int = 2048, heads: int = 8, lengths: tuple[int, ...] = (128, 1024)) -> str:
    """Activations of one layer of each type, in KiB a token, as Markdown."""
    config = HfAttnConfig(
        d_model=width, encoder_ffn_dim=ffn, decoder_ffn_dim=ffn, encoder_attention_heads=heads,
        decoder_attention_heads=heads,
    )  # fmt: skip
    lines = []
    for layer_type in PRECISIONS["float32"].by_width:
        cells = [
            layer_bytes(config, stack, layer_type, precision, length, length) / 1024
            for precision in PRECISIONS
            for stack in ("encoder", "decoder")
            for length in lengths
        ]
        lines.append([layer_type, *(f"{cell:.1f}" for cell in cells)])
    header = [f"{stack}, {length}, {precision}" for precision in PRECISIONS for stack in ("encoder", "decoder")
              for length in lengths]  # fmt: skip
    return format_table(["layer type", *header], lines)


def exchange_table(vocab_size: int = 8000, processes: int = 8) -> str:
    """Bytes that one process sends in an update, in MiB, as Markdown."""
    lines = []
    for name in PRESETS:
        count = num_parameters(build(HfAttnConfig.from_preset(name, vocab_size=vocab_size)))
        sent = [exchanged_bytes(count, count, sharding, processes) / MIB for sharding in ("ddp", "zero2", "fsdp2")]
        lines.append([name, *(f"{number:.0f}" for number in sent)])
    return format_table(["preset", "DDP", "ZeRO-2", "FSDP2"], lines)


def padding_table(rows: int = 32, seed: int = 0) -> str:
    """Share of padding in batches of the embedded sentence pairs, lengths in words, as Markdown."""
    data = Path(__file__).parents[1] / "recipes" / "data" / "tatoeba_en_de_formal" / "train.jsonl.gz"
    pairs = load_splits(train_file=data)["train"]["translation"]
    lengths = np.array([[len(pair[language].split()) for language in ("en", "de")] for pair in pairs])
    order = np.random.default_rng(seed).permutation(len(lengths))
    batches = [lengths[order[start : start + rows]] for start in range(0, len(order), rows)]
    padded = sum(int(batch.max(axis=0).sum()) * len(batch) for batch in batches)
    budget = round(padded / len(batches))
    buckets = LengthBucketBatchSampler(lengths.tolist(), budget, seed=seed)
    lines = [
        [f"{rows} random rows", f"{100 * (1 - lengths.sum() / padded):.1f}"],
        [f"buckets of {budget} tokens, `tokens_per_batch`", f"{100 * buckets.padding_share:.1f}"],
        ["packed end to end", "0.0"],
    ]
    return format_table(["batches", "padding, %"], lines)


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.stdout.write("\n\n".join((memory_table(), layer_table(), padding_table(), exchange_table())) + "\n")


if __name__ == "__main__":
    main()
