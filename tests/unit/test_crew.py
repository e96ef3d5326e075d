"""The crew's book-keeping, with forks and deaths that are only told."""

import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hotqueue.address import Address
from hotqueue.delivery import Delivery
from hotqueue.worker import burst as burst_module
from hotqueue.worker import children, processes
from hotqueue.worker import crew as crew_module
from hotqueue.worker.burst import Burst
from hotqueue.worker.children import FORK_S
from hotqueue.worker.crew import Crew
from hotqueue.worker.layout import Layout, new_file
from hotqueue.worker.processes import Ended
from hotqueue.worker.recovery import Left, Served
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.seat import Slot
from hotqueue.worker.settings import Settings
from hotqueue.worker.tally import Tally, make_room

QUEUES = ["jobs"]


class Home:
    """A generation, whose forks are a list of slots and tickets, and which only notes what is left."""

    def __init__(self, children: int, seats: int = 1) -> None:
        slots = Settings(("tasks",), concurrency=children).most_children
        file = new_file(Layout(1, slots, seats).bytes)
        self.board = Scoreboard(file, QUEUES, slots, seats)
        make_room(file, 1, slots)
        self.tally = Tally(file, QUEUES, slots)
        served = Served("jobs", "handle", "?", "at-least-once", Address.from_url("redis://localhost"))
        self.served = {"jobs": served}
        self.shortest_limit_s = float("inf")
        self.forks: list[tuple[int, int]] = []
        self.left: list[Left] = []
        self.template = self.keepers = self
        self.can_fork = True
        self.problem: object = None
        self.is_proven = False

    def fork(self, slot: int, ticket: int, _stack: int) -> None:
        self.forks.append((slot, ticket))

    def recover(self, left: Left) -> None:
        self.left.append(left)


class Bench:
    """A crew, and the generation that serves."""

    def __init__(self, children: int = 2) -> None:
        self.looks: list[int] = []
        self.crew = Crew(Settings(("tasks",), concurrency=children))
        self._children = children
        self.serve(Home(children))

    def serve(self, home: Home) -> None:
        self.home, self.board, self.forks, self.left = home, home.board, home.forks, home.left
        self.crew.serve(home)

    def try_out(self, home: Home) -> None:
        self.crew.try_out(home)

    def coming(self) -> Home:
        return Home(self._children)

    def forked(self, slot: int, pid: int, *, ready: bool = True, home: Home | None = None) -> Slot:
        """Let the child asked for last come up."""
        home = home or self.home
        child = Slot(home.board, slot)
        assert child.take(dict(home.forks)[slot])
        if ready:
            child.ready()
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
        bench.crew.ended(Ended(11, signal.SIGSEGV))
        bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 1]
    assert bench.crew.next_s == clock[0] + 0.5
    clock[0] += 0.5
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 1, 1]


def test_a_death_that_is_seen_before_its_fork_is_reported_counts(bench: Bench) -> None:
    bench.crew.ended(Ended(11, signal.SIGKILL))
    assert len(bench.crew.children) == 2
    bench.forked(1, 11)
    assert len(bench.crew.children) == 1


def test_the_pid_of_a_grandchild_that_was_reaped_may_come_again(bench: Bench) -> None:
    bench.crew.ended(Ended(11, 0))
    bench.forked(2, 22)
    bench.crew.fork_failed(1, "Resource temporarily unavailable", stillborn=False)
    bench.crew.ended(Ended(11, 0))
    bench.crew._vacancies.add([1])
    bench.crew.fill()
    bench.forked(1, 11)
    assert len(bench.crew.children) == 2


def test_a_template_that_died_in_the_middle_of_a_fork_leaves_no_child_unknown(bench: Bench) -> None:
    child = Slot(bench.board, 1)
    assert child.take(bench.forks[0][1])  # forked, but the report is lost; slot 2 was not forked
    bench.crew.forget_unforked(bench.home)
    assert len(bench.crew.children) == 1
    assert not Slot(bench.board, 2).take(bench.forks[1][1])
    bench.crew.fill()
    assert [slot for slot, _ in bench.forks] == [1, 2, 2]


def test_a_fork_that_is_not_answered_is_stuck(bench: Bench, clock: list[float]) -> None:
    bench.crew.children[1].asked_s = clock[0]
    bench.crew.children[2].asked_s = clock[0]
    assert not bench.crew.children.stuck(FORK_S)
    bench.forked(1, 11)
    clock[0] += 31
    assert bench.crew.children.stuck(FORK_S) == {bench.home}
    bench.forked(2, 22)
    assert not bench.crew.children.stuck(FORK_S)


def test_what_a_child_held_is_given_back_with_its_cause(bench: Bench) -> None:
    child = bench.forked(1, 11).seats[0]
    child.registered("jobs", incarnation=77, client_id=5)
    child.claimed("jobs", 3, 1)
    bench.crew.ended(Ended(11, signal.SIGSEGV))
    (left,) = bench.left
    assert (left.child, left.place.incarnation, left.crashed, left.cause) == (1, 77, True, "SIGSEGV")
    assert bench.board.read(1).places[0][0].incarnation == 0


@pytest.mark.parametrize("running", [1, 2])
def test_a_crash_is_counted_only_against_what_ran_alone_in_its_child(running: int) -> None:
    bench = Bench()
    bench.serve(Home(2, seats=3))
    bench.crew.fill()
    child = bench.forked(1, 11)
    bench.board.renewed(0)
    for number, seat in enumerate(child.seats):
        seat.registered("jobs", 70 + number, 5)
        seat.claimed("jobs", 1, 1)
    for seat in child.seats[:running]:
        seat.started(Delivery("jobs", b"", lane=None), time.monotonic_ns())  # type: ignore[arg-type]
    bench.crew.ended(Ended(11, signal.SIGSEGV))
    assert [left.place.incarnation for left in bench.left] == [70, 71, 72]
    assert {(left.crashed, left.suspected) for left in bench.left} == {(running == 1, running == 2)}
    (certificate,) = bench.crew.deaths
    assert certificate.get("running") == (2 if running == 2 else None)


def test_a_child_that_was_killed_by_us_has_not_crashed(bench: Bench, sent: list[tuple[int, int]]) -> None:
    bench.forked(1, 11).seats[0].registered("jobs", 77, 5)
    bench.forked(2, 22)
    assert bench.crew.kill("because")
    assert not bench.crew.kill("again")
    bench.crew.ended(Ended(11, signal.SIGKILL))
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
        bench.crew.ended(Ended(pid, 0))
    assert bench.crew.is_gone
    assert bench.crew.problem is None


def test_stillborn_children_are_a_problem_after_three_rounds(bench: Bench) -> None:
    for _ in range(3):
        for slot in (1, 2):
            assert bench.crew.problem is None
            bench.crew.fork_failed(slot, "exit code 7", stillborn=True)
            bench.crew._vacancies.add([slot])
        bench.crew.fill()
    assert bench.crew.problem == "no child became ready, the last one ended with: exit code 7"


def test_a_kernel_that_refuses_forks_is_no_problem(bench: Bench) -> None:
    for _ in range(30):
        bench.crew.fork_failed(1, "Resource temporarily unavailable", stillborn=False)
        bench.crew._vacancies.add([1])
        bench.crew.fill()
    assert bench.crew.problem is None


@pytest.fixture
def burst(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Burst:
    """A burst that has just sent its two idle children home."""
    monkeypatch.setattr(burst_module, "AGAIN_S", 0.0)
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
        bench.crew.ended(Ended(pid, 0))


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


def test_a_burst_does_not_ask_again_and_again_while_redis_is_away_or_a_queue_is_paused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(burst_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    burst = Burst(bench.crew, lambda: bench.looks.append(1))
    bench.forked(1, 11)
    child = bench.forked(2, 22)
    for moment in range(100):
        now_s = 100 + moment * burst_module.AGAIN_S / 10
        before = len(bench.looks)
        burst.look()
        if len(bench.looks) > before:
            burst.is_over(empty=False)
    number = len(bench.looks)
    assert 8 <= number <= 12
    child.seats[0].started(Delivery("jobs", b"", lane=None), 1)  # type: ignore[arg-type]
    burst.look()
    child.seats[0].idle()
    burst.look()
    assert len(bench.looks) == number + 1


def test_a_burst_does_not_send_home_children_that_have_begun_something_meanwhile(bench: Bench) -> None:
    burst = Burst(bench.crew, lambda: None)
    bench.forked(1, 11)
    child = bench.forked(2, 22)
    burst.look()
    child.seats[0].started(Delivery("jobs", b"", lane=None), 1)  # type: ignore[arg-type]
    assert not burst.is_over(empty=True)
    assert not burst.is_leaving


def test_a_child_that_waits_before_its_fork_was_reported_is_not_idle_yet_as_nobody_could_tell_it_to_go(
    bench: Bench,
) -> None:
    bench.crew.fill()
    bench.forked(1, 11)
    early = Slot(bench.board, 2)
    assert early.take(dict(bench.forks)[2])
    early.ready()
    assert not bench.crew.is_idle
    bench.crew.forked(2, 12)
    assert bench.crew.is_idle


def test_no_more_forks_are_asked_for_than_can_be_answered() -> None:
    bench = Bench(children=40)
    bench.crew.fill()
    bench.crew.fill()
    assert len(bench.forks) == crew_module.MOST_FORKS
    assert bench.crew.next_s == float("inf")
    bench.forked(1, 11)
    bench.crew.fill()
    assert len(bench.forks) == crew_module.MOST_FORKS + 1


@pytest.fixture
def full(bench: Bench, sent: list[tuple[int, int]]) -> Bench:
    """A crew of two that is complete."""
    for slot, pid in ((1, 11), (2, 22)):
        bench.forked(slot, pid)
    return bench


def tried_out(full: Bench, pid: int = 33) -> Home:
    """New code, whose first child is ready."""
    coming = full.coming()
    full.try_out(coming)
    full.forked(3, pid, home=coming)
    full.try_out(coming)
    assert coming.is_proven
    return coming


def busy(bench: Bench, *slots: int) -> None:
    for slot in slots:
        Slot(bench.board, slot).seats[0].started(Delivery("jobs", b"", lane=None), 1)


def test_new_code_is_tried_out_with_one_child_more_and_no_place_is_given_to_another(full: Bench) -> None:
    coming = full.coming()
    full.try_out(coming)
    full.try_out(coming)
    assert [slot for slot, _ in coming.forks] == [3]
    assert not coming.is_proven
    for pid in (11, 12, 13):
        full.crew.ended(Ended(pid, signal.SIGSEGV))
        assert len(full.crew.children) == 2
        full.crew._vacancies.add([1])
        full.crew.fill()
        full.forked(1, pid + 1)
        assert len(full.crew.children) == 3


def test_a_first_child_that_ends_before_it_is_ready_concerns_nobody_but_the_new_code(full: Bench) -> None:
    coming = full.coming()
    full.try_out(coming)
    full.forked(3, 33, ready=False, home=coming)
    full.crew.ended(Ended(33, signal.SIGSEGV))
    assert coming.problem == (1, "its first child ended with: SIGSEGV")
    assert not coming.is_proven
    full.crew.fill()
    assert len(full.crew.children) == 2
    assert len(full.forks) == 2


def test_a_first_child_that_was_ready_has_proven_the_new_code_whatever_comes_then(full: Bench) -> None:
    coming = full.coming()
    full.try_out(coming)
    full.forked(3, 33, home=coming)
    full.crew.ended(Ended(33, signal.SIGSEGV))
    assert coming.problem is None
    assert coming.is_proven


def test_old_children_are_told_one_by_one_as_new_ones_are_ready_those_that_wait_first(
    full: Bench, sent: list[tuple[int, int]]
) -> None:
    busy(full, 1)
    old, coming = full.home, tried_out(full)
    full.serve(coming)
    full.crew.fill()
    full.crew.fill()
    assert sent == [(22, signal.SIGTERM)]
    assert len(full.crew.children) == 3
    Slot(old.board, 2).stopping()
    full.crew.ended(Ended(22, 0))
    full.crew.fill()
    assert [slot for slot, _ in coming.forks] == [3, 2]
    assert sent == [(22, signal.SIGTERM)]
    full.forked(2, 44)
    full.crew.fill()
    assert sent == [(22, signal.SIGTERM), (11, signal.SIGTERM)]
    assert len(old.forks) == 2


def test_an_old_child_that_takes_long_does_not_keep_the_others_from_being_told(
    full: Bench, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(full, 1, 2)
    full.serve(tried_out(full))
    full.crew.fill()
    assert sent == [(11, signal.SIGTERM)]
    monkeypatch.setattr(children, "LINGERS_S", 0.0)
    full.crew.fill()
    assert sent == [(11, signal.SIGTERM), (22, signal.SIGTERM)]
    assert len(full.crew.children) == 3


def test_where_old_children_keep_all_places_one_makes_room_for_new_code_but_not_the_last_one(
    full: Bench, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(full, 1, 2)
    second = tried_out(full)
    full.serve(second)
    full.crew.fill()  # 11 is told, and goes on
    third = full.coming()
    full.try_out(third)
    monkeypatch.setattr(children, "LINGERS_S", 0.0)
    full.try_out(third)
    assert sent == [(11, signal.SIGTERM)]  # 33 is the only one that takes messages
    full.crew.ended(Ended(22, signal.SIGSEGV))
    full.crew.fill()
    full.forked(2, 44)
    assert len(full.crew.children) == 3
    full.try_out(third)
    assert third.forks == []
    assert len(sent) == 2
    assert sent[1][0] in {33, 44}
    full.crew.ended(Ended(sent[1][0], signal.SIGTERM))
    full.try_out(third)
    assert len(third.forks) == 1
    full.crew.fill()
    assert len(full.crew.children) == 3


def test_new_code_that_is_given_up_leaves_with_what_it_runs(full: Bench, sent: list[tuple[int, int]]) -> None:
    coming = tried_out(full)
    full.crew.abandon(coming)
    full.crew.fill()
    assert sent == [(33, signal.SIGTERM)]
    assert full.crew.children.of(coming)
    Slot(coming.board, 3).stopping()
    full.crew.ended(Ended(33, 0))
    assert not full.crew.children.of(coming)
    full.crew.fill()
    assert len(full.crew.children) == 2


def test_a_first_child_that_hangs_in_its_fork_is_killed_when_the_new_code_is_given_up(
    full: Bench, sent: list[tuple[int, int]]
) -> None:
    coming = full.coming()
    full.try_out(coming)
    full.crew.forked(3, 33)
    full.crew.abandon(coming)
    assert sent == [(33, signal.SIGKILL)]
    assert not Slot(coming.board, 3).take(coming.forks[0][1])
