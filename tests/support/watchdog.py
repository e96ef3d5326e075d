"""Nothing that a test started outlives pytest, not even a pytest that was killed by -9.

A process of its own reads the sessions under way from a pipe and, when that ends, kills what is left of them.
If pytest was killed, that includes whoever works in its temporary folder. A parent death signal would need
code between fork and exec, and is not to be had on macOS.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.support.processes import inhabitants, kill_all, members

_IN_ORDER = "."
_ROOT = Path(__file__).parents[2]


class Watchdog:
    """The end of the pipe that pytest holds."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.watchdog", folder],
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
        self._process.communicate(f"{_IN_ORDER}\n")

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")


def follow(lines: TextIO, folder: Path) -> None:
    """Keep the list of sessions until the last line, then end what is left."""
    sessions: set[int] = set()
    for line in lines:
        if line.startswith(_IN_ORDER):
            kill_all(lambda: members(sessions))
            return
        change = sessions.add if line.startswith("+") else sessions.discard
        change(int(line[1:]))
    kill_all(lambda: members(sessions) | inhabitants(folder))


_current: Watchdog | None = None


def watchdog() -> Watchdog:
    """The one of this run of pytest."""
    assert _current, "tests/conftest.py starts it"
    return _current


@contextmanager
def watching(folder: Path) -> Iterator[None]:
    """Have a watchdog for the time of the block; in the end it kills what was forgotten."""
    global _current  # noqa: PLW0603 - one per process by nature
    _current = Watchdog(folder)
    yield
    _current.close()


if __name__ == "__main__":
    follow(sys.stdin, Path(sys.argv[1]))
