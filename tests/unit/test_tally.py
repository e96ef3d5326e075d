"""What children count: nothing is lost, counted twice, or goes back, whoever ends."""

import os
import time
from typing import Any

import pytest

from hotqueue.delivery import Delivery
from hotqueue.ending import Assignment, Run, Verdict
from hotqueue.envelope import NO_TRAIL
from hotqueue.errors import TimeLimit
from hotqueue.frame import new_id
from hotqueue.histogram import BOUNDS_S, BUCKETS, quantile
from hotqueue.retries import Reject
from hotqueue.trail import Trail
from hotqueue.worker.book import Book
from hotqueue.worker.layout import new_file
from hotqueue.worker.tally import Counted, SlotTally, Tally, make_room

QUEUES = ["a", "b"]
SLOTS = 3


@pytest.fixture(autouse=True)
def _clocks_that_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five milliseconds that this process had to wait for a core would be another bucket."""
    monkeypatch.setattr(time, "monotonic", lambda: 1e6)
    monkeypatch.setattr(time, "time", lambda: 1.7e9)


@pytest.fixture
def tally() -> Tally:
    return new_tally()


def new_tally() -> Tally:
    descriptor = new_file(12_345)  # a scoreboard that ends somewhere in a page
    make_room(descriptor, len(QUEUES), SLOTS)
    try:
        return Tally(descriptor, QUEUES, SLOTS)
    finally:
        os.close(descriptor)


def run(
    queue: str = "a", seconds: float = 0.0, waited_s: float | None = None, trail: Trail = NO_TRAIL, **of: Any
) -> Run:
    """One that began `seconds` ago, of a message that waited so long before."""
    message_id = None
    if waited_s is not None:
        stamp = round((time.time() - seconds - waited_s) * 1000)
        message_id = stamp.to_bytes(6, "big") + new_id()[6:]
    delivery = Delivery(queue, b"", None, message_id=message_id, trail=trail)  # type: ignore[arg-type]
    assignment = Assignment(queue, "handle", print, None, None)  # type: ignore[arg-type]
    return Run(delivery, assignment, time.monotonic() - seconds, **of)


def only(counts: list[int]) -> float:
    """The upper bound of the one bucket that has something."""
    (index,) = (index for index, count in enumerate(counts) if count)
    return (*BOUNDS_S, float("inf"))[index]


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(-1.0, 0.0001), (0.02, 0.025), (7.0, 10.0), (1799.0, 1800.0), (1801.0, float("inf"))],
)
def test_a_run_is_in_the_bucket_of_its_duration(tally: Tally, seconds: float, bound: float) -> None:
    SlotTally(tally, 1, in_full=True).count(run(seconds=seconds), "done")
    counted = tally.counted()["a"]
    assert only(counted.durations) == bound
    assert counted.duration_s == pytest.approx(seconds, abs=0.1)
    assert tally.counted()["b"] == Counted()


def test_each_end_is_counted_by_itself_and_all_that_ran_have_a_duration(tally: Tally) -> None:
    own = SlotTally(tally, 2, in_full=True)
    ends: list[tuple[Verdict, Run]] = [
        ("done", run(seconds=1)),
        ("done", run(seconds=1)),
        ("retried", run(seconds=1, outcome="failed", error=ValueError())),
        ("buried", run(seconds=1, outcome="rejected", error=Reject("no"))),
        ("buried", run(seconds=1, outcome="unreadable", error=ValueError())),
        ("buried", run(seconds=1, outcome="expired", error=ValueError())),
    ]
    for verdict, each in ends:
        own.count(each, verdict)
    counted = tally.counted()["a"]
    assert [counted.ended(verdict) for verdict in ("done", "retried", "buried")] == [2, 1, 3]
    assert sum(counted.durations) == 4
    assert counted.duration_s == pytest.approx(4, abs=0.1)


def test_a_run_that_was_killed_for_its_time_limit_took_that_long(tally: Tally) -> None:
    error = TimeLimit("it ran longer")
    ended = run(trail=Trail().overran(42.0), outcome="failed", error=error)
    SlotTally(tally, 1, in_full=True).count(ended, "retried")
    assert tally.counted()["a"].duration_s == 42


def test_the_wait_is_that_for_the_first_run_and_never_negative(tally: Tally) -> None:
    own = SlotTally(tally, 1, in_full=True)
    own.count(run(seconds=2, waited_s=20), "done")
    own.count(run(seconds=2, waited_s=-1000), "done")  # a producer whose clock is ahead
    own.count(run(seconds=2, waited_s=20, trail=Trail(failures=1)), "done")
    own.count(run(seconds=2), "done")  # a bare body
    counted = tally.counted()["a"]
    assert (counted.waits[0], sum(counted.waits)) == (1, 2)
    assert counted.wait_s == pytest.approx(20, abs=0.1)


def test_without_metrics_only_durations_are_counted(tally: Tally) -> None:
    SlotTally(tally, 1, in_full=False).count(run(seconds=2, waited_s=20), "done")
    counted = tally.counted()["a"]
    assert (only(counted.durations), sum(counted.waits), counted.duration_s) == (2.5, 0, 0)


def test_the_next_child_in_a_slot_counts_on(tally: Tally) -> None:
    for slot in (1, 1, 3):
        SlotTally(tally, slot, in_full=True).count(run(), "done")
    assert tally.counted()["a"].ended("done") == 3
    assert [sum(tally.durations(slot)) for slot in (1, 2, 3)] == [2, 0, 1]


def test_a_record_is_nobody_else_s(tally: Tally) -> None:
    for slot in range(1, SLOTS + 1):
        for index, queue in enumerate(QUEUES):
            for _ in range(10 * slot + index):
                ended = run(queue, seconds=2000, waited_s=2000, outcome="failed")
                SlotTally(tally, slot, in_full=True).count(ended, "buried")
    assert [sum(tally.durations(slot)) for slot in (1, 2, 3)] == [21, 41, 61]
    assert [sum(each.waits) for each in tally.counted().values()] == [60, 63]


def test_what_another_process_counted_before_it_was_killed_is_there(tally: Tally) -> None:
    pid = os.fork()
    if not pid:
        SlotTally(tally, 1, in_full=True).count(run(), "done")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert tally.counted()["a"].ended("done") == 1


def test_the_book_keeps_what_ended_generations_have_counted() -> None:
    book, old, new = Book(), new_tally(), new_tally()

    def add(tally: Tally) -> None:
        SlotTally(tally, 1, in_full=True).count(run(), "done")

    book.begin(old, {"a": "handle", "b": "other"})
    add(old)
    book.begin(new, {"a": "handle", "b": "renamed"})
    add(new)
    assert book.totals()["a", "handle"].ended("done") == 2
    add(old)  # it finishes what it runs
    book.end(old)
    book.end(old)  # once more does no harm
    add(new)
    assert book.totals()["a", "handle"].ended("done") == 4
    assert {handler for _, handler in book.totals()} == {"handle", "other", "renamed"}


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0] * BUCKETS, 0.5, None),
        ([4] + [0] * (BUCKETS - 1), 0.5, 0.00005),
        ([0, 0, 0, 10] + [0] * (BUCKETS - 4), 0.5, 0.00075),
        ([50, 0, 50] + [0] * (BUCKETS - 3), 0.5, 0.0001),
        ([50, 0, 50] + [0] * (BUCKETS - 3), 0.75, 0.000375),
        ([0] * (BUCKETS - 1) + [3], 0.95, 1800.0),
        ([1] * (BUCKETS - 2) + [0, 9], 0.95, 1800.0),
    ],
    ids=["none", "first", "one", "edge", "second", "longer", "mixed"],
)
def test_a_quantile_lies_within_its_bucket(counts: list[int], share: float, expected: float | None) -> None:
    assert quantile(counts, share) == (None if expected is None else pytest.approx(expected))
