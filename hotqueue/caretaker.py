"""The caretaker: a thread beside a consumer in the caller's own process, in the place of a supervisor's keeper."""

import contextlib
import threading
import time
from collections.abc import Iterator

from hotqueue import identity
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Unwatched
from hotqueue.errors import NotSent, OutcomeUnknown
from hotqueue.upkeep import LEASE_MS, RENEW_EVERY_S, TEND_EVERY_S, Upkeep


class Caretaker(Unwatched):
    """The progress of one consumer of one queue: it keeps its lease, and looks after the queue."""

    def __init__(self, queue: str, address: Address) -> None:
        """Nothing is sent before `caring`."""
        self._incarnation = 0
        self._renewed_s = time.monotonic()
        self._paused = False
        self._connection = Connection(address, CONSUMER_TIMEOUT_S)
        self._upkeep = Upkeep(queue, self._connection)
        self._stop = threading.Event()

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Keep the lease of this one from now on."""
        del queue, client_id
        self._incarnation = incarnation
        self._renewed_s = time.monotonic()

    def is_paused(self, queue: str) -> bool:
        """Tell whether nothing of the queue may be started."""
        del queue
        return self._paused

    def is_fresh(self, queue: str) -> bool:
        """Tell whether the lease has been renewed within half of it."""
        del queue
        return time.monotonic() - self._renewed_s < LEASE_MS / 2000

    @contextlib.contextmanager
    def caring(self) -> Iterator[None]:
        """Run the thread for the time of the block."""
        thread = threading.Thread(target=self._run, name="hotqueue-caretaker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        with contextlib.suppress(NotSent, OutcomeUnknown):
            self._upkeep.take_over_neighbours()
        again_s = 0.0
        next_renewal_s = 0.0
        while not self._stop.wait(again_s):
            again_s = TEND_EVERY_S
            with contextlib.suppress(NotSent, OutcomeUnknown):
                if time.monotonic() >= next_renewal_s:
                    self._renew()
                    next_renewal_s = time.monotonic() + RENEW_EVERY_S
                again_s = self._upkeep.tend()
                self._paused = self._upkeep.is_paused
        self._connection.close()

    def _renew(self) -> None:
        self._upkeep.renew([identity.text(self._incarnation)] if self._incarnation else [])
        self._renewed_s = time.monotonic()
