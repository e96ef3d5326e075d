"""Rows 21, 24 and 25: a Redis that is killed, that forgets its scripts, or that is full."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hotqueue import HotQueue, NotSent, OutcomeUnknown
from hotqueue.errors import Refused
from tests.faults.conftest import ServerWith
from tests.support.servers import LiveServer
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

NOTES_ALL = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)
"""
GATED = """
    @queue.worker
    def handle(message):
        if not (HERE / "go").exists():
            note("began", message)
            wait_for("go")
        note("done", message)
"""


class Producer:
    """Enqueues numbers until Redis is gone, and knows which ones were accepted."""

    def __init__(self, queue: HotQueue, *, durable: bool) -> None:
        self.queue = queue
        self.durable = durable
        self.accepted: list[int] = []
        self.unknown: list[int] = []
        self.thread = threading.Thread(target=self._produce)
        self.thread.start()

    def _produce(self) -> None:
        for number in range(1_000_000):
            try:
                self.queue.send(number, durable=self.durable)
            except OutcomeUnknown:
                self.unknown.append(number)
                return
            except NotSent:
                return
            self.accepted.append(number)


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_21_what_was_accepted_waiting_and_in_flight_survives_a_killed_redis_and_worker(
    shop: Shop, server_with: ServerWith, fsync: str
) -> None:
    """With `everysec`, what was sent with `durable`: the rest may lose its last second with its machine."""
    shop.write(GATED)
    with server_with(appendonly="yes", appendfsync=fsync) as own:
        if fsync == "everysec" and b"waitaof" not in own.admin.command_list():
            pytest.skip("this server cannot say what is on its disk")
        producer = Producer(shop.queue, durable=fsync == "everysec")
        with shop.open("-c1", "--prefetch=3") as worker:
            wait_until(lambda: shop.notes() and len(producer.accepted) > 5, 20, "some wait and some are held")
            wait_until(lambda: len(shop.queue) > 3)
            held, known = shop.in_flight(), len(producer.accepted)
            wait_until(lambda: len(producer.accepted) > known + 1, what="what is held is on the disk as well")
            own.kill()
            worker.signal_group(signal.SIGKILL)
            gone(worker)
        producer.thread.join(60)
        own.start()
        assert 1 <= held == shop.in_flight()
        shop.allow("go")
        assert shop.run("-c2", "-b").returncode == 0
    done = sorted(int(note.split()[1]) for note in shop.notes() if note.startswith("done"))
    assert set(producer.accepted) <= set(done) <= {*producer.accepted, *producer.unknown}
    assert len(done) == len(set(done))


@contextmanager
def scripts_flushed_all_the_time(server: LiveServer) -> Iterator[list[int]]:
    """Counts how often."""
    times, stop = [0], threading.Event()

    def flush() -> None:
        client = server.client()
        while not stop.is_set():
            client.script_flush()
            times[0] += 1

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()


def test_24_scripts_that_are_flushed_all_the_time_are_no_error(shop: Shop, delivery: str) -> None:
    shop.write(NOTES_ALL)
    with scripts_flushed_all_the_time(shop.server) as times, shop.open("-c2") as worker:
        ready(worker, 2)
        for number in range(300):
            shop.queue.send(number, delay=0.001 if number % 3 == 0 else None)
        shop.wait_for_notes(*map(str, range(300)))
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert [line for line in worker.lines() if line["level"] in {"warning", "error", "critical"}] == []
    assert times[0] > 100
    assert len(shop.queue) == shop.in_flight() == 0


def test_25_a_full_redis_refuses_to_enqueue_and_workers_drain_it(
    shop: Shop, server_with: ServerWith, delivery: str
) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message[0])
            if message[0] == 0:
                wait_for("go")
    """)
    with server_with(maxmemory="8mb", maxmemory_policy="noeviction") as own:
        queue = shop.queue
        sent = fill(queue)
        own.admin.config_set("maxmemory", int(own.info["used_memory"]) - 500_000)  # not even close to enough
        with shop.open("-c1", "--prefetch=3") as worker:
            shop.wait_for_notes("0")
            with pytest.raises(Refused, match="OOM"):
                queue.enqueue((sent, "x" * 100_000))
            shop.allow("go")
            shop.wait_for_notes(*map(str, range(sent)))
            wait_until(lambda: len(queue) == shop.in_flight() == 0, 20, "all is acknowledged")
            queue.enqueue((sent, ""))
            shop.wait_for_notes(*map(str, range(sent + 1)))
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
    assert shop.notes() == [str(number) for number in range(sent + 1)]


def fill(queue: HotQueue) -> int:
    """Enqueue until the server takes no more; return how many it took."""
    for number in range(1000):
        try:
            queue.enqueue((number, "x" * 100_000))
        except Refused:
            return number
    msg = "the server takes everything"
    raise AssertionError(msg)
