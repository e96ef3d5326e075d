"""A keeper: a thread of the supervisor that does all of its work with one Redis server.

It keeps the leases of the children, gives back what dead children held, and says when nothing is left to do.
The main loop never waits for it, and one server never waits for another: each has a keeper of its own.
"""

import contextlib
import heapq
import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from hotqueue import events, identity, keys, stats
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.ending import one_line
from hotqueue.errors import ConfigurationError, NotSent, OutcomeUnknown, Refused
from hotqueue.stats import Stats
from hotqueue.upkeep import RENEW_EVERY_S
from hotqueue.version import check_version
from hotqueue.worker.care import Care
from hotqueue.worker.publication import Publication
from hotqueue.worker.reading import Place
from hotqueue.worker.recovery import Left, Served, hand_back, recover
from hotqueue.worker.reports import Broken, Connected, Drained, HandedBack, Hopeless, Report
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings

RETRY_S = (0.1, 5.0)
GOODBYE_S = 1.0  # at most, for the last word, where nothing depends on it
_HINT = ": start it, say with --url where it is, or bring a private one with --embedded"
_HOPELESS = {"WRONGPASS", "NOAUTH", "NOPERM", "DB"}  # "DB index is out of range"

Task = Callable[[], float | None]  # returns in how many seconds it wants to run again, or None


class Keeper:
    """Works through an agenda. What fails is put off and tried again, until it is done or time is over."""

    def __init__(
        self,
        served: Sequence[Served],
        board: Scoreboard,
        settings: Settings,
        publication: Publication,
        report: Callable[[Report], None],
    ) -> None:
        """All of `served` lie on one server. `report` is called in this thread, and must only note."""
        self._served = {each.queue: each for each in served}
        self._board = board
        self._max_crashes = settings.max_crashes
        self._publication = publication
        self._report = report
        self._connection = Connection(served[0].address, CONSUMER_TIMEOUT_S)
        self._cares = {each.queue: Care(each.queue, self._connection, board, settings) for each in served}
        # No SimpleQueue: its `get` may wait for ever once a process was frozen for longer than the timeout.
        self._inbox: queue.Queue[Task] = queue.Queue()
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

    @property
    def has_redis(self) -> bool:
        """Whether nothing has failed since Redis last answered."""
        return not self._failures

    def recover(self, left: Left) -> None:
        """Give back what a dead child held."""
        self._unsettled[left] = None
        self._inbox.put(lambda: self._recover(left))

    def hand_back(self, place: Place) -> None:
        """Release what a living child holds and will not start."""
        self._inbox.put(lambda: self._tried(lambda: hand_back(self._connection, place)))

    def look_if_drained(self) -> None:
        """Report Drained."""
        self._inbox.put(self._drained)

    def count(self, note: Callable[[Sequence[Stats]], None]) -> None:
        """Have `note` called in this thread with what the queues hold, or nothing if Redis does not say."""
        self._inbox.put(partial(self._count, note))

    @property
    def has_ended(self) -> bool:
        """Whether its thread has."""
        return not self._thread.is_alive()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to give back."""
        return not self._unsettled

    def stop(self, by_s: float) -> None:
        """Do nothing any more but give back, until the monotonic clock says `by_s` at most."""
        self._stop_by_s = by_s
        self._inbox.put(lambda: None)

    def wait(self) -> list[Left]:
        """Wait for the end that `stop` asked for; return what could not be given back."""
        if self._stop_by_s is not None:
            left_s = max(0.0, self._stop_by_s - time.monotonic())
            self._thread.join(left_s if self._unsettled else min(left_s, GOODBYE_S))
        return list(self._unsettled)

    def _run(self) -> None:
        while self._stop_by_s is None:
            self._receive()
            self._do_what_is_due()
        self._settle(self._stop_by_s)
        with contextlib.suppress(NotSent, OutcomeUnknown):
            self._publication.withdraw(self._connection)
        self._connection.close()

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
            again_s = self._done(task)
            if again_s is not None:
                self._put(task, again_s)

    def _done(self, task: Task) -> float | None:
        """Do it. What fails in a way that nobody thought of is given up, and the rest of the agenda kept."""
        try:
            return task()
        except Exception as error:  # noqa: BLE001 - the thread would end in silence, and the leases with it
            events.emit(logging.CRITICAL, events.KEEPER_FAILED, error=error)
            self._connection.close()  # a reply may be left on it
            self._report(Broken(f"the keeper failed: {one_line(error)}"))
            return None

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
            refused = hopeless or isinstance(error, Refused)
            self._report(Hopeless(str(error) if refused else f"{str(error).removesuffix('.')}{_HINT}"))
            return None
        self._recovered()
        for care in self._cares.values():
            self._put(self._repeated(care.renew), RENEW_EVERY_S)
            self._put(self._repeated(care.tend), 0.0)
            self._put(self._repeated(care.undertaker.trim), 0.0)
        self._put(self._repeated(lambda: self._publication.publish(self._connection)), 0.0)
        self._report(Connected())
        return None

    def _check(self, served: Served) -> None:
        """Do what children will do, as far as it takes nothing: an ACL may forbid it."""
        nothing = keys.inflight(served.queue, identity.text(0))  # nobody's
        self._connection.open()
        self._connection.call("LLEN", keys.key_for_name(served.queue))
        if served.delivery == "at-least-once":
            check_version(self._connection)
            self._check_wait("BLMOVE", nothing, nothing, "LEFT", "RIGHT")
        else:
            self._check_wait("BLPOP", nothing)

    def _check_wait(self, *command: str) -> None:
        """Ask for a timeout that is refused, after the rights: any other takes 0.1 s, for each queue."""
        try:
            self._connection.call(*command, -1)
        except Refused as refused:
            # Children take by script from a full server, and make room.
            if refused.code != "OOM" and "timeout" not in str(refused):
                raise

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

    def _repeated(self, chore: Callable[[], float | None]) -> Task:
        def done() -> float:
            try:
                again_s = chore()
            except (NotSent, OutcomeUnknown) as error:
                return self._back_off_s(error)
            if again_s is None:  # refused, which says nothing about the other chores
                return RENEW_EVERY_S
            self._recovered()
            return again_s

        return done

    def _tried(self, act: Callable[[], None]) -> float | None:
        """Do it on an open connection; return when to try again if Redis cannot be told, else None."""
        try:
            self._connection.open()
            act()
        except (NotSent, OutcomeUnknown) as error:
            return self._back_off_s(error)
        self._recovered()
        return None

    def _recover(self, left: Left) -> float | None:
        return self._tried(lambda: self._give_back(left))

    def _give_back(self, left: Left) -> None:
        retired = recover(self._connection, self._served[left.place.queue], left, self._max_crashes)
        del self._unsettled[left]
        if retired.released:
            self._report(HandedBack(retired.released, retired.ids))

    def _settle(self, by_s: float) -> None:
        """Give back all that is left, as long as there is time. A list that should be empty gets one try."""
        for left in list(self._unsettled):
            while self._done(partial(self._recover, left)) is not None:
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

    def _count(self, note: Callable[[Sequence[Stats]], None]) -> None:
        found: list[Stats] = []
        try:
            self._connection.open()
            found = [stats.look(self._connection, queue_name) for queue_name in self._served]
        except (NotSent, OutcomeUnknown):
            pass  # whose turn comes next says so
        finally:
            note(found)

    def _load(self, queue_name: str) -> int:
        """Count what waits and what is in flight here, in this order: messages go from the one to the other.

        So the incarnations are read last, too: whoever took what no longer waits has said its name by then.
        """
        waiting = int(self._connection.call("LLEN", keys.key_for_name(queue_name)))
        incarnations = self._board.incarnations(self._board.queues.index(queue_name))
        own = [keys.inflight(queue_name, identity.text(each)) for each in incarnations]
        return sum((int(self._connection.call("LLEN", key)) for key in own), waiting)

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
