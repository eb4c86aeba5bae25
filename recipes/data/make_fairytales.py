# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the fairy tales that pre-training reads by default; the same bytes each time.

    python recipes/data/make_fairytales.py ../shared/data/qa_generative/fairytaleqa

Takes the first sections of stories of FairytaleQA that its questions are about, each once, without the questions.
"""

import argparse
import gzip
import json
from pathlib import Path


OUTPUT = Path(__file__).parent / "fairytales"
NUM_SECTIONS = {"train": 2000, "validation": 60}


def main() -> None:
    """Write both splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation}.jsonl.gz of FairytaleQA")
    source = parser.parse_args().source
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, num_sections in NUM_SECTIONS.items():
        titles: dict[str, str] = {}
        with gzip.open(source / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                titles.setdefault(row["context"], row["title"])
        sections = list(titles.items())[:num_sections]
        text = "".join(
            json.dumps({"title": title, "text": section}, ensure_ascii=False) + "\n" for section, title in sections
        )
        # No file name and no time in the header: the bytes depend on the rows alone.
        (OUTPUT / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
        print(f"{name}: {len(sections)} sections")


if __name__ == "__main__":
    main()
