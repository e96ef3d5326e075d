"""From HotQueue 0.2 and back on one list: each claim of docs/how-to/upgrade-from-0.2.md."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, NotSent, OutcomeUnknown
from hotqueue.errors import ConfigurationError
from hotqueue.frame import is_frame
from hotqueue.retries import Reject
from tests.support.hotqueue02 import OldHotQueue
from tests.support.proxy import proxy_to
from tests.support.servers import LiveServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "upgrade-from-0.2.md"
MESSAGES = [1, "text", None, {"a": [1, 2]}, (b"\xc1", 2.5)]
TEXTS = ["text", "", "ünï", "{not json"]


@pytest.fixture
def new(redis_url: str) -> HotQueue:
    return HotQueue("myqueue", url=redis_url)


@pytest.fixture
def old(client: redis.Redis) -> OldHotQueue:
    return OldHotQueue("myqueue", client)


def test_the_first_line_says_how_to_keep_what_0_2_did() -> None:
    title, _, first, *_ = PAGE.read_text(encoding="utf-8").splitlines()
    assert title == "# Upgrade from HotQueue 0.2"
    assert '@queue.worker(delivery="at-most-once")' in first


def test_a_new_consumer_reads_what_an_old_producer_wrote(new: HotQueue, old: OldHotQueue) -> None:
    old.put(*MESSAGES)
    assert list(new.consume(block=False)) == MESSAGES


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
def test_a_new_worker_runs_what_an_old_producer_wrote(new: HotQueue, old: OldHotQueue, delivery: Any) -> None:
    done: list[object] = []
    old.put(*MESSAGES)
    new.worker(delivery=delivery)(done.append).run(block=False)
    assert done == MESSAGES


def test_every_pickle_protocol_of_an_old_producer_is_read(new: HotQueue, client: redis.Redis) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        client.rpush(new.key, pickle.dumps(("protocol", protocol), protocol))
    assert list(new.consume(block=False)) == [("protocol", n) for n in range(pickle.HIGHEST_PROTOCOL + 1)]


def test_an_old_consumer_cannot_read_a_frame_and_the_message_is_gone(new: HotQueue, old: OldHotQueue) -> None:
    new.enqueue("a frame")
    with pytest.raises(pickle.UnpicklingError):
        old.get()
    assert len(old) == 0


def test_an_old_consumer_reads_what_a_new_producer_writes_with_envelope_false(
    redis_url: str, old: OldHotQueue
) -> None:
    HotQueue("myqueue", url=redis_url, envelope=False).enqueue(*MESSAGES)
    assert [old.get() for _ in MESSAGES] == MESSAGES


def test_an_old_consumer_reads_what_a_new_producer_writes_under_hotqueue_envelope_0(
    redis_url: str, old: OldHotQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTQUEUE_ENVELOPE", "0")
    HotQueue("myqueue", url=redis_url).enqueue(*MESSAGES)
    assert [old.get() for _ in MESSAGES] == MESSAGES


@pytest.mark.parametrize(
    ("serializer", "messages"), [(json, [1, "a", {"b": [None]}]), (None, TEXTS)], ids=str
)
def test_json_and_text_are_read_both_ways_by_default(
    redis_url: str, client: redis.Redis, serializer: Any, messages: list[Any]
) -> None:
    new, old = HotQueue("myqueue", serializer, url=redis_url), OldHotQueue("myqueue", client, serializer)
    old.put(*messages)
    assert list(new.consume(block=False)) == messages
    new.enqueue(*messages)
    got = [old.get() for _ in messages]
    assert [each.decode() for each in got] == messages if serializer is None else got == messages


def test_text_comes_back_as_str_where_it_was_bytes(new: HotQueue, old: OldHotQueue) -> None:
    new.serializer = old.serializer = None
    old.put("a", "a")
    assert (old.get(), new.get()) == (b"a", "a")


@pytest.mark.parametrize("envelope", [True, False])
def test_old_and_new_consumers_on_one_list_each_get_their_share_in_order(
    redis_url: str, old: OldHotQueue, *, envelope: bool
) -> None:
    new = HotQueue("myqueue", url=redis_url, envelope=envelope)
    old.put("first")
    new.put("second")
    old.put("third")
    assert new.get() == "first"
    assert new.get() == "second"
    assert old.get() == "third"


def test_a_loop_goes_on_after_an_error_and_keeps_the_message_where_the_old_one_ended_and_lost_it(
    new: HotQueue, old: OldHotQueue, client: redis.Redis
) -> None:
    def handle(message: int) -> None:
        done.append(10 // message)

    done: list[int] = []
    old.put(1, 0, 2)
    with pytest.raises(ZeroDivisionError):
        old.worker(handle, block=False)()
    assert (done, len(old)) == ([10], 1)

    old.put(0, 5)
    new.worker(block=False, retries=0)(handle)()
    assert done == [10, 5, 2]
    (dead,) = client.zrange("{hotqueue:myqueue}:dead", 0, -1)
    assert b"ZeroDivisionError" in dead


def test_none_is_a_message_where_it_ended_the_old_loop(new: HotQueue, old: OldHotQueue) -> None:
    old.put(None, "a")
    assert list(old.consume(block=False)) == []
    old.put(None, "b")
    assert list(new.consume(block=False)) == ["a", None, "b"]


def test_a_timeout_of_zero_or_none_waits_and_others_give_up_as_ever(new: HotQueue, old: OldHotQueue) -> None:
    assert old.get(block=True, timeout=1) is None
    assert new.get(block=True, timeout=1) is None
    assert list(new.consume(timeout=1)) == []


def test_len_and_truth_mean_what_they_meant(new: HotQueue, old: OldHotQueue) -> None:
    assert (len(old), bool(old)) == (len(new), bool(new)) == (0, False)
    old.put(1, 2)
    assert (len(old), bool(old)) == (len(new), bool(new)) == (2, True)


def test_what_runs_at_least_once_is_no_longer_counted_by_len(new: HotQueue, client: redis.Redis) -> None:
    @new.worker(block=False)
    def handle(message: str) -> None:
        counted.append((len(new), sum(client.llen(key) for key in client.keys("*:inflight:*"))))

    counted: list[tuple[int, int]] = []
    new.put("a", "b")
    handle()
    assert counted == [(1, 1), (0, 1)]


def test_an_unknown_outcome_is_raised_as_an_error_that_old_code_catches(
    server: LiveServer, new: HotQueue
) -> None:
    with proxy_to(server.port) as proxy:
        queue = HotQueue("myqueue", url=proxy.url)
        proxy.harm("before the reply", on=b"RPUSH")
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            queue.put("a")
    assert isinstance(caught.value, OutcomeUnknown)
    assert len(new) == 1


def test_a_refusal_is_another_error_than_it_was(new: HotQueue, old: OldHotQueue, client: redis.Redis) -> None:
    client.set(new.key, "not a list")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        old.put("a")
    with pytest.raises(NotSent, match="WRONGTYPE"):
        new.put("a")


def test_a_name_with_a_brace_worked_and_is_refused(client: redis.Redis) -> None:
    OldHotQueue("{jobs}", client).put("a")
    with pytest.raises(ConfigurationError, match="reserved"):
        HotQueue("{jobs}")


def test_a_worker_called_with_its_message_calls_the_function(new: HotQueue) -> None:
    assert new.worker(lambda n: n * n)(3) == 9


def test_all_other_keys_begin_so_that_0_2_does_not_touch_them(new: HotQueue, client: redis.Redis) -> None:
    def handle(message: str) -> None:
        seen.update(client.keys())
        raise Reject(message)

    seen: set[bytes] = set()
    new.put("a", "b")
    new.worker(handle).run(block=False)
    seen.update(client.keys())
    seen.discard(new.key.encode())
    assert b"{hotqueue:myqueue}:dead" in seen
    assert all(key.startswith(b"{hotqueue:") for key in seen)


def test_going_back_leaves_frames_that_a_few_lines_turn_into_what_0_2_reads(
    new: HotQueue, old: OldHotQueue, redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.put("old")
    new.put("new", None)
    monkeypatch.setenv("REDIS_URL", redis_url)
    exec(_block("rewrite"), {})
    assert [is_frame(raw) for raw in client.lrange(new.key, 0, -1)] == [False] * 3
    assert [old.get() for _ in range(3)] == ["old", "new", None]


def _block(mark: str) -> str:
    """The Python block of the page that begins with a comment holding `mark`."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if mark in block.partition("\n")[0]]
    return found
