# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Texts in, texts out in order: equal to `generate` on each text alone, whatever the batches and the options."""

import math

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, set_seed

from hf_attn.generation import Hypothesis, TextGenerator, length_limit, load_for_inference, rank_by_utility
from hf_attn.generation.text_generator import _batches
from hf_attn.training import set_generation
from tests.utils import tiny_config, tiny_model


TEXTS = ["das haus", "", "ein kleines haus und ein hund", "  ", "hund", "das haus und das haus", "haus"]
NAMES = ("transformer", "ssru", "lstm", "bart")


def alone(model, tokenizer, text, prefix=None, **options):
    """The texts and scores that `generate` makes of one text by itself."""
    inputs = tokenizer(text, return_tensors="pt")
    if prefix is not None:
        prefix_ids = tokenizer(text_target=prefix, add_special_tokens=False)["input_ids"]
        options["decoder_input_ids"] = torch.tensor([[model.config.decoder_start_token_id, *prefix_ids]])
    with torch.inference_mode():
        generated = model.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)
    texts = [output.strip() for output in tokenizer.batch_decode(generated.sequences, skip_special_tokens=True)]
    scores = getattr(generated, "sequences_scores", None)
    return texts, [math.nan] * len(texts) if scores is None else scores.tolist()


@pytest.mark.parametrize(
    ("name", "tokens_per_batch"), [("transformer", 8192), ("ssru", 1), ("ssru", 60), ("lstm", 60), ("bart", 8192)]
)
def test_each_text_is_answered_in_its_place(models, tokenizer, name, tokens_per_batch):
    options = {"num_beams": 3, "max_new_tokens": 8, "length_penalty": 1.4, "no_repeat_ngram_size": 2}
    generator = TextGenerator(
        models[name], tokenizer, num_return_sequences=2, tokens_per_batch=tokens_per_batch, **options
    )
    results = generator.n_best(TEXTS)
    assert generator(TEXTS) == [hypotheses[0].text for hypotheses in results]
    for text, hypotheses in zip(TEXTS, results, strict=True):
        if not text.strip():
            assert hypotheses == [Hypothesis("", 0.0)]
            continue
        texts, scores = alone(models[name], tokenizer, text, num_return_sequences=2, **options)
        assert [hypothesis.text for hypothesis in hypotheses] == texts
        assert [hypothesis.score for hypothesis in hypotheses] == pytest.approx(scores, abs=1e-4)
    assert len({hypotheses[0].text for hypotheses in results}) > 3


@pytest.mark.parametrize("name", NAMES)
def test_forced_prefixes(models, tokenizer, name):
    texts = ["das haus", "hund", "ein kleines haus und ein hund"]
    options = {"num_beams": 2, "max_new_tokens": 5}
    generator = TextGenerator(models[name], tokenizer, **options)
    same = generator(texts, "the small ")
    for text, output in zip(texts, same, strict=True):
        assert output.startswith("the small")
        assert output == alone(models[name], tokenizer, text, "the small", **options)[0][0]
    prefixes = ["a dog and", "", "the"]
    results = generator.n_best(texts, prefixes)
    for text, prefix, (best, *_) in zip(texts, prefixes, results, strict=True):
        expected, scores = alone(models[name], tokenizer, text, prefix or None, **options)
        assert best.text == expected[0]
        assert best.score == pytest.approx(scores[0], abs=1e-4)


def test_a_forced_first_token_comes_before_the_prefix(tokenizer):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    model.generation_config.forced_bos_token_id = tokenizer.mask_token_id
    generator = TextGenerator(model, tokenizer, max_new_tokens=2)
    ids = generator._prompt("the")
    assert ids[:2] == [model.config.decoder_start_token_id, tokenizer.mask_token_id]
    assert generator(["hund"], "the")[0].startswith("the")


def test_tokens_given_as_options_come_before_the_prefix(model, tokenizer):
    options = {"decoder_start_token_id": 0, "forced_bos_token_id": tokenizer.mask_token_id, "max_new_tokens": 4}
    generator = TextGenerator(model, tokenizer, **options)
    assert generator._prompt("") == [0]
    assert generator._prompt("the")[:2] == [0, tokenizer.mask_token_id]


@pytest.mark.parametrize("options", [{}, {"num_beams": 4, "mbr": "chrf", "num_candidates": 4}], ids=["plain", "mbr"])
def test_the_prefix_of_the_config_stands_before_each_text(tokenizer, options):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    plain = TextGenerator(model, tokenizer, max_new_tokens=6, **options)
    model.config.prefix = "ein kleines "
    expected = [text and f"ein kleines {text.strip()}" for text in map(str.strip, TEXTS)]
    outputs = TextGenerator(model, tokenizer, max_new_tokens=6, **options)(TEXTS)
    assert outputs == plain(expected) != plain(TEXTS)
    assert outputs[1] == outputs[3] == ""
    assert TextGenerator(model, tokenizer, prefix="", max_new_tokens=6, **options)(TEXTS) == plain(TEXTS)
    other = TextGenerator(model, tokenizer, prefix="das haus ", max_new_tokens=6, **options)
    assert other(["hund"]) == plain(["das haus hund"])


def test_scores_of_samples_are_those_of_the_model(model, tokenizer):
    generator = TextGenerator(
        model, tokenizer, do_sample=True, temperature=0.5, top_p=0.9, num_return_sequences=3, max_new_tokens=4
    )
    outputs = []
    batch_decode = tokenizer.batch_decode

    class Recorder:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, *arguments, **options):
            return tokenizer(*arguments, **options)

        def batch_decode(self, sequences, **options):
            outputs.append(sequences.clone())
            return batch_decode(sequences, **options)

    generator.tokenizer = Recorder()
    (hypotheses,) = generator.n_best(["das haus"])
    inputs = tokenizer("das haus", return_tensors="pt")
    for ids, hypothesis in zip(outputs[0], hypotheses, strict=True):
        labels = ids[None, 1:]
        if 2 in labels:
            labels = labels[:, : labels[0].tolist().index(2) + 1]
        with torch.no_grad():
            log_probs = model(**inputs, labels=labels).logits.log_softmax(dim=-1)
        expected = log_probs.gather(2, labels[..., None]).mean().item()
        assert hypothesis.score == pytest.approx(expected, abs=1e-4)


def test_a_seed_makes_samples_repeatable(model, tokenizer):
    generator = TextGenerator(model, tokenizer, do_sample=True, max_new_tokens=6)
    runs = []
    for seed in (1, 1, 2):
        set_seed(seed)
        runs.append(generator(TEXTS))
    assert runs[0] == runs[1] != runs[2]


def test_sampling_leaves_the_beams_of_the_generation_config(tokenizer):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    model.generation_config.num_beams = 4
    set_seed(0)
    outputs = TextGenerator(model, tokenizer, do_sample=True, max_new_tokens=6)(["hund"])
    set_seed(0)
    assert outputs == alone(model, tokenizer, "hund", do_sample=True, num_beams=1, max_new_tokens=6)[0]


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_minimum_bayes_risk_over_beams(model, tokenizer, utility):
    options = {"num_beams": 6, "max_new_tokens": 8}
    generator = TextGenerator(
        model, tokenizer, mbr=utility, num_candidates=6, num_return_sequences=3, tokens_per_batch=120, **options
    )
    for text, hypotheses in zip(TEXTS, generator.n_best(TEXTS), strict=True):
        if text.strip():
            candidates, _ = alone(model, tokenizer, text, num_return_sequences=6, **options)
            expected = rank_by_utility(candidates, utility)[:3]
            assert [hypothesis.text for hypothesis in hypotheses] == [candidate for candidate, _ in expected]
            assert [hypothesis.score for hypothesis in hypotheses] == pytest.approx([score for _, score in expected])


def test_minimum_bayes_risk_over_samples_of_the_whole_distribution(model, tokenizer):
    set_seed(3)
    output = TextGenerator(model, tokenizer, mbr="chrf", num_candidates=12, do_sample=True, max_new_tokens=5)(["hund"])
    set_seed(3)
    samples, _ = alone(
        model, tokenizer, "hund", do_sample=True, top_k=0, num_beams=1, num_return_sequences=12, max_new_tokens=5
    )
    assert output == [rank_by_utility(samples, "chrf")[0][0]]


def test_texts_are_answered_window_by_window(model, tokenizer, monkeypatch):
    generator = TextGenerator(model, tokenizer, max_new_tokens=4)
    whole = generator(TEXTS)
    monkeypatch.setattr("hf_attn.generation.text_generator._WINDOW", 2)
    read = []
    stream = generator.stream(read.append(text) or text for text in TEXTS)
    assert next(stream)[0].text == whole[0]
    assert len(read) == 2
    assert [hypotheses[0].text for hypotheses in stream] == whole[1:]
    assert generator([]) == []


def test_batches_are_of_like_length_within_the_budget():
    lengths = {0: 3, 2: 9, 3: 4, 5: 30, 6: 4}
    assert list(_batches(lengths, dict.fromkeys(lengths, 1), 12)) == [[5], [2], [3, 6, 0]]
    assert list(_batches(lengths, {0: 1, 2: 1, 3: 4, 5: 1, 6: 4}, 100)) == [[3, 6], [5, 2, 0]]


def test_length_limit(model):
    assert length_limit(model, 4, 7) == {"max_new_tokens": 7}
    assert length_limit(model, 4) == {"max_new_tokens": 24}
    assert length_limit(model, 40) == {"max_new_tokens": model.config.max_position_embeddings - 1}
    assert length_limit(model, 40, prompt_length=5) == {"max_new_tokens": model.config.max_position_embeddings - 5}
    limited = tiny_model()
    limited.generation_config.max_length = 9
    assert length_limit(limited, 4) == {"max_length": 9}
    assert length_limit(limited, 4, 20, prompt_length=2) == {"max_length": 22}
    unlimited = tiny_model(tiny_config(position_embedding_type="rope"))
    assert length_limit(unlimited, 400) == {"max_new_tokens": 816}


def test_a_reloaded_checkpoint_keeps_the_length_of_its_training(tokenizer, tmp_path):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    set_generation(model, tokenizer, target_length=20, num_beams=2)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reloaded, _ = load_for_inference(str(tmp_path))
    assert length_limit(reloaded, 4) == {"max_new_tokens": 30}
    inputs = tokenizer("hund", return_tensors="pt")
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    # Without an end: 30 tokens after the first, not the 20 of a default.
    assert plain.generate(**inputs, suppress_tokens=[tokenizer.eos_token_id]).shape == (1, 31)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, r"^`num_beams` must be a whole number of at least 1, got 0$"),
        ({"max_new_tokens": 2.5}, r"^`max_new_tokens` must be a whole number of at least 1, got 2.5$"),
        ({"tokens_per_batch": -1}, r"^`tokens_per_batch` must be a whole number of at least 1, got -1$"),
        ({"no_repeat_ngram_size": -1}, r"^`no_repeat_ngram_size` must be a whole number of at least 0, got -1$"),
        ({"do_sample": True, "temperature": 0.0}, r"^`temperature` must be a number above 0, got 0.0$"),
        ({"do_sample": True, "top_p": 1.5}, r"^`top_p` must be a number above 0 and at most 1, got 1.5$"),
        ({"do_sample": True, "temperature": "1"}, r"^`temperature` must be a number above 0, got '1'$"),
        ({"num_beams": 2, "length_penalty": "2"}, r"^`length_penalty` must be a finite number, got '2'$"),
        ({"num_beams": 2, "length_penalty": math.inf}, r"^`length_penalty` must be a finite number, got inf$"),
        ({"temperature": 0.7}, r"^`temperature` has an effect only with `do_sample`, got 0.7$"),
        ({"num_beams": 4, "top_p": 0.7}, r"^`top_p` has an effect only with `do_sample`, got 0.7$"),
        ({"length_penalty": 0.6}, r"^`length_penalty` has an effect only with `num_beams` of at least 2, got 0.6$"),
        ({"num_return_sequences": 2}, r"^`num_return_sequences` must be at most `num_beams`, got 2 and 1: set"),
        ({"num_candidates": 4}, r"^`num_candidates` has an effect only with `mbr`, got 4$"),
        ({"mbr": "comet"}, r"^`mbr` must be one of bleu, chrf, got 'comet'$"),
        ({"mbr": "chrf", "num_beams": 4}, r"^`num_candidates` must be at most `num_beams`, got 32 and 4: set"),
        (
            {"mbr": "chrf", "do_sample": True, "num_candidates": 3, "num_return_sequences": 4},
            r"^`num_candidates` must be at least 2 and at least `num_return_sequences`, got 3 and 4$",
        ),
        ({"glossary": {"a": "b"}}, r"^`glossary` needs `num_beams` of at least 2 and no `do_sample`: .* got 1 beams"),
        ({"glossary": {"a": "b"}, "do_sample": True, "num_beams": 2}, r"and `do_sample` True$"),
    ],
)  # fmt: skip
def test_options_out_of_range_or_without_effect_are_refused(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        TextGenerator(model, tokenizer, **options)


def test_unknown_options_are_refused(model, tokenizer):
    with pytest.raises(TypeError, match=r"^`num_beam` is no option of `generate`; did you mean `num_beams`\?$"):
        TextGenerator(model, tokenizer, num_beam=2)
    with pytest.raises(TypeError, match=r"^`output_scores` is set by the generator"):
        TextGenerator(model, tokenizer, output_scores=True)


def test_stop_strings(model, tokenizer):
    whole = TextGenerator(model, tokenizer, max_new_tokens=8)(["das haus"])[0]
    stop = whole[len(whole) // 2]
    cut = TextGenerator(model, tokenizer, max_new_tokens=8, stop_strings=[stop])(["das haus"])[0]
    assert whole.startswith(cut) and len(cut) < len(whole) and stop in cut
    with pytest.raises(ValueError, match=r"^`fast` knows no `stop_strings`: leave out one of both, got \['x'\]$"):
        TextGenerator(model, tokenizer, fast=True, stop_strings=["x"])


def test_a_generation_config_may_ask_for_more_than_tokens(tokenizer):
    model = tiny_model(tiny_config(vocab_size=len(tokenizer), tie_word_embeddings=False))
    expected = TextGenerator(model, tokenizer, max_new_tokens=4)(TEXTS)
    model.generation_config.return_dict_in_generate = True
    assert TextGenerator(model, tokenizer, max_new_tokens=4)(TEXTS) == expected


def test_what_is_no_list_of_prefixes(model, tokenizer):
    generator = TextGenerator(model, tokenizer, max_new_tokens=4)
    assert generator(["hund", "haus"], ["the", None]) == generator(["hund", "haus"], ["the", ""])
    with pytest.raises(
        TypeError, match=r"`forced_prefix` must be one text, or a list .*, got generator: put its texts"
    ):
        generator(["hund"], (text for text in ["the"]))
    with pytest.raises(TypeError, match="`forced_prefix` must be an iterable of texts, got 3 as text 2"):
        generator(["hund", "haus"], ["the", 3])


def test_half_a_character(model, tokenizer):
    generator = TextGenerator(model, tokenizer, max_new_tokens=2)
    message = r"^`{}` must be text that UTF-8 can write, got 'a\\ud800' as text 2$"
    with pytest.raises(ValueError, match=message.format("texts")):
        generator(["haus", "a\ud800"])
    with pytest.raises(ValueError, match=message.format("forced_prefix")):
        generator(["haus", "hund"], ["a", "a\ud800"])


def test_prefixes_must_be_as_many_as_texts(model, tokenizer):
    generator = TextGenerator(model, tokenizer, max_new_tokens=2)
    with pytest.raises(
        ValueError, match=r"^`forced_prefix` must be one text, or one for each of `texts`, got 1 for 2$"
    ):
        generator(["hund", "haus"], ["a"])


@pytest.mark.parametrize("name", ["transformer", "bart"])
def test_a_text_beyond_the_positions_is_named_before_any_is_answered(models, tokenizer, name, monkeypatch):
    model, limit = models[name], models[name].config.max_position_embeddings
    texts = ["hund", "haus " * 200, "haus"]
    message = rf"^`texts` must keep within the {limit} positions of the model, got \d+ tokens in text 2: pass `trunc"
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
        patch.setattr(model, "generate", None)
        TextGenerator(model, tokenizer)(texts)
    cut = tokenizer.decode(tokenizer(texts[1])["input_ids"][: limit - 1], skip_special_tokens=True)
    outputs = TextGenerator(model, tokenizer, truncation=True, max_new_tokens=4)(texts)
    assert outputs == TextGenerator(model, tokenizer, max_new_tokens=4)(["hund", cut, "haus"])


def test_a_text_that_the_model_refuses_is_named(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model, "generate", lambda **options: int("x"))
    with pytest.raises(ValueError, match=r"^text 2 \(\d+ tokens\): invalid literal"):
        TextGenerator(model, tokenizer)(["hund", "das haus und das haus und das haus"])


def test_what_is_no_iterable_of_texts(model, tokenizer):
    generator = TextGenerator(model, tokenizer)
    with pytest.raises(TypeError, match="`texts` must be an iterable of texts, got one text, 'das haus': put it into"):
        generator("das haus")
    with pytest.raises(TypeError, match="`texts` must be an iterable of texts, got 3 as text 2"):
        generator(["das haus", 3])


def test_fast_needs_a_model_of_the_family(models, tokenizer):
    with pytest.raises(ValueError, match=r"`fast` is for `hf_attn` models, got Bart.*: leave out `fast`"):
        TextGenerator(models["bart"], tokenizer, fast=True)
