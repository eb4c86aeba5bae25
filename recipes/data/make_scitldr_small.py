# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the slice of SciTLDR-A that the default of the summarization recipe trains on; the same bytes each time.

    python recipes/data/make_scitldr_small.py ../shared/data/summarization/scitldr_a

Train: the first rows of the train split. Validation and test: the first rows of the validation split and those after.
"""

import argparse
from itertools import islice
from pathlib import Path

from splits import read_split, write_split


OUTPUT = Path(__file__).parent / "scitldr_a_small"
# Split to the split that it is cut from, its first row there, and its rows.
SLICES = {"train": ("train", 0, 1000), "validation": ("validation", 0, 100), "test": ("validation", 100, 200)}


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation}.jsonl.gz of SciTLDR-A")
    source = parser.parse_args().source
    for name, (split, first, num_rows) in SLICES.items():
        write_split(OUTPUT, name, islice(read_split(source / f"{split}.jsonl.gz"), first, first + num_rows))


if __name__ == "__main__":
    main()
