"""What a queue holds, counted in Redis with bounded work."""

from dataclasses import dataclass

from hotqueue import keys, queue_scripts
from hotqueue.connection import Connection
from hotqueue.frame import enqueued_ms, peek_id

MOST_LISTS = 1000  # in-flight lists counted in one call


@dataclass(frozen=True, slots=True)
class Stats:
    """One look at a queue: counts, and times in seconds.

    `oldest_s` is the age of the next message, None where none waits or it has no id. `consumers` are those
    of at-least-once, of which a child has one for each of its threads or tasks; `done` counts what they
    have acknowledged since the queue exists: the difference of two looks is a rate. `trimmed` counts the
    dead that a limit has deleted in that time. `paused_s` is how long a pause lasts still, infinite for one
    without end, None for none.
    While work goes on, a message on its way may be counted twice or not at all.
    """

    queue: str
    waiting: int
    in_flight: int
    delayed: int
    dead: int
    done: int
    trimmed: int
    consumers: int
    oldest_s: float | None
    paused_s: float | None
    at_ms: int

    @property
    def total(self) -> int:
        """All that was accepted and is neither done nor dropped."""
        return self.waiting + self.in_flight + self.delayed + self.dead


def look(connection: Connection, queue: str) -> Stats:
    """Count. Raises NotSent, Refused or OutcomeUnknown."""
    waiting, delayed, dead, done, pause_ms, head, now_ms, consumers, retired, trimmed = queue_scripts.stats(
        connection, queue
    )
    lists = [keys.inflight(queue, name.decode()) for name in (*consumers, *retired)]
    in_flight = sum(
        queue_scripts.lengths(connection, lists[start : start + MOST_LISTS])
        for start in range(0, len(lists), MOST_LISTS)
    )
    message_id = peek_id(head)
    return Stats(
        queue=queue,
        waiting=waiting,
        in_flight=in_flight,
        delayed=delayed,
        dead=dead,
        done=done,
        trimmed=trimmed,
        consumers=len(consumers),
        oldest_s=max(0.0, (now_ms - enqueued_ms(message_id)) / 1000) if any(message_id) else None,
        paused_s=_pause_s(pause_ms),
        at_ms=now_ms,
    )


def _pause_s(pause_ms: int) -> float | None:
    if pause_ms == -2:  # noqa: PLR2004 - no such key, as PTTL says it
        return None
    return float("inf") if pause_ms == -1 else pause_ms / 1000
