"""A worker whose queues are paused and go on: its children, those that wait and those that work."""

import pytest

from tests.support.shop import Shop, ready
from tests.support.waiting import passes, wait_until

TWO_QUEUES = """
    other = HotQueue("other")

    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)

    @other.worker(delivery=DELIVERY)
    def follow(message):
        note("other", message)
"""


def blocked(shop: Shop) -> int:
    return int(shop.server.admin.info("clients")["blocked_clients"])


def test_children_that_wait_take_nothing_of_a_paused_queue_and_go_on_with_others(
    shop: Shop, delivery: str
) -> None:
    shop.write(TWO_QUEUES)
    waits = 2 if delivery == "at-most-once" else 4
    with shop.open("-c2") as worker:
        ready(worker, 2)
        wait_until(lambda: blocked(shop) == waits, 20, "the children wait")
        shop.queue.pause()
        passes(4)
        shop.queue.enqueue("a", "b", "c")
        shop.queue_named("other").enqueue("x", "y")
        shop.wait_for_notes("other x", "other y")
        wait_until(lambda: shop.in_flight() == 0, what="all of the other is acknowledged")
        passes(0.3)
        assert len(shop.queue) == 3
        shop.queue.resume()
        shop.wait_for_notes("other x", "other y", "a", "b", "c")


@pytest.mark.parametrize("prefetch", ["1", "4"])
def test_a_busy_child_ends_what_it_runs_and_the_rest_waits_in_order(shop: Shop, prefetch: str) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message)
            wait_for("go")
    """)
    shop.queue.enqueue(0, 1, 2, 3, 4)
    with shop.open("-c1", "--prefetch", prefetch):
        shop.wait_for_notes("0")
        shop.queue.pause()
        passes(4)
        shop.allow("go")
        wait_until(lambda: len(shop.queue) == 4, what="the rest is back")
        wait_until(lambda: shop.in_flight() == 0, what="what ran is acknowledged")
        passes(0.3)
        assert shop.notes() == ["0"]
        shop.queue.resume()
        wait_until(lambda: shop.notes() == ["0", "1", "2", "3", "4"])


def test_a_worker_that_starts_finds_the_queue_paused(shop: Shop, delivery: str) -> None:
    shop.write(TWO_QUEUES)
    shop.queue.enqueue("a")
    shop.queue.pause(600)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        passes(0.3)
        assert shop.notes() == []
        shop.queue.pause(0.2)
        shop.wait_for_notes("a")
