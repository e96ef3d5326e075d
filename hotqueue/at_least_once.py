"""At-least-once: to take a message is to own it.

A taken message lies on a list of its consumer's own until it is done, so whoever outlives the consumer can give it
back. One round trip acknowledges what is done and takes what is next. BLMOVE only waits on an empty queue.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hotqueue import events, identity, keys, scripts
from hotqueue.connection import Connection
from hotqueue.delivery import Delivery, Progress
from hotqueue.errors import OutcomeUnknown, Refused
from hotqueue.upkeep import LEASE_MS

CLAIM_BYTES = 1 << 20


@dataclass(slots=True)
class Life:
    """One incarnation and what this side knows of its claim."""

    incarnation: int
    claim: int = 0
    done: int = 0
    fate: scripts.Fate = "release"
    frame: bytes = b""

    @property
    def name(self) -> str:
        """As it stands in Redis."""
        return identity.text(self.incarnation)


class AtLeastOnce:
    """The lane of one queue: one connection, one incarnation at a time."""

    parks_first = False

    def __init__(self, queue: str, connection: Connection, progress: Progress, prefetch: int = 1) -> None:
        """Claim `prefetch` messages at once; more than one only where somebody can take back the rest."""
        self.queues: Sequence[str] = (queue,)
        self.client_id = 0
        self._queue = queue
        self._connection = connection
        self._progress = progress
        self._prefetch = prefetch
        self._life: Life | None = None
        self._past: list[Life] = []  # incarnations whose end Redis may not know of
        self._held: deque[Delivery] = deque()
        self._risk = _Risk(self)

    def open(self) -> None:
        """Register a new incarnation, then retire what came before it, then tell whoever watches.

        In this order a death between any two steps leaves messages only on lists that somebody still knows of:
        a new incarnation takes nothing before it is published.
        """
        if self._life is not None:
            return
        self._connection.close()
        self.client_id = self._connection.client_id()
        life = Life(identity.new_incarnation())
        self._past.append(life)
        scripts.register(self._connection, self._queue, life.name, LEASE_MS, identity.owner(self._progress.watched_by))
        with contextlib.suppress(Refused):  # a full server must still be drained
            self._connection.call("SADD", keys.QUEUES, self._queue)
        while self._past[0] is not life:
            self._retire(self._past[0], sweep_ms=LEASE_MS)
        self._past.clear()
        self._life = life
        self._progress.registered(self._queue, life.incarnation, self.client_id)
        self._progress.claimed(self._queue, life.claim)
        scripts.sweep(self._connection, self._queue)

    def take(self, queue: str) -> Delivery | None:
        """Return the next message of the claim, or of a new one that acknowledges the old."""
        if self._held and not self._progress.is_fresh(self._queue):
            self.fail()  # somebody may have taken over what is held: claim anew once Redis answers again
        return self._held.popleft() if self._held else self._claim(queue, self._prefetch)

    def _claim(self, queue: str, count: int) -> Delivery | None:
        self.open()
        life = self._alive()
        with self._risk:
            reply = scripts.take(
                self._connection, queue, life.name, life.claim,
                done=life.done, count=count, max_bytes=CLAIM_BYTES,
            )  # fmt: skip
        if reply is None:
            self._lost()
            return self._claim(queue, count)
        self._renumber(life, reply[0])
        self._held.extend(Delivery(queue, raw, self, index) for index, raw in enumerate(reply[1:]))
        return self._held.popleft() if self._held else None

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        """Start one BLMOVE. It cannot be fenced: what it moves too late is found when this life is swept."""
        self.open()
        source, own = keys.key_for_name(self._queue), keys.inflight(self._queue, self._alive().name)
        with self._risk:
            self._connection.send("BLMOVE", source, own, "LEFT", "RIGHT", seconds)
        return self._connection

    def collect(self) -> Delivery | None:
        """Read the reply of the BLMOVE."""
        with self._risk:
            raw = self._connection.read()
        return None if raw is None else Delivery(self._queue, raw, self)

    def abandon(self) -> None:
        """Leave this life: its list may get a message that nobody has seen."""
        with self._risk:
            msg = f"no reply from Redis at {self._connection.address} to a wait on queue {self._queue!r}"
            raise OutcomeUnknown(msg)

    def begin(self, delivery: Delivery) -> None:
        """Publish which one runs, so that a crash is counted against it and no other."""
        self._progress.started(self._queue, delivery.index)

    def ack(self, delivery: Delivery) -> None:
        """Count it as done."""
        self._alive().done = delivery.index + 1
        self._progress.finished(self._queue, delivery.index)

    def bury(self, delivery: Delivery, frame: bytes) -> None:
        """Bury it under the claim number; a failure is made good by the script that retires this life."""
        life = self._fated(delivery, "bury", frame)
        with self._risk:
            claim = scripts.bury(self._connection, self._queue, life.name, life.claim, life.done, frame)
        self._settled(life, claim)

    def retry(self, delivery: Delivery, frame: bytes, delay_s: float) -> None:
        """Put it aside under the claim number; made good like `bury`, but then it comes back at once."""
        life = self._fated(delivery, "replace", frame)
        with self._risk:
            claim = scripts.retry(
                self._connection, self._queue, life.name, life.claim, life.done, frame, int(delay_s * 1000)
            )
        self._settled(life, claim)

    def give_back(self) -> None:
        """Retire: everything after the done ones goes back to the head."""
        self._held.clear()
        if self._life is not None:
            life = self._life
            with self._risk:
                self._retire(life, sweep_ms=None)
            self._life = None
            self._progress.registered(self._queue, 0, 0)

    def _fated(self, delivery: Delivery, fate: scripts.Fate, frame: bytes) -> Life:
        life = self._alive()
        life.done, life.fate, life.frame = delivery.index, fate, frame
        return life

    def _settled(self, life: Life, claim: int | None) -> None:
        if claim is None:
            self._lost()
            return
        for place, held in enumerate(self._held):
            held.index = place
        self._renumber(life, claim)

    def flush(self) -> None:
        """Acknowledge without taking."""
        if self._life is not None and self._life.done and not self._held:
            self._claim(self._queue, 0)

    def close(self) -> None:
        """Retire. If no reply is missing no command can be under way, and nothing has to be swept later."""
        self.give_back()
        while self._past:
            self._retire(self._past[0], sweep_ms=LEASE_MS)
        self._connection.close()

    def _alive(self) -> Life:
        if self._life is None:
            msg = f"the claim on queue {self._queue!r} is no longer held"
            raise OutcomeUnknown(msg)
        return self._life

    def _renumber(self, life: Life, claim: int) -> None:
        life.claim, life.done, life.fate, life.frame = claim, 0, "release", b""
        self._progress.claimed(self._queue, claim)

    def _retire(self, life: Life, sweep_ms: int | None) -> None:
        scripts.retire(
            self._connection, self._queue, life.name, life.claim,
            done=life.done, fate=life.fate, frame=life.frame, sweep_ms=sweep_ms,
        )  # fmt: skip
        if life in self._past:
            self._past.remove(life)

    def _lost(self) -> None:
        """Somebody else retired this life and gave its messages back: forget it and begin a new one."""
        events.emit(logging.WARNING, events.CLAIM_LOST, queue=self._queue, incarnation=self._alive().name)
        self._life = None
        self._held.clear()

    def fail(self) -> None:
        """After any error Redis and this side may differ: end this life, to be retired by the next."""
        if self._life is not None:
            self._past.append(self._life)
        self._life = None
        self._held.clear()


class _Risk:
    """Ends the lane's life if the block fails; a class because it stands on the path of every message."""

    __slots__ = ("_lane",)

    def __init__(self, lane: AtLeastOnce) -> None:
        self._lane = lane

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._lane.fail()
