# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""
Builds an environment of the oldest or the newest version of every dependency, and tests the package there.

    python tests/canary/run.py newest            # all fast tests, and what `use_package.py` computes
    python tests/canary/run.py oldest --short    # only the latter, with the torch of this environment

What the package computes there must be what it computes in the environment that runs this script. Environments are
kept in `.cache/canary/`, and brought up to date by the next run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "canary"
USE_PACKAGE = Path(__file__).with_name("use_package.py")
MARKERS = "not slow and not gpu"
# Losses are rounded by other kernels in another torch; texts are not.
TOLERANCE = 1e-3


def oldest_versions() -> dict[str, str]:
    """The least version of each dependency that a user can have, by name; of developers' tools, the pinned one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    oldest = pinned_versions()
    for group, requirements in groups.items():
        for requirement in requirements if group != "dev" else ():
            match = re.match(r"([\w.-]+)>=([\w.]+)", requirement)
            if match is not None:
                oldest[match[1]] = match[2]
    return oldest


def pinned_versions() -> dict[str, str]:
    """The versions in `constraints.txt`, by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def build(end: str, is_short: bool) -> Path:
    """Installs the package and its dependencies; returns the environment's interpreter."""
    folder = CACHE / (f"{end}-short" if is_short else end)
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    versions = oldest_versions() if end == "oldest" else {}
    if is_short:
        versions["torch"] = pinned_versions()["torch"]
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
    package = str(ROOT) if is_short else f"{ROOT}[dev,plotting]"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--upgrade"]
    command += ["--upgrade-strategy", "eager", "--editable", package]
    # In place of constraints that the machine may have.
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PIP_CONSTRAINT": str(constraints)})
    return python


def computed(python: Path | str) -> dict:
    """What `use_package.py` writes in an environment."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        # A cache of its own: no code of another checkpoint is in it.
        variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": folder}
        subprocess.run([str(python), str(USE_PACKAGE), str(file)], check=True, cwd=ROOT, env=variables)
        return json.loads(file.read_text())


def differences(expected: dict, found: dict) -> list[str]:
    """What differs between the results of two environments, in words."""
    lines = []
    for name, value in expected.items():
        if isinstance(value, float):
            if abs(value - found[name]) > TOLERANCE * abs(value):
                lines.append(f"{name}: {value} here, {found[name]} there")
        elif value != found[name]:
            pairs = [pair for pair in zip(value, found[name], strict=True) if pair[0] != pair[1]]
            lines.append(f"{name}: {len(pairs)} of {len(value)} differ, {pairs[0][0]!r} here, {pairs[0][1]!r} there")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("end", choices=["oldest", "newest"])
    parser.add_argument("--short", action="store_true", help="no tests, and torch of the version in constraints.txt")
    arguments = parser.parse_args()
    python = build(arguments.end, arguments.short)
    expected, found = computed(sys.executable), computed(python)
    there = ", ".join(f"{name} {version}" for name, version in found.pop("versions").items())
    expected.pop("versions")
    lines = differences(expected, found)
    if lines:
        lines.insert(0, f"With the {arguments.end} versions ({there}) the package computes something else:")
        sys.exit("\n".join(lines))
    print(f"{arguments.end}: {', '.join(expected)} equal to those of the pinned versions, with {there}", flush=True)
    if not arguments.short:
        subprocess.run([str(python), "-m", "pytest", "-n", "2", "-q", "-m", MARKERS], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
