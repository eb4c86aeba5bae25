# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Plot BLEU against the length of the source, one curve a translation run (Bahdanau et al. 2015, figure 2).

python benchmarks/plot_bleu_by_length.py --runs attention=outputs/a "no attention=outputs/b" --out bleu_by_length.png

Each run is an `output_dir` of recipes/translation.py; it is scored on the test file that its `run.json` names. Prints
the numbers that it draws: cased sacreBLEU of the sentences in each range of lengths.
"""

import argparse
import json
from pathlib import Path

from datasets import load_dataset

from hf_attn.metrics import bleu_by_length
from hf_attn.plotting import bleu_by_length as draw_bleu_by_length
from hf_attn.plotting import save_figure


def main() -> None:
    """Score, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="NAME=DIR", help="runs, and their names in the legend"
    )
    parser.add_argument("--bins", nargs="+", type=int, default=[8, 10, 12, 15, 20], help="upper limits, in words")
    parser.add_argument("--out", type=Path, required=True, help="the picture: .png, .svg or .pdf")
    arguments = parser.parse_args()
    curves = {}
    for run in arguments.runs:
        name, _, directory = run.rpartition("=")
        curves[name] = points_of(Path(directory), arguments.bins)
        for length, score, number in curves[name]:
            print(f"{name}\t{length:.1f} words\t{score:.1f} BLEU\t{number} sentences")
    save_figure(draw_bleu_by_length(curves), arguments.out)


def points_of(directory: Path, bins: list[int]) -> list[tuple[float, float, int]]:
    """Mean length in words, BLEU and number of sentences of each bin of a run's test file."""
    values = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    rows = load_dataset("json", data_files=values["test_file"], split="train")["translation"]
    sources, references = ([row[values.get(f"{side}_lang", default)] for row in rows] for side, default in LANGUAGES)
    predictions = (directory / "generated_predictions.txt").read_text(encoding="utf-8").splitlines()
    return bleu_by_length(predictions, references, [len(source.split()) for source in sources], bins)


# As in recipes/translation.py.
LANGUAGES = (("source", "en"), ("target", "de"))


if __name__ == "__main__":
    main()
