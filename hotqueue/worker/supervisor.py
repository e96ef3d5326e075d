"""The supervisor: as many children as asked for, until told to stop. It runs no user code and never waits."""

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import limits, processes, signals
from hotqueue.worker.burst import Burst
from hotqueue.worker.children import FORK_S
from hotqueue.worker.crew import Crew
from hotqueue.worker.generation import Generation
from hotqueue.worker.generations import Generations
from hotqueue.worker.herald import Herald
from hotqueue.worker.policy import NEVER
from hotqueue.worker.processes import Ended
from hotqueue.worker.recovery import Served, served_from
from hotqueue.worker.reports import Broken, Drained, HandedBack, Hopeless
from hotqueue.worker.settings import Settings
from hotqueue.worker.stopping import ExitCode, Stopping
from hotqueue.worker.watcher import Watcher

TICK_S = 1.0
SOON_S = 0.05  # to look again: for a burst that is over, a stack that is written, a child that is ready
_STDERR = 2
_AGAIN = "Ctrl-C again stops at once"


class Supervisor:
    """Keeps the children. `run` is its whole life; each pass hears what happened, then does what follows."""

    def __init__(self, settings: Settings, on_check: Callable[[Sequence[Served]], None]) -> None:
        """`on_check` is called instead of serving, with `--check`, once all is imported and Redis answers."""
        self._settings = settings
        self._on_check = on_check
        self._has_terminal = os.isatty(_STDERR)  # asked now: one that has gone is none
        self._wakeup = Wakeup()
        self._signals = signals.Inbox(self._wakeup)
        self._crew = Crew(settings)
        self.stopping = Stopping(settings.shutdown_timeout)
        self._herald = Herald(settings, self.stopping, self._crew.book)
        self._adopting = processes.adopt_orphans()
        self._generations = Generations(
            settings, self._crew, self._herald.publication, self._wakeup, adopting=self._adopting
        )
        self._watcher = Watcher(self._wakeup.wake) if settings.reload else None
        self._burst: Burst | None = None
        self._show()

    def run(self) -> ExitCode:
        """Serve until told to stop, or until nothing is left to do; return the exit code."""
        not_ours = processes.children()  # a private server, what a shell had started before it became us
        self._begin_threads()
        while not self._is_over():
            self._wait()
            self._hear_signals()
            self._hear_watcher()
            self._hear_templates()
            self._hear_keepers()
            self._hear_deaths()
            self._keep_generations()
            self._keep_crew()
            self._look_if_drained()
            self._enforce_deadline()
            self._show()
        return self._end(not_ours)

    def _begin_threads(self) -> None:
        try:
            self._herald.begin()
            if self._watcher is not None:
                self._watcher.start()
        except RuntimeError as error:
            problem = f"--metrics and --reload need a thread each, and there can be no more: {error}"
            self._fail(ExitCode.UNCLEAN, problem)

    def _wait(self) -> None:
        now_s = time.monotonic()
        soon = self._burst is not None or self._crew.stacks.is_due or self._crew.children.is_growing
        until_s = now_s + min(SOON_S if soon else TICK_S, limits.every_s(self._crew.children.values()))
        until_s = min(until_s, self._herald.systemd.feed_at_s)
        if not self.stopping.is_late:
            until_s = min(until_s, self.stopping.kill_at_s)
        if not self.stopping.is_under_way:
            until_s = min(until_s, self._generations.next_s, self._crew.next_s)
        poll = select.poll()
        for descriptor in (self._wakeup.fileno(), *self._generations.filenos()):
            poll.register(descriptor, select.POLLIN)
        while not poll.poll(max(0.0, min(until_s, self._look_at_claims()) - now_s) * 1000 + 1):
            now_s = time.monotonic()
            if now_s >= until_s:
                break

    def _look_at_claims(self) -> float:
        """Return when to look again."""
        at_once = self.stopping.is_under_way or self._crew.is_quiet
        looks = (
            each.overstays.look(self._crew.children.slots(each), at_once=at_once)
            for each in self._generations.all
            if each.overstays is not None
        )
        return min(looks, default=NEVER)

    def _is_over(self) -> bool:
        return self.stopping.is_under_way and (not self._crew.children or self.stopping.is_hopeless)

    def _hear_signals(self) -> None:
        for number in self._signals.take():
            if number in signals.STOPS or (number == signal.SIGHUP and self._has_terminal):
                if number == signal.SIGQUIT:
                    self.stopping.at_once("SIGQUIT")
                if not self.stopping.is_under_way:
                    self._stop(number.name)
                elif number == signal.SIGINT:
                    self.stopping.insist()
            elif number == signal.SIGUSR1:
                self._crew.ask_stacks()
            elif not self.stopping.is_under_way:
                self._obey(number)

    def _obey(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGHUP:
                self._generations.begin("SIGHUP")
            case signal.SIGTTIN:
                self._crew.more()
            case signal.SIGTTOU:
                self._crew.fewer()
            case signal.SIGTSTP | signal.SIGCONT:
                self._crew.quiet(quiet=number == signal.SIGTSTP)

    def _hear_watcher(self) -> None:
        changed = self._watcher.take() if self._watcher is not None else []
        if changed and not self.stopping.is_under_way:
            self._generations.begin(f"changed: {', '.join(changed)}")

    def _hear_templates(self) -> None:
        for generation in self._generations.all:
            self._hear_template(generation)

    def _hear_template(self, generation: Generation) -> None:
        for report in generation.template.reports():
            match report:
                case {"refused": str(cause)}:
                    generation.problem = ExitCode.USAGE, cause
                case {"ready": list(described)}:
                    generation.meet(served_from(described))
                case {"forked": int(slot), "pid": int(pid)}:
                    self._crew.forked(slot, pid)
                case {"fork_failed": int(slot), "error": str(error)}:
                    self._crew.fork_failed(slot, error, stillborn=report["stillborn"])
                case {"exited": dict(ended)}:
                    self._crew.ended(Ended.load(ended))

    def _hear_keepers(self) -> None:
        for generation in self._generations.all:
            for report in generation.keepers.reports():
                match report:
                    case Hopeless(problem=problem) if generation is self._generations.coming:
                        generation.problem = ExitCode.REDIS, problem
                    case Hopeless(problem=problem) if generation in self._generations.in_use:
                        self._fail(ExitCode.REDIS, problem)
                    case Broken(problem=problem):
                        self._fail(ExitCode.UNCLEAN, problem)
                    case HandedBack(count=count, ids=ids):
                        self.stopping.handed_back(count, ids)
                    case Drained(empty=empty) if generation is self._generations.serving:
                        if self._burst is not None and self._burst.is_over(empty=empty):
                            self._stop("burst: nothing is waiting or in flight here")

    def _hear_deaths(self) -> None:
        for ended in processes.reap():
            generation = self._generations.of_template(ended.pid)
            if generation is None:
                self._crew.ended(ended)
            else:
                self._hear_template(generation)  # what it said last
                self._generations.ended(generation, ended.status)

    def _keep_generations(self) -> None:
        if self.stopping.is_under_way:
            return
        self._generations.keep()
        if self._generations.problem is not None:
            self._fail(*self._generations.problem)
        coming = self._generations.coming
        if coming is None or not coming.keepers.are_connected or self._is_going_home:
            return
        if self._generations.serving is None:
            self._begin_serving(coming)
        else:
            self._crew.try_out(coming)
            if coming.is_proven:
                self._take_over(coming, events.SUPERVISOR_RELOADED)

    def _begin_serving(self, first: Generation) -> None:
        if self._settings.check:
            self._on_check(list(first.served.values()))
            self._stop("check")
            return
        told = {"concurrency": self._settings.concurrency, "why": self._settings.concurrency_why}
        self._take_over(first, events.SUPERVISOR_STARTED, **told)

    def _take_over(self, coming: Generation, event: str, **known: Any) -> None:
        self._generations.take_over(coming)
        if self._settings.burst:
            self._burst = Burst(self._crew, coming.keepers.look_if_drained)
        served = coming.served.values()
        redis = ",".join(sorted({str(each.address) for each in served}))
        events.emit(logging.INFO, event, queues=",".join(coming.served), **known, redis=redis)

    def _keep_crew(self) -> None:
        self._crew.stacks.tell()
        self._crew.inspect()
        if self.stopping.is_under_way:
            self._crew.terminate()  # who has become known only now
        if self._generations.serving is None or self.stopping.is_under_way or self._is_going_home:
            return
        if self._crew.problem is not None:
            self._fail(ExitCode.UNCLEAN, self._crew.problem)
        elif self._crew.is_gone:
            self._stop("every child was told to stop")
        else:
            self._crew.fill()

    @property
    def _is_going_home(self) -> bool:
        """Whether a burst has sent the children home: nobody takes their places."""
        return self._burst is not None and self._burst.is_leaving

    def _look_if_drained(self) -> None:
        if self._burst is not None and not self.stopping.is_under_way and len(self._generations.in_use) == 1:
            self._burst.look()

    def _stop(self, reason: str) -> None:
        if self.stopping.is_under_way:
            return
        self.stopping.begin()
        if self._generations.serving is not None:
            busy = self._crew.census().busy
            hint = _AGAIN if busy and reason == signal.SIGINT.name and self._is_watched else None
            self.stopping.announce(reason, busy, self._crew.children.oldest_s, hint)
        self._generations.give_up()
        self._crew.terminate()

    @property
    def _is_watched(self) -> bool:
        """Whether the log is for people, who see it as it comes."""
        return self._has_terminal and self._settings.log_format != "json"

    def _fail(self, code: ExitCode, problem: str) -> None:
        if not self.stopping.is_under_way:
            self.stopping.blame(code, problem)
            self._stop(problem)

    def _enforce_deadline(self) -> None:
        late = self.stopping.is_late
        if late and (ran := self._crew.kill(self.stopping.kill_reason)):
            self.stopping.blame(ExitCode.UNCLEAN)
            self.stopping.killed(ran)
        for generation in self._crew.children.stuck(0.0 if late else FORK_S):
            generation.template.kill()  # another one is started, unless this is the end

    def _end(self, not_ours: Collection[int]) -> ExitCode:
        unsettled, in_time = self._generations.end(time.monotonic() + self.stopping.settle_s)
        if not in_time:
            self.stopping.blame(ExitCode.UNCLEAN)
        if unsettled:
            self.stopping.blame(ExitCode.UNCLEAN)
            reason = f"Redis was not told of {unsettled} ended children: what they held stays in flight"
            events.emit(logging.ERROR, events.REDIS_LOST, reason=reason)
        if self._watcher is not None:
            self._watcher.stop()
        for pid in processes.end_children(not_ours) if self._adopting else ():
            events.emit(logging.WARNING, events.ORPHAN_ENDED, pid=pid)
        self._herald.end()
        self._hear_keepers()  # what they gave back last
        if self._generations.serving is not None:
            self.stopping.report()
        return self.stopping.code

    def _show(self) -> None:
        if self._settings.check:  # perhaps beside a worker of the same name
            return
        generations = self._generations
        keepers = generations.serving.keepers if generations.serving is not None else None
        self._herald.show(
            self._crew, keepers, is_reloading=generations.coming is not None, refused=generations.refused
        )
