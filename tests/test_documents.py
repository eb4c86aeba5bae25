# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What the documents say of files, configs and measured rows is what is there."""

import fnmatch
import json
import re
from pathlib import Path

import pytest

from benchmarks.compare_adapters import VARIANTS, table


ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "README.md"
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "model_card.md", "recipes/README.md", "benchmarks/README.md"]
DOCUMENTS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document):
    place = ROOT / document
    text = re.sub(r"```.*?```", "", place.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    missing = [target for target in targets if not (place.parent / target).exists()]
    assert not missing


def test_documents_hold_links():
    texts = [(ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS]
    assert sum(len(re.findall(r"\]\(", text)) for text in texts) > 20


def test_every_config_is_described():
    patterns = re.findall(r"`([\w*]+\.yaml)`", RECIPES.read_text(encoding="utf-8"))
    configs = [path.name for path in sorted((ROOT / "recipes" / "configs").glob("*.yaml"))]
    assert len(configs) > 20
    assert not [name for name in configs if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert not [pattern for pattern in patterns if not fnmatch.filter(configs, pattern)]


def test_the_table_of_adapters_is_what_was_measured():
    rows = json.loads((ROOT / "benchmarks" / "results" / "adapters.json").read_text(encoding="utf-8"))
    assert len(rows) > 20 and {row["variant"] for row in rows} <= set(VARIANTS)
    measured = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(rows).splitlines()[2:]]
    tasks = {row["task"] for row in rows}
    lines = [line for line in RECIPES.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    written = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cells for cells in written if cells[0] in tasks] == measured
