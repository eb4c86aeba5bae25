# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The recipe for question answering through the user's command, on a corpus that the test writes."""

import importlib
import json
import logging
from functools import partial
from pathlib import Path

import pytest
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, BartConfig

import hf_attn  # noqa: F401 -- registers the model family
from hf_attn.adapters import load_adapter
from hf_attn.training import start_run
from tests.recipes.launching import RECIPES, SHAPE, succeeded
from tests.recipes.launching import launch as launch_recipe


launch = partial(launch_recipe, recipe="recipes/question_answering.py")
NAMES = ["Ada", "Bob", "Eve", "Kim", "Leo", "Mia", "Nils", "Zoë"]
PLACES = ["Köln", "Rome", "Oslo", "Bern", "Graz", "York", "Nice", "Lund"]


def rows(number: int, *, is_long: bool = False) -> list[dict]:
    """Who lives where; every fourth question has no answer, and long contexts are cut into windows."""
    made = []
    for row in range(number):
        name, place = NAMES[row % 8], PLACES[row * 3 % 8]
        context = "".join(f"{NAMES[(row + more) % 8]} sings. " for more in range(1, 7)) if is_long else ""
        context += f"{name} lives in {place}."
        has_answer = row % 4 != 3
        made.append(
            {
                "id": f"row-{row}",
                "context": context,
                "question": f"Where does {name} live?" if has_answer else f"Who sees {name}?",
                "answers": {
                    "text": [place] * has_answer,
                    "answer_start": [context.index(place)] * has_answer,
                },
            }
        )
    return made


def write_corpus(folder, **splits: list[dict]) -> list[str]:
    """Files of the splits, and the flags of two quick steps on them."""
    flags = []
    for name, split in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in split)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        flags.append(f"--{name}_file={folder / name}.jsonl")
    return [
        *flags, "--vocab_size=320", "--max_steps=2", "--tokens_per_batch=400", "--use_cpu", "--version_2_with_negative"
    ]  # fmt: skip


SPANS = ["--max_seq_length=32", "--doc_stride=4"]
WRITTEN = ["--mode=generative", "--num_beams=2"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("corpus")
    return write_corpus(folder, train=rows(32, is_long=True), validation=rows(9), test=rows(7, is_long=True))


FRESH = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE},max_position_embeddings=256"]


def read_json(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_spans_from_end_to_end(tmp_path, corpus):
    run = tmp_path / "run"
    arguments = [
        *FRESH,
        f"--output_dir={run}",
        *corpus,
        *SPANS,
        "--eval_strategy=steps",
        "--eval_steps=1",
        "--save_steps=1",
    ]
    arguments += ["--early_stopping_patience=5", "--n_best_size=3"]
    shown = succeeded(launch(*arguments)).stdout
    assert "best sentence of the context" in shown and "AutoModelForQuestionAnswering.from_pretrained" in shown
    results = read_json(run / "all_results.json")
    for name in ("exact_match", "f1", "f1_lower", "best_sentence_f1", "empty_exact_match", "HasAns_f1", "NoAns_f1"):
        assert f"predict_{name}" in results
    assert {"eval_f1", "eval_exact_match", "train_tokens_per_second"} <= set(results)
    assert results["predict_empty_exact_match"] == pytest.approx(100 / 7)
    test = rows(7, is_long=True)
    predictions = read_json(run / "predictions.json")
    assert list(predictions) == [row["id"] for row in test]
    candidates = read_json(run / "nbest_predictions.json")
    for row in test:
        assert predictions[row["id"]] in row["context"]
        assert len(candidates[row["id"]]) in (3, 4)
        for candidate in candidates[row["id"]]:
            assert row["context"][candidate["start"] : candidate["end"]] == candidate["text"]
    lines = (run / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()
    assert lines == list(predictions.values())
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: question-answering" in card and "predict_f1" in card
    AutoModelForQuestionAnswering.from_pretrained(run)


def test_generation_from_end_to_end(tmp_path, corpus):
    run = tmp_path / "run"
    result = succeeded(launch(*FRESH, f"--output_dir={run}", *corpus, *WRITTEN, "--max_source_length=30"))
    assert "of the 32 sources of `train` are longer than `max_source_length`=30" in result.stderr
    results = read_json(run / "all_results.json")
    assert {"predict_rougeL", "predict_f1", "predict_exact_match", "predict_best_sentence_rougeL"} <= set(results)
    # Of seven questions one has no answer.
    assert results["predict_empty_rougeL"] == pytest.approx(100 / 7)
    assert results["predict_rougeL_lower"] <= results["predict_rougeL"] <= results["predict_rougeL_upper"]
    assert list(read_json(run / "predictions.json")) == [f"row-{row}" for row in range(7)]
    assert not (run / "nbest_predictions.json").exists()
    AutoModelForSeq2SeqLM.from_pretrained(run)


def test_abstaining_where_there_is_no_answer_counts_as_right(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("question_answering")
    references = [["in Rome"], ["in Rome"], [], [], [], [""]]
    scores = recipe.rouge_of_answers(["in Rome", "", "", " ", "Oslo", ""], references)
    assert scores == [100, 0, 100, 100, 0, 100]


@pytest.mark.parametrize("mode", [SPANS, WRITTEN], ids=["extractive", "generative"])
def test_a_test_split_without_answers_is_answered_only(tmp_path, corpus, monkeypatch, capsys, caplog, mode):
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("question_answering")
    base, run = tmp_path / "base", tmp_path / "run"
    recipe.main([*FRESH, f"--output_dir={base}", *corpus, *mode, "--do_train", "--max_steps=1"])
    caplog.set_level(logging.WARNING, "hf_attn")
    for place, answers in enumerate([{}, {"answers": None}]):
        without = [{**{name: row[name] for name in ("id", "context", "question")}, **answers} for row in rows(5)]
        flags = write_corpus(tmp_path, test=without)
        output = f"{run}-{place}"
        recipe.main([f"--model_name_or_path={base}", f"--output_dir={output}", *flags, *mode, "--do_predict"])
        assert len(read_json(Path(output) / "predictions.json")) == 5
        results = read_json(Path(output) / "all_results.json")
        assert "predict_runtime" in results and not {"predict_f1", "predict_loss"} & results.keys()
        assert not (Path(output) / "README.md").exists()
    assert caplog.text.count("`test` has no `answers`: it is predicted without the scores") == 2
    shown = capsys.readouterr().out
    assert f"The results are in {run}-0. To load what made them:" in shown and f'from_pretrained("{base}")' in shown


@pytest.mark.slow
def test_spans_on_a_generator_by_lora_then_merged(tmp_path, corpus):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    succeeded(launch(*FRESH, f"--output_dir={base}", *corpus, *WRITTEN))
    arguments = [
        f"--model_name_or_path={base}",
        "--lora",
        "--merge_adapter",
        "--score_before",
        f"--output_dir={adapter}",
    ]
    arguments += ["--lora_target_modules=all-linear"]
    result = succeeded(launch(*arguments, *corpus, *SPANS))
    assert "`qa_outputs.weight` start from fresh weights" in result.stderr and "before training" in result.stdout
    load_adapter(AutoModelForQuestionAnswering.from_pretrained(base), adapter)
    merged, run = AutoModelForQuestionAnswering.from_pretrained(adapter / "merged"), tmp_path / "run"
    assert merged.qa_outputs.weight.abs().sum() > 0
    succeeded(
        launch(f"--model_name_or_path={adapter / 'merged'}", f"--output_dir={run}", *corpus, *SPANS, "--do_predict")
    )
    assert read_json(run / "predictions.json") == read_json(adapter / "predictions.json")


@pytest.mark.slow
def test_stock_model(tmp_path, corpus):
    shape = {part.split("=")[0]: int(part.split("=")[1]) for part in SHAPE.split(",")}
    config = BartConfig(**shape, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64).to_dict()
    names = [*shape, "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings", "model_type"]
    (tmp_path / "bart.json").write_text(json.dumps({name: config[name] for name in names}), encoding="utf-8")
    run = tmp_path / "run"
    succeeded(launch(f"--model_config={tmp_path / 'bart.json'}", f"--output_dir={run}", *corpus, *SPANS))
    assert len(read_json(run / "predictions.json")) == 7


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["extractive", "generative"])
def test_answers_do_not_depend_on_processes_or_batches(tmp_path, corpus, mode):
    base, corpus = tmp_path / "base", [*corpus, *(SPANS if mode == "extractive" else WRITTEN)]
    succeeded(launch(*FRESH, f"--output_dir={base}", *corpus))
    expected = read_json(base / "all_results.json")
    for processes, batch_size in ((1, 2), (2, 2)):
        run = tmp_path / f"run_{processes}_{batch_size}"
        arguments = [f"--model_name_or_path={base}", "--do_predict", f"--per_device_eval_batch_size={batch_size}"]
        succeeded(launch(*arguments, f"--output_dir={run}", *corpus, processes=processes))
        assert read_json(run / "predictions.json") == read_json(base / "predictions.json")
        assert read_json(run / "all_results.json")["predict_f1"] == expected["predict_f1"]


def changed(**changes) -> dict:
    """The first row with other values; None leaves a column out."""
    row = {**rows(1)[0], **changes}
    return {name: value for name, value in row.items() if value is not None}


FAULTS = {
    "column": (
        [changed(context=None)],
        [],
        "must have the columns `context`; it has only `id`, `question`, `answers`",
    ),
    "answers": ([changed(answers=None)], [], "`train` must have the columns `answers`, got only `id`, `context`"),
    "place": (
        [changed(answers={"text": ["Köln"], "answer_start": [3]})],
        [],
        r"row 0 \(id 'row-0'\) must stand at their `answer_start`, got 'Köln' at 3: ' liv' stands there",
    ),
    "empty": ([*rows(2), changed(context=" ")], [], r"`context` must not be empty, got ' ' in row 2 \(id 'row-0'\)"),
    "type": ([changed(context=["Ada"])], [], r"`context` must be text, got \['Ada'\] in row 0"),
    "positions": (
        rows(4),
        [*WRITTEN, "--config_overrides=max_position_embeddings=8"],
        "`max_source_length` must keep within the 8 positions of the model, got a source of",
    ),
    "window": (
        rows(4),
        ["--config_overrides=max_position_embeddings=16"],
        "`max_seq_length` must keep within the 16 positions of the model, got 32",
    ),
    "smoothing": (
        rows(4),
        ["--label_smoothing_factor=0.1"],
        "`label_smoothing_factor` is for generated text, got 0.1",
    ),
    "mode": (rows(4), ["--mode=both"], "`mode` must be one of extractive, generative, got 'both'"),
    "threshold": (
        rows(4),
        ["--version_2_with_negative=false", "--null_score_diff_threshold=1"],
        "`null_score_diff_threshold` needs `version_2_with_negative` and `mode` extractive, got 1.0 without",
    ),
    "beams": (
        rows(4),
        ["--num_beams=2"],
        "`num_beams` has an effect only with `mode` generative, got 2 with extractive",
    ),
    "prefix": (rows(4), ["--source_prefix=ask: "], "`source_prefix` has an effect only with `mode` generative"),
    "windows": (
        rows(4),
        [*WRITTEN, "--doc-stride=4"],
        "`doc_stride` has an effect only with `mode` extractive, got 4 with generative. Leave it out",
    ),
    "stride": (rows(4), ["--doc_stride=-1"], "`doc_stride` must be at least 0, got -1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_leaves_nothing_behind(fault, tmp_path, monkeypatch):
    train, flags, message = FAULTS[fault]
    mode_flags = [] if WRITTEN[0] in flags else SPANS
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("question_answering")
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        recipe.main([*FRESH, f"--output_dir={run}", *write_corpus(tmp_path, train=train), *mode_flags, *flags])
    assert not run.exists()


def test_questions_without_an_answer_need_their_flag(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("question_answering")
    flags = write_corpus(tmp_path, train=rows(2), test=rows(4))
    message = "`test` has rows without an answer, the first is row 3: set `version_2_with_negative`"
    with pytest.raises(ValueError, match=message):
        recipe.main([*FRESH, f"--output_dir={tmp_path / 'run'}", *flags, *SPANS, "--version_2_with_negative=false"])


def test_keys_of_a_file_for_both_modes_are_warned_of(tmp_path, monkeypatch, caplog):
    """So that `--mode generative` works on top of the default config, which is of the other mode."""
    monkeypatch.syspath_prepend(str(RECIPES))
    recipe = importlib.import_module("question_answering")
    flags = ["--mode=generative", f"--output_dir={tmp_path / 'run'}"]
    run = start_run(recipe.ARGUMENTS, flags, recipe.DEFAULT_CONFIG, "")
    recipe.check_mode(run, flags)
    for name in ("max_seq_length", "doc_stride", "max_answer_length"):
        assert f"`{name}` has an effect only with `mode` extractive" in caplog.text


def test_the_configs_fit_their_modes(monkeypatch, caplog):
    monkeypatch.syspath_prepend(str(RECIPES))
    monkeypatch.chdir(RECIPES.parent)
    recipe = importlib.import_module("question_answering")
    configs = [
        path for path in (RECIPES / "configs").glob("*.yaml") if "recipes/question_answering" in path.read_text()
    ]
    assert len(configs) == 7
    for config in configs:
        run = start_run(recipe.ARGUMENTS, [f"--config={config}", "--output_dir=outputs/none"], None, "")
        recipe.check_mode(run, [])
    assert "has an effect only with" not in caplog.text
