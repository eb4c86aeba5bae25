# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Write the tables of benchmarks/README.md anew, from the files in benchmarks/results.

python benchmarks/tables.py
"""

from recording import DOCUMENT, write_tables


if __name__ == "__main__":
    write_tables()
    print(f"The tables of {DOCUMENT.name} are those of results/.")
