# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""`hf-attn` finds its sub-commands; `hf-attn tokenizer` writes whole tokenizers and overwrites none by default."""

import json
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from hf_attn import cli


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "train.jsonl"
    rows = [{"id": "zqj", "translation": {"en": "the house", "de": "das Haus"}}] * 20
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def fails(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_trains_saves_and_loads(corpus, tmp_path, capsys, model):
    out = tmp_path / "new" / "tokenizer"
    arguments = ["tokenizer", corpus, "--vocab_size", "280", "--out", str(out), "--model", model]
    assert cli.main([*arguments, "--model_max_length", "99"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.decode(tokenizer("das Haus")["input_ids"], skip_special_tokens=True) == "das Haus"
    assert tokenizer.model_max_length == 99
    assert f"{len(tokenizer)} tokens saved to {out}" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["tokenizer"]


def test_fields_choose_columns(corpus, tmp_path):
    for name, fields in (("all", []), ("german", ["--fields", "translation.de"])):
        cli.main(["tokenizer", corpus, "--vocab_size", "280", "--out", str(tmp_path / name), *fields])
    vocabularies = {
        name: set(AutoTokenizer.from_pretrained(tmp_path / name).get_vocab()) for name in ("all", "german")
    }
    assert {"zqj", "the"} <= vocabularies["all"]
    assert not {"zqj", "the"} & vocabularies["german"]
    assert "das" in vocabularies["german"]


def test_overwrites_only_on_request_and_leaves_other_files_alone(corpus, tmp_path, capsys):
    out = tmp_path / "model"
    out.mkdir()
    (out / "model.safetensors").write_text("weights")
    (out / "spiece.model").write_text("another tokenizer")
    arguments = ["tokenizer", corpus, "--vocab_size", "280", "--out", str(out)]
    message = f"`--out` must not hold another tokenizer, but {str(out)!r} has spiece.model"
    assert message in fails(capsys, *arguments)
    assert sorted(path.name for path in out.iterdir()) == ["model.safetensors", "spiece.model"]
    cli.main([*arguments, "--overwrite"])
    assert sorted(path.name for path in out.iterdir()) == [
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert "has tokenizer.json, tokenizer_config.json: choose another directory, or pass `--overwrite`" in fails(
        capsys, *arguments
    )


def test_a_run_that_fails_writes_nothing(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    assert "`vocab_size` must be greater than 261" in fails(
        capsys, "tokenizer", corpus, "--vocab_size", "9", "--out", str(out)
    )
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": "b"}\n{"a"\n')
    error = fails(capsys, "tokenizer", corpus, str(bad), "--vocab_size", "300", "--out", str(out))
    assert f"hf-attn tokenizer: error: `files`: line 2 of {bad} is not valid json" in error
    assert not out.exists()


def test_out_that_is_a_file(corpus, capsys):
    error = fails(capsys, "tokenizer", corpus, "--vocab_size", "300", "--out", corpus)
    assert f"`--out` must be a directory, got the file {corpus!r}" in error


@pytest.mark.parametrize("out", ["{file}/tokenizer", "/proc/tokenizer"])
def test_out_that_cannot_be_written_is_refused_before_training(corpus, out, capsys, monkeypatch):
    monkeypatch.setattr("hf_attn.cli.tokenizer.train_tokenizer", lambda *_, **__: pytest.fail("trained"))
    out = out.format(file=corpus)
    error = fails(capsys, "tokenizer", corpus, "--vocab_size", "300", "--out", out)
    assert error.startswith(f"hf-attn tokenizer: error: `--out` must be a path to write to, got {out!r}: ")


def test_errors_of_the_system_are_one_line(capsys, monkeypatch):
    def full(arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=full))
    assert fails(capsys, "generate", "x") == "hf-attn generate: error: [Errno 28] No space left on device: 'x'\n"


def test_an_unknown_command_names_the_nearest(capsys):
    error = fails(capsys, "tokeniser")
    assert (
        f"`COMMAND` must be one of {', '.join(sorted(cli.COMMANDS))}, got `tokeniser`; did you mean `tokenizer`?"
        in error
    )


def test_help_lists_commands_without_importing_them(capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    # argparse wraps lines.
    assert ", ".join(sorted(cli.COMMANDS)) in " ".join(capsys.readouterr().out.split())
