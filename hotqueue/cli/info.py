"""``hotqueue info``: what the queues hold and how fast they move."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import click

from hotqueue import stats
from hotqueue.cli.access import Access, Duration, as_json, echo_json, with_access
from hotqueue.cli.text import age, printable, screen_width, some, table
from hotqueue.stats import Stats

LOOKS_APART_S = 1.0
HEAD = ("queue", "waiting", "in flight", "delayed", "dead", "oldest", "in/s", "out/s", "consumers")
_NONE = "No queue was found there."


@click.command()
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option(
    "-i",
    "--interval",
    type=Duration(least=0.1),
    metavar="SECONDS",
    help="Look again and again, until Ctrl-C.",
)
@as_json
@with_access
def info(access: Access, queues: tuple[str, ...], *, interval: float | None, as_json: bool) -> None:
    """Show what QUEUE, or every queue, holds and how fast it moves.

    Rates are the difference of two looks, one second apart or SECONDS: what is new there, and what was
    acknowledged or deleted. Consumers are those of at-least-once; a child with --threads 8 or --tasks 8
    counts as 8.
    """
    names = [access.check(name) for name in queues]
    before: Mapping[str, Stats] = {}
    if interval is None:
        before = _look(access, names)
        if before:
            time.sleep(LOOKS_APART_S)
    show = _Json(repeated=interval is not None) if as_json else _Screen(repeated=interval is not None)
    try:
        while True:
            began = time.monotonic()
            now = _look(access, names)
            moving = [Moving(each, rates(before.get(each.queue), each)) for each in now.values()]
            show(moving, "" if names else access.finder.lacks)
            if interval is None:
                return
            before = now
            time.sleep(max(0.0, began + interval - time.monotonic()))
    except KeyboardInterrupt:
        return


@dataclass(frozen=True, slots=True)
class Moving:
    """A queue, and how many messages a second come in and go out; None where that is not known yet."""

    stats: Stats
    rates: tuple[float | None, float | None]

    def row(self) -> tuple[str, ...]:
        """Return what stands in the table."""
        here = self.stats
        counts = (here.waiting, here.in_flight, here.delayed, here.dead)
        moving = ("-" if rate is None else f"{rate:,.1f}" for rate in self.rates)
        oldest = age(here.oldest_s) if here.waiting else "-"
        return (printable(here.queue), *(f"{n:,}" for n in counts), oldest, *moving, f"{here.consumers:,}")

    def fields(self) -> dict[str, Any]:
        """Return what stands in the JSON object. `paused_s` is null for a pause without end, too."""
        here = self.stats
        endless = here.paused_s is None or not isfinite(here.paused_s)
        return {
            "queue": here.queue,
            "waiting": here.waiting,
            "in_flight": here.in_flight,
            "delayed": here.delayed,
            "dead": here.dead,
            "oldest_s": here.oldest_s,
            "in_per_s": self.rates[0],
            "out_per_s": self.rates[1],
            "done": here.done,
            "trimmed": here.trimmed,
            "consumers": here.consumers,
            "paused": here.paused_s is not None,
            "paused_s": None if endless else here.paused_s,
        }


def rates(before: Stats | None, now: Stats) -> tuple[float | None, float | None]:
    """Return messages a second in and out between two looks; None where there is only one."""
    if before is None or now.at_ms <= before.at_ms:
        return None, None
    seconds = (now.at_ms - before.at_ms) / 1000
    out = now.done - before.done + now.trimmed - before.trimmed
    came = now.total - before.total + out
    if came < 0:  # deleted, or popped by those who acknowledge nothing
        came, out = 0, out - came
    return came / seconds, out / seconds


class _Json:
    """One object a look."""

    def __init__(self, *, repeated: bool) -> None:
        self._repeated = repeated

    def __call__(self, queues: Sequence[Moving], lacks: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        echo_json({"at": at, "queues": [each.fields() for each in queues], "complete": not lacks})
        if self._repeated:
            sys.stdout.flush()


class _Screen:
    """A table; on a terminal the next one stands in its place."""

    def __init__(self, *, repeated: bool) -> None:
        self._repeated = repeated
        self._lines = 0

    def __call__(self, queues: Sequence[Moving], lacks: str) -> None:
        lines = table(HEAD, [each.row() for each in queues], screen_width()) if queues else [_NONE]
        lines += [_pause(each.stats) for each in queues if each.stats.paused_s is not None]
        lines += [_trimmed(each.stats) for each in queues if each.stats.trimmed]
        if lacks:
            lines.append(f"Queues may be missing: {lacks}. `hotqueue info QUEUE` counts any.")
        if self._repeated:
            lines.append(f"{datetime.now().astimezone():%H:%M:%S}")
            if sys.stdout.isatty() and self._lines:
                click.echo(f"\x1b[{self._lines}F\x1b[J", nl=False)
        self._lines = len(lines)
        click.echo("\n".join(lines))
        sys.stdout.flush()


def _pause(paused: Stats) -> str:
    left_s = paused.paused_s or 0.0
    until = (
        f"for {age(left_s)} more" if isfinite(left_s) else f"until hotqueue resume {printable(paused.queue)}"
    )
    return f"{printable(paused.queue)} is paused {until}."


def _trimmed(here: Stats) -> str:
    which = some(here.trimmed, "dead message")
    return f"Of {printable(here.queue)} {which} went by --max-dead or --max-dead-age so far."


def _look(access: Access, names: Sequence[str]) -> dict[str, Stats]:
    with access.pool.lent() as connection:
        return {name: stats.look(connection, name) for name in names or access.all()}
