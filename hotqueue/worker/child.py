"""A child: one consumer loop in a process of its own. One call, from the fork to `os._exit`."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any, NoReturn

from hotqueue import events
from hotqueue.at_most_once import AtMostOnce
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.consumer import Consumer
from hotqueue.delivery import Delivery, Lane, Progress
from hotqueue.execution import Executor
from hotqueue.handler import Handler
from hotqueue.rota import Rota
from hotqueue.wakeup import Wakeup
from hotqueue.worker import logs, output, processes, signals
from hotqueue.worker.scoreboard import Slot
from hotqueue.worker.settings import Settings
from hotqueue.worker.title import ChildTitle

CRASHED = 1


def main(
    slot: Slot, ticket: int, parent: int, handlers: Sequence[Handler[..., Any]], settings: Settings
) -> NoReturn:
    """Consume until told to stop; never return into the template's stack."""
    code = CRASHED
    try:
        logs.bind(child=slot.number)
        if slot.take(ticket):
            code = _run(slot, parent, handlers, settings)
    except BaseException as error:  # noqa: BLE001 - the edge of the process
        events.emit(logging.CRITICAL, events.CHILD_FAILED, error=error, child=slot.number)
    finally:
        output.flush()
        os._exit(code)


def _run(slot: Slot, parent: int, handlers: Sequence[Handler[..., Any]], settings: Settings) -> int:
    wakeup = Wakeup()
    signals.for_child(wakeup)
    if not processes.die_with(parent, signal.SIGTERM):
        return CRASHED
    shown = Shown(slot, ChildTitle(slot.number), wakeup, parent)
    shown.idle()
    events.emit(logging.DEBUG, events.CHILD_READY)
    executor = Executor([handler.queue.assignment(handler) for handler in handlers])
    rota = Rota(
        [handler.queue.name for handler in handlers],
        strict=settings.queues.strict,
        weights=settings.queues.weights,
    )
    own = os.getpid()
    try:
        Consumer(_lanes(handlers, shown, settings.prefetch), executor, rota, wakeup, shown).run()
    finally:
        if os.getpid() == own:
            shown.stopping()
        else:  # a handler forked and came back twice: the slot is not the copy's
            output.flush()
            os._exit(0)
    return 0


def _lanes(handlers: Sequence[Handler[..., Any]], progress: Progress, prefetch: int) -> list[Lane]:
    """One lane for each at-least-once queue; one for all at-most-once queues of a server, by one BLPOP."""
    lanes: list[Lane] = []
    popped: list[tuple[Any, list[str]]] = []
    for handler in handlers:
        if handler.options.delivery == "at-least-once":
            lanes.append(handler.queue.lane("at-least-once", progress, prefetch))
            continue
        address = handler.queue.address
        names = next((names for known, names in popped if known == address), None)
        if names is None:
            popped.append((address, names := []))
        names.append(handler.queue.name)
    lanes.extend(
        AtMostOnce(names, Connection(address, CONSUMER_TIMEOUT_S), progress) for address, names in popped
    )
    return lanes


class Shown:
    """A consumer's progress on the scoreboard, and in the process title what a person wants to see of it."""

    def __init__(self, slot: Slot, title: ChildTitle, wakeup: Wakeup, watched_by: int) -> None:
        """The hot methods are the slot's own."""
        self.watched_by: int | None = watched_by
        self._slot = slot
        self._title = title
        self._wakeup = wakeup
        self._pipe = os.fstat(wakeup.fileno())
        self.registered = slot.registered
        self.claimed = slot.claimed
        self.started = slot.started
        self.finished = slot.finished
        self.is_paused = slot.is_paused
        self.is_fresh = slot.is_fresh

    def idle(self) -> None:
        """Show that nothing runs. Raises OSError if a handler has closed what is ours, to end this child.

        A new connection would get the number of the wake-up pipe, and whoever empties that its replies.
        """
        if not os.path.samestat(os.fstat(self._wakeup.fileno()), self._pipe):
            msg = "a handler has closed descriptors that are not its own"
            raise OSError(msg)
        self._slot.idle()
        self._title.idle()

    def running(self, delivery: Delivery, handler: str) -> None:
        """Show what runs."""
        self._slot.running(delivery, handler)
        self._title.running(delivery, handler)

    def stopping(self) -> None:
        """Show that this child was told to stop, and has."""
        self._slot.stopping()
        self._title.stopping()
