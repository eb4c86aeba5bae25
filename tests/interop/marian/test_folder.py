# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The files of a model are found in the layouts that there are, or what is missing is said."""

import json

import pytest

from hf_attn.interop.marian.folder import find_files


def _folder(tmp_path, names, **texts):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    for name, text in texts.items():
        (tmp_path / name.replace("__", ".")).write_text(text)
    return tmp_path


def _names(found):
    shortlist = None if found.shortlist is None else found.shortlist.name
    return found.model.name, *(path.name for path in found.vocabularies), shortlist


def test_firefox(tmp_path):
    names = ["model.enpt.intgemm.alphas.bin.gz", "vocab.enpt.spm.gz", "lex.50.50.enpt.s2t.bin.gz"]
    metadata = {"sourceLanguage": "en", "targetLanguage": "pt", "architecture": "tiny"}
    found = find_files(_folder(tmp_path, names, metadata__json=json.dumps(metadata)))
    assert _names(found) == (names[0], names[1], names[1], names[2])
    assert found.metadata == metadata and found.settings == {}


def test_firefox_with_two_vocabularies(tmp_path):
    names = ["lex.50.50.enja.s2t.bin", "model.enja.intgemm8.bin", "srcvocab.enja.spm", "trgvocab.enja.spm"]
    assert _names(find_files(_folder(tmp_path, names))) == (names[1], names[2], names[3], names[0])


def test_a_student_of_bergamot(tmp_path):
    settings = (
        "relative-paths: true\nmodels:\n  - model.intgemm.bin\nvocabs:\n  - vocab.deen.spm\n  - vocab.deen.spm\n"
        "shortlist:\n    - lex.s2t.bin\n    - false\nbeam-size: 2\n"
    )
    names = ["model.intgemm.bin", "model.npz", "vocab.deen.spm", "lex.s2t.bin", "lex.s2t.gz", "speed.cpu.log"]
    found = find_files(_folder(tmp_path, names, config__intgemm8bit__yml=settings, a__yml="- 1", b__yml="a: *x"))
    assert _names(found) == ("model.intgemm.bin", "vocab.deen.spm", "vocab.deen.spm", "lex.s2t.bin")
    assert found.settings["beam-size"] == 2
    # The other file has no settings of its own.
    found = find_files(tmp_path / "model.npz")
    assert _names(found) == ("model.npz", "vocab.deen.spm", "vocab.deen.spm", "lex.s2t.bin") and found.settings == {}


def test_a_directory_of_a_training(tmp_path):
    settings = (
        "models: [/data/run/model.npz]\nvocabs: [/data/v/vocab.src.yml, /data/v/vocab.trg.yml]\nnormalize: 0.6\n"
    )
    names = ["model.npz", "model.npz.optimizer.npz", "model.npz.orig.npz", "vocab.src.yml", "vocab.trg.yml"]
    options = {"model__npz__decoder__yml": settings, "model__npz__yml": "type: transformer"}
    found = find_files(_folder(tmp_path, names, **options))
    assert _names(found) == ("model.npz", "vocab.src.yml", "vocab.trg.yml", None)
    assert found.training_options == tmp_path / "model.npz.yml" and found.settings["normalize"] == 0.6
    (tmp_path / "model.npz.decoder.yml").unlink()
    assert _names(find_files(tmp_path)) == ("model.npz", "vocab.src.yml", "vocab.trg.yml", None)


def test_a_vocabulary_elsewhere_is_found_by_its_path(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "vocab.spm").write_bytes(b"x")
    settings = f"models: [model.npz]\nvocabs: [{tmp_path / 'vocab.spm'}, ../vocab.spm]\n"
    found = find_files(_folder(tmp_path / "run", ["model.npz"], model__npz__decoder__yml=settings))
    assert [path.resolve() for path in found.vocabularies] == [tmp_path / "vocab.spm"] * 2


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        ([], {}, r"must hold a model \(`\*.npz`, `\*.bin`\), and '.*' has none. There are: no files"),
        (["lex.bin", "vocab.spm"], {}, "has none. There are: 'lex.bin', 'vocab.spm'"),
        (["model.bin.zst", "vocab.spm"], {}, "Decompress 'model.bin.zst' first; only .gz is read"),
        (["a.bin", "b.npz", "vocab.spm"], {}, "has several: 'a.bin', 'b.npz'. Name one file"),
        (["model.npz"], {}, r"must hold a vocabulary \(`\*.spm`, `vocab.yml`\), and '.*' has none"),
        (["model.npz", "vocab.de.spm", "vocab.en.spm"], {}, "one vocabulary, or `srcvocab.*` and `trgvocab.*`, and"),
        (
            ["model.npz"],
            {"config__yml": "models: [model.npz]\nvocabs: [a.spm, a.spm]"},
            "'config.yml' in '.*' names the file 'a.spm', which is not there. There are: 'config.yml', 'model.npz'",
        ),
        (["model.npz", "vocab.spm"], {"metadata__json": "{"}, "the metadata '.*metadata.json' is not valid json"),
    ],
)
def test_what_is_missing_is_said(tmp_path, names, texts, message):
    with pytest.raises(ValueError, match=message):
        find_files(_folder(tmp_path, names, **texts))


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`source` must be a directory or a file, got '.*nowhere': there is none"):
        find_files(tmp_path / "nowhere")
