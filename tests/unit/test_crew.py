"""The crew's book-keeping, with forks and deaths that are only told."""

import signal
from collections.abc import Iterator

import pytest

from hotqueue.address import Address
from hotqueue.delivery import Delivery
from hotqueue.worker import crew as crew_module
from hotqueue.worker import processes
from hotqueue.worker.burst import Burst
from hotqueue.worker.crew import Crew
from hotqueue.worker.recovery import Left, Served
from hotqueue.worker.scoreboard import Scoreboard, Slot, new_file, size

QUEUES = ["jobs"]


class Bench:
    """A crew of two, whose forks are a list of slots and tickets."""

    def __init__(self) -> None:
        self.board = Scoreboard(new_file(size(1, 2)), QUEUES, 2)
        self.forks: list[tuple[int, int]] = []
        self.left: list[Left] = []
        self.looks: list[int] = []
        served = [Served("jobs", "handle", "?", "at-least-once", Address.from_url("redis://localhost"))]
        self.crew = Crew(
            self.board, served, lambda slot, ticket: self.forks.append((slot, ticket)), self.left.append
        )

    def forked(self, slot: int, pid: int, *, ready: bool = True) -> Slot:
        """Let the child asked for last come up."""
        child = Slot(self.board, slot)
        assert child.take(dict(self.forks)[slot])
        if ready:
            child.idle()
        self.crew.forked(slot, pid)
        return child


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr(crew_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that were sent."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(processes, "kill", lambda pid, number: found.append((pid, number)))
    return found


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.crew.fill()
    return bench


def test_each_vacant_place_is_asked_for_once(bench: Bench) -> None:
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2]


def test_a_crashed_child_s_place_is_asked_for_again_at_its_time(bench: Bench, clock: list[float]) -> None:
    for _ in range(2):
        bench.forked(1, 11)
        bench.crew.ended(11, signal.SIGSEGV)
        bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 1]
    assert bench.crew.next_s == clock[0] + 0.5
    clock[0] += 0.5
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 1, 1]


def test_a_death_that_is_seen_before_its_fork_is_reported_counts(bench: Bench) -> None:
    bench.crew.ended(11, signal.SIGKILL)
    assert bench.crew.size == 2
    bench.forked(1, 11)
    assert bench.crew.size == 1


def test_the_pid_of_a_grandchild_that_was_reaped_may_come_again(bench: Bench) -> None:
    bench.crew.ended(11, 0)
    bench.forked(2, 22)
    bench.crew.fork_failed(1, "Resource temporarily unavailable", stillborn=False)
    bench.crew.ended(11, 0)
    bench.crew._vacant[1] = 0.0
    bench.crew.fill()
    bench.forked(1, 11)
    assert bench.crew.size == 2


def test_a_template_that_died_in_the_middle_of_a_fork_leaves_no_child_unknown(bench: Bench) -> None:
    child = Slot(bench.board, 1)
    assert child.take(bench.forks[0][1])  # forked, but the report is lost; slot 2 was not forked
    bench.crew.forget_unforked()
    assert bench.crew.size == 1
    assert not Slot(bench.board, 2).take(bench.forks[1][1])
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 2]


def test_a_fork_that_is_not_answered_is_stuck(bench: Bench, clock: list[float]) -> None:
    bench.crew._children[1].asked_s = clock[0]
    bench.crew._children[2].asked_s = clock[0]
    assert not bench.crew.is_stuck
    bench.forked(1, 11)
    clock[0] += 31
    assert bench.crew.is_stuck
    bench.forked(2, 22)
    assert not bench.crew.is_stuck


def test_what_a_child_held_is_given_back_with_its_cause(bench: Bench) -> None:
    child = bench.forked(1, 11)
    child.registered("jobs", incarnation=77, client_id=5)
    child.claimed("jobs", 3)
    bench.crew.ended(11, signal.SIGSEGV)
    (left,) = bench.left
    assert (left.child, left.place.incarnation, left.crashed, left.cause) == (1, 77, True, "SIGSEGV")
    assert bench.board.read(1).places[0].incarnation == 0


def test_a_child_that_was_killed_by_us_has_not_crashed(bench: Bench, sent: list[tuple[int, int]]) -> None:
    bench.forked(1, 11).registered("jobs", 77, 5)
    bench.forked(2, 22)
    assert bench.crew.kill("because")
    assert not bench.crew.kill("again")
    bench.crew.ended(11, signal.SIGKILL)
    assert sent == [(11, signal.SIGKILL), (22, signal.SIGKILL)]
    assert not bench.left[0].crashed


def test_a_child_is_told_to_stop_once(bench: Bench, sent: list[tuple[int, int]]) -> None:
    bench.forked(1, 11)
    bench.crew.terminate()
    bench.forked(2, 22)
    bench.crew.terminate()
    assert sent == [(11, signal.SIGTERM), (22, signal.SIGTERM)]


def test_children_that_stop_by_themselves_leave_an_empty_crew(bench: Bench) -> None:
    for slot, pid in ((1, 11), (2, 22)):
        bench.forked(slot, pid).stopping()
        bench.crew.ended(pid, 0)
    assert bench.crew.is_gone
    assert bench.crew.problem is None


def test_stillborn_children_are_a_problem_after_three_rounds(bench: Bench) -> None:
    for _ in range(3):
        for slot in (1, 2):
            assert bench.crew.problem is None
            bench.crew.fork_failed(slot, "exit code 7", stillborn=True)
            bench.crew._vacant[slot] = 0.0
        bench.crew.fill()
    assert bench.crew.problem == "no child became ready, the last one ended with: exit code 7"


def test_a_kernel_that_refuses_forks_is_no_problem(bench: Bench) -> None:
    for _ in range(30):
        bench.crew.fork_failed(1, "Resource temporarily unavailable", stillborn=False)
        bench.crew._vacant[1] = 0.0
        bench.crew.fill()
    assert bench.crew.problem is None


@pytest.fixture
def burst(bench: Bench) -> Burst:
    """A burst that has just sent its two idle children home."""
    burst = Burst(bench.crew, lambda: bench.looks.append(1))
    burst.look()
    assert bench.looks == []
    for slot, pid in ((1, 11), (2, 22)):
        bench.forked(slot, pid)
    for answer in ("not", "empty"):
        assert not burst.is_leaving
        burst.look()
        burst.look()
        assert len(bench.looks) == (1 if answer == "not" else 2)
        assert not burst.is_over(empty=answer == "empty")
    return burst


def go_home(bench: Bench) -> None:
    for slot, pid in ((1, 11), (2, 22)):
        Slot(bench.board, slot).stopping()
        bench.crew.ended(pid, 0)


def test_a_burst_is_over_when_the_children_are_gone_and_nothing_is_left(
    bench: Bench, sent: list[tuple[int, int]], burst: Burst
) -> None:
    assert sent == [(11, signal.SIGTERM), (22, signal.SIGTERM)]
    assert burst.is_leaving
    burst.look()
    assert len(bench.looks) == 2
    go_home(bench)
    burst.look()
    assert len(bench.looks) == 3
    assert burst.is_over(empty=True)


def test_a_burst_that_finds_something_after_all_calls_its_children_back(
    bench: Bench, sent: list[tuple[int, int]], burst: Burst
) -> None:
    go_home(bench)
    burst.look()
    assert not burst.is_over(empty=False)
    assert not burst.is_leaving
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 1, 2]


def test_a_burst_does_not_send_home_children_that_have_begun_something_meanwhile(bench: Bench) -> None:
    burst = Burst(bench.crew, lambda: None)
    bench.forked(1, 11)
    child = bench.forked(2, 22)
    burst.look()
    child.running(Delivery("jobs", b"", lane=None), "handle")  # type: ignore[arg-type]
    assert not burst.is_over(empty=True)
    assert not burst.is_leaving


def test_a_child_that_waits_before_its_fork_was_reported_is_not_idle_yet_as_nobody_could_tell_it_to_go(
    bench: Bench,
) -> None:
    bench.crew.fill()
    bench.forked(1, 11)
    early = Slot(bench.board, 2)
    assert early.take(dict(bench.forks)[2])
    early.idle()
    assert not bench.crew.is_idle
    bench.crew.forked(2, 12)
    assert bench.crew.is_idle
