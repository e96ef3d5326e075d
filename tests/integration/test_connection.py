"""Between a queue and its server: nothing is sent twice, and every failure says what it knows."""

import contextlib
import gc
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from hotqueue import HotQueue, HotQueueError, NotSent, OutcomeUnknown
from hotqueue.address import Address
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import ConfigurationError, Refused
from hotqueue.pool import Pool
from hotqueue.version import check_version
from tests.support.commands import app, run
from tests.support.proxy import Proxy
from tests.support.servers import LiveServer, free_port, fresh_server, kinds
from tests.support.waiting import wait_until

CUTS = ["before the request", "before the reply", "inside the reply", "freeze"]


class Alarm(Exception):
    """What a signal handler of the application raises."""


@pytest.fixture
def queue(proxy: Proxy) -> HotQueue:
    """Over the proxy, with a connection that has been used."""
    queue = HotQueue("myqueue", url=f"{proxy.url}?socket_timeout=1.5")
    queue.dequeue()
    return queue


@pytest.mark.parametrize("point", CUTS)
def test_an_enqueue_without_a_reply_is_sent_once_and_its_outcome_is_unknown(
    queue: HotQueue, proxy: Proxy, client: redis.Redis, point: Any
) -> None:
    proxy.harm(point, on=b"RPUSH")
    with pytest.raises(OutcomeUnknown, match=r"no reply from Redis at 127\.0\.0\.1:\d+/0, the command may"):
        queue.enqueue("once")
    proxy.thaw()
    arrived = 0 if point == "before the request" else 1
    wait_until(lambda: client.llen(queue.key) == arrived)
    queue.enqueue("after it")
    assert proxy.requests.count(b"RPUSH") == 2
    assert client.llen(queue.key) == arrived + 1


@pytest.mark.parametrize(
    ("block", "point"),
    [*((False, point) for point in CUTS), *((True, point) for point in CUTS if point != "freeze")],
)
def test_a_dequeue_without_a_reply_is_sent_once_and_its_outcome_is_unknown(
    queue: HotQueue, proxy: Proxy, client: redis.Redis, point: Any, *, block: bool
) -> None:
    HotQueue("myqueue", url=proxy.url).enqueue("first", "second")
    proxy.forget()
    proxy.harm(point, on=b"LPOP")
    with pytest.raises(OutcomeUnknown):
        queue.dequeue(block=block)
    proxy.thaw()
    left = ["first", "second"] if point == "before the request" else ["second"]
    wait_until(lambda: client.llen(queue.key) == len(left))
    assert proxy.requests.count(b"LPOP") == 1
    assert list(queue.consume(block=False)) == left


def test_both_errors_are_what_code_for_hotqueue_0_2_catches(queue: HotQueue, proxy: Proxy) -> None:
    proxy.harm("before the reply", on=b"RPUSH")
    for call in [queue.enqueue, HotQueue("myqueue", port=1).enqueue]:
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            call("a")
        assert isinstance(caught.value, HotQueueError)
        assert repr(caught.value) == f"{type(caught.value).__name__}({str(caught.value)!r})"
        assert "\n" not in str(caught.value)


def test_where_nobody_listens_nothing_was_sent() -> None:
    queue = HotQueue("myqueue", port=free_port())
    for call in [
        lambda: queue.enqueue("a"),
        queue.dequeue,
        queue.clear,
        lambda: len(queue),
        lambda: queue.send(1),
    ]:
        with pytest.raises(NotSent, match=r"Redis at localhost:\d+/0 is not reachable, nothing was sent"):
            call()
    with pytest.raises(NotSent):
        next(queue.consume())


def test_a_producer_waits_two_seconds_at_most_for_each_step_unless_told_otherwise() -> None:
    made = Pool(Address.from_url("redis://localhost")).take()._redis
    assert (made.socket_connect_timeout, made.socket_timeout) == (2.0, 2.0)
    address = HotQueue("myqueue", socket_timeout=7, socket_connect_timeout=None).address
    made = Pool(address).take()._redis
    assert made.socket_timeout == 7


def test_a_message_that_was_not_sent_to_its_end_was_not_enqueued(
    queue: HotQueue, proxy: Proxy, client: redis.Redis
) -> None:
    proxy.harm("freeze", on=b"RPUSH")
    with pytest.raises(NotSent, match="nothing was sent: Timeout writing"):
        queue.enqueue(b"x" * 50_000_000)
    proxy.thaw()
    queue.enqueue("next")
    assert [queue.dequeue(), client.llen(queue.key)] == ["next", 0]


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        ([b":1", b"2\r", b"\n"], None),
        ([b"-OOM no", b" room\r\n"], ("OOM", NotSent)),
        ([b":1"], (None, OutcomeUnknown)),
    ],
    ids=["number", "error", "cut"],
)
def test_a_reply_that_comes_in_pieces_is_read_to_its_end(pieces: list[bytes], ends: Any) -> None:
    with _answering(*pieces) as queue:
        if ends is None:
            queue.enqueue("a")
        else:
            with pytest.raises(ends[1]) as caught:
                queue.enqueue("a")
            assert getattr(caught.value, "code", None) == ends[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK\r\n", b"$-1\r\n", b"$3\r\nabc\r\n", b"*1\r\n:1\r\n", b":one\r\n", b":\r\n", b"\r\n",
        b":1\r\n:2\r\n", b"-ERR one\r\n-ERR two\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\xff\r\n",
        b"-" + b"x" * 1_000_000,
    ],
)  # fmt: skip
def test_whoever_answers_what_a_push_is_not_answered_with_may_have_done_it(answer: bytes) -> None:
    with _answering(answer) as queue, pytest.raises(OutcomeUnknown, match="may or may not have been run"):
        queue.enqueue("a")


@contextlib.contextmanager
def _answering(*pieces: bytes) -> Iterator[HotQueue]:
    """A queue on a server that gives this answer to the first command, and then hangs up."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(ConnectionError):
            client.recv(1000)
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,))
        serving.start()
        yield HotQueue("myqueue", port=listener.getsockname()[1])
        serving.join()


def test_a_server_that_answers_nothing_costs_a_producer_one_timeout(proxy: Proxy) -> None:
    queue = HotQueue("myqueue", url=proxy.url)
    proxy.harm("freeze", on=b"RPUSH")
    with pytest.raises(OutcomeUnknown, match="Timeout reading"):
        queue.enqueue("a")
    assert proxy.requests.count(b"RPUSH") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_a_server_that_accepts_no_connection_is_given_up() -> None:
    with socket.socket() as deaf, contextlib.ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(2):  # those fill its backlog; the next connection gets no answer at all
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(deaf.getsockname())
        queue = HotQueue("myqueue", port=deaf.getsockname()[1], host="127.0.0.1")
        with pytest.raises(NotSent, match="Timeout connecting"):
            queue.enqueue("a")


def test_a_wrong_or_missing_password_is_said_and_nothing_was_sent(tmp_path: Path) -> None:
    with fresh_server(tmp_path, requirepass="right") as server:
        with pytest.raises(Refused, match=r"WRONGPASS .*: check the user and the password") as wrong:
            HotQueue("myqueue", port=server.port, password="wrong").enqueue("a")
        with pytest.raises(
            Refused, match=r"refused: NOAUTH Authentication required: give its password, in the URL"
        ) as missing:
            HotQueue("myqueue", port=server.port).enqueue("a")
        assert (wrong.value.code, missing.value.code) == ("WRONGPASS", "NOAUTH")
        assert isinstance(wrong.value, NotSent)
        queue = HotQueue("myqueue", url=f"redis://:right@localhost:{server.port}")
        queue.enqueue("a")
        assert queue.dequeue() == "a"


def test_a_missing_password_is_not_taken_for_a_server_without_a_version(tmp_path: Path) -> None:
    with fresh_server(tmp_path, requirepass="right") as server:
        connection = Connection(Address.from_url(f"redis://127.0.0.1:{server.port}"), CONSUMER_TIMEOUT_S)
        with pytest.raises(Refused, match="NOAUTH"):
            check_version(connection)
        connection.close()


def test_what_an_acl_forbids_is_said(tmp_path: Path) -> None:
    with fresh_server(tmp_path, user=["alice on >secret ~* +@all -rpush"]) as server:
        queue = HotQueue("myqueue", url=f"redis://alice:secret@127.0.0.1:{server.port}")
        assert queue.dequeue() is None
        with pytest.raises(Refused, match=r"NOPERM.*rpush") as caught:
            queue.enqueue("a")
        assert caught.value.code == "NOPERM"
        assert queue.dequeue() is None


def test_who_may_not_use_client_unblock_still_waits_for_messages(tmp_path: Path) -> None:
    with fresh_server(tmp_path, user=["alice on >secret ~* +@all -client"]) as server:
        queue = HotQueue("myqueue", url=f"redis://alice:secret@127.0.0.1:{server.port}")
        messages = queue.consume()
        thread = threading.Thread(
            target=lambda: (wait_until(lambda: server.info["blocked_clients"]), queue.enqueue("came later"))
        )
        thread.start()
        assert next(messages) == "came later"
        thread.join()


def test_an_interruption_while_connecting_leaves_no_half_open_connection(tmp_path: Path) -> None:
    class Provider(redis.CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str]:
            self.asked += 1
            if self.asked == 1:
                raise Alarm
            return ("right",)

    with fresh_server(tmp_path, requirepass="right") as server:
        queue = HotQueue("myqueue", port=server.port, credential_provider=Provider())
        with pytest.raises(Alarm):
            queue.enqueue("a")
        queue.enqueue("b")
        assert queue.dequeue() == "b"


def test_too_many_clients_is_a_refusal_and_not_an_unknown_outcome(tmp_path: Path) -> None:
    with fresh_server(tmp_path, maxclients="1") as server:
        assert server.admin.ping()
        with pytest.raises(Refused, match="max number of clients reached"):
            HotQueue("myqueue", port=server.port).enqueue("a")


def test_a_full_server_refuses_to_enqueue_and_is_drained_by_consuming(tmp_path: Path) -> None:
    with fresh_server(tmp_path, maxmemory="8mb", maxmemory_policy="noeviction") as server:
        queue = HotQueue("myqueue", port=server.port)
        with pytest.raises(Refused, match="OOM") as caught:
            _fill(queue)
        assert caught.value.code == "OOM"
        sent = len(queue)
        assert sent > 0
        assert [number for number, _ in queue.consume(timeout=0.05)] == list(range(sent))
        queue.enqueue("room again")
        assert queue.dequeue() == "room again"


def _fill(queue: HotQueue) -> None:
    for number in range(1000):
        queue.enqueue((number, "x" * 100_000))


def test_what_is_forgotten_in_a_cycle_is_closed_whatever_is_collected_first(server: LiveServer) -> None:
    """Else its socket says, now and then and to whoever runs then, that nobody has closed it."""
    gc.collect()
    connection = Connection(Address.from_url(server.url), CONSUMER_TIMEOUT_S)
    gc.collect(0)
    connection.open()  # now the socket is in a younger generation, which is collected first
    cycle: list[Any] = [connection]
    cycle.append(cycle)
    del connection, cycle
    gc.collect()


def test_after_a_restart_of_the_server_the_next_call_just_works(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        queue = HotQueue("myqueue", port=server.port)
        queue.enqueue(*range(6))
        messages = queue.consume()
        assert next(messages) == 0
        server.restart()
        queue.enqueue(6)
        server.restart()
        assert queue.dequeue() == 1
        assert next(messages) == 2
        server.kill()
        server.start()
        assert next(messages) == 3
        assert len(queue) == 3


def test_a_server_that_became_a_replica_refuses_and_is_connected_anew(tmp_path: Path) -> None:
    with fresh_server(tmp_path) as server:
        queue = HotQueue("myqueue", port=server.port)
        queue.enqueue("a")
        before = server.info["total_connections_received"]
        server.admin.replicaof("127.0.0.1", free_port())
        with pytest.raises(Refused, match="READONLY"):
            queue.enqueue("b")
        server.admin.replicaof("NO", "ONE")
        queue.enqueue("c")
        assert server.info["total_connections_received"] == before + 1
        assert list(queue.consume(block=False)) == ["a", "c"]


def test_one_connection_serves_all_calls_of_one_thread(server: LiveServer, redis_url: str) -> None:
    queue = HotQueue("myqueue", url=redis_url)
    before = server.info["total_connections_received"]
    for number in range(20):
        queue.enqueue(number)
        assert queue.dequeue() == number
    queue.enqueue(1, 2)
    assert list(queue.consume(timeout=0.01)) == [1, 2]
    assert server.info["total_connections_received"] == before + 1


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Raise Alarm in the main thread, whatever it is doing, once a condition is true."""

    def sound(*_: object) -> None:
        raise Alarm

    def once(condition: Callable[[], object]) -> None:
        def watch() -> None:
            wait_until(condition)
            os.kill(os.getpid(), signal.SIGUSR1)

        threads.append(threading.Thread(target=watch))
        threads[-1].start()

    threads: list[threading.Thread] = []
    before = signal.signal(signal.SIGUSR1, sound)
    yield once
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, before)


def test_the_reply_to_an_interrupted_call_is_not_given_to_the_next(
    queue: HotQueue, proxy: Proxy, alarm: Callable[[Callable[[], object]], None]
) -> None:
    queue.enqueue("may be lost")
    proxy.forget()
    proxy.harm("freeze", on=b"LPOP")
    alarm(lambda: b"LPOP" in proxy.requests)
    with pytest.raises(Alarm):
        queue.dequeue()
    proxy.thaw()
    assert len(queue) in {0, 1}
    queue.clear()
    queue.enqueue("next")
    assert queue.dequeue() == "next"


def test_an_interrupted_wait_does_not_go_on_behind_the_next_call(
    queue: HotQueue, server: LiveServer, alarm: Callable[[Callable[[], object]], None]
) -> None:
    alarm(lambda: server.admin.info("clients")["blocked_clients"])
    with pytest.raises(Alarm):
        queue.dequeue(block=True)
    queue.enqueue("next")
    assert queue.dequeue() == "next"


def test_a_message_that_was_on_its_way_when_a_wait_was_interrupted_goes_back(
    queue: HotQueue, proxy: Proxy, client: redis.Redis, alarm: Callable[[Callable[[], object]], None]
) -> None:
    def waits_and_is_served() -> bool:
        if b"BLPOP" in proxy.requests and not served:
            served.append(client.rpush(queue.key, pickle.dumps("on its way")))
        return bool(served) and client.llen(queue.key) == 0

    served: list[object] = []
    proxy.forget()
    proxy.harm("hold the reply", on=b"BLPOP")
    alarm(waits_and_is_served)
    thaw = threading.Thread(target=lambda: (wait_until(lambda: b"UNBLOCK" in proxy.requests), proxy.thaw()))
    thaw.start()
    with pytest.raises(Alarm):
        queue.dequeue(block=True)
    thaw.join()
    assert queue.dequeue() == "on its way"


FORKING = """
    import os, pickle, sys
    from hotqueue import HotQueue

    queue = HotQueue("myqueue")
    N = 500

    def work(me):
        got = []
        for number in range(N):
            queue.enqueue((me, number))
            assert queue.send((me, -number))
            assert type(len(queue)) is int
            if (message := queue.dequeue()) is not None:  # who is done first takes all there is
                got.append(message)
        return got

    queue.enqueue(("both", 0))
    messages = queue.consume(timeout=1)
    first = next(messages)
    assert first == ("both", 0)
    queue.enqueue(("both", 1))          # the pool now has a connection that both would use
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(work("child") + list(messages), pipe)
        os._exit(0)
    os.close(writing)
    mine = work("parent") + list(messages)
    with os.fdopen(reading, "rb") as pipe:
        got = mine + pickle.load(pipe)
    assert os.wait()[1] == 0
    expected = [("both", 1)] + [(me, s * n) for me in ("parent", "child") for n in range(N) for s in (1, -1)]
    assert sorted(got) == sorted(expected), (len(got), len(expected))
    print("even")
"""


def test_parent_and_child_use_one_queue_at_once_and_no_reply_is_mixed_up(
    redis_url: str, tmp_path: Path
) -> None:
    script = app(tmp_path, FORKING)
    ended = run(sys.executable, str(script), env={"HOTQUEUE_URL": redis_url})
    assert (ended.returncode, ended.stdout) == (0, "even\n"), ended.stderr


def test_eight_threads_share_one_queue_and_each_message_goes_to_one_of_them(redis_url: str) -> None:
    queue = HotQueue("myqueue", url=redis_url)
    got: list[Any] = []

    def work(me: int) -> None:
        for number in range(100):
            queue.enqueue((me, number))
            if (message := queue.dequeue()) is not None:  # another thread may have had it
                got.append(message)
        got.extend(queue.consume(timeout=0.5))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(got) == [(me, number) for me in range(8) for number in range(100)]


def test_a_reply_that_was_not_waited_for_is_given_to_nobody_else(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a message would be taken for accepted because of the reply to the one before."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    pool = Pool(Address.from_url(redis_url))
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.call("ECHO", "one")
    assert pool.call("ECHO", "two") == b"two"


def test_a_server_too_old_for_at_least_once_is_said_in_one_line(proxy: Proxy, client: redis.Redis) -> None:
    version = client.info("server")["redis_version"]
    connection = Connection(Address.from_url(proxy.url), CONSUMER_TIMEOUT_S)
    check_version(connection)
    old = "6.0.16".ljust(len(version))[: len(version)]
    proxy.lie(f"redis_version:{version}".encode(), f"redis_version:{old}".encode())
    with pytest.raises(ConfigurationError) as caught:
        check_version(connection)
    connection.close()
    assert str(caught.value) == (
        f"Redis {old} at 127.0.0.1:{proxy.port}/0 is too old for at-least-once, which needs 6.2:"
        " upgrade, or use delivery='at-most-once'"
    )


def test_a_loop_refuses_a_server_that_is_too_old_unless_at_most_once_will_do(
    proxy: Proxy, client: redis.Redis
) -> None:
    version = client.info("server")["redis_version"]
    proxy.lie(f"redis_version:{version}".encode(), f"redis_version:0{version[1:]}".encode())
    queue = HotQueue("myqueue", url=proxy.url)
    done: list[str] = []
    queue.enqueue("a")
    with pytest.raises(ConfigurationError, match="is too old for at-least-once"):
        queue.worker(done.append).run(block=False)
    with pytest.raises(ConfigurationError, match="is too old for at-least-once"):
        next(queue.deliveries(timeout=1))
    queue.worker(delivery="at-most-once")(done.append).run(block=False)
    assert done == ["a"]


def test_a_server_that_does_not_tell_its_version_is_given_a_try(tmp_path: Path) -> None:
    with fresh_server(tmp_path, user=["alice on >secret ~* +@all -info"], rename_command='INFO ""') as server:
        for user in ["alice:secret@", ""]:
            connection = Connection(Address.from_url(f"redis://{user}127.0.0.1:{server.port}"), 5.0)
            check_version(connection)
            connection.close()


@pytest.mark.parametrize(
    "address",
    [
        Address.from_url("redis://me:secret@localhost:6380/3?socket_timeout=1.5"),
        Address.from_url("rediss://localhost:6381?ssl_cert_reqs=none"),
        Address.from_url("unix:///run/redis.sock?db=2"),
        HotQueue("q", socket_keepalive_options={4: 30}, ssl=True, ssl_ca_certs=Path("/ca.pem")).address,
        HotQueue("q", client=redis.Redis(host="::1", password="secret")).address,
        HotQueue("q", unix_socket_path=Path("/run/redis.sock")).address,
    ],
    ids=repr,
)
def test_an_address_survives_the_way_to_another_process(address: Address) -> None:
    assert Address.from_portable(json.loads(json.dumps(address.portable()))) == address


def test_what_cannot_be_handed_to_another_process_is_named() -> None:
    provider = redis.UsernamePasswordCredentialProvider("me", "secret")
    with pytest.raises(
        ConfigurationError, match="credential_provider of the Redis at localhost:6379/0 is a User"
    ):
        HotQueue("myqueue", credential_provider=provider).address.portable()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Port and certificate of a server that speaks TLS; only the kind `redis` may be built with it."""
    folder = tmp_path_factory.mktemp("tls")
    if "redis" not in kinds() or not shutil.which("openssl"):
        pytest.skip("needs a redis-server and openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    port = free_port()
    settings = {
        "tls_port": str(port),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(certificate),
        "tls_auth_clients": "no",
    }
    try:
        with fresh_server(folder, "redis", **settings):
            yield port, certificate
    except AssertionError as error:
        pytest.skip(f"this redis-server has no TLS: {error}")


def test_a_queue_over_tls_works_and_waits(tls_server: tuple[int, Path]) -> None:
    port, certificate = tls_server
    queue = HotQueue("myqueue", url=f"rediss://localhost:{port}?ssl_ca_certs={certificate}")
    queue.enqueue(b"x" * 1_000_000, "b")
    assert len(queue.dequeue()) == 1_000_000
    messages = queue.consume()
    assert next(messages) == "b"
    producer = HotQueue("myqueue", host="localhost", port=port, ssl=True, ssl_ca_certs=str(certificate))
    thread = threading.Thread(target=lambda: (wait_until(lambda: _blocked(producer)), producer.enqueue("c")))
    thread.start()
    assert next(messages) == "c"
    thread.join()


def _blocked(queue: HotQueue) -> bool:
    return b"blocked_clients:0" not in queue._pool.call("INFO", "clients")


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    tls_server: tuple[int, Path],
) -> None:
    with pytest.raises(NotSent, match="CERTIFICATE_VERIFY_FAILED"):
        HotQueue("myqueue", url=f"rediss://localhost:{tls_server[0]}").enqueue("a")
