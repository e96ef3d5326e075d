"""Who a consumer is: random bits for Redis; host, pid and kernel start time for people and for recovery."""

import functools
import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ENDED = {"Z", "X"}
_START = 19


def new_incarnation() -> int:
    """Return 64 random bits, never 0: the name of one registered life of one consumer on one queue."""
    return secrets.randbits(64) or 1


def text(incarnation: int) -> str:
    """Return an incarnation as it stands in Redis."""
    return f"{incarnation:016x}"


def owner(watched_by: int | None = None) -> str:
    """Return JSON that tells this process from every other one, now and after its pid was used again.

    `watched_by` is the process that gives back what this one holds if it dies.
    """
    who: dict[str, object] = {"pid": os.getpid(), "started": _started(os.getpid()), **_host()}
    if watched_by is not None:
        who["watcher"] = {"pid": watched_by, "started": _started(watched_by)}
    return json.dumps(who, separators=(",", ":"))


def is_gone(owner_json: bytes | None) -> bool:
    """Tell whether an owner was a process of this very machine, and neither it nor its watcher is left.

    A host name alone never decides that: boot id and pid namespace do, and the start time where the pid is
    in use. False wherever it cannot be known.
    """
    here = _host()
    try:
        owner = json.loads(owner_json or b"")
        if not here["boot"] or not here["pidns"] or any(owner[key] != here[key] for key in ("boot", "pidns")):
            return False
        return not any(map(_may_live, (owner, owner.get("watcher", owner))))
    except (ValueError, KeyError, TypeError, OverflowError):
        return False


@functools.cache
def _host() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pidns": _link("/proc/self/ns/pid"),
    }


def _may_live(process: Mapping[str, Any]) -> bool:
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    fields = _stat(pid)  # nothing where /proc is mounted with hidepid
    return not fields or (fields[0] not in _ENDED and process["started"] in {"", fields[_START]})


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty where there is no /proc."""
    return "".join(_stat(pid)[_START : _START + 1])


def _stat(pid: int) -> list[str]:
    """Return what the kernel says of a process, from its state on: the name before may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


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
