"""The slot of a child and its seats, as the child writes them on the scoreboard.

In a seat one message runs at a time. A child has one seat, unless it is to run several messages at once.
"""

import os
import time
from collections.abc import Callable

from hotqueue.delivery import Delivery
from hotqueue.frame import peek_id
from hotqueue.upkeep import LEASE_MS
from hotqueue.worker.layout import (  # by name: each message needs most of them
    BEGUN,
    CLAIM,
    CLIENT,
    FINISHED,
    IDLE,
    INCARNATION,
    LOST,
    NO_CLAIM,
    PAUSED,
    PID,
    QUEUE,
    QUIET,
    RENEWED,
    REVOKED,
    RUNS,
    SEEN_AS,
    SEEN_AS_WORDS,
    SINCE,
    SIZE,
    STARTED,
    STARTING,
    STATE,
    STOPPING,
    TICKET,
    VERSION,
    WARNED,
    WATCHING,
    WORD,
)
from hotqueue.worker.reading import Running
from hotqueue.worker.scoreboard import NOBODY, RECORD, Scoreboard

FRESH_NS = LEASE_MS * 1_000_000 // 2


class Slot:
    """A child's own part of the scoreboard."""

    def __init__(self, board: Scoreboard, number: int, ring: Callable[[], None] = lambda: None) -> None:
        """`number` counts from 1. `ring` has a supervisor that is not watching look at the scoreboard."""
        self.number = number
        self._board = board
        self.seats = [Seat(board, number, seat, ring) for seat in board.seats]
        self._words = board.words
        self._at = board.layout.slot(number)

    def take(self, ticket: int) -> bool:
        """Say which process this is; False if the slot was given to another one meanwhile.

        First the pid, then the look at the ticket: whoever withdraws it sees the pid, or is seen.
        """
        if self._words[self._at + TICKET] != ticket:
            return False
        self._words[self._at + PID] = os.getpid()
        if self._words[self._at + TICKET] != ticket:
            return False
        self._words[self._at + STATE] = STARTING
        return True

    def running(self) -> list[Running]:
        """Return what runs in its seats, oldest first."""
        return self._board.running(self.number)

    def ready(self) -> None:
        """Show that this child is about to take its first message."""
        for seat in self.seats:
            seat.idle()
        self._words[self._at + STATE] = IDLE

    def stopping(self) -> None:
        """Show that this child was told to stop, and what ran is over."""
        for seat in self.seats:
            seat.idle()
        self._words[self._at + STATE] = STOPPING


class Seat:
    """The progress of one consumer, told to whoever reads the scoreboard."""

    def __init__(self, board: Scoreboard, number: int, seat: int, ring: Callable[[], None]) -> None:
        """`number` and `ring` are those of the slot; `seat` counts from 0."""
        self._ring = ring
        self._bytes = board.bytes
        self._words = board.words
        self._at = board.layout.seat(number, seat)
        self._of = {
            queue: (index + 1, board.layout.place(number, seat, index), board.layout.shared(index))
            for index, queue in enumerate(board.queues)
        }
        self._places = {queue: place for queue, (_, place, _) in self._of.items()}
        self._shared = {queue: shared for queue, (_, _, shared) in self._of.items()}

    def is_paused(self, queue: str) -> bool:
        """Look whether the supervisor has seen that a queue is paused, or was told to be quiet."""
        at = self._shared[queue]
        return bool(self._words[at + PAUSED] or self._words[at + QUIET])

    def is_fresh(self, queue: str) -> bool:
        """Look whether the supervisor has renewed our lease on a queue within half of one."""
        at = self._places[queue]
        if self._words[at + LOST] == self._words[at + INCARNATION]:
            return False
        return time.monotonic_ns() - self._words[self._shared[queue] + RENEWED] < FRESH_NS

    def is_warned(self) -> bool:
        """Whether what runs is over its soft limit."""
        return bool(self._words[self._at + WARNED] == self._words[self._at + BEGUN])

    def idle(self) -> None:
        """Show that nothing runs, and that somebody is here."""
        self._show(0, NOBODY, time.monotonic_ns())
        self._words[self._at + RUNS] = False

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Show who serves a queue."""
        at = self._places[queue]
        self._words[at + CLAIM] = NO_CLAIM
        self._words[at + CLIENT] = client_id
        self._words[at + REVOKED] = 0
        self._words[at + INCARNATION] = incarnation

    def connected(self, queue: str, seen_as: str) -> None:
        """Show how the server names the connection; what does not fit is cut, and names none."""
        at = self._places[queue] + SEEN_AS
        size = SEEN_AS_WORDS * WORD
        text = memoryview(seen_as.encode()[:size].ljust(size, b"\0"))
        self._words[at : at + SEEN_AS_WORDS] = text.cast("Q")

    def claimed(self, queue: str, claim: int, size: int) -> None:
        """Show a new claim. In between it matches none in Redis, so no mixture of two is ever believed."""
        at = self._places[queue]
        self._words[at + CLAIM] = NO_CLAIM
        self._words[at + STARTED] = 0
        self._words[at + FINISHED] = 0
        self._words[at + SIZE] = size
        self._words[at + CLAIM] = claim
        if size > 1:
            self._words[self._at + SINCE] = time.monotonic_ns()
            if not self._words[WATCHING]:
                self._ring()

    def is_revoked(self, queue: str) -> bool:
        """Look whether the supervisor has taken back what it found not started."""
        at = self._places[queue]
        return self._words[at + REVOKED] == self._words[at + CLAIM] + 1

    def has_behind(self, delivery: Delivery) -> bool:
        """Tell whether there is more of the same claim behind it."""
        return self._words[self._places[delivery.queue] + SIZE] > delivery.index + 1

    def started(self, delivery: Delivery, since_ns: int) -> bool:
        """Show what runs, since when, and that all before it are done; False if it must not run.

        First the store, then the look: whoever revokes the claim either sees it started, or is seen.
        """
        words, index, own = self._words, delivery.index, self._at
        number, at, shared = self._of[delivery.queue]
        self._show(number, peek_id(delivery.raw), since_ns)
        words[at + FINISHED] = index
        words[at + STARTED] = index + 1
        incarnation = words[at + INCARNATION]
        if (
            words[at + REVOKED] == words[at + CLAIM] + 1
            or words[shared + PAUSED]
            or words[shared + QUIET]
            # At most once there is no incarnation, and nobody else can have the message.
            or (incarnation and words[at + LOST] == incarnation)
            or (incarnation and since_ns - words[shared + RENEWED] >= FRESH_NS)
        ):
            words[at + STARTED] = index
            return False
        words[own + BEGUN] += 1
        words[own + RUNS] = 1
        return True

    def finished(self, queue: str, index: int) -> None:
        """Show that a frame of the claim is done."""
        self._words[self._places[queue] + FINISHED] = index + 1

    def _show(self, queue: int, message_id: bytes, since_ns: int) -> None:
        words, at = self._words, self._at
        version = words[at + VERSION]
        words[at + VERSION] = version + 1
        RECORD.pack_into(self._bytes, (at + QUEUE) * WORD, queue, message_id, since_ns)
        words[at + VERSION] = version + 2
