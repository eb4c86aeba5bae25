# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""YAML files and flags become dataclasses; anything unknown or ill-typed is refused by name."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hf_attn.training import DataArguments, ModelArguments, RecipeTrainingArguments, parse_arguments


@dataclass
class Fruit:
    weight: float = 1.0
    num_seeds: int = 3
    is_ripe: bool = False
    colors: list[str] | None = None
    owner: str | None = None


@dataclass
class Basket:
    options: dict | str | None = field(default=None)
    model_name_or_path: str | None = None


def parse(*arguments: str, **keywords):
    (fruit, basket), values = parse_arguments((Fruit, Basket), arguments, **keywords)
    return fruit, basket, values


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "fruit.yaml"
    file.write_text("# launch\nweight: 5e-3\nis_ripe: true\ncolors: [red, green]\nowner: null\n", encoding="utf-8")
    return str(file)


def test_flags_win_over_the_file(config):
    fruit, _, values = parse("--config", config, "--num_seeds", "7", "--is_ripe", "false")
    assert fruit == Fruit(weight=0.005, num_seeds=7, is_ripe=False, colors=["red", "green"])
    assert values == {"weight": 0.005, "num_seeds": 7, "colors": ["red", "green"]}


def test_config_may_stand_behind_other_flags(config):
    fruit, _, _ = parse("--weight", "2", f"--config={config}")
    assert fruit.weight == 2.0 and fruit.is_ripe


def test_checkpoint_on_the_command_line_puts_fresh_weights_in_the_file_out_of_use(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model_config: hybrid_tiny\nconfig_overrides: dropout=0.3\ntrain_file: a.json\n", encoding="utf-8")
    types = (ModelArguments, DataArguments)
    (model, data), _ = parse_arguments(types, ["--config", str(file), "--model_name_or_path", "x"])
    assert (model.model_name_or_path, model.model_config, model.config_overrides) == ("x", None, None)
    (model, data), _ = parse_arguments(types, ["--config", str(file), "--model_config=luong2015", "--dataset_name=y"])
    assert (model.model_config, model.config_overrides) == ("luong2015", "dropout=0.3")
    assert (data.dataset_name, data.train_file) == ("y", None)


BUDGETS = "tokens_per_batch: 512\ntokens_per_update: 1024\n"
SIZES = "per_device_train_batch_size: 4\ngradient_accumulation_steps: 2\n"


@pytest.mark.parametrize(
    ("text", "flags", "kept"),
    [
        (BUDGETS, ["--gradient_accumulation_steps=2"], (8, 512, None, 2)),
        (BUDGETS, ["--per_device_train_batch_size=4"], (4, None, None, 1)),
        (SIZES, ["--tokens_per_batch=512"], (8, 512, None, 2)),
        (SIZES, ["--tokens_per_batch=512", "--tokens_per_update=1536"], (8, 512, 1536, 3)),
    ],
)
def test_sizes_of_batches_on_the_command_line_put_others_in_the_file_out_of_use(tmp_path, text, flags, kept):
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    (args,), _ = parse_arguments((RecipeTrainingArguments,), ["--config", str(file), *flags, "--use_cpu"])
    names = "per_device_train_batch_size", "tokens_per_batch", "tokens_per_update", "gradient_accumulation_steps"
    assert tuple(getattr(args, name) for name in names) == kept


def test_dictionaries_travel_as_json(tmp_path):
    file = tmp_path / "basket.yaml"
    file.write_text("options: {size: 3}\n", encoding="utf-8")
    assert parse("--config", str(file))[1].options == '{"size": 3}'


def test_default_config_is_used_unless_the_command_line_describes_a_run(config):
    assert parse("--num_seeds", "7", default_config=config)[0] == Fruit(0.005, 7, True, ["red", "green"])
    assert parse("--model_name_or_path", "x", default_config=config)[0] == Fruit()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_seed", "3"], r"`--num_seed` is not a flag of this recipe \(did you mean `--num_seeds`\?\)"),
        (["--wieght=3"], r"`--wieght=3` is not a flag of this recipe \(did you mean `--weight`\?\)"),
        (["--num_seeds", "many"], "`num_seeds`: invalid int value: 'many'"),
        (["--config"], "`--config` needs the name of a YAML file"),
    ],
)
def test_unknown_flags_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        parse(*arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_sedes: 3", r"`num_sedes` in .* is not a key of this recipe \(did you mean `num_seeds`\?\)"),
        ("num_seeds: 3.5", "`num_seeds`: invalid int value: '3.5'"),
        ("- weight", "must hold `key: value` lines, got list"),
        ("weight: [", "is not valid YAML"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        parse("--config", str(file))


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"`config` must name a YAML file, got 'no\.yaml'"):
        parse("--config", "no.yaml")
