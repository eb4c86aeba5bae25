# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Run a recipe by the name of its task: `accelerate launch recipes/ translation [--any_field value]`."""

import difflib
import importlib
import sys
from pathlib import Path


# Modules beside this file; the `main` of each takes the command line.
RECIPES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main() -> None:
    """Hand the command line to the recipe that its first word names."""
    task = sys.argv[1] if len(sys.argv) > 1 else ""
    if task not in RECIPES:
        nearest = difflib.get_close_matches(task, RECIPES, n=1)
        hint = f" (did you mean {nearest[0]}?)" if nearest else ""
        sys.exit(f"The first word must be a task, one of {', '.join(RECIPES)}, got {task!r}{hint}.")
    # As if the recipe had been launched itself: its model card quotes the command.
    sys.argv = [str(Path(sys.argv[0]) / f"{task}.py"), *sys.argv[2:]]
    importlib.import_module(task).main(sys.argv[1:])


if __name__ == "__main__":
    main()
