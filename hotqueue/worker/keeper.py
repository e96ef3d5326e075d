"""A keeper: a thread of the supervisor that does all of its work with one Redis server.

It keeps the leases of the children, gives back what dead children held, and says when nothing is left to do.
The main loop never waits for it, and one server never waits for another: each has a keeper of its own.
"""

import heapq
import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotqueue import events, identity, keys
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection, check_version
from hotqueue.ending import one_line
from hotqueue.errors import ConfigurationError, NotSent, OutcomeUnknown, Refused
from hotqueue.upkeep import RENEW_EVERY_S
from hotqueue.worker.care import Care
from hotqueue.worker.recovery import Left, Served, recover
from hotqueue.worker.scoreboard import Scoreboard

RETRY_S = (0.1, 5.0)
_HOPELESS = {"WRONGPASS", "NOAUTH", "NOPERM"}
_NOBODY = identity.text(0)  # no incarnation is called so

Task = Callable[[], float | None]  # returns in how many seconds it wants to run again, or None


@dataclass(frozen=True, slots=True)
class Connected:
    """Redis answers, and lets us do what we have to."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """It will not serve us, however long we wait."""

    problem: str


@dataclass(frozen=True, slots=True)
class Drained:
    """Whether nothing was waiting or in flight here when it was looked at."""

    empty: bool


Report = Connected | Hopeless | Drained


class Keeper:
    """Works through an agenda. What fails is put off and tried again, until it is done or time is over."""

    def __init__(
        self, served: Sequence[Served], board: Scoreboard, max_crashes: int, report: Callable[[Report], None]
    ) -> None:
        """All of `served` lie on one server. `report` is called in this thread, and must only note."""
        self._served = {each.queue: each for each in served}
        self._board = board
        self._max_crashes = max_crashes
        self._report = report
        self._connection = Connection(served[0].address, CONSUMER_TIMEOUT_S)
        self._cares = {each.queue: Care(each.queue, self._connection, board) for each in served}
        self._inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._agenda: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._failures = 0
        self._unsettled: dict[Left, None] = {}
        self._stop_by_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="hotqueue-keeper", daemon=True)

    def start(self, connect_timeout_s: float) -> None:
        """Begin, by waiting for Redis."""
        until_s = time.monotonic() + connect_timeout_s
        self._inbox.put(lambda: self._connect(until_s))
        self._thread.start()

    def recover(self, left: Left) -> None:
        """Give back what a dead child held."""
        self._unsettled[left] = None
        self._inbox.put(lambda: self._recover(left))

    def look_if_drained(self) -> None:
        """Report Drained."""
        self._inbox.put(self._drained)

    def stop(self, by_s: float) -> None:
        """Do nothing any more but give back, until the monotonic clock says `by_s` at most."""
        self._stop_by_s = by_s
        self._inbox.put(lambda: None)

    def wait(self) -> list[Left]:
        """Wait for the end that `stop` asked for; return what could not be given back."""
        if self._unsettled and self._stop_by_s is not None:
            self._thread.join(max(0.0, self._stop_by_s - time.monotonic()))
        return list(self._unsettled)

    def _run(self) -> None:
        try:
            while self._stop_by_s is None:
                self._receive()
                self._do_what_is_due()
            self._settle(self._stop_by_s)
        except Exception as error:  # the thread would end in silence, and the leases with it
            self._report(Hopeless(f"the keeper failed: {one_line(error)}"))
            raise

    def _receive(self) -> None:
        """Put what came on the agenda; wait for it while nothing is due."""
        wait_s = max(0.0, self._agenda[0][0] - time.monotonic()) if self._agenda else None
        try:
            self._put(self._inbox.get(timeout=wait_s), 0.0)
            while True:
                self._put(self._inbox.get_nowait(), 0.0)
        except queue.Empty:
            pass

    def _do_what_is_due(self) -> None:
        now_s = time.monotonic()
        while self._stop_by_s is None and self._agenda and self._agenda[0][0] <= now_s:
            task = heapq.heappop(self._agenda)[2]
            again_s = task()
            if again_s is not None:
                self._put(task, again_s)

    def _put(self, task: Task, after_s: float) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + after_s, next(self._numbers), task))

    def _connect(self, until_s: float) -> float | None:
        """Report Connected, or Hopeless for what waiting does not mend or has not until then."""
        try:
            for each in self._served.values():
                self._check(each)
                self._cares[each.queue].begin()
            self._warn_of_eviction()
        except (NotSent, OutcomeUnknown, ConfigurationError) as error:
            hopeless = isinstance(error, ConfigurationError) or getattr(error, "code", "") in _HOPELESS
            if not hopeless and time.monotonic() < until_s:
                return min(self._back_off_s(error), max(0.0, until_s - time.monotonic()))
            self._report(Hopeless(str(error)))
            return None
        self._recovered()
        for care in self._cares.values():
            self._put(self._repeated(care.renew), RENEW_EVERY_S)
            self._put(self._repeated(care.tend), 0.0)
        self._report(Connected())
        return None

    def _check(self, served: Served) -> None:
        """Do what children will do, as far as it takes nothing: an ACL may forbid it."""
        nothing = keys.inflight(served.queue, _NOBODY)
        self._connection.open()
        self._connection.call("LLEN", keys.key_for_name(served.queue))
        if served.delivery == "at-least-once":
            check_version(self._connection)
            self._connection.call("BLMOVE", nothing, nothing, "LEFT", "RIGHT", 0.001)
        else:
            self._connection.call("BLPOP", nothing, 0.001)

    def _warn_of_eviction(self) -> None:
        try:
            _, policy = self._connection.call("CONFIG", "GET", "maxmemory-policy")
        except (Refused, ValueError):  # managed servers often forbid CONFIG
            return
        if not policy.startswith((b"noeviction", b"volatile")):
            events.emit(
                logging.WARNING, events.REDIS_EVICTS,
                policy=policy.decode(), reason="a full Redis may delete queues: set noeviction",
            )  # fmt: skip

    def _repeated(self, chore: Callable[[], float]) -> Task:
        def done() -> float:
            try:
                again_s = chore()
            except (NotSent, OutcomeUnknown) as error:
                return self._back_off_s(error)
            self._recovered()
            return again_s

        return done

    def _recover(self, left: Left) -> float | None:
        try:
            self._connection.open()
            recover(self._connection, self._served[left.place.queue], left, self._max_crashes)
        except (NotSent, OutcomeUnknown) as error:
            return self._back_off_s(error)
        self._recovered()
        del self._unsettled[left]
        return None

    def _settle(self, by_s: float) -> None:
        """Give back all that is left, as long as there is time. A list that should be empty gets one try."""
        for left in list(self._unsettled):
            while self._recover(left) is not None:
                if not left.place.is_held:
                    del self._unsettled[left]
                    break
                if time.monotonic() + RETRY_S[0] > by_s:
                    return
                time.sleep(RETRY_S[0])

    def _drained(self) -> None:
        try:
            self._connection.open()
            empty = not self._unsettled and not any(map(self._load, self._served))
        except (NotSent, OutcomeUnknown):
            empty = False
        self._report(Drained(empty))

    def _load(self, queue_name: str) -> int:
        incarnations = self._board.incarnations(self._board.queues.index(queue_name))
        own = [keys.inflight(queue_name, identity.text(each)) for each in incarnations]
        return sum(int(self._connection.call("LLEN", key)) for key in (keys.key_for_name(queue_name), *own))

    def _back_off_s(self, error: Exception) -> float:
        if not self._failures:
            events.emit(logging.WARNING, events.REDIS_LOST, reason=one_line(error))
        self._failures = min(self._failures + 1, 20)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        return jitter * min(RETRY_S[1], RETRY_S[0] * 2.0**self._failures)

    def _recovered(self) -> None:
        if self._failures:
            self._failures = 0
            events.emit(logging.INFO, events.REDIS_BACK)
