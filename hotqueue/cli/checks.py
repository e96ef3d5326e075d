"""What `hotqueue doctor` looks at: each finding is one line and, if need be, what to do."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Literal

from hotqueue.binary import find_binary
from hotqueue.cli.rights import ROLES
from hotqueue.cli.text import age, size
from hotqueue.connection import Connection
from hotqueue.errors import ConfigurationError, OutcomeUnknown, Refused
from hotqueue.version import OLDEST

Level = Literal["ok", "warn", "bad"]

_PINGS = 100
_SLOW_MS = 5.0
_CLOCKS_APART_S = 1.0
_CLOCKS_WRONG_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `todo` is empty where all is well."""

    level: Level
    check: str
    text: str
    todo: str = ""


def examine(connection: Connection, queue: str) -> Iterator[Finding]:
    """Yield all findings. Raises NotSent or OutcomeUnknown if Redis goes away."""
    facts = _facts(connection)
    if facts is None:
        text = "this user may not run INFO: version, eviction and persistence are not known"
        yield Finding("warn", "server", text, "allow it +info, or ask whoever runs Redis")
    else:
        yield version(facts)
        yield role(facts)
        yield eviction(facts)
        yield persistence(facts)
    yield _latency(connection)
    yield _clock(connection)
    yield _rights(connection, queue)
    yield _program()


def version(facts: Mapping[str, str]) -> Finding:
    """Judge whether the server is new enough for at-least-once."""
    said = facts.get("redis_version", "0.0")
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {said}"
    numbers = tuple(int(part) for part in said.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return Finding("bad", "version", name, f"upgrade it: at-least-once needs {needed} or newer")
    return Finding("ok", "version", name)


def role(facts: Mapping[str, str]) -> Finding:
    """Judge whether one may write there."""
    if facts.get("role") == "slave":
        text = f"this is a replica of {facts.get('master_host')}:{facts.get('master_port')}"
        return Finding("bad", "role", text, "use the address of the primary: a replica takes no writes")
    return Finding("ok", "role", "primary")


def eviction(facts: Mapping[str, str]) -> Finding:
    """Judge what happens when memory is full."""
    policy, limit = facts.get("maxmemory_policy", "unknown"), int(facts.get("maxmemory", 0))
    text = (
        f"{policy}, {size(int(facts.get('used_memory', 0)))} used of {size(limit) if limit else 'no limit'}"
    )
    if policy == "noeviction":
        return Finding("ok", "eviction", text)
    todo = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
    if policy.startswith("volatile"):
        return Finding("warn", "eviction", f"{text}: a full server forgets pauses and unique keys", todo)
    if policy == "unknown" or not limit:
        return Finding("warn", "eviction", f"{text}: with a limit, a full server would delete queues", todo)
    return Finding("bad", "eviction", f"{text}: a full server deletes queues", todo)


def persistence(facts: Mapping[str, str]) -> Finding:
    """Judge what survives a crash of the server."""
    if facts.get("aof_enabled") != "1":
        text = "no append-only file: a crash of the server loses what came since the last snapshot"
        return Finding(
            "warn", "disk", text, "CONFIG SET appendonly yes, and the same in its configuration file"
        )
    if facts.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "bad", "disk", "the last write of the append-only file failed", "look at its disk and its log"
        )
    return Finding("ok", "disk", "append-only file")


def clocks(apart_s: float) -> Finding:
    """Judge how far the server's clock is ahead of ours."""
    text = f"the server's is {age(abs(apart_s))} {'ahead' if apart_s > 0 else 'behind'}"
    todo = "set both by NTP: at=, expires= and ages compare the two"
    if abs(apart_s) < _CLOCKS_APART_S:
        return Finding("ok", "clock", f"{round(apart_s * 1000):+d} ms apart")
    return Finding("bad" if abs(apart_s) >= _CLOCKS_WRONG_S else "warn", "clock", text, todo)


def _facts(connection: Connection) -> dict[str, str] | None:
    try:
        said: bytes = connection.call("INFO")
    except Refused:
        return None
    lines = said.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def _latency(connection: Connection) -> Finding:
    took_ms = []
    try:
        for _ in range(_PINGS):
            began = time.perf_counter()
            connection.call("PING")
            took_ms.append((time.perf_counter() - began) * 1000)
    except Refused:
        return Finding("warn", "latency", "this user may not run PING", "allow it +ping")
    cuts = quantiles(took_ms, n=100)
    text = f"p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms of {_PINGS} PINGs"
    if cuts[49] > _SLOW_MS:
        todo = "run workers near Redis: a slow message costs them one round trip each"
        return Finding("warn", "latency", text, todo)
    return Finding("ok", "latency", text)


def _clock(connection: Connection) -> Finding:
    try:
        before = time.time()
        seconds, micros = connection.call("TIME")
        after = time.time()
    except Refused:
        return Finding("warn", "clock", "this user may not run TIME", "allow it +time")
    return clocks(int(seconds) + int(micros) / 1e6 - (before + after) / 2)


def _rights(connection: Connection, queue: str) -> Finding:
    worker = ROLES["worker"]
    todo = "hotqueue doctor --acl worker prints what a worker needs"
    try:
        lacking = worker.lacking(connection, queue)
    except (Refused, OutcomeUnknown) as error:
        code = getattr(error, "code", "")
        if code == "NOPERM":
            return Finding("bad", "rights", "this user may not run scripts (EVAL, EVALSHA)", todo)
        return Finding("warn", "rights", f"cannot be asked: {error}", "")
    if lacking is None:
        return Finding("ok", "rights", "not checked: this server cannot say; Redis 7 can")
    if needed := [command.upper() for command in lacking if command not in worker.optional]:
        return Finding("bad", "rights", f"a worker of {queue!r} may not run {', '.join(needed)}", todo)
    if lacking:
        text = "; ".join(
            f"without {command.upper().replace('|', ' ')} {worker.optional[command]}" for command in lacking
        )
        return Finding("warn", "rights", text, todo)
    return Finding("ok", "rights", f"all that a worker of {queue!r} needs")


def _program() -> Finding:
    try:
        return Finding("ok", "embedded", str(find_binary()))
    except ConfigurationError:
        return Finding(
            "ok", "embedded", "no server program here; only hotqueue server and --embedded need one"
        )
