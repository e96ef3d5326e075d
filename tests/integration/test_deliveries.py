"""`for delivery in queue.deliveries()`: at-least-once for a loop of one's own, however it is left."""

import contextlib
import gc
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, keys
from hotqueue.envelope import trail_of
from hotqueue.errors import ConfigurationError
from hotqueue.trail import Trail
from tests.support.commands import Running, app, start
from tests.support.proxy import proxy_to
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

Q = "q"


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue(Q, url=redis_url)


def dead(client: redis.Redis) -> list[Trail]:
    return [trail_of(raw) for raw in client.zrange(keys.dead(Q), 0, -1)]


def left_over(client: redis.Redis) -> set[str]:
    """Keys beside those that stay, and those of the queue itself."""
    stay = {keys.QUEUES, keys.counters(Q), keys.key_for_name(Q)}
    return {key.decode() for key in client.scan_iter()} - stay


def caretakers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hotqueue-caretaker"]


def test_what_is_acknowledged_is_done_and_comes_in_order(queue: HotQueue, client: redis.Redis) -> None:
    sent = queue.send("a", headers={"trace": "7f"})
    queue.enqueue("b", None)
    seen = []
    for delivery in queue.deliveries(timeout=0.1):
        seen.append((delivery.message, delivery.attempt, dict(delivery.headers)))
        assert delivery.id == sent or delivery.message != "a"
        assert not delivery.is_settled
        delivery.ack()
        assert delivery.is_settled
        assert client.keys("*:inflight:*") == [], "Redis knows at once"
    assert seen == [("a", 1, {"trace": "7f"}), ("b", 1, {}), (None, 1, {})]
    assert left_over(client) == set()
    assert caretakers() == []


def test_a_loop_waits_for_what_comes(queue: HotQueue) -> None:
    timer = threading.Timer(0.2, lambda: queue.enqueue("late"))
    timer.start()
    for delivery in queue.deliveries():
        assert delivery.message == "late"
        delivery.ack()
        break
    timer.join()


def test_what_is_retried_comes_again_as_a_later_attempt(queue: HotQueue) -> None:
    queue.enqueue("a", "b")
    seen = []
    for delivery in queue.deliveries(timeout=30):
        seen.append((delivery.message, delivery.attempt))
        if delivery.attempt == 1:
            delivery.retry(delay=0.0 if delivery.message == "a" else 0.05)
        else:
            delivery.ack()
        if len(seen) == 4:
            break
    assert seen == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_what_is_there_is_delivered_however_short_the_timeout(queue: HotQueue) -> None:
    queue.enqueue("a", "b")
    seen = []
    for delivery in queue.deliveries(timeout=1e-9):
        seen.append(delivery.message)
        delivery.ack()
    assert seen == ["a", "b"]


def test_what_is_rejected_is_dead_with_the_reason(queue: HotQueue, client: redis.Redis) -> None:
    queue.enqueue("a")
    for delivery in queue.deliveries(timeout=0.1):
        delivery.reject("no such user")
    (trail,) = dead(client)
    assert (trail.reason["kind"], trail.reason["error"], trail.failures) == ("rejected", "no such user", 1)
    assert left_over(client) == {keys.dead(Q)}


def test_a_delivery_is_settled_once(queue: HotQueue) -> None:
    queue.enqueue("a")
    for delivery in queue.deliveries(timeout=0.1):
        delivery.ack()
        for again in (delivery.ack, delivery.retry, partial(delivery.reject, "no")):
            with pytest.raises(ConfigurationError, match="this delivery is settled already"):
                again()


def test_a_delay_that_is_none_settles_nothing(queue: HotQueue) -> None:
    queue.enqueue("a")
    for delivery in queue.deliveries(timeout=0.1):
        with pytest.raises(ConfigurationError, match="delay must be seconds"):
            delivery.retry(delay=-1)
        delivery.ack()


def test_to_forget_to_settle_is_an_error_and_the_message_goes_back(
    queue: HotQueue, client: redis.Redis
) -> None:
    queue.enqueue("a", "b")
    loop = queue.deliveries()
    next(loop)
    with pytest.raises(ConfigurationError, match="a delivery of 'q' was not settled"):
        next(loop)
    assert list(queue.consume(block=False)) == ["a", "b"]
    assert left_over(client) == set()


def _break(queue: HotQueue) -> None:
    for _ in queue.deliveries():
        break


def _raise(queue: HotQueue) -> None:
    with contextlib.suppress(ZeroDivisionError):
        for _ in queue.deliveries():
            raise ZeroDivisionError


def _close(queue: HotQueue) -> None:
    loop = queue.deliveries()
    next(loop)
    loop.close()  # type: ignore[attr-defined]


def _forget_in_a_cycle(queue: HotQueue) -> None:
    cycle: list[Any] = [queue.deliveries()]
    next(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()


# A cycle is collected in any order: the socket may be closed, with a warning, before the loop is.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")
@pytest.mark.parametrize("leave", [_break, _raise, _close, _forget_in_a_cycle])
def test_however_the_loop_is_left_what_was_not_settled_is_next_again(
    queue: HotQueue, client: redis.Redis, leave: Any
) -> None:
    queue.enqueue("a", "b", "c")
    leave(queue)
    assert client.keys("*:inflight:*") == []
    assert list(queue.consume(block=False)) == ["a", "b", "c"]
    assert left_over(client) == set()
    assert caretakers() == []


def test_the_caretaker_itself_may_be_the_one_that_collects_a_forgotten_loop(
    queue: HotQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage is collected by whichever thread happens to be running."""
    queue.enqueue("a")
    loop = queue.deliveries()
    next(loop)
    (caretaker,) = caretakers()
    monkeypatch.setattr(threading, "current_thread", lambda: caretaker)
    loop.close()  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert len(queue) == 1
    wait_until(lambda: not caretaker.is_alive())


def test_a_loop_that_is_never_begun_sends_nothing(queue: HotQueue, client: redis.Redis) -> None:
    queue.deliveries()
    assert list(client.scan_iter()) == []
    assert caretakers() == []


def test_what_cannot_be_decoded_or_is_too_old_is_buried_and_the_loop_goes_on(
    queue: HotQueue, client: redis.Redis
) -> None:
    class_that_goes = pickle.dumps(Path("x")).replace(b"pathlib", b"pathfib")
    client.rpush(queue.key, b"garbage", class_that_goes, pickle.dumps(Exits()))
    queue.send("old", expires=0.0001)
    queue.enqueue("fine")
    time.sleep(0.002)
    for delivery in queue.deliveries(timeout=0.1):
        assert delivery.message == "fine"
        delivery.ack()
    kinds = sorted(str(trail.reason["kind"]) for trail in dead(client))
    assert kinds == ["expired", "unreadable", "unreadable", "unreadable"]


class Exits:
    """What unpickling it does."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


def test_a_bare_body_is_delivered_and_goes_back_bare(queue: HotQueue, client: redis.Redis) -> None:
    bare = pickle.dumps("a")
    client.rpush(queue.key, bare)
    for delivery in queue.deliveries():
        assert (delivery.message, delivery.id) == ("a", None)
        break
    assert client.lrange(queue.key, 0, -1) == [bare]


def test_two_loops_share_the_messages(queue: HotQueue) -> None:
    queue.enqueue(*range(100))
    done: list[int] = []

    def work() -> None:
        for delivery in queue.deliveries(timeout=0.3):
            done.append(delivery.message)
            delivery.ack()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(100))


def test_a_full_server_is_drained(queue: HotQueue, client: redis.Redis) -> None:
    queue.enqueue(1, 2, 3)
    client.config_set("maxmemory", 1)
    done = []
    try:
        for delivery in queue.deliveries(timeout=0.2):
            done.append(delivery.message)
            delivery.ack()
    finally:
        client.config_set("maxmemory", 0)
    assert done == [1, 2, 3]


@pytest.mark.parametrize("act", ["ack", "retry", "reject"])
@pytest.mark.parametrize("point", ["before the request", "before the reply"])
def test_if_a_word_on_a_delivery_is_lost_it_raises_and_the_message_is_in_one_place(
    server: LiveServer, client: redis.Redis, act: str, point: Any
) -> None:
    with proxy_to(server.port) as proxy:
        queue = HotQueue(Q, url=proxy.url)
        queue.enqueue("a")
        loop = queue.deliveries()
        delivery = next(loop)
        proxy.harm(point, on=b"EVALSHA")
        with pytest.raises(redis.exceptions.ConnectionError):  # NotSent, or OutcomeUnknown
            delivery.reject("no") if act == "reject" else getattr(delivery, act)()
        loop.close()  # type: ignore[attr-defined]
    places = len(queue_at(server)), client.zcard(keys.delayed(Q)), client.zcard(keys.dead(Q))
    assert places == {"ack": (0, 0, 0), "retry": (1, 0, 0), "reject": (0, 0, 1)}[act]
    assert client.keys("*:inflight:*") == []


def queue_at(server: LiveServer) -> HotQueue:
    return HotQueue(Q, url=server.url)


@pytest.mark.parametrize("word", ["ack", "retry", "reject"])
def test_a_server_that_hangs_up_while_nothing_is_asked_leaves_nothing_in_doubt(
    queue: HotQueue, client: redis.Redis, word: str
) -> None:
    queue.enqueue("a", "b")
    seen = []
    for delivery in queue.deliveries(timeout=0.1):
        seen.append(delivery.message)
        client.client_kill_filter(_type="normal", skipme=True)
        getattr(delivery, word)(**{"ack": {}, "retry": {"delay": 1000}, "reject": {"reason": "no"}}[word])
        assert client.keys("*:inflight:*") == []
    assert seen == ["a", "b"]
    assert (client.zcard(keys.delayed(Q)), len(dead(client))) == (
        2 * (word == "retry"),
        2 * (word == "reject"),
    )
    assert left_over(client) - {keys.delayed(Q), keys.dead(Q), keys.retired(Q)} == set()


def test_what_leaves_a_loop_is_not_replaced_by_the_redis_that_has_gone(tmp_path: Path) -> None:
    with fresh_server(tmp_path) as server:
        queue = HotQueue(Q, url=server.url)
        for kind in (KeyboardInterrupt, ZeroDivisionError):
            queue.enqueue("a")
            deliveries: Any = queue.deliveries()
            next(deliveries)
            server.stop()
            with pytest.raises(kind):
                deliveries.throw(kind())
            server.start()


def test_a_server_that_goes_away_ends_the_loop_with_an_error(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        queue = queue_at(server)
        queue.enqueue("a", "b")
        loop = queue.deliveries()
        delivery = next(loop)
        server.stop()
        with pytest.raises(redis.exceptions.ConnectionError):
            delivery.ack()
        with pytest.raises(redis.exceptions.ConnectionError):
            next(loop)
        server.start()
    assert caretakers() == []


SCRIPT = """
    import os, signal, sys, threading
    from hotqueue import HotQueue
    from hotqueue.errors import ConfigurationError

    queue = HotQueue("q")
    if sys.argv[1] == "own handler":
        signal.signal(signal.SIGINT, lambda *_: print("handled", flush=True))
    loop = queue.deliveries()
    for delivery in loop:
        print("begun", delivery.message, flush=True)
        if sys.argv[1] == "copy" and os.fork() == 0:
            for use in (delivery.ack, delivery.retry, lambda: delivery.reject("why"), lambda: next(loop)):
                try:
                    use()
                except ConfigurationError:
                    print("refused", flush=True)
            os._exit(0)
        elif sys.argv[1] == "copy":
            os.wait()
        if sys.argv[1] == "fork" and delivery.message == "fork":
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
        elif delivery.message == "slow":
            HotQueue("gate").dequeue(block=True)
        delivery.ack()
        print("done", delivery.message, flush=True)
    print("ended", flush=True)
"""


@contextlib.contextmanager
def looping(redis_url: str, folder: Path, how: str = "") -> Iterator[Running]:
    script = app(folder, SCRIPT)
    with redis.Redis.from_url(redis_url) as client:  # may still see the one of the test before
        wait_until(lambda: client.info("clients")["blocked_clients"] == 0)
    with start(sys.executable, str(script), how, env={"HOTQUEUE_URL": redis_url}) as running:
        yield running


def test_ctrl_c_ends_a_wait_quietly(redis_url: str, server: LiveServer, tmp_path: Path) -> None:
    with looping(redis_url, tmp_path) as loop:
        wait_until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
        loop.signal(signal.SIGINT)
        assert loop.wait() == 0
        assert loop.stdout_text() == "ended\n"
    assert left_over(server.admin) == set()


def test_ctrl_c_in_the_body_is_the_body_s_and_the_message_goes_back(
    redis_url: str, queue: HotQueue, client: redis.Redis, tmp_path: Path
) -> None:
    queue.enqueue("slow", "next")
    with looping(redis_url, tmp_path) as loop:
        wait_until(lambda: "begun slow" in loop.stdout_text())
        loop.signal(signal.SIGINT)
        assert loop.wait() == -signal.SIGINT
    assert list(queue.consume(block=False)) == ["slow", "next"]
    assert client.keys("*:inflight:*") == []


def test_an_application_that_handles_ctrl_c_itself_keeps_doing_so(
    redis_url: str, server: LiveServer, queue: HotQueue, tmp_path: Path
) -> None:
    with looping(redis_url, tmp_path, "own handler") as loop:
        wait_until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
        loop.signal(signal.SIGINT)
        wait_until(lambda: loop.stdout_text() == "handled\n")
        queue.enqueue("a")
        wait_until(lambda: "done a" in loop.stdout_text())


def test_a_fork_in_the_body_leaves_the_messages_to_its_parent(
    redis_url: str, queue: HotQueue, client: redis.Redis, tmp_path: Path
) -> None:
    with looping(redis_url, tmp_path, "fork") as loop:
        queue.enqueue("fork", "a")
        wait_until(lambda: "done a" in loop.stdout_text())
        assert loop.stdout_text() == "begun fork\ndone fork\nbegun a\ndone a\n"
        assert len(queue) == 0
        assert client.keys("*:inflight:*") == []


def test_a_fork_can_neither_settle_what_its_parent_took_nor_go_on_with_the_loop(
    redis_url: str, queue: HotQueue, client: redis.Redis, tmp_path: Path
) -> None:
    """Nobody would renew the lease of what it takes."""
    with looping(redis_url, tmp_path, "copy") as loop:
        queue.enqueue("a", "b")
        wait_until(lambda: "done b" in loop.stdout_text())
        refused = "refused\n" * 4
        assert loop.stdout_text() == f"begun a\n{refused}done a\nbegun b\n{refused}done b\n"


def test_whoever_is_killed_in_the_body_loses_nothing(
    redis_url: str, queue: HotQueue, client: redis.Redis, tmp_path: Path
) -> None:
    queue.enqueue("slow", "next")
    with looping(redis_url, tmp_path) as loop:
        wait_until(lambda: "begun slow" in loop.stdout_text())
        loop.signal(signal.SIGKILL)
        loop.wait()
        for delivery in queue.deliveries(timeout=0.1):  # a neighbour of the same machine sees that it is gone
            delivery.ack()
            assert delivery.message in {"slow", "next"}
    assert client.hget(keys.counters(Q), "done") == b"2"
