"""The keeper: a thread in the supervisor that does all of its Redis work, so that its main loop never waits.

It keeps the leases of all children, gives back what dead children held, and says when nothing is left to do.
"""

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hotqueue import events, identity, keys, scripts
from hotqueue.address import Address
from hotqueue.at_least_once import LEASE_MS
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection, check_version
from hotqueue.envelope import id_of, noted, trail_of
from hotqueue.errors import ConfigurationError, NotSent, OutcomeUnknown, Refused
from hotqueue.frame import is_frame
from hotqueue.worker import policy
from hotqueue.worker.scoreboard import NO_CLAIM, Place, Scoreboard

RENEW_EVERY_S = 10.0
RETRY_S = (0.1, 5.0)
_HOPELESS = {"WRONGPASS", "NOAUTH", "NOPERM"}


@dataclass(frozen=True, slots=True)
class Served:
    """One queue of the worker, as the template described it."""

    queue: str
    handler: str
    where: str
    delivery: str
    address: Address


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead child held, and why it died."""

    child: int
    pid: int
    places: tuple[Place, ...]
    crashed: bool
    cause: str


@dataclass(frozen=True, slots=True)
class Connected:
    """Redis answers; `problem` is None, or why it never will."""

    problem: str | None


@dataclass(frozen=True, slots=True)
class Drained:
    """Whether nothing was waiting or in flight here when it was looked at."""

    empty: bool


Report = Connected | Drained


class Keeper:
    """Works through an inbox; what Redis refuses is tried again until it is done or time is over."""

    def __init__(
        self, served: Sequence[Served], board: Scoreboard, max_crashes: int, report: Callable[[Report], None]
    ) -> None:
        """`report` is called in the keeper's thread, and must only note."""
        self._served = {each.queue: each for each in served}
        self._board = board
        self._max_crashes = max_crashes
        self._report = report
        self._connections: list[Connection] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="hotqueue-keeper", daemon=True)
        self._next_renewal_s = time.monotonic() + RENEW_EVERY_S
        self._stop_by_s: float | None = None
        self._unsettled = 0

    def start(self, connect_timeout_s: float) -> None:
        """Begin, by waiting for Redis."""
        self._inbox.put(lambda: self._connect(time.monotonic() + connect_timeout_s))
        self._thread.start()

    def recover(self, left: Left) -> None:
        """Give back what a dead child held."""
        self._unsettled += 1
        self._inbox.put(lambda: self._recover(left))

    def look_if_drained(self) -> None:
        """Report Drained."""
        self._inbox.put(self._drained)

    def stop(self, within_s: float) -> int:
        """Finish the inbox, for `within_s` at most; return how many dead children could not be settled."""
        self._stop_by_s = time.monotonic() + within_s
        self._inbox.put(lambda: None)
        self._thread.join(within_s)
        return self._unsettled

    def _work(self) -> None:
        while self._stop_by_s is None or not self._inbox.empty():
            try:
                self._inbox.get(timeout=max(0.0, self._next_renewal_s - time.monotonic()))()
            except queue.Empty:
                self._renew()

    def _connect(self, until_s: float) -> None:
        """Report Connected once every server answers, or with a problem that waiting did not solve."""
        delay_s = RETRY_S[0]
        while self._stop_by_s is None:
            try:
                for each in self._served.values():
                    connection = self._connection(each.address)
                    connection.call("LLEN", keys.key_for_name(each.queue))
                    if each.delivery == "at-least-once":
                        check_version(connection)
                self._warn_of_eviction()
            except (NotSent, OutcomeUnknown, ConfigurationError) as error:
                hopeless = isinstance(error, ConfigurationError) or getattr(error, "code", "") in _HOPELESS
                if hopeless or time.monotonic() + delay_s > until_s:
                    self._report(Connected(str(error)))
                    return
                time.sleep(delay_s)
                delay_s = min(delay_s * 2, 1.0)
            else:
                self._report(Connected(None))
                return

    def _warn_of_eviction(self) -> None:
        for connection in self._connections:
            try:
                _, policy_name = connection.call("CONFIG", "GET", "maxmemory-policy")
            except (Refused, ValueError):  # managed servers often forbid CONFIG
                continue
            if not policy_name.startswith((b"noeviction", b"volatile")):
                events.emit(
                    logging.WARNING, events.REDIS_EVICTS,
                    policy=policy_name.decode(), reason="a full Redis may delete queues: set noeviction",
                )  # fmt: skip

    def _renew(self) -> None:
        self._next_renewal_s = time.monotonic() + RENEW_EVERY_S
        try:
            for index, name in enumerate(self._board.queues):
                incarnations = [identity.text(each) for each in self._board.incarnations(index)]
                connection = self._connection(self._served[name].address)
                if incarnations:
                    scripts.renew(connection, name, LEASE_MS, incarnations)
                if self._served[name].delivery == "at-least-once":
                    scripts.sweep(connection, name)
        except (NotSent, OutcomeUnknown):
            self._next_renewal_s = time.monotonic() + RETRY_S[1]
            return
        self._board.renewed()

    def _recover(self, left: Left) -> None:
        """Settle every place of a dead child, again after each failure: retiring twice does no harm."""
        delay_s = RETRY_S[0]
        for place in left.places:
            while place.incarnation:
                try:
                    self._recover_place(left, place)
                    break
                except (NotSent, OutcomeUnknown):
                    if self._stop_by_s is not None and time.monotonic() + delay_s > self._stop_by_s:
                        return
                    time.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                    delay_s = min(delay_s * 2, RETRY_S[1])
        self._unsettled -= 1

    def _recover_place(self, left: Left, place: Place) -> None:
        served = self._served[place.queue]
        connection = self._connection(served.address)
        if place.client_id:
            # A command of the dead child may still be on its way. If the server refuses, because the
            # connection has gone by itself or an ACL forbids this, the sweep catches what comes late.
            with contextlib.suppress(Refused):
                connection.call("CLIENT", "KILL", "ID", place.client_id)
        name = identity.text(place.incarnation)
        running = place.claim != NO_CLAIM and place.started > place.finished
        raw: bytes | None = None
        if running:
            raw = connection.call("LINDEX", keys.inflight(place.queue, name), place.started - 1)
        fate, frame = self._fate(left, served, raw)
        retired = scripts.retire(
            connection, place.queue, name, -1 if place.claim == NO_CLAIM else place.claim,
            done=place.finished, fate=fate, frame=frame, sweep_ms=LEASE_MS,
        )  # fmt: skip
        buried = fate == "bury" and retired.believed
        if buried or retired.released:
            events.emit(
                logging.ERROR if buried else logging.WARNING,
                events.MESSAGE_BURIED if buried else events.MESSAGE_RELEASED,
                queue=place.queue, handler=served.handler, id=id_of(raw) if raw else None,
                count=retired.released, child=left.child, reason=left.cause,
            )  # fmt: skip

    def _fate(self, left: Left, served: Served, raw: bytes | None) -> tuple[scripts.Fate, bytes]:
        """Decide what becomes of the message that ran: only a crash counts against it, and only so many."""
        if raw is None:
            return "release", b""
        now_ms = int(time.time() * 1000)
        if not left.crashed:
            # A bare body stays bare: whoever put it there may have another reader for it.
            return ("replace", noted(raw, trail_of(raw).interrupted())) if is_frame(raw) else ("release", b"")
        trail = trail_of(raw).crashed(now_ms)
        if policy.must_bury(trail.crashes, now_ms, self._max_crashes):
            trail = trail.with_reason(kind="crashed", error=left.cause, handler=served.handler, at=now_ms)
            return "bury", noted(raw, trail)
        return "replace", noted(raw, trail)

    def _drained(self) -> None:
        try:
            empty = not any(self._load(name, index) for index, name in enumerate(self._board.queues))
        except (NotSent, OutcomeUnknown):
            empty = False
        self._report(Drained(empty))

    def _load(self, name: str, index: int) -> int:
        connection = self._connection(self._served[name].address)
        own = [keys.inflight(name, identity.text(each)) for each in self._board.incarnations(index)]
        return sum(int(connection.call("LLEN", key)) for key in (keys.key_for_name(name), *own))

    def _connection(self, address: Address) -> Connection:
        for connection in self._connections:
            if connection.address == address:
                return connection
        self._connections.append(Connection(address, CONSUMER_TIMEOUT_S))
        return self._connections[-1]


def served_from(report: Sequence[Mapping[str, object]]) -> list[Served]:
    """Read the template's report."""
    return [
        Served(**{**each, "address": Address.from_portable(each["address"])})  # type: ignore[arg-type]
        for each in report
    ]
