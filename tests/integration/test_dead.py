"""The dead list: looked at without skipping anything, retried in order, dropped, never lost in between."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest
import redis

from hotqueue import BadMessage, HotQueue, OutcomeUnknown, keys, queue_scripts
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.dead import DeadMessage
from hotqueue.envelope import noted
from hotqueue.errors import ConfigurationError
from hotqueue.frame import unpack, wrap
from hotqueue.trail import Trail
from tests.support.servers import LiveServer

Q = "q"
DEAD, WAITING = keys.dead(Q), keys.key_for_name(Q)
MINUTE_S = 60
THEN_MS = 1_700_000_000_000
TRAIL = Trail(failures=2).with_reason(kind="failed", error="ValueError: no", handler="work", traceback="…")


@pytest.fixture
def client(any_server: LiveServer) -> redis.Redis:
    return any_server.admin


@pytest.fixture
def queue(any_server: LiveServer, client: redis.Redis) -> HotQueue:
    return HotQueue(Q, url=any_server.url)


@pytest.fixture
def connection(queue: HotQueue) -> Iterator[Connection]:
    connection = Connection(queue.address, CONSUMER_TIMEOUT_S)
    yield connection
    connection.close()


def bury(client: redis.Redis, raw: bytes, at_ms: int = THEN_MS) -> bytes:
    buried = noted(raw, TRAIL)
    client.zadd(DEAD, {buried: at_ms})
    return buried


def kill(queue: HotQueue, client: redis.Redis, *messages: object, step_ms: int = 1) -> list[str]:
    """Send messages, and have them lie in the dead list instead, each `step_ms` after the one before."""
    ids = []
    for number, message in enumerate(messages):
        ids.append(queue.send(message))
        bury(client, client.rpop(WAITING), THEN_MS + number * step_ms)
    return ids


def ids_of(messages: Iterator[DeadMessage]) -> list[str]:
    return [message.id for message in messages]


def test_it_is_iterated_from_the_oldest_burial_and_backwards_from_the_newest(
    queue: HotQueue, client: redis.Redis
) -> None:
    ids = kill(queue, client, "a", "b", "c")
    assert ids_of(iter(queue.dead)) == ids
    assert ids_of(reversed(queue.dead)) == ids[::-1]
    assert len(queue.dead) == 3


def test_an_entry_says_why_and_when_it_was_buried_and_decodes_only_when_asked(
    queue: HotQueue, client: redis.Redis
) -> None:
    (message_id,) = kill(queue, client, {"n": 1})
    (entry,) = queue.dead
    assert (entry.id, entry.queue, entry.is_bare) == (message_id, Q, False)
    assert entry.buried_at == datetime.fromtimestamp(THEN_MS / 1000, UTC)
    assert entry.trail.failures == 2
    assert entry.reason["error"] == "ValueError: no"
    assert queue.dead.decode(entry) == {"n": 1}


def test_what_cannot_be_decoded_can_still_be_looked_at(queue: HotQueue, client: redis.Redis) -> None:
    bury(client, wrap(b"garbage"))
    (entry,) = queue.dead
    assert entry.frame.body == b"garbage"
    with pytest.raises(BadMessage):
        queue.dead.decode(entry)


def test_since_leaves_out_what_was_buried_before(queue: HotQueue, client: redis.Redis) -> None:
    ids = kill(queue, client, "a", "b", "c", step_ms=1000)
    assert ids_of(queue.dead.since(datetime.fromtimestamp(THEN_MS / 1000 + 1, UTC))) == ids[1:]


def test_what_is_buried_while_one_looks_is_left_out(queue: HotQueue, client: redis.Redis) -> None:
    ids = kill(queue, client, *range(3))
    looking = iter(queue.dead)
    seen = [next(looking).id]
    client.zadd(DEAD, {noted(wrap(b"later"), TRAIL): int(time.time() * 1000)})
    assert seen + ids_of(looking) == ids


@pytest.mark.parametrize("step_ms", [0, 1], ids=["all in one millisecond", "one a millisecond"])
@pytest.mark.parametrize("backwards", [False, True])
def test_nothing_is_skipped_or_seen_twice_while_entries_are_taken_out(
    queue: HotQueue,
    client: redis.Redis,
    step_ms: int,
    backwards: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    frames = {noted(wrap(b"%d" % n), TRAIL): THEN_MS + n * step_ms for n in range(1700)}
    client.zadd(DEAD, frames)
    seen = []
    for number, entry in enumerate(reversed(queue.dead) if backwards else queue.dead):
        seen.append(entry.raw)
        if number % 3:
            client.zrem(DEAD, *seen[-1:])
    in_order = sorted(frames, key=lambda raw: (frames[raw], raw), reverse=backwards)
    assert seen == in_order


def test_a_look_is_bounded_by_bytes(queue: HotQueue, client: redis.Redis, connection: Connection) -> None:
    kill(queue, client, *(b"x" * 700_000 for _ in range(4)))
    assert len(queue_scripts.dead_page(connection, Q, "up", "-inf", None)) == 2
    assert len(ids_of(iter(queue.dead))) == 4


def test_one_is_found_by_its_id_wherever_it_lies(queue: HotQueue, client: redis.Redis) -> None:
    (oldest,) = kill(queue, client, "oldest")
    client.zadd(DEAD, {noted(wrap(b"%d" % n), TRAIL): THEN_MS + 1 + n for n in range(2500)})
    (newest,) = islice(reversed(queue.dead), 1)
    for message_id in (oldest, newest.id):
        found = queue.dead.get(message_id)
        assert found is not None
        assert found.id == message_id


@pytest.mark.parametrize("unknown", ["0192f0c1-7a3b-7c4d-8e5f-0123456789ab", "no id", ""])
def test_an_unknown_id_is_none(queue: HotQueue, client: redis.Redis, unknown: str) -> None:
    kill(queue, client, "a")
    assert queue.dead.get(unknown) is None


@pytest.mark.parametrize("wrong", [7, b"id", ["id"]], ids=repr)
def test_an_id_that_is_no_text_is_refused_in_one_line(queue: HotQueue, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^dead\.get\(\) takes the id of a message, .*; got .*$"):
        queue.dead.get(wrong)


@pytest.mark.parametrize("wrong", ["id", 7, [None], False], ids=repr)
@pytest.mark.parametrize("act", ["retry", "drop"])
def test_what_is_no_dead_message_is_refused_in_one_line(queue: HotQueue, act: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^give one or several of queue\.dead, .*; got .*$"):
        getattr(queue.dead, act)(wrong)


def test_to_retry_all_puts_them_at_the_tail_in_order_with_fresh_counters_and_their_ids(
    queue: HotQueue, client: redis.Redis
) -> None:
    ids = kill(queue, client, *range(250))
    first = queue.send("was waiting")
    assert queue.dead.retry() == 250
    frames = [unpack(raw) for raw in client.lrange(WAITING, 0, -1)]
    assert {Trail.load(frame.trail).attempt for frame in frames} == {1}
    assert [Trail.load(frame.trail).revived > THEN_MS for frame in frames] == [False] + [True] * 250
    assert [queue.dequeue() for _ in range(251)] == ["was waiting", *range(250)]
    assert len(queue.dead) == 0
    assert first not in ids


def test_to_retry_all_ends_although_they_are_buried_again_at_an_earlier_time(
    queue: HotQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a jump of the server's clock, by workers whose handler still fails."""
    kill(queue, client, "a", "b", "c")
    retry_oldest = queue_scripts.dead_retry_oldest

    def and_bury_them(*args: Any) -> int:
        moved = retry_oldest(*args)
        client.zadd(DEAD, dict.fromkeys(client.lrange(WAITING, 0, -1), 1))
        client.delete(WAITING)
        return moved

    monkeypatch.setattr(queue_scripts, "dead_retry_oldest", and_bury_them)
    assert queue.dead.retry() == 3
    assert len(queue.dead) == 3


def test_to_retry_all_leaves_out_what_is_buried_meanwhile_though_others_take_some_out(
    queue: HotQueue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(queue, client, "a", "b")
    retry_oldest = queue_scripts.dead_retry_oldest

    def after_others(*args: Any) -> int:
        monkeypatch.undo()
        client.zpopmin(DEAD)
        bury(client, b"new", THEN_MS + 1000)
        return retry_oldest(*args)

    monkeypatch.setattr(queue_scripts, "dead_retry_oldest", after_others)
    assert queue.dead.retry() == 1
    assert queue.dequeue() == "b"
    assert len(queue.dead) == 1


def test_a_retried_frame_is_byte_for_byte_what_was_sent_and_says_behind_it_when_it_was_retried(
    any_server: LiveServer, client: redis.Redis
) -> None:
    queue = HotQueue(Q, url=any_server.url, secret="k" * 32, strict=True)
    queue.send("signed", headers={"tenant": 5})
    sent = client.rpop(WAITING)
    bury(client, sent)
    assert queue.dead.retry() == 1
    (retried,) = client.lrange(WAITING, 0, -1)
    assert re.fullmatch(re.escape(sent) + rb'{"revived":\d{13}}', retried)
    assert queue.dequeue() == "signed"


@pytest.mark.parametrize("limit", ["expires", "max_age"])
def test_what_has_expired_and_is_retried_has_its_time_once_more(
    queue: HotQueue, client: redis.Redis, limit: str
) -> None:
    ran: list[object] = []
    handler = queue.worker(**({"max_age": MINUTE_S} if limit == "max_age" else {}))(ran.append)
    queue.send("late", **({"expires": MINUTE_S} if limit == "expires" else {}))
    sent = client.rpop(WAITING)
    client.rpush(WAITING, sent[:8] + THEN_MS.to_bytes(6) + sent[14:])  # an id of long ago
    handler.run(block=False)
    assert [entry.reason["kind"] for entry in queue.dead] == ["expired"]
    assert queue.dead.retry() == 1
    handler.run(block=False)
    assert ran == ["late"]
    assert len(queue.dead) == 0


@pytest.mark.parametrize("body", [b"bare", b"", b"\xc1HQ\x01cut", b"\xc1HQ\x07" + bytes(40)])
def test_a_body_that_came_bare_or_broken_goes_back_as_it_came(
    queue: HotQueue, client: redis.Redis, body: bytes
) -> None:
    bury(client, body)
    (entry,) = queue.dead
    assert entry.is_bare
    assert queue.dead.retry(entry) == 1
    assert client.lrange(WAITING, 0, -1) == [body]


@pytest.mark.parametrize("raw", [b"", b"x", b"\xc1HQ", b"\xc1HQ\x01" + b"\xff" * 60])
def test_what_somebody_else_put_there_goes_back_as_it_lies(
    queue: HotQueue, client: redis.Redis, raw: bytes
) -> None:
    client.zadd(DEAD, {raw: THEN_MS})
    assert [entry.raw for entry in queue.dead] == [raw]
    assert queue.dead.retry(queue.dead) == 1
    assert client.lrange(WAITING, 0, -1) == [raw]


def test_those_chosen_are_retried_and_counted_once(queue: HotQueue, client: redis.Redis) -> None:
    kill(queue, client, *range(10))
    even = [entry for entry in queue.dead if queue.dead.decode(entry) in range(0, 10, 2)]
    assert queue.dead.retry(even) == 5
    assert queue.dead.retry(even) == 0
    assert [queue.dequeue() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(queue.dead) == 5


def test_entries_may_be_retried_while_one_looks_at_them(queue: HotQueue, client: redis.Redis) -> None:
    kill(queue, client, *range(1200), step_ms=0)
    assert queue.dead.retry(entry for entry in queue.dead if entry.reason["handler"] == "work") == 1200
    assert sorted(queue.dequeue() for _ in range(1200)) == list(range(1200))


def test_to_drop_deletes_one_or_some_or_all(queue: HotQueue, client: redis.Redis) -> None:
    kill(queue, client, *range(6))
    first, second, third, *_ = queue.dead
    assert queue.dead.drop(first) == 1
    assert queue.dead.drop([first, second, third]) == 2
    assert queue.dead.drop() == 3
    assert (len(queue.dead), len(queue)) == (0, 0)


def test_a_retry_that_cannot_push_loses_nothing(queue: HotQueue, client: redis.Redis) -> None:
    ids = kill(queue, client, "a", "b")
    client.set(WAITING, "not a list")
    with pytest.raises(OutcomeUnknown):
        queue.dead.retry()
    assert ids_of(iter(queue.dead)) == ids


def test_a_full_server_can_be_relieved(queue: HotQueue, client: redis.Redis) -> None:
    kill(queue, client, *range(4))
    client.config_set("maxmemory", 1)
    try:
        assert queue.dead.retry() == 4
    finally:
        client.config_set("maxmemory", 0)
    assert len(queue) == 4
