# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Packed linear layers compute what they are made from, exactly or to eight bits, in any model."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_attn.cli.generate import packed
from hf_attn.generation import fast_generate, load_for_inference, pack_linears
from hf_attn.generation.fast import int8_kernel
from hf_attn.generation.fast.int8_kernel import native_library
from hf_attn.generation.fast.packed_linear import Int8Linear, PackedLinear
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


def rounded(weight, rows):
    """Both with values that eight bits hold: multiples of 1/127 of the largest of a row."""
    scales = rows.abs().amax(dim=1, keepdim=True) / 127
    weight_scales = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / weight_scales).round() * weight_scales, (rows / scales).round() * scales


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_int8_product(has_bias, rows):
    torch.manual_seed(0)
    linear = nn.Linear(24, 40, bias=has_bias)
    inputs = torch.randn(rows, 24) * torch.rand(rows, 1) * 10
    weight, rounded_inputs = rounded(linear.weight.detach().double(), inputs.double())
    bias = 0 if linear.bias is None else linear.bias.detach()
    outputs = Int8Linear(linear)(inputs)
    torch.testing.assert_close(outputs, (rounded_inputs @ weight.T + bias).float(), rtol=1e-5, atol=1e-5)
    exact = linear(inputs).detach()
    assert (outputs - exact).norm() < 0.02 * exact.norm()


def test_int8_rows_do_not_know_of_each_other_and_zeros_are_fine():
    torch.manual_seed(0)
    linear = nn.Linear(16, 8)
    packed = Int8Linear(linear)
    inputs = torch.randn(4, 5, 16)
    inputs[1, 2] = 0
    inputs[3] *= 1000
    outputs = packed(inputs)
    assert torch.equal(outputs[1, 2], linear.bias)
    assert torch.equal(outputs[0], packed(inputs[0]))


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (16, 16), (24, 100), (130, 64), (256, 129)])
def test_the_compiled_kernel_gives_the_same_bits(inputs, outputs):
    if native_library() is None:
        pytest.skip("needs AVX-512 VNNI and a C compiler")
    torch.manual_seed(0)
    packed = Int8Linear(nn.Linear(inputs, outputs))
    assert packed.kernel_weights is not None
    for rows in (1, 2, 3, 4, 5, 11):
        states = torch.randn(rows, inputs) * torch.rand(rows, 1) * 100
        states[0, 0] = 0
        found = packed(states)
        assert torch.equal(packed(states.t().contiguous().t()), found)
        assert torch.equal(packed._product(states), found)
    zeros = torch.zeros(2, 3, inputs)
    assert torch.equal(packed(zeros), packed.bias.expand(2, 3, -1))


def test_without_a_compiler_it_is_slower(monkeypatch, tmp_path):
    if native_library() is None:
        pytest.skip("needs AVX-512 VNNI and a C compiler")
    monkeypatch.setattr(int8_kernel, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(int8_kernel.shutil, "which", lambda name: None)
    with monkeypatch.context() as context:
        context.setattr(int8_kernel.logger, "warning", lambda message: messages.append(message))
        messages: list[str] = []
        assert int8_kernel.native_library.__wrapped__() is None
    assert "for want of a C compiler (`cc`) that works: there is none on the path" in messages[0]


def test_packed_product_follows_changed_weights():
    torch.manual_seed(0)
    linear = nn.Linear(16, 8)
    packed = PackedLinear(linear)
    inputs = torch.randn(3, 16)
    with torch.no_grad():
        torch.testing.assert_close(packed(inputs), linear(inputs))
        torch.testing.assert_close(packed(inputs[:1]), linear(inputs[:1]))
        linear.weight.mul_(2)
        torch.testing.assert_close(packed(inputs), linear(inputs))
    packed(inputs).sum().backward()
    assert linear.weight.grad is not None


@pytest.mark.parametrize("name", ["full", "lstm", "gru-one-way", "mixed", "mixed-copying"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_float32_outputs_are_the_same(name, num_beams):
    config = tiny_config(**{"tie_word_embeddings": False, **MATRIX[name]})
    model = tiny_model(config)
    inputs = tiny_batch(config)
    del inputs["labels"]
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    expected = model.generate(**inputs, **options)
    model = pack_linears(model, "float32")
    assert any(isinstance(module, PackedLinear) for module in model.modules())
    assert torch.equal(model.generate(**inputs, **options), expected)
    assert torch.equal(model.generate(**inputs, **options, custom_generate=fast_generate), expected)


def test_float32_is_saved_and_loaded(tmp_path):
    model = tiny_model()
    expected = model(**tiny_batch(model.config)).logits
    pack_linears(model).save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**tiny_batch(model.config)).logits, expected)


@pytest.mark.parametrize("name", ["full", "lstm", "ssru", "mixed"])
def test_int8_models_generate_alike_either_way(name):
    config = tiny_config(**{"tie_word_embeddings": False, **MATRIX[name]})
    model = tiny_model(config)
    batch = tiny_batch(config)
    with torch.no_grad():
        exact = model(**batch).logits
        pack_linears(model, "int8")
        logits = model(**batch).logits
    assert 0 < (logits - exact).norm() < 0.1 * exact.norm()
    assert not any(type(module) is nn.Linear for module in model.model.decoder.modules())
    del batch["labels"]
    expected = model.generate(**batch, num_beams=2, max_new_tokens=8)
    found = model.generate(**batch, num_beams=2, max_new_tokens=8, custom_generate=fast_generate)
    assert torch.equal(found, expected)


SIZE = {"vocab_size": 40, "d_model": 16}
BART = BartConfig(
    **SIZE, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
)  # fmt: skip
T5 = T5Config(**SIZE, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize(
    ("model_class", "config"), [(BartForConditionalGeneration, BART), (T5ForConditionalGeneration, T5)]
)
def test_other_families(model_class, config, weights):
    torch.manual_seed(0)
    model = model_class(config).eval()
    token_ids = torch.tensor([[4, 5, 6, 2]])
    with torch.no_grad():
        exact = model(token_ids, decoder_input_ids=token_ids).logits
        logits = pack_linears(model, weights)(token_ids, decoder_input_ids=token_ids).logits
    assert (logits - exact).norm() <= (0.1 if weights == "int8" else 1e-5) * exact.norm()
    assert model.generate(token_ids, max_new_tokens=4).shape[1] > 1


def test_bfloat16_becomes_float32():
    model = tiny_model().bfloat16()
    assert pack_linears(model, "int8").dtype == torch.float32
    assert model.generate(torch.tensor([[4, 5, 2]]), max_new_tokens=4).shape[1] > 1


def test_an_adapter_is_merged_before_packing(tokenizer, tmp_path):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", init_lora_weights=False, lora_alpha=64)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    batch = tiny_batch(model.config)
    loaded, _ = load_for_inference(str(tmp_path / "base"), str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(
            packed(loaded, "float32")(**batch).logits, adapted(**batch).logits, rtol=1e-4, atol=1e-4
        )
    with pytest.raises(ValueError, match=r"`model` must have no adapters for its layers to be packed\. Merge them"):
        pack_linears(adapted)


def test_what_cannot_be_packed_or_saved(tmp_path):
    model = tiny_model()
    with pytest.raises(ValueError, match=r"`weights` must be one of float32, int8, got 'int4'"):
        pack_linears(model, "int4")
    with pytest.raises(ValueError, match=r"`model` must be on a CPU for its layers to be packed, got meta"):
        pack_linears(tiny_model().to("meta"))
    with pytest.raises(ValueError, match=r"weights of eight bits cannot be saved"):
        pack_linears(model, "int8").save_pretrained(tmp_path)
