# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""The command `hf-attn`: looks up a sub-command and imports nothing but that one."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module


COMMANDS = {
    "attention": "hf_attn.cli.attention:main",
    "export": "hf_attn.cli.export_checkpoint:main",
    "generate": "hf_attn.cli.generate:main",
    "import": "hf_attn.cli.import_checkpoint:main",
    "tokenizer": "hf_attn.cli.tokenizer:main",
}
"""Name of a sub-command -> "module:function". The function takes the remaining arguments, a list of str, and returns
None or an exit status."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hf-attn COMMAND ...` and returns the exit status: 2 where arguments or input are wrong, or a file cannot
    be read or written; 1, without a word, where the reader of the output has gone.

    Args:
        arguments: What follows `hf-attn` on the command line. None: that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="hf-attn",
        description="Attention encoder-decoders for Hugging Face, from the shell.",
        epilog="`hf-attn COMMAND --help` explains a command.",
    )
    parser.add_argument("command", metavar="COMMAND", help=", ".join(sorted(COMMANDS)))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the command takes")
    parsed = parser.parse_args(arguments)
    if parsed.command not in COMMANDS:
        nearest = difflib.get_close_matches(parsed.command, COMMANDS, n=1, cutoff=0.0)[0]
        parser.error(
            f"`COMMAND` must be one of {', '.join(sorted(COMMANDS))}, got `{parsed.command}`; "
            f"did you mean `{nearest}`?"
        )
    module_name, function_name = COMMANDS[parsed.command].split(":")
    function = getattr(import_module(module_name), function_name)
    try:
        return function(parsed.arguments) or 0
    except BrokenPipeError:
        # Python writes what is left at the end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, ImportError, OSError) as error:
        parser.exit(2, f"hf-attn {parsed.command}: error: {error}\n")
