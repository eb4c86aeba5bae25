# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The worked example of CONTRIBUTING, applied to a copy: three places are touched, and all fast tests pass."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


@pytest.fixture
def copy(tmp_path) -> Path:
    """The files that git knows, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    # transformers' own tests need not be fetched again.
    if (ROOT / ".cache").is_dir():
        (tmp_path / ".cache").symlink_to(ROOT / ".cache")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def put_before(file: Path, place: str, text: str) -> None:
    content = file.read_text(encoding="utf-8")
    assert content.count(place) == 1
    file.write_text(content.replace(place, text + place), encoding="utf-8")


def section(title: str) -> str:
    return CONTRIBUTING.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_adding_an_attention_score(copy):
    text = section("Adding an attention score")
    module = textwrap.dedent(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    line, row = re.findall(r"`(\"cosine\": [^`]*)`", text)
    put_before(copy / "hf_attn/modeling_attention.py", "class FixedContext(", f"{module}\n\n")
    put_before(copy / "hf_attn/configuration_hf_attn.py", '    "none": CrossAttentionType(', f"    {line},\n")
    put_before(copy / "tests/utils.py", '    "sliding": {', f"    {row},\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", "-m", "not slow and not gpu"],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:]
