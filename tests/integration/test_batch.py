"""`queue.batch()`: what it holds goes out in one command, and a command that fails is accounted for."""

import os
import signal
import threading
from typing import Any

import pytest

from hotqueue import BadMessage, HotQueue, NotSent, OutcomeUnknown
from hotqueue.batch import Batch
from hotqueue.envelope import id_of
from hotqueue.errors import (
    BatchFull,
    BatchNotSent,
    BatchOutcomeUnknown,
    ConfigurationError,
    Full,
    TooLarge,
)
from tests.support.proxy import Proxy
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

LONG_S = 3600


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("q", url=redis_url)


def waiting(queue: HotQueue) -> list[Any]:
    return list(queue.consume(block=False))


def pushes(server: LiveServer) -> int:
    return int(server.info.get("cmdstat_rpush", {"calls": 0})["calls"])


def test_what_is_sent_in_a_block_is_enqueued_in_order_by_one_command(
    queue: HotQueue, server: LiveServer
) -> None:
    before = pushes(server)
    with queue.batch(seconds=LONG_S) as batch:
        for number in range(100):
            batch.send(number)
        batch.enqueue(100, 101)
        assert (len(batch), len(queue)) == (102, 0)
    assert pushes(server) == before + 1
    assert (len(batch), batch.accepted) == (0, 102)
    assert waiting(queue) == list(range(102))


def test_send_returns_the_id_and_headers_go_with_the_message(queue: HotQueue) -> None:
    with queue.batch() as batch:
        message_id = batch.send("a", headers={"tenant": 7})
    for delivery in queue.deliveries(timeout=0.05):
        assert (delivery.message, delivery.id, dict(delivery.headers)) == ("a", message_id, {"tenant": 7})
        delivery.ack()
    assert queue.stats().done == 1


def test_what_has_expired_is_not_run(queue: HotQueue) -> None:
    with queue.batch() as batch:
        batch.send("a", expires=0)
    assert list(queue.deliveries(timeout=0.05)) == []
    assert [dead.reason["kind"] for dead in queue.dead] == ["expired"]


@pytest.mark.parametrize(
    ("limits", "left"),
    [({"count": 4}, 1), ({"bytes": 200}, 1), ({"seconds": 0}, 0), ({}, 5)],
    ids=["count", "bytes", "seconds", "none is reached"],
)
def test_a_batch_goes_out_as_soon_as_a_limit_is_reached(
    queue: HotQueue, limits: dict[str, Any], left: int
) -> None:
    batch = queue.batch(**({"seconds": LONG_S} | limits))
    for number in range(5):
        batch.send(bytes([number]) * 20)  # a frame of 60 bytes or so
    assert (len(batch), len(queue)) == (left, 5 - left)


def test_no_thread_watches_the_time_the_next_send_does(
    queue: HotQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    batch = queue.batch(seconds=2)
    batch.send("a")
    now_s = 1.9
    batch.send("b")
    assert len(batch) == 2
    now_s = 2.0
    batch.send("c")
    assert len(batch) == 0
    now_s = 100.0
    batch.send("d")  # its time begins now
    assert len(batch) == 1


def test_a_block_that_raises_has_sent_what_it_sent(queue: HotQueue) -> None:
    with pytest.raises(ZeroDivisionError), queue.batch() as batch:  # noqa: PT012 - the block is the point
        batch.send("a")
        batch.send(1 / 0)
    assert waiting(queue) == ["a"]


def test_a_message_that_cannot_be_sent_is_not_held_and_spoils_no_other(queue: HotQueue) -> None:
    with queue.batch() as batch:
        batch.send("a")
        with pytest.raises(BadMessage):
            batch.send(lambda: None)
        with pytest.raises(BadMessage):
            batch.enqueue("b", lambda: None)
    assert waiting(queue) == ["a"]


def test_a_queue_that_writes_bare_bodies_gets_them_from_enqueue_and_no_send(redis_url: str) -> None:
    bare = HotQueue("q", "json", url=redis_url, envelope=False)
    with bare.batch() as batch:
        batch.enqueue({"a": 1})
        with pytest.raises(ConfigurationError, match="envelope=False"):
            batch.send({"a": 2})
    assert waiting(bare) == [{"a": 1}]


@pytest.mark.parametrize(
    "terms",
    [{"delay": 5}, {"at": None}, {"unique": "a"}, {"front": True}, {"durable": True}],
    ids=lambda terms: next(iter(terms)),
)
def test_what_a_batch_cannot_do_is_refused_in_one_line(queue: HotQueue, terms: Any) -> None:
    batch = queue.batch()
    with pytest.raises(ConfigurationError, match=rf"use queue.send\(\) for {next(iter(terms))}="):
        batch.send("a", **terms)
    assert len(batch) == 0


@pytest.mark.parametrize(
    "limits", [{"count": 0}, {"count": 1.5}, {"bytes": 0}, {"bytes": True}, {"seconds": -1}], ids=str
)
def test_limits_that_make_no_sense_are_refused(queue: HotQueue, limits: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(limits))):
        queue.batch(**limits)


# What failed


def filled(queue: HotQueue) -> tuple[Batch, list[str]]:
    """A batch of which two messages are accepted, and the ids of three that it holds."""
    batch = queue.batch(seconds=LONG_S)
    batch.enqueue("a", "b")
    batch.flush()
    return batch, [batch.send(message) for message in "cde"]


def test_a_batch_that_was_cut_before_it_arrived_is_unknown_and_not_sent_again(
    proxy: Proxy, queue: HotQueue
) -> None:
    batch, ids = filled(HotQueue("q", url=proxy.url))
    proxy.harm("before the request", on=b"RPUSH")
    with pytest.raises(OutcomeUnknown) as caught:
        batch.flush()
    assert isinstance(caught.value, BatchOutcomeUnknown)
    assert (list(caught.value.ids), caught.value.accepted) == (ids, 2)
    batch.flush()
    assert waiting(queue) == ["a", "b"], "nobody can know, so nothing is sent again"


def test_a_batch_whose_reply_was_cut_is_unknown_and_not_sent_again(proxy: Proxy, queue: HotQueue) -> None:
    batch = HotQueue("q", url=proxy.url).batch()
    ids = [batch.send(message) for message in "abc"]
    proxy.harm("before the reply", on=b"RPUSH")
    with pytest.raises(BatchOutcomeUnknown) as caught, batch:
        pass
    assert list(caught.value.ids) == ids
    assert (caught.value.accepted, batch.accepted, len(batch)) == (0, 0, 0)
    assert "3 messages of a batch after 0 that were accepted" in str(caught.value)
    assert waiting(queue) == ["a", "b", "c"]


def test_what_an_interrupted_command_may_have_sent_is_told_and_not_sent_again(
    proxy: Proxy, queue: HotQueue
) -> None:
    batch, ids = filled(HotQueue("q", url=proxy.url))
    proxy.forget()
    proxy.harm("hold the reply", on=b"RPUSH")

    def interrupt() -> None:
        wait_until(lambda: b"RPUSH" in proxy.requests)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught, batch:
        batch.flush()
    thread.join()
    proxy.thaw()
    unknown = caught.value.__cause__
    assert isinstance(unknown, BatchOutcomeUnknown)
    assert (list(unknown.ids), unknown.accepted, batch.accepted, len(batch)) == (ids, 2, 2, 0)
    assert str(unknown).startswith("3 messages of a batch after 2 that were accepted: all may have been sent")
    batch.send("f")
    batch.flush()
    assert waiting(queue) == ["a", "b", "c", "d", "e", "f"]


def test_what_was_not_sent_is_held_and_goes_out_once_when_redis_is_back(tmp_path: Any) -> None:
    with fresh_server(tmp_path) as server:
        queue = HotQueue("q", url=server.url)
        batch, ids = filled(queue)
        server.stop()
        for _ in range(2):
            with pytest.raises(NotSent) as caught:
                batch.flush()
            assert isinstance(caught.value, BatchNotSent)
            assert (list(caught.value.ids), caught.value.accepted, len(batch)) == (ids, 2, 3)
        server.start()  # it has lost the first two: it keeps nothing on disk
        batch.send("f")
        batch.flush()
        assert waiting(queue) == ["c", "d", "e", "f"]


def test_a_block_that_ends_by_its_own_failure_does_not_try_again(proxy: Proxy, redis_url: str) -> None:
    sender = HotQueue("q", url=proxy.url)
    len(sender)
    proxy.close()
    with pytest.raises(BatchNotSent) as caught, sender.batch(count=2) as batch:
        batch.enqueue("a", "b")
    assert caught.value.__context__ is caught.value.__cause__
    assert len(batch) == 2


def test_bare_bodies_have_no_ids(proxy: Proxy, redis_url: str) -> None:
    batch = HotQueue("q", "json", url=proxy.url).batch()
    batch.enqueue(1, 2)
    proxy.harm("before the reply", on=b"RPUSH")
    with pytest.raises(BatchOutcomeUnknown) as caught:
        batch.flush()
    assert caught.value.ids == (None, None)


def test_where_there_is_no_room_for_all_none_is_sent_and_all_are_held(redis_url: str) -> None:
    small = HotQueue("q", url=redis_url, max_length=4)
    batch, ids = filled(small)
    with pytest.raises(Full, match="holds 2 messages, its max_length is 4") as caught:
        batch.flush()
    assert isinstance(caught.value, BatchFull)
    assert (list(caught.value.ids), len(small)) == (ids, 2)
    small.dequeue()
    batch.flush()
    assert waiting(small) == ["b", "c", "d", "e"]


def test_a_fork_does_not_send_what_its_parent_holds(queue: HotQueue) -> None:
    with queue.batch() as batch:
        batch.send("parent's")
        child = os.fork()
        if not child:
            try:
                batch.send("child's")
                batch.flush()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert waiting(queue) == ["child's", "parent's"]


def test_the_ids_that_an_error_names_are_those_of_the_frames(redis_url: str) -> None:
    queue = HotQueue("q", url=redis_url)
    with queue.batch() as batch:
        message_id = batch.send("a")
    assert id_of(queue._pool.call("LINDEX", "hotqueue:q", 0)) == message_id


def test_too_large_is_told_at_once(redis_url: str) -> None:
    queue = HotQueue("q", url=redis_url, max_size=50)
    with queue.batch() as batch, pytest.raises(TooLarge):
        batch.send("x" * 51)
    assert (len(batch), len(queue)) == (0, 0)
