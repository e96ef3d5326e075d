"""Typed functions for the Lua files about whole queues and workers; those of claims: `scripts.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hotqueue import keys
from hotqueue.connection import Connection
from hotqueue.scripts import RELEASE_BYTES, RELEASE_FRAMES, Script

Where = Literal["tail", "head", "in", "at"]
Way = Literal["up", "down"]

FIND_PLACES = 2000
TEND_FRAMES = 100
RETRY_FRAMES = 100  # each costs a removal from a sorted set and a push, some 50 µs
HELD_LISTS = 500

_push = Script("push")
_send = Script("send")
_tend = Script("tend")
_lapsed = Script("lapsed")
_dead_page = Script("dead_page")
_dead_find = Script("dead_find")
_dead_retry = Script("dead_retry")
_dead_trim = Script("dead_trim")
_stats = Script("stats")
_lengths = Script("lengths")
_peek = Script("peek")
_held = Script("held")
_clear = Script("clear")
_allowed = Script("allowed")
_publish = Script("publish")


def push(connection: Connection, queue: str, most: int, frames: Sequence[bytes]) -> tuple[bool, int]:
    """Put frames at the tail, if then at most `most` wait or are delayed; return whether, and how many do."""
    verdict, length = _push(connection, [keys.key_for_name(queue), keys.delayed(queue)], most, *frames)
    return verdict == 1, int(length)


def send(
    connection: Connection,
    queue: str,
    frame: bytes,
    message_id: str,
    *,
    where: Where = "tail",
    at_ms: float = 0,
    unique: str | None = None,
    unique_ms: int = 0,
    most: int | None = None,
    durable: bool = False,
) -> tuple[int, Any]:
    """Accept one message; `durable` if the caller waits until it is on disk.

    Returns (1, id), (0, id of the first with this unique key), or (-1, how many wait or are delayed) if there
    are `most` already.
    """
    names = [keys.key_for_name(queue), keys.delayed(queue), keys.unique(queue, unique or "")]
    taken_ms = "" if unique is None else unique_ms
    room = "" if most is None else most
    verdict, what = _send(connection, names, frame, message_id, where, at_ms, taken_ms, room, int(durable))
    return int(verdict), what


@dataclass(frozen=True, slots=True)
class Tended:
    """What `tend` did and found."""

    moved: int
    next_due_s: float
    paused: bool
    sweeps: Sequence[str]


def tend(connection: Connection, queue: str) -> Tended:
    """Move a bounded number of due messages to the queue; list retired incarnations to be swept."""
    names = [keys.key_for_name(queue), keys.delayed(queue), keys.retired(queue), keys.paused(queue)]
    moved, next_ms, paused, *sweeps = _tend(connection, names, TEND_FRAMES, RELEASE_BYTES)
    next_due_s = float("inf") if next_ms < 0 else next_ms / 1000
    return Tended(moved, next_due_s, bool(paused), [name.decode() for name in sweeps])


def lapsed(connection: Connection, queue: str, lease_ms: int) -> dict[str, int]:
    """Return incarnations whose lease is over, or too long to be true, and when it ends in ms."""
    found = _lapsed(connection, [keys.consumers(queue)], lease_ms)
    return {name.decode(): int(float(end)) for name, end in zip(found[::2], found[1::2], strict=True)}


def dead_retry(connection: Connection, queue: str, frames: Sequence[bytes]) -> int:
    """Put these frames back at the tail of the queue; return how many were there."""
    names = [keys.dead(queue), keys.key_for_name(queue)]
    return int(_dead_retry(connection, names, "", len(frames), sum(map(len, frames)) + 1, *frames))


def dead_retry_oldest(connection: Connection, queue: str, until_ms: float, most: int) -> int:
    """Put the oldest of those buried until then back, a bounded number; return how many, 0 when all are."""
    names = [keys.dead(queue), keys.key_for_name(queue)]
    return int(_dead_retry(connection, names, until_ms, min(most, RETRY_FRAMES), RELEASE_BYTES))


def dead_page(
    connection: Connection, queue: str, way: Way, at: str | float, after: bytes | None
) -> list[tuple[bytes, float]]:
    """Return the frames after `after`, which was buried at `at`, and when each of them was buried."""
    limits = (RELEASE_FRAMES, RELEASE_BYTES)
    behind = () if after is None else (after,)
    found = _dead_page(connection, [keys.dead(queue)], way, *limits, at, *behind)
    return [(raw, float(at)) for raw, at in zip(found[::2], found[1::2], strict=True)]


def dead_find(connection: Connection, queue: str, message_id: bytes) -> tuple[bytes, float] | None:
    """Return a frame by its id and when it was buried, in as many calls as that takes; or None."""
    found: Any = 0
    while isinstance(found, int):
        limits = (FIND_PLACES, RELEASE_BYTES)
        found = _dead_find(connection, [keys.dead(queue)], found, *limits, message_id)
    return None if found is None else (found[0], float(found[1]))


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What `dead_trim` did."""

    deleted: int
    left: int
    more: bool


def dead_trim(connection: Connection, queue: str, most: int | None, max_age_s: float | None) -> Trimmed:
    """Delete a bounded number of the oldest dead that are more than `most`, or dead for `max_age_s`."""
    names = [keys.dead(queue), keys.counters(queue)]
    limits = ("" if most is None else most, "" if max_age_s is None else round(max_age_s * 1000))
    deleted, left, more = _dead_trim(connection, names, *limits, RETRY_FRAMES, RELEASE_BYTES)
    return Trimmed(deleted, left, bool(more))


def stats(connection: Connection, queue: str) -> list[Any]:
    """Return the counts that the header of the script lists."""
    names = [
        keys.key_for_name(queue), keys.delayed(queue), keys.dead(queue), keys.consumers(queue),
        keys.counters(queue), keys.retired(queue), keys.paused(queue),
    ]  # fmt: skip
    found: list[Any] = _stats(connection, names)
    return found


def lengths(connection: Connection, lists: Sequence[str]) -> int:
    """Return the sum of the lengths of some lists of one queue."""
    return int(_lengths(connection, list(lists)))


def peek(connection: Connection, queue: str, count: int, body_bytes: int) -> list[tuple[bytes, int]]:
    """Return the next frames, their bodies cut to `body_bytes`, and the size of each body."""
    peeked: list[Any] = []
    while len(peeked) < 2 * count:
        limits = (count - len(peeked) // 2, RELEASE_BYTES)
        found = _peek(connection, [keys.key_for_name(queue)], len(peeked) // 2, *limits, body_bytes)
        if not found:
            break
        peeked += found
    return list(zip(peeked[::2], peeked[1::2], strict=True))


def held(connection: Connection, lists: Sequence[str]) -> list[tuple[int, bytes]]:
    """Return how long each of some lists of one queue is, and the first 28 bytes of its first frame."""
    counted: list[Any] = []
    while len(counted) < 2 * len(lists):
        start = len(counted) // 2
        counted += _held(connection, list(lists[start : start + HELD_LISTS]), RELEASE_BYTES)
    return list(zip(counted[::2], counted[1::2], strict=True))


def clear(connection: Connection, names: Sequence[str]) -> list[int]:
    """Delete lists and sorted sets of one queue; return how many each of them held."""
    return [int(each) for each in _clear(connection, list(names))]


def allowed(connection: Connection, command: Sequence[str]) -> bool | None:
    """Tell whether the user of the connection may run a command; None where the server cannot say."""
    verdict: int | None = _allowed(connection, [], *command)
    return None if verdict is None else bool(verdict)


def publish(connection: Connection, supervisor: str, ttl_ms: int, says: Mapping[str, str]) -> bool:
    """Have a supervisor known for so long, or with 0 ms no more; return whether somebody watches."""
    names = [keys.SUPERVISORS, keys.supervisor(supervisor), keys.WATCHED]
    words = (word for pair in says.items() for word in pair)
    return bool(_publish(connection, names, supervisor, ttl_ms, *words))
