"""The scoreboard: memory that the supervisor and its children share, written without a system call.

Every field is an aligned word of 8 bytes, which is never seen half written. A record of several words that
must fit together is bracketed by a version word, odd while it is being written. This is the supervisor's view
of it, `seat.py` the child's.
"""

import mmap
import secrets
import struct
import time
from collections.abc import Collection, Iterator

from hotqueue.frame import id_text
from hotqueue.worker import layout
from hotqueue.worker.layout import BUSY, IDLE, NO_CLAIM, Layout
from hotqueue.worker.reading import Place, Reading, Running

NOBODY = bytes(16)
RECORD = struct.Struct("=Q16sQ")  # queue, id, since: what runs in a seat
_NO_NEXT = NO_CLAIM + 1
_COUNTS = (layout.INCARNATION, layout.CLIENT, layout.CLAIM, layout.STARTED, layout.FINISHED, layout.SIZE)
_TRIES = 100  # to read a record that is being written


class Scoreboard:
    """The whole of it. The supervisor makes it and reads; each child writes its own slot."""

    def __init__(self, descriptor: int, queues: list[str], slots: int, seats: int = 1) -> None:
        """Map `descriptor`, a file that is large enough for this layout."""
        self.queues = queues
        self.layout = Layout(len(queues), slots, seats)
        self.seats = range(seats)
        self.bytes = mmap.mmap(descriptor, self.layout.bytes)
        self.words = memoryview(self.bytes).cast("Q")

    def close(self) -> None:
        """Give back the memory, and the descriptor that the map keeps. Nobody may look at it any more."""
        self.words.release()
        self.bytes.close()

    @property
    def numbers(self) -> range:
        """All slot numbers."""
        return range(1, self.layout.slots + 1)

    def pause(self, queue_index: int, *, paused: bool) -> None:
        """Have the children start nothing more of a queue, or go on."""
        self.words[self.layout.shared(queue_index) + layout.PAUSED] = paused

    def quiet(self, *, quiet: bool) -> None:
        """Have the children start nothing more of any queue, or go on."""
        for index in range(len(self.queues)):
            self.words[self.layout.shared(index) + layout.QUIET] = quiet

    @property
    def is_quiet(self) -> bool:
        """Whether the children start nothing more."""
        return bool(self.words[self.layout.shared(0) + layout.QUIET])

    def renewed(self, queue_index: int) -> None:
        """Note that the leases on a queue have just been renewed."""
        self.words[self.layout.shared(queue_index) + layout.RENEWED] = time.monotonic_ns()

    def lost(self, queue_index: int, incarnations: Collection[int]) -> None:
        """Note that others have taken over these, if a seat still is one: it must not go by the renewal."""
        for at in self._places(queue_index) if incarnations else ():
            if self.words[at + layout.INCARNATION] in incarnations:
                self.words[at + layout.LOST] = self.words[at + layout.INCARNATION]

    def incarnations(self, queue_index: int) -> list[int]:
        """Return the incarnations of all children on a queue."""
        return self._known(queue_index, layout.INCARNATION)

    def clients(self, queue_index: int) -> list[int]:
        """Return the numbers of the connections by which children wait for a queue."""
        return self._known(queue_index, layout.CLIENT)

    def invite(self, number: int) -> int:
        """Return a ticket by which the next child of a slot, and no other, may take it."""
        ticket = secrets.randbits(63) + 1
        self.words[self.layout.slot(number) + layout.TICKET] = ticket
        return ticket

    def withdraw(self, number: int) -> int:
        """Make the ticket void; return the pid of the child that has taken the slot before, or 0."""
        self.words[self.layout.slot(number) + layout.TICKET] = 0
        return self.words[self.layout.slot(number) + layout.PID]

    def clear(self, number: int) -> None:
        """Empty a slot whose child has ended."""
        for word in range(self.layout.slot(number), self.layout.slot(number + 1)):
            self.words[word] = 0

    def read(self, number: int) -> Reading:
        """Read a child's record."""
        running = self.running(number)
        queues = range(len(self.queues))
        return Reading(
            state=self.state(number),
            ended=self.begun(number) - len(running),
            running=tuple(running),
            places=tuple(tuple(self._place(number, seat, each) for each in queues) for seat in self.seats),
        )

    def state(self, number: int) -> int:
        """Return the state alone, 0 for an empty slot."""
        state = self.words[self.layout.slot(number) + layout.STATE]
        return BUSY if state == IDLE and any(self._of_seats(number, layout.RUNS)) else state

    def begun(self, number: int) -> int:
        """Return how many messages a child has begun."""
        return sum(self._of_seats(number, layout.BEGUN))

    def running(self, number: int) -> list[Running]:
        """Return what a child is busy with alone, oldest first."""
        found = [running for seat in self.seats if (running := self._running(number, seat))]
        return sorted(found, key=lambda each: each.since_ns)

    def came_back_s(self, number: int) -> float:
        """Return when a child last said of a seat that nothing runs there, or something new; monotonic."""
        return max(self._of_seats(number, layout.SINCE)) / 1e9

    def warn(self, number: int, running: Running) -> None:
        """Say that a message has overrun its soft limit."""
        self.words[self.layout.seat(number, running.seat) + layout.WARNED] = running.number

    def watch(self, *, watching: bool) -> None:
        """Say whether children need not ring when they claim several messages."""
        self.words[layout.WATCHING] = watching

    def buffered(self, number: int, seat: int, least: int = 1) -> list[int]:
        """Return of which queues a seat holds messages that it has not started and may start.

        Claims of fewer than `least` messages are passed over.
        """
        words, found = self.words, []
        for index in range(len(self.queues)):
            at = self.layout.place(number, seat, index)
            if words[at + layout.STARTED] < words[at + layout.SIZE] >= least:
                claim = words[at + layout.CLAIM]
                if claim not in (NO_CLAIM, words[at + layout.REVOKED] - 1):
                    found.append(index)
        return found

    def touched_s(self, number: int, seat: int) -> float:
        """Return when a seat began what it runs, claimed several, or said last that nothing runs."""
        return self.words[self.layout.seat(number, seat) + layout.SINCE] / 1e9

    def revoke(self, number: int, seat: int, queue_index: int) -> None:
        """Have a seat start nothing more of what it has claimed. What it has started, `revoked` says.

        In between there must be a barrier: otherwise it could look before this, and be seen after that.
        """
        at = self.layout.place(number, seat, queue_index)
        self.words[at + layout.REVOKED] = (self.words[at + layout.CLAIM] + 1) % _NO_NEXT

    def revoked(self, number: int, seat: int, queue_index: int) -> Place | None:
        """Return a place whose claim is revoked, with all of it that is started; None if it has moved on."""
        at = self.layout.place(number, seat, queue_index)
        names = self.words[at + layout.INCARNATION], self.words[at + layout.CLAIM]
        place = self._place(number, seat, queue_index)
        again = self.words[at + layout.INCARNATION], self.words[at + layout.CLAIM]
        if names != again or self.words[at + layout.REVOKED] != place.claim + 1:
            return None  # the count may be that of another claim
        return place if place.started < place.size else None

    def _of_seats(self, number: int, field: int) -> Iterator[int]:
        return (self.words[self.layout.seat(number, seat) + field] for seat in self.seats)

    def _places(self, queue_index: int) -> Iterator[int]:
        return (
            self.layout.place(number, seat, queue_index) for number in self.numbers for seat in self.seats
        )

    def _known(self, queue_index: int, field: int) -> list[int]:
        return [word for at in self._places(queue_index) if (word := self.words[at + field])]

    def _running(self, number: int, seat: int) -> Running | None:
        """Return what runs there; also None where it has ended, and no other has begun."""
        at, words = self.layout.seat(number, seat), self.words
        begun = words[at + layout.BEGUN]
        for _ in range(_TRIES):
            version = words[at + layout.VERSION]
            queue, message_id, since = RECORD.unpack_from(self.bytes, (at + layout.QUEUE) * layout.WORD)
            if version % 2 == 0 and version == words[at + layout.VERSION]:
                break
        else:  # its child died while writing it
            return None
        if not queue or not self._place(number, seat, queue - 1).is_running:
            return None
        known = None if message_id == NOBODY else id_text(message_id)
        return Running(self.queues[queue - 1], known, since, seat, begun)

    def _place(self, number: int, seat: int, index: int) -> Place:
        at = self.layout.place(number, seat, index)
        incarnation, client_id, claim, started, finished, size = (self.words[at + field] for field in _COUNTS)
        text_at = at + layout.SEEN_AS
        seen_as = self.words[text_at : text_at + layout.SEEN_AS_WORDS].tobytes().rstrip(b"\0")
        text = seen_as.decode(errors="replace")
        return Place(self.queues[index], incarnation, client_id, claim, started, finished, size, text)
