"""The crew: the children of a supervisor, the slots they have, what their deaths mean and who comes next."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hotqueue import events
from hotqueue.worker import policy, processes, scoreboard
from hotqueue.worker.policy import Death
from hotqueue.worker.recovery import Left, Served
from hotqueue.worker.scoreboard import Reading, Scoreboard

FORK_S = 30.0  # at most; who takes longer hangs
FORK_AGAIN_S = 1.0  # at the least, after the kernel refused one


@dataclass(slots=True)
class Child:
    """One child; without a pid while the template is forking it."""

    slot: int
    asked_s: float
    pid: int = 0
    told: bool = False
    killed: bool = False


class Crew:
    """Knows every child. It asks for forks and says what dead children left, and waits for nothing."""

    def __init__(
        self,
        board: Scoreboard,
        served: Sequence[Served],
        fork: Callable[[int, int], None],
        recover: Callable[[Left], None],
    ) -> None:
        """All slots of `board` are vacant. `fork` takes a slot and its ticket."""
        self._board = board
        self._served = {each.queue: each for each in served}
        self._fork = fork
        self._recover = recover
        self._children: dict[int, Child] = {}
        self._vacant = dict.fromkeys(board.numbers, 0.0)  # slot → when it may be filled
        self._unknown: dict[int, int] = {}  # pid → status; perhaps of a child whose fork is not reported yet
        self._crashes: dict[int, int] = {}  # slot → deaths in a row
        self._boot_deaths = 0
        self._ever_ready = False
        self._last_cause = ""

    def fill(self) -> None:
        """Ask for a child for each vacant slot whose time has come."""
        now_s = time.monotonic()
        for slot in [slot for slot, at_s in self._vacant.items() if now_s >= at_s]:
            del self._vacant[slot]
            self._children[slot] = Child(slot, now_s)
            self._fork(slot, self._board.invite(slot))

    def forked(self, slot: int, pid: int) -> None:
        """Note the answer to `fill`."""
        self._children[slot].pid = pid
        events.emit(logging.INFO, events.CHILD_STARTED, child=slot, pid=pid)
        status = self._unknown.pop(pid, None)
        self._forget_strangers()
        if status is not None:
            self.ended(pid, status)

    def fork_failed(self, slot: int, error: str, *, stillborn: bool) -> None:
        """Note the other answer to `fill`, and try again later. `stillborn`: the kernel is not to blame."""
        self._crashes[slot] = self._crashes.get(slot, 0) + 1
        self._boot_deaths += stillborn
        self._last_cause = error
        delay_s = max(FORK_AGAIN_S, policy.respawn_delay_s(self._crashes[slot]))
        events.emit(logging.ERROR, events.FORK_FAILED, child=slot, reason=error, again_in_s=delay_s)
        self._vacate(slot, time.monotonic() + delay_s)
        self._forget_strangers()

    def forget_unforked(self) -> None:
        """The template has ended: what it had not answered never will be, but it may have forked."""
        for child in [child for child in self._children.values() if not child.pid]:
            pid = self._board.withdraw(child.slot)
            if pid:
                self.forked(child.slot, pid)
            else:
                self._vacate(child.slot, time.monotonic())
        self._forget_strangers()

    def ended(self, pid: int, status: int) -> None:
        """Report how a child ended, give back what it held, and vacate its slot."""
        child = next((child for child in self._children.values() if child.pid == pid), None)
        if child is None:
            self._unknown[pid] = status
            self._forget_strangers()
            return
        reading = self._board.read(child.slot)
        death = _death(child, reading, status)
        self._last_cause = policy.how_it_ended(status)
        self._ever_ready = self._ever_ready or death.was_ready
        self._report(child, death, reading)
        for place in reading.places:
            if place.incarnation:
                self._recover(Left(child.slot, place, death.is_crash, self._last_cause))
        self._board.clear(child.slot)
        if death.is_clean:  # somebody told this child alone to stop, and nobody takes its place
            del self._children[child.slot]
            return
        before = self._crashes.get(child.slot, 0)
        self._crashes[child.slot] = policy.crashes_in_a_row(before, lived_s=death.lived_s, did=death.did)
        self._boot_deaths += not death.was_ready
        self._vacate(child.slot, time.monotonic() + policy.respawn_delay_s(self._crashes[child.slot]))

    def call_back(self) -> None:
        """Vacate the slots of children that were told to stop and did."""
        for slot in self._board.numbers:
            if slot not in self._children:
                self._vacant.setdefault(slot, 0.0)

    def terminate(self) -> None:
        """Tell every child that has been forked to finish what it runs and leave."""
        for child in self._with_pid():
            if not child.told:
                child.told = True
                processes.kill(child.pid, signal.SIGTERM)

    def kill(self, reason: str) -> bool:
        """Kill every child that is left; return whether there was one."""
        left = [child for child in self._with_pid() if not child.killed]
        for child in left:
            child.killed = True
            running = self._board.read(child.slot).running
            events.emit(
                logging.WARNING, events.CHILD_KILLED, child=child.slot, pid=child.pid, reason=reason,
                queue=running.queue if running else None, id=running.id if running else None,
            )  # fmt: skip
            processes.kill(child.pid, signal.SIGKILL)
        return bool(left)

    def kill_unwatched(self, reason: str) -> None:
        """Kill children whose end nobody would report, and count them as ended."""
        self.kill(reason)
        for child in list(self._with_pid()):
            self.ended(child.pid, signal.SIGKILL)

    @property
    def size(self) -> int:
        """How many children there are, or are being forked."""
        return len(self._children)

    @property
    def is_forking(self) -> bool:
        """Whether an answer to `fill` is due."""
        return any(not child.pid for child in self._children.values())

    @property
    def is_stuck(self) -> bool:
        """Whether an answer to `fill` will never come: an answer takes milliseconds."""
        late_s = time.monotonic() - FORK_S
        return any(not child.pid and child.asked_s < late_s for child in self._children.values())

    @property
    def is_gone(self) -> bool:
        """Whether there is no child and none to come."""
        return not self._children and not self._vacant

    @property
    def is_idle(self) -> bool:
        """Whether every child waits, and none is missing, or not known yet and so not to be told anything."""
        waiting = all(
            child.pid and self._board.state(slot) == scoreboard.IDLE for slot, child in self._children.items()
        )
        return bool(self._children) and not self._vacant and waiting

    @property
    def problem(self) -> str | None:
        """Why no child will ever come up, if that is so."""
        if policy.must_give_up(self._boot_deaths, self._board.slots, ever_ready=self._ever_ready):
            return f"no child became ready, the last one ended with: {self._last_cause}"
        return None

    @property
    def next_s(self) -> float:
        """When the next vacant slot may be filled; infinite if there is none."""
        return min(self._vacant.values(), default=float("inf"))

    def busy(self) -> int:
        """Return how many children run a message."""
        return sum(self._board.state(slot) == scoreboard.BUSY for slot in self._children)

    def _with_pid(self) -> Iterator[Child]:
        return (child for child in self._children.values() if child.pid)

    def _vacate(self, slot: int, until_s: float) -> None:
        del self._children[slot]
        self._vacant[slot] = until_s

    def _forget_strangers(self) -> None:
        """While no answer is due, an unknown pid was a grandchild's, and may be anybody's by now."""
        if not self.is_forking:
            self._unknown.clear()

    def _report(self, child: Child, death: Death, reading: Reading) -> None:
        running = reading.running
        served = self._served[running.queue] if running else None
        lost = served is not None and served.delivery == "at-most-once"
        events.emit(
            logging.ERROR if death.is_crash or lost else logging.INFO,
            events.CHILD_EXITED,
            child=child.slot,
            pid=child.pid,
            cause=policy.how_it_ended(death.status),
            lived_s=round(death.lived_s, 1),
            done=death.did,
            queue=running.queue if running else None,
            id=running.id if running else None,
            handler=served.handler if served else None,
            running_ms=round((time.monotonic_ns() - running.since_ns) / 1e6) if running else None,
            lost=1 if lost else None,
        )


def _death(child: Child, reading: Reading, status: int) -> Death:
    return Death(
        status=status,
        was_ready=reading.state in {scoreboard.IDLE, scoreboard.BUSY, scoreboard.STOPPING},
        was_stopping=reading.state == scoreboard.STOPPING,
        was_told=child.told,
        was_killed=child.killed,
        lived_s=time.monotonic() - child.asked_s,
        did=reading.ended,
    )
