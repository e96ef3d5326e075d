"""The caretaker: a thread beside a consumer in the caller's own process, like the keeper of a supervisor."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from hotqueue import identity
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Delivery, Unwatched
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.upkeep import LEASE_MS, RENEW_EVERY_S, TEND_EVERY_S, Upkeep


class Caretaker(Unwatched):
    """The progress of one consumer of one queue: it keeps its lease, and looks after the queue."""

    def __init__(self, queue: str, address: Address) -> None:
        """Nothing is sent before `caring`."""
        self._incarnation = 0
        self._client_id = 0
        self._renewed_s = time.monotonic()
        self._renew_at_s = self._renewed_s
        self._connection = Connection(address, CONSUMER_TIMEOUT_S)
        self._upkeep = Upkeep(queue, self._connection)
        self._stop = threading.Event()

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Keep the lease of this one from now on."""
        del queue
        self._incarnation = incarnation
        self._client_id = client_id
        self._renewed_s = time.monotonic()

    def is_paused(self, queue: str) -> bool:
        """Tell whether nothing of the queue may be started."""
        del queue
        return self._upkeep.is_paused

    def is_fresh(self, queue: str) -> bool:
        """Tell whether the lease has been renewed within half of it."""
        del queue
        return time.monotonic() - self._renewed_s < LEASE_MS / 2000

    def started(self, delivery: Delivery) -> bool:
        """Have nothing begun that others may have taken over, because this process stood still."""
        return self.is_fresh(delivery.queue)

    @contextlib.contextmanager
    def caring(self) -> Iterator[None]:
        """Look after the queue once, then in a thread for the time of the block.

        What was forked in the block has no such thread, and leaves it alone.
        """
        owner = os.getpid()
        with contextlib.suppress(NotSent, OutcomeUnknown):
            self._upkeep.take_over_neighbours()
        again_s = self._care()  # once before the first message, because the queue may be paused
        thread = threading.Thread(target=self._run, args=(again_s,), name="hotqueue-caretaker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            if os.getpid() == owner:
                self._stop.set()
                if thread is not threading.current_thread():  # it may be the one that collects garbage
                    thread.join()

    def _run(self, again_s: float) -> None:
        while not self._stop.wait(again_s):
            again_s = self._care()
        self._connection.close()

    def _care(self) -> float:
        """Do what is due; return in how many seconds to come again."""
        try:
            if time.monotonic() >= self._renew_at_s:
                self._renew()
            again_s = self._upkeep.tend()
            if self._upkeep.is_paused and self._client_id:
                self._upkeep.end_waits([self._client_id])
        except (NotSent, OutcomeUnknown):
            return TEND_EVERY_S
        return again_s

    def _renew(self) -> None:
        self._upkeep.renew([identity.text(self._incarnation)] if self._incarnation else [])
        self._renewed_s = time.monotonic()
        self._renew_at_s = self._renewed_s + RENEW_EVERY_S
        self._upkeep.take_over()
