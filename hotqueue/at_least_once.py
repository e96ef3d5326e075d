"""At-least-once: to take a message is to own it.

A taken message lies on a list of its consumer's own until it is done, so whoever outlives the consumer can
give it back. One round trip acknowledges what is done and takes what is next. BLMOVE only waits on an empty
queue.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from hotqueue import events, identity, keys, scripts
from hotqueue.connection import Connection
from hotqueue.delivery import Delivery, Progress
from hotqueue.errors import OutcomeUnknown
from hotqueue.pace import BUDGET_S, Pace
from hotqueue.upkeep import LEASE_MS
from hotqueue.watch import Watch

CLAIM_BYTES = 1 << 20
_CLAIM_TRIES = 2  # of incarnations that somebody else has retired


@dataclass(slots=True)
class Claim:
    """What this side knows of the frames on its list. The next claim replaces all of it in one step."""

    number: int = 0
    size: int = 0  # frames
    done: int = 0  # of them, from the first
    fate: scripts.Fate = "release"  # of the one after those
    frame: bytes = b""  # as which it is buried or comes back


@dataclass(slots=True)
class Life:
    """One incarnation: a connection that is never used again after it failed, and the latest claim."""

    incarnation: int = field(default_factory=identity.new_incarnation)
    claim: Claim = field(default_factory=Claim)

    @property
    def name(self) -> str:
        """As it stands in Redis."""
        return identity.text(self.incarnation)


class AtLeastOnce:
    """The lane of one queue: one connection, one incarnation at a time."""

    parks_first = False

    def __init__(
        self,
        queue: str,
        connection: Connection | Watch,
        progress: Progress,
        prefetch: int | None = 1,
        budget_s: float = BUDGET_S,
    ) -> None:
        """Claim `prefetch` messages at once, or with None about as many as run in `budget_s`.

        More than one only where somebody can take back the rest. With a watch in the place of a connection
        this lane never parks, and all lanes that it watches share one.
        """
        self.queues: Sequence[str] = (queue,)
        self.address = connection.address
        self.client_id = 0
        self.watch = connection if isinstance(connection, Watch) else None
        self._queue = queue
        self._connection = connection.commands if isinstance(connection, Watch) else connection
        self._progress = progress
        self._pace = Pace(prefetch, budget_s)
        self._life: Life | None = None
        self._times_connected = 0  # when that life began
        self._past: list[Life] = []  # incarnations whose end Redis may not know of, oldest first
        self._held: deque[Delivery] = deque()

    def open(self) -> None:
        """Have a living incarnation, on a connection that the server has not closed."""
        if self._life is not None and not (self._has_connection and self._connection.is_well):
            self.abandon()
        if self._life is None:
            with self._risk():
                self._begin_life()

    def _begin_life(self) -> None:
        """Register a new incarnation, then retire what came before it, then tell whoever watches.

        In this order a death between any two steps leaves messages only on lists that somebody still knows
        of: a new incarnation takes nothing before it is published.
        """
        if self.watch is None or self._connection.reply_due:
            self._connection.close()
        self.client_id = self._connection.client_id()
        self._times_connected = self._connection.times_connected
        life = Life()
        self._past.append(life)
        owner = identity.owner(self._progress.watched_by)
        scripts.register(self._connection, self._queue, life.name, LEASE_MS, owner)
        self._retire_past(until=life)
        self._life = life
        self._past.clear()
        self._progress.connected(self._queue, self._connection.seen_as)
        self._progress.registered(self._queue, life.incarnation, self.client_id)
        self._progress.claimed(self._queue, life.claim.number, 0)

    def rest(self) -> Delivery | None:
        """Return the next message of the claim; whether it may still be run, `begin` tells."""
        if not self._held or self._life is None:
            return None
        if self._held[0].index != self._life.claim.done:  # one was handed out, and never settled
            self.abandon()
            return None
        return self._held.popleft()

    def take(self, queue: str) -> Delivery | None:
        """Return the next message of the claim, or of a new one that acknowledges the old."""
        delivery = self.rest()
        if delivery is None:
            if self.watch is not None and self._life is not None and self.watch.knows_empty(queue):
                return None
            frames = self._claim(self._pace.size)
            self._pace.begin(len(frames))
            self._held.extend(Delivery(queue, raw, self, index) for index, raw in enumerate(frames))
            delivery = self._held.popleft() if self._held else None
        return delivery

    def flush(self) -> None:
        """Acknowledge without taking. What waits too long, while other queues have their turns, goes back."""
        if self._life is not None and 0 < self._life.claim.done == self._life.claim.size:
            self._claim(0)
        elif self._held and self._pace.is_late():
            self._pace.overstay()
            self.give_back()

    def park(self, order: Sequence[str], seconds: float) -> Connection:
        """Start one BLMOVE. It cannot be fenced: what it moves too late is found when this life is swept."""
        del order  # of one queue
        self.flush()  # its reply has no claim number, so its place must be the first
        life = self._empty_handed()
        source, own = keys.key_for_name(self._queue), keys.inflight(self._queue, life.name)
        with self._risk():
            life.claim.size = 1  # until it is known that nothing came
            self._connection.send("BLMOVE", source, own, "LEFT", "RIGHT", seconds)
        return self._connection

    def collect(self) -> Delivery | None:
        """Read the reply of the BLMOVE. A refusal does not end this life: a full server refuses every one."""
        life = self._alive()
        try:
            raw = self._connection.read()
        except BaseException:
            if self._connection.reply_due or not self._connection.is_open:
                self.abandon()
            else:
                life.claim.size = 0
            raise
        if raw is None:
            life.claim.size = 0
            return None
        self._pace.begin(1)
        return Delivery(self._queue, raw, self)

    def abandon(self) -> None:
        """End this life, to be retired by the next: Redis and this side may differ."""
        if self._life is not None:
            self._past.append(self._life)
            self._life = None
        self._held.clear()
        if self._has_connection:
            self._connection.close()

    @property
    def _has_connection(self) -> bool:
        """Whether no other lane has made it anew since this life began: a life has one connection."""
        return self._times_connected == self._connection.times_connected

    def begin(self, delivery: Delivery) -> bool:
        """Publish which one runs: a crash is counted against it alone, and nobody takes it back."""
        if self._progress.started(delivery):
            return True
        if self._progress.is_fresh(self._queue):
            self._pace.overstay()
        else:
            self._lost(self._alive())
        return False

    def ack(self, delivery: Delivery) -> None:
        """Count it as done."""
        claim = (self._life or self._alive()).claim
        claim.done = delivery.index + 1
        self._progress.finished(self._queue, delivery.index)
        if claim.done == claim.size:
            self._pace.end()

    def bury(self, delivery: Delivery, frame: bytes) -> None:
        """Bury it under the claim number; a failure is made good by the script that retires this life."""
        life = self._fated(delivery, "bury", frame)
        self._settle(life, partial(scripts.bury, done=delivery.index, frame=frame))

    def retry(self, delivery: Delivery, frame: bytes, delay_s: float) -> None:
        """Put it aside under the claim number. If that fails it comes back at once, but as `frame`."""
        life = self._fated(delivery, "replace", frame)
        delay_ms = delay_s * 1000
        self._settle(life, partial(scripts.retry, done=delivery.index, frame=frame, delay_ms=delay_ms))

    def give_back(self) -> None:
        """Release what was taken and is not done, then acknowledge the rest.

        That begins a new claim: who takes back what is behind what was started of this one comes too late.
        """
        self._held.clear()
        life = self._life
        if life is not None and life.claim.done < life.claim.size:
            with self._risk():
                scripts.hand_back(
                    self._connection, self._queue, life.name, life.claim.number, keep=life.claim.done
                )
            life.claim.size = life.claim.done
            self._claim(0)

    def _fated(self, delivery: Delivery, fate: scripts.Fate, frame: bytes) -> Life:
        life = self._alive()
        # The fate last: without its frame it would be the loss of the message.
        life.claim.done, life.claim.frame, life.claim.fate = delivery.index, frame, fate
        return life

    def _settle(self, life: Life, script: Callable[..., int | None]) -> None:
        """Run a script that ends a message and begins a new claim of what is held.

        Where the server has hung up while a handler ran, nothing is under way, and another connection will
        do for this. The next life tells whoever watches by what name that one can be unblocked.
        """
        with self._risk():
            self._connection.open()
            number = script(self._connection, self._queue, life.name, life.claim.number)
        if number is None:
            self._lost(life)
            return
        self._settled(life, number)
        if not self._has_connection:
            self.abandon()

    def _settled(self, life: Life, number: int) -> None:
        # Asked after the reply: what was taken back of the old claim was revoked before, what was not
        # never will be, as the number is another one now.
        is_revoked = self._progress.is_revoked(self._queue)
        for place, held in enumerate(self._held):
            held.index = place
        self._begin_claim(life, Claim(number, len(self._held)))
        if is_revoked:
            self._pace.overstay()
            self.give_back()
        elif not self._held:
            self._pace.end()

    def close(self) -> None:
        """Retire. If no reply is missing no command can be under way, and nothing has to be swept later."""
        if self._connection.reply_due:
            self._connection.close()
            self.abandon()
        self._held.clear()
        try:
            if self._past or self._life is not None:
                self._connection.open()
            self._retire_past(until=None)
            if self._life is not None:
                self._retire(self._life, sweep_ms=None)
                self._life = None
            self._progress.registered(self._queue, 0, 0)
        finally:
            if self.watch is None:
                self._connection.close()

    @contextlib.contextmanager
    def _risk(self) -> Iterator[None]:
        """End this life if the block fails."""
        try:
            yield
        except BaseException:
            self._connection.close()
            self.abandon()
            raise

    def _claim(self, count: int) -> list[bytes]:
        """Acknowledge what is done and claim up to `count` messages."""
        for _ in range(_CLAIM_TRIES):
            life = self._empty_handed()
            with self._risk():
                reply = scripts.take(
                    self._connection, self._queue, life.name, life.claim.number,
                    done=life.claim.done, count=count, max_bytes=CLAIM_BYTES,
                )  # fmt: skip
            if reply is not None:
                self._begin_claim(life, Claim(reply[0], len(reply) - 1))
                return reply[1:]
            self._lost(life)
        msg = f"Redis at {self._connection.address} forgets who consumes queue {self._queue!r}"
        raise OutcomeUnknown(msg)

    def _empty_handed(self) -> Life:
        """Return a life with nothing unsettled: the places of its next claim begin at the first."""
        if self._is_torn() or not self._has_connection:
            self.abandon()
        self.open()  # where the server has hung up while a handler ran, nothing is in doubt
        return self._alive()

    def _is_torn(self) -> bool:
        """Tell whether a wait was broken off, or a message handed out and never settled.

        With the next message it would be taken for done.
        """
        if self._life is None:
            return False
        claim = self._life.claim
        return claim.done + len(self._held) < claim.size

    def _alive(self) -> Life:
        if self._life is None:
            msg = f"the claim on queue {self._queue!r} is no longer held"
            raise OutcomeUnknown(msg)
        return self._life

    def _begin_claim(self, life: Life, claim: Claim) -> None:
        life.claim = claim
        self._progress.claimed(self._queue, claim.number, claim.size)

    def _lost(self, life: Life) -> None:
        """Somebody else has retired this life, or may have, and gave its messages back."""
        events.emit(logging.WARNING, events.CLAIM_LOST, queue=self._queue, incarnation=life.name)
        self.abandon()

    def _retire_past(self, until: Life | None) -> None:
        """Retire past lives. A command of theirs may be under way, so their lists are swept later."""
        while self._past and self._past[0] is not until:
            self._retire(self._past[0], sweep_ms=LEASE_MS)
            del self._past[0]

    def _retire(self, life: Life, sweep_ms: int | None) -> None:
        claim = life.claim
        scripts.retire(
            self._connection, self._queue, life.name, claim.number,
            done=claim.done,
            fate=claim.fate,
            frame=claim.frame,
            sweep_ms=sweep_ms,
        )  # fmt: skip
