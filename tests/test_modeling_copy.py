# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Copying and coverage against what the paper writes, one step, one position at a time; and their loss in chunks."""

import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers.modeling_outputs import BaseModelOutput

from hf_attn import HfAttnForConditionalGeneration, modeling_attention, modeling_loss
from hf_attn.modeling_copy import (
    CopyHead,
    chunked_mixture_loss,
    coverage_loss,
    distinct_tokens,
    mixture_log_probabilities,
)
from hf_attn.modeling_loss import sequence_loss
from tests.utils import MATRIX, TORCH, tiny_batch, tiny_config, tiny_model


COPYING = [name for name, fields in MATRIX.items() if fields.get("copy_attention")]


def assert_close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def naive_mixture(
    gate, logits, hidden_states, inputs_embeds, encoder_hidden_states, cross_attention_weights, source_ids
):
    """Probabilities by equations 3, 8 and 9, a target position and a source position at a time."""
    rows = []
    for row in range(len(logits)):
        steps = []
        for step in range(logits.shape[1]):
            context = sum(
                weight * state
                for weight, state in zip(cross_attention_weights[row, step], encoder_hidden_states[row], strict=True)
            )
            features = torch.cat([context, hidden_states[row, step], inputs_embeds[row, step]])
            p_gen = torch.sigmoid(gate.weight[0] @ features + gate.bias[0])
            exponentials = logits[row, step].exp()
            probabilities = list(p_gen * exponentials / exponentials.sum())
            for position, token in enumerate(source_ids[row].tolist()):
                probabilities[token] = (
                    probabilities[token] + (1 - p_gen) * cross_attention_weights[row, step, position]
                )
            steps.append(torch.stack(probabilities))
        rows.append(torch.stack(steps))
    return torch.stack(rows)


def drawn_inputs(d_model=6, vocab_size=11, source_length=5, target_length=4):
    """A head, what it reads, and the leaves for gradients, in float64: sources repeat tokens, one has padding."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    torch.manual_seed(0)
    head = CopyHead(d_model).double()
    source_ids = torch.tensor([[3, 7, 3, 0, 3], [9, 9, 2, 1, 1]])[:, :source_length]
    scores = drawn(2, target_length, source_length)
    scores[1, :, 3:] = -torch.inf
    tensors = {
        "logits": drawn(2, target_length, vocab_size),
        "hidden_states": drawn(2, target_length, d_model),
        "inputs_embeds": drawn(2, target_length, d_model),
        "encoder_hidden_states": drawn(2, source_length, d_model),
        "scores": scores,
    }
    tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    leaves = [*tensors.values(), *head.parameters()]
    tensors["cross_attention_weights"] = tensors.pop("scores").softmax(-1)
    return head, source_ids, tensors, leaves


def test_mixture_is_that_of_the_paper_in_outputs_and_gradients():
    results = []
    for is_naive in (True, False):
        head, source_ids, tensors, leaves = drawn_inputs()
        if is_naive:
            log_probabilities = naive_mixture(head.gate, **tensors, source_ids=source_ids).log()
        else:
            logits, *inputs = tensors.values()
            log_probabilities = mixture_log_probabilities(logits, head(*inputs, source_ids))
        assert_close(log_probabilities.exp().sum(-1), torch.ones(2, 4, dtype=torch.float64))
        upstream = torch.randn(log_probabilities.shape, generator=torch.Generator().manual_seed(1)).double()
        results.append((log_probabilities, torch.autograd.grad((log_probabilities * upstream).sum(), leaves)))
    assert_close(results[1], results[0], tolerance=1e-10)


@pytest.mark.parametrize("name", COPYING)
def test_logits_of_a_model_are_the_mixture_of_its_parts(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config)
    batch = tiny_batch(config)
    parts = model.model(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=model.prepare_decoder_input_ids_from_labels(batch["labels"]),
        output_attentions=True,
    )
    decoder_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    expected = naive_mixture(
        model.copy_head.gate,
        model.lm_head(parts.last_hidden_state),
        parts.last_hidden_state,
        model.get_input_embeddings()(decoder_ids) * math.sqrt(config.d_model),
        parts.encoder_last_hidden_state,
        parts.cross_attentions[-1].mean(dim=1),
        batch["input_ids"],
    )
    outputs = model(**batch)
    assert_close(outputs.logits.exp(), expected)
    loss = sequence_loss(expected.log(), batch["labels"], label_smoothing=config.label_smoothing)
    if config.coverage_loss_weight:
        loss = loss + config.coverage_loss_weight * coverage_loss(parts.cross_attention_weights, batch["labels"])
    assert_close(outputs.loss, loss)
    gradients = [torch.autograd.grad(each, list(model.parameters())) for each in (outputs.loss, loss)]
    assert_close(gradients[0], gradients[1])
    assert len(COPYING) == 3


def test_distinct_tokens():
    source_ids = torch.tensor([[5, 2, 5, 9, 2], [0, 0, 0, 0, 0], [4, 3, 2, 1, 0]])
    tokens, places = distinct_tokens(source_ids)
    assert tokens.tolist() == [[2, 5, 9, 0, 0], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]]
    assert torch.equal(tokens.gather(-1, places), source_ids)


@pytest.mark.parametrize("name", COPYING)
@torch.no_grad()
def test_a_closed_gate_copies_and_never_padding(name):
    config = tiny_config(**MATRIX[name])
    model = tiny_model(config)
    model.copy_head.gate.bias.fill_(-60)
    batch = tiny_batch(config)
    probabilities = model(**batch).logits.exp()
    for row, mask in enumerate(batch["attention_mask"].bool()):
        copyable = batch["input_ids"][row, mask]
        assert_close(probabilities[row][:, copyable.unique()].sum(-1), torch.ones(6))
        assert (probabilities[row, :, config.pad_token_id] < 1e-12).all()
    generated = model.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=3, max_new_tokens=9
    )
    for row, mask in enumerate(batch["attention_mask"].bool()):
        assert set(generated[row, 1:].tolist()) <= set(batch["input_ids"][row, mask].tolist()) | {1, 2}


def naive_coverage(cross_attention_weights, labels):
    """Equations 10 and 13, a step at a time; the mean over the steps that have a target."""
    total, num_targets = 0.0, 0
    for row in range(len(labels)):
        coverage = torch.zeros(cross_attention_weights.shape[-1], dtype=cross_attention_weights.dtype)
        for step in range(labels.shape[1]):
            if labels[row, step] == -100:
                continue
            for position in range(cross_attention_weights.shape[-1]):
                total = total + min(cross_attention_weights[row, step, position], coverage[position])
            coverage = coverage + cross_attention_weights[row, step]
            num_targets += 1
    return total / num_targets


def test_coverage_loss_is_that_of_the_paper_in_outputs_and_gradients():
    scores = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = scores.softmax(-1).requires_grad_()
    labels = torch.tensor([[5, 6, 7, 8, 9], [5, 6, -100, -100, -100], [-100, -100, 4, 5, 6]])
    results = [
        (loss, torch.autograd.grad(loss, weights)[0])
        for loss in (coverage_loss(weights, labels), naive_coverage(weights, labels))
    ]
    assert_close(results[0], results[1], tolerance=1e-10)
    assert_close(coverage_loss(weights, labels, num_items_in_batch=5), results[1][0] * 10 / 5)


def test_coverage_loss_spans_from_nothing_twice_to_always_the_same():
    labels = torch.full((1, 4), 7)
    assert coverage_loss(torch.eye(4)[None], labels) == 0
    assert coverage_loss(torch.eye(4)[:1].expand(1, 4, 4), labels) == 0.75  # all but the first step


@pytest.mark.parametrize("copies", [False, True])
def test_coverage_adds_to_the_loss_and_changes_no_logits(copies):
    batch = tiny_batch(tiny_config())
    models = [
        tiny_model(tiny_config(copy_attention=copies, coverage_loss_weight=weight)) for weight in (0.0, 1.0, 3.0)
    ]
    plain, once, thrice = (model(**batch) for model in models)
    assert_close(once.logits, plain.logits)
    assert once.loss > plain.loss
    assert_close(thrice.loss - plain.loss, 3 * (once.loss - plain.loss))
    assert_close(models[2](**batch, skip_logits=True).loss, thrice.loss)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("has_bias", [False, True])
def test_loss_in_chunks_is_the_whole_loss(label_smoothing, has_bias, monkeypatch):
    monkeypatch.setattr(modeling_loss, "CHUNK_NUMBERS", 3 * 11)  # three rows of the vocabulary
    labels = torch.tensor([[3, 5, 0, 8], [9, 1, -100, -100]])  # copied or not, and padding as a target
    results = []
    for is_chunked in (False, True):
        head, source_ids, tensors, leaves = drawn_inputs()
        _, *inputs = tensors.values()
        generator = torch.Generator().manual_seed(2)
        weight = torch.randn(11, 6, generator=generator, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True) if has_bias else None
        copied = head(*inputs, source_ids)
        if is_chunked:
            loss = chunked_mixture_loss(inputs[0], weight, bias, copied, labels, 9, label_smoothing)
        else:
            logits = torch.nn.functional.linear(inputs[0], weight, bias)
            loss = sequence_loss(mixture_log_probabilities(logits, copied), labels, 9, label_smoothing)
        leaves = [*leaves[1:], weight, *([bias] if has_bias else [])]
        results.append((loss, torch.autograd.grad(loss, leaves)))
    assert_close(results[1], results[0], tolerance=1e-10)


@pytest.mark.parametrize("name", COPYING)
def test_skipping_logits_gives_the_same_loss_and_gradients(name):
    config = tiny_config(**MATRIX[name], logits_bias=True)
    results = []
    for skip_logits in (False, True):
        model = tiny_model(config)
        outputs = model(**tiny_batch(config), num_items_in_batch=torch.tensor(20), skip_logits=skip_logits)
        assert (outputs.logits is None) == skip_logits
        outputs.loss.backward()
        results.append((outputs.loss, [parameter.grad for parameter in model.parameters()]))
    assert_close(results[1], results[0])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_skipping_logits_in_bfloat16_is_close(label_smoothing):
    config = tiny_config(copy_attention=True, label_smoothing=label_smoothing)
    batch = tiny_batch(config)
    expected = tiny_model(config)(**batch).loss
    for is_autocast in (True, False):
        model = tiny_model(config)
        if not is_autocast:
            model.to(torch.bfloat16)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_autocast):
            loss = model(**batch, skip_logits=True).loss
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=0.02)
        for name, parameter in model.named_parameters():
            assert parameter.grad.dtype == parameter.dtype, name
            assert torch.isfinite(parameter.grad).all(), name


def test_a_batch_without_targets_has_no_loss():
    model = tiny_model(tiny_config(copy_attention=True, coverage_loss_weight=1.0, label_smoothing=0.1))
    batch = tiny_batch(model.config)
    batch["labels"][:] = -100
    loss = model(**batch, skip_logits=True).loss
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of elements of any tensor that is made."""

    num_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_iter(results) if isinstance(leaf, torch.Tensor)]
        self.num_elements = max(self.num_elements, *sizes, 0)
        return results


def test_skipping_logits_never_holds_them_all(monkeypatch):
    monkeypatch.setattr(modeling_loss, "CHUNK_NUMBERS", 4 * 1000)
    config = tiny_config(vocab_size=1000, copy_attention=True, coverage_loss_weight=1.0, label_smoothing=0.1)
    batch = tiny_batch(config, batch_size=8, target_length=12, padding=None)
    num_elements = []
    for skip_logits in (True, False):
        model = tiny_model(config)
        with LargestTensor() as largest:
            model(**batch, skip_logits=skip_logits).loss.backward()
        num_elements.append(largest.num_elements)
    assert num_elements == [1000 * config.d_model, 8 * 12 * 1000]  # the embedding; all logits


def test_only_the_layer_that_copies_attends_eagerly(monkeypatch):
    calls = []

    def counted(module, *args, **kwargs):
        calls.append(module.layer_idx)
        return eager_attention_forward(module, *args, **kwargs)

    eager_attention_forward = modeling_attention.eager_attention_forward
    monkeypatch.setattr(modeling_attention, "eager_attention_forward", counted)
    config = tiny_config(copy_attention=True, decoder_layers=3)
    model = tiny_model(config)
    assert model.config._attn_implementation == "sdpa"
    model(**tiny_batch(config))
    assert calls == [2]
    model(**tiny_batch(tiny_config()), output_attentions=True)
    assert len(calls) == 1 + 2 + 2 * 3


@torch.no_grad()
def test_source_ids_come_from_where_they_are():
    config = tiny_config(copy_attention=True)
    model = tiny_model(config)
    batch = tiny_batch(config)
    source_mask, input_ids = batch["attention_mask"], batch["input_ids"]
    rest = {"attention_mask": source_mask, "labels": batch["labels"]}
    expected = model(input_ids, **rest).logits
    encoder_outputs = model.get_encoder()(input_ids, attention_mask=source_mask)
    assert torch.equal(encoder_outputs.source_ids, input_ids)
    hidden_states = BaseModelOutput(encoder_outputs.last_hidden_state)
    embeds = model.get_input_embeddings()(input_ids)
    for source in (
        {"encoder_outputs": encoder_outputs},
        {"encoder_outputs": hidden_states, "source_ids": input_ids},
        {"encoder_outputs": hidden_states, "input_ids": input_ids},
        {"encoder_outputs": (encoder_outputs.last_hidden_state,), "source_ids": input_ids},
        {"inputs_embeds": embeds, "source_ids": input_ids},
    ):
        assert_close(model(**source, **rest).logits, expected)
    assert "source_ids" not in tiny_model().get_encoder()(input_ids)


def test_refusals():
    config = tiny_config(copy_attention=True)
    model = tiny_model(config)
    batch = tiny_batch(config)
    input_ids = batch.pop("input_ids")
    embeds = model.get_input_embeddings()(input_ids)
    message = r"`source_ids` must hold the token of each source position, .* shape \(3, 7\), got "
    with pytest.raises(ValueError, match=message + "None. Pass `input_ids`, the encoder's whole output"):
        model(inputs_embeds=embeds, **batch)
    with pytest.raises(ValueError, match=message + r"\(3, 5\)"):
        model(inputs_embeds=embeds, source_ids=input_ids[:, :5], **batch)
    with pytest.raises(ValueError, match=r"`source_ids` must hold ids in \[0, `vocab_size` = 40\), got 41"):
        model(inputs_embeds=embeds, source_ids=torch.full_like(input_ids, 41), **batch)
    encoder_outputs = model.get_encoder()(input_ids, batch["attention_mask"])
    encoder_outputs.source_ids = torch.full_like(input_ids, -1)
    with pytest.raises(ValueError, match=r"`source_ids` must hold ids in \[0, `vocab_size` = 40\), got -1"):
        model(encoder_outputs=encoder_outputs, **batch)
    with pytest.raises(
        ValueError, match="`source_ids` are what can be copied or compared, and `copy_attention` and `match_embedding`"
    ):
        tiny_model()(input_ids=input_ids, source_ids=input_ids, **batch)


@pytest.mark.skipif(TORCH < (2, 9), reason="torch 2.6 cannot trace the decorators of transformers; 2.9 can")
def test_copying_is_exported_for_all_lengths():
    config = tiny_config(copy_attention=True, max_position_embeddings=100)
    model = tiny_model(config)

    def inputs(*lengths):
        batch = tiny_batch(config, 3, *lengths, padding="right")
        batch["decoder_input_ids"] = batch.pop("labels").clamp(min=1)
        return {**batch, "use_cache": False}

    source, target = ({1: torch.export.Dim(name, min=3, max=100)} for name in ("source", "target"))
    shapes = {"input_ids": source, "attention_mask": source, "decoder_input_ids": target, "use_cache": None}
    exported = torch.export.export(model, (), inputs(7, 6), dynamic_shapes=shapes).module()
    for found in ((7, 6), (5, 4), (70, 35)):
        assert_close(exported(**inputs(*found)).logits, model(**inputs(*found)).logits)


def test_a_checkpoint_that_does_not_copy_learns_to(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model, info = HfAttnForConditionalGeneration.from_pretrained(
        tmp_path, copy_attention=True, output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"copy_head.gate.weight", "copy_head.gate.bias"}
    assert model.copy_head.gate.bias.item() == 0
    assert 0 < model.copy_head.gate.weight.abs().max() < 1

    batch = tiny_batch(model.config)
    adapted = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", modules_to_save=["copy_head"]))
    adapted(**batch).loss.backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert any("copy_head" in name for name in trained)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if name in trained:
                parameter.add_(torch.ones_like(parameter), alpha=0.01)
        expected = adapted.eval()(**batch).logits
        adapted.save_pretrained(tmp_path / "adapter")
        base = HfAttnForConditionalGeneration.from_pretrained(tmp_path, copy_attention=True)
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
        assert_close(loaded(**batch).logits, expected)
        assert_close(loaded.merge_and_unload()(**batch).logits, expected)


RECURRENT = {
    "encoder_layer_types": "gru",
    "decoder_layer_types": "lstm",
    "cross_attention_type": "additive",
    "position_embedding_type": "none",
    "heads": 1,
}


@pytest.mark.parametrize("fields", [{}, RECURRENT], ids=["full", "gru-lstm"])
def test_copying_is_learnt_where_the_plain_model_has_only_begun(fields):
    vocab_size, length, longest_seen = 300, 8, 240
    accuracies = {}
    for copies in (True, False):
        config = tiny_config(
            **fields, vocab_size=vocab_size, d_model=32, encoder_layers=1, decoder_layers=1, copy_attention=copies
        )
        model = tiny_model(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        generator = torch.Generator().manual_seed(0)

        def drawn(lowest, above, num_rows, generator=generator):
            input_ids = torch.randint(lowest, above, (num_rows, length), generator=generator)
            input_ids[:, -1] = 2
            return input_ids

        for _ in range(150):
            input_ids = drawn(4, longest_seen, 32)
            model(input_ids=input_ids, labels=input_ids, skip_logits=True).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        for name, source in (("seen", drawn(4, longest_seen, 64)), ("unseen", drawn(longest_seen, vocab_size, 64))):
            generated = model.generate(source, max_new_tokens=length, min_new_tokens=length)[:, 1:]
            accuracies[name, copies] = (generated == source)[:, :-1].float().mean().item()
    assert accuracies["seen", True] > 0.9
    assert accuracies["seen", False] < 0.6
    # Tokens that no training text held: there is nothing in the vocabulary's distribution to find them by.
    assert accuracies["unseen", True] > 0.15
    assert accuracies["unseen", False] < 0.02
