"""Alive but not consuming: what hangs without a message is replaced, what waits is left alone."""

import os
import signal
import sys
import time
from pathlib import Path

from tests.support.commands import Running, start
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

# As the real command, with a watchdog that need not wait for a minute and a half.
IMPATIENT = """
import sys
from hotqueue.worker import watchdog
watchdog.LONGEST_S, watchdog.REPLY_MARGIN_S, watchdog.GRACE_S, watchdog.START_S = 0.5, 0.5, 3.0, 10.0
from hotqueue.worker.cli import main
main(["tasks", *sys.argv[1:]])
"""
SHORT_WAITS = """
    from hotqueue import consumer, waiting
    waiting.LONGEST_S = 0.5
    consumer.BACK_OFF_S = (0.1, 0.5)  # as short beside the patience of this watchdog as 30 s beside 90

    @queue.worker
    def handle(message):
        note(message)
        time.sleep(float(message))
"""


def impatient(shop: Shop, folder: Path, *options: str) -> Running:
    return start(sys.executable, "-c", IMPATIENT, *(options or ["-c2"]), env=shop.env, cwd=folder)


def test_a_stopped_child_is_replaced_and_one_that_waits_or_works_is_not(shop: Shop, tmp_path: Path) -> None:
    shop.write(SHORT_WAITS)
    with impatient(shop, tmp_path) as worker:
        stopped, other = ready(worker, 2)
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: worker.events("child.killed"), 30, "it is killed")
        ready(worker, 3)
        assert [line["reason"] for line in worker.events("child.killed")] == ["alive, but not consuming"]
        shop.queue.enqueue("6", "0", "0")  # longer than a wait may take
        wait_until(lambda: len(worker.events("message.done")) == 3, 40, "all are done")
        assert {line["pid"] for line in worker.events("child.exited")} == {stopped}
        assert other in {line["pid"] for line in worker.events("child.started")}


def test_children_that_cannot_reach_redis_are_alive(shop: Shop, tmp_path: Path) -> None:
    shop.write(SHORT_WAITS)
    with impatient(shop, tmp_path) as worker:
        ready(worker, 2)
        shop.server.kill()
        end = time.monotonic() + 8
        wait_until(lambda: time.monotonic() > end, 20)
        shop.server.start()
        shop.queue.enqueue("0")
        wait_until(lambda: worker.events("message.done"), 40, "it is done")
        assert not worker.events("child.killed")


def test_a_child_that_hangs_while_it_starts_is_replaced(shop: Shop, tmp_path: Path) -> None:
    shop.write("""
        if not (HERE / "hung").exists():
            def hang():
                (HERE / "hung").touch()
                time.sleep(3600)
            os.register_at_fork(after_in_child=lambda: (HERE / "hung").exists() or forked(hang))

        depth = 0
        def forked(hang):
            global depth
            depth += 1
            if depth == 2:  # the first fork is only in between
                hang()

        @queue.worker
        def handle(message):
            note(message)
    """)
    with impatient(shop, tmp_path) as worker:
        wait_until((tmp_path / "hung").exists, 20, "one hangs")
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        ready(worker, 2)


def test_a_burst_ends_although_a_child_does_not_hear_that_it_shall_leave(shop: Shop, tmp_path: Path) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note(message)
    """)
    shop.queue.enqueue("a", "b")
    with impatient(shop, tmp_path, "-c1", "--burst") as worker:
        assert worker.wait() == 0
        assert [line["reason"] for line in worker.events("child.killed")] == ["alive, but not consuming"]
        assert shop.notes() == ["a", "b"]
        assert shop.in_flight() == 0
