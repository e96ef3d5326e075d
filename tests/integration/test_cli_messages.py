"""`hotqueue send` and `hotqueue peek`: one message in, and a look at those that come next."""

import json
import pickle
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import redis

from hotqueue import HotQueue, keys
from hotqueue.envelope import noted
from hotqueue.frame import unpack
from hotqueue.serializers import JSON
from hotqueue.trail import Trail
from tests.support.admin import MARKER, Admin, Trap
from tests.support.commands import app, run


@pytest.fixture
def admin(redis_url: str, tmp_path: Path) -> Admin:
    return Admin(redis_url, tmp_path)


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("emails", url=redis_url)


@pytest.mark.parametrize("serializer", ["pickle", "json", "text", "msgpack"])
def test_what_is_sent_is_received_whatever_the_queue_reads(
    admin: Admin, redis_url: str, serializer: str
) -> None:
    admin("send", "emails", '{"to": "Ada", "n": [1, 2.5, null, true]}')
    assert HotQueue("emails", serializer, url=redis_url).dequeue() == {"to": "Ada", "n": [1, 2.5, None, True]}


def test_the_id_that_is_printed_is_that_of_the_frame(
    admin: Admin, queue: HotQueue, client: redis.Redis
) -> None:
    message_id = admin("send", "emails", "1", "--header", "tenant=5", "--header", "trace=a=b").strip()
    frame = unpack(client.lindex(queue.key, 0))
    assert frame.message_id.hex() == message_id.replace("-", "")
    assert frame.serializer == JSON
    assert json.loads(frame.headers) == {"tenant": "5", "trace": "a=b"}


def test_it_makes_the_queue_known(admin: Admin, client: redis.Redis) -> None:
    admin("send", "emails", "1")
    assert client.smembers(keys.QUEUES) == {b"emails"}


def test_a_dash_is_stdin(admin: Admin, queue: HotQueue) -> None:
    argv = [sys.executable, "-m", "hotqueue", "send", "emails", "-"]
    subprocess.run(argv, env=admin.env, input='["ünï"]\n'.encode(), check=True)
    assert queue.dequeue() == ["ünï"]
    sent = subprocess.run(argv, env=admin.env, input=b"\xff\xfe\xfd", capture_output=True, check=False)
    assert sent.returncode == 2
    assert sent.stderr.startswith(b"hotqueue: not JSON")


def test_it_goes_where_it_is_told(admin: Admin, queue: HotQueue) -> None:
    queue.enqueue("first")
    admin("send", "emails", '"front"', "--front")
    admin("send", "emails", '"later"', "--delay", "10m")
    assert queue.stats().delayed == 1
    assert [queue.dequeue(), queue.dequeue(), queue.dequeue()] == ["front", "first", None]


def test_a_unique_key_takes_one_message(admin: Admin, queue: HotQueue) -> None:
    first = admin("send", "emails", "1", "--unique", "k")
    assert admin("send", "emails", "2", "--unique", "k") == first
    assert len(queue) == 1


def test_with_a_secret_it_is_signed(redis_url: str, tmp_path: Path) -> None:
    Admin(redis_url, tmp_path, {"HOTQUEUE_SECRET": "k" * 32})("send", "emails", "1")
    assert HotQueue("emails", url=redis_url, secret="k" * 32, strict=True).dequeue() == 1


@pytest.mark.parametrize("text", ["hello", "", "{", "NaN", "[Infinity]", "{'a': 1}", "[" * 100_000, "1 2"])
def test_what_is_not_json_is_not_sent(admin: Admin, queue: HotQueue, text: str) -> None:
    assert "not JSON" in admin("send", "emails", text, code=2)
    assert len(queue) == 0


@pytest.mark.parametrize(
    "options",
    [["--front", "--delay", "5"], ["--header", "nothing"], ["--header", "=x"], ["--delay", "2w"],
     ["--unique", ""], ["--unique", "k", "--delay", "2h"]],
)  # fmt: skip
def test_what_contradicts_itself_is_a_mistake(admin: Admin, queue: HotQueue, options: list[str]) -> None:
    admin("send", "emails", "1", *options, code=2)
    assert queue.stats().total == 0


def test_peek_shows_the_next_and_leaves_them_there(admin: Admin, queue: HotQueue) -> None:
    ids = [queue.send(n, headers={"tenant": n}) for n in range(3)]
    shown = admin("peek", "emails", "-n", "2")
    assert [message_id in shown for message_id in ids] == [True, True, False]
    assert "attempt 1" in shown
    assert "tenant=1" in shown
    assert len(queue) == 3


def test_peek_of_an_empty_queue_says_so(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    client.sadd(keys.QUEUES, "emails")
    assert admin("peek", "emails") == "Nothing is waiting in emails.\n"
    assert admin("peek", "emails", "-j") == ""


def test_peek_tells_what_each_one_is(
    admin: Admin, redis_url: str, queue: HotQueue, client: redis.Redis
) -> None:
    queue.enqueue({"a": date(2026, 1, 2)})
    HotQueue("emails", "msgpack", url=redis_url).enqueue(1)
    HotQueue("emails", None, url=redis_url).enqueue("bare ünï")
    HotQueue("emails", "json", url=redis_url, envelope=True).enqueue({"b": 1})
    client.rpush(queue.key, b"\x00\xff", b"\xc1HQ\x01broken", "x" * 2_000_000)
    found = admin.json("peek", "emails")
    assert [each["serializer"] for each in found] == [
        "pickle",
        "msgpack",
        "bare",
        "json",
        "bare",
        "bare",
        "bare",
    ]
    texts = [each["text"] for each in found]
    assert texts[:6] == [None, None, "bare ünï", '{"b":1}', None, None]
    assert found[6]["size"] == 2_000_000
    assert texts[6] == "x" * 500 + "…"
    assert [each["id"] is None for each in found] == [False, False, True, False, True, True, True]


def test_a_long_body_is_cut_and_headers_and_trail_are_not(
    admin: Admin, redis_url: str, client: redis.Redis
) -> None:
    queue = HotQueue("emails", "json", url=redis_url)
    queue.send("é" * 400_000, headers={"tenant": 5})
    client.rpush(queue.key, noted(client.lpop(queue.key), Trail(failures=2)))
    queue.send("second")
    first, second = admin.json("peek", "emails")
    assert first["size"] == 2_400_002
    assert (first["headers"], first["attempt"]) == ({"tenant": 5}, 3)
    assert second["text"] == '"second"'


@pytest.mark.parametrize("options", [[], ["-j"]])
def test_peek_never_unpickles_unless_it_is_told_to(admin: Admin, queue: HotQueue, options: list[str]) -> None:
    queue.send(Trap())
    assert admin.cwd
    admin("peek", "emails", *options)
    assert not (admin.cwd / MARKER).exists()
    admin("peek", "emails", "--decode", *options)
    assert (admin.cwd / MARKER).exists()


def test_decode_finds_the_classes_of_the_current_folder(admin: Admin, queue: HotQueue) -> None:
    assert admin.cwd
    app(admin.cwd, "class Order:\n    def __repr__(self): return 'an order'\n", name="shop")
    queue.enqueue({"n": 1})
    source = "import shop; from hotqueue import HotQueue; HotQueue('emails').enqueue(shop.Order())"
    assert run(sys.executable, "-c", source, env=admin.env, cwd=admin.cwd).returncode == 0
    shown = admin("peek", "emails", "--decode")
    assert "{'n': 1}" in shown
    assert "an order" in shown
    assert [each["message"] for each in admin.json("peek", "emails", "--decode")] == [{"n": 1}, "an order"]


def test_what_cannot_be_decoded_does_not_stop_it(admin: Admin, queue: HotQueue, client: redis.Redis) -> None:
    client.rpush(queue.key, b"\x80\x05broken", pickle.dumps(Trap())[:-1] + b"x", b"\xff\xff")
    queue.enqueue("good")
    found = admin.json("peek", "emails", "--decode")
    assert [each["message"] for each in found] == [None, None, None, "good"]
    assert all("decode_error" in each for each in found[:3])
    assert admin("peek", "emails", "--decode").count("cannot be decoded") == 3


def test_with_a_secret_only_what_is_signed_is_decoded(admin: Admin, redis_url: str, queue: HotQueue) -> None:
    queue.send(Trap())
    HotQueue("emails", url=redis_url, secret="k" * 32).send("signed")
    assert admin.cwd
    safe = Admin(redis_url, admin.cwd, {"HOTQUEUE_SECRET": "k" * 32})
    forged, signed = safe.json("peek", "emails", "--decode")
    assert forged["message"] is None
    assert signed["message"] == "signed"
    assert not (admin.cwd / MARKER).exists()


def test_what_a_body_says_cannot_play_with_the_terminal(admin: Admin, client: redis.Redis) -> None:
    client.rpush("hotqueue:emails", b'{"a":"\x1b]0;owned\x07"}', "\u202eevil".encode())
    HotQueue("emails", "json", url=admin.env["HOTQUEUE_URL"]).send(1, headers={"x\x1b[2J": "\x9b2J"})
    for options in ([], ["-j"], ["--decode"]):
        shown = admin("peek", "emails", *options)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"}.intersection(shown)
