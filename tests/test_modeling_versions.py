# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The range of transformers, what lies outside it, and the cache under both names that transformers has had for it."""

import inspect
import logging
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from hf_attn import HfAttnForConditionalGeneration, HfAttnModel
from hf_attn.modeling_versions import CACHE_NAME, CACHE_NAMES, TESTED_VERSIONS, check_version
from tests.utils import tiny_batch, tiny_config, tiny_model


def test_the_range_is_that_of_the_package():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"transformers{TESTED_VERSIONS}" in tomllib.loads(text)["project"]["dependencies"]


@pytest.mark.parametrize("version", ["4.57.1", "5.0.0rc1", "5.19.9", "5.19.0.dev0"])
def test_an_older_version_is_refused(version):
    with pytest.raises(ImportError, match=rf"need transformers>=5\.20,<5\.25, got {version}\. Run `pip install 'tr"):
        check_version(version)


@pytest.mark.parametrize(
    ("version", "warns"),
    [("5.20.0", False), ("5.20.0.dev0", False), ("5.22.1", False), ("5.24.9", False), ("5.25.0", True), ("6.0", True)],
)
def test_a_newer_version_is_warned_of(version, warns, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("hf_attn"), "propagate", True)
    check_version(version)
    assert [f"got {version}, which may compute something else" in record.message for record in caplog.records] == (
        [True] if warns else []
    )


def test_a_checkpoint_s_own_code_refuses_an_older_version(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    program = (
        "import sys, transformers; sys.modules['hf_attn'] = None; transformers.__version__ = '5.19.0'\n"
        f"transformers.AutoConfig.from_pretrained({str(tmp_path / 'model')!r}, trust_remote_code=True)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert "ImportError: hf_attn models need transformers>=5.20,<5.25, got 5.19.0." in finished.stderr


@pytest.mark.filterwarnings("default:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("model_class", [HfAttnModel, HfAttnForConditionalGeneration])
def test_both_names_are_one_argument(model_class):
    model = tiny_model(tiny_config(decoder_layer_types=["ssru", "full_attention"]), model_class)
    batch = tiny_batch(model.config)
    source, ids = batch["input_ids"], batch["input_ids"].flip(0)
    assert CACHE_NAME in inspect.signature(model.forward).parameters
    whole = model(source, decoder_input_ids=ids, use_cache=False)[0]
    for name in CACHE_NAMES:
        with warnings.catch_warnings(record=True) as caught:
            first = model(source, decoder_input_ids=ids[:, :3], **{name: DynamicCache()})
        assert len(caught) == (name != CACHE_NAME == "cache")
        second = model(source, decoder_input_ids=ids[:, 3:], **{name: first[CACHE_NAME]})
        torch.testing.assert_close(torch.cat([first[0], second[0]], dim=1), whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(TypeError, match="`cache` and `past_key_values` are two names of one argument, got both"):
        model(source, decoder_input_ids=ids, cache=DynamicCache(), past_key_values=DynamicCache())


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("num_beams", [1, 2])
def test_generate_takes_both_names(num_beams):
    model = tiny_model(tiny_config(decoder_layer_types=["lstm", "full_attention"]))
    source = tiny_batch(model.config)["input_ids"]
    expected = model.generate(source, max_new_tokens=8, num_beams=num_beams)
    for name in CACHE_NAMES:
        found = model.generate(
            source, max_new_tokens=8, num_beams=num_beams, **{name: DynamicCache(config=model.config)}
        )
        assert found.tolist() == expected.tolist()
