"""Rows 20 and 27c: a Redis that restarts, and one that has become a black hole."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.servers import LiveServer
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message, current().attempt)
        if message == "wait":
            wait_for("go")
        note("ended", message)
"""


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_20_a_worker_waits_for_a_redis_that_restarts_and_goes_on(
    shop: Shop, own: LiveServer, delivery: str, end: str
) -> None:
    shop.write(GATED)
    with shop.open("-c2") as worker:
        first = ready(worker, 2)
        wait_until(lambda: own.admin.info()["blocked_clients"] == 2)
        getattr(own, end)()
        wait_until(lambda: len(worker.events("redis.lost")) >= 2, 20, "both children have noticed")
        own.start()
        shop.queue.enqueue("a", "b")
        wait_until(lambda: len([n for n in shop.notes() if n.startswith("ended")]) == 2, 60, "both are done")
        assert ready(worker, 2) == first, "no child had to die for it"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert len(shop.queue) == shop.in_flight() == 0


def test_20_what_runs_while_redis_restarts_is_acknowledged_after_it(
    shop: Shop, own: LiveServer, delivery: str
) -> None:
    shop.write(GATED)
    shop.queue.enqueue("wait", "b")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began wait 1")
        own.restart()
        shop.allow("go")
        wait_until(lambda: "ended b" in shop.notes(), 60, "the next one is done")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert shop.notes() == ["began wait 1", "ended wait", "began b 1", "ended b"]
    assert len(shop.queue) == shop.in_flight() == shop.consumers() == 0


def test_20_a_child_that_dies_while_redis_is_away_gives_back_what_it_held_later(
    shop: Shop, own: LiveServer
) -> None:
    shop.write(GATED)
    shop.queue.enqueue("wait")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began wait 1")
        own.stop()
        os.kill(ready(worker)[0], signal.SIGKILL)
        wait_until(lambda: worker.events("child.exited"))
        shop.allow("go")
        own.start()
        wait_until(lambda: "began wait 2" in shop.notes(), 60, "it runs again")
        wait_until(lambda: "ended wait" in shop.notes())
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert shop.in_flight() == 0


def test_20_an_idle_worker_whose_redis_has_gone_stops_with_code_0(
    shop: Shop, own: LiveServer, delivery: str
) -> None:
    shop.write(GATED)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        wait_until(lambda: own.admin.info()["blocked_clients"] == 2)
        own.stop()
        wait_until(lambda: len(worker.events("redis.lost")) >= 2)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


def test_20_what_cannot_be_given_back_at_a_stop_is_said_with_code_1(shop: Shop, own: LiveServer) -> None:
    shop.write(GATED)
    shop.queue.enqueue("wait")
    with shop.open("-c1", "-t0.1") as worker:
        shop.wait_for_notes("began wait 1")
        own.stop()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        gone(worker)
        last = worker.events("redis.lost")[-1]
        assert last["reason"] == "Redis was not told of 1 ended children: what they held stays in flight"
    own.start()
    assert shop.in_flight() == 1


# So long that nobody could have waited for a reply.
PATIENT = "from hotqueue import connection; connection.CONSUMER_TIMEOUT_S = 3600.0"


@pytest.fixture
def black_hole(own: LiveServer) -> Iterator[Callable[[], None]]:
    """Once called, Redis takes connections and says nothing."""
    pid = own.pid
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_27c_a_worker_whose_redis_says_nothing_more_still_stops(
    shop: Shop, own: LiveServer, delivery: str, black_hole: Callable[[], None]
) -> None:
    (shop.folder / "sitecustomize.py").write_text(PATIENT)
    shop.write(GATED)
    shop.queue.enqueue("wait")
    with shop.open("-c2", "-t0.2", env={"PYTHONPATH": str(shop.folder)}) as worker:
        shop.wait_for_notes("began wait 1")
        wait_until(lambda: own.admin.info()["blocked_clients"] == 1)
        black_hole()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        gone(worker)


def test_27c_what_overruns_its_time_limit_is_ended_although_redis_says_nothing_more(
    shop: Shop, own: LiveServer, delivery: str, black_hole: Callable[[], None]
) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY, time_limit=1.5)
        def handle(message):
            note("began")
            wait_for("never")
    """)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began")
        black_hole()
        wait_until(lambda: len(worker.events("child.exited")) == 1, 20, "it is ended")
        assert worker.events("child.killed")[0]["reason"] == "over its time limit"
        ready(worker, 2)


def test_27c_a_dead_child_is_replaced_although_redis_says_nothing_more(
    shop: Shop, own: LiveServer, black_hole: Callable[[], None]
) -> None:
    shop.write(GATED)
    with shop.open("-c1") as worker:
        (pid,) = ready(worker)
        wait_until(lambda: own.admin.info()["blocked_clients"] == 1)
        black_hole()
        os.kill(pid, signal.SIGKILL)
        ready(worker, 2)
