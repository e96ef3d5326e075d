"""The generations of a supervisor: one that serves, perhaps one that is coming, and those that leave."""

import logging
import select
import time
from collections.abc import Iterator

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import policy, processes
from hotqueue.worker.crew import Crew
from hotqueue.worker.generation import Generation
from hotqueue.worker.policy import NEVER
from hotqueue.worker.publication import Publication
from hotqueue.worker.settings import Settings
from hotqueue.worker.stopping import ExitCode
from hotqueue.worker.template_link import END_S

POLL_S = 0.05
IMPORT_S = 120.0  # at the least, for an import at a reload, and so many times as long as the one before
IMPORT_TIMES = 10


class Generations:
    """Starts generations. Without a living template the next one is due: children go on until it has come."""

    def __init__(
        self, settings: Settings, crew: Crew, publication: Publication, wakeup: Wakeup, *, adopting: bool
    ) -> None:
        """`wakeup` wakes at each SIGCHLD."""
        self._settings = settings
        self._publication = publication
        self._crew = crew
        self._wakeup = wakeup
        self._adopting = adopting
        self.serving: Generation | None = None
        self.coming: Generation | None = None
        self._leaving: list[Generation] = []
        self._deaths = 0  # in a row: of templates that served, and of those that were to replace them
        self._after_s = 0.0
        self.problem: tuple[ExitCode, str] | None = None  # why there is none, and never was
        self.refused: str | None = None  # that the last reload failed, and why

    @property
    def all(self) -> list[Generation]:
        """Every one that may still have something to say."""
        return [each for each in (self.coming, self.serving, *self._leaving) if each is not None]

    @property
    def in_use(self) -> list[Generation]:
        """Those that serve, or have children, or something of theirs to give back."""
        return [
            each
            for each in self.all
            if each is self.serving or self._crew.children.of(each) or not each.keepers.are_settled
        ]

    @property
    def next_s(self) -> float:
        """When the next one is to be started without being asked for; infinite while none is needed."""
        if self.coming is not None or self.problem is not None:
            return NEVER
        return self._after_s if self.serving is None or self.serving.template.has_ended else NEVER

    def filenos(self) -> Iterator[int]:
        """Yield the descriptors to poll for what templates report."""
        return (each.template.fileno() for each in self.all if not each.template.is_closed)

    def of_template(self, pid: int) -> Generation | None:
        """Return whose template this is."""
        return next((each for each in self.all if each.template.pid == pid), None)

    def begin(self, reason: str) -> None:
        """Start one with the code as it is now, in the place of one that was on its way."""
        if self.all:
            events.emit(logging.INFO, events.SUPERVISOR_RELOADING, reason=reason)
        self.give_up()
        try:
            self.coming = Generation(
                self._settings, self._publication, self._crew.book, self._wakeup.wake, adopting=self._adopting
            )
        except OSError as error:
            self._fail(ExitCode.UNCLEAN, f"no interpreter could be started: {error}")

    def keep(self) -> None:
        """Do what follows from what was heard, and start one if it is time."""
        if self.coming is not None:
            problem = self.coming.problem or self._late(self.coming)
            if problem is not None:
                self._fail(*problem)
        if time.monotonic() >= self.next_s:
            self.begin("the template has ended")
        for each in list(self._leaving):
            if not self._crew.children.of(each) and each.keepers.are_settled and each.retire():
                self._leaving.remove(each)

    def take_over(self, coming: Generation) -> None:
        """Have it serve from now on."""
        if self.serving is not None:
            self._leaving.append(self.serving)
        self.serving, self.coming, self.refused = coming, None, None
        self._crew.serve(coming)

    def give_up(self) -> None:
        """Have no more to do with the one that is coming, if there is one."""
        if self.coming is not None:
            self._crew.abandon(self.coming)
            self._leaving.append(self.coming)
            self.coming = None

    def ended(self, generation: Generation, status: int) -> None:
        """Note that a template was reaped, and what it had to say was heard."""
        template = generation.template
        was_told = template.is_closed
        template.ended(status)
        if was_told:
            return
        self._crew.forget_unforked(generation)
        if not self._adopting:  # they were its children
            self._crew.kill_unwatched(generation)
        how = policy.how_it_ended(status)
        if generation is not self.coming:
            events.emit(logging.ERROR, events.TEMPLATE_EXITED, cause=how)
            if generation is self.serving:
                self._back_off(template.lived_s)
        elif template.is_ready:
            generation.problem = ExitCode.UNCLEAN, f"its template ended: {how}"
        elif generation.problem is None:
            targets = " ".join(self._settings.targets)
            problem = f"importing {targets} {policy.how_an_import_ended(status)}"
            generation.problem = ExitCode.USAGE, problem

    def end(self, by_s: float) -> int:
        """Have all end; return of how many dead children something was not given back by then."""
        living = self.all
        self._publication.close()
        for each in living:
            each.keepers.stop(by_s)
        unsettled = sum(each.keepers.wait() for each in living)
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        hopeless_s = time.monotonic() + 2 * END_S
        while time.monotonic() < hopeless_s:
            for ended in processes.reap():
                if generation := self.of_template(ended.pid):
                    generation.template.ended(ended.status)
            living = [each for each in living if not each.template.has_ended]
            if not living:
                break
            for each in living:
                each.template.close()
            poll.poll(POLL_S * 1000)
            self._wakeup.drain()
        return unsettled

    def _late(self, coming: Generation) -> tuple[ExitCode, str] | None:
        """Return why to give up a reload whose import seems to hang. At a start it may take its time."""
        if self.serving is None or coming.template.is_ready:
            return None
        limit_s = max(IMPORT_S, IMPORT_TIMES * (self.serving.template.import_s or 0.0))
        if coming.template.lived_s <= limit_s:
            return None
        targets = " ".join(self._settings.targets)
        return ExitCode.USAGE, f"importing {targets} was not done after {limit_s:.0f} s"

    def _fail(self, code: ExitCode, problem: str) -> None:
        """Go on with the one that serves, if there is one."""
        self.give_up()
        if self.serving is None:
            self.problem = code, problem
            return
        self.refused = f"the last reload failed: {problem}"
        again_in_s = self._back_off(0.0) if self.serving.template.has_ended else None
        events.emit(logging.ERROR, events.SUPERVISOR_RELOAD_FAILED, reason=problem, again_in_s=again_in_s)

    def _back_off(self, lived_s: float) -> float:
        self._deaths = policy.crashes_in_a_row(self._deaths, lived_s=lived_s)
        delay_s = policy.respawn_delay_s(self._deaths)
        self._after_s = time.monotonic() + delay_s
        return delay_s
