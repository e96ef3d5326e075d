"""Waiting on several lanes and on a wake-up at once, without losing what they bring.

Every lane parks one blocking command on its own connection. When one of them has brought something, or
somebody says stop, the others are unblocked from another connection until each reply has been read: a reply
left unread could be a message. Where there are many, most do not park: a watch hears of their messages, and
then the lane takes one, as any other consumer may do before it.
"""

import contextlib
import select
import time
from collections.abc import Sequence

from hotqueue.address import Address
from hotqueue.connection import Connection
from hotqueue.delivery import Delivery, Lane
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.wakeup import Wakeup
from hotqueue.watch import Watch

LONGEST_S = 60.0  # of one park; a half-open connection is noticed by then
SHORTEST_S = 0.001  # before version 7 Redis takes less for 0, which is for ever
REPLY_MARGIN_S = 5.0
UNBLOCK_EVERY_S = 0.02  # an unblock that comes before the command does nothing, so it is repeated
UNBLOCK_FOR_S = 2.0
SHORT_S = 0.3  # of one park where an ACL forbids CLIENT UNBLOCK

_Parked = dict[int, tuple[Lane, Connection]]
_Watched = dict[Watch, dict[str, Lane]]  # by queue, in the order in which they are looked at


class Waiter:
    """Parks lanes and brings back what they catch."""

    def __init__(self, wakeup: Wakeup) -> None:
        """`wakeup` ends a wait early once its flag is set."""
        self._wakeup = wakeup
        self._controls: list[Connection] = []
        self._failures: list[tuple[Lane, NotSent | OutcomeUnknown]] = []
        self.failed: Lane | None = None  # the one because of which `wait` raised

    def wait(self, lanes: Sequence[Lane], order: Sequence[str], seconds: float) -> list[Delivery]:
        """Wait `seconds` at most; return what came, which may be one message of each lane.

        Raises what a lane raised if nothing came; otherwise that lane says it again when it is used next.
        """
        self._failures.clear()
        brought: list[Delivery] = []
        for lane in lanes:
            self.failed = lane
            lane.open()
        watched, parking = _watched(lanes, order), [lane for lane in lanes if lane.watch is None]
        longest = LONGEST_S if all(lane.client_id for lane in parking) else SHORT_S
        seconds = max(SHORTEST_S, min(seconds, longest))
        for watch in watched:
            self._hear(watch, watched[watch], brought)
        parked = {} if brought or self._failures else self._park(parking, order, seconds)
        try:
            if not brought and not self._failures:
                margin_s = REPLY_MARGIN_S if parked else 0.0
                self._collect(parked, brought, seconds + margin_s, watched, until_woken=True)
        finally:  # also when a signal handler of the application raises: what came is in the lanes then
            self._cancel(parked, brought)
        if self._failures and not brought:
            self.failed, error = self._failures[0]
            raise error
        return brought

    def pause(self, seconds: float) -> None:
        """Wait for the wake-up alone."""
        self._collect({}, [], seconds, until_woken=True)

    def close(self) -> None:
        """Close the connections that unblocked others."""
        for control in self._controls:
            control.close()

    def _park(self, lanes: Sequence[Lane], order: Sequence[str], seconds: float) -> _Parked:
        parked: _Parked = {}
        for lane in lanes:
            try:
                connection = lane.park(order, seconds)
            except (NotSent, OutcomeUnknown) as error:
                self._failures.append((lane, error))
                break
            parked[connection.fileno()] = (lane, connection)
        return parked

    def _collect(
        self,
        parked: _Parked,
        brought: list[Delivery],
        seconds: float,
        watched: _Watched | None = None,
        *,
        until_woken: bool = False,
    ) -> None:
        """Read replies as they come, until there was one, somebody says stop, or the time is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if until_woken and self._is_stopped():
                return
            # Each time, as a watch that has heard something may have made its connection anew.
            listening = {watch.fileno(): (watch, lanes) for watch, lanes in (watched or {}).items()}
            poll = select.poll()
            for descriptor in (*parked, *listening):
                poll.register(descriptor, select.POLLIN)
            if until_woken:
                poll.register(self._wakeup, select.POLLIN)
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            answered = [descriptor for descriptor in ready if descriptor in parked]
            for descriptor in answered:
                self._receive(parked.pop(descriptor)[0], brought)
            if answered:
                return
            for watch, lanes in (listening[descriptor] for descriptor in ready if descriptor in listening):
                self._hear(watch, lanes, brought)
            if brought or self._failures:
                return

    def _hear(self, watch: Watch, lanes: dict[str, Lane], brought: list[Delivery]) -> None:
        """Take the first message there is, unless others are faster until none is left."""
        lane = next(iter(lanes.values()))
        try:
            while not_empty := watch.not_empty(list(lanes)):
                for queue in not_empty:
                    lane = lanes[queue]
                    if (delivery := lane.take(queue)) is not None:
                        brought.append(delivery)
                        return
        except (NotSent, OutcomeUnknown) as error:
            self._failures.append((lane, error))

    def _is_stopped(self) -> bool:
        self._wakeup.drain()  # before the look: who sets the flag after it wakes the poll
        return self._wakeup.is_set

    def _receive(self, lane: Lane, brought: list[Delivery]) -> None:
        try:
            delivery = lane.collect()
        except (NotSent, OutcomeUnknown) as error:
            self._failures.append((lane, error))
            return
        if delivery is not None:
            brought.append(delivery)

    def _cancel(self, parked: _Parked, brought: list[Delivery]) -> None:
        """Have the other waits end, until each reply was read or there is no hope of it any more."""
        end = time.monotonic() + UNBLOCK_FOR_S
        while parked and time.monotonic() < end:
            for lane, connection in parked.values():
                if lane.client_id:
                    self._unblock(lane.client_id, connection.address)
            self._collect(parked, brought, UNBLOCK_EVERY_S)
        for lane, connection in parked.values():
            lane.abandon()
            msg = f"no reply from Redis at {connection.address} to a wait on {', '.join(lane.queues)}"
            self._failures.append((lane, OutcomeUnknown(msg)))

    def _unblock(self, client_id: int, address: Address) -> None:
        control = next((known for known in self._controls if known.address == address), None)
        if control is None:
            self._controls.append(control := Connection(address, UNBLOCK_FOR_S))
        with contextlib.suppress(NotSent, OutcomeUnknown):  # it is tried again as long as there is time
            control.open()
            control.call("CLIENT", "UNBLOCK", client_id)


def _watched(lanes: Sequence[Lane], order: Sequence[str]) -> _Watched:
    found: _Watched = {}
    by_queue = {lane.queues[0]: lane for lane in lanes if lane.watch is not None}
    for queue in order:
        if (lane := by_queue.get(queue)) is not None and lane.watch is not None:
            found.setdefault(lane.watch, {})[queue] = lane
    return found
