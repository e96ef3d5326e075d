"""The tally: what children count of their messages, in memory that they share with the supervisor.

Every slot has a record for each queue, which its child writes without a system call. No record is ever
cleared, the next child in the slot counts on: so whatever ends a child, nothing that it has counted is lost
or counted twice.
"""

import mmap
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add

from hotqueue.ending import Run, Verdict
from hotqueue.envelope import NO_TRAIL
from hotqueue.errors import TimeLimit
from hotqueue.frame import enqueued_ms
from hotqueue.histogram import BOUNDS_S, BUCKETS

OUTCOMES: Sequence[Verdict] = ("done", "retried", "buried")

_WORD = 8
_SERIES = BUCKETS + 2  # words for each outcome: durations, how many had none, the sum of the durations
_UNRUN, _SUM = BUCKETS, BUCKETS + 1
_WAITS = len(OUTCOMES) * _SERIES
_WAIT_SUM = _WAITS + BUCKETS
_RECORD = struct.Struct("=" + len(OUTCOMES) * f"{BUCKETS + 1}Qd" + f"{BUCKETS}Qd")
_WORDS = _RECORD.size // _WORD


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of one queue. Durations and waits are counts by bucket, and their sum in seconds."""

    words: tuple[float, ...] = (0,) * _WORDS

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(tuple(map(add, self.words, other.words)))

    def ended(self, outcome: Verdict) -> int:
        """Return how many runs had this end."""
        start = OUTCOMES.index(outcome) * _SERIES
        return int(sum(self.words[start : start + _SUM]))

    @property
    def durations(self) -> list[int]:
        """How long handlers ran, whatever the end."""
        series = (self.words[start : start + BUCKETS] for start in range(0, _WAITS, _SERIES))
        return [int(sum(counts)) for counts in zip(*series, strict=True)]

    @property
    def duration_s(self) -> float:
        """The sum of the durations; counted with `in_full` only."""
        return sum(self.words[_SUM:_WAITS:_SERIES])

    @property
    def waits(self) -> list[int]:
        """How long messages waited for their first run; counted with `in_full` only."""
        return [int(count) for count in self.words[_WAITS:_WAIT_SUM]]

    @property
    def wait_s(self) -> float:
        """The sum of the waits."""
        return self.words[_WAIT_SUM]


class Tally:
    """All records. The template makes room for them behind the scoreboard, and the supervisor reads."""

    def __init__(self, descriptor: int, queues: Sequence[str], slots: int) -> None:
        """Map the end of a file that `make_room` has enlarged."""
        self.queues = queues
        self._slots = slots
        size = _size(len(queues), slots)
        self.bytes = mmap.mmap(descriptor, size, offset=os.fstat(descriptor).st_size - size)
        self.words = memoryview(self.bytes).cast("Q")
        self.sums = memoryview(self.bytes).cast("d")

    def record(self, slot: int, queue_index: int) -> int:
        """Return at which word a record begins: behind those that say which slots are in use."""
        return self._slots + ((slot - 1) * len(self.queues) + queue_index) * _WORDS

    def counted(self) -> dict[str, Counted]:
        """Return what all slots have counted, by queue."""
        used = [slot for slot in range(1, self._slots + 1) if self.words[slot - 1]]
        return {
            queue: self._sum(self.record(slot, index) for slot in used)
            for index, queue in enumerate(self.queues)
        }

    def durations(self, slot: int) -> list[int]:
        """Return how long handlers ran in one slot, in the runs of all its children."""
        if not self.words[slot - 1]:
            return [0] * BUCKETS
        return self._sum(self.record(slot, index) for index in range(len(self.queues))).durations

    def _sum(self, records: Iterable[int]) -> Counted:
        total = Counted()
        for at in records:
            total += Counted(_RECORD.unpack_from(self.bytes, at * _WORD))
        return total


class SlotTally:
    """A child's own records."""

    def __init__(self, tally: Tally, slot: int, *, in_full: bool) -> None:
        """Without `in_full` only what is free is counted: how often a handler took about how long."""
        tally.words[slot - 1] = 1
        self._words = tally.words
        self._sums = tally.sums
        self._at = {queue: tally.record(slot, index) for index, queue in enumerate(tally.queues)}
        self._in_full = in_full

    def count(self, run: Run, outcome: Verdict) -> None:
        """Count a run that has just ended."""
        at = self._at[run.delivery.queue]
        seconds = time.monotonic() - run.started_s
        if outcome != "done":
            at += OUTCOMES.index(outcome) * _SERIES
            ran_s = _ran_s(run, seconds)
            if ran_s is None:
                self._words[at + _UNRUN] += 1
                return
            seconds = ran_s
        self._words[at + bisect_left(BOUNDS_S, seconds)] += 1
        if self._in_full:
            self._sums[at + _SUM] += seconds
            self._count_wait(run, seconds)

    def _count_wait(self, run: Run, ran_s: float) -> None:
        delivery = run.delivery
        if delivery.message_id is None or delivery.trail is not NO_TRAIL:
            return  # nobody knows since when, or it has run before
        waited_s = time.time() - ran_s - enqueued_ms(delivery.message_id) / 1000
        if waited_s < 0:  # by the clock of a producer that is ahead
            waited_s = 0.0
        at = self._at[delivery.queue]
        self._words[at + _WAITS + bisect_left(BOUNDS_S, waited_s)] += 1
        self._sums[at + _WAIT_SUM] += waited_s


def make_room(descriptor: int, queues: int, slots: int) -> None:
    """Enlarge a file by what a tally takes, from the beginning of a page."""
    end = -(-os.fstat(descriptor).st_size // mmap.PAGESIZE) * mmap.PAGESIZE
    os.ftruncate(descriptor, end + _size(queues, slots))


def _size(queues: int, slots: int) -> int:
    size = _WORD * (slots + slots * queues * _WORDS)
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _ran_s(run: Run, seconds: float) -> float | None:
    """Return how long the handler of a failed run took: not since now if that was another process."""
    if type(run.error) is TimeLimit:
        return run.delivery.trail.overran_s
    return seconds if run.outcome in {"failed", "rejected"} else None
