# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""LoRA on the family: default targets, what is refused, merging, and the base an adapter belongs to."""

import copy
import json
import re

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from hf_attn.adapters import (
    add_lora,
    base_fingerprint,
    finish_adapter,
    four_bit_config,
    linear_names,
    load_adapter,
    lora,
)
from hf_attn.adapters.lora import keep_four_bits_trainable
from hf_attn.configuration_hf_attn import LORA_TARGETS
from hf_attn.data import train_tokenizer
from hf_attn.generation import fast_generate
from hf_attn.training import AdapterArguments
from tests.utils import tiny_config, tiny_model


MIXED = {"encoder_layer_types": ["full_attention", "gru"], "decoder_layer_types": ["lstm", "ssru"]}


def arguments(**values) -> AdapterArguments:
    return AdapterArguments(lora=True, lora_r=2, lora_dropout=0.0, **values)


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"input_ids": torch.randint(3, 40, (2, 5)), "labels": torch.randint(3, 40, (2, 4))}


def perturbed(model: PeftModel) -> PeftModel:
    """The adapter as training would leave it: half of its matrices start at zero."""
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def test_peft_knows_the_family():
    model = get_peft_model(tiny_model(tiny_config(**MIXED)), LoraConfig(task_type="SEQ_2_SEQ_LM", r=2))
    adapted = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_A" in name}
    assert adapted == set(LORA_TARGETS)


def test_default_targets_are_linear_layers_of_the_family():
    present = linear_names(tiny_model(tiny_config(**MIXED)))
    assert set(LORA_TARGETS) <= set(present) and "lm_head" not in present


@pytest.mark.parametrize("targets", [None, ["all-linear"], ["q_proj", "fc1"], ["shared"], ["all-linear", "shared"]])
def test_merged_equals_unmerged_equals_reloaded(tmp_path, targets):
    model = perturbed(add_lora(tiny_model(tiny_config(**MIXED)), arguments(lora_target_modules=targets)))
    base_logits = tiny_model(tiny_config(**MIXED))(**batch()).logits
    expected = model(**batch()).logits
    assert not torch.allclose(expected, base_logits, atol=1e-3)
    model.save_pretrained(tmp_path)
    finish_adapter(model, train_tokenizer(["ein Hund"], 264), tmp_path, merge=True)
    reloaded = load_adapter(tiny_model(tiny_config(**MIXED)), tmp_path).eval()
    torch.testing.assert_close(reloaded(**batch()).logits, expected, atol=1e-5, rtol=1e-5)
    merged = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged").eval()
    assert isinstance(merged, HfAttnForConditionalGeneration)
    torch.testing.assert_close(merged(**batch()).logits, expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "generation_config.json").is_file()


def test_dora():
    model = add_lora(tiny_model(tiny_config(**MIXED)), arguments(use_dora=True))
    model(**batch()).loss.backward()
    assert any("magnitude" in name and parameter.grad is not None for name, parameter in model.named_parameters())


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_tied_embeddings_are_refused_one_by_one(target):
    message = (
        f"names `{target}`, whose weight is shared .* `shared` in their place .* `trainable_token_indices`; to train "
        "the whole embedding, `embed_tokens` and `lm_head` in its `modules_to_save`"
    )
    with pytest.raises(ValueError, match=message):
        add_lora(tiny_model(), arguments(lora_target_modules=["q_proj", target]))


def test_tied_embeddings_of_other_families_are_refused():
    config = MarianConfig(
        vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"names `shared`, whose weight is shared .* after merging. To train new"):
        add_lora(MarianMTModel(config), arguments(lora_target_modules=["shared"]))


def embedding_factors(model: PeftModel) -> tuple[torch.Tensor, torch.Tensor]:
    layer = model.get_base_model().model.shared
    return layer.lora_embedding_A["default"], layer.lora_embedding_B["default"]


@pytest.mark.parametrize("skip_logits", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, {"copy_attention": True}, {"tie_word_embeddings": False}], ids=["tied", "copying", "untied"]
)
def test_a_lora_on_the_embedding_acts_on_all_that_is_tied_to_it(fields, skip_logits):
    model = perturbed(add_lora(tiny_model(tiny_config(**fields)), arguments(lora_target_modules=["shared"])))
    loss = model(**batch(), skip_logits=skip_logits).loss
    factors = embedding_factors(model)
    gradients = torch.autograd.grad(loss, factors)
    # The same sum as one weight of a model without an adapter.
    base = tiny_model(tiny_config(**fields)).eval()
    weight = base.model.shared.weight + 16 * (factors[1] @ factors[0]).T
    named = base.named_parameters(remove_duplicate=False)
    tied = {name: weight for name, value in named if value is base.model.shared.weight}
    expected = torch.func.functional_call(base, tied, (), batch()).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    wanted_gradients = torch.autograd.grad(expected, factors)
    # As in `nn.Embedding`, the row of the padding token learns nothing.
    wanted_gradients[0][:, base.config.pad_token_id] = gradients[0][:, base.config.pad_token_id]
    for found, wanted in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_lora_on_the_embedding_is_stored_once(tmp_path):
    model = add_lora(tiny_model(), arguments(lora_target_modules=["shared"]))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert sorted(name.rsplit(".", 1)[-1] for name in stored) == ["lora_embedding_A", "lora_embedding_B"]
    assert sum(parameter.requires_grad for parameter in model.parameters()) == 2


def test_a_lora_on_the_embedding_goes_along_with_a_copy_and_leaves_when_it_is_disabled():
    model = perturbed(add_lora(tiny_model(), arguments(lora_target_modules=["shared"])))
    adapted, base = model(**batch()).logits, tiny_model().eval()(**batch()).logits
    copied = copy.deepcopy(model)
    with torch.no_grad():
        embedding_factors(copied)[0].zero_()
    torch.testing.assert_close(copied(**batch()).logits, base)
    torch.testing.assert_close(model(**batch()).logits, adapted)
    with model.disable_adapter():
        torch.testing.assert_close(model(**batch()).logits, base)


@pytest.mark.parametrize("model_class", [HfAttnForQuestionAnswering, HfAttnForSequenceClassification])
def test_a_lora_on_the_embedding_serves_the_task_heads(model_class):
    inputs = {"input_ids": torch.tensor([[5, 6, 2], [7, 5, 2]])}
    model = tiny_model(model_class=model_class).eval()
    base = model(**inputs)[0]
    model = perturbed(get_peft_model(model, LoraConfig(r=2, target_modules=["shared"])))
    adapted = model(**inputs)[0]
    assert not torch.allclose(adapted, base, atol=1e-3)
    torch.testing.assert_close(model.merge_and_unload()(**inputs)[0], adapted, atol=1e-5, rtol=1e-5)


def test_a_lora_on_the_embedding_writes_the_same_text_fast_and_merged():
    model = perturbed(add_lora(tiny_model(tiny_config(**MIXED)), arguments(lora_target_modules=["shared"])))
    inputs = {"input_ids": batch()["input_ids"], "num_beams": 3, "max_new_tokens": 6}
    expected = model.generate(**inputs)
    assert torch.equal(model.generate(**inputs, custom_generate=fast_generate), expected)
    merged = model.merge_and_unload()
    assert torch.equal(merged.generate(**inputs), expected)
    assert not torch.equal(tiny_model(tiny_config(**MIXED)).eval().generate(**inputs), expected)


def test_an_adapter_on_the_embedding_and_on_what_is_tied_to_it_is_refused():
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["shared", "lm_head"]))
    with pytest.raises(ValueError, match=r"`lm_head`, which is tied to it, is Linear.* Leave `lm_head` out"):
        model(**batch())


def test_a_lora_on_the_embedding_starts_as_those_of_linear_layers_do():
    model = add_lora(tiny_model(), arguments(lora_target_modules=["shared"]))
    zero, drawn = embedding_factors(model)
    assert not zero.any() and 0 < drawn.abs().max() <= len(drawn) ** -0.5


@pytest.mark.parametrize("model_class", [HfAttnForConditionalGeneration, HfAttnForQuestionAnswering])
@pytest.mark.parametrize(
    "trained",
    [{"trainable_token_indices": [5]}, {"modules_to_save": ["embed_tokens", "lm_head"]}],
    ids=["rows", "whole"],
)
def test_embeddings_are_trained_and_merged_as_the_message_says(tmp_path, model_class, trained):
    inputs = {"input_ids": torch.tensor([[5, 6, 2], [7, 5, 2]]), "decoder_input_ids": torch.tensor([[2, 5, 6]] * 2)}
    model = tiny_model(model_class=model_class)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], **trained)).eval()
    model(**inputs)[0].square().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if "lora" not in name}
    own = [name for name in gradients if name.endswith(("tokens_delta.default", "modules_to_save.default.weight"))]
    assert any(re.search("shared|embed_tokens", name) for name in own)
    assert all(gradients[name].any() for name in own)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in own:
                weight.add_(torch.randn_like(weight), alpha=0.1)
        expected = model(**inputs)[0]
        merged = model.merge_and_unload()
        merged.save_pretrained(tmp_path)
        loaded = model_class.from_pretrained(tmp_path)
        torch.testing.assert_close(merged(**inputs)[0], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(loaded(**inputs)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("is_tied", "trained"),
    [(True, {"modules_to_save": ["shared"]}), (False, {"trainable_token_indices": [5]})],
    ids=["whole", "rows without the tie"],
)
def test_adapters_on_an_embedding_that_nothing_reads_are_refused(is_tied, trained):
    base = tiny_model(tiny_config(tie_word_embeddings=is_tied))
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], **trained))
    with pytest.raises(ValueError, match=r"`shared` alone is wrapped, in [A-Za-z]*Wrapper, .* `modules_to_save=\["):
        model(**batch())


def test_an_adapter_on_an_embedding_that_nothing_reads_is_not_loaded(tmp_path):
    saved_adapter(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modules_to_save": ["model.shared"]}))
    with pytest.raises(ValueError, match=r"has `modules_to_save` = .'model.shared'., .* `embed_tokens` and `lm_head`"):
        load_adapter(tiny_model(), tmp_path)


def test_targets_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match="names `query`, which no layer has; linear layers are fc1, fc2, k_proj"):
        add_lora(tiny_model(), arguments(lora_target_modules=["q_proj", "query"]))


def test_family_without_default_targets(monkeypatch):
    monkeypatch.delitem(lora.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, "t5")
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    with pytest.raises(ValueError, match="`lora_target_modules` has no default for 't5' models; name some of k, o, q"):
        add_lora(model, arguments())


@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"]])
def test_a_family_without_default_whose_layers_are_named_as_those_of_bart(targets):
    config = MarianConfig(
        vocab_size=40, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=8, decoder_ffn_dim=8, pad_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    assert "marian" not in lora.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    model = add_lora(MarianMTModel(config), arguments(lora_target_modules=targets))
    assert model.peft_config["default"].target_modules == {"q_proj", "v_proj"}
    assert torch.isfinite(model(**batch()).loss)


def test_transformers_loads_an_adapter_of_peft(tmp_path):
    """By `load_adapter`; `add_adapter` of transformers 5.24 asks for a PEFT that is not out."""
    adapted = get_peft_model(tiny_model(), LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path)
    loaded = tiny_model()
    before = loaded(**batch()).logits
    loaded.load_adapter(str(tmp_path))
    logits = loaded.eval()(**batch()).logits
    torch.testing.assert_close(logits, adapted(**batch()).logits)
    assert (logits - before).abs().max() > 1e-3


def saved_adapter(folder) -> None:
    model = add_lora(tiny_model(), arguments())
    model.save_pretrained(folder)
    finish_adapter(model, None, folder)


def test_adapter_of_another_base_is_refused_by_its_values(tmp_path):
    saved_adapter(tmp_path)
    load_adapter(tiny_model(), tmp_path)
    with pytest.raises(ValueError, match=r"was made for another base: sha256 .* there, .* here"):
        load_adapter(tiny_model(seed=1), tmp_path)


def test_adapter_of_another_base_is_refused_by_its_shapes(tmp_path):
    saved_adapter(tmp_path)
    with pytest.raises(ValueError, match=r"was made for another base: shape \[40, 16\] there, \[40, 32\] here"):
        load_adapter(tiny_model(tiny_config(d_model=32)), tmp_path)
    # One that was saved elsewhere has no fingerprint beside it.
    (tmp_path / "base_fingerprint.json").unlink()
    with pytest.raises(ValueError, match="does not fit this model, it was made for another base"):
        load_adapter(tiny_model(tiny_config(d_model=32)), tmp_path)


def test_adapter_of_layers_that_are_not_there_is_refused(tmp_path):
    model = add_lora(tiny_model(tiny_config(**MIXED)), arguments(lora_target_modules=["in_proj"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit this model, it was made for another base"):
        load_adapter(tiny_model(), tmp_path)


def test_fingerprint_is_the_same_in_any_precision():
    model = tiny_model()
    expected = base_fingerprint(model)
    assert json.loads(json.dumps(expected)) == base_fingerprint(model.to(torch.bfloat16))


@pytest.mark.parametrize("auto_class", [AutoModelForSeq2SeqLM, AutoModelForQuestionAnswering])
@pytest.mark.parametrize("use_dora", [False, True])
def test_four_bits_train_and_load_again(tmp_path, auto_class, use_dora):
    # A GRU reads in two directions of half the width each.
    widths = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 128)
    tiny_model(tiny_config(**MIXED, **widths)).save_pretrained(tmp_path / "base")
    base = auto_class.from_pretrained(tmp_path / "base", quantization_config=four_bit_config())
    model = add_lora(base, arguments(load_in_4bit=True, use_dora=use_dora))
    if auto_class is AutoModelForSeq2SeqLM:
        inputs = batch()
    else:
        inputs = {"input_ids": batch()["input_ids"], "start_positions": torch.ones(2, dtype=torch.long)}
        inputs["end_positions"] = inputs["start_positions"] + 1
    with torch.no_grad():  # as an evaluation does
        model.eval()(**inputs)
    model.train()(**inputs).loss.backward()
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lora_B" in name for name in trained)
    assert any("qa_outputs" in name for name in trained) == (auto_class is AutoModelForQuestionAnswering)
    assert all(torch.isfinite(gradient).all() for gradient in trained.values())
    model = perturbed(model)
    model.save_pretrained(tmp_path / "adapter")
    base_again = auto_class.from_pretrained(tmp_path / "base", quantization_config=four_bit_config())
    keep_four_bits_trainable(base_again)  # the same kernels on both sides
    again = PeftModel.from_pretrained(base_again, tmp_path / "adapter").eval()
    with torch.no_grad():
        loss = model(**inputs).loss
        # Products are in bfloat16, and the order of their sums depends on what was trained.
        torch.testing.assert_close(again(**inputs).loss, loss, rtol=5e-3, atol=0)
        with again.disable_adapter():
            assert abs(again(**inputs).loss - loss) > 0.05 * loss


def test_four_bits_leave_the_gate_of_copying_and_the_vectors_of_matches_whole(tmp_path):
    widths = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 128)
    tiny_model(tiny_config(**MIXED, **widths, copy_attention=True, match_embedding=True)).save_pretrained(tmp_path)
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=four_bit_config())
    assert base.copy_head.gate.weight.is_floating_point()
    model = add_lora(base, arguments(load_in_4bit=True))
    model(**batch()).loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_four_bits_refuse_widths_that_the_kernel_has_no_blocks_for(tmp_path):
    tiny_model(tiny_config(**MIXED)).save_pretrained(tmp_path)
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, quantization_config=four_bit_config())
    with pytest.raises(ValueError, match="`load_in_4bit` on a CPU needs layers whose inputs are a multiple of 64"):
        add_lora(base, arguments(load_in_4bit=True))


def test_four_bits_need_bitsandbytes(monkeypatch):
    monkeypatch.setattr(lora, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ImportError, match="`load_in_4bit` needs bitsandbytes: `pip install"):
        four_bit_config()


@pytest.mark.parametrize("targets", [None, ["all-linear"], ["q_proj", "all-linear"]])
def test_an_adapter_of_a_classifier_trains_and_keeps_its_head(tmp_path, targets):
    """It was one of question answering, whose head was frozen and not saved."""

    def classifier(seed: int) -> torch.nn.Module:
        """The head is drawn anew each time, as for a base that has none."""
        model = tiny_model(tiny_config(**MIXED, num_labels=2), HfAttnForSequenceClassification)
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.score.weight)
        return model

    model = add_lora(classifier(1), arguments(lora_target_modules=targets))
    config = model.peft_config["default"]
    assert config.task_type == "SEQ_CLS" and config.modules_to_save == ["score", "classifier"]
    inputs = {**batch(), "labels": torch.tensor([0, 1])}
    model.train()(**inputs).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name in trained if "lora_" not in name} == {
        f"base_model.model.score.modules_to_save.default.{part}" for part in ("weight", "bias")
    }
    assert not any("score" in name for name in trained if "lora_" in name)
    with torch.no_grad():
        model.base_model.model.score.modules_to_save["default"].weight.add_(1.0)
    logits = perturbed(model)(**inputs).logits
    model.save_pretrained(tmp_path)
    finish_adapter(model, train_tokenizer(["a"], 280), tmp_path)
    assert {name for name in load_file(tmp_path / "adapter_model.safetensors") if "lora_" not in name} == {
        "base_model.model.score.weight",
        "base_model.model.score.bias",
    }
    for load in (load_adapter, PeftModel.from_pretrained):
        torch.testing.assert_close(load(classifier(2), tmp_path).eval()(**inputs).logits, logits)
    torch.testing.assert_close(model.merge_and_unload()(**inputs).logits, logits, atol=1e-5, rtol=1e-4)


def test_a_model_without_the_head_of_a_task_is_refused():
    with pytest.raises(ValueError, match="`model` must have the head of a task"):
        add_lora(HfAttnModel(tiny_config()), arguments())
