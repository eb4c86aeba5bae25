# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Every script in the smallest sizes, and the functions that its rows rest on."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench_decoding
import bench_dropout
import bench_long_inputs
import bench_recurrent
import bench_startup
import bench_training
import profile_steps
from corpus import Corpus, find_corpus, tokenized, tokenizer_for
from hf_attn import modeling_layers, modeling_stacks
from hf_attn.modeling_dropout import dropout
from measuring import Sample
from models import SIZES, Size, bart_config, fresh_model, hf_attn_config, marian_config, training_flops
from recording import DOCUMENT
from tests.utils import tiny_config, tiny_model


REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((REPOSITORY / "benchmarks").glob("bench_*.py"))
SMALLEST = Size(16, 1, 2, 16)
PAIRS = [("a dog runs", "ein Hund rennt"), ("two men sit on a bench", "zwei Männer sitzen"), ("a cat", "eine Katze")]


@pytest.fixture
def small_corpus(tmp_path):
    """A corpus of a few rows."""
    import gzip

    for split in ("train", "validation", "test"):
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
            for source, target in PAIRS * 40:
                lines.write(json.dumps({"translation": {"en": source, "de": target}}) + "\n")
    return Corpus("small", tmp_path, "test")


@pytest.fixture
def smallest(monkeypatch):
    """All sizes are the smallest."""
    for name in SIZES:
        monkeypatch.setitem(SIZES, name, SMALLEST)


def test_there_is_a_table_for_each_script():
    assert len(SCRIPTS) == 6
    text = DOCUMENT.read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert f"<!-- table {script.stem.removeprefix('bench_')} -->" in text
        assert f"`{script.name}`" in text


def test_without_the_corpora_the_embedded_pairs_are_taken_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ATTN_DATA", str(tmp_path))
    corpus = find_corpus()
    assert "Multi30k is skipped: it is not under ../shared/data" in capsys.readouterr().out
    assert len(corpus.pairs("test")) > 50


def test_the_corpus_is_multi30k_where_it_is(data_dir, monkeypatch):
    monkeypatch.setenv("HF_ATTN_DATA", str(data_dir))
    assert find_corpus().name == "Multi30k"
    assert len(find_corpus().pairs("test")) == 1000


def test_the_models_compared_have_the_same_size():
    tokenizer = tokenizer_for(PAIRS, vocab_size=270)
    counts = [
        sum(parameter.numel() for parameter in fresh_model(make(SIZES["tiny"], 1000, tokenizer)).parameters())
        for make in (hf_attn_config, marian_config, bart_config)
    ]
    # BART has tables of positions and norms of embeddings, Marian sinusoids that are no parameters of ours.
    positions = 1024 * 128
    assert abs(counts[0] + 2 * positions - counts[1]) < 0.01 * counts[0]
    assert abs(counts[2] - counts[1]) < 0.01 * counts[0]


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    model = fresh_model(hf_attn_config(SMALLEST, 50, None, dropout=0.0), attn_implementation="eager")
    source, target = torch.randint(5, 50, (3, 7)), torch.randint(5, 50, (3, 9))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=source, labels=target).loss.backward()
    # The gradient of the first layer's input needs no product beyond the embedding: a little less than counted.
    expected = training_flops(SMALLEST, 50, np.array([[7, 9]] * 3))
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_training_takes_turns_and_learns_alike(small_corpus, smallest, monkeypatch, tmp_path):
    tokenizer = tokenizer_for(PAIRS, vocab_size=270)
    train = tokenized(small_corpus.pairs("train"), tokenizer)
    task = {"folder": str(tmp_path), "size": "tiny", "tokens_per_batch": 256, "batch_factor": 1, "updates": 2}
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    tokenized(PAIRS, tokenizer).save_to_disk(str(tmp_path / "validation"))
    train.save_to_disk(str(tmp_path / "train"))
    expected = {name: [] for name in (bench_training.OURS, *bench_training.PEERS)}
    for name, answers in expected.items():
        requests = _Requests(3)
        monkeypatch.setattr(bench_training, "Requests", lambda requests=requests: requests)
        bench_training.training_worker({**task, "system": name})
        answers += requests.answers
    for answers in expected.values():
        assert len(answers) == 4
        assert all(sample.amount > 20 and sample.details["flops"] > 0 for sample in answers[:3])
        assert answers[3]["updates"] == 6
        assert answers[3]["loss"] == pytest.approx(expected[bench_training.OURS][3]["loss"], rel=0.2)


class _Requests:
    """In place of the parent: asks for so many rounds, and keeps the answers."""

    def __init__(self, rounds: int):
        self.left, self.answers = rounds, []

    def next(self):
        self.left -= 1
        return {} if self.left >= 0 else {"stop": True}

    def answer(self, answer):
        self.answers.append(answer)


@pytest.mark.parametrize("name", bench_recurrent.MODELS)
def test_the_step_loop_is_the_same_model(name, monkeypatch):
    for field, value in {"VOCAB_SIZE": 30, "BATCH": 2, "LENGTH": 4}.items():
        monkeypatch.setattr(bench_recurrent, field, value)
    arguments = argparse.Namespace(quick=True, threads=None)
    row = bench_recurrent.model_row(name, 1, 0.0, arguments)
    assert row.measured > 0
    assert float(row.quality.split()[-1]) < 1e-10


@pytest.mark.parametrize("name", bench_recurrent.MIXERS)
def test_layers_are_those_of_torch(name, monkeypatch):
    for field, value in {"MIXER_BATCH": 2, "MIXER_LENGTH": 5, "MIXER_WIDTH": 8}.items():
        monkeypatch.setattr(bench_recurrent, field, value)
    row = bench_recurrent.mixer_row(name, 1, 0.0, argparse.Namespace(quick=True, threads=None))
    assert float(row.quality.split()[-1]) < 1e-4


@pytest.mark.parametrize("dtype", bench_dropout.DTYPES)
def test_a_training_step_is_measured_with_either_dropout(dtype, monkeypatch):
    used = []

    def spy(inputs, p, training):
        used.append(p)
        return inputs

    monkeypatch.setitem(bench_dropout.MODELS, "tiny", (lambda: tiny_config(dropout=0.25), 2, 5))
    monkeypatch.setattr(bench_dropout, "dropout", spy)
    row = bench_dropout.step_row("tiny", dtype, 1, argparse.Namespace(quick=True, threads=None))
    assert 0.25 in used
    assert row.measured > 0
    assert modeling_layers.dropout is modeling_stacks.dropout is dropout
    assert row.quality.startswith("0.000% and 2") and row.quality.endswith("zeros at 0.25")


@pytest.mark.parametrize("name", bench_long_inputs.SYSTEMS)
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("has_bf16", [False, True])
def test_long_layers_run(name, is_training, has_bf16):
    bench_long_inputs.layer_runner(name, has_bf16)(300, is_training)


def test_long_layers_are_dense_attention():
    assert bench_long_inputs.sliding_difference(300) < 1e-5
    assert bench_long_inputs.linear_difference(200) < 1e-4


def test_batches_are_spread_over_the_lengths():
    sources = [[0] * length for length in (3, 1, 2, 5, 4, 6)]
    assert bench_decoding.batches_of(sources, 2, None) == [[5, 3], [4, 0], [2, 1]]
    assert bench_decoding.batches_of(sources, 2, 2) == [[4, 0]]
    assert bench_decoding.batches_of(sources, 1, 3) == [[3], [0], [1]]
    assert len(bench_decoding.batches_of(sources, 64, 1)) == 1


def test_every_way_of_decoding_gives_the_same_outputs(small_corpus, smallest, monkeypatch, tmp_path):
    pytest.importorskip("ctranslate2", reason="needs the extra `bench`")
    monkeypatch.setattr(bench_decoding, "tokenizer_for", lambda pairs: tokenizer_for(pairs, vocab_size=280))
    plan = bench_decoding.prepare(tmp_path / "plan", small_corpus, None, None)
    assert list(plan) == [*bench_decoding.OURS, *bench_decoding.PEERS]
    rows = [[5, 9, 11, 2], [17, 2]]
    for beams in (1, 3):
        outputs = {}
        for name, task in plan.items():
            is_foreign = name in (bench_decoding.CT2_FLOAT32, bench_decoding.CT2_INT8)
            make = bench_decoding.ctranslate2_decoder if is_foreign else bench_decoding.transformers_decoder
            tokenizer = bench_decoding.AutoTokenizer.from_pretrained(task["directory"])
            outputs[name] = make(task, tokenizer)(rows, beams)
        assert all(len(ids) == bench_decoding.FORCED_LENGTH for some in outputs.values() for ids in some)
        assert outputs["fast"] == outputs["generate"]
        assert outputs[bench_decoding.CT2_FLOAT32] == outputs[bench_decoding.MARIAN]


def test_without_a_peer_our_ways_are_compared(small_corpus, monkeypatch, tmp_path):
    model = tiny_model(tiny_config())
    model.save_pretrained(tmp_path / "model")
    tokenizer_for(small_corpus.pairs("train"), vocab_size=280).save_pretrained(tmp_path / "model")
    plan = bench_decoding.prepare(tmp_path, small_corpus, str(tmp_path / "model"), None)
    assert list(plan) == list(bench_decoding.OURS)
    assert not any(task["is_forced"] for task in plan.values())
    samples = {name: [Sample(10, place + 1.0, 1.0)] for place, name in enumerate(plan)}
    arguments = argparse.Namespace(model="outputs/model", peer=None, quick=True, rounds=None)
    rows = bench_decoding.compared_rows(samples, dict.fromkeys(plan, "40.00 BLEU"), "corpus", 1, 1, 1, arguments)
    assert [row.case.split(" against ")[0] for row in rows] == [f"`{name}`" for name in plan if name != "generate"]
    assert all(row.peer.startswith("generate") and "--peer" not in row.command for row in rows)


def test_profiles(capsys, monkeypatch):
    monkeypatch.setattr(profile_steps, "LENGTH", 64)
    profile_steps.main(["sliding_attention", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "sliding_attention" in lines[0]
    shares = [float(line.split()[0].removesuffix("%")) for line in lines[1:]]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_seconds_of_a_process_end_with_its_first_line():
    slow = "import time; print('first', flush=True); time.sleep(0.2)"
    assert bench_startup.run([sys.executable, "-S", "-c", slow]).wall < 0.2
    assert bench_startup.run([sys.executable, "-S", "-c", "pass"]).cpu > 0
    with pytest.raises(RuntimeError, match="failed with status 2"):
        bench_startup.run([sys.executable, "-S", "-c", "raise SystemExit(2)"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["bench_training.py", "--size", "tiny", "--quick", "--rounds", "1", "--tokens_per_batch", "512"],
        ["bench_training.py", "--only_memory"],
        ["bench_recurrent.py", "--quick", "--models", "luong2015", "--mixers", "gru"],
        ["bench_decoding.py", "--quick", "--rounds", "1", "--beams", "1", "--batches", "1", "--threads", "1"],
        ["bench_long_inputs.py", "--quick", "--lengths", "512", "1024"],
        ["bench_startup.py", "--rounds", "1"],
        ["bench_dropout.py", "--quick", "--models", "embedded", "--dtypes", "bfloat16"],
    ],
    ids=lambda flags: " ".join(flags[:2]),
)
def test_scripts_run(flags, tmp_path):
    script = tmp_path / "benchmarks"
    # A copy, so that results and tables of the repository stay.
    script.mkdir()
    for file in (REPOSITORY / "benchmarks").glob("*.py"):
        (script / file.name).write_bytes(file.read_bytes())
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, f"benchmarks/{flags[0]}", *flags[1:]], cwd=tmp_path, env=environment, check=True)
    (results,) = (script / "results").glob("*/*.json")
    assert results.stem == flags[0].removeprefix("bench_").removesuffix(".py")
    for row in json.loads(results.read_text(encoding="utf-8")):
        assert row["command"].startswith(f"python benchmarks/{flags[0]}")
        assert np.isfinite(row["measured"])
