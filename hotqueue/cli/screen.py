"""How `hotqueue top` shows what it sees: lines of text, no wider and no more than fit on the terminal."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hotqueue.cli import crews, info
from hotqueue.cli.scene import Crew, Scene, died_s, running_s, took
from hotqueue.cli.text import age, duration, fit, printable, some, table
from hotqueue.histogram import quantile
from hotqueue.supervisors import Child, Supervisor

Kind = Literal["head", "plain", "busy", "quiet", "bad"]
# Columns of one width: what moves on a screen is looked at.
_QUEUE_HEAD = tuple(f"{word:>8}" if word.endswith("/s") else word for word in info.HEAD[:-1])
_CHILD = "{:>3}  {:<8} {:>5} {:>7} {:>5} {:>5} {:>6} {:>4} {:>5}  {}"
_CHILD_HEAD = _CHILD.format("#", "state", "for", "msg/s", "p50", "p95", "MiB", "ends", "last", "message")
_SLOW_S = 3.0
_LEAST_QUEUES = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and what kind of line it is."""

    text: str
    kind: Kind = "plain"


def lines(scene: Scene | None, address: str, width: int, height: int) -> list[Line]:
    """Return at most `height` lines."""
    if scene is None:
        return [Line(fit(f"Looking at {address} …", width))]
    title = f"{address}  {some(len(scene.crews), 'worker')}, {some(_children(scene), 'child', 'children')}"
    told = [Line(f"{fit(printable(title), width - 9):{width - 9}}  q quits", "head")]
    old_s = time.monotonic() - scene.at_s
    if problem := scene.problem or (f"Redis gives no answer for {age(old_s)}" if old_s > _SLOW_S else ""):
        told.append(Line(fit(printable(problem), width), "bad"))
    told.append(Line(""))
    told += _of_queues(scene.queues, width, max(_LEAST_QUEUES, height // 3))
    for crew in scene.crews:
        told.append(Line(""))
        told += [Line(fit(line.text, width), line.kind) for line in _of_crew(crew)]
    if not scene.crews:
        told += [Line(""), Line("No worker is known there.")]
    if len(told) > height:
        left = len(told) - height + 1
        told[height - 1 :] = [Line(fit(f"… and {some(left, 'line')} more", width), "quiet")]
    return told


def _children(scene: Scene) -> int:
    return sum(len(crew.supervisor.children) for crew in scene.crews)


def _of_queues(queues: Sequence[info.Moving], width: int, most: int) -> Iterator[Line]:
    """Yield a table of them; if there are more than `most`, of those that hold the most."""
    if not queues:
        yield Line("No queue is known there.")
        return
    shown = queues
    if len(queues) > most:
        fullest = sorted(queues, key=lambda each: each.stats.total, reverse=True)[:most]
        shown = [each for each in queues if each in fullest]
    head, *rows = table(_QUEUE_HEAD, [each.row()[:-1] for each in shown], width)
    yield Line(fit(head, width), "head")
    for row, each in zip(rows, shown, strict=True):
        yield Line(fit(row, width), "plain" if each.stats.total else "quiet")
    if len(shown) < len(queues):
        yield Line(f"… and {some(len(queues) - len(shown), 'queue')} with less", "quiet")


def _of_crew(crew: Crew) -> Iterator[Line]:
    supervisor = crew.supervisor
    yield Line(_title(supervisor), "head")
    yield Line(_CHILD_HEAD, "quiet")
    for child in supervisor.children:
        kind: Kind = "busy" if child.state == "busy" else "quiet" if child.state == "idle" else "plain"
        yield Line(printable(_row(crew, child)), kind)
    ago_s = died_s(supervisor)
    if ago_s is not None:
        death = supervisor.deaths[-1]
        ran = "" if death.queue is None else f", ran {death.handler} of {death.queue}"
        said = f"  last death {age(ago_s)} ago: child {death.child}, {death.cause}{ran}"
        yield Line(printable(said), "plain")


def _title(supervisor: Supervisor) -> str:
    up_s = (supervisor.at_ms - supervisor.started_ms) / 1000
    told = [
        crews.title(supervisor),
        crews.state(supervisor),
        f"{supervisor.ready} of {supervisor.wanted} ready",
        f"up {age(up_s)}",
        printable(supervisor.targets),
    ]
    if _SLOW_S < supervisor.heard_s <= crews.SILENT_S:
        told.append(f"as of {age(supervisor.heard_s)} ago")
    return "  ".join(told)


def _row(crew: Crew, child: Child) -> str:
    rate, lasted = crew.rates.get(child.pid), took(crew, child)
    return _CHILD.format(
        child.child,
        child.state,
        age(running_s(crew.supervisor, child)),
        "-" if rate is None else f"{max(rate, 0.0):,.1f}",
        duration(quantile(lasted, 0.50)),
        duration(quantile(lasted, 0.95)),
        f"{child.memory_mib:,.0f}",
        child.ends or "-",
        age(died_s(crew.supervisor, child.child)),
        _message(child),
    ).rstrip()


def _message(child: Child) -> str:
    if child.queue is None:
        return ""
    beside = "" if child.running is None else f" and {child.running - 1} more"
    return f"{child.queue} {child.id or 'without an id'}{beside}"
