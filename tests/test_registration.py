# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The family is known to transformers and PEFT whatever is imported first, and hinders no import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_attn


PACKAGE = Path(hf_attn.__file__).parent


def public_names() -> list[tuple[str, str]]:
    """Module and name of all that the package's modules list in `__all__`."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
                names += [(module, name) for name in ast.literal_eval(node.value)]
    return names


OURS = [*public_names(), ("hf_attn.pipelines", "TranslationPipeline"), ("hf_attn.cli", "main")]
THEIRS = [
    ("transformers", "BartForConditionalGeneration"),
    ("transformers", "MarianMTModel"),
    ("transformers", "T5ForConditionalGeneration"),
    ("transformers", "LlamaForCausalLM"),
    ("transformers", "BertModel"),
    ("transformers", "AutoConfig"),
    ("transformers", "AutoModelForSeq2SeqLM"),
    ("transformers", "AutoTokenizer"),
    ("transformers", "PreTrainedModel"),
    ("transformers", "GenerationMixin"),
    ("transformers", "Seq2SeqTrainer"),
    ("transformers", "pipeline"),
    ("transformers", "DynamicCache"),
    ("transformers.modeling_layers", "GradientCheckpointingLayer"),
    ("peft", "LoraConfig"),
    ("peft", "get_peft_model"),
    ("peft", "AutoPeftModelForSeq2SeqLM"),
    ("peft.utils", "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING"),
    ("accelerate", "Accelerator"),
    ("accelerate.utils", "set_seed"),
]
# What is known of the family once everything is imported: a model from its config and a pipeline; LoRA's targets.
USE = """
from transformers import AutoConfig, AutoModelForSeq2SeqLM
from transformers.pipelines import PIPELINE_REGISTRY
sizes = dict(vocab_size=64, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8)
config = AutoConfig.for_model("hf_attn", **sizes, encoder_attention_heads=2, decoder_attention_heads=2)
model = AutoModelForSeq2SeqLM.from_config(config)
print(type(model).__name__, "attn-translation" in PIPELINE_REGISTRY.supported_tasks)
"""
KNOWN = "HfAttnForConditionalGeneration True"
ADAPT = """
from peft import LoraConfig, get_peft_model
print("v_proj" in get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM")).peft_config["default"].target_modules)
"""


def run_python(program: str) -> str:
    """What a program prints in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout.strip()


def check_import(first: str, second: str) -> None:
    assert run_python(f"{first}\n{second}\n{USE}").splitlines()[-1] == KNOWN


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import hf_attn", "from transformers import BartForConditionalGeneration"),
        ("from transformers import AutoConfig, AutoModelForSeq2SeqLM", "import hf_attn"),
        ("from hf_attn.pipelines import TranslationPipeline", "import transformers.pipelines"),
        ("import peft", "import hf_attn"),
        ("import hf_attn", "import peft"),
        ("from hf_attn.configuration_hf_attn import HfAttnConfig", "from transformers import PreTrainedModel"),
    ],
)
def test_order_of_imports_does_not_matter(first, second):
    assert run_python(f"{first}\n{second}\n{USE}{ADAPT}").splitlines()[-2:] == [KNOWN, "True"]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(("module", "name"), THEIRS)
def test_each_name_of_others_before_and_after(module, name, order):
    lines = ["import hf_attn", f"from {module} import {name}"]
    check_import(*(lines if order == "after" else reversed(lines)))


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), OURS)
def test_each_public_name_comes_first(module, name):
    check_import(f"from {module} import {name}", "import hf_attn")


def test_public_names_are_there():
    assert len(OURS) > 50 and len(THEIRS) == 20
    for name in hf_attn.__all__:
        assert getattr(hf_attn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'HfAttnModell'"):
        hf_attn.HfAttnModell  # noqa: B018
