"""A child: one consumer loop, or several, in a process of its own. One call, from the fork to `os._exit`."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any, NoReturn

from hotqueue import events, hooks
from hotqueue.consumer import Consumer
from hotqueue.errors import SoftTimeLimit
from hotqueue.execution import Executor
from hotqueue.handler import Handler
from hotqueue.wakeup import Wakeup
from hotqueue.worker import logs, output, processes, signals
from hotqueue.worker.seat import Seat, Slot
from hotqueue.worker.seats import Seats
from hotqueue.worker.settings import Settings
from hotqueue.worker.shown import Shown
from hotqueue.worker.tally import SlotTally, Tally
from hotqueue.worker.title import ChildTitle
from hotqueue.worker.work import Work

CRASHED = 1


def main(  # noqa: PLR0913 - all that a child is given
    slot: Slot,
    ticket: int,
    parent: int,
    handlers: Sequence[Handler[..., Any]],
    settings: Settings,
    *,
    tally: Tally,
) -> NoReturn:
    """Consume until told to stop; never return into the template's stack."""
    code = CRASHED
    try:
        logs.bind(child=slot.number)
        if slot.take(ticket):
            counts = SlotTally(tally, slot.number, in_full=settings.metrics is not None)
            code = _run(slot, Work(handlers, settings, parent, counts.count))
    except BaseException as error:  # noqa: BLE001 - the edge of the process
        events.emit(logging.CRITICAL, events.CHILD_FAILED, error=error, child=slot.number)
    finally:
        output.flush()
        os._exit(code)


def _run(slot: Slot, work: Work) -> int:
    wakeup = Wakeup()
    signals.for_child(wakeup)
    if not processes.die_with(work.watched_by, signal.SIGTERM):
        return CRASHED
    title = ChildTitle(slot.number)
    hooks.run(hooks.CHILD_START)
    title.idle()
    slot.ready()
    events.emit(logging.DEBUG, events.CHILD_READY)
    own = os.getpid()
    try:
        if len(slot.seats) == 1:
            _consume(slot.seats[0], title, wakeup, work)
        else:
            Seats(slot, title, wakeup, work).run()
        if os.getpid() == own:
            slot.stopping()  # not after an error: what ran then is to be seen
    finally:
        if os.getpid() == own:
            title.stopping()
            hooks.run_last(hooks.CHILD_STOP)
        else:  # a handler forked and came back twice: the slot is not the copy's
            output.flush()
            os._exit(0)
    return 0


def _consume(seat: Seat, title: ChildTitle, wakeup: Wakeup, work: Work) -> None:
    """Consume in the only seat, in this thread."""
    executor = Executor(work.assignments(), work.count)

    def interrupt() -> None:
        if seat.is_warned():
            executor.interrupt(SoftTimeLimit())

    signals.on_soft_limit(interrupt)
    shown = Shown(seat, title, wakeup, work.watched_by)
    Consumer(work.lanes(shown), executor, work.rota(), wakeup, shown).run()
