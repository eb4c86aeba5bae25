# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Averages the weights of the last checkpoints of a run."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SaveStrategy
from transformers.utils import logging
from typing_extensions import override

from ...loading.sharded_weights import gathered_weights


logger = logging.get_logger(__name__)

_MORE_CHECKPOINTS = "save more often (`save_strategy`, `save_steps`), or train longer"


class EnoughCheckpointsCallback(TrainerCallback):
    """
    Refuses a training that will save fewer checkpoints than are to be averaged, before its first step.

    Args:
        count: How many are to be averaged.

    Raises:
        ValueError: (when training begins) there will be fewer.
    """

    def __init__(self, count: int):
        self.count = count

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`TrainerCallback.on_train_begin`: counts the saves to come; those of `save_strategy` best are not known."""
        planned = self.count
        if args.save_strategy == SaveStrategy.EPOCH:
            planned = state.num_train_epochs
        elif args.save_strategy == SaveStrategy.STEPS:
            planned = math.ceil(state.max_steps / state.save_steps)
        if planned < self.count:
            raise ValueError(
                f"`average_checkpoints`={self.count} needs as many checkpoints, the training will save {planned}: "
                f"{_MORE_CHECKPOINTS}."
            )


def average_checkpoints(output_dir: str | Path, count: int) -> dict[str, torch.Tensor]:
    """
    The mean of the weights of the last `count` checkpoints, as in Vaswani et al. 2017, section 6.1.

    Args:
        output_dir: Directory of a run, holding `checkpoint-STEP` folders with weights or adapters in safetensors.
        count: How many checkpoints, counted from the last step.

    Returns:
        Tensor names to means, computed in float32 and returned in the dtype of the checkpoints. Integer tensors are
        those of the last checkpoint.

    Raises:
        ValueError: There are fewer checkpoints, or one holds no safetensors.
    """
    folders = Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    checkpoints = sorted(folders, key=lambda folder: int(folder.name.rsplit("-", 1)[1]))
    if len(checkpoints) < count:
        raise ValueError(
            f"`average_checkpoints`={count} needs as many checkpoints, {str(output_dir)!r} has {len(checkpoints)}: "
            f"{_MORE_CHECKPOINTS}."
        )
    chosen = checkpoints[-count:]
    sums: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for checkpoint in chosen:
        files = sorted(checkpoint.glob("*.safetensors"))
        if not files:
            raise ValueError(f"{str(checkpoint)!r} holds no weights in safetensors to average.")
        for file in files:
            for name, tensor in load_file(file).items():
                dtypes[name] = tensor.dtype
                if name in sums and tensor.is_floating_point():
                    sums[name] += tensor.float()
                else:
                    sums[name] = tensor.float() if tensor.is_floating_point() else tensor
    logger.info(f"Averaged {', '.join(checkpoint.name for checkpoint in chosen)}.")
    return {
        name: (total / count).to(dtypes[name]) if dtypes[name].is_floating_point else total
        for name, total in sums.items()
    }


def load_weights(model: PreTrainedModel | PeftModel, weights: dict[str, torch.Tensor]) -> None:
    """
    Loads the weights of checkpoints, whole models or adapters, into a model.

    Raises:
        ValueError: A tensor is none of the model, or the model has one that is neither among them nor tied.
    """
    missing: set[str] = set()
    with gathered_weights(model.parameters(), changes=True):
        if isinstance(model, PeftModel):
            unexpected = cast(Any, set_peft_model_state_dict(model, weights)).unexpected_keys
        else:
            result = model.load_state_dict(weights, strict=False)
            unexpected = result.unexpected_keys
            # Tied weights come with their source; fixed ones, such as sinusoidal positions, are not saved.
            elsewhere = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
            missing = set(result.missing_keys) - elsewhere
    if unexpected or missing:
        raise ValueError(
            f"The averaged checkpoints do not fit the model: unexpected {sorted(unexpected)}, missing "
            f"{sorted(missing)}."
        )
