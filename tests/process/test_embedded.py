"""The private server: whose it is, how it is found again, what it survives, and that it goes in the end."""

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from hotqueue import embedded
from hotqueue.binary import find_binary
from hotqueue.datadir import DataDir
from hotqueue.embedded import Server, ensure
from hotqueue.errors import ConfigurationError
from hotqueue.loopback import address, answers
from tests.support.commands import Running, app, start
from tests.support.servers import LiveServer, free_port, fresh_server
from tests.support.waiting import wait_until

OWNER = """
    import os, signal, sys
    from pathlib import Path
    from hotqueue import embedded
    from hotqueue.embedded import ensure

    embedded._SETTLE_S = 60.0  # on a busy machine the server of another owner may need more than five seconds
    server = ensure(sys.argv[1], Path(sys.argv[2]))
    Path(sys.argv[3]).write_text(f"{server.pid if server else 0}\\n")
    while True:
        try:
            signal.pause()
        except KeyboardInterrupt:
            Path(sys.argv[3]).write_text("interrupted\\n")
"""


@pytest.fixture
def port() -> int:
    return free_port()


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    server = Server(folder, port)
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@contextmanager
def listener(port: int, greeting: bytes = b"") -> Iterator[None]:
    """Something on that port that is no Redis server."""

    def serve() -> None:
        while True:
            try:
                line, _ = door.accept()
            except OSError:
                return
            held.append(line)
            line.sendall(greeting)

    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", port)) as door:
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        door.shutdown(socket.SHUT_RDWR)
        thread.join()
    for line in held:
        line.close()


def client(port: int) -> "closing[redis.Redis]":
    return closing(redis.Redis(port=port))


def owner(tmp_path: Path, folder: Path, port: int, *shell: str) -> Running:
    """A process that asks for a server and then waits; `said` has what it got."""
    module = app(tmp_path, OWNER, "owner")
    words = (str(module), f"redis://localhost:{port}/0", str(folder), str(tmp_path / "said"))
    return start(*shell, sys.executable, *words)


def said(tmp_path: Path) -> str:
    """What the owner wrote last, once it is whole."""
    path = tmp_path / "said"
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), 30, "the owner has said something")
    return path.read_text().strip()


def killed_owner(tmp_path: Path, folder: Path, port: int) -> int:
    """Leave a server behind; return its pid."""
    with owner(tmp_path, folder, port) as process:
        pid = int(said(tmp_path))
        process.signal(signal.SIGKILL)
        process.wait()
    assert answers("127.0.0.1", port) == "redis"
    return pid


def test_what_was_stored_is_there_again_after_a_restart(private_folder: Path, port: int) -> None:
    with serving(private_folder, port), client(port) as redis_client:
        redis_client.rpush("hotqueue:q", "a", "b")
    assert answers("127.0.0.1", port) == "nothing"
    with serving(private_folder, port), client(port) as redis_client:
        assert redis_client.lrange("hotqueue:q", 0, -1) == [b"a", b"b"]


def test_the_folder_and_all_in_it_are_for_the_user_alone_and_not_for_git(
    private_folder: Path, port: int
) -> None:
    with serving(private_folder, port):
        assert private_folder.stat().st_mode & 0o777 == 0o700
        assert (private_folder / ".gitignore").read_text() == "*\n"
        assert (private_folder / "server.log").stat().st_mode & 0o777 == 0o600


def test_it_listens_on_loopback_addresses_only(private_folder: Path, port: int) -> None:
    with serving(private_folder, port), client(port) as redis_client:
        assert redis_client.config_get("bind")["bind"] == "127.0.0.1 -::1"
        assert redis_client.config_get("protected-mode")["protected-mode"] == "yes"


def test_it_listens_on_the_loopback_address_that_was_asked_for(private_folder: Path, port: int) -> None:
    server = ensure(f"redis://127.0.0.7:{port}/0", private_folder)
    assert server
    try:
        assert answers("127.0.0.7", port) == "redis"
    finally:
        server.stop()


def test_ctrl_c_to_the_group_of_the_owner_does_not_reach_the_server(
    tmp_path: Path, private_folder: Path, port: int
) -> None:
    with owner(tmp_path, private_folder, port) as process:
        pid = int(said(tmp_path))
        assert os.getsid(pid) == pid
        process.signal_group(signal.SIGINT)
        wait_until(lambda: said(tmp_path) == "interrupted", what="the owner has the signal")
        with client(port) as redis_client:
            assert redis_client.info()["process_id"] == pid


def test_a_server_started_while_term_is_blocked_obeys_term(private_folder: Path, port: int) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        server = Server(private_folder, port)
        server.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    server.wait_ready()
    server.stop(grace_s=60)
    assert "SIGTERM" in (private_folder / "server.log").read_text()


def test_a_server_that_does_not_obey_is_killed(private_folder: Path, port: int) -> None:
    with serving(private_folder, port) as server:
        os.kill(server.pid, signal.SIGSTOP)
        server.stop(grace_s=0.01)
        assert answers("127.0.0.1", port) == "nothing"


def test_it_inherits_no_descriptor_that_somebody_waits_for(private_folder: Path, port: int) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)  # noqa: FBT003 - it takes no keyword
    with serving(private_folder, port), os.fdopen(read, "rb") as end:
        os.close(write)
        assert select.select([end], [], [], 60)[0], "somebody still holds the other end"
        assert end.read() == b""


def test_a_server_left_behind_is_taken_over_with_its_data_and_stopped(
    tmp_path: Path, private_folder: Path, port: int
) -> None:
    pid = killed_owner(tmp_path, private_folder, port)
    with client(port) as redis_client:
        redis_client.rpush("hotqueue:q", "kept")
    server = ensure(f"redis://localhost:{port}/0", private_folder)
    assert server
    try:
        assert server.pid == pid
        with client(port) as redis_client:
            assert redis_client.lrange("hotqueue:q", 0, -1) == [b"kept"]
    finally:
        server.stop()
    assert answers("127.0.0.1", port) == "nothing"
    assert DataDir(private_folder).named() == (0, 0)


def test_a_server_left_behind_on_another_port_is_moved_with_its_data(
    tmp_path: Path, private_folder: Path, port: int
) -> None:
    killed_owner(tmp_path, private_folder, port)
    with client(port) as redis_client:
        redis_client.rpush("hotqueue:q", "kept")
    other = free_port()
    with serving(private_folder, other), client(other) as redis_client:
        assert answers("127.0.0.1", port) == "nothing"
        assert redis_client.lrange("hotqueue:q", 0, -1) == [b"kept"]


def test_a_second_server_never_writes_to_the_folder_of_one_left_behind_that_is_frozen(
    tmp_path: Path, private_folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = killed_owner(tmp_path, private_folder, port)
    os.kill(pid, signal.SIGSTOP)
    with monkeypatch.context() as impatient:
        impatient.setattr(embedded, "_SETTLE_S", 0.1)
        with pytest.raises(ConfigurationError, match=f"kill -9 {pid}"):
            Server(private_folder, free_port()).start()
    os.kill(pid, signal.SIGKILL)
    with serving(private_folder, port) as server:
        assert server.pid != pid


def test_a_server_whose_owner_had_all_standard_streams_closed_is_taken_over_as_well(
    tmp_path: Path, private_folder: Path, port: int
) -> None:
    closed = ("sh", "-c", '"$@" <&- >&- 2>&- & wait', "sh")
    with owner(tmp_path, private_folder, port, *closed):
        pid = int(said(tmp_path))
        assert DataDir(private_folder).lock_data() is None
        with client(port) as redis_client:
            assert redis_client.info()["process_id"] == pid


def test_the_folder_of_a_living_owner_is_refused(tmp_path: Path, private_folder: Path, port: int) -> None:
    with owner(tmp_path, private_folder, port) as process:
        pid = int(said(tmp_path))
        with pytest.raises(ConfigurationError, match="belongs to another hotqueue process"):
            Server(private_folder, free_port()).start()
        with client(port) as redis_client:
            assert redis_client.info()["process_id"] == pid
        assert process.process.poll() is None


def test_where_the_owner_of_the_folder_serves_already_nothing_is_started_or_stopped(
    private_folder: Path, port: int
) -> None:
    with serving(private_folder, port) as server:
        assert ensure(f"redis://localhost:{port}/0", private_folder) is None
        assert server.running()


def test_of_two_owners_that_start_at_once_one_has_the_server_and_both_are_served(
    tmp_path: Path, private_folder: Path, port: int
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with owner(first, private_folder, port), owner(second, private_folder, port):
        pids = {int(said(first)), int(said(second))}
        with client(port) as redis_client:
            assert pids == {0, redis_client.info()["process_id"]}


def test_the_folder_of_an_owner_that_serves_another_port_is_refused(
    private_folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_SETTLE_S", 0.1)
    with (
        serving(private_folder, port),
        pytest.raises(ConfigurationError, match="belongs to another hotqueue process"),
    ):
        ensure(f"redis://localhost:{free_port()}/0", private_folder)


def test_a_folder_used_before_is_left_free_where_somebody_else_s_redis_answers(
    server: LiveServer, private_folder: Path, port: int
) -> None:
    with serving(private_folder, port):
        pass
    assert ensure(server.url, private_folder) is None
    with serving(private_folder, port) as private:
        assert private.running()


def test_a_server_that_never_answers_is_ended_and_said_so(
    private_folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_START_S", 0.1)
    server = Server(private_folder, port)
    server.start()
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(ConfigurationError, match="did not answer"):
        server.wait_ready()
    assert not server.running()
    assert answers("127.0.0.1", port) == "nothing"


def test_somebody_else_s_redis_is_used_as_it_is(server: LiveServer, private_folder: Path) -> None:
    assert ensure(server.url, private_folder) is None
    assert not private_folder.exists()


def test_a_redis_that_wants_a_password_is_redis(tmp_path: Path) -> None:
    with fresh_server(tmp_path, requirepass="secret") as locked:
        assert answers("127.0.0.1", locked.port) == "redis"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"+OK POP3 ready\r\n", b""])
def test_a_port_taken_by_something_else_is_named(private_folder: Path, port: int, greeting: bytes) -> None:
    with listener(port, greeting):
        with pytest.raises(
            ConfigurationError, match=f"port {port} is taken by something that does not speak Redis"
        ):
            ensure(f"redis://localhost:{port}/0", private_folder)
        assert not private_folder.exists()


def test_a_port_taken_by_a_redis_of_somebody_else_is_named(server: LiveServer, private_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"port {server.port} is taken by another Redis server"):
        Server(private_folder, server.port).start()


def test_a_server_that_cannot_start_says_why_in_one_line(private_folder: Path, port: int) -> None:
    with (
        socket.socket() as bound
    ):  # it does not listen, so nobody answers, and yet nobody else may have the port
        bound.bind(("127.0.0.1", port))
        with pytest.raises(ConfigurationError, match=f"has ended: .*{port}") as error:
            ensure(f"redis://localhost:{port}/0", private_folder)
    assert "\n" not in str(error.value)
    with serving(private_folder, port) as server:
        assert server.running()


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot hold the data of a server: Not a directory"):
        Server(tmp_path / "file" / "below", port).start()


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example/0",
        "redis://10.0.0.1:6379/0",
        "rediss://localhost:6379/0",
        "unix:///tmp/redis.sock",
        "redis://:hunter2@localhost/0",
        "redis://:hunter2/x@localhost:6379/0",
    ],
)
def test_a_url_that_no_private_server_can_serve_is_refused_and_its_password_not_shown(
    url: str, private_folder: Path
) -> None:
    with pytest.raises(ConfigurationError) as error:
        ensure(url, private_folder)
    assert "hunter2" not in str(error.value)
    assert not private_folder.exists()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("localhost", 6379)),
        ("redis://localhost", ("localhost", 6379)),
        ("redis://127.0.0.9:7000/3", ("127.0.0.9", 7000)),
        ("redis://[::1]:7000", ("::1", 7000)),
    ],
)
def test_a_url_of_this_machine_gives_host_and_port(url: str, expected: tuple[str, int]) -> None:
    assert address(url) == expected


def test_without_the_extra_the_program_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == program


def test_without_any_program_the_error_says_what_to_install(
    private_folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match=r"pip install 'hotqueue\[embedded\]'"):
        ensure(f"redis://localhost:{port}/0", private_folder)
