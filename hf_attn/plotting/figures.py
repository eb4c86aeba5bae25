# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Figures for all pictures: by matplotlib, imported only when one is drawn, and with one look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK = "#1f2933"
MUTED = "#7b8794"
# Colours that readers with any kind of colour vision tell apart (Okabe and Ito 2008), the dark ones first.
LINE_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
LINE_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure drawn by Agg: no window, no global state of pyplot.

    Args:
        width: In inches.
        height: In inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "drawing needs the package matplotlib: install it with `pip install 'hf_attn[plotting]'`"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def axes_grid(figure: Figure, rows: int, columns: int, **options: Any) -> np.ndarray:
    """Axes of `figure`, shape (rows, columns); `options` are those of `Figure.subplots`."""
    return figure.subplots(rows, columns, squeeze=False, **options)


def style_line_axes(axes: Axes) -> None:
    """Sets a light horizontal grid, no box and muted ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=10, length=3, color=MUTED)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure at 150 dots per inch, making the folders on the way.

    Args:
        figure: A figure of a function of `hf_attn.plotting`.
        path: File to write, `.png`, `.svg` or `.pdf`.

    Returns:
        The path written.

    Raises:
        ValueError: The name ends otherwise.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"`path` must end in .png, .svg or .pdf, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.15)
    return path
