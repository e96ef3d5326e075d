"""Rows 6 to 9: a stop while idle, while busy, against an obstinate handler, in a storm of signals."""

import random
import signal

import pytest

from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message)
        wait_for("go")
        note("ended", message)
"""


def test_6_an_idle_worker_stops_with_code_0(shop: Shop, delivery: str) -> None:
    shop.write(GATED)
    with shop.open("-c4") as worker:
        ready(worker, 4)
        wait_until(lambda: shop.server.admin.info()["blocked_clients"] == 4)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left() == set()
        assert {line["cause"] for line in worker.events("child.exited")} == {"exit code 0"}


def test_7_a_busy_worker_ends_what_runs_and_no_more(shop: Shop, delivery: str) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a", "b", "c")
    with shop.open("-c2") as worker:
        shop.wait_for_notes("began a", "began b")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.events("supervisor.stopping"))
        shop.allow("go")
        assert worker.wait() == 0
    shop.wait_for_notes("began a", "began b", "ended a", "ended b")
    assert len(shop.queue) == 1
    assert shop.in_flight() == 0


@pytest.mark.parametrize(
    "obstinacy",
    [
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)",
        "sum(range(10**12))",
    ],
)
def test_8_a_handler_that_does_not_want_to_stop_is_killed_and_handed_back_or_lost(
    shop: Shop, delivery: str, obstinacy: str
) -> None:
    shop.write(f"""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note("began", current().attempt, len(current().trail.crashes))
            if not (HERE / "go").exists():
                {obstinacy}
    """)
    shop.queue.enqueue("a")
    with shop.open("-c1", "-t0.1") as worker:
        shop.wait_for_notes("began 1 0")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert worker.left() == set()
        assert len(worker.events("child.killed")) == 1
        assert worker.events("child.exited")[0].get("lost") == (1 if delivery == "at-most-once" else None)
    assert shop.in_flight() == 0
    assert len(shop.queue) == (delivery == "at-least-once")
    if delivery == "at-least-once":
        shop.allow("go")
        assert shop.run("-c1", "-b").returncode == 0
        assert shop.notes() == ["began 1 0", "began 2 0"]


def test_9_a_storm_of_signals_is_one_clean_stop(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a")
    kinds = [signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]  # a second INT, a QUIT would be other wishes
    choose = random.Random(9)
    with shop.open("-c4") as worker:
        shop.wait_for_notes("began a")
        worker.signal_group(signal.SIGINT)
        for _ in range(100):
            choose.choice([worker.signal, worker.signal_group])(choose.choice(kinds))
        wait_until(lambda: worker.events("supervisor.stopping"))
        shop.allow("go")
        assert worker.wait() == 0
        assert len(worker.events("supervisor.stopping")) == 1
        assert worker.left() == set()
    assert shop.notes() == ["began a", "ended a"]
    assert len(shop.queue) == shop.in_flight() == 0


def test_9_a_storm_while_children_are_forked_leaves_nobody(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    with shop.open("-c8") as worker:
        wait_until(lambda: worker.events("supervisor.started"))
        for _ in range(20):
            worker.signal_group(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)
