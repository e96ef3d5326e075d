"""Who a consumer is: random bits for Redis; host, pid and kernel start time for people and for recovery."""

import functools
import json
import os
import secrets
import socket
from pathlib import Path


def new_incarnation() -> int:
    """Return 64 random bits, never 0: the name of one registered life of one consumer on one queue."""
    return secrets.randbits(64) or 1


def text(incarnation: int) -> str:
    """Return an incarnation as it stands in Redis."""
    return f"{incarnation:016x}"


def owner() -> str:
    """Return JSON that tells this process from every other one, now and after its pid was used again."""
    return json.dumps({"pid": os.getpid(), "started": _started(), **_host()}, separators=(",", ":"))


@functools.cache
def _host() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pidns": _link("/proc/self/ns/pid"),
    }


def _started() -> str:
    # The 22nd field of stat, in clock ticks since boot; the name before it may hold spaces and brackets.
    return "".join(_read("/proc/self/stat").rpartition(")")[2].split()[19:20])


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
