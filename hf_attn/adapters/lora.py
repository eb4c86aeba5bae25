# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Puts a LoRA adapter on a model, loads one, and merges one into its base; refuses what would go wrong silently."""

import copy
import json
import math
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, prepare_model_for_kbit_training
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_bitsandbytes_available

from ..configuration_hf_attn import HfAttnConfig, add_lora_targets
from ..loading.adapter import BASE_FILE, FINGERPRINT_ATTRIBUTE, SHARED_EMBEDDING, base_fingerprint
from ..tasks import HEADS, head_of


MERGED_FOLDER = "merged"
ALL_LINEAR = "all-linear"
ATTENTION_TARGETS = ("q_proj", "v_proj")
OUTPUT_PROJECTION = "lm_head"
COPY_HEAD = "copy_head"
MATCH_EMBEDDING = "match_embedding"


class LoraArguments(Protocol):
    """The arguments of `add_lora`; `hf_attn.training.AdapterArguments` has them."""

    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_target_modules: list[str] | None
    use_dora: bool
    load_in_4bit: bool


def add_lora(model: PreTrainedModel, arguments: LoraArguments, revision: str | None = None) -> PeftModel:
    """
    A frozen model with a LoRA adapter on it (Hu et al. 2021; DoRA: Liu et al. 2024).

    Args:
        model: A seq2seq model, or one with a span head or one that classifies, which is trained whole; in 4 bits it
            is prepared for training first.
        arguments: Rank, scale, dropout, targets, and whether to use DoRA.
        revision: Of the base on the Hub; the adapter's config names it, and with it the base is loaded again.

    Raises:
        ValueError: A target is a tied embedding, or matches no linear layer; or a layer in 4 bits has a width that a
            CPU's kernel has no blocks for; or the model has no head of a task.
    """
    head = head_of(model)
    head_modules = head.modules_of(model)
    lora_targets = chosen_targets(model, arguments.lora_target_modules)
    check_targets(model, lora_targets)
    fingerprint = base_fingerprint(model)
    # Two vectors, which are 0 in a base that has not read pairs.
    matching = [MATCH_EMBEDDING] if getattr(model.config, MATCH_EMBEDDING, False) else []
    if arguments.load_in_4bit:
        check_four_bit_widths(model)
        keep_four_bits_trainable(model)
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type=TaskType(head.peft_type),
        # A head is trained whole; all-linear would also adapt it, or the layers inside.
        exclude_modules=rf"({'|'.join(head_modules)})(\..+)?" if head_modules else None,
        modules_to_save=[*matching, *head_modules] or None,
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=lora_targets,
        use_dora=arguments.use_dora,
    )
    # PEFT warns of a revision that is none.
    config.revision = None if revision == "main" else revision
    adapted = get_peft_model(model, config)
    if config.modules_to_save is not None:
        # PEFT adds the names of heads that it knows, once more.
        config.modules_to_save = list(dict.fromkeys(config.modules_to_save))
    start_embeddings_as_linear(adapted)
    setattr(adapted, FINGERPRINT_ATTRIBUTE, fingerprint)
    return adapted


def chosen_targets(model: PreTrainedModel, named: list[str] | None) -> list[str] | str | None:
    """
    The targets for PEFT: `"all-linear"` alone stays as it is, beside others it becomes the layers' names.

    Families whose layers are named as BART's, such as Marian, have no default in PEFT.
    """
    if named is None:
        has_names = set(ATTENTION_TARGETS) <= set(linear_names(model))
        return list(ATTENTION_TARGETS) if has_names and not has_default_targets(model) else None
    if named == [ALL_LINEAR]:
        return ALL_LINEAR
    return [name for target in named for name in (linear_names(model) if target == ALL_LINEAR else [target])]


def check_targets(model: PreTrainedModel, lora_targets: list[str] | str | None) -> None:
    """
    Refuses targets that PEFT would adapt wrongly or not at all.

    Args:
        model: The base model.
        lora_targets: Last parts of module names, `"all-linear"`, or `None` for the default of the family.

    Raises:
        ValueError: A target is an embedding or the output projection while the two are tied, but for `shared` of an
            hf_attn model; or a target matches no layer, or the family has no default.
    """
    if lora_targets == ALL_LINEAR:
        return
    if lora_targets is None:
        if not has_default_targets(model):
            raise ValueError(
                f"`lora_target_modules` has no default for {model.config.model_type!r} models; name some of "
                f"{', '.join(linear_names(model))}."
            )
        return
    # In hf_attn models all that is tied to `shared` has its adapter.
    adaptable = {SHARED_EMBEDDING} if model.config.model_type == HfAttnConfig.model_type else set()
    embeddings = tied_names(model) - adaptable
    tied = [target for target in lora_targets if target.rsplit(".", 1)[-1] in embeddings]
    if tied:
        together = f"`{SHARED_EMBEDDING}` in their place adapts all of them together. " if adaptable else ""
        raise ValueError(
            f"`lora_target_modules` names {', '.join(f'`{name}`' for name in tied)}, whose weight is shared between "
            "the embedding and the output projection: a LoRA on one of them is lost or wrong after merging. "
            f"{together}To train new tokens use PEFT's `trainable_token_indices`; to train the whole embedding, "
            "`embed_tokens` and `lm_head` in its `modules_to_save`."
        )
    present = linear_names(model)
    modules = [name for name, _ in model.named_modules()]
    for target in lora_targets:
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            raise ValueError(
                f"`lora_target_modules` names `{target}`, which no layer has; linear layers are {', '.join(present)}."
            )


def has_default_targets(model: PreTrainedModel) -> bool:
    """Whether PEFT knows which layers of a model's family to adapt."""
    add_lora_targets()
    return model.config.model_type in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING


def check_four_bit_widths(model: PreTrainedModel) -> None:
    """
    Refuses 4-bit layers that bitsandbytes cannot multiply by on a CPU; it would find out in the middle of a run.

    Raises:
        ValueError: The inputs of a layer are no multiple of 64, or its outputs of 32.
    """
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.device.type != "cpu" or getattr(weight, "quant_state", None) is None:
            continue
        if module.in_features % 64 or module.out_features % 32:
            raise ValueError(
                "`load_in_4bit` on a CPU needs layers whose inputs are a multiple of 64 and outputs of 32, got "
                f"{module.in_features} and {module.out_features} in `{name}`. Fine-tune without `load_in_4bit`, or "
                "on a GPU."
            )


def keep_four_bits_trainable(model: PreTrainedModel) -> None:
    """
    Keeps bitsandbytes from packing 4-bit weights for a CPU's inference kernel.

    It does so at the first forward without gradients, that is in an evaluation, and no backward works afterwards.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            cast(Any, module).support_avx512bf16_for_cpu = False


def start_embeddings_as_linear(model: nn.Module) -> None:
    """
    Draws the random half of a LoRA on an embedding as that of a linear layer is drawn.

    PEFT takes the standard normal distribution: of width 256 that is 28 times as much, and a learning rate that suits
    the linear layers moves the embedding 28 times too fast.
    """
    for module in model.modules():
        for factor in getattr(module, "lora_embedding_B", {}).values():
            nn.init.kaiming_uniform_(factor.T, a=math.sqrt(5))


def linear_names(model: nn.Module) -> list[str]:
    """Last parts of the names of a model's linear layers, without the output projection, sorted."""
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return sorted(names - {OUTPUT_PROJECTION})


def tied_names(model: PreTrainedModel) -> set[str]:
    """Last parts of the names of the modules that hold the input embedding's weight; empty when nothing is tied."""
    weight = model.get_input_embeddings().weight
    names = {
        name.rsplit(".", 1)[-1] for name, module in model.named_modules() if getattr(module, "weight", None) is weight
    }
    return names if len(names) > 1 else set()


def four_bit_config() -> BitsAndBytesConfig:
    """
    4-bit NormalFloat with double quantisation (Dettmers et al. 2023), the output projection, the head of a task and
    the gate of copying excepted.

    Raises:
        ImportError: bitsandbytes is not installed.
    """
    if not is_bitsandbytes_available():
        raise ImportError("`load_in_4bit` needs bitsandbytes: `pip install 'hf_attn[quantization]'`.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        # A head is trained whole, which four bits cannot be; the gate of copying has one output.
        llm_int8_skip_modules=[OUTPUT_PROJECTION, *(name for head in HEADS for name in head.modules), COPY_HEAD],
    )


def finish_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, adapter_dir: str | Path, merge: bool = False
) -> None:
    """
    Saves beside an adapter what PEFT leaves out: the generation config, and in it the `prefix` of the sources; and the
    fingerprint of the base that `add_lora` put it on.

    Args:
        model: The adapted model; with `merge` it is taken apart.
        tokenizer: Saved beside a merged model.
        adapter_dir: Directory of the adapter.
        merge: Also save the merged model to `merged` inside `adapter_dir`.
    """
    base = cast(Any, model).get_base_model()
    if base.can_generate():
        config, prefix = copy.deepcopy(base.generation_config), getattr(base.config, "prefix", None)
        if prefix:
            # One that is made from a model's config keeps no further fields.
            config._from_model_config, config.prefix = False, prefix
        config.save_pretrained(adapter_dir)
    text = json.dumps(getattr(model, FINGERPRINT_ATTRIBUTE), indent=2) + "\n"
    (Path(adapter_dir) / BASE_FILE).write_text(text, encoding="utf-8")
    if merge:
        save_merged(model, tokenizer, Path(adapter_dir) / MERGED_FOLDER)


def save_merged(model: PeftModel, tokenizer: PreTrainedTokenizerBase, directory: str | Path) -> PreTrainedModel:
    """
    Merges an adapter into its base and saves the result as an ordinary checkpoint.

    Args:
        model: The adapted model; it is taken apart.
        tokenizer: Saved beside the model.
        directory: Directory of the checkpoint.

    Returns:
        The merged model.

    Raises:
        ValueError: The merge gives a weight that is not finite.
    """
    # A model with a task head has none.
    generation_config = getattr(model, "generation_config", None)
    merged = model.merge_and_unload(safe_merge=True)
    if generation_config is not None:
        merged.generation_config = generation_config
    merged.config.use_cache = True
    merged.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return merged
