# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The family is known to the Auto classes whatever is imported first, and `import hf_attn` imports next to nothing."""

import subprocess
import sys

import pytest

import hf_attn


def run_python(*lines: str) -> str:
    """What a program prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_import_leaves_the_libraries_alone():
    heavy = ["torch", "transformers", "peft", "evaluate", "datasets"]
    program = f"import sys, hf_attn; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(program) == "[]"


@pytest.mark.parametrize(
    "first",
    [
        "import hf_attn",
        "import hf_attn.modeling_hf_attn",
        "from hf_attn import HfAttnConfig",
        "import transformers, hf_attn",
        "from transformers import AutoConfig, AutoModelForSeq2SeqLM; import hf_attn",
        "import hf_attn; from transformers import PreTrainedModel",
        "import hf_attn, transformers.pipelines",
        "import peft, hf_attn",
    ],
)
def test_order_of_imports_does_not_matter(first):
    assert (
        run_python(
            first,
            "from transformers import AutoConfig, AutoModelForSeq2SeqLM",
            "config = AutoConfig.for_model('hf_attn', vocab_size=64, d_model=8, encoder_attention_heads=2,",
            "    decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, encoder_layers=1, decoder_layers=1)",
            "print(type(AutoModelForSeq2SeqLM.from_config(config)).__name__)",
        )
        == "HfAttnForConditionalGeneration"
    )


def test_every_public_name_can_be_imported_and_is_listed():
    for name in hf_attn.__all__:
        assert getattr(hf_attn, name) is not None
        assert name in dir(hf_attn)
    with pytest.raises(AttributeError, match="no attribute 'HfAttnModell'"):
        hf_attn.HfAttnModell  # noqa: B018
