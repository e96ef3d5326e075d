"""Waiting on several lanes and on a wake-up at once, without losing what they bring.

Every lane parks one blocking command on its own connection. When one of them has brought something, or somebody says
stop, the others are unblocked from another connection until each reply has been read: a reply left unread could
be a message.
"""

import select
import time
from collections.abc import Sequence

from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Delivery, Lane
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.wakeup import Wakeup

LONGEST_S = 60.0  # of one park; a half-open connection is noticed by then
REPLY_MARGIN_S = 5.0
UNBLOCK_EVERY_S = 0.02  # an unblock that comes before the command does nothing, so it is repeated
UNBLOCK_FOR_S = 2.0
SHORT_S = 0.3  # of one park where an ACL forbids CLIENT UNBLOCK

_Parked = dict[int, tuple[Lane, Connection]]


class Waiter:
    """Parks lanes and brings back what they catch."""

    def __init__(self, wakeup: Wakeup) -> None:
        """`wakeup` ends a wait early once its flag is set."""
        self._wakeup = wakeup
        self._controls: list[Connection] = []
        self._failure: NotSent | OutcomeUnknown | None = None

    def wait(self, lanes: Sequence[Lane], order: Sequence[str], seconds: float) -> list[Delivery]:
        """Wait `seconds` at most; return what came, which may be one message of each lane.

        Raises what a lane raised if nothing came; otherwise that lane says it again when it is used next.
        """
        self._failure = None
        brought: list[Delivery] = []
        for lane in lanes:
            lane.open()
        seconds = min(seconds, LONGEST_S if all(lane.client_id for lane in lanes) else SHORT_S)
        parked = self._park(lanes, order, seconds)
        if self._failure is None:
            self._collect(parked, brought, seconds + REPLY_MARGIN_S)
        self._cancel(parked, brought)
        if self._failure is not None and not brought:
            raise self._failure
        return brought

    def pause(self, seconds: float) -> None:
        """Wait for the wake-up alone."""
        self._wakeup.drain()
        if not self._wakeup.is_set:
            poll = select.poll()
            poll.register(self._wakeup, select.POLLIN)
            poll.poll(seconds * 1000)

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
                self._failure = error
                break
            parked[connection.fileno()] = (lane, connection)
        return parked

    def _collect(self, parked: _Parked, brought: list[Delivery], seconds: float) -> None:
        """Read replies as they come, until there was one, the flag is set, or the time is over."""
        poll = select.poll()
        for descriptor in parked:
            poll.register(descriptor, select.POLLIN)
        self._wakeup.drain()
        cancelling = self._wakeup.is_set
        if not cancelling:
            poll.register(self._wakeup, select.POLLIN)
        end = time.monotonic() + (min(seconds, UNBLOCK_EVERY_S) if cancelling else seconds)
        while parked and (left := end - time.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000) if descriptor in parked]
            for descriptor in ready:
                self._receive(parked.pop(descriptor)[0], brought)
            if ready or self._wakeup.is_set:
                return
            self._wakeup.drain()

    def _receive(self, lane: Lane, brought: list[Delivery]) -> None:
        try:
            delivery = lane.collect()
        except (NotSent, OutcomeUnknown) as error:
            self._failure = error
            return
        if delivery is not None:
            brought.append(delivery)

    def _cancel(self, parked: _Parked, brought: list[Delivery]) -> None:
        end = time.monotonic() + UNBLOCK_FOR_S
        while parked:
            if time.monotonic() > end or not self._unblock(parked):
                self._abandon(parked)
                return
            self._collect(parked, brought, UNBLOCK_EVERY_S)

    def _unblock(self, parked: _Parked) -> bool:
        """Ask the server to end these waits, where it allows that; False if it cannot be asked."""
        try:
            for lane, connection in parked.values():
                if lane.client_id:
                    self._control(connection).call("CLIENT", "UNBLOCK", lane.client_id)
        except (NotSent, OutcomeUnknown):
            return False
        return True

    def _control(self, parked: Connection) -> Connection:
        for control in self._controls:
            if control.address == parked.address:
                return control
        self._controls.append(Connection(parked.address, CONSUMER_TIMEOUT_S))
        return self._controls[-1]

    def _abandon(self, parked: _Parked) -> None:
        for lane, _ in parked.values():
            try:
                lane.abandon()
            except OutcomeUnknown as error:
                self._failure = error
        parked.clear()
