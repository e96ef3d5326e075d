"""What vanished workers held is run again, by whoever is left or comes next; what the living hold is not."""

import os
import signal
import time
from pathlib import Path

import pytest

from hotqueue import keys
from tests.support.commands import Running
from tests.support.leases import LAPSED_FOR_S, LEASE_S, on_another_machine, short_leases
from tests.support.processes import kill_all
from tests.support.shop import NAME, Shop, ready
from tests.support.waiting import wait_until

HANDLER = """
    @queue.worker
    def handle(message):
        note("began", message, os.environ.get("TEST_MACHINE", "here"))
        wait_for("go")
        note("ended", message, os.environ.get("TEST_MACHINE", "here"))
"""


@pytest.fixture
def short(shop: Shop, tmp_path: Path) -> Shop:
    """A shop where leases are short."""
    shop.env |= short_leases(tmp_path)
    shop.write(HANDLER)
    return shop


def vanish(worker: Running) -> None:
    """All of it at once, as when its machine loses its power."""
    worker.signal_group(signal.SIGKILL)
    kill_all(worker.left)


def freeze(worker: Running, number: int) -> None:
    for pid in worker.left() | {worker.pid}:
        os.kill(pid, number)


def passes(seconds: float) -> None:
    """A time in which something must not happen."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 10)


@pytest.mark.usefixtures("anywhere")
def test_another_machine_takes_over_what_a_vanished_one_held_once_its_lease_has_lapsed(short: Shop) -> None:
    short.queue.enqueue("x", "y")
    with (
        short.open("-c2", env=on_another_machine("a")) as first,
        short.open("-c2", env=on_another_machine("b")) as second,
    ):
        wait_until(lambda: len(short.notes()) == 2, 20)
        passes(2 * (LEASE_S + LAPSED_FOR_S))  # of the living nothing is taken
        assert len(short.notes()) == 2
        held_by_first = [line.split()[1] for line in short.notes() if line.endswith("a")]
        vanish(first)
        short.allow("go")
        for message in held_by_first:
            wait_until(lambda message=message: f"ended {message} b" in short.notes(), 20)

        def released() -> list[str]:
            return [
                line["reason"] for line in second.events("message.released") for _ in range(line["count"])
            ]

        wait_until(lambda: len(released()) == len(held_by_first), what="the release is logged")
        assert set(released()) <= {"its lease has lapsed"}
        wait_until(lambda: short.in_flight() == 0, 20, "what was done is acknowledged")
    assert short.dead() == []


def test_what_a_vanished_worker_held_comes_back_in_order(short: Shop) -> None:
    short.queue.enqueue(*range(5))
    with short.open("-c1", "--prefetch=3", env=on_another_machine("a")) as first:
        short.wait_for_notes("began 0 a")
        vanish(first)
    short.allow("go")
    with short.open("-c1", env=on_another_machine("b")):
        wait_until(lambda: short.notes().count("ended 4 b") == 1, 20)
        wait_until(lambda: short.in_flight() == len(short.queue) == 0)
    began = [int(line.split()[1]) for line in short.notes() if line.startswith("began")][1:]
    assert [number for number in began if number < 3] == [0, 1, 2]
    assert [number for number in began if number >= 3] == [3, 4]  # they waited, and were free at once


@pytest.mark.parametrize("held", [1, 3])
def test_a_new_worker_on_the_same_machine_takes_over_at_once(shop: Shop, held: int) -> None:
    shop.write(HANDLER)
    shop.queue.enqueue(*range(5))
    with shop.open("-c1", f"--prefetch={held}") as first:
        shop.wait_for_notes("began 0 here")
        vanish(first)
    assert shop.in_flight() == held
    shop.allow("go")
    with shop.open("-c1", "-b") as second:
        assert second.wait() == 0
        # The first of them: under load others are released that wait behind one that takes long.
        released = second.events("message.released")[0]
        assert (released["count"], released["reason"]) == (held, "its process is gone")
    assert shop.notes()[1:] == [f"{word} {n} here" for n in range(5) for word in ("began", "ended")]
    assert shop.in_flight() == 0


def test_a_worker_that_runs_already_takes_over_a_neighbour_s_when_the_lease_ends(short: Shop) -> None:
    short.queue.enqueue("x")
    with short.open("-c1") as first:
        short.wait_for_notes("began x here")
        with short.open("-c1") as second:
            ready(second)
            vanish(first)
            short.allow("go")
            wait_until(lambda: "ended x here" in short.notes(), 20)
            (released,) = wait_until(lambda: second.events("message.released"), what="the release is logged")
            assert released["reason"] == "its process is gone"


def test_children_that_outlive_their_supervisor_finish_and_nobody_takes_what_they_run(shop: Shop) -> None:
    shop.write(HANDLER)
    shop.queue.enqueue("x", "y")
    with shop.open("-c1", "-t30") as first:
        shop.wait_for_notes("began x here")
        first.signal(signal.SIGKILL)
        first.wait()
        with shop.open("-c1") as second:
            shop.wait_for_notes("began x here", "began y here")
            assert second.events("message.released") == []
            shop.allow("go")
            shop.wait_for_notes(*[f"{word} {m} here" for m in "xy" for word in ("began", "ended")])
            wait_until(lambda: shop.in_flight() == 0)
            wait_until(lambda: not first.left() - second.left(), 20, "the orphans leave")
    assert shop.server.admin.hget(keys.counters(NAME), "done") == b"2"


def test_who_was_frozen_past_its_lease_does_no_harm_when_it_thaws(short: Shop) -> None:
    """Row 23 of the faults."""
    short.queue.enqueue("x")
    with short.open("-c1", env=on_another_machine("a")) as first:
        short.wait_for_notes("began x a")
        freeze(first, signal.SIGSTOP)
        with short.open("-c1", env=on_another_machine("b")):
            wait_until(lambda: "began x b" in short.notes(), 20)
            freeze(first, signal.SIGCONT)
            short.allow("go")
            wait_until(lambda: {"ended x a", "ended x b"} <= set(short.notes()), 20)
            wait_until(lambda: first.events("claim.lost"), 20, "the late word is noticed")
            wait_until(lambda: short.in_flight() == 0)
            short.queue.enqueue("z")
            wait_until(lambda: any(line.startswith("ended z") for line in short.notes()), 20)
            wait_until(lambda: short.in_flight() == 0, what="and Redis knows")
    assert short.server.admin.hget(keys.counters(NAME), "done") == b"2"
    assert len(short.queue) == 0


def test_a_child_that_is_killed_is_replaced_and_what_it_ran_is_run_again(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message, current().attempt, os.getpid())
            if message == "x" and current().attempt <= 2:
                wait_for("never")
    """)
    shop.queue.enqueue("x", "y")
    with shop.open("-c1"):
        for attempt in (1, 2):
            wait_until(lambda attempt=attempt: len(shop.notes()) == attempt, 20)
            os.kill(int(shop.notes()[-1].split()[2]), signal.SIGKILL)
        wait_until(lambda: len(shop.notes()) == 4, 20)
        wait_until(lambda: shop.in_flight() == 0)
    assert [line.rpartition(" ")[0] for line in shop.notes()] == ["x 1", "x 2", "x 3", "y 1"]
    assert shop.dead() == []


def test_delayed_and_failed_messages_are_run_by_a_worker_when_they_are_due(shop: Shop) -> None:
    shop.write("""
        @queue.worker(backoff=0.2)
        def handle(message):
            note(message, current().attempt)
            if current().attempt == 1 and message == "fails":
                raise ValueError
    """)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        sent = time.time()
        shop.queue.send("delayed", delay=0.4)
        shop.queue.send("fails")
        shop.wait_for_notes("fails 1", "fails 2", "delayed 1")
        (retried,) = wait_until(lambda: worker.events("message.retried"))
        assert retried["again_in_s"] == 0.2
        assert time.time() - sent >= 0.4


MISTAKE = """
from pathlib import Path
from hotqueue.worker.undertaker import Undertaker

def trim(self):
    if Path("mistake").exists():
        raise TypeError("a mistake of ours")
    return 0.05

Undertaker.trim = trim
"""


@pytest.mark.parametrize("ends", ["in time", "too late"])
def test_a_mistake_in_the_keeper_ends_the_worker_in_order_and_what_runs_is_done_or_given_back(
    shop: Shop, tmp_path: Path, ends: str
) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(MISTAKE, encoding="utf-8")
    shop.write(HANDLER)
    shop.queue.enqueue("x")
    with shop.open(
        "-c1", f"-t{20 if ends == 'in time' else 0.1}", env={"PYTHONPATH": str(patches)}
    ) as worker:
        shop.wait_for_notes("began x here")
        shop.allow("mistake")
        wait_until(lambda: worker.events("keeper.failed"), 20)
        wait_until(lambda: worker.events("supervisor.stopping"), 20)
        if ends == "in time":
            shop.allow("go")
        assert worker.wait() == 1
        (failed,) = worker.events("keeper.failed")
        assert "a mistake of ours" in failed["exception"]
        last = worker.stderr_text().splitlines()[-1]
        assert last == "hotqueue-worker: the keeper failed: TypeError: a mistake of ours"
    assert len(shop.queue) == (ends == "too late")
    assert shop.in_flight() == shop.consumers() == 0
