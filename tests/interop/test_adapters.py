# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""LoRA that PEFT trained on models of transformers: the same function on the model that was imported."""

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

from hf_attn.interop.importing import import_checkpoint
from hf_attn.loading.adapter import load_adapter
from tests.interop.families import build


ADAPTERS = {
    "bart": {"target_modules": ["q_proj", "v_proj", "fc1"]},
    "bart-untied": {"target_modules": ["q_proj", "k_proj"], "modules_to_save": ["lm_head"]},
    "marian": {"target_modules": ["q_proj", "v_proj"], "use_dora": True},
    "m2m_100": {"target_modules": "all-linear", "use_rslora": True, "exclude_modules": ["lm_head"]},
    "t5": {"target_modules": ["q", "v", "wi", "wo"], "rank_pattern": {"wo": 2}, "alpha_pattern": {"q": 16}},
    "t5-v1.1": {"target_modules": r".*decoder.*EncDecAttention\.(q|v)"},
}


def adapter_on(name, path, **options):
    """Saves a model and an adapter with random weights on it; returns the adapted model."""
    base = build(name)
    base.save_pretrained(path / "base")
    model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(path / "lora")
    return model.eval()


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_come_along(name, tmp_path):
    adapted = adapter_on(name, tmp_path, **ADAPTERS[name])
    imported = import_checkpoint(tmp_path / "base", tmp_path / "out", tmp_path / "lora")
    assert imported.adapter_proof.generated == (1, 4)

    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    ids = torch.randint(5, 39, (2, 7))
    asked = {"input_ids": ids, "decoder_input_ids": ids, "use_cache": False}
    with torch.no_grad():
        plain = base(**asked).logits
        loaded = load_adapter(base, tmp_path / "out" / "adapter").eval()
        ours, theirs = (model(**asked).logits for model in (loaded, adapted))
        assert (ours - plain).abs().max() > 1e-2
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
        merged = loaded.merge_and_unload()(**asked).logits
    torch.testing.assert_close(merged, theirs, atol=5e-5, rtol=1e-5)


def test_what_cannot_be_imported_is_refused(tmp_path):
    base = build("bart")
    base.save_pretrained(tmp_path / "base")
    get_peft_model(base, PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2)).save_pretrained(
        tmp_path / "prefix"
    )
    with pytest.raises(ValueError, match="`--adapter` must be a LoRA, got 'PREFIX_TUNING'"):
        import_checkpoint(tmp_path / "base", tmp_path / "out", tmp_path / "prefix")
    adapter_on("bart", tmp_path / "whole", target_modules=["q_proj"], modules_to_save=["layernorm_embedding"])
    with pytest.raises(ValueError, match=r"has `modules_to_save` = \['layernorm_embedding'\]; those that can be"):
        import_checkpoint(tmp_path / "base", tmp_path / "out", tmp_path / "whole" / "lora")
    with pytest.raises(ValueError, match=r"does not fit|was made for another base"):
        adapter_on("mbart", tmp_path / "other", target_modules=["q_proj"])
        import_checkpoint(build_other(tmp_path), tmp_path / "out", tmp_path / "other" / "lora")
    assert not (tmp_path / "out").exists()


def build_other(tmp_path):
    """A base with heads of another width."""
    build("bart-odd").save_pretrained(tmp_path / "odd")
    return tmp_path / "odd"
