"""The `hotqueue` command against one server, in a pipe and on a terminal."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect

from tests.support.commands import run

_ROOT = Path(__file__).parents[2]
MARKER = "unpickled"


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(MARKER),)  # type: ignore[return-value]


class Admin:
    """`admin("info", "-j")` runs it."""

    def __init__(self, url: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self.env = {"HOTQUEUE_URL": url, "PYTHONPATH": str(_ROOT), **(env or {})}
        self.cwd = cwd

    def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints, or its one line on stderr where it ends with another code than 0."""
        done = run("hotqueue", *words, env=self.env, cwd=self.cwd)
        assert done.returncode == code, done.stdout + done.stderr
        if code == 0:
            return done.stdout
        assert done.stderr.startswith("hotqueue: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    def json(self, *words: str) -> list[Any]:
        """The objects that it prints with -j, one a line."""
        return [json.loads(line) for line in self(*words, "-j").splitlines()]

    @contextmanager
    def terminal(self, *words: str, columns: int = 80) -> Iterator[Any]:
        """Run it on a terminal; it is killed in the end if it has not ended."""
        argv = ["-m", "hotqueue", *words]
        sizes = ("COLUMNS", "LINES")  # pytest-xdist sets them
        env = {k: v for k, v in os.environ.items() if k not in sizes} | self.env | {"TERM": "xterm"}
        spawned = pexpect.spawn(
            sys.executable,
            argv,
            env=env,
            cwd=self.cwd,
            encoding="utf-8",
            timeout=120,
            dimensions=(24, columns),
        )
        try:
            yield spawned
        finally:
            spawned.close(force=True)

    def answered(self, *words: str, question: str, answer: str) -> int:
        """Answer the question that it asks on a terminal; return its exit code."""
        with self.terminal(*words) as spawned:
            spawned.expect_exact(question)
            spawned.sendline(answer)
            spawned.expect(pexpect.EOF)
        return int(spawned.exitstatus)
