"""Typed functions for the Lua files that concern a queue as a whole; those of the claim protocol are in `scripts.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hotqueue import keys
from hotqueue.connection import Connection
from hotqueue.scripts import RELEASE_BYTES, RELEASE_FRAMES, Script

Where = Literal["tail", "head", "in", "at"]

_push = Script("push")
_send = Script("send")
_tend = Script("tend")
_lapsed = Script("lapsed")
_dead_move = Script("dead_move")
_dead_find = Script("dead_find")
_stats = Script("stats")
_lengths = Script("lengths")


def push(connection: Connection, queue: str, most: int, frames: Sequence[bytes]) -> tuple[int, int]:
    """Put frames at the tail; return (1, length), or (-1, length) and nothing done if `most` would be exceeded."""
    verdict, length = _push(connection, [keys.key_for_name(queue), keys.delayed(queue)], most, *frames)
    return int(verdict), int(length)


def send(
    connection: Connection,
    queue: str,
    frame: bytes,
    message_id: str,
    *,
    where: Where = "tail",
    at_ms: int = 0,
    unique: str | None = None,
    unique_ms: int = 0,
    most: int | None = None,
) -> tuple[int, Any]:
    """Accept one message; return (1, id), (0, id of the first with this unique key), or (-1, length) if full."""
    names = [keys.key_for_name(queue), keys.delayed(queue), keys.unique(queue, unique or "")]
    taken_ms = "" if unique is None else unique_ms
    room = "" if most is None else most
    verdict, what = _send(connection, names, frame, message_id, where, at_ms, taken_ms, room)
    return int(verdict), what


@dataclass(frozen=True, slots=True)
class Tended:
    """What `tend` did and found."""

    moved: int
    next_due_s: float
    paused: bool
    sweeps: Sequence[str]


def tend(connection: Connection, queue: str) -> Tended:
    """Move a bounded number of due messages to the queue; list retired incarnations whose list is due for a sweep."""
    names = [keys.key_for_name(queue), keys.delayed(queue), keys.retired(queue), keys.paused(queue)]
    moved, next_ms, paused, *sweeps = _tend(connection, names, RELEASE_FRAMES, RELEASE_BYTES)
    next_due_s = float("inf") if next_ms < 0 else next_ms / 1000
    return Tended(moved, next_due_s, bool(paused), [name.decode() for name in sweeps])


def lapsed(connection: Connection, queue: str) -> dict[str, int]:
    """Return incarnations whose lease is over by the server's clock, and when it ended in ms."""
    found = _lapsed(connection, [keys.consumers(queue)])
    return {name.decode(): int(float(end)) for name, end in zip(found[::2], found[1::2], strict=True)}


def dead_move(connection: Connection, queue: str, pairs: Sequence[bytes]) -> int:
    """Replace frames of the dead list by frames at the tail of the queue, or by nothing; return how many."""
    return int(_dead_move(connection, [keys.dead(queue), keys.key_for_name(queue)], *pairs))


def dead_find(connection: Connection, queue: str, place: int, count: int, message_id: bytes) -> list[bytes] | None:
    """Look at `count` entries from `place`; return [frame, time], [] if it is not among them, None past the end."""
    found: list[bytes] | None = _dead_find(connection, [keys.dead(queue)], place, count, message_id)
    return found


def stats(connection: Connection, queue: str) -> list[Any]:
    """Return the counts that the header of the script lists."""
    names = [
        keys.key_for_name(queue), keys.delayed(queue), keys.dead(queue), keys.consumers(queue), keys.claims(queue),
        keys.retired(queue), keys.paused(queue),
    ]  # fmt: skip
    found: list[Any] = _stats(connection, names)
    return found


def lengths(connection: Connection, lists: Sequence[str]) -> int:
    """Return the sum of the lengths of some lists of one queue."""
    return int(_lengths(connection, list(lists)))
