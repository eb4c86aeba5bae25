# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The heads, labels and loss, embeddings, and what bad input is told."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hf_attn import (
    HfAttnForConditionalGeneration,
    HfAttnForQuestionAnswering,
    HfAttnForSequenceClassification,
    HfAttnModel,
)
from hf_attn.modeling_hf_attn import shift_tokens_right
from hf_attn.modeling_versions import CACHE_NAME
from tests.utils import MATRIX, tiny_batch, tiny_config, tiny_model


def test_labels_are_shifted_once():
    labels = torch.tensor([[5, 6, 2, -100], [-100, 7, 8, 2], [5, -100, 6, 2]])
    shifted = shift_tokens_right(labels, labels != -100, pad_token_id=1, decoder_start_token_id=9)
    assert shifted.tolist() == [[9, 5, 6, 2], [1, 9, 7, 8], [9, 5, 1, 6]]
    model = tiny_model()
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[2, 5, 6, 2], [1, 2, 7, 8], [2, 5, 1, 6]]
    batch = tiny_batch(model.config)
    decoder_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    outputs = model(**batch), model(**batch, decoder_input_ids=decoder_ids)
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    assert torch.equal(outputs[0].loss, outputs[1].loss)


@pytest.mark.parametrize("start", [2, 1], ids=["start", "padding starts"])
def test_ignored_labels_hide_no_decoder_input_that_is_given(start):
    model = tiny_model(tiny_config(decoder_start_token_id=start))
    source = tiny_batch(model.config, padding=None)["input_ids"]
    ids = torch.tensor([[start, 9, 10, 11], [start, 12, 13, 14], [start, 17, 15, 16]])
    labels = torch.tensor([[-100, -100, 11, 2], [-100, 13, 14, 2], [-100, -100, -100, 2]])
    embeds = model.get_input_embeddings()(ids)
    for decoder_inputs in ({"decoder_input_ids": ids}, {"decoder_inputs_embeds": embeds}):
        logits = model(source, **decoder_inputs).logits
        outputs = model(source, **decoder_inputs, labels=labels)
        torch.testing.assert_close(outputs.logits, logits)
        torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))


@pytest.mark.parametrize("start", [2, 1], ids=["start", "padding starts"])
def test_labels_with_padding_on_the_left_hide_it_whoever_made_the_decoder_inputs(start):
    model = tiny_model(tiny_config(decoder_start_token_id=start))
    source = tiny_batch(model.config, padding=None)["input_ids"]
    labels = torch.tensor([[-100, -100, 11, 2], [-100, 13, 14, 2], [15, 16, 17, 2]])
    decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)  # as a collator does
    outputs = model(source, labels=labels), model(source, labels=labels, decoder_input_ids=decoder_ids)
    alone = model(source[:1], labels=labels[:1, 2:]).logits
    for found in outputs:
        torch.testing.assert_close(found.logits[:1, 2:], alone)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs(smoothing):
    model = tiny_model(tiny_config(label_smoothing=smoothing))
    batch = tiny_batch(model.config)
    outputs = model(**batch)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=smoothing)
    expected = cross_entropy(outputs.logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(outputs.loss, expected)
    num_tokens = int((batch["labels"] != -100).sum())
    for divisor in (4 * num_tokens, torch.tensor(4 * num_tokens)):
        torch.testing.assert_close(model(**batch, num_items_in_batch=divisor).loss, expected / 4)


def test_ignored_labels_have_no_part_in_the_loss():
    model = tiny_model()
    batch = tiny_batch(model.config)
    longer = nn.functional.pad(batch["labels"], (0, 3), value=-100)
    torch.testing.assert_close(model(**{**batch, "labels": longer}).loss, model(**batch).loss)
    nothing = torch.full_like(batch["labels"], -100)
    loss = model(**{**batch, "labels": nothing}).loss
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_loss_without_logits_is_the_same(smoothing, has_bias):
    model = tiny_model(tiny_config(label_smoothing=smoothing, logits_bias=has_bias))
    batch = tiny_batch(model.config)
    results = []
    for skips in (False, True):
        model.zero_grad()
        outputs = model(**batch, skip_logits=skips, num_items_in_batch=7)
        assert (outputs.logits is None) == skips
        outputs.loss.backward()
        results.append((outputs.loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("name", ["full", "lstm", "ssru"])
def test_question_answering_points_into_the_source(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config, HfAttnForQuestionAnswering)
    batch = tiny_batch(config)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    starts, ends = torch.tensor([1, 2, 0]), torch.tensor([3, 2, 1])
    outputs = model(**source, start_positions=starts, end_positions=ends)
    assert outputs.start_logits.shape == outputs.end_logits.shape == batch["input_ids"].shape
    cross_entropy = nn.functional.cross_entropy
    expected = (cross_entropy(outputs.start_logits, starts) + cross_entropy(outputs.end_logits, ends)) / 2
    torch.testing.assert_close(outputs.loss, expected)
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["full", "lstm", "ssru"])
def test_the_loss_of_question_answering_is_that_of_the_rows_alone(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config, HfAttnForQuestionAnswering)
    batch = tiny_batch(config, padding="right")
    starts, ends = torch.tensor([1, 2, 0]), torch.tensor([3, 2, 1])
    whole = model(batch["input_ids"], batch["attention_mask"], start_positions=starts, end_positions=ends)
    assert not batch["attention_mask"].all()
    losses = []
    for row, mask in enumerate(batch["attention_mask"].bool()):
        ids = batch["input_ids"][row : row + 1, mask]
        alone = model(ids, start_positions=starts[row : row + 1], end_positions=ends[row : row + 1])
        torch.testing.assert_close(alone.start_logits[0], whole.start_logits[row, mask])
        losses.append(alone.loss)
    torch.testing.assert_close(whole.loss, torch.stack(losses).mean())


def test_question_answering_reads_a_token_for_each_of_the_source():
    model = tiny_model(tiny_config(), HfAttnForQuestionAnswering)
    with pytest.raises(ValueError, match=r"`decoder_input_ids` must have a token for each of the source, .* 2 for 3"):
        model(input_ids=torch.ones(1, 3, dtype=torch.long), decoder_input_ids=torch.ones(1, 2, dtype=torch.long))


@pytest.mark.parametrize("name", ["full", "lstm", "ssru"])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_classification_reads_the_last_real_position(name, padding):
    config = tiny_config(**MATRIX[name], num_labels=3)
    model = tiny_model(config, HfAttnForSequenceClassification)
    batch = tiny_batch(config, padding=padding)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    outputs = model(**source, labels=torch.tensor([0, 2, 1]))
    assert outputs.logits.shape == (3, 3)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, torch.tensor([0, 2, 1])))
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = model(input_ids=batch["input_ids"][row, mask][None]).logits
        torch.testing.assert_close(outputs.logits[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_classification_of_given_decoder_embeddings_reads_their_own_last_position():
    model = tiny_model(tiny_config(num_labels=3), HfAttnForSequenceClassification)
    source = torch.randint(4, 20, (2, 6))
    embeds = torch.randn(2, 4, model.config.d_model)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    logits = model(source, decoder_inputs_embeds=embeds, decoder_attention_mask=mask).logits
    padded = embeds.index_fill(1, torch.tensor([3]), 7.0)
    assert torch.equal(model(source, decoder_inputs_embeds=padded, decoder_attention_mask=mask).logits[0], logits[0])
    alone = model(source[:1], decoder_inputs_embeds=embeds[:1, :3]).logits
    torch.testing.assert_close(alone, logits[:1], atol=1e-5, rtol=1e-5)


def test_inputs_without_effect_are_refused():
    ids, mask = torch.full((1, 3), 5), torch.ones(1, 3, dtype=torch.long)
    for model_class in (HfAttnModel, HfAttnForQuestionAnswering, HfAttnForSequenceClassification):
        model = tiny_model(tiny_config(), model_class)
        with pytest.raises(ValueError, match="`source_ids` are what can be copied or compared"):
            model(ids, source_ids=ids)
        with pytest.raises(ValueError, match="`decoder_attention_mask` has no effect without `decoder_input_ids`"):
            model(ids, decoder_attention_mask=mask)
    model = tiny_model(tiny_config(), HfAttnForQuestionAnswering)
    with pytest.raises(ValueError, match="make a loss together, got only `start_positions`"):
        model(ids, start_positions=torch.tensor([1]))


def test_regression_where_there_is_one_label():
    model = tiny_model(tiny_config(num_labels=1), HfAttnForSequenceClassification)
    batch = tiny_batch(model.config)
    targets = torch.tensor([0.5, 1.0, -1.0])
    outputs = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=targets)
    torch.testing.assert_close(outputs.loss, nn.functional.mse_loss(outputs.logits[:, 0], targets))


CLASSES = {"num_labels": 3}
# Targets of four rows, the fields of the config that ask for them, and torch's loss.
TARGETS = {
    "regression": ({"num_labels": 1}, torch.tensor([0.5, 1.0, -1.0, 2.0]), nn.functional.mse_loss),
    "regression of several": (
        {**CLASSES, "problem_type": "regression"},
        torch.tensor([[1, 2, 3], [0, -1, 4], [2, 2, 0], [5, 1, 1]]),
        nn.functional.mse_loss,
    ),
    "single label": (CLASSES, torch.tensor([0, 2, 1, 1]), nn.functional.cross_entropy),
    "multi label": (
        CLASSES,
        torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]]),
        nn.functional.binary_cross_entropy_with_logits,
    ),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_losses_of_classification_are_torchs_however_the_rows_are_split(kind):
    fields, targets, loss_function = TARGETS[kind]
    model = tiny_model(tiny_config(**fields), HfAttnForSequenceClassification)
    source = tiny_batch(model.config, batch_size=4, padding=None)["input_ids"]
    outputs = model(source, labels=targets)
    expected_targets = targets if kind == "single label" else targets.float().view_as(outputs.logits)
    torch.testing.assert_close(outputs.loss, loss_function(outputs.logits, expected_targets))
    for num_items in (targets.numel(), torch.tensor(targets.numel())):
        parts = [
            model(source[rows], labels=targets[rows], num_items_in_batch=num_items).loss for rows in ([0], [1, 2, 3])
        ]
        torch.testing.assert_close(sum(parts), outputs.loss)


def test_labels_of_several_classes_may_be_ignored():
    model = tiny_model(tiny_config(num_labels=3), HfAttnForSequenceClassification)
    source = tiny_batch(model.config, padding=None)["input_ids"]
    labels = torch.tensor([[1.0, -100, 1], [0, 0, -100], [-100, -100, -100]])
    outputs = model(source, labels=labels)
    counts = labels != -100
    expected = nn.functional.binary_cross_entropy_with_logits(outputs.logits[counts], labels[counts])
    torch.testing.assert_close(outputs.loss, expected)


def test_the_loss_of_question_answering_does_not_depend_on_how_rows_are_split():
    model = tiny_model(tiny_config(), HfAttnForQuestionAnswering)
    source = tiny_batch(model.config, padding=None)["input_ids"]
    starts, ends = torch.tensor([1, 2, 99]), torch.tensor([[3], [2], [99]])  # the last is not in the source
    whole = model(source, start_positions=starts, end_positions=ends)
    kept = model(source[:2], start_positions=starts[:2], end_positions=ends[:2])
    torch.testing.assert_close(whole.loss, kept.loss)
    parts = [
        model(source[rows], start_positions=starts[rows], end_positions=ends[rows], num_items_in_batch=2).loss
        for rows in ([0], [1], [2])
    ]
    torch.testing.assert_close(sum(parts), whole.loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_losses_of_spans_and_classes_are_at_least_in_float32(dtype):
    model = tiny_model(tiny_config(), HfAttnForQuestionAnswering).to(dtype)
    source = tiny_batch(model.config, padding=None)["input_ids"]
    precise = torch.promote_types(dtype, torch.float32)
    positions = torch.tensor([1, 2, 0])
    outputs = model(source, start_positions=positions, end_positions=positions)
    logits = outputs.start_logits.to(precise), outputs.end_logits.to(precise)
    expected = sum(nn.functional.cross_entropy(scores, positions) for scores in logits) / 2
    assert outputs.loss.dtype == precise
    torch.testing.assert_close(outputs.loss, expected)
    for fields, targets, _ in TARGETS.values():
        model = tiny_model(tiny_config(**fields), HfAttnForSequenceClassification).to(dtype)
        loss = model(source, labels=targets[:3]).loss
        assert loss.dtype == precise
        loss.backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("num_items", [0, torch.tensor(0)])
def test_an_update_without_items_has_no_gradient(num_items):
    model = tiny_model()
    batch = tiny_batch(model.config)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    for skips in (False, True):
        model.zero_grad()
        loss = model(**batch, skip_logits=skips, num_items_in_batch=num_items).loss
        loss.backward()
        assert loss == 0
        assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_embeddings_are_shared_and_the_head_is_tied():
    model = tiny_model()
    shared = model.model.shared.weight
    assert model.model.encoder.embed_tokens.weight is shared
    assert model.model.decoder.embed_tokens.weight is shared
    assert model.lm_head.weight is shared
    untied = tiny_model(tiny_config(tie_word_embeddings=False))
    assert untied.lm_head.weight is not untied.model.shared.weight
    assert untied.model.decoder.embed_tokens.weight is untied.model.shared.weight


@pytest.mark.parametrize("is_tied", [True, False])
def test_resized_embeddings_keep_what_was_learned(is_tied, tmp_path):
    model = tiny_model(tiny_config(tie_word_embeddings=is_tied, logits_bias=True))
    batch = tiny_batch(model.config)
    before = model(**batch).logits
    model.resize_token_embeddings(45)
    assert model.config.vocab_size == 45
    after = model(**batch).logits
    torch.testing.assert_close(after[..., :40], before)
    new_ids = batch["input_ids"].masked_fill(batch["input_ids"] == batch["input_ids"][0, 0], 44)
    assert torch.isfinite(model(input_ids=new_ids, labels=new_ids).loss)
    model.save_pretrained(tmp_path)
    loaded = HfAttnForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, after)
    assert (loaded.lm_head.weight is loaded.model.shared.weight) == is_tied


HEADS = {
    HfAttnModel: {},
    HfAttnForConditionalGeneration: {},
    HfAttnForQuestionAnswering: {},
    HfAttnForSequenceClassification: {"num_labels": 3},
}


@pytest.mark.parametrize("model_class", HEADS)
def test_a_config_may_ask_for_tuples(model_class):
    model = tiny_model(tiny_config(**HEADS[model_class]), model_class)
    source = tiny_batch(model.config)["input_ids"]
    expected = model(source)
    model.config.return_dict = False
    found = model(source)
    assert isinstance(found, tuple)
    torch.testing.assert_close(found[0], expected[0])
    assert model(source, return_dict=True).keys() == expected.keys()
    if model.can_generate():
        ids = model.generate(source, max_new_tokens=3)
        model.config.return_dict = True
        assert torch.equal(model.generate(source, max_new_tokens=3), ids)


def test_heads_that_do_not_generate_keep_no_cache():
    for model_class in (HfAttnForQuestionAnswering, HfAttnForSequenceClassification):
        model = tiny_model(tiny_config(**HEADS[model_class]), model_class)
        source = tiny_batch(model.config)["input_ids"]
        assert CACHE_NAME not in model(source)
        assert CACHE_NAME in model(source, use_cache=True)


def test_inputs_embeds_are_what_the_embedding_gives():
    model = tiny_model()
    batch = tiny_batch(model.config)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    from_embeds = model(inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(from_embeds.logits, model(**batch).logits)


def test_ids_outside_the_vocabulary():
    model = tiny_model()
    batch = tiny_batch(model.config)

    def replaced(name, value):
        ids = batch[name].clone()
        ids[0, 0] = value
        return {**batch, name: ids}

    with pytest.raises(ValueError, match=r"`labels` must hold ids in \[0, `vocab_size` = 40\), or -100 .*got 40"):
        model(**replaced("labels", 40))
    with pytest.raises(ValueError, match=r"`labels` must hold ids .*got -1\. .*resize_token_embeddings"):
        model(**replaced("labels", -1))
    with pytest.raises(ValueError, match=r"`input_ids` must hold ids in \[0, `vocab_size` = 40\), got 41"):
        model(**replaced("input_ids", 41))
    with pytest.raises(ValueError, match="`decoder_input_ids` must hold ids"):
        model(input_ids=batch["input_ids"], decoder_input_ids=torch.tensor([[40]] * 3))


def test_empty_and_missing_inputs():
    model = tiny_model()
    empty = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"`input_ids` must hold at least one token a row, got .*\(2, 0\)"):
        model(input_ids=empty, labels=torch.tensor([[4], [5]]))
    with pytest.raises(ValueError, match="Pass exactly one of `input_ids` and `inputs_embeds`"):
        model(labels=torch.tensor([[4], [5]]))
    with pytest.raises(ValueError, match="Without `input_ids` there is nothing for the decoder to read"):
        tiny_model(model_class=HfAttnModel)(inputs_embeds=torch.zeros(1, 2, 16))


@pytest.mark.parametrize("name", MATRIX)
def test_a_source_of_padding_alone_is_finite(name):
    model = tiny_model(tiny_config(**MATRIX[name]))
    batch = tiny_batch(model.config)
    batch["attention_mask"][1] = 0
    outputs = model(**batch)
    outputs.loss.backward()
    assert torch.isfinite(outputs.logits).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    without = {key: value[[0, 2]] for key, value in batch.items()}
    torch.testing.assert_close(model(**without).logits, outputs.logits[[0, 2]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["flash_attention_2", "kernels-community/flash-attn2"])
def test_flash_attention_cannot_bias_scores(backend):
    for scheme in ("relative_bias", "alibi"):
        model = tiny_model(tiny_config(position_embedding_type=scheme))
        with pytest.raises(ValueError, match="cannot add the bias of `position_embedding_type` = '" + scheme):
            model.set_attn_implementation(backend)


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.encoder.layers.0.mixer.q_proj.weight"
    weights[name] = weights[name][:8]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="mismatch"):
        HfAttnForConditionalGeneration.from_pretrained(tmp_path)


def test_fresh_weights_are_drawn_as_documented():
    torch.manual_seed(0)
    config = tiny_config(d_model=128, vocab_size=1000, encoder_ffn_dim=256, decoder_ffn_dim=256)
    model = HfAttnForConditionalGeneration(config)
    assert model.model.shared.weight.std().item() == pytest.approx(128**-0.5, rel=0.02)
    assert (model.model.shared.weight[config.pad_token_id] == 0).all()
    weight = model.model.encoder.layers[0].feed_forward.fc1.weight
    assert weight.abs().max().item() == pytest.approx((6 / (128 + 256)) ** 0.5, rel=0.01)
    assert (model.model.encoder.layers[0].mixer.q_proj.bias == 0).all()
    # A sensible first loss: near that of the uniform distribution.
    batch = tiny_batch(config)
    assert model.eval()(**batch).loss.item() == pytest.approx(torch.log(torch.tensor(1000.0)).item(), abs=1.5)


def test_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"`activation_function` must be one of .*, got 'geluu' \(did you mean `gelu`\?\)"
    ):
        HfAttnForConditionalGeneration(tiny_config(activation_function="geluu"))
