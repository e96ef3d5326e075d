"""Time limits: soft ones raise in the handler, hard ones kill its process and count as a failure."""

import pytest

from tests.support.commands import Running
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until


def ended(worker: Running, event: str) -> dict[str, object]:
    wait_until(lambda: worker.events(event), 20, f"{event} is logged")
    return dict(worker.events(event)[0])


def test_a_soft_limit_raises_in_the_handler_which_may_clean_up_and_be_done(shop: Shop) -> None:
    shop.write("""
        from hotqueue import SoftTimeLimit

        @queue.worker(soft_time_limit=1.0)
        def handle(message):
            try:
                wait_for("never")
            except SoftTimeLimit:
                note("cleaned up")
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        assert ended(worker, "message.done")["attempt"] == 1
        assert shop.notes() == ["cleaned up"]
        assert not worker.events("child.exited")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_soft_limit_that_is_not_caught_is_a_failure_and_the_child_lives(
    shop: Shop, delivery: str, kind: str
) -> None:
    shop.write(f"""
        import asyncio

        @queue.worker(delivery=DELIVERY, soft_time_limit=1.0, retries=0)
        {kind} handle(message):
            try:
                {"await asyncio.sleep(60)" if "async" in kind else "wait_for('never')"}
            finally:
                note("left", message)
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a", "b")
        shop.wait_for_notes("left a", "left b")
        wait_until(lambda: len(shop.dead()) == 2, 20, "both are dead")
        assert "SoftTimeLimit" in str(shop.dead()[0].reason["error"])
        assert not worker.events("child.exited")


def test_a_handler_that_ends_in_time_is_not_interrupted_nor_is_the_one_after_it(shop: Shop) -> None:
    shop.write("""
        @queue.worker(soft_time_limit=3.0, time_limit=6.0)
        def handle(message):
            time.sleep(0.3)
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue(*range(12))
        wait_until(lambda: len(worker.events("message.done")) == 12, 30, "all are done")
        assert not worker.events("child.exited")


def test_a_hard_limit_kills_code_that_nothing_in_python_can_interrupt(shop: Shop, parent: str) -> None:
    shop.write("""
        @queue.worker(soft_time_limit=1.0, time_limit=2.0, retries=1, backoff=0)
        def handle(message):
            note(message, current().attempt)
            if message == "stuck":
                sum(range(10**13))  # a loop in C, which looks for no signal
    """)
    with shop.open("-c1", "--prefetch", "4") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a", "stuck", "b", "c")
        wait_until(shop.dead, 30, "it is dead")
        shop.wait_for_notes("a 1", "stuck 1", "stuck 2", "b 1", "c 1")  # neighbours run once
        (trail,) = shop.dead()
        assert trail.failures == 2
        assert trail.crashes == ()
        assert trail.reason["kind"] == "failed"
        assert "TimeLimit: it ran longer than 2 s" in str(trail.reason["error"])
        wait_until(lambda: len(worker.events("child.killed")) == 2)
        assert {line["reason"] for line in worker.events("child.killed")} == {"over its time limit"}


def test_after_a_hard_limit_the_message_waits_as_its_backoff_says(shop: Shop) -> None:
    shop.write("""
        @queue.worker(time_limit=0.3, backoff=3600)
        def handle(message):
            wait_for("never")
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        retried = ended(worker, "message.retried")
        assert retried["again_in_s"] == 3600.0
        assert "TimeLimit" in str(retried["reason"])
        assert shop.queue.stats().delayed == 1


def test_an_option_limits_every_handler_that_does_not_say_otherwise(shop: Shop) -> None:
    shop.write("""
        other = HotQueue("other")

        @queue.worker(retries=0)
        def handle(message):
            wait_for("never")

        @other.worker(time_limit=0)
        def follow(message):
            time.sleep(1.5)
            note("other", message)
    """)
    with shop.open("-c2", "--time-limit", "0.5") as worker:
        ready(worker, 2)
        shop.queue.enqueue("a")
        shop.queue_named("other").enqueue("b")
        shop.wait_for_notes("other b")
        wait_until(shop.dead, 20, "it is dead")
        wait_until(lambda: len(worker.events("child.killed")) == 1)


def test_a_limited_message_delivered_at_most_once_is_lost_and_the_log_says_so(shop: Shop) -> None:
    shop.write("""
        @queue.worker(delivery="at-most-once", time_limit=0.3)
        def handle(message):
            wait_for("never")
    """)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        assert ended(worker, "child.exited")["lost"] == 1
