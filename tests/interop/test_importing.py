# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models of transformers become hf_attn's: the same function in float64, the same tokens, or a clear refusal."""

import json
import subprocess
import sys

import pytest
import torch
import transformers as hf
from transformers import AutoModelForSeq2SeqLM

from hf_attn import HfAttnForConditionalGeneration
from hf_attn.cli import main
from hf_attn.generation.fast.fast_generate import fast_generate
from hf_attn.generation.fast.packed_linear import pack_linears
from hf_attn.interop.conversion import convert
from hf_attn.interop.families import FAMILIES, REFUSED
from hf_attn.interop.importing import import_checkpoint
from hf_attn.interop.proof import prove
from tests.interop.families import SHAPES, batches, build, randomize


# Families whose norms or weights are float32 whatever they are given.
ROUNDING = ("t5", "mt5", "umt5", "longt5", "led", "fsmt")


def test_each_family_has_a_shape():
    kinds = {build(name).config.model_type for name in SHAPES}
    assert kinds == set(FAMILIES)
    assert not kinds & set(REFUSED)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_equal(name):
    source = build(name)
    rounds = source.config.model_type in ROUNDING
    if source.config.model_type != "fsmt":  # which fills masks with a number that float64 lacks
        source.double()
    target = convert(source)
    with torch.no_grad():
        for batch in batches(source.config):
            theirs, ours = (model(**batch, use_cache=False).logits for model in (source, target))
            assert theirs.std() > 0.1
            difference = (theirs - ours).abs().max().item()
            assert difference <= (2e-6 * theirs.abs().max().item() if rounds else 1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_tokens_are_equal(name):
    source = build(name)
    target = convert(source)
    proof = prove(source, target)
    assert proof.generated == (1, 4)
    assert proof.largest > 0.3
    assert proof.dtype == torch.float32 or proof.difference < 1e-4


@pytest.mark.parametrize("name", ["t5", "t5-v1.1", "umt5"])
def test_t5s_are_equal_in_float64_where_their_norms_are(name, monkeypatch):
    def norm(self, hidden_states):
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden_states * torch.rsqrt(variance + self.variance_epsilon)

    for kind in (hf.models.t5.modeling_t5.T5LayerNorm, hf.models.umt5.modeling_umt5.UMT5LayerNorm):
        monkeypatch.setattr(kind, "forward", norm)
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(
        torch.nn.functional, "softmax", lambda scores, dim, dtype=None: softmax(scores.double(), dim=dim)
    )
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor.double())
    source = build(name).double()
    target = convert(source)
    with torch.no_grad():
        for batch in batches(source.config):
            theirs, ours = (model(**batch, use_cache=False).logits for model in (source, target))
            assert (theirs - ours).abs().max().item() <= 1e-9


@pytest.mark.parametrize("name", ["bart", "marian-separate", "t5", "m2m_100", "umt5", "led-windows"])
def test_gradients_are_equal(name):
    source = build(name)
    target = convert(source)
    (batch, _, _) = batches(source.config)
    batch = {key: batch[key] for key in ("input_ids", "attention_mask", "decoder_input_ids")}
    directions = torch.randn(3, 9, target.config.target_vocab_size)
    for model in (source, target):
        (model(**batch).logits * directions).sum().backward()
    family = FAMILIES[source.config.model_type]
    ours = dict(target.named_parameters())
    compared = 0
    for key, parameter in source.named_parameters():
        here = family.name_here(key)
        if parameter.grad is None or ours.get(here) is None:
            continue
        expected = parameter.grad[family.position_rows :] if "embed_positions" in key else parameter.grad
        scale = expected.abs().max().item()
        assert (ours[here].grad - expected).abs().max().item() <= 1e-4 * scale + 1e-5, key
        compared += 1
    assert compared > 30


@pytest.mark.parametrize("number", [1, 3])
def test_global_tokens_are_leds(number):
    source = build("led-windows")
    target = convert(source)
    for layer in target.model.encoder.layers:
        layer.mixer.num_global_tokens = number
    for batch in batches(source.config, length=23):
        real = batch["attention_mask"]
        is_global = real * (real.cumsum(-1) <= number)
        with torch.no_grad():
            theirs = source(**batch, global_attention_mask=is_global, use_cache=False).logits
            without = source(**batch, use_cache=False).logits
            ours = target(**batch).logits
            maps = target(**batch, output_attentions=True)
        assert (theirs - without).abs().max() > 0.05
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=1e-5)
        torch.testing.assert_close(maps.logits, theirs, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", ["t5", "umt5", "blenderbot-small", "marian-separate", "m2m_100", "led-windows"])
def test_the_fast_search_writes_the_same(name, num_beams):
    model = convert(build(name))
    for batch in batches(model.config):
        asked = {key: batch[key] for key in ("input_ids", "attention_mask")}
        options = {"num_beams": num_beams, "max_new_tokens": 10, "do_sample": False}
        expected = model.generate(**asked, **options)
        assert torch.equal(model.generate(**asked, **options, custom_generate=fast_generate), expected)


def test_eight_bits_count_padding_as_the_model_does():
    model = convert(build("marian"))
    packed = pack_linears(convert(build("marian")), weights="int8")
    for batch in batches(model.config):
        with torch.no_grad():
            theirs, ours = (each(**batch).logits for each in (model, packed))
        assert (theirs - ours).abs().max() < 0.15 * theirs.abs().max()


def saved(tmp_path, name, **generation):
    model = build(name)
    for key, value in generation.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(tmp_path / "source")
    return model


def test_what_was_written_loads_and_writes_the_same(tmp_path):
    source = saved(tmp_path, "bart", forced_bos_token_id=7, no_repeat_ngram_size=2, min_length=5, num_beams=3)
    imported = import_checkpoint(tmp_path / "source", tmp_path / "out")
    assert imported.tokenizer is None
    target = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert isinstance(target, HfAttnForConditionalGeneration)
    batch = next(batches(source.config))
    asked = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_length": 20}
    theirs, ours = (model.generate(**asked) for model in (source, target))
    assert torch.equal(theirs, ours)
    assert (theirs[:, 1] == 7).all()
    kept = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert (kept["num_beams"], kept["min_length"], kept["no_repeat_ngram_size"]) == (3, 5, 2)


def test_tables_are_tied_as_the_files_say(tmp_path):
    saved(tmp_path, "t5-v1.1")
    config = import_checkpoint(tmp_path / "source", tmp_path / "out").model.config
    assert not config.tie_word_embeddings and not config.scale_decoder_outputs
    saved(tmp_path / "tied", "t5")
    config = import_checkpoint(tmp_path / "tied" / "source", tmp_path / "tied" / "out").model.config
    assert config.tie_word_embeddings and config.scale_decoder_outputs


def test_a_pickle_of_tensors_is_read_and_written_as_safetensors(tmp_path):
    model = saved(tmp_path, "bart")
    (tmp_path / "source" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "source" / "pytorch_model.bin")
    import_checkpoint(tmp_path / "source", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not list((tmp_path / "out").glob("*.bin"))


def test_shards_are_read(tmp_path):
    build("marian").save_pretrained(tmp_path / "source", max_shard_size="20KB")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    assert import_checkpoint(tmp_path / "source", tmp_path / "out").proof.generated == (1, 4)


def test_a_fine_tuned_reader_comes_along(tmp_path):
    config = hf.BartConfig(**SHAPES["bart"][1])
    source = randomize(hf.BartForQuestionAnswering(config)).eval()
    source.save_pretrained(tmp_path / "source")
    imported = import_checkpoint(tmp_path / "source", tmp_path / "out")
    assert type(imported.model).__name__ == "HfAttnForQuestionAnswering"
    assert imported.proof.difference <= 1e-6 * imported.proof.largest
    batch = next(batches(config))
    asked = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    target = hf.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(target(**asked).end_logits, source(**asked).end_logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("model.encoder.layers.1.feed_forward.fc1", "encoder layer 1"),
        ("model.decoder.layers.2.mixer.v_proj", "decoder layer 2"),
        ("model.encoder.layernorm_embedding", "the embedding of the encoder"),
        ("lm_head", "the output projection"),
    ],
)
def test_the_first_layer_that_differs_is_named(module, named):
    source = build("bart-untied")
    target = convert(source)
    weight = target.get_submodule(module).weight
    with torch.no_grad():
        # Not in place: the source has the same tensor.
        target.get_submodule(module).weight = torch.nn.Parameter(weight + 0.1 * torch.randn_like(weight))
    with pytest.raises(ValueError, match=rf"does not compute what `SOURCE` does: .* first in {named}\. Nothing was"):
        prove(source, target)


def test_another_generation_config_is_found():
    source = build("bart")
    target = convert(source)
    target.generation_config = hf.GenerationConfig(
        decoder_start_token_id=2, pad_token_id=1, eos_token_id=2, forced_bos_token_id=9
    )
    with pytest.raises(ValueError, match=r"does not write what `SOURCE` does, with 1 beams"):
        prove(source, target)


def refused(source, out, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["import", str(source), str(out)])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_kinds_that_cannot_be_held(tmp_path, capsys):
    for kind, reason in REFUSED.items():
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        if kind == "encoder-decoder":
            hf.EncoderDecoderConfig.from_encoder_decoder_configs(
                hf.BertConfig(), hf.BertConfig(is_decoder=True)
            ).save_pretrained(tmp_path)
        message = refused(tmp_path, tmp_path / "out", capsys)
        assert f"is a '{kind}' model, which cannot be imported: {reason}" in message
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (hf.LongT5Config(encoder_attention_type="transient-global"), "its `encoder_attention_type` is 'transient-glo"),
        (hf.BigBirdPegasusConfig(), "its `attention_type` is 'block_sparse'"),
        (hf.BertConfig(), "`SOURCE` is a 'bert' model. Those that can be imported: bart, bigbird_pegasus"),
        (hf.BartConfig(architectures=["BartForCausalLM"]), "was saved as BartForCausalLM: models that write text"),
    ],
    ids=["blocks", "random blocks", "no encoder-decoder", "another head"],
)
def test_configs_that_cannot_be_held(config, message, tmp_path, capsys):
    config.save_pretrained(tmp_path)
    assert message in refused(tmp_path, tmp_path / "out", capsys)
    assert not (tmp_path / "out").exists()


def test_damaged_files_leave_nothing(tmp_path, capsys):
    saved(tmp_path, "bart")
    weights = tmp_path / "source" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    assert "`SOURCE`" in refused(tmp_path / "source", tmp_path / "out", capsys)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "d_model": 16}))
    assert "`SOURCE`" in refused(tmp_path / "source", tmp_path / "out", capsys)
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "decoder_layers": 4}))
    assert "lacks" in refused(tmp_path / "source", tmp_path / "out", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


class Runs:
    """Code in a pickle."""

    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_that_needs_code_is_refused(tmp_path, capsys):
    saved(tmp_path, "bart")
    (tmp_path / "source" / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Runs()}, tmp_path / "source" / "pytorch_model.bin")
    message = refused(tmp_path / "source", tmp_path / "out", capsys)
    assert "`SOURCE`" in message and "ran" not in message.split()
    assert not (tmp_path / "out").exists()


def test_an_output_that_holds_something_is_left_alone(tmp_path, capsys):
    saved(tmp_path, "bart")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    message = refused(tmp_path / "source", tmp_path / "out", capsys)
    assert "`OUT` must be a directory that is not there, or empty" in message
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "out" / "mine").unlink()
    assert main(["import", str(tmp_path / "source"), str(tmp_path / "out")]) == 0
    assert "Equal to the source" in capsys.readouterr().out


def test_folders_of_other_kinds(tmp_path, capsys):
    assert "`SOURCE`" in refused(tmp_path, tmp_path / "out", capsys)
    assert "`SOURCE` must be a directory, or the name of a checkpoint" in refused("no/such", tmp_path / "o", capsys)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refused(tmp_path, tmp_path / "out", capsys)


def test_the_module_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "hf_attn", "import", "--help"], capture_output=True, text=True, check=True
    )
    assert "SOURCE" in run.stdout
