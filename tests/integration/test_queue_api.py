"""A queue as its user meets it, in both published generations of the API."""

import gc
import json
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis

import hotqueue
from hotqueue import BadMessage, HotQueue, OutcomeUnknown, key_for_name
from hotqueue.errors import ConfigurationError, TooLarge
from hotqueue.frame import is_frame, pack
from hotqueue.serializers import PICKLE
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

COLOURS = ["blue", "green", "yellow", "red"]
MESSAGES = [1, 2.5, "text", b"bytes", None, True, [1, [2]], {"a": {"b": None}}, (1, 2), {3, 4}]


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("myqueue", url=redis_url)


def calls(server: LiveServer, command: str) -> int:
    """How often the server has run it since `config_resetstat`."""
    return int(server.admin.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def blocked(server: LiveServer) -> Callable[[], bool]:
    """A condition: somebody waits in a blocking command."""
    return lambda: server.admin.info("clients")["blocked_clients"] > 0


@pytest.mark.parametrize(("put", "get"), [("enqueue", "dequeue"), ("put", "get")])
def test_messages_come_out_in_the_order_in_which_they_went_in(queue: HotQueue, put: str, get: str) -> None:
    for colour in COLOURS:
        assert getattr(queue, put)(colour) is None
    assert [getattr(queue, get)() for _ in COLOURS] == COLOURS
    assert getattr(queue, get)() is None


def test_a_message_comes_out_as_it_went_in(queue: HotQueue) -> None:
    queue.enqueue(*MESSAGES)
    assert list(queue.consume(block=False)) == MESSAGES


def test_many_messages_are_enqueued_by_one_command(queue: HotQueue, server: LiveServer) -> None:
    server.admin.config_resetstat()
    queue.enqueue(*range(1000))
    assert calls(server, "rpush") == 1
    assert list(queue.consume(block=False)) == list(range(1000))


def test_to_enqueue_nothing_does_nothing_even_without_a_server() -> None:
    assert HotQueue("myqueue", port=1).enqueue() is None


def test_a_queued_none_is_a_message(queue: HotQueue) -> None:
    queue.enqueue(None, "after it")
    assert list(queue.consume(block=False)) == [None, "after it"]


def test_a_queued_none_and_an_empty_queue_look_the_same_to_dequeue_but_not_to_len(queue: HotQueue) -> None:
    queue.enqueue(None)
    assert len(queue) == 1
    assert queue.dequeue() is None
    assert len(queue) == 0
    assert queue.dequeue() is None


def test_len_counts_what_waits_and_an_empty_queue_is_falsy(queue: HotQueue) -> None:
    assert not queue
    queue.enqueue("a", "b")
    assert len(queue) == 2
    assert queue


def test_clear_deletes_what_waits(queue: HotQueue) -> None:
    queue.enqueue(*COLOURS)
    assert queue.clear() is None
    assert len(queue) == 0


def test_the_key_follows_from_the_name(queue: HotQueue, client: redis.Redis) -> None:
    assert queue.key == key_for_name("myqueue") == "hotqueue:myqueue"
    queue.enqueue("a")
    assert client.llen("hotqueue:myqueue") == 1


def test_a_blocking_dequeue_returns_when_a_message_comes(queue: HotQueue, server: LiveServer) -> None:
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.append(queue.dequeue(block=True)))
    thread.start()
    wait_until(blocked(server))
    queue.enqueue("at last")
    thread.join(60)
    assert received == ["at last"]


def test_a_blocking_dequeue_gives_up_after_its_timeout(queue: HotQueue) -> None:
    assert queue.dequeue(block=True, timeout=0.05) is None
    assert queue.get(True, 0.05) is None


def test_what_is_there_is_handed_out_however_short_the_timeout(queue: HotQueue) -> None:
    """As on a machine so slow that the time is over before Redis was asked."""
    queue.enqueue("a", "b")
    assert queue.dequeue(block=True, timeout=1e-9) == "a"
    assert next(queue.consume(timeout=1e-9)) == "b"


WAITS: list[Callable[[HotQueue, Any], object]] = [
    lambda queue, timeout: queue.dequeue(block=True, timeout=timeout),
    lambda queue, timeout: list(queue.consume(timeout=timeout)),
    lambda queue, timeout: list(queue.deliveries(timeout=timeout)),
    lambda queue, timeout: queue.worker(print).run(timeout=timeout),
    lambda queue, timeout: queue.worker(timeout=timeout)(print).run(),
]


@pytest.mark.parametrize("wait", WAITS, ids=["dequeue", "consume", "deliveries", "run", "worker"])
def test_a_timeout_may_be_a_timedelta_and_must_be_a_time(
    queue: HotQueue, wait: Callable[[HotQueue, Any], object]
) -> None:
    assert wait(queue, timedelta(milliseconds=1)) in (None, [])
    queue.enqueue("a")
    for wrong in (-1, "3", True):
        with pytest.raises(
            ConfigurationError, match="timeout must be seconds or a timedelta, not negative, got"
        ):
            wait(queue, wrong)
    assert len(queue) == 1


@pytest.mark.parametrize("forever", [None, 0])
def test_a_timeout_of_none_or_zero_waits_for_ever(
    queue: HotQueue, server: LiveServer, forever: float | None
) -> None:
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.extend(islice(queue.consume(timeout=forever), 2)))
    thread.start()
    wait_until(blocked(server))
    queue.enqueue("first", "second")
    thread.join(60)
    assert received == ["first", "second"]


def test_consume_yields_while_there_is_something_and_gives_up_after_idle_seconds(queue: HotQueue) -> None:
    queue.enqueue(*COLOURS)
    assert list(queue.consume(timeout=0.1)) == COLOURS


def test_consume_gets_what_comes_while_it_waits(queue: HotQueue, server: LiveServer) -> None:
    messages = queue.consume(timeout=10)
    for message in ["one", "two"]:
        producer = threading.Thread(target=lambda m=message: (wait_until(blocked(server)), queue.enqueue(m)))
        producer.start()
        assert next(messages) == message
        producer.join()
    messages.close()


def test_leaving_a_consume_loop_leaves_the_rest_in_the_queue(queue: HotQueue) -> None:
    queue.enqueue(*COLOURS)
    for colour in queue.consume():
        if colour == "green":
            break
    assert list(queue.consume(block=False)) == ["yellow", "red"]


def test_an_exception_in_a_consume_loop_does_not_bring_its_message_back(queue: HotQueue) -> None:
    queue.enqueue(*COLOURS)
    with pytest.raises(ZeroDivisionError):
        _fail_at_the_first(queue)
    assert len(queue) == 3


def _fail_at_the_first(queue: HotQueue) -> None:
    for message in queue.consume():
        raise ZeroDivisionError(message)


class Interrupting:
    """A serializer hit by Ctrl-C at the worst moment: the message is popped, the caller has it not."""

    @staticmethod
    def dumps(message: str) -> str:
        return message

    @staticmethod
    def loads(body: bytes) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_between_redis_and_the_caller_puts_the_message_back_to_the_head(queue: HotQueue) -> None:
    queue.serializer = Interrupting
    queue.enqueue("blue", "green")
    assert list(queue.consume()) == []
    with pytest.raises(KeyboardInterrupt):
        queue.dequeue(block=True)
    with pytest.raises(KeyboardInterrupt):
        queue.dequeue()
    queue.serializer = _Upper
    assert list(queue.consume(block=False)) == ["BLUE", "GREEN"]


class _Upper:
    @staticmethod
    def dumps(message: str) -> str:
        return message

    @staticmethod
    def loads(body: bytes) -> str:
        return body.decode().upper()


@pytest.mark.parametrize(
    "serializer", [json, pickle, "json", "pickle", "msgpack", _Upper, _Upper()], ids=range(7)
)
def test_a_serializer_is_a_module_a_class_an_object_or_a_name(
    redis_url: str, serializer: ModuleType | str | type
) -> None:
    queue = HotQueue("myqueue", serializer, url=redis_url)
    queue.enqueue("BLUE")
    assert queue.dequeue() == "BLUE"


def test_a_queue_that_nobody_holds_any_more_closes_its_connections_without_a_garbage_collection(
    redis_url: str, server: LiveServer
) -> None:
    def clients() -> set[str]:
        return {each["id"] for each in server.admin.client_list()}

    before = clients()
    gc.disable()
    try:
        queue = HotQueue("dropped", url=redis_url)
        queue.enqueue("a")
        assert (len(queue.dead), queue.stats().waiting, queue.get()) == (0, 1, "a")
        with queue.batch() as batch:
            batch.send("b")
        assert clients() > before
        del queue, batch
        wait_until(lambda: clients() == before)
    finally:
        gc.enable()


def test_the_serializer_may_be_assigned_at_any_time(queue: HotQueue, client: redis.Redis) -> None:
    assert queue.serializer is pickle
    queue.serializer = json
    queue.enqueue({"a": 1})
    assert queue.serializer is json
    assert client.lindex(queue.key, 0) == b'{"a":1}'
    messages = queue.consume()
    assert next(messages) == {"a": 1}
    queue.serializer = None
    queue.enqueue("plain")
    assert next(messages) == "plain"


@pytest.mark.parametrize("message", ["text", 5, 2.5, True, None, Path("a/b")])
def test_without_a_serializer_a_message_is_plain_text_and_comes_back_as_str(
    redis_url: str, client: redis.Redis, message: object
) -> None:
    queue = HotQueue("myqueue", None, url=redis_url)
    queue.enqueue(message)
    assert client.lindex(queue.key, 0) == str(message).encode()
    assert queue.dequeue() == str(message)


@pytest.mark.parametrize(
    ("serializer", "envelope", "framed"),
    [
        *[(pickle, None, True), ("msgpack", None, True), (json, None, False), (None, None, False)],
        *[(json, True, True), (None, True, True), (pickle, False, False)],
    ],
)
def test_pickle_and_msgpack_write_frames_text_and_json_do_not_unless_told_otherwise(
    redis_url: str, client: redis.Redis, serializer: Any, *, envelope: bool | None, framed: bool
) -> None:
    queue = HotQueue("myqueue", serializer, url=redis_url, envelope=envelope)
    queue.enqueue("a")
    assert is_frame(client.lindex(queue.key, 0)) is framed
    assert queue.dequeue() == "a"


@pytest.mark.parametrize(("value", "framed"), [("1", True), ("true", True), ("0", False), ("off", False)])
def test_the_variable_hotqueue_envelope_decides_where_the_argument_does_not(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, value: str, *, framed: bool
) -> None:
    monkeypatch.setenv("HOTQUEUE_ENVELOPE", value)
    queue = HotQueue("myqueue", url=redis_url)
    queue.enqueue("a")
    HotQueue("myqueue", url=redis_url, envelope=not framed).enqueue("b")
    assert [is_frame(raw) for raw in client.lrange(queue.key, 0, -1)] == [framed, not framed]
    assert list(queue.consume(block=False)) == ["a", "b"]


def test_send_returns_the_id_that_the_handler_sees_with_its_headers(queue: HotQueue) -> None:
    seen: list[Any] = []

    @queue.worker
    def note(message: object) -> None:
        seen.append((message, hotqueue.current()))

    sent = [queue.send("a", headers={"trace": "é", "n": 1}), note.send("b"), queue.enqueue("c")]
    note.run(block=False)
    assert [message for message, _ in seen] == ["a", "b", "c"]
    deliveries = [delivery for _, delivery in seen]
    assert [d.id for d in deliveries[:2]] == sent[:2]
    assert [d.headers for d in deliveries] == [{"trace": "é", "n": 1}, {}, {}]
    assert [d.attempt for d in deliveries] == [1, 1, 1]
    assert {d.queue for d in deliveries} == {"myqueue"}
    assert all(d.enqueued_at.tzinfo for d in deliveries)
    assert hotqueue.current() is None


def test_send_writes_a_frame_for_json_too_but_never_against_envelope_false(redis_url: str) -> None:
    queue = HotQueue("myqueue", json, url=redis_url)
    assert queue.send({"a": 1})
    assert queue.dequeue() == {"a": 1}
    with pytest.raises(ConfigurationError, match=r"envelope=False.*use enqueue"):
        HotQueue("myqueue", url=redis_url, envelope=False).send(1)


@pytest.mark.parametrize("headers", [{"a": object()}, {"a": float("nan")}, {"a": "\ud800"}, [1]])
def test_headers_that_are_no_json_object_are_refused_before_anything_is_sent(
    queue: HotQueue, headers: Any
) -> None:
    with pytest.raises(BadMessage, match="headers must be a JSON object"):
        queue.send("a", headers=headers)
    assert len(queue) == 0


def test_a_message_over_max_size_is_refused_and_so_is_all_that_came_with_it(redis_url: str) -> None:
    queue = HotQueue("myqueue", None, url=redis_url, max_size=10)
    with pytest.raises(TooLarge, match="11 bytes is over the limit of queue 'myqueue', 10 bytes"):
        queue.enqueue("short", "x" * 11)
    assert len(queue) == 0
    queue.enqueue("x" * 10)
    assert queue.dequeue() == "x" * 10


def test_a_message_that_cannot_be_pickled_is_refused_and_so_is_all_that_came_with_it(queue: HotQueue) -> None:
    with pytest.raises(BadMessage, match="cannot write a message of type lock as pickle") as caught:
        queue.enqueue("fine", threading.Lock())
    assert "\n" not in str(caught.value)
    assert len(queue) == 0


SECRET = "a secret of sixteen bytes or more"


def test_with_a_secret_what_was_not_signed_for_this_queue_goes_to_the_dead_list_undecoded(
    redis_url: str, client: redis.Redis
) -> None:
    queue = HotQueue("myqueue", url=redis_url, secret=SECRET)
    queue.enqueue("signed")
    HotQueue("other", url=redis_url, secret=SECRET).enqueue("for another queue")
    client.lmove("hotqueue:other", queue.key, "LEFT", "RIGHT")
    HotQueue("myqueue", url=redis_url).enqueue("unsigned")
    client.rpush(queue.key, UNREADABLE["a pickle that ends the program"])
    assert list(queue.consume(block=False)) == ["signed"]
    assert client.zcard("{hotqueue:myqueue}:dead") == 3


@pytest.mark.parametrize("headers", [b"[1]", b"{", b"\xff"], ids=repr)
def test_a_frame_whose_headers_are_no_json_object_goes_to_the_dead_list(
    queue: HotQueue, client: redis.Redis, headers: bytes
) -> None:
    client.rpush(queue.key, pack(pickle.dumps("a"), PICKLE, headers=headers))
    with pytest.raises(BadMessage, match="the headers are not"):
        queue.dequeue()
    assert client.zcard("{hotqueue:myqueue}:dead") == 1


def test_a_message_that_can_neither_be_read_nor_buried_is_said_to_be_lost(tmp_path: Path) -> None:
    class Fatal:
        dumps = staticmethod(str)

        @staticmethod
        def loads(body: bytes) -> str:
            server.kill()
            raise ValueError(body)

    with fresh_server(tmp_path) as server:
        queue = HotQueue("myqueue", Fatal, port=server.port)
        queue.enqueue("a")
        with pytest.raises(OutcomeUnknown, match="a message of queue 'myqueue' may have been lost"):
            queue.dequeue()
        server.start()


UNREADABLE = {
    "random bytes": b"\x9b\x00\xff\x13garbage",
    "an empty body": b"",
    "a frame cut short": b"\xc1HQ\x01\x01\x00",
    "a pickle whose class is gone": b"cnowhere\nGone\n.",
    "a pickle that ends the program": b"cbuiltins\nexit\n(tR.",
    "too much": b"x" * 101,
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
def test_consume_puts_what_it_cannot_read_in_the_dead_list_with_the_reason_and_goes_on(
    redis_url: str, client: redis.Redis, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    queue = HotQueue("myqueue", url=redis_url, max_size=100)
    client.rpush(queue.key, raw, raw, pickle.dumps("good"))
    if raw == UNREADABLE["a pickle that ends the program"]:
        for _ in range(2):
            with pytest.raises(SystemExit):
                next(queue.consume(block=False))
    assert list(queue.consume(block=False)) == ["good"]
    dead = client.zrange("{hotqueue:myqueue}:dead", 0, -1)
    assert len(dead) == 2
    assert all(raw in frame and b"unreadable" in frame for frame in dead)
    assert caplog.text.count("message.buried") == 2


def test_dequeue_raises_for_what_it_cannot_read_once_it_is_in_the_dead_list(
    queue: HotQueue, client: redis.Redis
) -> None:
    client.rpush(queue.key, b"garbage", pickle.dumps("good"))
    with pytest.raises(BadMessage, match="cannot read 7 bytes as pickle"):
        queue.dequeue()
    assert client.zcard("{hotqueue:myqueue}:dead") == 1
    assert queue.dequeue() == "good"


def test_what_redis_cli_pushed_is_delivered(redis_url: str, client: redis.Redis) -> None:
    client.rpush("hotqueue:myqueue", '{"from": "elsewhere"}')
    assert HotQueue("myqueue", "json", url=redis_url).dequeue() == {"from": "elsewhere"}


def test_host_port_and_db_or_a_url_or_a_client_lead_to_the_same_queue(
    server: LiveServer, redis_url: str
) -> None:
    HotQueue("myqueue", host="127.0.0.1", port=server.port, db=3).enqueue(1)
    HotQueue("myqueue", url=redis_url[:-1] + "3").enqueue(2)
    HotQueue("myqueue", client=server.client(db=3)).enqueue(3)
    assert list(HotQueue("myqueue", port=server.port, db=3).consume(block=False)) == [1, 2, 3]
    assert len(HotQueue("myqueue", url=redis_url)) == 0


def test_a_client_lends_its_settings_and_never_its_connections(server: LiveServer, redis_url: str) -> None:
    theirs = server.client(decode_responses=True, client_name="theirs")
    queue = HotQueue("myqueue", client=theirs)
    queue.enqueue(b"\xff")
    assert queue.dequeue() == b"\xff"
    assert theirs.connection_pool._available_connections == []
    named = [each for each in server.admin.client_list() if each["name"] == "theirs"]
    assert [each["cmd"] for each in named] == ["lpop"]


def test_the_variables_hotqueue_url_and_then_redis_url_are_the_default(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    HotQueue("myqueue", url=redis_url).enqueue("found")
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("HOTQUEUE_URL", "")
    assert HotQueue("myqueue").dequeue() == "found"
    HotQueue("myqueue", url=redis_url).enqueue("found")
    monkeypatch.setenv("REDIS_URL", "redis://localhost:1")
    monkeypatch.setenv("HOTQUEUE_URL", redis_url)
    assert HotQueue("myqueue").dequeue() == "found"


def test_a_unix_socket_does_by_keyword_and_by_url(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with fresh_server(tmp_path, unixsocket=str(path)):
        HotQueue("myqueue", unix_socket_path=path).enqueue("a")
        queue = HotQueue("myqueue", url=f"unix://{path}?db=0")
        assert queue.dequeue(block=True) == "a"
        assert repr(queue) == f"<HotQueue 'myqueue' at unix:{path}/0>"


BAD_ARGUMENTS = {
    "has { }: the characters": {"name": "a{b}"},
    "has ,: the characters": {"name": "a,b"},
    "must not be empty": {"name": ""},
    "has control characters": {"name": "a\0b"},
    r"'a\\nb' has control characters": {"name": "a\nb"},
    "must be a str, got bytes": {"name": b"a"},
    "not text that can be written as UTF-8": {"name": "\ud800"},
    "unknown scheme 'http'": {"url": "http://localhost"},
    "no scheme": {"url": "localhost:6379"},
    "could not be cast to integer": {"url": "redis://localhost:port"},
    "Connection is not a kind of connection": {"client": redis.asyncio.Redis()},
    "database 'jobs' is not a number": {"url": "redis://localhost/jobs"},
    r"redis\+cluster:// is not supported yet": {"url": "redis+cluster://localhost"},
    r"redis\+sentinel:// is not supported yet": {"url": "redis+sentinel://localhost"},
    "unexpected keyword argument 'hots'": {"hots": "localhost"},
    r"not a Redis URL \(it has no parameter 'socket_timeot'": {"url": "redis://localhost?socket_timeot=5"},
    "it has no parameter 'ssl_cert_reqs'": {"url": "redis://localhost?ssl_cert_reqs=none"},
    "protocol must be either 2 or 3": {"url": "redis://localhost?protocol=9"},
    "socket_timeout must be seconds, more than 0, got 0.0": {"url": "redis://localhost?socket_timeout=0"},
    "socket_timeout must be seconds, more than 0, got '3'": {"socket_timeout": "3"},
    "socket_connect_timeout must be seconds, more than 0, got -1": {"socket_connect_timeout": -1},
    "there is no port 70000": {"port": 70_000},
    "a unix socket needs a path": {"url": "unix://"},
    "invalid literal for int": {"port": "redis"},
    "give one of url=, client=": {"url": "redis://localhost", "db": 1},
    "takes a redis.Redis, not a str": {"client": "redis://localhost"},
    "serializer needs dumps and loads": {"serializer": 5},
    "unknown serializer 'xml'": {"serializer": "xml"},
    "max_size must be at least 1": {"max_size": 0},
    "cannot sign bare bodies: leave out envelope=False": {"envelope": False, "secret": "s" * 16},
}


@pytest.mark.parametrize(("said", "wrong"), BAD_ARGUMENTS.items(), ids=list(BAD_ARGUMENTS))
def test_a_wrong_argument_is_refused_in_one_line_that_names_it(said: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        HotQueue(**{"name": "myqueue", **wrong})
    assert "\n" not in str(caught.value)


def test_what_redis_py_takes_in_a_url_is_taken() -> None:
    taken = "max_connections=3&timeout=2&health_check_interval=2&retry_on_timeout=yes&decode_responses=1"
    url = f"redis://localhost/1?{taken}&protocol=3&client_name=y&socket_keepalive=1&socket_timeout=3"
    assert redis.BlockingConnectionPool.from_url(url).make_connection()
    assert HotQueue("myqueue", url=url).address.options == {
        "host": "localhost", "db": 1, "client_name": "y", "socket_timeout": 3.0,
    }  # fmt: skip


def test_a_wrong_hotqueue_envelope_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTQUEUE_ENVELOPE", "maybe")
    with pytest.raises(ConfigurationError, match="HOTQUEUE_ENVELOPE is 'maybe': use 1"):
        HotQueue("myqueue")


def test_no_password_is_shown_by_a_queue_or_its_address() -> None:
    queue = HotQueue("myqueue", url="redis://me:secret@localhost:6379/0")
    assert repr(queue) == "<HotQueue 'myqueue' at localhost:6379/0>"
    assert "secret" not in repr(queue.address)
