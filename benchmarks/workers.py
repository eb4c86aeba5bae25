# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Systems in processes of their own: what one sets for its process, or holds in memory, is not the other's.

A benchmark starts itself again with `--worker TASK`, TASK in json. Parent and worker speak in lines of json: the
parent asks for a round, the worker answers with a sample. Between rounds a worker waits: rounds can be interleaved.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TextIO

from measuring import Sample


class Worker:
    """
    The parent's end.

    Args:
        script: The benchmark.
        task: What the worker is to do; json.
        threads: Of its computation; `None` leaves them to the libraries.
    """

    def __init__(self, script: str, task: Mapping[str, Any], threads: int | None = None):
        self.name = str(task.get("system", script))
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, script, "--worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        The answer to a request.

        Raises:
            RuntimeError: The worker ended; its own message is on standard error.
        """
        sender, receiver = self._process.stdin, self._process.stdout
        answer = ""
        with suppress(BrokenPipeError):
            sender.write(json.dumps(request or {}) + "\n")  # type: ignore[union-attr]
            sender.flush()  # type: ignore[union-attr]
            answer = receiver.readline()  # type: ignore[union-attr]
        if not answer:
            raise RuntimeError(f"`{self.name}` ended with status {self._process.wait()}: see its message above.")
        return json.loads(answer)

    def sample(self, request: Mapping[str, Any] | None = None) -> Sample:
        """The answer to a request, where it is a sample."""
        return Sample(**self.ask(request))

    def close(self) -> None:
        """End the process: it finds the end of its input."""
        if self._process.stdin is not None:
            # It may have ended before it read the last request.
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class Requests:
    """The worker's end: iterate over the requests, and `answer` each. What else is printed goes to standard error."""

    def __init__(self) -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (request := self.next()) is not None:
            yield request

    def next(self) -> dict[str, Any] | None:
        """The next request; `None` where the parent has no more."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, answer: Sample | Mapping[str, Any]) -> None:
        """Send an answer."""
        content = asdict(answer) if isinstance(answer, Sample) else dict(answer)
        self._answers.write(json.dumps(content) + "\n")
        self._answers.flush()
