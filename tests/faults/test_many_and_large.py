"""Rows 19 and 29b: a million messages that wait, large ones, and a handler that fails on 50,000."""

import signal
from pathlib import Path

import pytest

from hotqueue import keys
from tests.faults.conftest import ServerWith
from tests.support.shop import NAME, Shop, ready
from tests.support.waiting import wait_until

MIB = 1 << 20
PAGE_KB = 4


def memory_kb(pid: int) -> int:
    """What a process has in memory of its own."""
    resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * PAGE_KB


def test_19_with_a_million_waiting_messages_come_in_order_and_memory_stays_flat(
    shop: Shop, delivery: str
) -> None:
    waiting = 1_000_000
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            if message == 10_000:  # it goes on when it is told to stop
                told = signal.getsignal(signal.SIGTERM)
                signal.signal(signal.SIGTERM, lambda *what: (told(*what), (HERE / "go 10000").touch()))
            if message in (100, 10_000):
                note(message)
                wait_for(f"go {message}")
            if message != handle.expected:
                note("not in order")
            handle.expected = message + 1

        handle.expected = 0
    """)
    for first in range(0, waiting, 10_000):
        shop.queue.enqueue(*range(first, first + 10_000))
    with shop.open("-c1", "--prefetch=10", "-lwarning") as worker:
        wait_until(lambda: shop.notes() == ["100"], 30)
        (child,) = [pid for pid in worker.left() if "child" in Path(f"/proc/{pid}/cmdline").read_text()]
        before = memory_kb(child), memory_kb(worker.pid)
        shop.allow("go 100")
        wait_until(lambda: shop.notes() == ["100", "10000"], 60, "10,000 were done in order")
        grown = memory_kb(child) - before[0], memory_kb(worker.pid) - before[1]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert max(grown) < 5 * 1024
    assert shop.notes() == ["100", "10000"]
    assert len(shop.queue) >= waiting - 30_000, "and it did not take more than it could run"


def test_19_of_messages_of_8_mib_a_claim_takes_one(shop: Shop, server_with: ServerWith) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(len(message))
            wait_for("go")
    """)
    with server_with() as own:
        queue = shop.queue
        for _ in range(64):
            queue.enqueue("x" * (8 * MIB))
        with shop.open("-c1", "--prefetch=64") as worker:
            wait_until(shop.notes)
            assert (shop.in_flight(), len(queue)) == (1, 63)
            own.admin.config_resetstat()
            shop.allow("go")
            wait_until(lambda: len(shop.notes()) == 64, 60)
            wait_until(lambda: shop.in_flight() == 0)
            counted = own.info
            calls = [counted[f"cmdstat_{name}"]["calls"] for name in ("lmove", "evalsha")]
            assert calls[0] <= calls[1], "no script has moved two of them"
            ready(worker)
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
        assert own.info["used_memory"] < 64 * MIB


@pytest.mark.parametrize(
    ("delivery", "count"), [("at-least-once", 50_000), ("at-most-once", 5_000)], indirect=["delivery"]
)
def test_29b_when_a_handler_fails_on_50_000_messages_all_of_them_are_in_the_dead_list(
    shop: Shop, delivery: str, count: int
) -> None:
    shop.write("""
        options = {"retries": 0} if DELIVERY == "at-least-once" else {}

        @queue.worker(delivery=DELIVERY, **options)
        def handle(message):
            raise ValueError(message)
    """)
    sent = range(count)
    shop.queue.enqueue(*sent)
    with shop.open("-c2", "-b", "-lcritical") as worker:
        assert worker.wait(240) == 0
    assert shop.server.admin.zcard(keys.dead(NAME)) == len(sent)
    decode = shop.queue.dead.decode
    assert sorted(decode(dead) for dead in shop.queue.dead) == list(sent)
