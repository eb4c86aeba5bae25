# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The linear layers that LoRA adapts when the user names none."""

from ..peft_registration import LORA_TARGETS


def default_lora_targets() -> list[str]:
    """
    Queries and values of attentions (Hu et al. 2021, section 7.1), and the gates of recurrent layers.

    `import hf_attn` contributes them to PEFT, so a `LoraConfig` without `target_modules` has them too.

    Returns:
        Last parts of module names; those that a model lacks are passed over.
    """
    return list(LORA_TARGETS)
