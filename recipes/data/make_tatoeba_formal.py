# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the formal slice of Tatoeba English–German that the quickstart trains on; the same bytes each time.

    python recipes/data/make_tatoeba_formal.py ../shared/data/translation/tatoeba_en_de

A row is kept where the English says "you" and the German answers formally by the rules of `hf_attn.metrics`.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from splits import read_split, write_split

from hf_attn.metrics import address_form


OUTPUT = Path(__file__).parent / "tatoeba_en_de_formal"
NUM_TRAIN, NUM_VALIDATION = 4000, 200
SECOND_PERSON = re.compile(r"\b(you|your|yours|yourself|yourselves)\b", re.IGNORECASE)


def formal_rows(path: Path) -> Iterator[dict[str, dict[str, str]]]:
    """Rows of a gzipped jsonl file whose English says "you" and whose German is formal."""
    for row in read_split(path):
        pair = row["translation"]
        if SECOND_PERSON.search(pair["en"]) and address_form(pair["de"]) == "formal":
            yield {"translation": {"en": pair["en"], "de": pair["de"]}}


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation,test}.jsonl.gz of Tatoeba en-de")
    source = parser.parse_args().source
    rows = {name: list(formal_rows(source / f"{name}.jsonl.gz")) for name in ("train", "validation", "test")}
    write_split(OUTPUT, "train", rows["train"][:NUM_TRAIN])
    write_split(OUTPUT, "validation", rows["train"][NUM_TRAIN : NUM_TRAIN + NUM_VALIDATION])
    # Both splits that no training has seen: few of their rows are formal.
    write_split(OUTPUT, "test", rows["validation"] + rows["test"])


if __name__ == "__main__":
    main()
