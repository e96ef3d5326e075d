"""The supervisors of all hosts, as they say in Redis how they are; nothing of that is trusted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from hotqueue import keys
from hotqueue.connection import Connection
from hotqueue.upkeep import LEASE_MS

MOST = 1000  # that are read
MOST_INTEGER = 2**47  # as milliseconds it is a date that Python can show
Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Child:
    """One child, at the moment of its supervisor's record; the message is what it ran then.

    `took` is how long what it has run took, counted by the buckets of `histogram.py`.
    If it ran several, `running` says how many, and the message is the oldest of them.
    """

    child: int = 0
    pid: int = 0
    state: str = "?"
    done: int = 0
    memory_mib: float = 0.0
    ends: int = 0
    took: tuple[int, ...] = ()
    queue: str | None = None
    id: str | None = None
    handler: str | None = None
    running_ms: int | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended, and what it was running; of several, as in `Child`."""

    at_ms: int = 0
    child: int = 0
    pid: int = 0
    cause: str = "?"
    lived_s: float = 0.0
    done: int = 0
    queue: str | None = None
    id: str | None = None
    handler: str | None = None
    running_ms: int | None = None
    running: int | None = None
    peak_mib: float | None = None
    cpu_s: float | None = None
    stack: str | None = None


@dataclass(frozen=True, slots=True)
class Supervisor:
    """One supervisor; `at_ms` is when it wrote this, by its host's clock. In `deaths` the newest is last.

    `heard_s` is how long ago Redis heard of it, by its clock.
    """

    host: str = "?"
    pid: int = 0
    name: str = "?"
    targets: str = "?"
    version: str = "?"
    started_ms: int = 0
    at_ms: int = 0
    phase: str = "?"
    wanted: int = 0
    size: int = 0
    busy: int = 0
    ready: int = 0
    redis: bool = False
    heard_s: float = 0.0
    children: Sequence[Child] = ()
    deaths: Sequence[Death] = ()


def look(connection: Connection) -> list[Supervisor]:
    """Return who is there, by host, name and pid. Raises NotSent, Refused or OutcomeUnknown."""
    found = []
    seconds, micros = connection.call("TIME")
    known = connection.call("ZRANGE", keys.SUPERVISORS, 0, MOST - 1, "WITHSCORES")
    for name, until_ms in zip(known[::2], known[1::2], strict=True):
        status, deaths = connection.call("HMGET", keys.supervisor(name.decode(errors="replace")), *keys.SAYS)
        if status is not None:
            begun_s = (float(until_ms) - LEASE_MS) / 1000
            heard_s = max(0.0, int(seconds) + int(micros) / 1e6 - begun_s)
            found.append(replace(load(status, deaths or b"[]"), heard_s=heard_s))
    return sorted(found, key=lambda each: (each.host, each.name, each.pid))


def load(status: bytes, deaths: bytes) -> Supervisor:
    """Read what a supervisor wrote; what is missing, or of another kind than it should be, is unknown."""
    said = _loaded(status)
    said = said if isinstance(said, dict) else {}
    children = _all_known(Child, said.pop("children", None))
    return replace(_known(Supervisor, said), children=children, deaths=_all_known(Death, _loaded(deaths)))


def _loaded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _all_known(kind: type[Record], found: Any) -> tuple[Record, ...]:
    records = found if isinstance(found, list) else ()
    return tuple(_known(kind, each) for each in records if isinstance(each, dict))


def _known(kind: type[Record], found: Mapping[str, Any]) -> Record:
    given = [each for each in fields(kind) if each.name in found]  # type: ignore[arg-type]
    values = {each.name: _loose(found[each.name]) for each in given}
    return kind(**{each.name: values[each.name] for each in given if _fits(values[each.name], each.type)})


def _loose(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _fits(value: Any, kind: Any) -> bool:
    if kind == tuple[int, ...]:
        return isinstance(value, tuple) and all(_fits(each, int) for each in value)
    return isinstance(value, kind) and not (isinstance(value, int) and abs(value) > MOST_INTEGER)
