"""The supervisor: as many children as were asked for, until told to stop. It runs no user code and waits for nobody."""

import logging
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import policy, processes, scoreboard, signals, title
from hotqueue.worker.keeper import Connected, Drained, Keeper, Left, Report, Served, served_from
from hotqueue.worker.policy import Death
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
    PID_FILE = 4


@dataclass(slots=True)
class Child:
    """One child as the supervisor sees it; without a pid while the template is forking it."""

    slot: int
    asked_s: float
    pid: int = 0
    killed: bool = False


class Supervisor:
    """Keeps the children. `run` is its whole life."""

    def __init__(self, settings: Settings, on_check: Callable[[Sequence[Served]], None]) -> None:
        """`on_check` is called instead of serving, with `--check`, once all is imported and Redis answers."""
        self.problem: str | None = None
        self._settings = settings
        self._on_check = on_check
        self._code = ExitCode.CLEAN
        self._wakeup = Wakeup()
        self._signals = signals.Inbox(self._wakeup)
        self._adopting = processes.adopt_orphans()
        slots = settings.concurrency
        self._board_file = scoreboard.new_file(scoreboard.size(MOST_QUEUES, slots))
        self._link: TemplateLink | None = None
        self._served: list[Served] = []
        self._board: Scoreboard | None = None
        self._keeper: Keeper | None = None
        self._reports: deque[Report] = deque()
        self._serving = False
        self._children: dict[int, Child] = {}
        self._unknown: dict[int, int] = {}  # reaped before their fork was reported, or somebody's grandchildren
        self._vacant: dict[int, float] = dict.fromkeys(range(1, slots + 1), 0.0)  # slot → when it may be filled
        self._crashes: dict[int, int] = {}
        self._boot_deaths = 0
        self._ever_ready = False
        self._template_after_s = 0.0
        self._template_crashes = 0
        self._stopping_since_s: float | None = None
        self._kill_at_s: float | None = None
        self._drained_at: int | None = None
        self._looking = False

    def run(self) -> ExitCode:
        """Serve until told to stop, or until nothing is left to do; return the exit code."""
        while not self._is_over():
            self._keep_template()
            self._wait()
            self._hear_signals()
            self._hear_template()
            self._hear_keeper()
            self._bury_the_dead()
            self._fill_vacant_slots()
            self._end_burst()
            self._enforce_deadline()
            self._show()
        return self._end()

    # -- waiting

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._link is not None:
            poll.register(self._link, select.POLLIN)
        poll.poll(max(0.0, self._next_s() - time.monotonic()) * 1000 + 1)
        self._wakeup.drain()

    def _next_s(self) -> float:
        """Return when there is something to do even if nothing happens."""
        now_s = time.monotonic()
        busy_ending = self._settings.burst and self._serving
        times = [now_s + (BURST_TICK_S if busy_ending else TICK_S)]
        if self._kill_at_s is not None:
            times.append(self._kill_at_s)
        if self._serving and self._stopping_since_s is None:
            times.extend(self._vacant.values())
        return min(at for at in times if at)

    def _is_over(self) -> bool:
        return self._stopping_since_s is not None and not self._children

    # -- the template

    def _keep_template(self) -> None:
        if self._link is None and self._stopping_since_s is None and time.monotonic() >= self._template_after_s:
            slots = self._settings.concurrency
            self._link = TemplateLink(self._settings, self._board_file, slots, adopting=self._adopting)

    def _hear_template(self) -> None:
        if self._link is None:
            return
        for report in self._link.reports():
            match report:
                case {"refused": str(problem)}:
                    self._fail(ExitCode.USAGE, problem)
                case {"ready": list(described)}:
                    self._template_is_ready(described)
                case {"forked": int(slot), "pid": int(pid)}:
                    self._forked(slot, pid)
                case {"fork_failed": int(slot), "error": str(error)}:
                    self._fork_failed(slot, error)
                case {"exited": int(pid), "status": int(status)}:
                    self._ended(pid, status)

    def _template_is_ready(self, described: list[dict[str, Any]]) -> None:
        assert self._link is not None
        self._link.is_ready = True
        served = served_from(described)
        if self._keeper is not None:
            if [each.queue for each in served] != [each.queue for each in self._served]:
                self._fail(ExitCode.UNCLEAN, "the application's queues have changed: start the worker again")
            return
        if len(served) > MOST_QUEUES:
            self._fail(ExitCode.USAGE, f"{len(served)} queues are more than one worker serves: at most {MOST_QUEUES}")
            return
        self._served = served
        self._board = Scoreboard(self._board_file, [each.queue for each in served], self._settings.concurrency)
        self._keeper = Keeper(served, self._board, self._settings.max_crashes, self._note)
        self._keeper.start(self._settings.connect_timeout)

    def _template_ended(self, status: int) -> None:
        assert self._link is not None
        self._link.ended(status)
        was_ready, self._link = self._link.is_ready, None
        if self._stopping_since_s is not None:
            self._children = {slot: child for slot, child in self._children.items() if child.pid}
            return
        how = _how_it_ended(status)
        if not was_ready:
            what = " ".join(self._settings.targets)
            self._fail(ExitCode.USAGE, f"importing {what} ended the interpreter ({how})")
            return
        self._template_crashes += 1
        self._template_after_s = time.monotonic() + policy.respawn_delay_s(self._template_crashes)
        events.emit(logging.ERROR, events.TEMPLATE_EXITED, cause=how)
        for child in list(self._children.values()):
            if not child.pid:
                self._vacate(child, self._template_after_s)
            elif not self._adopting:  # they were its children: nobody would tell us of their end
                child.killed = True
                processes.kill(child.pid, signal.SIGKILL)
                self._ended(child.pid, signal.SIGKILL)

    # -- the keeper

    def _note(self, report: Report) -> None:
        self._reports.append(report)
        self._wakeup.wake()

    def _hear_keeper(self) -> None:
        while self._reports:
            match self._reports.popleft():
                case Connected(problem=None):
                    self._begin_serving()
                case Connected(problem=str(problem)):
                    self._fail(ExitCode.REDIS, problem)
                case Drained(empty=empty):
                    self._looking = False
                    self._note_drained(empty=empty)

    def _begin_serving(self) -> None:
        if self._settings.check:
            self._on_check(self._served)
            self._stop("check")
        elif self._stopping_since_s is None:
            self._serving = True
            events.emit(
                logging.INFO, events.SUPERVISOR_STARTED,
                queues=",".join(each.queue for each in self._served),
                concurrency=self._settings.concurrency, why=self._settings.concurrency_why,
                redis=",".join(sorted({str(each.address) for each in self._served})),
            )  # fmt: skip

    # -- children

    def _fill_vacant_slots(self) -> None:
        if not self._serving or self._stopping_since_s is not None or self._link is None or not self._link.is_ready:
            return
        now_s = time.monotonic()
        for slot, at_s in list(self._vacant.items()):
            if now_s >= at_s:
                del self._vacant[slot]
                self._children[slot] = Child(slot, now_s)
                self._link.fork(slot)

    def _forked(self, slot: int, pid: int) -> None:
        self._children[slot].pid = pid
        events.emit(logging.INFO, events.CHILD_STARTED, child=slot, pid=pid)
        if self._stopping_since_s is not None:
            processes.kill(pid, signal.SIGTERM)
        if pid in self._unknown:
            self._ended(pid, self._unknown.pop(pid))

    def _fork_failed(self, slot: int, error: str) -> None:
        child = self._children[slot]
        self._crashes[slot] = self._crashes.get(slot, 0) + 1
        delay_s = max(1.0, policy.respawn_delay_s(self._crashes[slot]))
        events.emit(logging.ERROR, events.FORK_FAILED, child=slot, reason=error, again_in_s=delay_s)
        self._vacate(child, time.monotonic() + delay_s)

    def _bury_the_dead(self) -> None:
        for pid, status in processes.reap():
            if self._link is not None and pid == self._link.pid:
                self._hear_template()
                self._template_ended(status)
            else:
                self._ended(pid, status)

    def _ended(self, pid: int, status: int) -> None:
        child = next((child for child in self._children.values() if child.pid == pid), None)
        if child is None:
            self._unknown[pid] = status
            return
        assert self._board is not None
        assert self._keeper is not None
        reading = self._board.read(child.slot)
        now_s = time.monotonic()
        death = Death(
            slot=child.slot,
            pid=pid,
            status=status,
            was_ready=reading.state in {scoreboard.IDLE, scoreboard.BUSY, scoreboard.STOPPING},
            was_busy=reading.running is not None,
            was_stopping=reading.state == scoreboard.STOPPING,
            killed_by_us=child.killed,
            lived_s=now_s - child.asked_s,
            did=reading.done,
        )
        self._ever_ready = self._ever_ready or death.was_ready
        cause = _how_it_ended(status)
        self._report_death(death, reading, cause)
        places = tuple(place for place in reading.places if place.incarnation)
        if places:
            self._keeper.recover(Left(child.slot, pid, places, death.is_crash, cause))
        self._board.clear(child.slot)
        self._replace(child, death, cause)

    def _report_death(self, death: Death, reading: scoreboard.Reading, cause: str) -> None:
        running = reading.running
        served = next((each for each in self._served if running and each.queue == running.queue), None)
        lost = death.is_crash and served is not None and served.delivery == "at-most-once"
        events.emit(
            logging.ERROR if death.is_crash else logging.INFO,
            events.CHILD_EXITED,
            child=death.slot, pid=death.pid, cause=cause, lived_s=round(death.lived_s, 1), done=death.did,
            queue=running.queue if running else None,
            id=running.id if running else None,
            handler=served.handler if served else None,
            running_ms=round((time.monotonic_ns() - running.since_ns) / 1e6) if running else None,
            lost=1 if lost else None,
        )  # fmt: skip

    def _replace(self, child: Child, death: Death, cause: str) -> None:
        if self._stopping_since_s is not None:
            del self._children[child.slot]
        elif death.is_clean:  # somebody told this child alone to stop; it is not replaced
            del self._children[child.slot]
            if not self._children and not self._vacant:
                self._stop("every child was told to stop")
        else:
            crashes = policy.crashes_in_a_row(self._crashes.get(child.slot, 0), death)
            self._crashes[child.slot] = crashes
            self._boot_deaths += not death.was_ready
            self._vacate(child, time.monotonic() + policy.respawn_delay_s(crashes))
            if policy.must_give_up(self._boot_deaths, self._ever_ready, self._settings.concurrency):
                self._fail(ExitCode.UNCLEAN, f"no child became ready, the last one died with {cause}")

    def _vacate(self, child: Child, until_s: float) -> None:
        del self._children[child.slot]
        self._vacant[child.slot] = until_s

    # -- stopping

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

    def _stop(self, reason: str) -> None:
        if self._stopping_since_s is not None:
            return
        self._stopping_since_s = time.monotonic()
        self._kill_at_s = self._stopping_since_s + self._settings.shutdown_timeout
        if self._serving:
            events.emit(logging.INFO, events.SUPERVISOR_STOPPING, reason=reason, busy=self._busy())
        for child in self._children.values():
            if child.pid:
                processes.kill(child.pid, signal.SIGTERM)

    def _fail(self, code: ExitCode, problem: str) -> None:
        self.problem = problem
        self._code = code
        self._stop(problem)

    def _enforce_deadline(self) -> None:
        if self._kill_at_s is None or time.monotonic() < self._kill_at_s:
            return
        for child in self._children.values():
            if child.pid and not child.killed:
                child.killed = True
                self._code = max(self._code, ExitCode.UNCLEAN)
                running = self._board.read(child.slot).running if self._board else None
                events.emit(
                    logging.WARNING, events.CHILD_KILLED, child=child.slot, pid=child.pid,
                    reason="did not stop in time",
                    queue=running.queue if running else None, id=running.id if running else None,
                )  # fmt: skip
                processes.kill(child.pid, signal.SIGKILL)

    def _end(self) -> ExitCode:
        if self._keeper is not None:
            unsettled = self._keeper.stop(SETTLE_S)
            if unsettled:
                self._code = max(self._code, ExitCode.UNCLEAN)
                events.emit(
                    logging.ERROR, events.REDIS_LOST,
                    reason=f"Redis could not be told of {unsettled} ended children; their messages wait for recovery",
                )  # fmt: skip
        if self._link is not None:
            self._end_template(self._link)
        if self._serving:
            events.emit(logging.INFO, events.SUPERVISOR_STOPPED, code=int(self._code))
        return self._code

    def _end_template(self, link: TemplateLink) -> None:
        if link.is_ready:
            link.close()
        else:
            link.kill(signal.SIGKILL)  # the user's code is being imported
        end = time.monotonic() + TEMPLATE_END_S
        while link.pid not in {pid for pid, _ in processes.reap()}:
            if time.monotonic() > end:
                link.kill(signal.SIGKILL)
            self._wakeup.drain()
            poll = select.poll()
            poll.register(self._wakeup, select.POLLIN)
            poll.poll(50)
        link.ended(0)

    # -- burst, and what people see

    def _busy(self) -> int:
        assert self._board is not None
        return sum(self._board.state(child.slot) == scoreboard.BUSY for child in self._children.values())

    def _all_idle(self) -> bool:
        board = self._board
        return bool(self._children) and board is not None and all(
            child.pid and board.state(child.slot) == scoreboard.IDLE for child in self._children.values()
        )

    def _end_burst(self) -> None:
        if not self._settings.burst or not self._serving or self._stopping_since_s is not None or self._looking:
            return
        if self._all_idle() and not self._vacant and self._keeper is not None:
            self._looking = True
            self._keeper.look_if_drained()

    def _note_drained(self, *, empty: bool) -> None:
        """Stop once two looks in a row found nothing, and nothing was done in between."""
        assert self._board is not None
        finished = self._board.finished()
        if empty and self._all_idle() and self._drained_at == finished:
            self._stop("burst: nothing is waiting or in flight here")
        self._drained_at = finished if empty and self._all_idle() else None

    def _show(self) -> None:
        if self._serving:
            title.supervisor(" ".join(self._settings.targets), self._busy(), len(self._children))


def _how_it_ended(status: int) -> str:
    death = Death(0, 0, status, False, False, False, False, 0.0, 0)  # noqa: FBT003 - only its status matters
    return signal.Signals(death.signal).name if death.signal else f"exit code {death.code}"
