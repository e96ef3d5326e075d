"""``hotqueue workers``: who consumes which queue, and what each of them holds."""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from hotqueue import identity, keys, queue_scripts, supervisors
from hotqueue.cli import crews
from hotqueue.cli.access import Access, as_json, echo_json, with_access
from hotqueue.cli.text import age, fit, printable, screen_width, table
from hotqueue.connection import Connection
from hotqueue.frame import enqueued_ms, id_text, peek_id
from hotqueue.supervisors import Supervisor

_HEAD = ("process", "supervisor", "lease", "in flight")


@dataclass(frozen=True, slots=True)
class Holding:
    """One consumer of one queue: when its lease ends and what it has in flight."""

    queue: str
    lease_s: float
    in_flight: int
    first_id: str | None
    first_age_s: float | None


@dataclass(slots=True)
class Process:
    """A process that consumes; `supervisor` is the pid of its watcher, `gone` says that neither is left."""

    host: str
    pid: int
    supervisor: int | None
    gone: bool = False
    holdings: dict[str, Holding] = field(default_factory=dict)  # by queue

    def add(self, one: Holding) -> None:
        """Put it to what is known; a process may have several consumers of one queue."""
        known = self.holdings.get(one.queue)
        if known is None:
            self.holdings[one.queue] = one
            return
        first = max(known, one, key=lambda each: each.first_age_s or 0.0)
        lease_s, in_flight = min(known.lease_s, one.lease_s), known.in_flight + one.in_flight
        self.holdings[one.queue] = Holding(one.queue, lease_s, in_flight, first.first_id, first.first_age_s)

    def row(self) -> tuple[str, ...]:
        """Return what stands in the table."""
        left_s = min(each.lease_s for each in self.holdings.values())
        lease = "gone" if self.gone else age(left_s) if left_s > 0 else "over"
        in_flight = sum(each.in_flight for each in self.holdings.values())
        return f"{printable(self.host)}:{self.pid}", str(self.supervisor or "-"), lease, f"{in_flight:,}"

    def held(self) -> list[str]:
        """Return a line for each queue of which it has something in flight."""
        lines = []
        for each in self.holdings.values():
            if each.in_flight:
                first = "" if each.first_id is None else f": {each.first_id}, {age(each.first_age_s)} old"
                lines.append(f"    {each.in_flight:,} of {printable(each.queue)}{first}")
        return lines

    def fields(self) -> dict[str, Any]:
        """Return what stands in the JSON object."""
        return {
            "kind": "process",
            "host": self.host,
            "pid": self.pid,
            "supervisor": self.supervisor,
            "gone": self.gone,
            "queues": [
                {
                    "queue": each.queue,
                    "lease_s": round(each.lease_s, 3),
                    "in_flight": each.in_flight,
                    "first_id": each.first_id,
                    "first_age_s": each.first_age_s,
                }
                for each in self.holdings.values()
            ],
        }


@click.command()
@click.option("--deaths", "of_deaths", is_flag=True, help="Show how children have ended instead.")
@as_json
@with_access
def workers(access: Access, *, of_deaths: bool, as_json: bool) -> None:
    """Show the supervisors of all hosts, who consumes, and what each has in flight.

    A supervisor is a hotqueue-worker, which tells of itself every 10 seconds; with --deaths, how the last
    50 of its children ended.

    A process is a child of hotqueue-worker or a loop of your own; of at-most-once only supervisors are seen.
    A lease is renewed every 10 seconds. What a process holds is taken back some time after its lease is over,
    or at once where the process is seen to be gone.
    """
    with access.pool.lent() as connection:
        known = supervisors.look(connection)
    if of_deaths:
        _show_deaths(known, as_json=as_json)
        return
    found = processes(access)
    if as_json:
        for each in (*map(crews.fields, known), *(process.fields() for process in found)):
            echo_json(each)
        return
    if known:
        click.echo("\n".join(crews.lines(known, screen_width())))
    if known and found:
        click.echo()
    if found:
        _show_processes(found, screen_width())
    if not (known or found):
        click.echo("No consumer is registered.")


def _show_deaths(known: Sequence[Supervisor], *, as_json: bool) -> None:
    found = crews.deaths(known)
    for supervisor, death in found:
        if as_json:
            echo_json(crews.death_fields(supervisor, death))
        else:
            click.echo("\n".join(crews.death_lines(supervisor, death, screen_width())))
    if not (found or as_json):
        click.echo("No death of a child is known.")


def _show_processes(found: Sequence[Process], width: int | None) -> None:
    head, *rows = table(_HEAD, [process.row() for process in found])
    click.echo(f"{head}  queues")
    for row, process in zip(rows, found, strict=True):
        queues = printable(", ".join(process.holdings))
        for line in (f"{row}  {queues}", *process.held()):
            click.echo(fit(line, width))


def processes(access: Access) -> list[Process]:
    """Return who consumes, by host and pid."""
    found: dict[tuple[str, int, str], Process] = {}
    with access.pool.lent() as connection:
        for queue in access.known():
            for owner_json, holding in _holdings(connection, queue):
                owner = _owner(owner_json)
                process = Process(
                    owner["host"], owner["pid"], owner["supervisor"], identity.is_gone(owner_json)
                )
                key = (process.host, process.pid, owner["started"])
                found.setdefault(key, process).add(holding)
    return [found[key] for key in sorted(found)]


def _holdings(connection: Connection, queue: str) -> list[tuple[bytes, Holding]]:
    seconds, micros = connection.call("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    leases = connection.call("ZRANGE", keys.consumers(queue), 0, -1, "WITHSCORES")
    names = leases[::2]
    if not names:
        return []
    owners = connection.call("HMGET", keys.owners(queue), *names)
    held = queue_scripts.held(connection, [keys.inflight(queue, name.decode()) for name in names])
    holdings = []
    for owner, end_ms, (count, first) in zip(owners, leases[1::2], held, strict=True):
        message_id = peek_id(first)
        known = any(message_id)
        holdings.append(
            (
                owner or b"",
                Holding(
                    queue,
                    (float(end_ms) - now_ms) / 1000,
                    count,
                    id_text(message_id) if known else None,
                    max(0.0, time.time() - enqueued_ms(message_id) / 1000) if known else None,
                ),
            )
        )
    return holdings


def _owner(owner_json: bytes) -> dict[str, Any]:
    """Read what a consumer wrote about itself; anything may be missing."""
    try:
        found = json.loads(owner_json or b"{}")
    except ValueError:
        found = {}
    known: defaultdict[str, Any] = defaultdict(lambda: None, found if isinstance(found, dict) else {})
    watcher = known["watcher"]
    return {
        "host": str(known["host"] or "?"),
        "pid": known["pid"] if isinstance(known["pid"], int) else 0,
        "started": str(known["started"] or ""),
        "supervisor": watcher.get("pid") if isinstance(watcher, dict) else None,
    }
