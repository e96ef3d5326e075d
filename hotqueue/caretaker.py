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
from hotqueue.rounds import Rounds
from hotqueue.upkeep import LEASE_MS, Upkeep


class Caretaker(Unwatched):
    """The progress of one consumer of one queue: it renews its lease, and tends to the queue."""

    def __init__(self, queue: str, address: Address) -> None:
        """Nothing is sent before `caring`."""
        self._incarnation = 0
        self._renewed_s = time.monotonic()
        self._stop = threading.Event()
        self._connection = Connection(address, CONSUMER_TIMEOUT_S)
        self._rounds = Rounds({queue: Upkeep(queue, self._connection)}, self._incarnations)
        self._paused: list[str] = []

    def registered(self, queue: str, incarnation: int, client_id: int) -> None:
        """Keep the lease of this one from now on."""
        del queue, client_id
        self._incarnation = incarnation
        self._renewed_s = time.monotonic()

    def is_paused(self, queue: str) -> bool:
        """Tell whether nothing of `queue` may be started."""
        return queue in self._paused

    def is_fresh(self) -> bool:
        """Tell whether the lease has been renewed within half of it."""
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

    def _incarnations(self, _queue: str) -> list[str]:
        return [identity.text(self._incarnation)] if self._incarnation else []

    def _run(self) -> None:
        with contextlib.suppress(NotSent, OutcomeUnknown):
            self._rounds.begin()
        while not self._stop.wait(max(0.0, self._rounds.next_s - time.monotonic())):
            self._rounds.work()
            self._paused = self._rounds.paused()
            if self._rounds.are_leases_fresh:
                self._renewed_s = time.monotonic()
        self._connection.close()
