# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models that FSDP2 shards over the processes: tied weights, and checkpoints that hold gathered ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import unwrap_peft_model
from typing_extensions import override


class ShardingTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` that shards models with tied weights by FSDP2, and saves and loads them as ordinary ones."""

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        base = unwrap_peft_model(self.accelerator.unwrap_model(self.model))
        if self.is_fsdp_enabled and base.config.tie_word_embeddings:
            # One module for the weight that encoder and decoder share: FSDP2 refuses it in two modules.
            base.set_input_embeddings(base.get_input_embeddings())

    @override
    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """`Trainer._save`, with the code of the model's own class under FSDP2, and with tied weights once."""
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        if state_dict is not None:
            state_dict = {name: weight for name, weight in state_dict.items() if tied.get(name) not in state_dict}
        with _own_classes(cast(nn.Module, self.model)):
            super()._save(output_dir, state_dict)

    @override
    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """`Trainer._load_from_checkpoint`; under FSDP2 safetensors are loaded here, since it fails on tied weights."""
        files = sorted(Path(resume_from_checkpoint).glob("model*.safetensors"))
        if not (self.is_fsdp_enabled and files):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        options = StateDictOptions(full_state_dict=True, strict=False)
        for file in files:
            set_model_state_dict(cast(nn.Module, self.model), cast(dict[str, Any], load_file(file)), options=options)

    @override
    def _load_best_model(self) -> None:
        """`Trainer._load_best_model`, under FSDP2 as in a resume."""
        best = str(self.state.best_model_checkpoint)
        if self.is_fsdp_enabled and any(Path(best).glob("model*.safetensors")):
            self._load_from_checkpoint(best)
        else:
            super()._load_best_model()


@contextmanager
def _own_classes(model: nn.Module) -> Iterator[None]:
    """A context in which the modules of a sharded model have their own classes in place of those that FSDP2 made."""
    sharded = {module: type(module) for module in model.modules() if _is_sharded(module)}
    try:
        for module, sharded_class in sharded.items():
            module.__class__ = sharded_class.__bases__[1]
        yield
    finally:
        for module, sharded_class in sharded.items():
            module.__class__ = sharded_class


def _is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 made the class of a module, of `FSDPModule` and the module's own."""
    bases = type(module).__bases__
    return len(bases) == 2 and bases[0] is FSDPModule
