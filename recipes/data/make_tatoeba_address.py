# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Cut the German sentences of Tatoeba that the classification recipe trains on; the same bytes each time.

    python recipes/data/make_tatoeba_address.py ../shared/data/translation/tatoeba_en_de

A sentence is kept once, where the English says "you"; its class is how it addresses its reader by the rules of
`hf_attn.metrics`.
"""

import argparse
from itertools import chain
from pathlib import Path

from make_tatoeba_formal import SECOND_PERSON
from splits import read_split, write_split

from hf_attn.metrics import address_form


OUTPUT = Path(__file__).parent / "tatoeba_de_address"
FORMS = ("formal", "informal")
# Rows of each form.
NUM_TRAIN, NUM_VALIDATION = 1500, 100


def sentences_by_form(source: Path, names: tuple[str, ...], seen: set[str]) -> dict[str, list[str]]:
    """The sentences of some splits by their form of address, without those in `seen`, which grows by them."""
    found: dict[str, list[str]] = {form: [] for form in FORMS}
    for name in names:
        for row in read_split(source / f"{name}.jsonl.gz"):
            pair = row["translation"]
            form = address_form(pair["de"])
            if form in found and pair["de"] not in seen and SECOND_PERSON.search(pair["en"]):
                seen.add(pair["de"])
                found[form].append(pair["de"])
    return found


def rows(found: dict[str, list[str]], first: int, last: int) -> list[dict[str, str]]:
    """Sentences `first` to before `last` of each form, in turn."""
    turns = zip(*([{"text": text, "label": form} for text in found[form][first:last]] for form in FORMS), strict=False)
    return list(chain.from_iterable(turns))


def main() -> None:
    """Write all splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with {train,validation,test}.jsonl.gz of Tatoeba en-de")
    source = parser.parse_args().source
    seen: set[str] = set()
    # First the splits that no training has seen: few of their sentences are formal, and all of them are taken.
    held_out = sentences_by_form(source, ("validation", "test"), seen)
    training = sentences_by_form(source, ("train",), seen)
    write_split(OUTPUT, "test", rows(held_out, 0, len(held_out["formal"])))
    write_split(OUTPUT, "train", rows(training, 0, NUM_TRAIN))
    write_split(OUTPUT, "validation", rows(training, NUM_TRAIN, NUM_TRAIN + NUM_VALIDATION))


if __name__ == "__main__":
    main()
