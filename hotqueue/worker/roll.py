"""The roll: what each child does right now, for people and programs that watch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hotqueue.worker import layout, processes
from hotqueue.worker.children import Child

_WORDS = {layout.IDLE: "idle", layout.BUSY: "busy", layout.STOPPING: "stopping"}


@dataclass(frozen=True, slots=True)
class Census:
    """How many children there are to be, there are, run a message, and take or run messages."""

    wanted: int
    size: int
    busy: int
    ready: int


def count(wanted: int, children: Collection[Child]) -> Census:
    """Count the children."""
    ready = sum(child.is_ready and not child.told for child in children)
    return Census(wanted, len(children), sum(child.is_busy for child in children), ready)


def call(children: Iterable[Child], ends: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return a record of each child; `ends` is how many were in its slot before it."""
    known = sorted((child for child in children if child.pid), key=lambda child: child.slot)
    return [_record(child, ends.get(child.slot, 0)) for child in known]


def _record(child: Child, ends: int) -> dict[str, Any]:
    board, running = child.home.board, child.running
    record: dict[str, Any] = {
        "child": child.slot,
        "pid": child.pid,
        "state": "stopping" if child.told else _WORDS.get(board.state(child.slot), "starting"),
        "done": board.begun(child.slot) - len(running),
        "memory_mib": round(processes.memory_mib(child.pid), 1),
        "ends": ends,
        "took": child.took,
    }
    if running:
        oldest = running[0]
        handler = child.home.served[oldest.queue].handler
        record |= {**oldest.message, "handler": handler, "running_ms": oldest.for_ms}
    if len(running) > 1:
        record["running"] = len(running)
    return record
