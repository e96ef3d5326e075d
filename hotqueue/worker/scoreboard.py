"""The scoreboard: memory that the supervisor and its children share, written without a system call.

Every field is an aligned word of 8 bytes, which is never seen half written. A record of several words that
must fit together is bracketed by a version word, odd while it is being written.
"""

import mmap
import os
import secrets
import tempfile
import time
from dataclasses import dataclass

from hotqueue.delivery import Delivery
from hotqueue.frame import id_text, peek_id
from hotqueue.upkeep import LEASE_MS

STARTING, IDLE, BUSY, STOPPING = 1, 2, 3, 4
NO_CLAIM = 2**64 - 1
FRESH_NS = LEASE_MS * 1_000_000 // 2
_TRIES = 100  # to read a record that is being written

_WORD = 8
_SHARED = 2  # words a queue, written by the supervisor
_PAUSED, _RENEWED = 0, 1
_CHILD = 16  # words
_PID, _STATE, _TICKET, _BEGUN = 0, 1, 2, 3
_VERSION, _QUEUE, _ID_HIGH, _ID_LOW, _SINCE = 4, 5, 6, 7, 8
_PLACE = 8
_INCARNATION, _CLIENT, _CLAIM, _STARTED, _FINISHED = 0, 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Place:
    """What one child holds of one queue. `started` and `finished` count frames of the claim."""

    queue: str
    incarnation: int
    client_id: int
    claim: int
    started: int
    finished: int

    @property
    def is_running(self) -> bool:
        """Whether a frame was started and not finished."""
        return self.started > self.finished

    @property
    def is_held(self) -> bool:
        """Whether frames may lie on its list that are not known to be done there."""
        return bool(self.incarnation) and (self.claim == NO_CLAIM or self.started > 0)


@dataclass(frozen=True, slots=True)
class Running:
    """The message a child is busy with."""

    queue: str
    id: str | None
    since_ns: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One child's record as it was at one moment."""

    state: int
    ended: int  # messages
    running: Running | None
    places: tuple[Place, ...]


class Scoreboard:
    """The whole of it. The supervisor makes it and reads; each child writes its own slot."""

    def __init__(self, descriptor: int, queues: list[str], slots: int) -> None:
        """Map `descriptor`, a file of at least `size(len(queues), slots)` bytes."""
        self.queues = queues
        self.slots = slots
        self._stride = _CHILD + _PLACE * len(queues)
        self._map = mmap.mmap(descriptor, size(len(queues), slots))
        self.words = memoryview(self._map).cast("Q")

    def slot(self, number: int) -> int:
        """Return where the record of child `number` (from 1) begins."""
        return _SHARED * len(self.queues) + (number - 1) * self._stride

    def shared(self, queue_index: int) -> int:
        """Return where the words that the supervisor writes for a queue begin."""
        return _SHARED * queue_index

    def pause(self, queue_index: int, *, paused: bool) -> None:
        """Have the children start nothing more of a queue, or go on."""
        self.words[self.shared(queue_index) + _PAUSED] = paused

    def renewed(self, queue_index: int) -> None:
        """Note that the leases on a queue have just been renewed."""
        self.words[self.shared(queue_index) + _RENEWED] = time.monotonic_ns()

    def place(self, number: int, queue_index: int) -> int:
        """Return where the place of child `number` for a queue begins."""
        return self.slot(number) + _CHILD + _PLACE * queue_index

    def invite(self, number: int) -> int:
        """Return a ticket by which the next child of a slot, and no other, may take it."""
        ticket = secrets.randbits(63) + 1
        self.words[self.slot(number) + _TICKET] = ticket
        return ticket

    def clear(self, number: int) -> None:
        """Empty a slot whose child has ended."""
        start = self.slot(number)
        for word in range(start, start + self._stride):
            self.words[word] = 0

    def withdraw(self, number: int) -> int:
        """Make the ticket void; return the pid of the child that has taken the slot before, or 0."""
        self.words[self.slot(number) + _TICKET] = 0
        return self.words[self.slot(number) + _PID]

    def read(self, number: int) -> Reading:
        """Read a child's record."""
        at = self.slot(number)
        places = tuple(self._place(number, index) for index in range(len(self.queues)))
        running = self._running(at)
        if running is not None and not places[self.queues.index(running.queue)].is_running:
            running = None  # it has ended, and no other has begun
        return Reading(
            state=self.words[at + _STATE],
            ended=self.words[at + _BEGUN] - (running is not None),
            running=running,
            places=places,
        )

    def state(self, number: int) -> int:
        """Return the state alone, 0 for an empty slot."""
        return self.words[self.slot(number) + _STATE]

    def incarnations(self, queue_index: int) -> list[int]:
        """Return the incarnations of all children on a queue."""
        return self._known(queue_index, _INCARNATION)

    def clients(self, queue_index: int) -> list[int]:
        """Return the numbers of the connections by which children wait for a queue."""
        return self._known(queue_index, _CLIENT)

    def _known(self, queue_index: int, field: int) -> list[int]:
        found = (self.words[self.place(number, queue_index) + field] for number in self.numbers)
        return [word for word in found if word]

    @property
    def numbers(self) -> range:
        """All slot numbers."""
        return range(1, self.slots + 1)

    def _running(self, at: int) -> Running | None:
        words = self.words
        for _ in range(_TRIES):
            version = words[at + _VERSION]
            queue, high, low, since = (words[at + field] for field in (_QUEUE, _ID_HIGH, _ID_LOW, _SINCE))
            if version % 2 == 0 and version == words[at + _VERSION]:
                break
        else:  # its child died while writing it
            return None
        if not queue:
            return None
        message_id = id_text(high.to_bytes(8) + low.to_bytes(8)) if high else None
        return Running(self.queues[queue - 1], message_id, since)

    def _place(self, number: int, index: int) -> Place:
        at = self.place(number, index)
        fields = (self.words[at + field] for field in (_INCARNATION, _CLIENT, _CLAIM, _STARTED, _FINISHED))
        return Place(self.queues[index], *fields)


class Slot:
    """A child's own record: the progress of its consumer, told to whoever reads the scoreboard."""

    def __init__(self, board: Scoreboard, number: int) -> None:
        """`number` counts from 1."""
        self.number = number
        self._words = board.words
        self._at = board.slot(number)
        self._index = {queue: index for index, queue in enumerate(board.queues)}
        self._places = {queue: board.place(number, index) for queue, index in self._index.items()}
        self._shared = {queue: board.shared(index) for queue, index in self._index.items()}

    def take(self, ticket: int) -> bool:
        """Say which process this is; False if the slot was given to another one meanwhile.

        First the pid, then the look at the ticket: whoever withdraws it sees the pid, or is seen.
        """
        if self._words[self._at + _TICKET] != ticket:
            return False
        self._words[self._at + _PID] = os.getpid()
        if self._words[self._at + _TICKET] != ticket:
            return False
        self._words[self._at + _STATE] = STARTING
        return True

    def is_paused(self, queue: str) -> bool:
        """Look whether the supervisor has seen that a queue is paused."""
        return bool(self._words[self._shared[queue] + _PAUSED])

    def is_fresh(self, queue: str) -> bool:
        """Look whether the supervisor has renewed the leases on a queue within half of one."""
        return time.monotonic_ns() - self._words[self._shared[queue] + _RENEWED] < FRESH_NS

    def idle(self) -> None:
        """Show that nothing runs."""
        self._show(0, 0, 0, 0)
        self._words[self._at + _STATE] = IDLE

    def stopping(self) -> None:
        """Show that this child was told to stop, and what ran is over."""
        self._show(0, 0, 0, 0)
        self._words[self._at + _STATE] = STOPPING

    def running(self, delivery: Delivery, handler: str) -> None:
        """Show what runs, since when."""
        del handler  # the supervisor knows the handler of each queue
        message_id = peek_id(delivery.raw)
        high, low = int.from_bytes(message_id[:8]), int.from_bytes(message_id[8:])
        self._show(self._index[delivery.queue] + 1, high, low, time.monotonic_ns())
        self._words[self._at + _BEGUN] += 1
        self._words[self._at + _STATE] = BUSY

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Show who serves a queue."""
        at = self._places[queue]
        self._words[at + _CLAIM] = NO_CLAIM
        self._words[at + _CLIENT] = client_id
        self._words[at + _INCARNATION] = incarnation

    def claimed(self, queue: str, claim: int) -> None:
        """Show a new claim. In between it matches none in Redis, so no mixture of two is ever believed."""
        at = self._places[queue]
        self._words[at + _CLAIM] = NO_CLAIM
        self._words[at + _STARTED] = 0
        self._words[at + _FINISHED] = 0
        self._words[at + _CLAIM] = claim

    def started(self, queue: str, index: int) -> None:
        """Show which frame of the claim runs; those before it are done."""
        at = self._places[queue]
        self._words[at + _FINISHED] = index
        self._words[at + _STARTED] = index + 1

    def finished(self, queue: str, index: int) -> None:
        """Show that a frame of the claim is done."""
        self._words[self._places[queue] + _FINISHED] = index + 1

    def _show(self, queue: int, high: int, low: int, since_ns: int) -> None:
        words, at = self._words, self._at
        version = words[at + _VERSION]
        words[at + _VERSION] = version + 1
        words[at + _QUEUE] = queue
        words[at + _ID_HIGH] = high
        words[at + _ID_LOW] = low
        words[at + _SINCE] = since_ns
        words[at + _VERSION] = version + 2


def size(queues: int, slots: int) -> int:
    """Return the bytes that a scoreboard takes."""
    return _WORD * (_SHARED * queues + slots * (_CHILD + _PLACE * queues))


def new_file(most_bytes: int) -> int:
    """Return the descriptor of a file in memory that a fresh interpreter can be given."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("hotqueue-scoreboard")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, most_bytes)
    return descriptor
