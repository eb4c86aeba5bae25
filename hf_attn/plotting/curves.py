# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Curves: the course of a training run, and BLEU against sentence length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

from .figures import INK, LINE_COLORS, LINE_MARKERS, MUTED, axes_grid, new_figure, style_line_axes


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Entries of Trainer's evaluation that measure the machine, not the model.
_NOT_OF_MODEL = ("_loss", "_runtime", "_per_second", "_gen_len", "_preparation_time", "_compilation_time")


def _series(log_history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of the entries that hold a finite number under `name`."""
    points = [
        (entry["step"], float(entry[name]))
        for entry in log_history
        if "step" in entry and isinstance(entry.get(name), Real) and math.isfinite(entry[name])
    ]
    return [step for step, _ in points], [value for _, value in points]


def _metric_names(log_history: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(
        name
        for entry in log_history
        for name, value in entry.items()
        if name.startswith("eval_") and isinstance(value, Real) and not name.endswith(_NOT_OF_MODEL)
    )
    return list(names)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=10, labelcolor=INK)


def training_curves(log_history: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> Figure:
    """The curves of the losses of a run, and beside them of its metrics, each with its last and highest value named.

    Args:
        log_history: `log_history` of `trainer_state.json`: one dict a logged step, with `step` (optimizer steps) and
            `loss`, `eval_loss`, `eval_bleu`, ...
        metrics: Names of the metrics to draw, such as `["eval_bleu"]`; default: each number under `eval_` that is no
            loss, time or speed.

    Returns:
        A figure of one panel for the losses, one for the metrics, and one for metrics that stay within 1.

    Raises:
        ValueError: No entry has a loss or a metric, or none has one of `metrics`.
        ImportError: matplotlib is not installed.
    """
    names = _metric_names(log_history) if metrics is None else list(metrics)
    losses = {
        label: _series(log_history, name)
        for name, label in (("loss", "training"), ("eval_loss", "evaluation"))
        if _series(log_history, name)[0]
    }
    values = {name: _series(log_history, name) for name in names}
    missing = [name for name, (steps, _) in values.items() if not steps]
    if missing:
        raise ValueError(
            f"`metrics` must be in `log_history`, got {', '.join(missing)}; there are: "
            f"{', '.join(_metric_names(log_history)) or 'none'}"
        )
    if not losses and not values:
        raise ValueError(
            "`log_history` must have an entry with `step` and one of `loss`, `eval_loss` or a metric under `eval_`, "
            f"got {len(log_history)} entries without"
        )
    # Metrics out of 1 would lie flat on the axis of metrics out of 100.
    panels = {
        "Evaluation": {name: series for name, series in values.items() if max(series[1]) > 1},
        "Evaluation, out of 1": {name: series for name, series in values.items() if max(series[1]) <= 1},
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    num_panels = bool(losses) + len(panels)
    figure = new_figure(5.2 * num_panels, 3.8)
    grid = iter(axes_grid(figure, 1, num_panels).flat)
    if losses:
        axes = next(grid)
        for (label, (steps, points)), color in zip(losses.items(), LINE_COLORS, strict=False):
            axes.plot(steps, points, color=color, linewidth=1.8, label=label, marker="o" if len(steps) == 1 else None)
        axes.set_ylabel("loss per token (nats)", fontsize=10, color=INK)
        axes.set_title("Loss", fontsize=12, color=INK, loc="left")
    for (title, lines), axes in zip(panels.items(), grid, strict=True):
        for index, (name, (steps, points)) in enumerate(lines.items()):
            axes.plot(
                steps, points, color=LINE_COLORS[index % len(LINE_COLORS)],
                marker=LINE_MARKERS[index % len(LINE_MARKERS)], markersize=4, linewidth=1.8,
                label=f"{name.removeprefix('eval_')}: last {points[-1]:.3g}, highest {max(points):.3g}",
            )  # fmt: skip
        axes.set_title(title, fontsize=12, color=INK, loc="left")
    for axes in figure.axes:
        style_line_axes(axes)
        axes.margins(y=0.12)
        axes.set_xlabel("optimizer steps", fontsize=10, color=INK)
        _legend(axes)
    return figure


def bleu_by_length(curves: Mapping[str, Sequence[tuple[float, float, int]]], title: str | None = None) -> Figure:
    """The curves of BLEU against sentence length, one line a model (Bahdanau et al. 2015, figure 2).

    Args:
        curves: Name -> points `(length, bleu, num_sentences)`, as `hf_attn.metrics.bleu_by_length` returns them. Where
            all curves share lengths and numbers of sentences, bars below show how many sentences a point stands for.
        title: Stands above the picture.

    Returns:
        The figure.

    Raises:
        ValueError: No curves, or one without points.
        ImportError: matplotlib is not installed.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve, got none")
    empty = [name for name, points in curves.items() if not points]
    if empty:
        raise ValueError(f"`curves` must have at least one point each, got none for {', '.join(empty)}")
    sizes = {tuple((length, number) for length, _, number in points) for points in curves.values()}
    has_bars = len(sizes) == 1
    figure = new_figure(6.4, 4.8 if has_bars else 4.0)
    grid = axes_grid(figure, 2 if has_bars else 1, 1, sharex=True, height_ratios=[4, 1] if has_bars else [1])
    lines = grid[0, 0]
    for index, (name, points) in enumerate(curves.items()):
        lengths, scores, _ = zip(*sorted(points), strict=True)
        lines.plot(
            lengths, scores, label=name, linewidth=1.8, markersize=5.5,
            color=LINE_COLORS[index % len(LINE_COLORS)], marker=LINE_MARKERS[index % len(LINE_MARKERS)],
            linestyle="-" if index < len(LINE_COLORS) else "--",
        )  # fmt: skip
    lines.set_ylim(bottom=0)
    lines.margins(y=0.1)
    lines.set_ylabel("BLEU", fontsize=10, color=INK)
    style_line_axes(lines)
    _legend(lines)
    if has_bars:
        bars = grid[1, 0]
        lengths, numbers = zip(*sorted(sizes.pop()), strict=True)
        gaps = [upper - lower for lower, upper in pairwise(lengths)]
        drawn = bars.bar(lengths, numbers, width=0.6 * min(gaps, default=1.0), color="#cbd2d9")
        bars.bar_label(drawn, fontsize=8, color=MUTED, padding=1)
        bars.margins(y=0.35)
        bars.set_ylabel("sentences", fontsize=10, color=INK)
        style_line_axes(bars)
        bars.grid(visible=False)
        bars.set_yticks([])
        bars.spines["left"].set_visible(False)
    grid[-1, 0].set_xlabel("source length", fontsize=10, color=INK)
    if title:
        lines.set_title(title, fontsize=12, color=INK, loc="left")
    return figure
