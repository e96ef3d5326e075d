"""Recycling: worn out children make room for fresh ones, and nothing is lost or run twice."""

import signal
import sys

import pytest

from tests.support.commands import Running
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until


def lives(worker: Running) -> list[str]:
    """Which children were started, recycled and ended, in that order."""
    names = {"child.started": "+", "child.recycled": "~", "child.exited": "-"}
    return [names[line["event"]] + str(line["pid"]) for line in worker.lines() if line["event"] in names]


def test_after_so_many_messages_the_successor_is_ready_before_the_old_one_goes(
    shop: Shop, parent: str
) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message)
            time.sleep(0.02)
    """)
    with shop.open("-c1", "--max-messages", "5") as worker:
        (old,) = ready(worker, 1)
        shop.queue.enqueue(*range(200))
        wait_until(lambda: worker.events("child.exited"), 30, "it has left")
        first = next(line for line in worker.events("child.exited"))
        assert first["pid"] == old
        assert first["done"] >= 5
        assert first["cause"] == "exit code 0"
        new = next(pid for pid in ready(worker, 2) if pid != old)
        seen = [what for what in lives(worker) if what != f"~{new}"]
        assert seen[:4] == [f"+{old}", f"~{old}", f"+{new}", f"-{old}"]
        wait_until(lambda: len(shop.notes()) == 200, 60, "all are done")
        assert sorted(map(int, shop.notes())) == list(range(200))
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


def test_never_are_there_more_than_one_child_over_what_was_asked_for(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message)
            time.sleep(0.01)
    """)
    with shop.open("-c3", "--max-messages", "10") as worker:
        ready(worker, 3)
        shop.queue.enqueue(*range(600))
        wait_until(lambda: len(shop.notes()) == 600, 60, "all are done")
        wait_until(lambda: len(worker.events("child.exited")) >= 3, 30, "some have left")
        alive = most = 0
        for what in lives(worker):
            alive += {"+": 1, "-": -1, "~": 0}[what[0]]
            most = max(most, alive)
        assert most == 4
        assert sorted(map(int, shop.notes())) == list(range(600))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not say how much memory another has")
def test_a_child_that_has_grown_too_large_leaves_when_its_message_is_done(shop: Shop, delivery: str) -> None:
    shop.write("""
        kept = []

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            kept.append(bytearray(os.urandom(64 << 20)))
            note("grown")
            wait_for("go")
            note("done")
    """)
    with shop.open("-c1", "--max-memory", "60") as worker:
        (old,) = ready(worker, 1)
        shop.queue.enqueue("a")
        wait_until(lambda: worker.events("child.recycled"), 30, "it is seen while the message runs")
        assert worker.events("child.recycled")[0]["reason"].endswith(" MiB")
        ready(worker, 2)
        assert not worker.events("child.exited")
        shop.allow("go")
        wait_until(lambda: worker.events("child.exited"), 30, "it has left")
        shop.wait_for_notes("grown", "done")
        assert worker.events("child.exited")[0]["pid"] == old
        assert worker.events("child.exited")[0]["cause"] == "exit code 0"


def test_a_worker_without_these_options_keeps_its_children(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            pass
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue(*range(2000))
        wait_until(lambda: len(worker.events("message.done")) == 2000, 60, "all are done")
        assert not worker.events("child.exited")
