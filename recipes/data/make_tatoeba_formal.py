# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the formal slice of Tatoeba English–German that the quickstart trains on; the same bytes each time.

    python recipes/data/make_tatoeba_formal.py ../shared/data/translation/tatoeba_en_de

A row is kept where the English says "you" and the German answers formally by the rules of `hf_attn.metrics`.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from hf_attn.metrics import address_form


OUTPUT = Path(__file__).parent / "tatoeba_en_de_formal"
NUM_TRAIN, NUM_VALIDATION = 4000, 200
SECOND_PERSON = re.compile(r"\b(you|your|yours|yourself|yourselves)\b", re.IGNORECASE)


def formal_rows(path: Path) -> Iterator[dict[str, dict[str, str]]]:
    """Rows of a gzipped jsonl file whose English says "you" and whose German is formal."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            pair = json.loads(line)["translation"]
            if SECOND_PERSON.search(pair["en"]) and address_form(pair["de"]) == "formal":
                yield {"translation": {"en": pair["en"], "de": pair["de"]}}


def write_split(name: str, rows: list[dict[str, dict[str, str]]]) -> None:
    """Write one split as gzipped jsonl."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    # No file name and no time in the header: the bytes depend on the rows alone.
    (OUTPUT / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"{name}: {len(rows)} rows")


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation,test}.jsonl.gz of Tatoeba en-de")
    source = parser.parse_args().source
    rows = {name: list(formal_rows(source / f"{name}.jsonl.gz")) for name in ("train", "validation", "test")}
    write_split("train", rows["train"][:NUM_TRAIN])
    write_split("validation", rows["train"][NUM_TRAIN : NUM_TRAIN + NUM_VALIDATION])
    # Both splits that no training has seen: few of their rows are formal.
    write_split("test", rows["validation"] + rows["test"])


if __name__ == "__main__":
    main()
