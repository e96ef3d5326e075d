"""Nothing that a test started outlives pytest, not even a pytest that was killed by -9.

A process of its own reads the sessions under way from a pipe and, when that ends, kills what is left of them.
A parent death signal would need code between fork and exec, and is not to be had on macOS.
"""

import subprocess
import sys
from pathlib import Path
from typing import TextIO

from tests.support.processes import kill_all

_ROOT = Path(__file__).parents[2]


class Watchdog:
    """The end of the pipe that pytest holds."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.watchdog"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def watch(self, session: int) -> None:
        self._say(f"+{session}")

    def forget(self, session: int) -> None:
        self._say(f"-{session}")

    def close(self) -> None:
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")


def follow(lines: TextIO) -> None:
    """Keep the list of sessions until the last line, then end them."""
    sessions: set[int] = set()
    for line in lines:
        change = sessions.add if line.startswith("+") else sessions.discard
        change(int(line[1:]))
    if sessions:
        kill_all(sessions)


_current: Watchdog | None = None


def watchdog() -> Watchdog:
    """The one of this pytest, started when first asked for."""
    global _current  # noqa: PLW0603 - one per process by nature; closed by a fixture of conftest.py
    if _current is None:
        _current = Watchdog()
    return _current


def close_watchdog() -> None:
    """Let it go; it kills what was forgotten."""
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.close()
        _current = None


if __name__ == "__main__":
    follow(sys.stdin)
