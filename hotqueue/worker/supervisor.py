"""The supervisor: as many children as asked for, until told to stop. It runs no user code and never waits."""

import logging
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import policy, processes, scoreboard, signals, title
from hotqueue.worker.crew import Crew
from hotqueue.worker.keeper import Connected, Drained, Keeper, Report, Served, served_from
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings
from hotqueue.worker.template_link import TemplateLink

MOST_QUEUES = 1024
TICK_S = 1.0
BURST_TICK_S = 0.05
SETTLE_S = 5.0  # for the keeper to give back what dead children held
TEMPLATE_END_S = 2.0


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
        self._link: TemplateLink | None = None
        self._template_crashes = 0
        self._template_after_s = 0.0
        self._served: list[Served] = []
        self._crew: Crew | None = None
        self._keeper: Keeper | None = None
        self._reports: deque[Report] = deque()
        self._serving = False
        self._stopping_since_s: float | None = None
        self._kill_at_s = float("inf")
        self._looking = False
        self._finished_when_drained: int | None = None

    def run(self) -> ExitCode:
        """Serve until told to stop, or until nothing is left to do; return the exit code."""
        while not self._is_over():
            self._keep_template()
            self._wait()
            self._hear_signals()
            self._hear_template()
            self._hear_keeper()
            self._hear_deaths()
            self._keep_crew()
            self._end_burst()
            self._enforce_deadline()
            self._show()
        return self._end()

    def _wait(self) -> None:
        now_s = time.monotonic()
        until_s = min(
            now_s + (BURST_TICK_S if self._settings.burst and self._serving else TICK_S), self._kill_at_s
        )
        if self._serving and self._stopping_since_s is None and self._crew is not None:
            until_s = min(until_s, self._crew.next_s)
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._link is not None:
            poll.register(self._link, select.POLLIN)
        poll.poll(max(0.0, until_s - now_s) * 1000 + 1)
        self._wakeup.drain()

    def _is_over(self) -> bool:
        return self._stopping_since_s is not None and (self._crew is None or not self._crew.size)

    def _hear_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGCHLD:
                continue
            if self._stopping_since_s is None:
                self._stop(number.name)
            elif number == signal.SIGINT and policy.is_forced(self._stopping_since_s, time.monotonic()):
                self._kill_at_s = time.monotonic()
            if number == signal.SIGQUIT:
                self._kill_at_s = time.monotonic()

    def _hear_template(self) -> None:
        link = self._link
        for report in link.reports() if link is not None else ():
            match report:
                case {"refused": str(problem)}:
                    self._fail(ExitCode.USAGE, problem)
                case {"ready": list(described)} if link is not None:
                    link.is_ready = True
                    self._meet(served_from(described))
                case {"forked": int(slot), "pid": int(pid)} if self._crew is not None:
                    self._crew.forked(slot, pid)
                    if self._stopping_since_s is not None:
                        self._crew.terminate()
                case {"fork_failed": int(slot), "error": str(error)} if self._crew is not None:
                    self._crew.fork_failed(slot, error)
                case {"exited": int(pid), "status": int(status)} if self._crew is not None:
                    self._crew.ended(pid, status)

    def _hear_keeper(self) -> None:
        while self._reports:
            match self._reports.popleft():
                case Connected(problem=None):
                    self._begin_serving()
                case Connected(problem=problem):
                    self._fail(ExitCode.REDIS, str(problem))
                case Drained(empty=empty):
                    self._looking = False
                    self._note_drained(empty=empty)

    def _hear_deaths(self) -> None:
        for pid, status in processes.reap():
            if self._link is not None and pid == self._link.pid:
                self._hear_template()  # what it said last
                self._template_ended(self._link, status)
            elif self._crew is not None:
                self._crew.ended(pid, status)

    def _keep_template(self) -> None:
        if (
            self._link is None
            and self._stopping_since_s is None
            and time.monotonic() >= self._template_after_s
        ):
            slots = self._settings.concurrency
            self._link = TemplateLink(self._settings, self._board_file, slots, adopting=self._adopting)

    def _meet(self, served: list[Served]) -> None:
        """Learn from a template that is ready which queues there are."""
        if self._keeper is not None:  # a new template after the old one died
            if [each.queue for each in served] != [each.queue for each in self._served]:
                self._fail(ExitCode.UNCLEAN, "the application's queues have changed: start the worker again")
            return
        if len(served) > MOST_QUEUES:
            self._fail(ExitCode.USAGE, f"one worker serves {MOST_QUEUES} queues at most, not {len(served)}")
            return
        self._served = served
        board = Scoreboard(self._board_file, [each.queue for each in served], self._settings.concurrency)
        self._keeper = Keeper(served, board, self._settings.max_crashes, self._note)
        self._crew = Crew(board, served, self._fork, self._keeper.recover)
        self._keeper.start(self._settings.connect_timeout)

    def _template_ended(self, link: TemplateLink, status: int) -> None:
        link.ended(status)
        self._link = None
        if self._crew is not None:
            self._crew.forget_unforked()
            if not self._adopting:  # they were its children
                self._crew.kill_unwatched("the template died")
        if self._stopping_since_s is not None:
            return
        how = policy.how_it_ended(status)
        if not link.is_ready:
            self._fail(
                ExitCode.USAGE, f"importing {' '.join(self._settings.targets)} ended the interpreter ({how})"
            )
            return
        self._template_crashes += 1
        self._template_after_s = time.monotonic() + policy.respawn_delay_s(self._template_crashes)
        events.emit(logging.ERROR, events.TEMPLATE_EXITED, cause=how)

    def _fork(self, slot: int) -> None:
        if self._link is not None:
            self._link.fork(slot)

    def _note(self, report: Report) -> None:
        self._reports.append(report)
        self._wakeup.wake()

    def _begin_serving(self) -> None:
        if self._stopping_since_s is not None:
            return
        if self._settings.check:
            self._on_check(self._served)
            self._stop("check")
            return
        self._serving = True
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
        if self._crew.problem is not None:
            self._fail(ExitCode.UNCLEAN, self._crew.problem)
        elif self._crew.is_gone:
            self._stop("every child was told to stop")
        elif self._link is not None and self._link.is_ready:
            self._crew.fill()

    def _end_burst(self) -> None:
        may_end = (
            self._settings.burst and self._serving and self._stopping_since_s is None and not self._looking
        )
        if may_end and self._crew is not None and self._keeper is not None and self._crew.all_idle():
            self._looking = True
            self._keeper.look_if_drained()

    def _note_drained(self, *, empty: bool) -> None:
        """Stop once two looks in a row found nothing, and nothing was done in between."""
        crew = self._crew
        finished = crew.finished() if empty and crew is not None and crew.all_idle() else None
        if finished is not None and finished == self._finished_when_drained:
            self._stop("burst: nothing is waiting or in flight here")
        self._finished_when_drained = finished

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
        self.problem = problem
        self._code = code
        self._stop(problem)

    def _enforce_deadline(self) -> None:
        if (
            time.monotonic() >= self._kill_at_s
            and self._crew is not None
            and self._crew.kill("did not stop in time")
        ):
            self._code = max(self._code, ExitCode.UNCLEAN)

    def _end(self) -> ExitCode:
        unsettled = self._keeper.stop(SETTLE_S) if self._keeper is not None else 0
        if unsettled:
            self._code = max(self._code, ExitCode.UNCLEAN)
            reason = f"Redis was not told of {unsettled} ended children: what they held stays in flight"
            events.emit(logging.ERROR, events.REDIS_LOST, reason=reason)
        if self._link is not None:
            self._end_template(self._link)
        if self._serving:
            events.emit(logging.INFO, events.SUPERVISOR_STOPPED, code=int(self._code))
        return self._code

    def _end_template(self, link: TemplateLink) -> None:
        if link.is_ready:
            link.close()
        else:
            link.kill(signal.SIGKILL)  # it is importing the user's code
        end_s = time.monotonic() + TEMPLATE_END_S
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        while link.pid not in {pid for pid, _ in processes.reap()}:
            if time.monotonic() > end_s:
                link.kill(signal.SIGKILL)
            poll.poll(50)
            self._wakeup.drain()
        link.ended(0)

    def _show(self) -> None:
        if self._serving and self._crew is not None:
            title.supervisor(" ".join(self._settings.targets), self._crew.busy(), self._crew.size)
