"""The supervisor: as many children as asked for, until told to stop. It runs no user code and never waits."""

import logging
import select
import signal
import time
from collections.abc import Callable, Sequence
from enum import IntEnum

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import policy, processes, scoreboard, signals, title
from hotqueue.worker.burst import Burst
from hotqueue.worker.crew import Crew
from hotqueue.worker.keeper import Connected, Drained, Hopeless
from hotqueue.worker.keepers import Keepers
from hotqueue.worker.recovery import Served, served_from
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings
from hotqueue.worker.templates import Templates

MOST_QUEUES = 1024
TICK_S = 1.0
BURST_TICK_S = 0.05
UNKILLABLE_S = 5.0  # that a killed child may need to go: one that hangs in the kernel never does
SETTLE_S = 5.0  # for the keepers to give back what dead children held
NEVER = float("inf")


class ExitCode(IntEnum):
    """What the worker's exit says."""

    CLEAN = 0
    UNCLEAN = 1
    USAGE = 2
    REDIS = 3


class Supervisor:
    """Keeps the children. `run` is its whole life; each pass hears what happened, then does what follows."""

    def __init__(self, settings: Settings, on_check: Callable[[Sequence[Served]], None]) -> None:
        """`on_check` is called instead of serving, with `--check`, once all is imported and Redis answers."""
        self.problem: str | None = None
        self._settings = settings
        self._on_check = on_check
        self._code = ExitCode.CLEAN
        self._wakeup = Wakeup()
        self._signals = signals.Inbox(self._wakeup)
        self._adopting = processes.adopt_orphans()
        self._board_file = scoreboard.new_file(scoreboard.size(MOST_QUEUES, settings.concurrency))
        self._templates = Templates(settings, self._board_file, self._wakeup, adopting=self._adopting)
        self._served: list[Served] = []
        self._crew: Crew | None = None
        self._burst: Burst | None = None
        self._keepers: Keepers | None = None
        self._serving = False
        self._stopping_since_s: float | None = None
        self._kill_at_s = NEVER
        self._kill_reason = f"did not stop within {settings.shutdown_timeout:g} s"
        self._show()

    def run(self) -> ExitCode:
        """Serve until told to stop, or until nothing is left to do; return the exit code."""
        while not self._is_over():
            self._wait()
            self._hear_signals()
            self._hear_template()
            self._hear_keepers()
            self._hear_deaths()
            self._keep_template()
            self._keep_crew()
            self._look_if_drained()
            self._enforce_deadline()
            self._show()
        return self._end()

    def _wait(self) -> None:
        now_s = time.monotonic()
        until_s = now_s + (BURST_TICK_S if self._burst is not None else TICK_S)
        if self._kill_at_s > now_s:
            until_s = min(until_s, self._kill_at_s)
        if self._stopping_since_s is None:
            until_s = min(until_s, self._templates.next_s)
            if self._crew is not None and self._serving and self._templates.is_ready:
                until_s = min(until_s, self._crew.next_s)
        poll = select.poll()
        for descriptor in (self._wakeup.fileno(), *self._templates.filenos()):
            poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, until_s - now_s) * 1000 + 1)
        self._wakeup.drain()

    def _is_over(self) -> bool:
        if self._stopping_since_s is None:
            return False
        gone = self._crew is None or not self._crew.size
        return gone or time.monotonic() > self._kill_at_s + UNKILLABLE_S

    def _hear_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                continue
            if self._stopping_since_s is None:
                self._stop(number.name)
            elif number == signal.SIGINT and policy.is_forced(self._stopping_since_s, time.monotonic()):
                self._kill_now("second SIGINT")
            if number == signal.SIGQUIT:
                self._kill_now("SIGQUIT")

    def _hear_template(self) -> None:
        for report in self._templates.reports():
            match report:
                case {"ready": list(described)}:
                    self._meet(served_from(described))
                case {"forked": int(slot), "pid": int(pid)} if self._crew is not None:
                    self._crew.forked(slot, pid)
                    if self._stopping_since_s is not None:
                        self._crew.terminate()
                case {"fork_failed": int(slot), "error": str(error)} if self._crew is not None:
                    self._crew.fork_failed(slot, error, stillborn=report["stillborn"])
                case {"exited": int(pid), "status": int(status)} if self._crew is not None:
                    self._crew.ended(pid, status)

    def _hear_keepers(self) -> None:
        for report in self._keepers.reports() if self._keepers is not None else ():
            match report:
                case Connected():
                    self._begin_serving()
                case Hopeless(problem=problem):
                    self._fail(ExitCode.REDIS, problem)
                case Drained(empty=empty):
                    if self._burst is not None and self._burst.is_over(empty=empty):
                        self._stop("burst: nothing is waiting or in flight here")

    def _hear_deaths(self) -> None:
        for pid, status in processes.reap():
            if pid == self._templates.pid:
                self._hear_template()  # what it said last
                self._templates.ended(status)
                if self._crew is not None:
                    self._crew.forget_unforked()
                    if not self._adopting:  # they were its children
                        self._crew.kill_unwatched("the template died")
            elif self._crew is not None:
                self._crew.ended(pid, status)

    def _keep_template(self) -> None:
        if self._stopping_since_s is None:
            self._templates.keep()
            if self._templates.problem is not None:
                self._fail(ExitCode.USAGE, self._templates.problem)

    def _meet(self, served: list[Served]) -> None:
        """Learn from a template that is ready which queues there are."""
        if self._keepers is not None:  # a new template after the old one died
            if list(map(_essence, served)) != list(map(_essence, self._served)):
                self._fail(ExitCode.UNCLEAN, "the application's queues have changed: start the worker again")
            return
        if len(served) > MOST_QUEUES:
            self._fail(ExitCode.USAGE, f"one worker serves {MOST_QUEUES} queues at most, not {len(served)}")
            return
        self._served = served
        board = Scoreboard(self._board_file, [each.queue for each in served], self._settings.concurrency)
        self._keepers = Keepers(served, board, self._settings.max_crashes, self._wakeup.wake)
        self._crew = Crew(board, served, self._templates.fork, self._keepers.recover)
        self._keepers.start(self._settings.connect_timeout)

    def _begin_serving(self) -> None:
        if self._stopping_since_s is not None or self._crew is None or self._keepers is None:
            return
        if self._settings.check:
            self._on_check(self._served)
            self._stop("check")
            return
        self._serving = True
        if self._settings.burst:
            self._burst = Burst(self._crew, self._keepers.look_if_drained)
        events.emit(
            logging.INFO,
            events.SUPERVISOR_STARTED,
            queues=",".join(each.queue for each in self._served),
            concurrency=self._settings.concurrency,
            why=self._settings.concurrency_why,
            redis=",".join(sorted({str(each.address) for each in self._served})),
        )

    def _keep_crew(self) -> None:
        if not self._serving or self._stopping_since_s is not None or self._crew is None:
            return
        if self._burst is not None and self._burst.is_leaving:
            return
        if self._crew.problem is not None:
            self._fail(ExitCode.UNCLEAN, self._crew.problem)
        elif self._crew.is_gone:
            self._stop("every child was told to stop")
        elif self._templates.is_ready:
            self._crew.fill()

    def _look_if_drained(self) -> None:
        if self._burst is not None and self._stopping_since_s is None:
            self._burst.look()

    def _stop(self, reason: str) -> None:
        if self._stopping_since_s is not None:
            return
        self._stopping_since_s = time.monotonic()
        self._kill_at_s = self._stopping_since_s + self._settings.shutdown_timeout
        if self._crew is not None:
            if self._serving:
                events.emit(logging.INFO, events.SUPERVISOR_STOPPING, reason=reason, busy=self._crew.busy())
            self._crew.terminate()

    def _fail(self, code: ExitCode, problem: str) -> None:
        if self._stopping_since_s is None:
            self.problem = problem
            self._code = code
            self._stop(problem)

    def _kill_now(self, reason: str) -> None:
        self._kill_at_s = min(self._kill_at_s, time.monotonic())
        self._kill_reason = reason

    def _enforce_deadline(self) -> None:
        if self._crew is None:
            return
        late = time.monotonic() >= self._kill_at_s
        if late and self._crew.kill(self._kill_reason):
            self._code = max(self._code, ExitCode.UNCLEAN)
        if self._crew.is_stuck or (late and self._crew.is_forking):
            self._templates.kill()  # another one is started, unless this is the end

    def _end(self) -> ExitCode:
        unsettled = self._keepers.stop(SETTLE_S) if self._keepers is not None else 0
        if unsettled:
            self._code = max(self._code, ExitCode.UNCLEAN)
            reason = f"Redis was not told of {unsettled} ended children: what they held stays in flight"
            events.emit(logging.ERROR, events.REDIS_LOST, reason=reason)
        self._templates.end()
        if self._serving:
            events.emit(logging.INFO, events.SUPERVISOR_STOPPED, code=int(self._code))
        return self._code

    def _show(self) -> None:
        busy, size = (self._crew.busy(), self._crew.size) if self._crew is not None else (0, 0)
        title.supervisor(" ".join(self._settings.targets), busy, size)


def _essence(served: Served) -> tuple[object, ...]:
    return served.queue, served.delivery, served.address
