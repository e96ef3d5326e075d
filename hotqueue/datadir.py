"""The folder of a private server: its data, its log, and the two locks that say who may do what.

``owner.lock`` is held by the process that started the server, for life, and names the server's pid and port.
``data.lock`` is held by the server itself. So however an owner died and whatever state a server is in, two
servers never write to one folder.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from hotqueue.errors import ConfigurationError

_LOG_PREFIX = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ . ")  # 4711:M 24 Nov 2025 13:54:00.000 #


class DataDir:
    """A folder that we own from `claim` to `release`."""

    def __init__(self, path: Path) -> None:
        """Nothing is created before `claim`. Raises ``ConfigurationError`` if `path` leads from nowhere."""
        try:
            self.path = path.resolve()
        except FileNotFoundError as error:
            msg = f"there is no folder {path}: it was started in one that is gone"
            raise ConfigurationError(msg) from error
        self.log = self.path / "server.log"
        self._record = self.path / "owner.lock"
        self._owner: int | None = None  # the descriptor that holds the lock

    def claim(self) -> bool:
        """Become the owner, of a new folder if need be; False while another living process is.

        Raises ``ConfigurationError`` if the folder cannot be used.
        """
        if self._owner is None:
            try:
                if not self.path.exists():
                    self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # two may come at once
                    (self.path / ".gitignore").write_text("*\n", encoding="ascii")
                self._owner = _lock(self._record)
            except OSError as error:
                msg = f"{self.path} cannot hold the data of a server: {error.strerror}"
                raise ConfigurationError(msg) from error
        return self._owner is not None

    def release(self) -> None:
        """Leave the folder to others."""
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def was_owned(self) -> bool:
        """Say whether there ever was an owner."""
        return self._record.exists()

    def lock_data(self) -> int | None:
        """Return the lock for a new server to inherit, or None while an earlier one lives."""
        return _lock(self.path / "data.lock")

    def name(self, pid: int, port: int) -> None:
        """Write down which server works here, for the next owner."""
        self._record.write_text(f"{pid} {port}\n", encoding="ascii")

    def named(self) -> tuple[int, int]:
        """Return pid and port as they were written down, zeros if they were not."""
        found = re.fullmatch(r"(\d+) (\d+)\n", self._record.read_text(encoding="ascii", errors="replace"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def forget(self) -> None:
        """The server has ended."""
        self._record.write_bytes(b"")

    def last_words(self) -> str:
        """Return the last line of the log, without pid and time."""
        lines = [""]
        with contextlib.suppress(FileNotFoundError):
            lines += self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return _LOG_PREFIX.sub("", next(filter(str.strip, reversed(lines)), "its log is empty"))


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on the file, or None while somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
