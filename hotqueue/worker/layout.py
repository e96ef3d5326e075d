"""The layout of the scoreboard: which word lies where in the memory that supervisor and children share.

One head; for each queue what the supervisor tells all children; for each slot the child in it, and for each
of the child's seats what runs there and what it holds of each queue.
"""

import os
import tempfile
from dataclasses import dataclass

WORD = 8  # bytes
NO_CLAIM = 2**64 - 1
STARTING, IDLE, BUSY, STOPPING = 1, 2, 3, 4  # states of a child; busy is one that runs something in a seat

WATCHING = 0  # whether the supervisor looks at claims by itself: the first word, and its own
_HEAD = 1  # words

PAUSED, RENEWED, QUIET = 0, 1, 2  # of a queue, written by the supervisor
_SHARED = 3

PID, STATE, TICKET = 0, 1, 2  # of a slot
_SLOT = 3

VERSION, QUEUE, ID, SINCE = 0, 1, 2, 4  # of a seat; the id has two words
WARNED = 5  # which of its messages is over its soft limit, written by the supervisor
BEGUN = 6  # how many there were so far
RUNS = 7  # whether one does, or another comes at once
_SEAT = 8

INCARNATION, CLIENT, CLAIM, STARTED, FINISHED = 0, 1, 2, 3, 4  # of a place
SEEN_AS = 5
SEEN_AS_WORDS = 6  # of text: the longest IPv6 address with its port takes 47 bytes
LOST = 11  # an incarnation that Redis does not know any more, written by the supervisor
SIZE = 12  # frames of the claim
REVOKED = 13  # one more than the claim of which nothing more may be started, written by the supervisor
_PLACE = 14


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things begin, in words. Slots count from 1, seats and queues from 0."""

    queues: int
    slots: int
    seats: int = 1

    def shared(self, queue: int) -> int:
        """Return where the words that the supervisor writes for a queue begin."""
        return _HEAD + _SHARED * queue

    def slot(self, number: int) -> int:
        """Return where a slot begins; the next one begins where it ends."""
        return self.shared(self.queues) + (number - 1) * (_SLOT + self.seats * self._seat)

    def seat(self, number: int, seat: int) -> int:
        """Return where a seat of a slot begins."""
        return self.slot(number) + _SLOT + seat * self._seat

    def place(self, number: int, seat: int, queue: int) -> int:
        """Return where what a seat holds of a queue begins."""
        return self.seat(number, seat) + _SEAT + _PLACE * queue

    @property
    def bytes(self) -> int:
        """Return how many all of it takes."""
        return WORD * self.slot(self.slots + 1)

    @property
    def _seat(self) -> int:
        return _SEAT + _PLACE * self.queues


def new_file(most_bytes: int) -> int:
    """Return the descriptor of a file in memory that a fresh interpreter can be given."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("hotqueue-scoreboard")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, most_bytes)
    return descriptor
