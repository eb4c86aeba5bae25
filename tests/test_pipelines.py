# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("attn-...")` from directories and adapters: outputs as in transformers 4, streams, windows, errors."""

import json
import re
from shutil import copytree

import datasets
import pytest
import torch
from huggingface_hub import ResolvedRevision
from transformers import AutoTokenizer, GenerationConfig, pipeline
from transformers.pipelines import get_supported_tasks

import hf_attn
from hf_attn.adapters import add_lora, finish_adapter
from hf_attn.data import train_tokenizer
from hf_attn.generation import load_for_inference
from hf_attn.loading import inference
from hf_attn.loading.position_limits import source_positions
from hf_attn.pipelines import TASKS
from hf_attn.training import AdapterArguments
from tests.utils import tiny_config, tiny_model


TEXTS = ["Ada lives in Rome.", "Bob sings", "Eve and Kim and Leo and Mia see a long road to Oslo in the north."]
QUESTION = "Where does Ada live?"
CONTEXT = (
    "Bob sings. Eve sings. Kim sings. Leo sings. Mia sings. Nils sings. Ada lives in Rome. Bob lives in Oslo. Eve met "
    "Kim by the old harbour of Lund on 3 May 1987. Leo waits for Mia and Zoë between Graz and York."
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that writes and one that marks spans, each with an adapter on the first."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([*TEXTS, QUESTION, CONTEXT], 300)
    config = tiny_config(vocab_size=len(tokenizer), max_position_embeddings=48)
    writer = tiny_model(config)
    writer.generation_config.update(max_new_tokens=7, num_beams=2, eos_token_id=tokenizer.eos_token_id)
    for name, model in (
        ("writer", writer),
        ("marker", tiny_model(config, hf_attn.HfAttnForQuestionAnswering)),
    ):
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    for name, model_class in (
        ("writing-adapter", hf_attn.HfAttnForConditionalGeneration),
        ("marking-adapter", hf_attn.HfAttnForQuestionAnswering),
    ):
        base = model_class.from_pretrained(root / "writer")
        adapted = add_lora(base, AdapterArguments(lora=True, lora_r=2))
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name or "qa_outputs" in parameter_name:
                torch.nn.init.normal_(parameter)
        if base.can_generate():
            adapted.generation_config.max_new_tokens = 3
        adapted.save_pretrained(root / name)
        finish_adapter(adapted, tokenizer, root / name)
    return root


@pytest.fixture(scope="module")
def translate(folder):
    return pipeline("attn-translation", model=str(folder / "writer"), device="cpu")


@pytest.fixture(scope="module")
def ask(folder):
    return pipeline("attn-question-answering", model=str(folder / "marker"), device="cpu", max_seq_len=40)


def generated(pipe, text: str, **options) -> list[str]:
    """What the pipeline's own model makes of a text, without the pipeline."""
    with torch.no_grad():
        batch = pipe.tokenizer(text, return_tensors="pt")
        token_ids = pipe.model.generate(**{name: batch[name] for name in ("input_ids", "attention_mask")}, **options)
    return [output.strip() for output in pipe.tokenizer.batch_decode(token_ids, skip_special_tokens=True)]


def test_a_text_and_lists(translate):
    expected = [{"translation_text": generated(translate, text)[0]} for text in TEXTS]
    assert len({output["translation_text"] for output in expected}) > 1
    assert translate(TEXTS[0]) == expected[:1]
    assert translate(TEXTS) == translate(tuple(TEXTS)) == expected
    assert translate(TEXTS, batch_size=2) == expected
    assert translate([]) == []
    assert translate([" ", TEXTS[0]], batch_size=2) == [{"translation_text": ""}, expected[0]]


def test_streams(translate):
    expected = [[output] for output in translate(TEXTS)]
    rows = datasets.Dataset.from_dict({"text": TEXTS})
    read = []

    def texts():
        for text in TEXTS:
            read.append(text)
            yield text

    stream = translate(texts())
    assert len(read) <= 1 and next(iter(stream)) == expected[0] and len(read) < 3
    for inputs in (iter(TEXTS), rows["text"], (row["text"] for row in rows.to_iterable_dataset())):
        assert list(translate(inputs, batch_size=2)) == expected


def test_options_of_generation(translate):
    several = translate(TEXTS[0], num_beams=3, num_return_sequences=3, max_new_tokens=4)
    expected = generated(translate, TEXTS[0], num_beams=3, num_return_sequences=3, max_new_tokens=4)
    assert [output["translation_text"] for output in several] == expected
    assert [len(outputs) for outputs in translate(TEXTS[:2], num_return_sequences=2, batch_size=2)] == [2, 2]
    with_config = translate(TEXTS[0], generation_config=GenerationConfig(max_new_tokens=2))
    assert with_config == [{"translation_text": generated(translate, TEXTS[0], max_new_tokens=2, num_beams=1)[0]}]


def test_a_generation_config_without_a_limit_leaves_the_usual_one(folder):
    pipe = pipeline("attn-translation", model=str(folder / "writer"), device="cpu")
    pipe.model.generation_config = GenerationConfig(
        decoder_start_token_id=2, eos_token_id=None, pad_token_id=pipe.tokenizer.pad_token_id, bos_token_id=0
    )
    inputs = pipe.tokenizer(TEXTS[2], return_tensors="pt")
    lengths = [
        pipe._generate(inputs, {"generation_config": GenerationConfig(num_beams=2, **limit)}).shape[-1]
        for limit in ({}, {"max_new_tokens": 3}, {"max_length": 5})
    ]
    assert lengths == [48, 4, 5]
    config = GenerationConfig(num_beams=2)
    pipe(TEXTS[1], generation_config=config)
    assert config.max_new_tokens is None


def test_outputs_of_generation_that_are_more_than_tokens(translate):
    expected = translate(TEXTS[0])
    assert translate(TEXTS[0], return_dict_in_generate=True, output_scores=True) == expected
    whole, cut = (
        translate(TEXTS[1], num_beams=1, **stop)[0]["translation_text"] for stop in ({}, {"stop_strings": ["k"]})
    )
    assert whole.startswith("kkk") and cut == "k"


def test_token_ids_and_spaces_as_in_transformers_4(translate):
    outputs = translate(TEXTS[:2], return_tensors=True)
    assert [list(output) for output in outputs] == [["translation_token_ids"]] * 2
    texts = translate.tokenizer.batch_decode(
        [output["translation_token_ids"] for output in outputs], skip_special_tokens=True
    )
    assert [{"translation_text": text.strip()} for text in texts] == translate(TEXTS[:2])
    assert translate(" ", return_tensors=True)[0]["translation_token_ids"].numel() == 0
    decoded = []
    decode = translate.tokenizer.batch_decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate.tokenizer, "batch_decode", lambda ids, **given: decoded.append(given) or decode(ids))
        translate(TEXTS[0], clean_up_tokenization_spaces=True)
    assert decoded == [{"skip_special_tokens": True, "clean_up_tokenization_spaces": True}]


def test_without_a_limit_the_source_gives_one(folder):
    pipe = pipeline("attn-summarization", model=str(folder / "writer"), device="cpu")
    pipe.model.generation_config = GenerationConfig(
        decoder_start_token_id=2, eos_token_id=None, pad_token_id=pipe.tokenizer.pad_token_id, bos_token_id=0
    )
    length = len(pipe.tokenizer(TEXTS[1])["input_ids"])
    outputs = pipe._generate(pipe.tokenizer(TEXTS[1], return_tensors="pt"), {})
    assert outputs.shape == (1, 1, min(2 * length + 17, 48))
    assert list(pipe(TEXTS[1])[0]) == ["summary_text"]


def test_prefix_of_a_pipeline(folder, translate):
    pipe = pipeline("attn-translation", model=str(folder / "writer"), device="cpu", prefix="Bob sings. ")
    assert pipe("Ada lives in Rome.") == translate("Bob sings. Ada lives in Rome.")
    assert pipe("Ada lives in Rome.", prefix="") == translate("Ada lives in Rome.")


def test_a_text_beyond_the_positions(translate):
    long = " ".join(TEXTS * 4)
    message = (
        r"`inputs` must keep within the 48 positions of the model, got a text of \d+ tokens. Pass `truncation=True`"
    )
    with pytest.raises(ValueError, match=message):
        translate(long)
    cut = translate.tokenizer.decode(translate.tokenizer(long)["input_ids"][:47], skip_special_tokens=True)
    assert translate([long], truncation=True) == translate([cut])


def test_half_a_character(folder, translate, ask):
    message = r"must be text that UTF-8 can write, got 'Ada\\ud800'"
    with pytest.raises(ValueError, match=f"`inputs` {message}"):
        translate(["Ada", "Ada\ud800"])
    writer = pipeline("attn-question-answering", model=str(folder / "writer"), device="cpu")
    for pipe in (ask, writer):
        with pytest.raises(ValueError, match=message):
            pipe(question="Who?", context="Ada\ud800")


@pytest.mark.parametrize("inputs", [3, {"text": "Ada"}, [None]], ids=str)
def test_what_is_no_text(translate, inputs):
    with pytest.raises(TypeError, match="`inputs` must be a text, or an iterable of texts, got"):
        translate(inputs)


def test_adapters(folder, translate, ask):
    adapted = pipeline("attn-translation", model=str(folder / "writing-adapter"), device="cpu")
    # Three new tokens, as beside the adapter, not seven, as beside its base.
    assert adapted.model.generation_config.max_new_tokens == 3
    outputs = adapted(TEXTS)
    assert outputs == [{"translation_text": generated(adapted, text)[0]} for text in TEXTS]
    assert outputs != translate(TEXTS, max_new_tokens=3)
    asked = pipeline("attn-question-answering", model=str(folder / "marking-adapter"), device="cpu", max_seq_len=40)
    answer = asked(question=QUESTION, context=CONTEXT)
    assert CONTEXT[answer["start"] : answer["end"]] == answer["answer"]
    assert answer["score"] != ask(question=QUESTION, context=CONTEXT)["score"]


def test_the_prefix_of_an_adapter_lies_beside_it(folder, tmp_path):
    base = hf_attn.HfAttnForConditionalGeneration.from_pretrained(folder / "writer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "writer")
    base.config.prefix = "Eve sings. "
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for name, prefix in (("other", "Bob sings. "), ("none", None)):
        model = hf_attn.HfAttnForConditionalGeneration.from_pretrained(tmp_path / "base")
        adapted = add_lora(model, AdapterArguments(lora=True, lora_r=2))
        model.config.prefix = prefix
        adapted.save_pretrained(tmp_path / name)
        finish_adapter(adapted, tokenizer, tmp_path / name)
        assert not hasattr(model.generation_config, "prefix")
        pipe = pipeline("attn-translation", model=str(tmp_path / name), device="cpu")
        loaded, _ = load_for_inference(str(tmp_path / "base"), str(tmp_path / name))
        for one in (pipe.model, loaded):
            assert one.config.prefix == prefix
            assert not hasattr(one.generation_config, "prefix")
        assert pipe("Ada") == pipe(f"{prefix or ''}Ada", prefix="")
    assert load_for_inference(str(tmp_path / "base"))[0].config.prefix == "Eve sings. "


def test_the_revision_is_that_of_the_adapter(folder, tmp_path, monkeypatch):
    """And its base has the one that the adapter names."""
    asked = []
    adapter = copytree(folder / "writing-adapter", tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "revision": "v1"}), encoding="utf-8")
    load = inference.load_complete

    def found(name, **options):
        asked.append((name, options))
        return str(adapter / "adapter_config.json")

    def downloaded(name, allow_patterns, **options):
        asked.append((name, options))
        return str(adapter)

    def loaded(auto_class, name, *arguments, **options):
        asked.append((name, {"revision": options["revision"]}))
        return load(auto_class, name, *arguments, **options)

    monkeypatch.setattr(inference, "find_adapter_config_file", found)
    monkeypatch.setattr(inference, "snapshot_download", downloaded)
    monkeypatch.setattr(inference, "load_complete", loaded)
    # As `pipeline` gives it: with a commit of the base.
    revision = ResolvedRevision("0" * 40, initial="v2", repo_id="ann/base")
    inference.Seq2SeqLoader.from_pretrained("ann/adapter", revision=revision)
    base = str(folder / "writer")
    assert asked == [("ann/adapter", {"revision": "v2"})] * 2 + [(base, {"revision": "v1"})]
    asked.clear()
    inference.Seq2SeqLoader.from_pretrained("ann/adapter", revision=ResolvedRevision("0" * 40, repo_id="ann/base"))
    assert asked == [("ann/adapter", {"revision": None})] * 2 + [(base, {"revision": "v1"})]


def test_an_adapter_of_another_base(folder, tmp_path):
    other = hf_attn.HfAttnForConditionalGeneration.from_pretrained(folder / "writer")
    torch.nn.init.normal_(other.get_input_embeddings().weight)
    other.save_pretrained(tmp_path / "other")
    config = (folder / "writing-adapter" / "adapter_config.json").read_text(encoding="utf-8")
    for file in (folder / "writing-adapter").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "adapter_config.json").write_text(config.replace(str(folder / "writer"), str(tmp_path / "other")))
    with pytest.raises(ValueError, match="was made for another base: sha256"):
        pipeline("attn-translation", model=str(tmp_path), tokenizer=str(folder / "writer"), device="cpu")


def test_an_adapter_of_another_task(folder):
    with pytest.raises(ValueError, match=r"was trained to mark answers.* use it in `attn-question-answering`"):
        pipeline("attn-summarization", model=str(folder / "marking-adapter"), device="cpu")


def test_a_checkpoint_of_another_task(folder, tmp_path):
    """Its missing weights would be others at each load."""
    config = tiny_config(vocab_size=300, copy_attention=True)
    for name, model_class in (
        ("marker", hf_attn.HfAttnForQuestionAnswering),
        ("classifier", hf_attn.HfAttnForSequenceClassification),
    ):
        tiny_model(config, model_class).save_pretrained(tmp_path / name)
    tokenizer = str(folder / "writer")
    message = "lacks `copy_head.gate.bias`.* which HfAttnForConditionalGeneration would start at random. It was saved"
    with pytest.raises(ValueError, match=f"{message} as HfAttnForQuestionAnswering: use it as that"):
        pipeline("attn-summarization", model=str(tmp_path / "marker"), tokenizer=tokenizer, device="cpu")
    message = "lacks `qa_outputs.bias`, `qa_outputs.weight`, which HfAttnForQuestionAnswering would start at random"
    loader = TASKS["attn-question-answering"][1]
    config = json.loads((tmp_path / "classifier" / "config.json").read_text(encoding="utf-8"))
    del config["architectures"]
    (tmp_path / "classifier" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        loader.from_pretrained(str(tmp_path / "classifier"))


def test_spans(ask):
    answer = ask(question=QUESTION, context=CONTEXT)
    assert set(answer) == {"answer", "score", "start", "end"}
    assert CONTEXT[answer["start"] : answer["end"]] == answer["answer"] != ""
    assert 0 < answer["score"] <= 1
    row = {"question": QUESTION, "context": CONTEXT}
    several = ask(row, top_k=3)
    assert several[0] == answer and [one["score"] for one in several] == sorted(
        (one["score"] for one in several), reverse=True
    )
    short = {"question": QUESTION, "context": "Ada sings."}
    expected = [answer, ask(short)]
    assert ask([row, short]) == expected
    assert ask(question=[QUESTION, QUESTION], context=[CONTEXT, "Ada sings."]) == expected
    assert ask(question=[QUESTION], context=CONTEXT) == [answer]
    for outputs in (ask([row, short], batch_size=3), list(ask(iter([row, short]), batch_size=2))):
        assert [one["answer"] for one in outputs] == [one["answer"] for one in expected]
        assert [one["score"] for one in outputs] == pytest.approx([one["score"] for one in expected], rel=1e-4)


def test_batches_may_be_padded_on_the_left(ask, monkeypatch):
    rows = [{"question": QUESTION, "context": context} for context in (CONTEXT, "Ada sings.")]
    expected = ask(rows)
    monkeypatch.setattr(ask.tokenizer, "padding_side", "left")
    assert [one["answer"] for one in ask(rows, batch_size=4)] == [one["answer"] for one in expected]


def test_the_best_answer_is_that_of_any_window(ask):
    """The windows of a long context, one by one, hold no better span."""
    windows = list(ask.preprocess({"question": QUESTION, "context": CONTEXT}, max_seq_len=40))
    assert len(windows) > 2
    best = -float("inf")
    for window in windows:
        with torch.no_grad():
            outputs = ask.model(input_ids=window["input_ids"], attention_mask=window["attention_mask"])
        for first in range(window["input_ids"].shape[1]):
            for last in range(first, min(first + 15, window["input_ids"].shape[1])):
                if window["char_starts"][first] >= 0 and window["char_ends"][last] >= 0:
                    score = (outputs.start_logits[0, first] + outputs.end_logits[0, last]).item()
                    if score > best:
                        best, span = score, (window["char_starts"][first], window["char_ends"][last])
    answer = ask(question=QUESTION, context=CONTEXT)
    # Without the space that a token may begin with.
    assert answer["answer"] == CONTEXT[slice(*span)].strip() and answer["end"] == span[1]


def test_no_answer_is_offered_where_asked_for(ask):
    # A model that has learned nothing may rank it last.
    all_spans = 5000
    answers = ask(question=QUESTION, context=CONTEXT, handle_impossible_answer=True, top_k=all_spans)
    assert [(one["start"], one["end"]) for one in answers if one["answer"] == ""] == [(0, 0)]
    assert all(one["answer"] for one in ask(question=QUESTION, context=CONTEXT, top_k=all_spans))


def test_a_model_that_writes_answers(folder):
    pipe = pipeline("attn-question-answering", model=str(folder / "writer"), device="cpu")
    row = {"question": QUESTION, "context": "Ada lives in Rome."}
    batch = pipe.tokenizer(row["question"], row["context"], return_tensors="pt")
    token_ids = pipe.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    answer = {"answer": pipe.tokenizer.decode(token_ids[0], skip_special_tokens=True).strip()}
    assert pipe(row) == answer and pipe([row] * 3, batch_size=2) == [answer] * 3
    with pytest.raises(ValueError, match="`inputs` must keep within the 48 positions"):
        pipe({**row, "context": CONTEXT})
    assert list(pipe({**row, "context": CONTEXT}, truncation=True)) == ["answer"]


def test_the_prefix_of_a_question(folder):
    pipe = pipeline("attn-question-answering", model=str(folder / "writer"), device="cpu", prefix="Bob sings. ")
    row = {"question": QUESTION, "context": "Ada lives in Rome."}
    expected = pipe.tokenizer(f"Bob sings. {QUESTION}", row["context"])["input_ids"]
    read = []
    pipe.model.get_encoder().register_forward_pre_hook(
        lambda module, arguments, keywords: read.append(keywords["input_ids"][0].tolist()), with_kwargs=True
    )
    pipe(row)
    pipe(row, prefix="")
    pipe.model.config.prefix = "Bob sings. "
    pipeline("attn-question-answering", model=pipe.model, tokenizer=pipe.tokenizer)(row)
    assert read == [expected, pipe.tokenizer(QUESTION, row["context"])["input_ids"], expected]


WITHOUT_EFFECT = [
    ("writer", "top_k", 3, "got 3 and .*; `num_return_sequences` gives several answers"),
    ("writer", "max_seq_len", 30, ""),
    ("writer", "doc_stride", 3, ""),
    ("writer", "max_answer_len", 2, ""),
    ("writer", "handle_impossible_answer", True, ""),
    ("marker", "truncation", True, ""),
    ("marker", "prefix", "answer: ", ""),
]


@pytest.mark.parametrize(("name", "option", "value", "more"), WITHOUT_EFFECT)
def test_options_of_the_other_kind_of_model(folder, name, option, value, more):
    kind, other = ("marks spans", "writes answers") if name == "writer" else ("writes answers", "marks spans")
    message = f"`{option}` has an effect only on a model that {kind}, .*, which {other}"
    options = {"model": str(folder / name), "device": "cpu"}
    with pytest.raises(ValueError, match=message) as caught:
        pipeline("attn-question-answering", **options, **{option: value})
    assert re.search(more, str(caught.value))


@pytest.mark.parametrize("column", ["question", "context"])
def test_a_model_that_writes_refuses_what_is_no_text(folder, column):
    pipe = pipeline("attn-question-answering", model=str(folder / "writer"), device="cpu")
    row = {"question": QUESTION, "context": "Ada lives in Rome."}
    with pytest.raises(TypeError, match=f"`{column}` must be text, got 3"):
        pipe({**row, column: 3})
    with pytest.raises(ValueError, match=f"`{column}` must not be empty, got ' '"):
        pipe({**row, column: " "})


FAULTS = {
    "nothing": ({}, TypeError, "`inputs` must be {\"question\": ..., \"context\": ...} or an iterable of these"),
    "no context": ({"inputs": {"question": "Who?"}}, TypeError, "`inputs` must hold `question` and `context`, got"),
    "numbers": ({"question": ["Who?", "Why?"], "context": ["Ada."]}, ValueError, "got 1 for 2 questions"),
    "empty": ({"question": "Who?", "context": " "}, ValueError, "`context` must not be empty"),
    "top_k": ({"question": "Who?", "context": "Ada.", "top_k": 0}, ValueError, "`top_k` must be at least 1, got 0"),
    "stride": ({"question": "Who?", "context": "Ada.", "doc_stride": -1}, ValueError, "`doc_stride` must be at least"),
    "window": ({"question": "Who?", "context": "Ada.", "max_seq_len": 0}, ValueError, "`max_seq_len` must be at "),
    "positions": ({"question": "Who?", "context": "Ada.", "max_seq_len": 49}, ValueError, "within the 48 positions"),
    "beams": ({"question": "Who?", "context": "Ada.", "num_beams": 2}, TypeError, "`num_beams` cannot be set"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_questions(ask, fault):
    arguments, kind, message = FAULTS[fault]
    with pytest.raises(kind, match=message):
        ask(**arguments)


def test_a_saved_pipeline_is_a_checkpoint(translate, tmp_path):
    translate.save_pretrained(tmp_path)
    assert pipeline("attn-translation", model=str(tmp_path), device="cpu")(TEXTS) == translate(TEXTS)
    assert not (tmp_path / "pipelines.py").exists()


def test_positions(ask):
    assert source_positions(ask.model) == 48
    assert source_positions(tiny_model(tiny_config(position_embedding_type="alibi"))) is None


def test_the_tasks_are_registered():
    assert sum(task.startswith("attn-") for task in get_supported_tasks()) == 3


@pytest.mark.parametrize("task", ["attn-translation", "attn-summarization", "attn-question-answering"])
def test_a_pipeline_needs_a_model(task):
    with pytest.raises(ValueError, match="`model` must be given"):
        pipeline(task)
