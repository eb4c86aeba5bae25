# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the fairy tales that pre-training reads by default; the same bytes each time.

    python recipes/data/make_fairytales.py ../shared/data/qa_generative/fairytaleqa

Takes the first sections of stories of FairytaleQA that its questions are about, each once, without the questions.
"""

import argparse
from pathlib import Path

from splits import read_split, write_split


OUTPUT = Path(__file__).parent / "fairytales"
NUM_SECTIONS = {"train": 2000, "validation": 60}


def main() -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation}.jsonl.gz of FairytaleQA")
    source = parser.parse_args().source
    for name, num_sections in NUM_SECTIONS.items():
        titles: dict[str, str] = {}
        for row in read_split(source / f"{name}.jsonl.gz"):
            titles.setdefault(row["context"], row["title"])
        sections = list(titles.items())[:num_sections]
        write_split(OUTPUT, name, [{"title": title, "text": section} for section, title in sections])


if __name__ == "__main__":
    main()
