# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What every combination of layer types, cross-attentions, heads and positions must do alike."""

import itertools
import re

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    Cache,
    EncoderDecoderCache,
)

from hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from hf_attn.configuration_mechanisms import CROSS_ATTENTION_TYPES, LAYER_TYPES, POSITION_EMBEDDING_TYPES
from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import (
    AXES,
    CROPPABLE_LAYER_TYPES,
    HEADS,
    MATRIX,
    SCORE_SCHEMES,
    all_combinations,
    can_crop,
    covering_combinations,
    enable_checkpointing,
    has_attention,
    tiny_batch,
    tiny_config,
    tiny_model,
)


HEAD_CLASSES = {
    HfAttnModel: AutoModel,
    HfAttnForConditionalGeneration: AutoModelForSeq2SeqLM,
    HfAttnForQuestionAnswering: AutoModelForQuestionAnswering,
    HfAttnForSequenceClassification: AutoModelForSequenceClassification,
}
# Schemes and layers that measure distance in places of the row, padding in its middle included.
COUNTS_PLACES = tuple(name for name, line in POSITION_EMBEDDING_TYPES.items() if line.biases_scores)


@pytest.fixture(params=list(MATRIX.values()), ids=list(MATRIX))
def config(request):
    return tiny_config(**request.param)


def assert_close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def decode(model, encoder_outputs, source_mask, decoder_ids, chunks, decoder_mask=None):
    """Logits of `decoder_ids`, cached, in chunks of these lengths."""
    logits, past, start = [], None, 0
    for length in chunks:
        end = start + length
        outputs = model(
            encoder_outputs=encoder_outputs,
            attention_mask=source_mask,
            decoder_input_ids=decoder_ids[:, start:end],
            decoder_attention_mask=None if decoder_mask is None else decoder_mask[:, :end],
            cache=past,
            use_cache=True,
        )
        past, start = outputs[CACHE_NAME], end
        logits.append(outputs.logits)
    return torch.cat(logits, dim=1), past


def check_core_contract(combination):
    """Shapes, a finite loss, a finite gradient on every parameter, and cached = uncached."""
    config = tiny_config(**combination)
    model = tiny_model(config)
    batch = tiny_batch(config)
    outputs = model(**batch)
    assert outputs.logits.shape == (*batch["labels"].shape, config.vocab_size)
    assert outputs.encoder_last_hidden_state.shape == (*batch["input_ids"].shape, config.d_model)
    assert torch.isfinite(outputs.loss)
    outputs.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, (combination, name)
        assert torch.isfinite(parameter.grad).all(), (combination, name)

    with torch.no_grad():
        decoder_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        encoder_outputs = model.get_encoder()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        steps = [1] * decoder_ids.shape[1]
        logits, _ = decode(model, encoder_outputs, batch["attention_mask"], decoder_ids, steps)
    real = batch["labels"] != -100
    assert_close(logits[real], outputs.logits[real].detach())


def test_core_contract_over_a_covering_selection():
    combinations = covering_combinations()
    for combination in combinations:
        check_core_contract(combination)
    walked = {frozenset(pair) for chosen in combinations for pair in itertools.combinations(chosen.items(), 2)}
    expected = {frozenset(pair) for each in all_combinations() for pair in itertools.combinations(each.items(), 2)}
    assert walked == expected
    # At least one for each pair of values of the two longest axes.
    longest = max(len(one) * len(other) for one, other in itertools.combinations(AXES.values(), 2))
    assert len(LAYER_TYPES) ** 2 <= len(combinations) <= 1.5 * longest


def test_core_contract_of_copying_under_every_layer_and_every_cross_attention():
    cross_attention_types = [name for name in CROSS_ATTENTION_TYPES if name != "none"]
    combinations = list(itertools.product(LAYER_TYPES, cross_attention_types, (1, 4)))
    for layer_type, cross_attention_type, heads in combinations:
        check_core_contract(
            {
                "encoder_layer_types": layer_type,
                "decoder_layer_types": layer_type,
                "cross_attention_type": cross_attention_type,
                "heads": heads,
                "copy_attention": True,
                "coverage_loss_weight": 1.0,
            }
        )


@pytest.mark.slow
@pytest.mark.parametrize("encoder_layer_types", LAYER_TYPES)
def test_core_contract_over_the_full_product(encoder_layer_types):
    combinations = [
        combination for combination in all_combinations() if combination["encoder_layer_types"] == encoder_layer_types
    ]
    for combination in combinations:
        check_core_contract(combination)
    # Cross-attentions x 2 numbers of heads, with each scheme or with those that need no layer with scores.
    pairs, schemes = len(CROSS_ATTENTION_TYPES) * len(HEADS), len(POSITION_EMBEDDING_TYPES)
    with_scores = len(CROPPABLE_LAYER_TYPES) if encoder_layer_types not in CROPPABLE_LAYER_TYPES else len(LAYER_TYPES)
    without = len(LAYER_TYPES) - with_scores
    assert len(combinations) == pairs * (with_scores * schemes + without * (schemes - len(SCORE_SCHEMES)))


@pytest.mark.parametrize("chunks", [[1] * 6, [4, 1, 1], [2, 3, 1], [6]], ids=["steps", "prefill", "chunks", "whole"])
@pytest.mark.parametrize("is_padded", [False, True], ids=["", "left-padded-prompts"])
@torch.no_grad()
def test_cached_equals_uncached(config, chunks, is_padded):
    model = tiny_model(config)
    batch = tiny_batch(config)
    decoder_ids = tiny_batch(config, padding=None, seed=2)["labels"]
    decoder_mask = None
    real = torch.ones_like(decoder_ids).bool()
    if is_padded:
        decoder_mask = torch.ones_like(decoder_ids)
        decoder_mask[1, :1] = decoder_mask[2, :3] = 0
        real = decoder_mask.bool()
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = model(
        **source, decoder_input_ids=decoder_ids, decoder_attention_mask=decoder_mask, use_cache=False
    ).logits
    encoder_outputs = model.get_encoder()(**source)
    logits, past = decode(model, encoder_outputs, batch["attention_mask"], decoder_ids, chunks, decoder_mask)
    assert_close(logits[real], expected[real])
    assert past.get_seq_length() == decoder_ids.shape[1]
    # A prompt that is padded counts as if it stood alone.
    row = model(
        input_ids=batch["input_ids"][2:, :5], decoder_input_ids=decoder_ids[2:][real[2:]][None], use_cache=False
    ).logits
    assert_close(logits[2][real[2]], row[0])


@torch.no_grad()
def test_generation_with_a_cache_equals_generation_without(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    strategies = {
        "greedy": {},
        "beams": {"num_beams": 3, "num_return_sequences": 2},
        "sampling": {"do_sample": True, "num_return_sequences": 2},
        "sampled beams": {"do_sample": True, "num_beams": 2},
    }
    for name, strategy in strategies.items():
        generated = []
        for use_cache in (True, False):
            torch.manual_seed(3)
            generated.append(model.generate(**source, **strategy, max_new_tokens=9, use_cache=use_cache))
        assert torch.equal(*generated), name
        assert generated[0].shape[0] == 3 * strategy.get("num_return_sequences", 1)


@torch.no_grad()
def test_generation_returns_what_it_is_asked_for(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    asked = {"output_attentions": True, "output_hidden_states": True, "output_scores": True, "output_logits": True}
    for num_beams in (1, 2):
        settings = {"num_beams": num_beams, "max_new_tokens": 5, "min_new_tokens": 5}
        outputs = model.generate(**source, **settings, **asked, return_dict_in_generate=True)
        assert torch.equal(outputs.sequences, model.generate(**source, **settings))
        assert len(outputs.scores) == len(outputs.logits) == len(outputs.decoder_hidden_states) == 5
        assert [len(states) for states in outputs.decoder_hidden_states] == [1 + config.decoder_layers] * 5
        assert len(outputs.encoder_attentions) == sum(has_attention(config, "encoder"))
        num_cross = 0 if config.cross_attention_type == "none" else config.decoder_layers
        assert [len(maps) for maps in outputs.cross_attentions] == [num_cross] * 5
        for maps in outputs.cross_attentions:
            for weights in maps:
                assert weights.shape == (3 * num_beams, config.decoder_attention_heads, 1, 7)
        # A state holds no single token, so linear attention has a map of the first step alone.
        lasting = sum(name in CROPPABLE_LAYER_TYPES for name in config.decoder_layer_types)
        first = sum(has_attention(config, "decoder"))
        assert [len(maps) for maps in outputs.decoder_attentions] == [first] + [lasting] * 4


@torch.no_grad()
def test_generation_from_embeddings_and_from_encoder_outputs(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    settings = {"attention_mask": batch["attention_mask"], "num_beams": 2, "max_new_tokens": 6}
    expected = model.generate(batch["input_ids"], **settings)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    tokens = {"source_ids": batch["input_ids"]} if config.copy_attention or config.match_embedding else {}
    assert torch.equal(model.generate(inputs_embeds=embeds, **tokens, **settings), expected)
    encoder_outputs = model.get_encoder()(batch["input_ids"], attention_mask=batch["attention_mask"])
    assert torch.equal(model.generate(encoder_outputs=encoder_outputs, **settings), expected)


@torch.no_grad()
def test_generation_is_the_same_alone_and_in_a_batch(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    prompts = torch.tensor([[1, 1, 2, 7], [1, 2, 9, 8], [2, 11, 12, 13]])
    prompt_mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "num_beams": 2}
    together = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=prompts,
        decoder_attention_mask=prompt_mask,
        **settings,
    )
    for row in range(3):
        source = batch["input_ids"][row][batch["attention_mask"][row].bool()][None]
        alone = model.generate(
            input_ids=source, decoder_input_ids=prompts[row][prompt_mask[row].bool()][None], **settings
        )
        assert torch.equal(together[row, 4:], alone[0, int(prompt_mask[row].sum()) :])


@torch.no_grad()
def test_static_cache_generates_the_same(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    for strategy in ({}, {"num_beams": 2}):
        dynamic = model.generate(**source, **strategy, max_new_tokens=9)
        static = model.generate(
            **source, **strategy, max_new_tokens=9, cache_implementation="static", disable_compile=True
        )
        assert torch.equal(dynamic, static)


@pytest.mark.parametrize("name", ["full", "sliding", "linear", "lstm", "full-to-ssru", "mixed", "full-copying"])
@torch.no_grad()
def test_beams_wide_enough_find_what_trying_everything_finds(name):
    vocab_size, longest, end = 5, 4, 2
    config = tiny_config(**MATRIX[name], vocab_size=vocab_size)
    model = tiny_model(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(4)  # peaked enough for scores to differ
    input_ids, attention_mask = torch.tensor([[3, 4, 3, 1]]), torch.tensor([[1, 1, 1, 0]])

    others = [token for token in range(vocab_size) if token != end]
    hypotheses = [[*start, end] for length in range(longest) for start in itertools.product(others, repeat=length)] + [
        list(tokens) for tokens in itertools.product(others, repeat=longest)
    ]
    assert len(hypotheses) == 1 + 4 + 16 + 64 + 256
    labels = torch.full((len(hypotheses), longest), -100)
    for row, tokens in enumerate(hypotheses):
        labels[row, : len(tokens)] = torch.tensor(tokens)
    logits = model(
        input_ids=input_ids.expand(len(hypotheses), -1),
        attention_mask=attention_mask.expand(len(hypotheses), -1),
        labels=labels,
    ).logits
    log_probabilities = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    scores = log_probabilities.masked_fill(labels == -100, 0).sum(-1)
    assert_close(scores.exp().sum(), torch.tensor(1.0))  # they are all there is

    found = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=80,
        num_return_sequences=6,
        max_new_tokens=longest,
        length_penalty=0.0,
        early_stopping="never",
        return_dict_in_generate=True,
        output_scores=True,
    )
    best = scores.topk(6)
    assert_close(found.sequences_scores, best.values)
    for sequence, index in zip(found.sequences, best.indices, strict=True):
        assert sequence[1 : 1 + len(hypotheses[index])].tolist() == hypotheses[index]


@torch.no_grad()
def test_cache_reorders_repeats_and_selects(config):
    model = tiny_model(config)
    batch = tiny_batch(config, padding=None)
    decoder_ids = tiny_batch(config, padding=None, seed=2)["labels"]
    encoder_outputs = model.get_encoder()(input_ids=batch["input_ids"])
    chosen = torch.tensor([2, 0, 0])

    def step(change, rows):
        _, past = decode(model, encoder_outputs, None, decoder_ids[:, :5], [3, 1, 1])
        change(past)
        return model(
            encoder_outputs=type(encoder_outputs)(**{name: value[rows] for name, value in encoder_outputs.items()}),
            decoder_input_ids=decoder_ids[rows, 5:],
            cache=past,
        ).logits

    everything = slice(None)
    expected = step(lambda past: None, everything)
    assert_close(step(lambda past: past.reorder_cache(chosen), chosen), expected[chosen])
    assert_close(step(lambda past: past.batch_select_indices(chosen), chosen), expected[chosen])
    repeated = torch.arange(3).repeat_interleave(2)
    assert_close(step(lambda past: past.batch_repeat_interleave(2), repeated), expected[repeated])


@torch.no_grad()
def test_cache_crops_where_the_maths_allows_and_says_so_where_not(config):
    model = tiny_model(config)
    batch = tiny_batch(config, padding=None)
    decoder_ids = tiny_batch(config, padding=None, seed=2)["labels"]
    encoder_outputs = model.get_encoder()(input_ids=batch["input_ids"])
    _, past = decode(model, encoder_outputs, None, decoder_ids[:, :4], [4])
    forgets = "sliding_attention" in config.cache_layer_types
    if not can_crop(config):
        # transformers' own layer speaks first where a window has forgotten.
        with pytest.raises((ValueError, RuntimeError), match=r"cannot be cropped|`crop` was called"):
            past.crop(-1)
    elif forgets:
        # What the window has left behind is gone, and transformers' own layer says so.
        with pytest.raises(RuntimeError, match="`crop` was called"):
            past.crop(-1)
    else:
        past.crop(-1)
        assert past.get_seq_length() == 3
        again = model(encoder_outputs=encoder_outputs, decoder_input_ids=decoder_ids[:, 3:4], cache=past)
        expected = model(encoder_outputs=encoder_outputs, decoder_input_ids=decoder_ids[:, :4], use_cache=False)
        assert_close(again.logits[:, 0], expected.logits[:, 3])


@pytest.mark.parametrize("padding", ["left", "right", "holes"])
def test_source_padding_changes_nothing(config, padding):
    model = tiny_model(config)
    batch = tiny_batch(config, padding=padding)
    logits = model(**batch).logits
    other_ids = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 17)
    assert_close(model(**{**batch, "input_ids": other_ids}).logits, logits)
    measures_places = (
        "sliding_attention" in config.encoder_layer_types or config.position_embedding_type in COUNTS_PLACES
    )
    if padding == "holes" and measures_places:
        return
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = model(input_ids=batch["input_ids"][row, mask][None], labels=batch["labels"][row : row + 1]).logits
        real = batch["labels"][row] != -100
        assert_close(logits[row, real], alone[0, real])


def test_label_padding_changes_nothing(config):
    model = tiny_model(config)
    batch = tiny_batch(config)
    targets = [labels[labels != -100] for labels in batch["labels"]]
    losses, gradients = [], []
    for side in ("right", "left"):
        labels = torch.full((3, 9), -100)
        for row, target in enumerate(targets):
            labels[row, slice(0, len(target)) if side == "right" else slice(9 - len(target), 9)] = target
        model.zero_grad()
        losses.append(model(**{**batch, "labels": labels}).loss)
        losses[-1].backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert_close(losses[1], losses[0])
    assert_close(gradients[1], gradients[0])
    total = sum(
        model(
            input_ids=batch["input_ids"][row : row + 1],
            attention_mask=batch["attention_mask"][row : row + 1],
            labels=target[None],
        ).loss
        * len(target)
        for row, target in enumerate(targets)
    )
    assert_close(total / sum(map(len, targets)), losses[0])


def visible_keys(config, stack, layer_type, window, mask):
    """(batch, query, key): what a query of this layer type sees, written out."""
    length = mask.shape[1]
    query, key = torch.arange(length)[:, None], torch.arange(length)
    visible = torch.ones(length, length, dtype=torch.bool)
    if stack == "decoder":
        visible = key <= query
    visible = visible.expand(len(mask), -1, -1)
    if layer_type == "sliding_attention":
        ranks = mask.cumsum(-1)
        is_global = mask.bool() & (ranks <= config.global_attention_tokens)
        if stack == "decoder":
            near = query - key < window
        else:
            near = (query - key).abs() <= window // 2
        visible = visible & (near | is_global[:, None, :] | is_global[:, :, None])
    return visible & mask.bool()[:, None]


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_attention_maps(config, backend):
    model = tiny_model(config)
    model.set_attn_implementation(backend)
    batch = tiny_batch(config)
    plain = model(**batch)
    outputs = model(**batch, output_attentions=True)
    assert_close(outputs.logits, plain.logits)
    masks = {
        "encoder": batch["attention_mask"],
        "decoder": torch.ones_like(batch["labels"]),
    }
    for stack in ("encoder", "decoder"):
        layer_types = getattr(config, f"{stack}_layer_types")
        attending = [
            (name, config.window(layer_idx))
            for layer_idx, (name, attends) in enumerate(zip(layer_types, has_attention(config, stack), strict=True))
            if attends
        ]
        maps = getattr(outputs, f"{stack}_attentions")
        assert len(maps) == len(attending)
        for weights, (layer_type, window) in zip(maps, attending, strict=True):
            length = masks[stack].shape[1]
            assert weights.shape == (3, getattr(config, f"{stack}_attention_heads"), length, length)
            real_queries = weights.transpose(1, 2)[masks[stack].bool()]
            assert_close(real_queries.sum(-1), torch.ones(real_queries.shape[:-1]))
            visible = visible_keys(config, stack, layer_type, window, masks[stack])[:, None].expand_as(weights)
            hidden = ~visible & masks[stack].bool()[:, None, :, None]
            assert (weights[hidden] == 0).all()
            assert (weights[visible & masks[stack].bool()[:, None, :, None]] > 0).all()
    cross_maps = outputs.cross_attentions
    assert len(cross_maps) == (0 if config.cross_attention_type == "none" else config.decoder_layers)
    for weights in cross_maps:
        assert weights.shape == (3, config.decoder_attention_heads, 6, 7)
        assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (weights.transpose(1, 3)[batch["attention_mask"] == 0] == 0).all()


def test_eager_and_sdpa_agree(config):
    outputs = []
    for backend in ("eager", "sdpa"):
        model = tiny_model(config)
        model.set_attn_implementation(backend)
        result = model(**tiny_batch(config), output_attentions=True)
        result.loss.backward()
        outputs.append((result, [parameter.grad for parameter in model.parameters()]))
    (eager, eager_gradients), (sdpa, sdpa_gradients) = outputs
    assert_close(sdpa.logits, eager.logits)
    assert_close(sdpa_gradients, eager_gradients)
    for name in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        assert_close(getattr(sdpa, name), getattr(eager, name))


@pytest.mark.filterwarnings("ignore:_compile flag on create_block_mask:DeprecationWarning")  # transformers sets it
@torch.no_grad()
def test_flex_attention_agrees(config):
    """Not compiled, which takes minutes on a CPU."""
    model = tiny_model(config)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected, generated = model(**batch).logits, model.generate(**source, max_new_tokens=7)
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("force_eager"):
        assert_close(model(**batch).logits, expected)
        assert torch.equal(model.generate(**source, max_new_tokens=7), generated)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(config, use_reentrant):
    results = []
    for checkpoints in (False, True):
        model = tiny_model(config).train()
        if checkpoints:
            enable_checkpointing(model, {"use_reentrant": use_reentrant})
        loss = model(**tiny_batch(config)).loss
        loss.backward()
        results.append((loss, [parameter.grad for parameter in model.parameters()]))
    assert_close(results[1], results[0])


def test_save_and_load_give_equal_logits(config, tmp_path):
    batch = tiny_batch(config)
    del batch["labels"]
    for model_class, auto_class in HEAD_CLASSES.items():
        model = tiny_model(config, model_class)
        model.save_pretrained(tmp_path / model_class.__name__)
        loaded = auto_class.from_pretrained(tmp_path / model_class.__name__)
        assert type(loaded) is model_class
        assert loaded.config.to_diff_dict().items() >= config.to_diff_dict().items()
        with torch.no_grad():
            assert_close(loaded(**batch).to_tuple()[0], model(**batch).to_tuple()[0], tolerance=1e-6)


def test_missing_keys_are_initialised_as_in_a_fresh_model(config, tmp_path):
    from safetensors.torch import load_file, save_file

    model = tiny_model(config)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    kept = {name: weight for index, (name, weight) in enumerate(sorted(weights.items())) if index % 7 == 0}
    kept = {name: weight for name, weight in kept.items() if name != "model.shared.weight"}
    save_file(kept, path, metadata={"format": "pt"})
    torch.manual_seed(0)
    loaded, info = HfAttnForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    torch.manual_seed(0)
    again = HfAttnForConditionalGeneration.from_pretrained(tmp_path)
    fresh = dict(HfAttnForConditionalGeneration(config).named_parameters())
    assert len(info["missing_keys"]) >= len(weights) - len(kept)
    num_missing = 0
    for (name, parameter), same in zip(loaded.named_parameters(), again.parameters(), strict=True):
        assert torch.isfinite(parameter).all(), name
        assert torch.equal(parameter, same), name
        if name in kept:
            assert torch.equal(parameter, kept[name]), name
            continue
        num_missing += 1
        # Of the same make: as wide as a fresh one's, or the same constant.
        spreads = [float(weights.detach().std(correction=0)) for weights in (parameter, fresh[name])]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.5), name
        assert parameter.abs().max() < 3 * fresh[name].abs().max() + 1e-6, name
    assert num_missing == len(fresh) - len(kept)


def test_samples_split_over_micro_batches_give_the_same_loss_and_gradient(config):
    model = tiny_model(config).train()
    batch = tiny_batch(config, batch_size=4)
    num_items = (batch["labels"] != -100).sum()
    results = []
    for splits in ([4], [1, 3], [1, 1, 1, 1]):
        model.zero_grad()
        total, start = 0.0, 0
        for size in splits:
            part = {name: value[start : start + size] for name, value in batch.items()}
            loss = model(**part, num_items_in_batch=num_items).loss
            loss.backward()
            total, start = total + loss.detach(), start + size
        results.append((total, [parameter.grad.clone() for parameter in model.parameters()]))
    assert_close(results[1], results[0])
    assert_close(results[2], results[0])
    assert_close(results[0][0], model(**batch).loss.detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_autocast", [True, False], ids=["autocast", "weights"])
def test_half_precision_is_finite_and_close(config, dtype, is_autocast):
    batch = tiny_batch(config)
    expected = tiny_model(config)(**batch)
    model = tiny_model(config).train()
    if not is_autocast:
        model.to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=is_autocast):
        outputs = model(**batch)
    outputs.loss.backward()
    assert outputs.loss.dtype == torch.float32
    assert outputs.loss.item() == pytest.approx(expected.loss.item(), rel=0.05)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=is_autocast):
        generated = model.eval().generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=4)
    assert len(generated) == 3


@pytest.mark.parametrize("kind", ["prompt lookup", "assistant"])
@torch.no_grad()
def test_speculative_decoding_is_greedy_decoding_or_refused(config, kind):
    model = tiny_model(config)
    batch = tiny_batch(config, batch_size=1, padding=None)
    speculation = {
        "prompt lookup": {"prompt_lookup_num_tokens": 3},
        "assistant": {"assistant_model": tiny_model(config, seed=5)},
    }[kind]
    if can_crop(config):
        greedy = model.generate(batch["input_ids"], max_new_tokens=12)
        assert torch.equal(model.generate(batch["input_ids"], max_new_tokens=12, **speculation), greedy)
    else:
        with pytest.raises(ValueError, match="`assistant_model` and `prompt_lookup_num_tokens` need a decoder whose"):
            model.generate(batch["input_ids"], max_new_tokens=12, **speculation)


def test_assistants_that_cannot_drop_tokens_are_refused():
    model, assistant = tiny_model(), tiny_model(tiny_config(decoder_layer_types=["lstm", "full_attention"]))
    batch = tiny_batch(model.config, batch_size=1, padding=None)
    message = "`assistant_model` and `prompt_lookup_num_tokens` need .* the state of `lstm` layers"
    with pytest.raises(ValueError, match=message):
        model.generate(batch["input_ids"], max_new_tokens=12, assistant_model=assistant)


def test_tensor_parallel_plan_names_modules_that_exist(config):
    for model_class in HEAD_CLASSES:
        model = tiny_model(config, model_class)
        names = {name.replace(".0.", ".*.").replace(".1.", ".*.") for name, _ in model.named_modules()}
        assert set(model.tp_plan) <= names
        assert len(model.tp_plan) == len(config.base_model_tp_plan)


def test_builds_on_meta_and_loads_by_device_map(config, tmp_path):
    model = tiny_model(config)
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = HfAttnForConditionalGeneration(config)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    loaded = HfAttnForConditionalGeneration.from_pretrained(tmp_path, device_map="cpu")
    heads = [name for name, _ in model.named_children() if name != "model"]
    device_map = dict.fromkeys(["model.shared", *heads], "cpu")
    for stack in ("encoder", "decoder"):
        for name, _ in model.get_submodule(f"model.{stack}").named_children():
            device_map[f"model.{stack}.{name}"] = "disk" if name == "layers" else "cpu"
    offloaded = HfAttnForConditionalGeneration.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload"
    )
    assert {parameter.device.type for parameter in offloaded.model.decoder.layers.parameters()} == {"meta"}
    batch = tiny_batch(config)
    with torch.no_grad():
        expected = model(**batch).logits
        assert_close(loaded(**batch).logits, expected, tolerance=1e-6)
        assert_close(offloaded(**batch).logits, expected)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_no_layer_is_split_over_devices(tmp_path, share):
    """Where the room is short, parts go elsewhere; the residual branches of a layer stay together."""
    model = tiny_model(tiny_config(decoder_layer_types="ssru"))
    model.save_pretrained(tmp_path)
    room = int(share * sum(weights.nbytes for weights in model.parameters()))
    loaded = HfAttnForConditionalGeneration.from_pretrained(
        tmp_path, device_map="auto", max_memory={"cpu": room}, offload_folder=tmp_path / "offload"
    )
    assert set(loaded.hf_device_map.values()) == {"cpu", "disk"}
    assert not [name for name in loaded.hf_device_map if re.search(r"\.layers\.\d+\.", name)]
    batch = tiny_batch(model.config)
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "lstm", "full-to-ssru", "sliding", "linear", "full-copying"])
def test_compiled_training_step_equals_eager(name):
    config = tiny_config(**MATRIX[name])
    batch = tiny_batch(config)
    results = []
    for compiles in (False, True):
        model = tiny_model(config).train()
        forward = torch.compile(model) if compiles else model
        loss = forward(**batch).loss
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
    assert_close(results[1], results[0], tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "lstm", "full-to-ssru", "sliding", "linear", "full-copying"])
@torch.no_grad()
def test_compiled_decoding_step_generates_the_same(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    expected = model.generate(**source, max_new_tokens=9)
    model.forward = torch.compile(model.forward)
    assert torch.equal(model.generate(**source, max_new_tokens=9, cache_implementation="static"), expected)


def test_encoder_decoder_cache_is_what_generation_carries(config):
    model = tiny_model(config)
    batch = {**tiny_batch(config), "labels": None}
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    outputs = model(**batch)
    model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=2)
    assert isinstance(outputs[CACHE_NAME], EncoderDecoderCache)
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not any(isinstance(value, torch.Tensor | Cache) for value in vars(module).values())
