"""The seats of a child that runs several messages at once: a thread for each, and the main thread beside."""

import contextvars
import logging
import os
import select
import threading
import time
from typing import NoReturn

from hotqueue import events
from hotqueue.delivery import Delivery
from hotqueue.ending import Run, Verdict
from hotqueue.wakeup import Wakeup
from hotqueue.worker import output
from hotqueue.worker.company import Company
from hotqueue.worker.executors import SharedLoop, TaskExecutor, ThreadExecutor
from hotqueue.worker.member import Member
from hotqueue.worker.seat import Seat, Slot
from hotqueue.worker.shown import ShownInCompany
from hotqueue.worker.title import EVERY_NS, ChildTitle
from hotqueue.worker.work import Work


class Seats:
    """Runs in the main thread: hears signals for the others, interrupts what is late, keeps the title."""

    def __init__(self, slot: Slot, title: ChildTitle, wakeup: Wakeup, work: Work) -> None:
        """Nothing is started yet. All signals wake `wakeup`, and a TERM sets it."""
        self._slot = slot
        self._title = title
        self._wakeup = wakeup
        self._work = work
        self._company = Company()
        self._own = os.getpid()
        self._wakeups: list[Wakeup] = []
        self._executors: list[tuple[Seat, ThreadExecutor]] = []
        self._living: set[threading.Thread] = set()
        self._errors: list[BaseException] = []
        self._sign = Changes(wakeup)
        self._counting = threading.Lock()

    def run(self) -> None:
        """Consume in all seats until told to stop. Raises what has ended one of them."""
        shared = SharedLoop() if self._work.settings.tasks > 1 else None
        for seat in self._slot.seats:
            self._begin(seat, shared)
        names = {handler.queue.name: handler.__name__ for handler in self._work.handlers}
        is_told = False
        while self._living:
            self._wait()
            if not is_told and (self._wakeup.is_set or self._errors):
                is_told = True
                self._tell()
            for seat, executor in self._executors:
                executor.interrupt_if(seat.is_warned)
            if self._sign.is_due:
                self._sign.seen()
                self._title.several(self._slot.running(), names)
        if shared is not None:
            shared.close()  # last of all: a task of the user's may not want to end
        if self._errors:
            raise self._errors[0]

    def _begin(self, seat: Seat, shared: SharedLoop | None) -> None:
        assignments = self._work.assignments()
        if shared is None:
            executor = ThreadExecutor(assignments, self._count)
        else:
            executor = TaskExecutor(assignments, shared, self._count)
        wakeup = Wakeup()
        shown = ShownInCompany(self._company, seat, self._sign, wakeup, self._work.watched_by)
        member = Member(self._work, executor, wakeup, shown, self._company)
        self._wakeups.append(wakeup)
        self._executors.append((seat, executor))
        # Threads begin with an empty context; this one says which child it is in each line of the log.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._occupy, member), daemon=True)
        self._living.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # there may be no more
            self._living.discard(thread)
            self._errors.append(error)

    def _occupy(self, member: Member) -> None:
        try:
            member.run()
        except BaseException as error:  # noqa: BLE001 - the edge of the thread
            self._errors.append(error)
        finally:
            if os.getpid() != self._own:  # a handler forked and came back twice
                self._exit(0)
            self._living.discard(threading.current_thread())
            self._wake_main()

    def _wake_main(self) -> None:
        try:
            self._wakeup.check()
        except OSError as error:  # it would wait for ever
            events.emit(logging.CRITICAL, events.CHILD_FAILED, error=error)
            self._exit(1)
        self._wakeup.wake()

    @staticmethod
    def _exit(code: int) -> NoReturn:
        output.flush()
        os._exit(code)

    def _count(self, run: Run, outcome: Verdict) -> None:
        with self._counting:
            self._work.count(run, outcome)

    def _tell(self) -> None:
        for wakeup in self._wakeups:
            wakeup.set()
        self._company.end()

    def _wait(self) -> None:
        self._wakeup.check()
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.poll(self._sign.due_ms)
        self._wakeup.drain()


class Changes:
    """Whether the title may be out of date. Seats note that, and only the first makes a system call."""

    def __init__(self, wakeup: Wakeup) -> None:
        """`wakeup` wakes the main thread."""
        self._wakeup = wakeup
        self._has_changed = False
        self._next_ns = 0

    def idle(self) -> None:
        """Note it."""
        if not self._has_changed:
            self._has_changed = True
            self._wakeup.wake()

    def running(self, delivery: Delivery, now_ns: int) -> None:
        """Note it."""
        del delivery, now_ns
        self.idle()

    @property
    def due_ms(self) -> float | None:
        """In how many milliseconds to look; None while there is no reason."""
        left_ns = self._next_ns - time.monotonic_ns()
        return max(0.0, left_ns / 1e6) if self._has_changed else None

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self._has_changed and time.monotonic_ns() >= self._next_ns

    def seen(self) -> None:
        """Begin to look: what changes from here on is noted anew."""
        self._has_changed = False
        self._next_ns = time.monotonic_ns() + EVERY_NS
