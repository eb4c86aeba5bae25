# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
`generate` against slow references: whole forwards without a cache, and searches written out.

These are the subjects of transformers' `GenerationTesterMixin`, which its source distribution leaves out, over an
attention, a recurrence, a hybrid, a linear attention and a hybrid that copies. `test_contracts.py` holds every row of
the matrix to what needs no reference: a cache or none, static caches, encoder outputs, embeddings, a batch or one row.
"""

import copy

import pytest
import torch
from transformers import CompileConfig, DynamicCache, EncoderDecoderCache, StaticCache

from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import MATRIX, can_crop, has_attention, tiny_batch, tiny_config, tiny_model


ROWS = ("full", "lstm", "mixed", "linear", "mixed-copying")
NUM_STEPS = 8
END = 2


SOURCES = 4


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def next_logits(model, source, sequences):
    """Logits of the token after each of `sequences`, by a forward of all of it; one source may have several."""
    repeats = len(sequences) // len(source["input_ids"])
    inputs = {name: value.repeat_interleave(repeats, dim=0) for name, value in source.items()}
    return model(**inputs, decoder_input_ids=sequences, use_cache=False).logits[:, -1].float()


def greedy_reference(model, source, prompt=None, num_steps=NUM_STEPS):
    """The likeliest token each step, padding after the end of a row; and the logits of each step."""
    config, all_logits = model.config, []
    rows = len(source["input_ids"])
    sequences = torch.full((rows, 1), config.decoder_start_token_id) if prompt is None else prompt
    ended = torch.zeros(rows, dtype=torch.bool)
    for _ in range(num_steps):
        logits = next_logits(model, source, sequences)
        tokens = logits.argmax(dim=-1).masked_fill(ended, config.pad_token_id)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
        all_logits.append(logits)
        ended |= tokens == END
        if ended.all():
            break
    return sequences, all_logits


def lengths(sequences):
    """Tokens after the first one, up to the end token."""
    return [[*row[1:].tolist(), END].index(END) + 1 for row in sequences]


@pytest.fixture(scope="module", params=ROWS)
def model(request):
    """The first weights by which each source has another output, and outputs end at different steps."""
    config = tiny_config(**MATRIX[request.param], tie_word_embeddings=False, logits_bias=True)
    inputs = read_source(config)
    for seed in range(50):
        model = tiny_model(config, seed=seed)
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(2 if weights.dim() > 1 else 1)
            model.lm_head.bias[END] += 2
        sequences, _ = greedy_reference(model, inputs)
        by_length = sorted(lengths(sequences))
        if len(sequences.unique(dim=0)) == SOURCES and by_length[0] < by_length[-2] > 3:
            return model
    pytest.fail("of 50 draws of the weights none has outputs that differ")


@pytest.fixture(scope="module")
def source(model):
    return read_source(model.config)


def read_source(config):
    batch = tiny_batch(config, batch_size=SOURCES)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_search(model, source, use_cache):
    outputs = model.generate(
        **source, max_new_tokens=NUM_STEPS, use_cache=use_cache, return_dict_in_generate=True, output_logits=True,
        output_scores=True,
    )  # fmt: skip
    sequences, all_logits = greedy_reference(model, source)
    assert torch.equal(outputs.sequences, sequences)
    assert len(outputs.logits) == len(outputs.scores) == len(all_logits)
    for found, scores, expected in zip(outputs.logits, outputs.scores, all_logits, strict=True):
        assert_close(found, expected)
        assert_close(scores, expected)
    assert (CACHE_NAME in outputs) == use_cache


def test_prompts(model, source):
    prompt = torch.tensor([[END, 7, 9, 8], [END, 30, 31, 8], [END, 11, 12, 13], [END, 4, 4, 5]])
    expected, _ = greedy_reference(model, source, prompt)
    assert torch.equal(model.generate(**source, decoder_input_ids=prompt, max_new_tokens=NUM_STEPS), expected)


def test_prompts_padded_on_the_left(model, source):
    prompt = torch.tensor([[1, 1, END, 7], [1, END, 9, 8], [END, 11, 12, 13], [1, 1, 1, END]])
    mask = (prompt != 1).long()
    found = model.generate(**source, decoder_input_ids=prompt, decoder_attention_mask=mask, max_new_tokens=NUM_STEPS)
    assert torch.equal(found[:, :4], prompt)
    for row in range(len(prompt)):
        alone = {name: value[row : row + 1] for name, value in source.items()}
        expected, _ = greedy_reference(model, alone, prompt[row, mask[row].bool()][None])
        expected = expected[0, int(mask[row].sum()) :]
        assert torch.equal(found[row, 4 : 4 + len(expected)], expected)
        assert (found[row, 4 + len(expected) :] == model.config.pad_token_id).all()


@torch.no_grad()
def test_beam_search(model, source):
    """All hypotheses of one length, the end token being forbidden before."""
    num_beams, num_steps = 3, 5
    found = model.generate(
        **source, num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=num_steps,
        min_new_tokens=num_steps, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    for row in range(len(source["input_ids"])):
        alone = {name: value[row : row + 1] for name, value in source.items()}
        sequences, scores = torch.full((1, 1), model.config.decoder_start_token_id), torch.zeros(1)
        for _ in range(num_steps):
            log_probabilities = next_logits(model, alone, sequences).log_softmax(-1)
            log_probabilities[:, END] = -torch.inf
            candidates = (scores[:, None] + log_probabilities).flatten()
            scores, places = candidates.topk(num_beams)
            parents, tokens = places // log_probabilities.shape[1], places % log_probabilities.shape[1]
            sequences = torch.cat([sequences[parents], tokens[:, None]], dim=1)
        rows = slice(row * num_beams, (row + 1) * num_beams)
        assert torch.equal(found.sequences[rows], sequences)
        assert_close(found.sequences_scores[rows], scores / num_steps)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("do_sample", [False, True], ids=["beams", "sampled-beams"])
@torch.no_grad()
def test_scores_of_beams_are_those_of_the_model(model, source, do_sample, length_penalty):
    settings = {"num_beams": 4, "max_new_tokens": NUM_STEPS, "length_penalty": length_penalty}
    settings |= {"do_sample": True, "top_k": 0} if do_sample else {}
    found = model.generate(
        **source, **settings, num_return_sequences=3, return_dict_in_generate=True, output_scores=True
    )
    by_row = found.sequences_scores.view(-1, 3)
    assert torch.equal(by_row, by_row.sort(dim=-1, descending=True).values)
    inputs = {name: value.repeat_interleave(3, dim=0) for name, value in source.items()}
    logits = model(**inputs, decoder_input_ids=found.sequences[:, :-1], use_cache=False).logits.float()
    tokens = logits.log_softmax(-1).gather(-1, found.sequences[:, 1:, None])[..., 0]
    counts = torch.tensor(lengths(found.sequences)).clamp(max=tokens.shape[1])
    is_counted = torch.arange(tokens.shape[1]) < counts[:, None]
    expected = tokens.masked_fill(~is_counted, 0).sum(-1) / counts**length_penalty
    assert_close(found.sequences_scores, expected)
    steps = model.compute_transition_scores(found.sequences, found.scores, found.beam_indices)
    assert_close(steps.masked_fill(~is_counted[:, : steps.shape[1]], 0), tokens.masked_fill(~is_counted, 0))
    if not do_sample:
        assert all(len(n_best.unique(dim=0)) == 3 for n_best in found.sequences.split(3))
        best = model.generate(**source, **settings)
        assert torch.equal(found.sequences[::3, : best.shape[1]], best)


@pytest.mark.parametrize("num_beams", [1, 3])
@torch.no_grad()
def test_states_and_maps_of_each_step_are_those_of_one_forward(model, source, num_beams):
    asked = {"output_attentions": True, "output_hidden_states": True, "return_dict_in_generate": True}
    found = model.generate(**source, num_beams=num_beams, max_new_tokens=5, min_new_tokens=5, **asked)
    whole = model(
        **source, decoder_input_ids=found.sequences[:, :-1], output_attentions=True, output_hidden_states=True,
        use_cache=False,
    )  # fmt: skip
    for name in ("encoder_hidden_states", "encoder_attentions"):
        assert len(found[name]) == len(whole[name])
        for actual, expected in zip(found[name], whole[name], strict=True):
            assert_close(actual, expected)
    rows = torch.arange(len(found.sequences))[:, None].expand(-1, 5) if num_beams == 1 else found.beam_indices
    keeps_maps = "linear_attention" not in model.config.decoder_layer_types
    assert len(whole.cross_attentions) == model.config.decoder_layers
    for step in range(5):
        for actual, expected in zip(found.decoder_hidden_states[step], whole.decoder_hidden_states, strict=True):
            assert actual.shape == (SOURCES * num_beams, 1, model.config.d_model)
            assert_close(actual[rows[:, step], 0], expected[:, step])
        for actual, expected in zip(found.cross_attentions[step], whole.cross_attentions, strict=True):
            assert_close(actual[rows[:, step], :, 0], expected[:, :, step])
        if keeps_maps:
            assert len(found.decoder_attentions[step]) == sum(has_attention(model.config, "decoder"))
            for actual, expected in zip(found.decoder_attentions[step], whole.decoder_attentions, strict=True):
                assert_close(actual[rows[:, step], :, 0], expected[:, :, step, : step + 1])


@torch.no_grad()
def test_samples_are_drawn_by_the_model_s_probabilities(model, source):
    """The first two tokens, of the three likeliest each, at a temperature."""
    number, temperature, top_k = 3000, 1.7, 3
    alone = {name: value[:1] for name, value in source.items()}
    samples = model.generate(
        **alone, do_sample=True, temperature=temperature, top_k=top_k, num_return_sequences=number, max_new_tokens=2,
        min_new_tokens=2,
    )  # fmt: skip
    assert samples.shape == (number, 3)

    def probabilities(sequences):
        logits = next_logits(model, alone, sequences)
        logits[:, END] = -torch.inf
        best, tokens = (logits / temperature).topk(top_k)
        return best.softmax(-1), tokens

    start = torch.full((1, 1), model.config.decoder_start_token_id)
    first, first_tokens = probabilities(start)
    prefixes = torch.cat([start.expand(top_k, 1), first_tokens.T], dim=1)
    second, second_tokens = probabilities(prefixes)
    drawn = 0
    for place, prefix in enumerate(prefixes):
        for probability, token in zip(second[place], second_tokens[place], strict=True):
            expected = float(first[0, place] * probability)
            is_drawn = (samples == torch.tensor([*prefix.tolist(), int(token)])).all(dim=-1)
            share = float(is_drawn.float().mean())
            assert share == pytest.approx(expected, abs=5 * (expected * (1 - expected) / number) ** 0.5)
            drawn += int(is_drawn.sum())
    assert drawn == number


def test_samples_of_the_likeliest_token_are_greedy(model, source):
    expected, _ = greedy_reference(model, source)
    found = model.generate(**source, do_sample=True, top_k=1, num_return_sequences=2, max_new_tokens=NUM_STEPS)
    assert torch.equal(found, expected.repeat_interleave(2, dim=0))


@pytest.mark.parametrize("pieces", [(3, 5), (1, 1, 6)])
def test_a_search_goes_on_from_its_cache(model, source, pieces):
    """With the mask of the whole prompt, by which `generate` knows what the cache has seen."""
    expected, _ = greedy_reference(model, source)
    outputs = model.generate(**source, max_new_tokens=pieces[0], return_dict_in_generate=True)
    for number in pieces[1:]:
        prompt = outputs.sequences
        mask = torch.ones_like(prompt)
        mask[:, 1:] = prompt[:, 1:] != model.config.pad_token_id
        assert outputs[CACHE_NAME].get_seq_length() == prompt.shape[1] - 1
        outputs = model.generate(
            **source, decoder_input_ids=prompt, decoder_attention_mask=mask, max_new_tokens=number,
            return_dict_in_generate=True, **{CACHE_NAME: outputs[CACHE_NAME]},
        )  # fmt: skip
    going_on = [length > sum(pieces[:-1]) for length in lengths(expected)]
    assert any(going_on)
    assert torch.equal(outputs.sequences[going_on][:, : expected.shape[1]], expected[going_on])


def test_a_cache_that_was_copied_is_another(model, source):
    outputs = model.generate(**source, max_new_tokens=3, min_new_tokens=3, return_dict_in_generate=True)
    saved = copy.deepcopy(outputs[CACHE_NAME])
    mask = torch.ones_like(outputs.sequences)
    found = [
        model.generate(
            **source,
            decoder_input_ids=outputs.sequences,
            decoder_attention_mask=mask,
            max_new_tokens=4,
            **{CACHE_NAME: cache},
        )
        for cache in (outputs[CACHE_NAME], saved)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_caches_of_one_s_own(model, source, num_beams):
    settings = {"num_beams": num_beams, "max_new_tokens": NUM_STEPS}
    expected = model.generate(**source, **settings, use_cache=False)
    for cache in (
        DynamicCache(),
        DynamicCache(config=model.config),
        EncoderDecoderCache(DynamicCache(), DynamicCache()),
        EncoderDecoderCache(
            StaticCache(config=model.config, max_cache_len=1 + NUM_STEPS), StaticCache(model.config, max_cache_len=7)
        ),
    ):
        found = model.generate(**source, **settings, disable_compile=True, **{CACHE_NAME: cache})
        assert torch.equal(found, expected)
    dynamic = model.generate(**source, **settings, cache_implementation="dynamic")
    assert torch.equal(dynamic, expected)


def test_without_a_source_the_first_token_is_the_source(model):
    alone = torch.tensor([[model.generation_config.bos_token_id]])
    tokens = {"source_ids": alone} if model.config.copy_attention else {}
    expected, _ = greedy_reference(model, {"input_ids": alone})
    assert torch.equal(model.generate(max_new_tokens=NUM_STEPS, **tokens), expected)


@pytest.mark.parametrize("kind", ["prompt lookup", "assistant"])
def test_speculation_ends_where_greedy_search_does(model, source, kind):
    speculation = {
        "prompt lookup": {"prompt_lookup_num_tokens": 3},
        "assistant": {"assistant_model": tiny_model(model.config, seed=5)},
    }[kind]
    if not can_crop(model.config):
        with pytest.raises(ValueError, match="need a decoder whose cache can drop rejected tokens"):
            model.generate(source["input_ids"][:1], **speculation)
        return
    ends = set()
    for row in range(len(source["input_ids"])):
        alone = {"input_ids": source["input_ids"][row, source["attention_mask"][row].bool()][None]}
        expected, _ = greedy_reference(model, alone)
        assert torch.equal(model.generate(**alone, max_new_tokens=NUM_STEPS, **speculation), expected)
        ends.add(expected.shape[1])
    assert len(ends) > 1


@pytest.mark.parametrize("num_beams", [1, 3])
def test_backends_generate_the_same(model, source, num_beams):
    settings = {"num_beams": num_beams, "max_new_tokens": NUM_STEPS}
    expected = model.generate(**source, **settings)
    before = model.config._attn_implementation
    model.set_attn_implementation({"sdpa": "eager", "eager": "sdpa"}[before])
    found = model.generate(**source, **settings)
    model.set_attn_implementation(before)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, "Group Beam Search requires `trust_remote"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "Contrastive Search requires `trust_remote_code=True`"),
        ({"num_beams": 2, "force_words_ids": [[5, 6]]}, "Constrained Beam Search requires `trust_remote_code=True`"),
        ({"dola_layers": "low"}, "Dola Generation requires `trust_remote_code=True`"),
        ({"prefill_chunk_size": 2}, "`prefill_chunk_size` must be None for an encoder-decoder, got 2"),
        ({"cache_implementation": "quantized"}, "does not support the quantized cache"),
        ({"cache_implementation": "shelf"}, r"Invalid `cache_implementation` \(shelf\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_there_is_not_is_refused(options, message):
    """Searches that transformers has moved to the Hub, and what it cannot do with an encoder-decoder."""
    model = tiny_model()
    with pytest.raises(ValueError, match=message):
        model.generate(torch.tensor([[4, 5, END]]), max_new_tokens=3, **options)


@pytest.mark.slow
def test_a_compiled_forward_is_one_graph(model, source):
    expected, _ = greedy_reference(model, source)
    compile_config = CompileConfig(fullgraph=True)
    compile_config._compile_all_devices = True
    found = model.generate(
        **source, max_new_tokens=NUM_STEPS, cache_implementation="static", compile_config=compile_config
    )
    assert torch.equal(found, expected)
