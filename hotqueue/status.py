"""The status file of a worker: how it is, for everybody on its host; it needs neither Redis nor a port.

This side of it reads, and is imported by a probe that runs every few seconds: so it imports next to nothing,
and writes paths as text. The other side is in `worker/status_file.py`.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

OLD_S = 10.0  # a supervisor writes every second


def default_name() -> str:
    """Return the name of a worker that was given none: that of its host."""
    return os.uname().nodename


def folders() -> Iterator[str]:
    """Yield where status files may lie: the user's own runtime folder, the system's, a temporary one."""
    if own := os.environ.get("XDG_RUNTIME_DIR"):
        yield f"{own}/hotqueue"
    yield "/run/hotqueue"
    temporary = f"{os.environ.get('TMPDIR', '/tmp')}/hotqueue-{os.getuid()}"  # noqa: S108 - it is ours:
    if not os.path.lexists(temporary) or _is_own_folder(temporary):
        yield temporary


def _is_own_folder(path: str) -> bool:
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def find(name: str) -> str | None:
    """Return the path of the file of the worker `name`, the newest if there are several; None without one."""
    paths = [path for folder in folders() if os.path.exists(path := f"{folder}/{name}.json")]
    return max(paths, key=os.path.getmtime, default=None)


def read(path: str) -> dict[str, Any]:
    """Return what stands in a status file. Raises OSError or ValueError."""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict):
        msg = "it is no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - as for any other that cannot be read
    return found


def age_s(status: Mapping[str, Any], now_s: float) -> float:
    """Return how long ago it was written, by the monotonic clock of the host; infinite before a reboot."""
    age = now_s - float(status["turned_s"])
    return age if age >= 0 else float("inf")


def is_alive(status: Mapping[str, Any]) -> bool:
    """Tell whether there is a process with the pid of the supervisor."""
    try:
        os.kill(int(status["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
