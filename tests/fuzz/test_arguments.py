# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""YAML files and command lines of the recipes, and the commands of `hf-attn`."""

import importlib
import json
from dataclasses import fields

import pytest
from hypothesis import strategies as st

from hf_attn.cli import COMMANDS
from hf_attn.cli import main as hf_attn_command
from hf_attn.generation import Glossary
from hf_attn.training import AdapterArguments, DataArguments, ModelArguments, TaskArguments, parse_arguments
from hf_attn.training.arguments import RecipeTrainingArguments
from hf_attn.training.parsing import read_yaml
from hf_attn.training.pretraining import parse_corpora
from tests.fuzz.fuzzing import VALUES, damaged, fuzz, many


TYPES = (ModelArguments, AdapterArguments, DataArguments, TaskArguments, RecipeTrainingArguments)
# What starts other processes, speaks to the network or loads plugins is left alone.
LEFT_OUT = ("deepspeed", "fsdp", "ddp", "hub", "push", "tpu", "report", "local_rank", "accelerator", "torch_compile")
NAMES = [
    field.name
    for arguments in TYPES
    for field in fields(arguments)
    if field.init and not field.name.startswith(LEFT_OUT)
]
FLAG_VALUES = st.text(max_size=6) | st.sampled_from(
    ["", "true", "no", "-1", "0", "1e400", "nan", "[1]", "{}", "null", "steps", "epoch", "bf16", "\ud800", "a" * 300]
)
YAML = b"""# a run
model_config: hybrid_tiny
lora: true
config_overrides: d_model=32,encoder_layers=1
lora_target_modules: [q_proj, v_proj]
gradient_checkpointing_kwargs: {use_reentrant: false}
train_file: rows.jsonl
learning_rate: 1.0e-3
warmup_steps: 10
"""
YAML_WORDS = [
    "&a ",
    "*a",
    "<<: ",
    "? ",
    "- ",
    "!!python/object:os.system ",
    "!!binary ",
    "!!set ",
    "2020-13-45",
    "...\n",
]
YAML_WORDS += [
    "[" * 2_000,
    "{" * 2_000,
    "---\n",
    "\t",
    ": ",
    "\n",
    "1: 2\n",
    "~: 3\n",
    "learning_rate: ",
    "0o17",
    "lora: ",
]
BOMB = b"a: &a [x, x, x, x]\n" + b"".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}]\n".encode()
    for before, name in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
)


@many()
def test_yaml_files(examples, tmp_path):
    config = tmp_path / "run.yaml"
    keys = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3).map(lambda value: json.dumps(value).encode())
    words = st.lists(st.sampled_from(YAML_WORDS) | st.text(max_size=4), max_size=8).map("".join)
    inputs = st.one_of(damaged(YAML), keys, words.map(lambda text: text.encode(errors="surrogatepass")), st.just(BOMB))

    def check(content: bytes) -> None:
        config.write_bytes(content)
        parse_arguments(TYPES, ["--config", str(config), f"--output_dir={tmp_path}", "--use_cpu"])

    fuzz(check, inputs, examples)


@many()
def test_flags(examples, tmp_path):
    flags = st.builds("--{}={}".format, st.sampled_from(NAMES), FLAG_VALUES)
    inputs = st.lists(flags | FLAG_VALUES | st.sampled_from(["--", "--config", "--config=", "-x"]), max_size=4)
    described = ["--model_config=hybrid_tiny", "--train_file=rows.jsonl", f"--output_dir={tmp_path}", "--use_cpu"]
    fuzz(lambda arguments: parse_arguments(TYPES, [*described, *arguments]), inputs, examples)


@many(slow=2_000)
def test_corpora(examples):
    entries = st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("train", "columns", "source_lang", "target_lang", "prefix", "weight", "x"), VALUES),
    )
    texts = st.dictionaries(st.text(max_size=3), entries | VALUES, max_size=2).map(json.dumps)
    fuzz(parse_corpora, texts | VALUES.map(json.dumps) | st.text(max_size=10) | st.just("[" * 5_000), examples)


@many(slow=2_000)
def test_glossaries(examples, tmp_path):
    file = tmp_path / "terms.tsv"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        Glossary.from_file(file).target_terms("The dog, (dog) a.b* x\tDOG İ ß")

    words = st.sampled_from(
        ["dog\tHund\n", "İ\tx\n", "a.b*\tx\n", "(\t)\n", "[a\tb\n", "ß\ts\n", "\t\n", "x\n", "\\\t\\\n"]
    )
    fuzz(check, st.lists(words, max_size=4).map("".join).map(str.encode) | st.binary(max_size=20), examples)


@many(slow=2_000)
def test_commands(examples, tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    for command in COMMANDS.values():
        importlib.import_module(command.split(":")[0])
    words = [
        "--out",
        "--out=new",
        "--vocab_size=270",
        "--vocab_size",
        "a.txt",
        "missing.jsonl",
        "--num_beams=0",
        "--fields",
    ]
    words += [
        "--model=unigram",
        "--source",
        "a dog",
        "--adapter=none",
        "--head=9",
        "--layer=-1",
        "--mbr=chrf",
        "--",
        "x.png",
    ]
    (tmp_path / "a.txt").write_text("a dog\n")
    arguments = st.lists(st.sampled_from(words) | FLAG_VALUES, max_size=6)
    commands = st.sampled_from([*COMMANDS, "tokenizer", "tokenizer", "other"])

    def check(value: tuple[str, list[str]]) -> None:
        command, rest = value
        try:
            hf_attn_command([command, *rest])
        except SystemExit as error:
            # argparse has printed the message; 0 is --help.
            assert error.code in (0, 2)

    fuzz(check, st.tuples(commands, arguments), examples)


def test_yaml_without_aliases_and_objects():
    with pytest.raises(ValueError, match=r"the alias `\*a` is not taken, write its value out"):
        read_yaml("a: &a [1]\nb: *a\n")
    with pytest.raises(ValueError, match="could not determine a constructor for the tag"):
        read_yaml("!!python/object/apply:os.system [ls]")
    with pytest.raises(ValueError, match="it is nested too deeply"):
        read_yaml("[" * 1_000)


def test_an_element_of_a_list_is_no_flag(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text('lora_target_modules: ["--trust_remote_code"]\n')
    with pytest.raises(
        ValueError, match=r"`lora_target_modules` in .* must not hold flags, got \['--trust_remote_code'\]"
    ):
        parse_arguments(TYPES, ["--config", str(config)])
