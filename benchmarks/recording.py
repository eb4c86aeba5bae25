# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""What a benchmark leaves: rows in benchmarks/results/DEVICE/BENCH.json, and the tables made of them."""

import json
import os
import platform
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measuring import MIB, Sample, Spread, busy_share, rates, ratios


FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
DOCUMENT = FOLDER / "README.md"
PACKAGES = ("torch", "transformers", "accelerate", "ctranslate2")
HEADER = (
    "what", "ours", "against", "measured", "a CPU second", "goal", "peak memory, MiB", "quality", "command",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """
    One comparison.

    Attributes:
        case: What is measured; names the row within its benchmark.
        ours, peer: The systems, and what each was measured at.
        measured: The number that the goal is about, in `unit`: "×" is how many times faster, or smaller, ours is.
        lowest, highest: Range of `measured` over the rounds.
        unit: "×", "s", "GiB", ..., put behind the number.
        cpu: As `measured`, but per CPU second; `None` where that means nothing.
        goal: The least, or with `is_limit` the most, that `measured` should be; `None`: there is none.
        is_limit: Less is better.
        quality: What shows that no speed was bought with quality.
        memory: Peaks in bytes, ours and the other's.
        command: Measures this row again.
        environment: Machine, versions and date.
        details: Numbers behind the figures.
    """

    case: str
    ours: str
    peer: str
    measured: float
    command: str
    lowest: float | None = None
    highest: float | None = None
    unit: str = "×"
    cpu: float | None = None
    goal: float | None = None
    is_limit: bool = False
    quality: str = ""
    memory: tuple[int, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached; true where there is none."""
        if self.goal is None:
            return True
        return self.measured <= self.goal if self.is_limit else self.measured >= self.goal


def compare(
    case: str,
    ours: tuple[str, Sequence[Sample]],
    peer: tuple[str, Sequence[Sample]],
    unit: str,
    *,
    command: str,
    goal: float | None = None,
    quality: str = "",
    memory: tuple[int, ...] = (),
    details: Mapping[str, Any] | None = None,
) -> Row:
    """
    The row of two systems that were measured in turn.

    Args:
        case, command, goal, quality, memory: As in `Row`.
        ours, peer: Name and rounds of each.
        unit: Of the work, such as "sentences"; figures are work a second.
        details: Further numbers.
    """
    (our_name, our_samples), (peer_name, peer_samples) = ours, peer
    wall = ratios(our_samples, peer_samples)
    has_cpu = all(sample.cpu > 0 for sample in (*our_samples, *peer_samples))
    return Row(
        case=case,
        ours=f"{our_name}: {_figure(rates(our_samples), unit)}",
        peer=f"{peer_name}: {_figure(rates(peer_samples), unit)}",
        measured=wall.median,
        lowest=wall.lowest,
        highest=wall.highest,
        cpu=ratios(our_samples, peer_samples, "cpu").median if has_cpu else None,
        goal=goal,
        quality=quality,
        memory=memory,
        command=command,
        environment=environment(),
        details={
            "ours": [asdict(sample) for sample in our_samples],
            "peer": [asdict(sample) for sample in peer_samples],
            **(details or {}),
        },
    )


def _figure(rate: Spread, unit: str) -> str:
    return f"{_number(rate.median)} {unit}/s"


def _number(value: float) -> str:
    """Three digits, or all of those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def command_line(script: str, **flags: Any) -> str:
    """The command of a row; a flag of `True` has no value, one of `None` or `False` is left out."""
    words = ["python", f"benchmarks/{Path(script).name}"]
    for name, value in flags.items():
        if value is None or value is False:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += [str(part) for part in value] if isinstance(value, (list, tuple)) else [str(value)]
    return shlex.join(words)


def device_name() -> str:
    """The GPU, or else the processor."""
    # torch is slow to import, and not needed to write tables.
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return _processor()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    # Virtual machines hide the model behind the maker's name; family and model number tell it.
    if not any(character.isdigit() for character in name) and "model" in fields:
        name = f"{name} family {fields.get('cpu family', '?')} model {fields['model']}"
    return name


def environment() -> dict[str, Any]:
    """Machine, threads, share of the cores that others took at the start, versions and date."""
    import torch

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "device": device_name(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "busy": busy_share(),
        "system": platform.platform(),
        "versions": versions,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def results_file(bench: str, device: str, folder: Path = RESULTS) -> Path:
    """Where the rows of a benchmark on a device are."""
    return folder / re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") / f"{bench}.json"


def write_rows(bench: str, rows: Iterable[Row], folder: Path = RESULTS) -> Path | None:
    """
    Put rows into the file of their benchmark and device, in place of earlier ones of the same case, and print them.

    Returns:
        The file; `None` where there are no rows.
    """
    new = {row.case: row for row in rows}
    if not new:
        return None
    device = next(iter(new.values())).environment.get("device") or device_name()
    file = results_file(bench, device, folder)
    earlier = {row.case: row for row in read_rows(file)} if file.is_file() else {}
    content = [asdict(row) for row in {**earlier, **new}.values()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(new.values()))
    return file


def read_rows(file: Path) -> list[Row]:
    """The rows of a file."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [Row(**{**row, "memory": tuple(row["memory"])}) for row in rows]


def table(rows: Iterable[Row]) -> str:
    """A Markdown table, without columns that are empty in all rows."""
    cells = [_cells(row) for row in rows]
    shown = [column for column in range(len(HEADER)) if any(row[column] for row in cells)]
    lines = [[HEADER[column] for column in shown], ["---"] * len(shown)]
    lines += [[row[column] for column in shown] for row in cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> list[str]:
    measured = f"{row.measured:.2f} {row.unit}".replace(" ×", "×") if row.unit else f"{row.measured:.3f}"
    if row.lowest is not None and row.highest is not None:
        measured += f" ({row.lowest:.2f} to {row.highest:.2f})"
    goal = ""
    if row.goal is not None:
        bound = f"{'≤' if row.is_limit else '≥'} {row.goal:g} {row.unit}".replace(" ×", "×")
        goal = f"{bound}: {'met' if row.is_met else '**missed**'}"
    return [
        row.case,
        row.ours,
        row.peer,
        measured,
        "" if row.cpu is None else f"{row.cpu:.2f}×",
        goal,
        " / ".join(f"{size / MIB:,.0f}" for size in row.memory),
        row.quality,
        f"`{row.command}`",
    ]


def write_tables(document: Path = DOCUMENT, folder: Path = RESULTS) -> str:
    """
    Put the tables of all results into a document: between `<!-- table BENCH -->` and `<!-- end -->`.

    Returns:
        The document's new text, which is also written.
    """

    def replace(match: re.Match[str]) -> str:
        bench = match.group(1)
        parts = [_section(file) for file in sorted(folder.glob(f"*/{bench}.json"))]
        body = "\n\n".join(parts) if parts else "Not measured yet."
        return f"<!-- table {bench} -->\n{body}\n<!-- end -->"

    text = document.read_text(encoding="utf-8")
    text = re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)
    document.write_text(text, encoding="utf-8")
    return text


def _section(file: Path) -> str:
    rows = read_rows(file)
    return f"{_machine([row.environment for row in rows])}\n\n{table(rows)}"


def _machine(environments: Sequence[Mapping[str, Any]]) -> str:
    """One line on where and when rows were measured."""
    newest = environments[-1]
    dates = sorted({environment["date"] for environment in environments})
    versions = ", ".join(f"{name} {number}" for name, number in newest["versions"].items())
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    busy = max(environment["busy"] for environment in environments)
    return (
        f"**{newest['device']}**, {newest['cores']} cores, of which other processes took {busy:.0%} at the start; "
        f"{versions}; {period}."
    )
