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


def owner(watched_by: int | None = None) -> str:
    """Return JSON that tells this process from every other one, now and after its pid was used again.

    `watched_by` is the process that gives back what this one holds if it dies.
    """
    who: dict[str, object] = {"pid": os.getpid(), "started": _started(os.getpid()), **_host()}
    if watched_by is not None:
        who["watcher"] = {"pid": watched_by, "started": _started(watched_by)}
    return json.dumps(who, separators=(",", ":"))


def is_gone(owner_json: bytes | None) -> bool:
    """Tell whether an owner was a process of this machine and pid namespace, and neither it nor its watcher is left.

    A host name alone never decides that: boot id and namespace do, and the start time where the pid lives on.
    """
    try:
        owner = json.loads(owner_json or b"")
        here = _host()
        if not here["boot"] or not here["pidns"] or any(owner[key] != here[key] for key in ("boot", "pidns")):
            return False
        if not _started(1):  # mounted with hidepid: a process that is not to be seen may well be there
            return False
        return all(_started(int(each["pid"])) != each["started"] for each in (owner, owner.get("watcher", owner)))
    except (ValueError, KeyError, TypeError):
        return False


@functools.cache
def _host() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pidns": _link("/proc/self/ns/pid"),
    }


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it has ended, or there is no /proc."""
    stat = _read(f"/proc/{pid}/stat")
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return fields[19] if fields and fields[0] not in {"Z", "X"} else ""


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
