# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The worked examples of CONTRIBUTING, each applied to a copy: the places that it names change, and all tests pass."""

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
LINT = (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["mlinter", "--no-cache", "hf_attn/"])


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def copy(tmp_path) -> Path:
    """The working tree without what git ignores, committed."""
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "before")
    # transformers' own tests need not be fetched again.
    if (ROOT / ".cache").is_dir():
        (tmp_path / ".cache").symlink_to(ROOT / ".cache")
        (tmp_path / ".git" / "info" / "exclude").write_text("/.cache\n", encoding="utf-8")
    return tmp_path


class Section:
    """A section of CONTRIBUTING."""

    def __init__(self, title: str):
        text = CONTRIBUTING.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]
        self.blocks = [textwrap.dedent(block) for block in re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)]
        self.items = re.findall(r"^(?:\d\. | {3}).*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)

    @property
    def places(self) -> set[str]:
        """The files that its list names."""
        return set(re.findall(r"`(\w+/[\w/]+\.\w+)`", "\n".join(self.items)))

    def entry(self, start: str) -> str:
        """The one line of code in its list, outside blocks, that starts like this."""
        (found,) = re.findall(rf"`({re.escape(start)}[^`]*)`", "\n".join(self.items))
        return found


def replace(file: Path, old: str, new: str) -> None:
    content = file.read_text(encoding="utf-8")
    assert content.count(old) == 1
    file.write_text(content.replace(old, new), encoding="utf-8")


def append(file: Path, code: str) -> None:
    file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{code}", encoding="utf-8")


def put_first(file: Path, code: str) -> None:
    """Put code before the first function of a module."""
    content = file.read_text(encoding="utf-8")
    start = re.search(r"^def ", content, re.MULTILINE).start()
    file.write_text(f"{content[:start]}{code}\n\n{content[start:]}", encoding="utf-8")


def add_to(collection: str, entry: str, folder: Path) -> None:
    """Add a line to a collection in capitals, one entry a line, in whichever module under the folder makes it."""
    opening = re.compile(rf"^{collection}(?:: .+)? = [({{]\n", re.MULTILINE)
    files = [folder] if folder.is_file() else sorted(folder.glob("*.py"))
    (file,) = [file for file in files if opening.search(file.read_text(encoding="utf-8"))]
    content = file.read_text(encoding="utf-8")
    end = re.compile(r"^[)}]", re.MULTILINE).search(content, opening.search(content).end()).start()
    file.write_text(f"{content[:end]}    {entry},\n{content[end:]}", encoding="utf-8")


def add_score(copy: Path, section: Section) -> None:
    module, reference = section.blocks
    append(copy / "hf_attn/modeling_attention.py", module)
    add_to("CROSS_ATTENTION_TYPES", section.entry('"cosine": CrossAttentionType('), copy / "hf_attn")
    add_to("MATRIX", section.entry('"cosine": {'), copy / "tests/utils.py")
    tests = copy / "tests/test_modeling_attention.py"
    put_first(tests, reference)
    add_to("REFERENCES", section.entry('"cosine": ("'), tests)


def add_layer_type(copy: Path, section: Section) -> None:
    module, reference = section.blocks
    append(copy / "hf_attn/modeling_recurrent.py", module)
    add_to("LAYER_TYPES", section.entry('"average": LayerType('), copy / "hf_attn")
    add_to("MATRIX", section.entry('"average": {'), copy / "tests/utils.py")
    tests = copy / "tests/test_modeling_recurrent.py"
    imports = "from hf_attn.modeling_recurrent import (\n"
    replace(tests, imports, f"{imports}    AverageMixer,\n")
    put_first(tests, reference)
    add_to("NAIVE", section.entry("AverageMixer: "), tests)


def add_task(copy: Path, section: Section) -> None:
    record, *files = section.blocks
    replace(copy / "hf_attn/tasks.py", "TASKS = (\n", f"{record}TASKS = (\n")
    add_to("TASKS", "QUESTION_GENERATION", copy / "hf_attn/tasks.py")
    names = ["question_generation.py", "configs/quickstart_question_generation.yaml"]
    names = [*(f"recipes/{name}" for name in names), "tests/recipes/test_question_generation.py"]
    for name, content in zip(names, files, strict=True):
        assert not (copy / name).exists()
        (copy / name).write_text(content, encoding="utf-8")
    last = "accelerate launch recipes/pretrain.py "
    replace(copy / "recipes/README.md", last, f"{section.entry('accelerate launch ')}\n{last}")


EXAMPLES = {
    "Adding an attention score": add_score,
    "Adding a layer type": add_layer_type,
    "Adding a task": add_task,
}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("title", EXAMPLES)
def test_example(title, copy):
    section = Section(title)
    EXAMPLES[title](copy, section)
    changed = {line[3:] for line in git(copy, "status", "--porcelain", "--untracked-files=all").splitlines()}
    assert changed == section.places and len(changed) >= 4
    removed = [line.split("\t")[1] for line in git(copy, "diff", "--numstat").splitlines()]
    assert set(removed) == {"0"}
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    for command in LINT:
        run([str(Path(sys.executable).parent / command[0]), *command[1:]], copy, environment)
    fast = ["-n", "2", "-q", "-m", "not slow and not gpu"]
    run([sys.executable, "-m", "pytest", *fast], copy, environment)
    git(copy, "add", "--all")
    assert {line[3:] for line in git(copy, "status", "--porcelain").splitlines()} == section.places


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-5000:]
