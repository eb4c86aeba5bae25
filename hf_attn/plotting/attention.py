# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pictures of attention: which source tokens each target token looks at (Bahdanau et al. 2015, figure 3)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import INK, axes_grid, new_figure


if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedTokenizerBase


_FONT_SIZE = 10.0  # points
_CHARACTER_WIDTH = 0.62 * _FONT_SIZE / 72  # inches, of an average letter
_CELL = 0.3  # inches
_SMALL_CELL = 0.2  # inches, where several heads share a figure
_LARGEST_PANEL = 22.0  # inches


def token_labels(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """A readable label for each token: its text without the space before it, special tokens by name.

    A token that is a part of a character, or a character that does not print, is labelled as the tokenizer spells it;
    a space is "␣".
    """
    labels = []
    for token_id in token_ids:
        text = str(tokenizer.decode([token_id]))
        label = text.strip() or ("␣" if text else "")
        is_readable = label.isprintable() and "\ufffd" not in label
        labels.append(label if label and is_readable else str(tokenizer.convert_ids_to_tokens(token_id)))
    return labels


def _as_maps(weights: Any, source_tokens: Sequence[str], target_tokens: Sequence[str]) -> np.ndarray:
    """Weights as float64 of shape (maps, target_length, source_length), checked against the tokens."""
    if hasattr(weights, "detach"):
        weights = weights.detach().float().cpu()
    maps = np.asarray(weights, dtype=np.float64)
    if maps.ndim not in (2, 3):
        raise ValueError(
            "`weights` must have the shape (target_length, source_length) or (heads, target_length, source_length), "
            f"got {tuple(maps.shape)}"
        )
    if maps.ndim == 2:
        maps = maps[None]
    if maps.shape[1:] != (len(target_tokens), len(source_tokens)) or not maps.size:
        raise ValueError(
            "`weights` must have one row a target token and one column a source token, at least one of each: got "
            f"{maps.shape[1]} x {maps.shape[2]} weights for {len(target_tokens)} target and {len(source_tokens)} "
            "source tokens"
        )
    if not np.isfinite(maps).all() or maps.min() < 0:
        raise ValueError("`weights` must be finite and not negative: they are shares of attention, from 0 to 1")
    return maps


def _panel_names(num_maps: int, names: Sequence[str] | None) -> list[str]:
    if names is None:
        return [""] if num_maps == 1 else [f"head {head}" for head in range(num_maps)]
    if len(names) != num_maps:
        raise ValueError(f"`names` must have one name a map, got {len(names)} names for {num_maps} maps")
    return list(names)


def attention_map(
    weights: Any,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    title: str | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """A grid of attention weights: source tokens across, target tokens down, dark where the weight is large.

    Several maps become small panels with one colour scale; for their mean, pass the mean.

    Args:
        weights: Tensor, array or lists of shape `(target_length, source_length)` or `(heads, target_length,
            source_length)`, not negative; 1 is all of a row's attention.
        source_tokens: `source_length` labels.
        target_tokens: `target_length` labels.
        title: Stands above the picture.
        names: One a map; default "head 0", "head 1", ... where there are several.

    Returns:
        The figure, to be written by `save_figure` or shown in a notebook.

    Raises:
        ValueError: Shapes, tokens and names do not fit, or weights are negative or not finite.
        ImportError: matplotlib is not installed.
    """
    maps = _as_maps(weights, source_tokens, target_tokens)
    names = _panel_names(len(maps), names)
    columns = min(len(maps), math.ceil(math.sqrt(len(maps) * len(target_tokens) / len(source_tokens))), 4)
    rows = math.ceil(len(maps) / columns)
    cell = min(
        _CELL if len(maps) == 1 else _SMALL_CELL,
        _LARGEST_PANEL / (columns * len(source_tokens)),
        _LARGEST_PANEL / (rows * len(target_tokens)),
    )
    # A label needs about 1.3 times its size; below that the letters of neighbours would touch.
    font_size = max(min(_FONT_SIZE, cell * 72 / 1.3), 1.0)
    label_scale = _CHARACTER_WIDTH * font_size / _FONT_SIZE
    left_label, top_label = (label_scale * max(map(len, tokens)) for tokens in (target_tokens, source_tokens))
    panel_width, panel_height = cell * len(source_tokens), cell * len(target_tokens)
    head_line = 0.3 if any(names) else 0.0
    figure = new_figure(
        left_label + columns * (panel_width + 0.15) + 1.1,
        top_label + rows * (panel_height + head_line + 0.15) + (0.5 if title else 0.2),
    )
    largest = maps.max() or 1.0
    grid = axes_grid(figure, rows, columns, sharex=True, sharey=True)
    for index, axes in enumerate(grid.flat):
        if index >= len(maps):
            axes.set_visible(False)
            continue
        image = axes.imshow(maps[index], cmap="Blues", vmin=0.0, vmax=largest, aspect="equal", interpolation="nearest")
        is_top, is_left = index < columns, index % columns == 0
        # A token with dollar signs is no formula.
        axes.set_xticks(range(len(source_tokens)), source_tokens, rotation=90, va="bottom", parse_math=False)
        axes.set_yticks(range(len(target_tokens)), target_tokens, parse_math=False)
        axes.tick_params(
            length=0, pad=3, labelsize=font_size, labelcolor=INK,
            top=False, bottom=False, labeltop=is_top, labelbottom=False, labelleft=is_left,
        )  # fmt: skip
        axes.set_xticks(np.arange(len(source_tokens) - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(len(target_tokens) - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_color("#cbd2d9")
        if names[index]:
            axes.set_xlabel(names[index], fontsize=_FONT_SIZE, color=INK, labelpad=4)
    # One bar for all panels, no longer than a reader needs.
    bar_length = min(2.5, rows * panel_height)
    bar = figure.colorbar(
        image, ax=grid, shrink=bar_length / (rows * panel_height), aspect=bar_length / 0.13, pad=0.02
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, length=2, labelcolor=INK)
    bar.set_label("weight", fontsize=9, color=INK)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(title)s</title>
<style>
:root { color-scheme: light dark; --ink: #1f2933; --paper: #fff; --line: #cbd2d9; --mark: 0, 114, 178; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --paper: #12181f; --line: #3e4c59; --mark: 86, 180, 233; }
}
body { margin: 2rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.2rem; font-weight: 600; }
.sentence { margin: .6rem 0; line-height: 2.1; }
.sentence b { display: inline-block; width: 4.5rem; font-weight: 400; opacity: .65; }
.sentence span { padding: .15rem .35rem; border-radius: .25rem; border: 1px solid transparent; cursor: default; }
.sentence .chosen { border-color: rgb(var(--mark)); }
.scroll { overflow-x: auto; margin-top: 1.5rem; }
table { border-collapse: collapse; }
th { font-weight: 400; white-space: nowrap; }
thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: .3rem 0; text-align: left; }
tbody th { text-align: right; padding: 0 .5rem; }
td { min-width: 1.5rem; height: 1.5rem; border: 1px solid var(--line); }
.chosen-row th { font-weight: 600; }
select { font: inherit; margin-left: .5rem; }
</style>
</head>
<body>
<h1>%(title)s</h1>
<label id="picker">Map<select id="names"></select></label>
<div class="sentence" id="source"><b>source</b></div>
<div class="sentence" id="target"><b>target</b></div>
<div class="scroll"><table><thead><tr id="head"><th></th></tr></thead><tbody id="body"></tbody></table></div>
<script>
const data = %(data)s;
const byId = (id) => document.getElementById(id);
const add = (parent, tag, text) => {
  const element = document.createElement(tag);
  element.textContent = text;
  parent.appendChild(element);
  return element;
};
const shade = (weight) => `rgba(var(--mark), ${Math.min(1, weight / data.largest).toFixed(3)})`;
let map = 0;
let chosen = 0;
const sourceWords = data.source.map((token) => add(byId("source"), "span", token));
const targetWords = data.target.map((token) => add(byId("target"), "span", token));
data.source.forEach((token) => add(byId("head"), "th", token));
const rows = data.target.map((token) => {
  const row = add(byId("body"), "tr", "");
  add(row, "th", token).scope = "row";
  return { row, cells: data.source.map(() => add(row, "td", "")) };
});
data.names.forEach((name) => add(byId("names"), "option", name));
byId("picker").hidden = data.names.length === 1;
function draw() {
  data.target.forEach((targetToken, position) => {
    data.source.forEach((sourceToken, column) => {
      const weight = data.maps[map][position][column];
      const cell = rows[position].cells[column];
      cell.style.background = shade(weight);
      cell.title = `${targetToken} \\u2192 ${sourceToken}: ${weight.toFixed(3)}`;
    });
    rows[position].row.className = position === chosen ? "chosen-row" : "";
    targetWords[position].className = position === chosen ? "chosen" : "";
  });
  sourceWords.forEach((word, column) => { word.style.background = shade(data.maps[map][chosen][column]); });
}
rows.forEach(({ row }, position) => row.addEventListener("mouseenter", () => { chosen = position; draw(); }));
targetWords.forEach((word, position) => word.addEventListener("mouseenter", () => { chosen = position; draw(); }));
byId("names").addEventListener("change", (event) => { map = event.target.selectedIndex; draw(); });
draw();
</script>
</body>
</html>
"""


def attention_html(
    weights: Any,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    title: str | None = None,
    *,
    names: Sequence[str] | None = None,
) -> str:
    """The picture as a page of its own, for a browser: pointing at a target token shades the source it looks at.

    The page loads nothing from anywhere. It needs no matplotlib.

    Args:
        weights: As for `attention_map`; weights are written with 4 decimals. Several maps get a menu.
        source_tokens: `source_length` labels.
        target_tokens: `target_length` labels.
        title: Heading of the page; default "Attention".
        names: One a map; default "head 0", "head 1", ... where there are several.

    Returns:
        The page, HTML in UTF-8 when written.

    Raises:
        ValueError: Shapes, tokens and names do not fit, or weights are negative or not finite.
    """
    maps = _as_maps(weights, source_tokens, target_tokens)
    data = {
        "source": list(source_tokens),
        "target": list(target_tokens),
        "names": _panel_names(len(maps), names),
        "largest": float(maps.max() or 1.0),
        "maps": maps.round(4).tolist(),
    }
    # "<" inside a script could close it; the escape is the same character to JavaScript.
    return _PAGE % {
        "title": escape(title or "Attention"),
        "data": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
    }
