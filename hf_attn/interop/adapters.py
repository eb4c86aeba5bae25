# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""LoRA adapters that PEFT trained on models of transformers, for the same models as hf_attn holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel
from transformers.utils import ADAPTER_CONFIG_NAME

from ..loading.adapter import BASE_FILE, base_fingerprint, load_adapter
from ..loading.json_files import read_json_object
from .conversion import family_of
from .families import Family
from .proof import Proof, prove


_PREFIX = "base_model.model."
# Modules that an adapter may bring whole.
_WHOLE_MODULES = ("lm_head", "qa_outputs")


def import_adapter(
    adapter_dir: str | Path, source: PreTrainedModel, target: PreTrainedModel, out: str | Path, base_name: str
) -> Proof:
    """
    Imports a LoRA, with DoRA or rank-stabilised scaling where it has them, and proves it.

    Args:
        adapter_dir: Directory of the adapter.
        source: The base that it was trained on; it is wrapped.
        target: The same base as hf_attn holds it; it is wrapped.
        out: Directory to save the adapter to.
        base_name: What the saved adapter calls its base.

    Returns:
        How well both adapted models agree.

    Raises:
        ValueError: The adapter is no LoRA, or has what cannot be held, or does not fit, or the results differ.
    """
    config = read_json_object(Path(adapter_dir) / ADAPTER_CONFIG_NAME, "`--adapter`:")
    if config.get("peft_type") != "LORA":
        raise ValueError(f"`--adapter` must be a LoRA, got {config.get('peft_type')!r} in {str(adapter_dir)!r}.")
    _refuse(config)
    fingerprint = base_fingerprint(target)
    adapted: Any = load_adapter(source, adapter_dir)
    family = family_of(source.config)
    ours: Any = get_peft_model(target, _config(adapted, family))
    ours.peft_config["default"].base_model_name_or_path = base_name
    weights = {_name_here(name, family): value for name, value in get_peft_model_state_dict(adapted).items()}
    if f"{_PREFIX}lm_head.weight" in weights and target.config.logits_bias:
        # There it is a buffer of the model, here part of the module that the adapter brings whole.
        weights[f"{_PREFIX}lm_head.bias"] = ours.get_base_model().lm_head.original_module.bias
    loaded: Any = set_peft_model_state_dict(ours, weights)
    if loaded.unexpected_keys:
        raise ValueError(f"`--adapter` has weights that no module takes: {', '.join(loaded.unexpected_keys[:5])}.")
    adapted.eval()
    ours.eval()
    proof = prove(adapted.get_base_model(), ours.get_base_model())
    ours.save_pretrained(out)
    (Path(out) / BASE_FILE).write_text(json.dumps(fingerprint, indent=2) + "\n", encoding="utf-8")
    return proof


def _refuse(config: dict[str, Any]) -> None:
    for field in ("trainable_token_indices", "target_parameters", "layer_replication", "megatron_config"):
        if config.get(field):
            raise ValueError(f"`--adapter` has `{field}` = {config[field]!r}, which cannot be imported.")
    whole = config.get("modules_to_save") or []
    others = [name for name in whole if name not in _WHOLE_MODULES]
    if others:
        raise ValueError(
            f"`--adapter` has `modules_to_save` = {whole}; those that can be imported: {', '.join(_WHOLE_MODULES)}."
        )


def _name_here(name: str, family: Family) -> str:
    """The name here of a weight of an adapter, such as `base_model.model.decoder...q.lora_A.weight`."""
    inner = name.removeprefix(_PREFIX)
    for mark in (".lora_", ".modules_to_save."):
        module, found, rest = inner.partition(mark)
        if found:
            return f"{_PREFIX}{_module_here(module, family)}{mark}{rest}"
    module, _, kind = inner.rpartition(".")
    return f"{_PREFIX}{_module_here(module, family)}.{kind}"


def _module_here(module: str, family: Family) -> str:
    here = family.name_here(f"{module}.weight")
    if here is None:
        raise ValueError(f"`--adapter` adapts `{module}`, which has no effect here.")
    return here.removesuffix(".weight")


def _config(adapted: Any, family: Family) -> LoraConfig:
    """The adapter's config with the names of modules as they are here, and each module's rank and scale spelt out."""
    (name,) = adapted.peft_config
    given: LoraConfig = adapted.peft_config[name]
    modules = {
        _module_here(path, family): module
        for path, module in adapted.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and name in module.r
    }
    if not modules:
        raise ValueError("`--adapter` adapts no module of its base.")
    return LoraConfig(
        task_type=given.task_type,
        r=given.r,
        lora_alpha=given.lora_alpha,
        lora_dropout=given.lora_dropout,
        use_rslora=given.use_rslora,
        use_dora=given.use_dora,
        bias=given.bias,
        target_modules=sorted(modules),
        modules_to_save=given.modules_to_save,
        rank_pattern={path: module.r[name] for path, module in modules.items() if module.r[name] != given.r},
        alpha_pattern={
            path: module.lora_alpha[name]
            for path, module in modules.items()
            if module.lora_alpha[name] != given.lora_alpha
        },
    )
