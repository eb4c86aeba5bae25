# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Attention pictures: what they show, that labels do not collide, that pages stand alone, and bad input."""

import json
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from hf_attn.data import train_tokenizer
from hf_attn.plotting import attention_html, attention_map, save_figure, token_labels


SOURCE = ["The", "cat", "sat", "</s>"]
TARGET = ["Die", "Katze", "</s>"]
WEIGHTS = np.array([[0.7, 0.1, 0.1, 0.1], [0.05, 0.8, 0.1, 0.05], [0.0, 0.0, 0.25, 0.75]])


def panels(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_visible()]


def test_map_shows_weights_and_labels_every_row_and_column():
    axes = panels(attention_map(WEIGHTS, SOURCE, TARGET, "Title"))
    assert len(axes) == 1
    np.testing.assert_array_equal(axes[0].images[0].get_array(), WEIGHTS)
    assert [label.get_text() for label in axes[0].get_xticklabels()] == SOURCE
    assert [label.get_text() for label in axes[0].get_yticklabels()] == TARGET
    assert axes[0].figure.get_suptitle() == "Title"


def test_heads_become_panels_with_one_scale():
    weights = torch.stack([torch.tensor(WEIGHTS)] * 4 + [torch.full((3, 4), 0.25, dtype=torch.float64)])
    axes = panels(attention_map(weights.to(torch.bfloat16), SOURCE, TARGET))
    assert [panel.get_xlabel() for panel in axes] == [f"head {head}" for head in range(5)]
    assert {panel.images[0].get_clim() for panel in axes} == {(0.0, float(torch.tensor(0.8).bfloat16()))}
    named = panels(attention_map(weights[:2], SOURCE, TARGET, names=["first", "second"]))
    assert [panel.get_xlabel() for panel in named] == ["first", "second"]


@pytest.mark.parametrize(
    ("heads", "source_length", "target_length"), [(1, 3, 2), (1, 60, 50), (4, 15, 14), (8, 30, 6)]
)
def test_labels_do_not_overlap(heads, source_length, target_length):
    source = [f"Quelle{index}" for index in range(source_length)]
    target = [f"Ziel{index}" for index in range(target_length)]
    weights = np.full((heads, target_length, source_length), 1 / source_length)
    figure = attention_map(weights, source, target, "Title")
    figure.draw_without_rendering()
    num_labels = 0
    for panel in panels(figure):
        for labels in (panel.get_xticklabels(), panel.get_yticklabels()):
            boxes = [label.get_window_extent() for label in labels if label.get_visible()]
            num_labels += len(boxes)
            for box, other in pairwise(boxes):
                assert not box.overlaps(other)
    assert num_labels >= source_length + target_length


def test_saved_files(tmp_path):
    figure = attention_map(WEIGHTS, SOURCE, TARGET)
    written = save_figure(figure, tmp_path / "plots" / "map.png")
    assert written.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"`path` must end in \.png, \.svg or \.pdf, got .*map\.gif"):
        save_figure(figure, tmp_path / "map.gif")


def test_page_holds_the_data_and_loads_nothing():
    page = attention_html(np.stack([WEIGHTS, WEIGHTS]), [*SOURCE[:3], "</script>"], TARGET, "<Title>")
    assert "<title>&lt;Title&gt;</title>" in page
    assert page.count("</script>") == 1
    assert not re.search(r"https?:|//|src=|@import|url\(", page.replace("<!DOCTYPE html>", ""))
    data = json.loads(re.search(r"const data = (.*);\n", page).group(1))
    assert data["source"] == [*SOURCE[:3], "</script>"]
    assert data["target"] == TARGET
    assert data["names"] == ["head 0", "head 1"]
    np.testing.assert_allclose(data["maps"][1], WEIGHTS)


@pytest.mark.parametrize("draw", [attention_map, attention_html])
class TestBadInput:
    def test_dimensions(self, draw):
        with pytest.raises(ValueError, match=r"`weights` must have the shape .* got \(1, 1, 3, 4\)"):
            draw(WEIGHTS[None, None], SOURCE, TARGET)

    def test_tokens_that_do_not_fit(self, draw):
        with pytest.raises(ValueError, match="got 3 x 4 weights for 4 target and 3 source tokens"):
            draw(WEIGHTS, TARGET, SOURCE)

    def test_nothing_to_draw(self, draw):
        with pytest.raises(ValueError, match="at least one of each: got 0 x 4 weights for 0 target and 4 source"):
            draw(np.zeros((0, 4)), SOURCE, [])

    @pytest.mark.parametrize("value", [float("nan"), -0.1])
    def test_values(self, draw, value):
        with pytest.raises(ValueError, match="`weights` must be finite and not negative"):
            draw(np.full((3, 4), value), SOURCE, TARGET)

    def test_names(self, draw):
        with pytest.raises(ValueError, match="`names` must have one name a map, got 2 names for 1 maps"):
            draw(WEIGHTS, SOURCE, TARGET, names=["a", "b"])


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs the package matplotlib: install it with .*'hf_attn\[plotting\]'"):
        attention_map(WEIGHTS, SOURCE, TARGET)
    assert "<table>" in attention_html(WEIGHTS, SOURCE, TARGET)


def test_token_labels_are_readable():
    tokenizer = train_tokenizer(["hallo welt"] * 10, vocab_size=300, show_progress=False)
    token_ids = tokenizer("hallo welt é \n")["input_ids"]
    labels = token_labels(tokenizer, token_ids)
    assert len(labels) == len(token_ids)
    assert labels[:2] == ["hallo", "welt"]
    assert labels[-1] == tokenizer.eos_token
    assert all(label and label.isprintable() and "\ufffd" not in label for label in labels)
