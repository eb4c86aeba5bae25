# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The code in the documents: Python blocks run and print what stands beside them, commands and their options exist."""

import argparse
import importlib
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_attn.cli import COMMANDS
from hf_attn.training.parsing import parse_arguments
from tests.test_documents import DOCUMENTS, ROOT


# Python blocks of the documents for users by a line that each has, and why one is not run.
NOT_RUN = {"training.load_model = load_and_freeze": "it trains on a corpus for minutes"}
NEEDS_CORPORA = "from datasets import load_dataset"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def python_blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(document), re.DOTALL | re.MULTILINE)


def promised_output(block: str) -> list[str]:
    """The comments behind `print(...)`, without words before a number."""
    comments = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
    return [re.sub(r"^[\w ]+: (?=[\d.]+$)", "", comment) for comment in comments]


def run_block(block: str, capsys, monkeypatch) -> None:
    """Executes a block in the root of the repository, and compares what it prints with its comments."""
    monkeypatch.chdir(ROOT)
    exec(compile(block, "block", "exec"), {"__name__": "block"})
    printed, promised = capsys.readouterr().out.splitlines(), promised_output(block)
    if promised:
        assert len(printed) == len(promised)
        for line, comment in zip(printed, promised, strict=True):
            rounded = re.fullmatch(r"\d+\.(\d+)", comment)
            assert (f"{float(line):.{len(rounded[1])}f}" if rounded else line) == comment


BLOCKS = [(document, block) for document in ("README.md", "recipes/README.md") for block in python_blocks(document)]
RUN = [case for case in BLOCKS if NEEDS_CORPORA not in case[1] and not any(line in case[1] for line in NOT_RUN)]


@pytest.mark.parametrize(("document", "block"), RUN, ids=lambda value: value.split("\n")[0][:40])
def test_python_blocks_run(document, block, capsys, monkeypatch):
    run_block(block, capsys, monkeypatch)


@pytest.mark.slow
def test_python_blocks_over_the_corpora_run(data_dir, capsys, monkeypatch):
    blocks = [block for _, block in BLOCKS if NEEDS_CORPORA in block]
    assert blocks
    for block in blocks:
        run_block(block.replace("../shared/data", str(data_dir)), capsys, monkeypatch)


def test_python_blocks_that_are_not_run_compile_and_import_what_exists(monkeypatch):
    blocks = [block for _, block in BLOCKS if any(line in block for line in NOT_RUN)]
    assert len(blocks) == len(NOT_RUN)
    for block in blocks:
        compile(block, "block", "exec")
        for module, names in re.findall(r"^from (hf_attn[\w.]*) import (.+)$", block, re.MULTILINE):
            assert all(hasattr(importlib.import_module(module), name.strip()) for name in names.split(","))
        for name in re.findall(r"= training\.(\w+)$", block, re.MULTILINE):
            assert hasattr(importlib.import_module("hf_attn.training"), name)
        for path in re.findall(r'run_path\("(.+?)"', block):
            assert (ROOT / path).is_file()
    assert len(RUN) >= 4


class ParsedError(Exception):
    """A command line was parsed; nothing else of it is run."""


def parsing_only(run: Callable[[], object], monkeypatch) -> None:
    """
    Runs a program up to the point where its command line is parsed.

    Raises:
        ValueError: The command line is refused.
    """
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments, **options):
        parse(parser, *arguments, **options)
        raise ParsedError

    def refuse(parser, message):
        raise ValueError(f"{parser.prog}: {message}")

    with monkeypatch.context() as context, pytest.raises(ParsedError):
        context.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        context.setattr(argparse.ArgumentParser, "error", refuse)
        run()


class CommandChecker:
    """Checks commands as they stand in the documents, each by the parser of the program that it names."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        monkeypatch.chdir(ROOT)
        monkeypatch.syspath_prepend(ROOT / "recipes")
        monkeypatch.syspath_prepend(ROOT / "benchmarks")
        self.project = tomllib.loads(text_of("pyproject.toml"))

    def check(self, command: str) -> None:
        words = shlex.split(command)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words.pop(0)
        program, arguments = words[0].rsplit("/", 1)[-1], words[1:]
        checks = {
            "make": self.make,
            "accelerate": self.accelerate,
            "torchrun": self.torchrun,
            "hf-attn": self.hf_attn,
            "python": self.python,
            "pytest": self.pytest,
            "pip": self.pip,
        }
        if program in checks:
            checks[program](arguments)
        elif program not in ("python3", ".", "cmp", "pre-commit", "mlinter", "ruff"):
            raise ValueError(f"no check knows the program {program!r}")

    def make(self, arguments: list[str]) -> None:
        targets = re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE)
        for word in arguments:
            if word not in targets and "=" not in word:
                raise ValueError(f"`make {word}`: no such target")

    def accelerate(self, arguments: list[str]) -> None:
        if arguments[0] != "launch":
            raise ValueError(f"`accelerate {arguments[0]}` is not used here")
        arguments = arguments[1:]
        if arguments[:1] == ["--config_file"]:
            self.file(arguments[1])
            arguments = arguments[2:]
        if arguments:
            self.recipe(arguments)

    def torchrun(self, arguments: list[str]) -> None:
        while arguments[0].startswith("--"):
            arguments = arguments[2:]
        self.recipe(arguments)

    def recipe(self, arguments: list[str]) -> None:
        place, *flags = arguments
        if place == "recipes/":
            place, *flags = f"recipes/{flags[0]}.py", *flags[1:]
        self.file(place)
        recipe = importlib.import_module(Path(place).stem)
        flags = [str(recipe.DEFAULT_CONFIG) if flag == "FILE.yaml" else flag for flag in flags]
        for flag in flags:
            if flag.endswith(".yaml"):
                self.file(flag)
        parse_arguments(recipe.ARGUMENTS, flags, recipe.DEFAULT_CONFIG)

    def hf_attn(self, arguments: list[str]) -> None:
        command, *arguments = arguments
        module, function = COMMANDS[command].split(":")
        if not arguments:  # the name of the command alone
            return
        parsing_only(lambda: getattr(importlib.import_module(module), function)(arguments), self.monkeypatch)

    def python(self, arguments: list[str]) -> None:
        if arguments[:2] == ["-m", "pytest"]:
            self.pytest(arguments[2:])
            return
        if arguments[0] == "-m":
            module, arguments = arguments[1], arguments[2:]
            place = f"{module.replace('.', '/')}.py"
        else:
            place, arguments = arguments[0], arguments[1:]
        self.file(place)
        if arguments:
            self.monkeypatch.setattr(sys, "argv", [place, *arguments])
            parsing_only(lambda: runpy.run_path(place, run_name="__main__"), self.monkeypatch)

    def pytest(self, arguments: list[str]) -> None:
        parser = argparse.ArgumentParser(prog="pytest", exit_on_error=False)
        parser.add_argument("-n", type=int)
        parser.add_argument("-m", default="")
        parser.add_argument("-k")
        parser.add_argument("places", nargs="*")
        parsed = parser.parse_args(arguments)
        markers = [line.split(":")[0] for line in self.project["tool"]["pytest"]["ini_options"]["markers"]]
        for word in re.findall(r"\w+", parsed.m):
            if word not in (*markers, "not", "and", "or"):
                raise ValueError(f"`-m {parsed.m}`: no such marker")
        for place in parsed.places:
            self.file(place.split("::")[0])

    def pip(self, arguments: list[str]) -> None:
        extras = {*self.project["project"]["optional-dependencies"]}
        for word in arguments:
            for extra in re.findall(r"^\.\[(.*)\]$", word):
                if unknown := {name.strip() for name in extra.split(",")} - extras:
                    raise ValueError(f"`{word}`: no such extra: {unknown}")
        if "-c" in arguments:
            self.file(arguments[arguments.index("-c") + 1])

    def file(self, place: str) -> None:
        if not (ROOT / place).exists():
            raise ValueError(f"{place} is not there")


PROGRAMS = ("make ", "accelerate launch ", "torchrun ", "hf-attn ", "python ", "pytest ", "pip install ")
PROGRAMS += (".venv/bin/", "python3 ", "cmp ")


def commands_of(document: str) -> Iterator[str]:
    """The commands of the shell blocks and of the code within the text, without comments and continuation lines."""
    # The worked examples are applied to a copy in their own test.
    text = text_of(document).split("\n## Adding ")[0]
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield from re.split(r" && ", re.sub(r"(^|\s+)#.*", "", line).strip())
    without_blocks = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", without_blocks):
        one_line = " ".join(code.split())
        if one_line.startswith(PROGRAMS):
            yield one_line


def written_out(command: str) -> list[str]:
    """A command with every option that it shows, once for each alternative and each file that a placeholder means."""
    command = re.sub(r"\s(<|>)\s\S+", "", command)  # redirections
    command = command.replace("[--", "--").replace("]", "").replace(" ...", " --train_file rows.jsonl.gz")
    command = re.sub(r"(--num_beams|--kills) N\b", r"\1 2", command)
    choice = re.search(r"(\S+)\|(\S+)", command)
    if choice:
        return [command.replace(choice[0], one) for one in (choice[1], choice[2])]
    placeholder = re.search(r"\S*<\w+>\S*", command)
    if placeholder:
        files = sorted(ROOT.glob(re.sub(r"<\w+>", "*", placeholder[0])))
        if placeholder[0].endswith("/<config>.yaml"):  # any recipe: each has its own command on its first line
            return [file.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ") for file in files]
        return [command.replace(placeholder[0], str(file.relative_to(ROOT))) for file in files]
    return [command]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document, monkeypatch):
    checker = CommandChecker(monkeypatch)
    faults = []
    for command in commands_of(document):
        if not command:
            continue
        meant = written_out(command)
        if not meant:
            faults.append(f"{command}: no file is meant")
        for one in meant:
            try:
                checker.check(one)
            except (ValueError, OSError, KeyError, argparse.ArgumentError) as error:
                faults.append(f"{one}: {error}")
    assert not faults, "\n".join(faults)


def test_documents_hold_commands():
    counts = {document: sum(map(bool, commands_of(document))) for document in DOCUMENTS}
    assert counts["README.md"] > 30 and counts["recipes/README.md"] > 15 and counts["benchmarks/README.md"] > 15


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("make tset", "no such target"),
        ("accelerate launch recipes/translate.py", "recipes/translate.py is not there"),
        ("accelerate launch recipes/ translation --num_beans 4", "`--num_beans` is not a flag"),
        ("accelerate launch recipes/translation.py --config recipes/configs/none.yaml", "none.yaml is not there"),
        ("hf-attn generate MODEL --quick", "unrecognized arguments: --quick"),
        ("hf-attn attention MODEL", "the following arguments are required: --source"),
        ("python benchmarks/bench_decoding.py --slow", "unrecognized arguments: --slow"),
        ("pytest -m slowly tests", "no such marker"),
        ("pytest tests/test_nothing.py", "tests/test_nothing.py is not there"),
        ('pip install -e ".[deev]"', "no such extra"),
        ("pretend --all", "no check knows the program 'pretend'"),
    ],
)
def test_a_command_that_does_not_exist_is_found(command, message, monkeypatch):
    with pytest.raises(ValueError, match=re.escape(message)):
        CommandChecker(monkeypatch).check(command)
