# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Archives, indexes, tables and names in files lead nowhere outside the place they lie in."""

import bz2
import io
import json
import lzma
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Audio, Features, Image, List, Translation, Value

from hf_attn.data import load_splits
from hf_attn.generation import load_for_inference
from hf_attn.plotting import attention_html, attention_map, save_figure
from hf_attn.tasks import TRANSLATION
from hf_attn.training.model_card import write_model_card
from tests.small_checkpoint import small_model


ROW = b'{"en": "a", "de": "b"}\n'


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../outside.jsonl", ROW)
    return packed.getvalue()


def tarred(mode: str, link: bool = False) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        entry = tarfile.TarInfo("rows.jsonl" if link else "../../outside.jsonl")
        if link:
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(entry)
        else:
            entry.size = len(ROW)
            archive.addfile(entry, io.BytesIO(ROW))
    return packed.getvalue()


ARCHIVES = {
    "zip": zipped(),
    "tar": tarred("w"),
    "tar behind gzip": tarred("w:gz"),
    "tar of a link": tarred("w", link=True),
    "xz": lzma.compress(ROW),
    "bzip2": bz2.compress(ROW),
}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz", "rows.csv", "rows.txt"])
@pytest.mark.parametrize("archive", ARCHIVES)
def test_archives_are_not_unpacked(tmp_path, archive, name):
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(ARCHIVES[archive])
    before = everything(tmp_path) | everything(Path(os.environ["HF_HOME"]))
    message = f"`train_file`: .* is packed by {archive.split()[0]}: unpack it, or pack it by gzip"
    with pytest.raises(ValueError, match=message):
        load_splits(train_file=folder / name)
    assert everything(tmp_path) | everything(Path(os.environ["HF_HOME"])) == before


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    "features",
    [{"image": Image()}, {"sounds": List(Audio())}, {"row": {"picture": Image()}}],
    ids=["image", "list", "object"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_columns_whose_values_are_paths_are_refused(tmp_path, features, streaming):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    value = {"bytes": None, "path": str(secret)}
    column = next(iter(features))
    row = {"image": value, "sounds": [value], "row": {"picture": value}}[column]
    schema = Features(features).arrow_schema
    pyarrow.parquet.write_table(pa.Table.from_pylist([{column: row}], schema=schema), tmp_path / "rows.parquet")
    message = f"has the column `{column}` of the kind (Image|Audio), which refers to other files"
    with pytest.raises(ValueError, match=message):
        load_splits(train_file=tmp_path / "rows.parquet", streaming=streaming)
    # A directory of such files, as of the Hub.
    (tmp_path / "set").mkdir()
    (tmp_path / "rows.parquet").rename(tmp_path / "set" / "train.parquet")
    with pytest.raises(ValueError, match=f"`dataset_name`: split `train` .* `{column}` of the kind"):
        load_splits(str(tmp_path / "set"), streaming=streaming)


def test_columns_of_languages_are_read(tmp_path):
    features = Features({"translation": Translation(["en", "de"]), "tags": List(Value("string"))})
    row = {"translation": {"en": "a", "de": "b"}, "tags": ["x"]}
    table = pa.Table.from_pylist([row], schema=features.arrow_schema)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert list(load_splits(train_file=tmp_path / "rows.parquet")["train"]) == [row]


NAMES = ["rows[1].jsonl", "rows*.jsonl", "what?.jsonl", "a::b.jsonl", "zip:x.jsonl", ".jsonl.jsonl"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(tmp_path, name):
    (tmp_path / name).write_bytes(ROW)
    (tmp_path / "rows1.jsonl").write_bytes(b'{"en": "other", "de": "other"}\n')
    try:
        assert load_splits(train_file=tmp_path / name)["train"][0] == json.loads(ROW)
    except ValueError as error:
        assert "`train_file`" in str(error)


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/hostname", "a\0b.safetensors", "model.bin", 3])
def test_an_index_names_files_beside_it(tmp_path, checkpoint, shard):
    folder = shutil.copytree(checkpoint, tmp_path / "sharded")
    (tmp_path / "other").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "other" / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"model.shared.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    message = f"`MODEL`: .* must name safetensors files of its own folder, got {re.escape(repr(shard))}"
    with pytest.raises(ValueError, match=message):
        load_for_inference(str(folder))


@pytest.mark.parametrize("file", ["../other.safetensors", "/tmp/other.safetensors", "adapter_model.bin"])
def test_a_config_names_weights_beside_it(tmp_path, checkpoint, file):
    folder = shutil.copytree(checkpoint, tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": file}))
    message = "must name a safetensors file of its own folder as `transformers_weights`, got"
    with pytest.raises(ValueError, match=message):
        load_for_inference(str(folder))


def test_a_tokenizer_config_leads_to_no_other_file(tmp_path, checkpoint):
    folder = shutil.copytree(checkpoint, tmp_path / "named")
    other = json.loads((folder / "tokenizer.json").read_text())
    other["model"]["vocab"]["stolen"] = 270
    (tmp_path / "other.json").write_text(json.dumps(other))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_file": str(tmp_path / "other.json"), "vocab_file": "/etc/hostname"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    _, tokenizer = load_for_inference(str(folder))
    assert "stolen" not in tokenizer.get_vocab()


@pytest.mark.parametrize(
    "field", ["prompt_tuning_init_state_dict_path", "tokenizer_name_or_path", "tokenizer_kwargs", "megatron_config"]
)
def test_an_adapter_config_names_no_other_files(tmp_path, checkpoint, adapter, field):
    folder = shutil.copytree(adapter, tmp_path / "named")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, field: "elsewhere"}))
    message = f"must not set `{field}`, by which PEFT would read or run what lies elsewhere"
    with pytest.raises(ValueError, match=message):
        load_for_inference(str(checkpoint), str(folder))


def test_the_card_of_a_base_that_nobody_can_read(tmp_path, tokenizer, caplog):
    base = tmp_path / "base"
    base.mkdir()
    metadata = (b"license: [", b"!!python/object/apply:os.system [ls]", b"- a")
    for content in (b"\xff\xfe", *(b"---\n" + lines + b"\n---\n" for lines in metadata)):
        (base / "README.md").write_bytes(content)
        write_model_card(
            tmp_path,
            small_model(tokenizer),
            task=TRANSLATION,
            languages=["en", "de"],
            data="rows.jsonl",
            values={},
            metrics={},
            usage="",
            base_model=str(base),
        )
        assert "Of the base: see its card." in (tmp_path / "README.md").read_text()


def test_labels_of_pictures_are_text(tmp_path):
    tokens = ["$\\frac{", "</script><script>alert(1)</script>", "$x$"]
    save_figure(attention_map([[0.2, 0.3, 0.5]] * 3, tokens, tokens), tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 0
    page = attention_html([[0.2, 0.3, 0.5]] * 3, tokens, tokens, title="</title><script>")
    assert page.count("<script>") == 1 and "</title><script>" not in page
