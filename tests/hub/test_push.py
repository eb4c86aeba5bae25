# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""A recipe pushes to a Hub on loopback; a process without the package loads it; pushes that fail harm nothing."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

from hf_attn.training import record_run, resume_or_refuse
from hf_attn.training.trainer.hub import NOT_PUSHED, claim_repository, push_directory
from tests.hub.hub_server import TOKEN, Hub, Repository
from tests.recipes.launching import RECIPES, REPOSITORY, SHAPE


# Two processes that import everything may take minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def hub(monkeypatch):
    """A Hub that this process speaks to."""
    with Hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def environment(server: Hub, home: Path, **variables: str) -> dict[str, str]:
    """Of a process that speaks to it, with an empty cache."""
    changed = {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_TOKEN": TOKEN}
    return {**os.environ, **changed, **variables}


def run(arguments: list[str], variables: dict[str, str], folder: Path) -> None:
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """The Hub after a model and an adapter were pushed, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    script = Path(__file__).with_name("push_with_package.py")
    with Hub() as server:
        path = os.pathsep.join([str(RECIPES), str(REPOSITORY)])
        run([str(script), str(folder), TOKEN], environment(server, folder / "home", PYTHONPATH=path), folder)
        yield server, folder


def test_a_process_without_the_package_loads_what_was_pushed(pushed):
    server, folder = pushed
    script = Path(__file__).with_name("load_from_hub.py")
    run(["-I", str(script), str(folder)], environment(server, folder / "other_home"), folder)


def test_pipelines_load_models_and_adapters_from_the_hub(pushed):
    _, folder = pushed
    results = json.loads((folder / "pipelines.json").read_text())
    for name in ("translator", "adapter"):
        assert results[f"hub-{name}"] == results[f"here-{name}"]
        assert [list(output) for output in results[f"hub-{name}"]] == [["translation_text"]] * 3


def test_one_commit_holds_what_others_need_and_nothing_else(pushed):
    server, folder = pushed
    translator, adapter = server.repositories["ann/translator"], server.repositories["ann/adapter"]
    assert translator.private and not adapter.private
    assert translator.commits == adapter.commits == ["initial commit", "End of training"]
    for repository, weights in ((translator, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        wanted = {weights, "README.md", "tokenizer.json", "generation_config.json", "all_results.json"}
        assert wanted <= repository.files.keys()
        assert not {"training_args.bin", "run.json", "hub.json", "trainer_state.json"} & repository.files.keys()
        for name, content in repository.files.items():
            assert TOKEN.encode() not in content, name
            assert str(folder).encode() not in content, name
    assert "modeling_hf_attn.py" in translator.files
    for name in ("translator", "adapter"):
        # It is pickled there with the other arguments.
        assert TOKEN.encode() not in (folder / name / "training_args.bin").read_bytes()


def test_cards(pushed):
    server, folder = pushed
    for name in ("translator", "adapter"):
        card = ModelCard(server.repositories[f"ann/{name}"].files["README.md"].decode())
        assert card.data.license == "cc-by-2.0" and card.data.language == ["en", "de"]
        assert card.data.model_name == name and card.data.pipeline_tag == "translation"
        assert {result.metric_type for result in card.data.eval_results} >= {"bleu", "chrf"}
        for text in (
            f'from_pretrained("ann/{name}")',
            "accelerate launch recipes/translation.py --",
            "On CPU (",
            "## Limits",
        ):
            assert text in card.text
        assert "Training data: train.jsonl." in card.text and str(folder) not in card.content
        assert "hub_token" not in card.text
    assert "Of the base: cc-by-2.0." in card.text
    assert card.data.library_name == "peft" and card.data.base_model == "ann/translator"


def arguments_of(folder: Path, *more: str) -> list[str]:
    """A run of the recipe that trains nothing for long."""
    rows = [{"en": f"one {row}", "de": f"eins {row}"} for row in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--model_config=transformer_tiny", f"--config_overrides={SHAPE}", "--vocab_size=280", "--max_steps=1"]
    flags += [f"--train_file={folder / 'rows.jsonl'}", f"--output_dir={folder / 'run'}", "--use_cpu", "--push_to_hub"]
    return [*flags, "--save_strategy=no", *more]


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("translation")


def test_a_rejected_token_stops_the_run_before_it_writes(hub, recipe, tmp_path):
    message = "`hub_token` must be a token that the Hub accepts, .* rejects this one, .*Invalid username or password"
    with pytest.raises(ValueError, match=message) as caught:
        recipe.main(arguments_of(tmp_path, "--hub_token=hf_wrong", "--hub_model_id=ann/new"))
    assert "hf_wrong" not in str(caught.value)
    assert not (tmp_path / "run").exists() and not hub.repositories


def test_the_network_gone_in_the_middle_of_a_push(hub, recipe, tmp_path):
    hub.fails_at = "/commit/"
    arguments = arguments_of(tmp_path, "--hub_model_id=ann/new")
    with pytest.raises(
        RuntimeError, match=r"The push to 'ann/new' failed: .*lies whole in .* To push it again:"
    ) as caught:
        recipe.main(arguments)
    for name in ("model.safetensors", "tokenizer.json", "README.md", "all_results.json"):
        assert (tmp_path / "run" / name).is_file()
    assert list(hub.repositories["ann/new"].files) == [".gitattributes"]

    # The command in the message pushes all of it.
    hub.fails_at = None
    command = shlex.split(re.search(r"^ +(hf upload .*)$", str(caught.value), re.MULTILINE)[1])
    run(["-m", "huggingface_hub.cli.hf", *command[1:]], environment(hub, tmp_path / "home"), tmp_path)
    uploaded = hub.repositories["ann/new"].files
    assert {"model.safetensors", "README.md"} <= uploaded.keys()
    assert not {"training_args.bin", "run.json", "hub.json", "trainer_state.json"} & uploaded.keys()

    # So does the same run again, whose repository it is.
    hub.repositories["ann/new"].files.pop("README.md")
    recipe.main(arguments)
    assert hub.repositories["ann/new"].files.keys() == uploaded.keys()
    assert hub.repositories["ann/new"].commits[-1] == "End of training"


def test_names_that_are_taken(hub, tmp_path):
    hub.repositories["ann/other"] = Repository(files={"config.json": b"{}", ".gitattributes": b""})
    hub.repositories["bob/model"] = Repository(files={"config.json": b"{}"})
    taken = (
        r"`hub_model_id` must be new or empty, got 'ann/other', which is taken: it holds config.json, not of this run"
    )
    for name in ("ann/other", "other"):
        with pytest.raises(ValueError, match=taken):
            claim_repository(name, tmp_path)
    forbidden = (
        "`hub_model_id` must be a name that the token may write to, got 'bob/model', which is forbidden or taken"
    )
    with pytest.raises(ValueError, match=forbidden):
        claim_repository("bob/model", tmp_path)
    with pytest.raises(ValueError, match="`hub_model_id` must be `user/name`, got 'a/b/c'"):
        claim_repository("a/b/c", tmp_path)
    hub.repositories["ann/empty"] = Repository()
    assert claim_repository("empty", tmp_path) == "ann/empty"
    assert hub.repositories["ann/other"].files["config.json"] == b"{}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ['{"endpoint": "ht', "[]"])
def test_a_damaged_record_of_the_repository_is_named(hub, tmp_path, content):
    record = tmp_path / "hub.json"
    record.write_text(content)
    with pytest.raises(ValueError, match=rf"`output_dir`: the record '{record}' (is not valid json|must hold a json)"):
        claim_repository("new", tmp_path)
    assert not hub.repositories


def test_there_must_be_something_to_push(hub, tmp_path):
    repository = claim_repository("new", tmp_path)
    (tmp_path / "run.json").write_text("{}")
    message = "`output_dir` must be a directory with files to push, got"
    for folder, kind in ((tmp_path, "one without any but those that stay"), (tmp_path / "none", "no directory")):
        with pytest.raises(ValueError, match=f"{message} '{folder}', {kind}"):
            push_directory(folder, repository)
    assert hub.repositories[repository].commits == ["initial commit"]


def test_a_hub_that_does_not_answer(hub, tmp_path, monkeypatch):
    hub.fails_at = "/api/"
    with pytest.raises(ConnectionError, match=r"`push_to_hub` needs the Hub, and .* Nothing was trained or written"):
        claim_repository("new", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="offline mode is enabled"):
        claim_repository("new", tmp_path)


def test_a_data_set_that_changed_is_noticed_by_its_commit(hub, tmp_path):
    hub.repositories["ann/pairs"] = Repository()
    values = {"dataset_name": "ann/pairs"}
    record_run(tmp_path, values)
    before = hub.repositories["ann/pairs"].sha
    assert resume_or_refuse(tmp_path, values) is None
    hub.repositories["ann/pairs"].files["train.jsonl"] = b"{}"
    after = hub.repositories["ann/pairs"].sha
    with pytest.raises(ValueError, match=f"`dataset_name` 'ann/pairs' was commit {before} and is commit {after}"):
        resume_or_refuse(tmp_path, values)
    # Without a network the cache serves what it has.
    hub.fails_at = "/api/"
    assert resume_or_refuse(tmp_path, values) is None


def test_no_file_of_this_machine_is_pushed(hub, tmp_path):
    kept = ["model.safetensors", "plots/training_curves.png", "merged/model.safetensors"]
    left = ["checkpoint-3/model.safetensors", "runs/log", "run.json", "merged/training_args.bin", "_private"]
    for name in [*kept, *left]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert push_directory(tmp_path, claim_repository("new", tmp_path)) == f"{hub.endpoint}/ann/new"
    assert sorted(hub.repositories["ann/new"].files) == sorted([".gitattributes", *kept])
    assert len(NOT_PUSHED) >= 7


def test_pushes_of_checkpoints_run_beside_the_training(hub, recipe, tmp_path):
    arguments = arguments_of(tmp_path, "--hub_model_id=ann/new", "--hub_strategy=checkpoint", "--hub_always_push")
    recipe.main([*arguments, "--max_steps=2", "--save_strategy=steps", "--save_steps=1"])
    repository = hub.repositories["ann/new"]
    assert repository.commits == [
        "initial commit",
        "Training in progress, step 1",
        "Training in progress, step 2",
        "End of training",
    ]
    assert "last-checkpoint/optimizer.pt" in repository.files and "optimizer.pt" not in repository.files
    assert not any(name.endswith("training_args.bin") for name in repository.files)
