"""The crew: the children of a supervisor, the slots they have, who comes next and who goes."""

import logging
import signal
import time
from collections.abc import Collection, Sequence
from typing import Any

from hotqueue import events
from hotqueue.worker import roll
from hotqueue.worker.book import Book
from hotqueue.worker.children import Child, Children
from hotqueue.worker.coroner import Coroner
from hotqueue.worker.generation import Generation
from hotqueue.worker.inspector import Inspector
from hotqueue.worker.policy import NEVER
from hotqueue.worker.processes import Ended
from hotqueue.worker.reading import Running
from hotqueue.worker.settings import Settings
from hotqueue.worker.stacks import Stacks
from hotqueue.worker.stopping import ExitCode
from hotqueue.worker.vacancies import Vacancies

MOST_FORKS = 16  # asked for at a time: if more fill the socket both ways, both ends block


class Crew:
    """Knows every child. It asks for forks and says what dead children left, and waits for nothing.

    Its children may be of several generations: those of an old one are leaving. A slot is taken by one child
    of them all.
    """

    def __init__(self, settings: Settings) -> None:
        """All slots are vacant, and nobody has come to fill them."""
        self._wanted = settings.concurrency
        self._slots = range(1, settings.most_children + 1)
        self.stacks = Stacks(self._running)
        self._inspector = Inspector(settings)
        self.book = Book()
        self._coroner = Coroner(self.book)
        self._home: Generation | None = None  # of the children to come
        self.is_quiet = False
        self.children = Children()
        self._vacancies = Vacancies()
        self._unknown: dict[int, Ended] = {}  # perhaps a child whose fork is not reported yet

    def more(self) -> None:
        """Want one child more, up to the room there is."""
        self._want(min(self._wanted + 1, len(self._slots) - 1))  # one is for a successor

    def fewer(self) -> None:
        """Want one child fewer, but one at the least."""
        self._want(max(self._wanted - 1, 1))

    def serve(self, home: Generation) -> None:
        """Have all children to come forked by this one; those of others leave as their successors come."""
        self._home = home
        home.board.quiet(quiet=self.is_quiet)
        for child in self.children.values():
            child.is_on_trial = False
            child.is_leaving = child.is_leaving or child.home is not home
        self._vacancies.forgive()

    def try_out(self, home: Generation) -> None:
        """Ask for one child of new code, as soon as there is a place, and see whether it becomes ready.

        Where places are taken by what old children finish, for hours perhaps, one child makes room. The last
        one that takes messages does not.
        """
        trial, free = self.children.of(home), self._free_slots()
        if trial:
            home.is_proven = trial[0].is_ready
        elif self._room and free:
            home.board.quiet(quiet=self.is_quiet)
            self._ask(home, free[0], is_on_trial=True)
        elif len(self.children.staying(self._home)) > 1 and all(
            each.lingers for each in self.children.values() if each.told
        ):
            self._tell_one()

    def abandon(self, home: Generation) -> None:
        """Have no more to do with new code. A child of it that has begun leaves like those of old code."""
        for child in self.children.of(home):
            child.is_on_trial, child.is_leaving = False, True
            has_begun = home.board.withdraw(child.slot)
            if child.pid and not has_begun:  # it hangs in its fork
                child.kill("its code was given up")

    def fill(self) -> None:
        """Come closer to as many children as are wanted: ask for each whose time has come, dismiss surplus.

        One that is leaving is not counted, but never are there more than one over what is wanted.
        """
        staying = self.children.staying(self._home)
        self._let_go(staying)
        for _ in range(len(staying) + len(self._vacancies) - self._wanted):
            self._dismiss_one()
        room = self._wanted - len(self._vacancies) - max(len(staying), len(self.children) - 1)
        self._vacancies.add(self._free_slots()[: max(0, room)])
        if self._home is None or not self._home.template.can_fork:
            return
        for slot in self._vacancies.due[: self._room]:
            self._vacancies.pop(slot)
            self._ask(self._home, slot)

    def _ask(self, home: Generation, slot: int, *, is_on_trial: bool = False) -> None:
        self.children[slot] = Child(slot, time.monotonic(), home, is_on_trial=is_on_trial)
        try:
            home.template.fork(slot, home.board.invite(slot), self.stacks.add(slot))
        except OSError as error:  # no descriptor is left, here or on the way
            self.fork_failed(slot, str(error), stillborn=False)

    def _let_go(self, staying: Sequence[Child]) -> None:
        """Tell those that have waited for a successor, as far as there are enough without them.

        One of old code that goes on for long keeps a place, and must not hold up the rest of its kind.
        """
        waiting = [child for child in self.children.forked() if child.is_leaving and not child.told]
        ready = sum(child.is_ready for child in staying)
        lingering = sum(child.lingers and child.home is not self._home for child in self.children.values())
        waiting.sort(key=lambda child: child.is_busy)
        for child in waiting[: max(0, ready + len(waiting) + lingering - self._wanted)]:
            child.tell()

    def forked(self, slot: int, pid: int) -> None:
        """Note the answer to `fill`."""
        self.children[slot].pid = pid
        events.emit(logging.INFO, events.CHILD_STARTED, child=slot, pid=pid)
        ended = self._unknown.pop(pid, None)
        self._forget_strangers()
        if ended is not None:
            self.ended(ended)

    def fork_failed(self, slot: int, error: str, *, stillborn: bool) -> None:
        """Note the other answer to `fill`, and try again later. `stillborn`: the kernel is not to blame."""
        child = self.children[slot]
        if child.is_on_trial:
            child.home.problem = ExitCode.UNCLEAN, f"its first child could not be forked: {error}"
        self._forget(slot)
        if not (child.is_on_trial or child.is_leaving):
            delay_s = self._vacancies.refused(slot, error, stillborn=stillborn)
            events.emit(logging.ERROR, events.FORK_FAILED, child=slot, reason=error, again_in_s=delay_s)
        self._forget_strangers()

    def forget_unforked(self, home: Generation) -> None:
        """Its template has ended: what it had not answered never will be, but it may have forked."""
        for child in [child for child in self.children.of(home) if not child.pid]:
            pid = home.board.withdraw(child.slot)
            if pid:
                self.forked(child.slot, pid)
            else:
                self._forget(child.slot)
        self._forget_strangers()

    def ended(self, ended: Ended) -> None:
        """Report how a child ended, give back what it held, and vacate its slot."""
        child = self.children.by_pid(ended.pid)
        if child is None:
            self._unknown[ended.pid] = ended
            self._forget_strangers()
            return
        reading = child.home.board.read(child.slot)
        death = child.ended(reading, ended.status)
        cause = self._coroner.cause_of(ended.status)
        self._vacancies.learn(death, cause)
        stack = self.stacks.take(child.slot)
        self._coroner.report(child, ended, death, reading, cause=cause, stack=stack)
        for left in child.remains(reading, cause, stack, crashed=death.is_crash):
            child.home.keepers.recover(left)
        child.home.board.clear(child.slot)
        if child.is_on_trial:
            child.home.is_proven = death.was_ready
            if not death.was_ready:
                child.home.problem = ExitCode.UNCLEAN, f"its first child ended with: {cause}"
        if death.is_clean and not child.told:  # somebody told this child alone to stop
            self._wanted -= 1
        self._forget(child.slot)
        if death.is_clean or child.told or child.is_leaving or child.is_on_trial:
            return
        if child.overran:  # nothing is wrong with the next one
            self._vacancies.add([child.slot])
        else:
            self._vacancies.died(child.slot, death)

    def terminate(self) -> None:
        """Tell every child that has been forked to finish what it runs and leave."""
        for child in self.children.forked():
            child.tell()

    def quiet(self, *, quiet: bool) -> None:
        """Have the children start nothing new, or go on."""
        if quiet == self.is_quiet:
            return
        self.is_quiet = quiet
        for home in {child.home for child in self.children.values()} | {self._home}:
            if home is not None:
                home.board.quiet(quiet=quiet)
        word = events.SUPERVISOR_QUIET if quiet else events.SUPERVISOR_RESUMED
        events.emit(logging.INFO, word, busy=self.census().busy)

    def ask_stacks(self) -> None:
        """Have every child write its stack."""
        self.stacks.ask({child.slot: child.pid for child in self.children.forked()})

    def inspect(self) -> None:
        """Interrupt or kill what has overrun, mark what is worn out, kill what hangs without a message."""
        for child, reason in self._inspector.look(list(self.children.forked())):
            child.kill(reason)

    def kill(self, reason: str) -> list[list[Running]]:
        """Kill every child that is left; return what each of them ran."""
        left = [child for child in self.children.forked() if not child.killed]
        return [child.kill(reason) for child in left]

    def kill_unwatched(self, home: Generation) -> None:
        """Kill children of a template that has died and was their parent: nobody would report their end."""
        for child in self.children.of(home):
            child.kill("the template died")
            self.ended(Ended(child.pid, signal.SIGKILL))

    @property
    def _room(self) -> int:
        """How many may be asked for now."""
        return max(0, min(MOST_FORKS - self.children.forking, self._wanted + 1 - len(self.children)))

    @property
    def is_gone(self) -> bool:
        """Whether there is no child and none to come."""
        return not self.children and self._wanted <= 0

    @property
    def is_idle(self) -> bool:
        """Whether every child waits, and none is missing."""
        return len(self.children) == self._wanted and self.children.are_idle

    @property
    def problem(self) -> str | None:
        """Why no child will ever come up, if that is so."""
        return self._vacancies.problem(self._wanted)

    @property
    def next_s(self) -> float:
        """When the next vacant slot may be filled; infinite if there is none."""
        if not self._room or self._home is None or not self._home.template.can_fork:
            return NEVER
        return self._vacancies.next_s

    def census(self) -> roll.Census:
        """Count the children."""
        return roll.count(self._wanted, self.children.values())

    @property
    def deaths(self) -> Collection[dict[str, Any]]:
        """The last certificates, oldest first."""
        return self._coroner.certificates

    def roll(self) -> list[dict[str, Any]]:
        """Say what each child does."""
        return roll.call(self.children.values(), self._coroner.ends)

    def _free_slots(self) -> list[int]:
        return [slot for slot in self._slots if not (slot in self.children or slot in self._vacancies)]

    def _running(self, slot: int) -> list[Running]:
        return self.children[slot].running

    def _want(self, wanted: int) -> None:
        self._wanted = wanted
        events.emit(logging.INFO, events.SUPERVISOR_RESIZED, concurrency=wanted)

    def _dismiss_one(self) -> None:
        """Give up a vacant slot, or the child that has the least to finish."""
        if self._vacancies:
            self._vacancies.give_up_one()
        else:
            self._tell_one()

    def _tell_one(self) -> None:
        forked = (child for child in self.children.staying(self._home) if child.pid)
        for child in sorted(forked, key=lambda each: each.is_busy)[:1]:
            child.tell()

    def _forget(self, slot: int) -> None:
        del self.children[slot]
        self.stacks.remove(slot)

    def _forget_strangers(self) -> None:
        """While no answer is due, an unknown pid was a grandchild's, and may be anybody's by now."""
        if not self.children.forking:
            self._unknown.clear()
