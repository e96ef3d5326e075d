"""Supervisors and the deaths of their children, for people and for other programs."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from hotqueue.cli.text import age, fit, moment, printable, some, table
from hotqueue.supervisors import Death, Supervisor

SILENT_S = 25.0  # two renewals, and some
_HEAD = ("supervisor", "state", "ready", "busy", "up", "deaths")


def title(supervisor: Supervisor) -> str:
    """Return by what a person knows it."""
    place = f"{supervisor.host}:{supervisor.pid}"
    return printable(place if supervisor.name == supervisor.host else f"{place} {supervisor.name}")


def state(supervisor: Supervisor) -> str:
    """Return its phase, or that it has not been heard of for a while."""
    if supervisor.heard_s > SILENT_S:
        return f"silent {age(supervisor.heard_s)}"
    return printable(supervisor.phase)


def lines(supervisors: Sequence[Supervisor], width: int | None) -> list[str]:
    """Return a table of them; at the end of each line stands what it runs."""
    head, *rows = table(_HEAD, [_row(each) for each in supervisors])
    runs = [f"{row}  {printable(each.targets)}" for row, each in zip(rows, supervisors, strict=True)]
    return [fit(line, width) for line in (f"{head}  runs", *runs)]


def _row(supervisor: Supervisor) -> tuple[str, ...]:
    up_s = (supervisor.at_ms - supervisor.started_ms) / 1000
    ready = f"{supervisor.ready} of {supervisor.wanted}"
    died = str(len(supervisor.deaths)) if supervisor.deaths else "-"
    return title(supervisor), state(supervisor), ready, str(supervisor.busy), age(up_s), died


def fields(supervisor: Supervisor) -> dict[str, Any]:
    """Return what stands in the JSON object."""
    known = asdict(supervisor)
    del known["deaths"]
    return {"kind": "supervisor", **known, "heard_s": round(supervisor.heard_s, 1)}


def deaths(supervisors: Sequence[Supervisor]) -> list[tuple[Supervisor, Death]]:
    """Return all deaths, the newest first."""
    found = [(supervisor, death) for supervisor in supervisors for death in supervisor.deaths]
    return sorted(found, key=lambda each: each[1].at_ms, reverse=True)


def death_lines(supervisor: Supervisor, death: Death, width: int | None) -> list[str]:
    """Return who died when of what, what it was running, what it had used, and where it was if it crashed."""
    who = f"{moment(_when(death))}  {title(supervisor)}  child {death.child}, pid {death.pid}: {death.cause}"
    used = [f"lived {age(death.lived_s)}", some(death.done, "message")]
    used += [] if death.peak_mib is None else [f"{death.peak_mib:.0f} MiB"]
    used += [] if death.cpu_s is None else [f"{death.cpu_s:.1f} s of CPU"]
    told = [who, *_ran(death), f"    {', '.join(used)}"]
    told += [f"    {line}" for line in (death.stack or "").splitlines()]
    return [fit(printable(line), width) for line in told]


def death_fields(supervisor: Supervisor, death: Death) -> dict[str, Any]:
    """Return what stands in the JSON object."""
    where = {"host": supervisor.host, "supervisor": supervisor.pid, "name": supervisor.name}
    known = asdict(death)
    del known["at_ms"]
    return {"at": _when(death).isoformat(), **where, **known}


def ago_s(death: Death) -> float:
    """Return how long ago it was."""
    return time.time() - death.at_ms / 1000


def _ran(death: Death) -> list[str]:
    if death.queue is None:
        return []
    since = "" if death.running_ms is None else f", for {age(death.running_ms / 1000)}"
    beside = "" if death.running is None else f", and {death.running - 1} beside it"
    return [f"    ran {death.handler or '?'} of {death.queue}, {death.id or 'a bare message'}{since}{beside}"]


def _when(death: Death) -> datetime:
    return datetime.fromtimestamp(death.at_ms / 1000, UTC)
