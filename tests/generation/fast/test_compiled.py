# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Compiled encoders, decoder steps and searches compute what the eight-bit layers of torch do."""

import copy
import gc
import itertools
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from hf_attn.generation import fast_generate, pack_linears
from hf_attn.generation.fast.compiled_encoder import CompiledEncoder
from hf_attn.generation.fast.compiled_stack import compiled_decoder, compiled_encoder
from hf_attn.generation.fast.compiled_steps import CompiledSteps, compiled_steps
from hf_attn.generation.fast.decoder_steps import DecoderSteps, Sources
from hf_attn.generation.fast.int8_kernel import native_library
from hf_attn.generation.fast.int8_linear import Int8Linear
from hf_attn.modeling_stacks import HfAttnEncoder
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


needs_compiler = pytest.mark.skipif(native_library() is None, reason="needs AVX-512 VNNI and a C compiler")
pytestmark = needs_compiler

HYBRID = {"decoder_layer_types": ["ssru", "full_attention"], "tie_word_embeddings": False, "logits_bias": True}
VARIANTS = {
    "pre-norm": {},
    "post-norm": {"norm_position": "post", "norm_type": "rmsnorm"},
    "no-norm": {"norm_position": "none"},
    "rmsnorm-gated": {"norm_type": "rmsnorm", "gated_ffn": True, "activation_function": "silu"},
    "no-bias": {"use_bias": False, "activation_function": "gelu", "logits_bias": False},
    "gelu-tanh": {"activation_function": "gelu_pytorch_tanh", "normalize_embedding": True},
    "tanh": {"activation_function": "tanh", "scale_attention": False, "scale_embedding": False},
    "no-feed-forward": {"encoder_ffn_dim": 0, "decoder_ffn_dim": 0},
    "learned": {"position_embedding_type": "learned"},
    "rope": {"position_embedding_type": "rope"},
    "alibi": {"position_embedding_type": "alibi"},
    "relative-grouped": {
        "position_embedding_type": "relative_bias",
        "encoder_key_value_heads": 2,
        "decoder_key_value_heads": 1,
    },
    "no-positions": {"position_embedding_type": "none"},
    "head-dim-5": {"d_model": 20, "encoder_ffn_dim": 30, "decoder_ffn_dim": 35, "vocab_size": 131},
    "wide": {"d_model": 72, "encoder_ffn_dim": 100, "decoder_ffn_dim": 130, "vocab_size": 300, "heads": 3},
    "wide-heads": {"head_dim": 18, "position_embedding_type": "rope"},
    "general": {"cross_attention_type": "general"},
    "dot": {"cross_attention_type": "dot"},
}  # fmt: skip


def packed(**options):
    return pack_linears(tiny_model(tiny_config(**{**HYBRID, **options})), "int8")


def assert_alike(found, expected):
    """Equal; but a sum in another order now and then rounds one number in thousands to the next eight bits."""
    difference = (found - expected).abs() / expected.std()
    assert difference.max() < 0.1
    assert difference.flatten().quantile(0.8) < 1e-4


def encoded(model, batch_size=5, source_length=9, padding="ragged"):
    """Source states as torch computes them, and their mask."""
    batch = tiny_batch(model.config, batch_size=batch_size, source_length=source_length, padding=padding)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return HfAttnEncoder.forward(model.model.encoder, **inputs).last_hidden_state, inputs


def steps(model, states, mask, num_beams=1):
    found = compiled_steps(model, Sources(states, mask, None, None, num_beams))
    assert isinstance(found, CompiledSteps)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padding", ["left", "right", "holes", None])
def test_encoders(variant, padding):
    model = packed(**VARIANTS[variant])
    assert isinstance(model.model.encoder.forward, CompiledEncoder)
    assert compiled_encoder(model.model.encoder) is not None
    expected, inputs = encoded(model, padding=padding)
    with torch.no_grad():
        found = model.model.encoder(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    assert_alike(found[real], expected[real])
    if padding != "holes" or variant not in ("alibi", "relative-grouped"):
        assert not found[~real].any()


def test_pairs_whose_tokens_match_go_the_old_way():
    model = packed(match_embedding=True)
    expected, inputs = encoded(model)
    with torch.no_grad():
        found = model.model.encoder(**inputs).last_hidden_state
        assert torch.equal(found, expected)
        model.model.encoder.match_embedding.weight.zero_()
        assert not torch.allclose(model.model.encoder(**inputs).last_hidden_state, expected, atol=0.1)


@pytest.mark.parametrize("position_embedding_type", ["sinusoidal", "rope", "relative_bias"])
def test_encoder_lengths(position_embedding_type):
    model = packed(position_embedding_type=position_embedding_type, max_position_embeddings=300, d_model=32)
    errors = []
    for length, batch_size in [*itertools.product(range(1, 71, 3), (1, 6)), (16, 1), (17, 2), (32, 70), (299, 2)]:
        expected, inputs = encoded(model, batch_size, length, padding=None)
        with torch.no_grad():
            found = model.model.encoder(**inputs).last_hidden_state
            assert torch.equal(model.model.encoder(inputs["input_ids"]).last_hidden_state, found)
        errors += (found - expected).abs().amax(dim=(1, 2)).tolist()
    # In a long sentence one number that is rounded otherwise is seen by all.
    assert max(errors) < 0.1
    assert sorted(errors)[len(errors) // 2] < 1e-4


def test_sentences_do_not_know_of_each_other():
    model = packed()
    _, inputs = encoded(model, batch_size=40, source_length=20)
    with torch.no_grad():
        together = model.model.encoder(**inputs).last_hidden_state
        for row in (0, 1, 17, 39):
            real = inputs["attention_mask"][row].bool()
            alone = model.model.encoder(inputs["input_ids"][row, real][None]).last_hidden_state
            assert torch.equal(together[row, real], alone[0])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_decoder_steps(variant, num_beams, batch_size):
    model = packed(**VARIANTS[variant])
    states, inputs = encoded(model, batch_size)
    mask = inputs["attention_mask"].bool()
    decoder = steps(model, states, mask, num_beams)
    tokens = torch.randint(3, model.config.vocab_size, (batch_size * num_beams, 7), generator=torch.manual_seed(2))
    found = torch.stack([decoder.read(token_ids) for token_ids in tokens.unbind(1)], dim=1)
    with torch.no_grad():
        expected = model.model.decoder(
            tokens,
            encoder_hidden_states=states.repeat_interleave(num_beams, dim=0),
            encoder_attention_mask=mask.repeat_interleave(num_beams, dim=0),
        ).last_hidden_state
        logits = decoder.logits(found[:, -1])
    assert_alike(found, expected)
    for number in (1, 6):
        scores, best = decoder.best(found[:, -1], number)
        expected_scores, expected_best = logits.log_softmax(dim=-1).topk(number)
        assert torch.equal(torch.from_numpy(best), expected_best)
        torch.testing.assert_close(torch.from_numpy(scores), expected_scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decoder_layer_types", ["ssru", "full_attention"])
def test_rows_are_reordered_and_sentences_dropped(decoder_layer_types):
    model = packed(decoder_layer_types=decoder_layer_types, position_embedding_type="rope")
    states, inputs = encoded(model, batch_size=4)
    mask = inputs["attention_mask"].bool()
    decoder = steps(model, states, mask, num_beams=3)
    plain = DecoderSteps(model, Sources(states, mask, None, None, 3))
    generator = torch.manual_seed(3)
    sentences = torch.arange(4)
    for step in range(40):
        tokens = torch.randint(3, model.config.vocab_size, (3 * len(sentences),), generator=generator)
        with torch.no_grad():
            assert_alike(decoder.read(tokens), plain.read(tokens))
        first_rows = torch.arange(len(sentences))[:, None] * 3
        parents = (first_rows + torch.randint(0, 3, (len(sentences), 3), generator=generator)).flatten()
        kept = torch.tensor([0, 2, 3]) if step == 10 else torch.tensor([1]) if step == 35 else None
        for one in (decoder, plain):
            one.reorder(parents)
            if kept is not None:
                one.keep(kept)
        if kept is not None:
            sentences = sentences[kept]


@pytest.mark.parametrize("variant", ["pre-norm", "rope", "relative-grouped"])
@pytest.mark.parametrize("batch_size", [1, 30])
@pytest.mark.parametrize("threads", [1, 3])
def test_searches_are_their_steps(variant, batch_size, threads):
    model = packed(**VARIANTS[variant], max_position_embeddings=200)
    with torch.no_grad():
        model.lm_head.kernel_weights.bias[model.config.eos_token_id] += 0.6
    _, inputs = encoded(model, batch_size)
    options = {"max_new_tokens": 100, "custom_generate": fast_generate}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = model.generate(**inputs, **options)
        # With scores to return, each step is a call.
        expected = model.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)
        prompt = found[:, :5].clone()
        continued = model.generate(**inputs, **options, decoder_input_ids=prompt)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected.sequences)
    ends = (found[:, 1:5] == model.config.eos_token_id).any(dim=1)
    assert torch.equal(continued[~ends, : found.shape[1]], found[~ends, : continued.shape[1]])
    if batch_size > 1:
        assert len((found == model.config.pad_token_id).sum(dim=1).unique()) > 1
        assert found.shape[1] > 70


@pytest.mark.parametrize("name", MATRIX)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_every_mechanism_goes_one_way_or_the_other(name, num_beams):
    config = tiny_config(**{"tie_word_embeddings": False, **MATRIX[name]})
    model = pack_linears(tiny_model(config), "int8")
    layers = {type(layer.mixer).__name__ for layer in model.model.decoder.layers}
    sources = {type(layer.encoder_attn).__name__ for layer in model.model.decoder.layers}
    compiled_sources = {"Attention", "GeneralAttention", "DotAttention"}
    is_known = layers <= {"SSRUMixer", "Attention"} and sources <= compiled_sources
    is_known &= not config.copy_attention and not config.norm_before_decoder_positions
    is_known &= config.position_embedding_type != "layer_relative_bias"
    assert (compiled_decoder(model) is not None) == is_known
    batch = tiny_batch(config)
    del batch["labels"]
    options = {"num_beams": num_beams, "max_new_tokens": 6}
    expected = model.generate(**batch, **options)
    assert torch.equal(model.generate(**batch, **options, custom_generate=fast_generate), expected)


def test_what_changes_is_seen():
    model = packed(norm_type="layernorm")
    states, inputs = encoded(model)
    layer = model.model.encoder.layers[0]
    with torch.no_grad():
        known = compiled_encoder(model.model.encoder)
        assert compiled_encoder(model.model.encoder) is known
        layer.mixer_layer_norm.weight = nn.Parameter(torch.full((16,), 0.5))
        assert compiled_encoder(model.model.encoder) is not known
        expected, _ = encoded(model)
        real = inputs["attention_mask"].bool()
        assert_alike(model.model.encoder(**inputs).last_hidden_state[real], expected[real])
        assert not torch.allclose(expected[real], states[real], atol=0.01)
        calls = []
        handle = layer.mixer.register_forward_hook(lambda *arguments: calls.append(arguments))
        model.model.encoder(**inputs)
        assert len(calls) == 1
        handle.remove()
        assert compiled_encoder(model.model.encoder) is not None
        layer.mixer_layer_norm.double()
        assert compiled_encoder(model.model.encoder) is None


def test_an_adapter_on_the_embedding_goes_the_old_way():
    model = packed()
    before = compiled_encoder(model.model.encoder), compiled_decoder(model)
    assert all(before)
    get_peft_model(model, LoraConfig(r=2, target_modules=["shared"]))
    assert not any(stack.is_current() for stack in before)
    assert compiled_encoder(model.model.encoder) is None and compiled_decoder(model) is None


def test_copies_and_other_questions():
    model = packed()
    states, inputs = encoded(model)
    generate = {"max_new_tokens": 5, "custom_generate": fast_generate}
    expected = model.generate(**inputs, **generate)
    assert torch.equal(copy.deepcopy(model).generate(**inputs, **generate), expected)
    with torch.no_grad():
        outputs = model.model.encoder(**inputs, output_hidden_states=True, output_attentions=True)
        assert len(outputs.hidden_states) == 3 and len(outputs.attentions) == 2
        # Eager attention sums in another order.
        assert_alike(outputs.last_hidden_state, states)
        again = model.model.encoder(**inputs)
        assert again.hidden_states is None
        assert compiled_encoder(model.model.encoder) is not None
        by_embedding = model.model.encoder(
            inputs_embeds=model.get_input_embeddings()(inputs["input_ids"]), attention_mask=inputs["attention_mask"]
        )
    assert torch.equal(by_embedding.last_hidden_state, states)


def test_what_the_compiled_code_refuses_is_refused_in_the_words_of_the_model():
    model = packed()
    _, inputs = encoded(model)
    options = {"min_new_tokens": 60, "max_new_tokens": 60}
    with pytest.raises(ValueError, match=r"The target has 49 tokens, `max_position_embeddings` allows 48"):
        model.generate(**inputs, **options, custom_generate=fast_generate)
    model.generation_config.eos_token_id = None
    with pytest.raises(ValueError, match=r"The target has 49 tokens, `max_position_embeddings` allows 48"):
        model.generate(**inputs, max_new_tokens=60, custom_generate=fast_generate)
    with pytest.raises(ValueError, match=r"The source has 60 tokens, `max_position_embeddings` allows 48"):
        model.generate(torch.full((1, 60), 4), max_new_tokens=4, custom_generate=fast_generate)
    with pytest.raises(IndexError, match="index out of range"):
        model.generate(
            **inputs, max_new_tokens=4, custom_generate=fast_generate, decoder_input_ids=torch.full((5, 2), 40)
        )
    with torch.no_grad(), pytest.raises(ValueError, match=r"`input_ids` must"):
        model.model.encoder(torch.tensor([[4, -3, 2]]))


def test_a_sentence_of_padding_goes_the_old_way():
    model = packed()
    states, inputs = encoded(model)
    inputs["attention_mask"][1] = 0
    assert compiled_steps(model, Sources(states, inputs["attention_mask"].bool(), None, None, 1)) is None
    assert model.generate(**inputs, max_new_tokens=4, custom_generate=fast_generate).shape == (5, 5)


def test_a_model_that_nobody_needs_is_freed():
    model = packed()
    _, inputs = encoded(model)
    model.generate(**inputs, max_new_tokens=4, custom_generate=fast_generate)
    model.generate(**inputs, max_new_tokens=4, num_beams=2, custom_generate=fast_generate)
    found = weakref.ref(model), weakref.ref(model.model.encoder)
    del model
    gc.collect()
    assert [reference() for reference in found] == [None, None]


def test_prompts_of_other_integers():
    model = packed()
    _, inputs = encoded(model)
    prompt = torch.tensor([[2, 7]] * 5)
    options = {"max_new_tokens": 6, "custom_generate": fast_generate}
    expected = model.generate(**inputs, **options, decoder_input_ids=prompt)
    assert torch.equal(model.generate(**inputs, **options, decoder_input_ids=prompt.int()), expected)


def test_other_layers_and_decoders_are_seen():
    model, other = packed(), packed(decoder_layer_types="ssru")
    encoder, decoder = model.model.encoder, model.model.decoder
    assert compiled_encoder(encoder).structure.num_layers == compiled_decoder(model).structure.num_layers == 2
    encoder.layers = encoder.layers[:1]
    assert compiled_encoder(encoder).structure.num_layers == 1
    decoder.layers.append(other.model.decoder.layers[0])
    assert compiled_decoder(model).structure.num_layers == 3
    known = compiled_decoder(model)
    model.model.decoder = other.model.decoder
    assert compiled_decoder(model) is not known
    assert compiled_decoder(model).structure.num_layers == 2


def test_layers_of_another_dtype_or_device_go_the_old_way():
    torch.manual_seed(0)
    linear, rows = Int8Linear(nn.Linear(24, 40)), torch.randn(3, 24)
    expected = linear(rows)
    torch.testing.assert_close(copy.deepcopy(linear).double()(rows).float(), expected)
    assert copy.deepcopy(linear).to("meta")(rows.to("meta")).shape == (3, 40)
    model = packed()
    assert compiled_decoder(model) is not None
    model.model.decoder.layers[0].feed_forward.fc1.double()
    assert compiled_decoder(model) is None


@pytest.mark.parametrize("position_embedding_type", ["sinusoidal", "rope", "alibi"])
def test_defaults_of_torch_change_nothing(position_embedding_type):
    options = {"use_bias": False, "position_embedding_type": position_embedding_type}
    expected_model = packed(**options)
    model = tiny_model(tiny_config(**{**HYBRID, **options}))
    states, inputs = encoded(expected_model)
    tokens = torch.tensor([5, 6, 7, 8, 9])

    def results(model):
        with torch.no_grad():
            found = model.model.encoder(**inputs).last_hidden_state
        return found, steps(model, states, inputs["attention_mask"].bool()).read(tokens)

    expected = results(expected_model)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            found = results(pack_linears(model, "int8"))
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_sources_of_another_shape_are_refused():
    model = packed()
    states, inputs = encoded(model)
    mask = inputs["attention_mask"].bool()
    assert compiled_steps(model, Sources(states, mask[:, :5], None, None, 1)) is None
    assert compiled_steps(model, Sources(states[:, :, :8], mask, None, None, 1)) is None
    prompt = torch.tensor([[model.config.decoder_start_token_id, 7]])
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    for num_beams in (1, 3):
        options = {"max_new_tokens": 4, "num_beams": num_beams, "custom_generate": fast_generate}
        with pytest.raises(ValueError, match="must have a row for each source, got 1 rows and 5 sources"):
            model.generate(**inputs, **options, decoder_input_ids=prompt)
        with pytest.raises(ValueError, match="must have a row for each source, got 5 rows and 1 sources"):
            model.generate(**one, **options, decoder_input_ids=prompt.repeat(5, 1))
    decoder = steps(model, states, mask, num_beams=2)
    decoder.read(torch.full((10,), 5))
    with pytest.raises(IndexError, match="is not in the batch"):
        decoder.reorder(torch.full((10,), 10))


def test_a_config_that_asks_for_tuples():
    model = packed()
    states, inputs = encoded(model)
    model.config.return_dict = False
    with torch.no_grad():
        outputs = model.model.encoder(**inputs)
    assert isinstance(outputs, tuple)
    assert torch.equal(outputs[0], states)


SANITIZED = """
import sys
from pathlib import Path
from hf_attn.generation.fast import int8_kernel
library = Path(sys.argv[1])
int8_kernel._compiled = lambda: library
import pytest
options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-k", "not without"]
sys.exit(pytest.main([*options, *sys.argv[2:]]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_used_as_the_sanitizers_allow(tmp_path):
    from hf_attn.generation.fast.int8_kernel import build_library

    library = tmp_path / "native.so"
    options = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    try:
        build_library(library, *options)
        runtime = [
            subprocess.run(
                ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs the sanitizers of gcc: {error}")
    environment = {"LD_PRELOAD": " ".join(runtime), "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    here = Path(__file__)
    command = [sys.executable, "-c", SANITIZED, str(library), str(here), str(here.with_name("test_packed_linear.py"))]
    run = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
        capture_output=True, text=True, cwd=here.parents[3],
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
