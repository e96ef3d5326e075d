"""The work of a child, as its consumers need it: how messages come in, and what is done with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotqueue.at_most_once import AtMostOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.delivery import Lane, Progress
from hotqueue.ending import Assignment
from hotqueue.execution import Count
from hotqueue.handler import Handler
from hotqueue.rota import Rota
from hotqueue.watch import watches
from hotqueue.worker import processes
from hotqueue.worker.settings import Settings

MOST_WAITING = 8  # connections on which a child waits, if its queues do not lie on many servers


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done, and who hears of it: the supervisor, `watched_by`; `count` is told how runs end."""

    handlers: Sequence[Handler[..., Any]]
    settings: Settings
    watched_by: int
    count: Count  # in one thread at a time

    def assignments(self) -> list[Assignment]:
        """Return what to call with the messages of each queue."""
        return [handler.queue.assignment(handler) for handler in self.handlers]

    def rota(self) -> Rota:
        """Return the order in which a consumer looks at its queues."""
        names = [handler.queue.name for handler in self.handlers]
        return Rota(names, strict=self.settings.queues.strict, weights=self.settings.queues.weights)

    def lanes(self, progress: Progress) -> list[Lane]:
        """One for each at-least-once queue; one for all at-most-once queues of a server, by one BLPOP.

        Several messages are claimed at once only where they can be taken back.
        """
        may_prefetch = processes.obey_barriers()
        budget_s = self.settings.prefetch_ms / 1000
        popped = self._popped(progress)
        claiming = [handler for handler in self.handlers if handler.options.delivery == "at-least-once"]
        watched_by = watches((handler.queue.address for handler in claiming), MOST_WAITING - len(popped))
        found: list[Lane] = []
        for handler, watch in zip(claiming, watched_by, strict=True):
            prefetch = (handler.options.prefetch or self.settings.prefetch) if may_prefetch else 1
            found.append(handler.queue.lane("at-least-once", progress, prefetch, budget_s, watch))
        return [*found, *popped]

    def _popped(self, progress: Progress) -> list[AtMostOnce]:
        found: list[tuple[Any, list[str]]] = []
        for handler in self.handlers:
            if handler.options.delivery == "at-least-once":
                continue
            address = handler.queue.address
            names = next((names for known, names in found if known == address), None)
            if names is None:
                found.append((address, names := []))
            names.append(handler.queue.name)
        return [
            AtMostOnce(names, Connection(address, CONSUMER_TIMEOUT_S), progress) for address, names in found
        ]
