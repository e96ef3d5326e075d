"""The thread beside a loop in the caller's own process: it keeps the lease, and ends with the loop."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, caretaker, identity, keys
from hotqueue.address import Address
from hotqueue.caretaker import Caretaker
from hotqueue.upkeep import LEASE_MS
from tests.support.commands import app, start
from tests.support.servers import fresh_server
from tests.support.waiting import wait_until

Q = "q"
TICK_S = 0.02


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue(Q, url=redis_url)


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caretaker, "RENEW_EVERY_S", TICK_S)
    monkeypatch.setattr(caretaker, "TEND_EVERY_S", TICK_S)
    monkeypatch.setattr("hotqueue.upkeep.TEND_EVERY_S", TICK_S)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hotqueue-caretaker"]


def leases(client: redis.Redis) -> dict[bytes, float]:
    return dict(client.zrange(keys.consumers(Q), 0, -1, withscores=True))  # type: ignore[arg-type]


@contextmanager
def handling(queue: HotQueue) -> Iterator[threading.Event]:
    """A loop whose handler runs until the event is set."""
    go, begun = threading.Event(), threading.Event()

    def handle(message: object) -> None:
        begun.set()
        go.wait(120)

    queue.enqueue("a")
    thread = threading.Thread(target=lambda: queue.worker(handle).run(timeout=0.01))
    thread.start()
    assert begun.wait(60)
    yield go
    go.set()
    thread.join(60)


@pytest.mark.usefixtures("_hurried")
def test_the_lease_is_renewed_while_a_handler_runs_and_gone_when_the_loop_ends(
    queue: HotQueue, client: redis.Redis
) -> None:
    with handling(queue):
        ((name, first),) = leases(client).items()
        wait_until(lambda: leases(client)[name] > first + 2 * TICK_S * 1000)
        ((_, now),) = leases(client).items()
        assert 0 < now - client.time()[0] * 1000 <= LEASE_MS + 1000  # type: ignore[index]
        assert len(threads()) == 1
    assert leases(client) == {}
    assert threads() == []


@pytest.mark.usefixtures("_hurried")
def test_it_outlives_a_redis_that_goes_away_and_renews_again(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        queue = HotQueue(Q, url=server.url)
        with handling(queue):
            ((name, first),) = leases(server.admin).items()
            server.stop()
            server.start()
            wait_until(lambda: leases(server.admin)[name] > first)
            assert len(threads()) == 1
        assert server.admin.hget(keys.counters(Q), "done") == b"1"
    assert threads() == []


def test_while_redis_is_away_the_lease_is_not_fresh_for_longer_than_half_of_it(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(caretaker.time, "monotonic", lambda: now_s)
    own = Caretaker(Q, Address.from_url(redis_url))
    own.registered(Q, identity.new_incarnation(), 0)
    now_s += LEASE_MS / 2000 - 0.1
    assert own.is_fresh(Q)
    now_s += 0.2
    assert not own.is_fresh(Q)


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("way", ["handler", "deliveries"])
def test_what_a_process_has_caught_that_stood_still_goes_back_before_it_is_begun(
    queue: HotQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, way: str, looks: int
) -> None:
    """Others may have taken it over. By the second look the thread may have renewed the lease."""
    stale = iter([False] * looks)
    monkeypatch.setattr(Caretaker, "is_fresh", lambda *_: next(stale, True))
    queue.enqueue("a", "b")
    done = []
    if way == "handler":
        queue.worker(done.append).run(timeout=0.1)
    else:
        for delivery in queue.deliveries(timeout=0.1):
            done.append(delivery.message)
            delivery.ack()
    assert next(stale, None) is None
    assert done == ["a", "b"]
    assert client.hget(keys.counters(Q), "done") == b"2"


@pytest.mark.usefixtures("_hurried")
def test_it_gives_back_what_a_vanished_neighbour_held(queue: HotQueue, client: redis.Redis) -> None:
    gone = '{"boot":"%s","pidns":"%s","pid":%d,"started":"1"}'  # a pid that is nobody's, or somebody else's
    host = identity._host()
    client.rpush(keys.inflight(Q, "0" * 16), b"\x80\x04N.")
    client.zadd(keys.consumers(Q), {"0" * 16: 2**52})
    client.hset(keys.owners(Q), "0" * 16, gone % (host["boot"], host["pidns"], 2**22 + 1))
    done: list[Any] = []
    queue.worker(done.append).run(block=False)
    assert done == [None]
    assert leases(client) == {}


FORKING = """
    import os, sys
    from hotqueue import HotQueue

    queue = HotQueue("q")

    @queue.worker(delivery=sys.argv[2])
    def handle(message):
        if message == "fork":
            if os.fork() == 0:
                print("copy", flush=True)
                if sys.argv[1] == "exits":
                    sys.exit(7)
                if sys.argv[1] == "raises":
                    raise ValueError("in the copy")
                return
            code = os.waitstatus_to_exitcode(os.wait()[1])
            assert code == {"exits": 7, "raises": 1, "returns": 0}[sys.argv[1]]
        print("done", message, flush=True)

    handle.run(timeout=0.3)
    print("ended", flush=True)
"""


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
@pytest.mark.parametrize("how", ["exits", "raises", "returns"])
def test_a_copy_that_a_handler_forked_touches_nothing_of_its_parent_s(
    redis_url: str, client: redis.Redis, tmp_path: Path, how: str, delivery: str
) -> None:
    HotQueue(Q, url=redis_url).enqueue("fork", "a", "b")
    script = app(tmp_path, FORKING)
    with start(sys.executable, str(script), how, delivery, env={"HOTQUEUE_URL": redis_url}) as loop:
        assert loop.wait() == 0
        copy = ["copy", "ended"] if how == "returns" else ["copy"]  # there the loop simply ends
        assert loop.stdout_text().split("\n")[:-1] == [*copy, "done fork", "done a", "done b", "ended"]
        assert "claim.lost" not in loop.stderr_text()
    assert client.keys("*:inflight:*") == []
    assert client.zcard(keys.dead(Q)) == 0
