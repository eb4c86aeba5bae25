# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The test classes that transformers keeps for its own models, from the sources of the installed version."""

import importlib
import os
import subprocess
import sys
import tarfile
import types
from pathlib import Path
from typing import IO, cast

import transformers
from filelock import FileLock


CACHE = Path(__file__).resolve().parents[2] / ".cache" / f"transformers-{transformers.__version__}"
PACKAGE = "transformers_tests"
# Imported by the suite, but left out of the source distribution. The classes are empty here, so what they test is not
# tested; the keywords are those that a `PretrainedConfig` must keep.
ABSENT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {
        "config_common_kwargs": {
            "return_dict": False,
            "output_hidden_states": True,
            "output_attentions": True,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "architectures": ["HfAttnModel"],
            "id2label": {0: "label"},
            "label2id": {"label": "0"},
            "problem_type": "regression",
        }
    },
}


class SuiteUnavailableError(Exception):
    """The suite cannot be had; the message says why."""


def fetch() -> Path:
    """
    The folder with transformers' tests, downloaded by pip on first use.

    Raises:
        SuiteUnavailableError: pip fails, or the source distribution has no tests.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / ".lock"):
        if not (CACHE / "tests" / "test_modeling_common.py").is_file():
            _download()
    return CACHE / "tests"


def _download() -> None:
    requirement = f"transformers=={transformers.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    command += ["--retries", "1", "--dest", str(CACHE), requirement]
    try:
        # One process: what the tests set for themselves is nothing to pip.
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=240, env=dict(os.environ))
    except (subprocess.SubprocessError, OSError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise SuiteUnavailableError(f"pip cannot fetch the sources of {requirement}: {' '.join(reason)}") from error
    for archive in CACHE.glob("*.tar.gz"):
        with tarfile.open(archive) as sources:
            # Python before 3.11.4 has no safe `extract`.
            for member in sources.getmembers():
                _, _, inner = member.name.partition("/")
                if member.isfile() and inner.startswith("tests/") and ".." not in inner.split("/"):
                    (CACHE / inner).parent.mkdir(parents=True, exist_ok=True)
                    (CACHE / inner).write_bytes(cast(IO[bytes], sources.extractfile(member)).read())
        archive.unlink()
    (CACHE / "tests" / "__init__.py").touch()  # one of its modules runs it
    if not (CACHE / "tests" / "test_modeling_common.py").is_file():
        raise SuiteUnavailableError(f"the sources of {requirement} hold no tests/test_modeling_common.py")


def load(name: str) -> types.ModuleType:
    """
    Imports a module of transformers' tests, such as `"test_modeling_common"`, under a package name of its own.

    Raises:
        SuiteUnavailableError: The suite cannot be fetched.
    """
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(fetch())]
        sys.modules[PACKAGE] = package
        for module_name, contents in ABSENT.items():
            folder = f"{PACKAGE}.{module_name.split('.')[0]}"
            sys.modules[folder] = types.ModuleType(folder)
            sys.modules[folder].__path__ = []
            stand_in = types.ModuleType(f"{PACKAGE}.{module_name}")
            vars(stand_in).update(contents)
            sys.modules[stand_in.__name__] = stand_in
    return importlib.import_module(f"{PACKAGE}.{name}")
