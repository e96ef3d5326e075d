"""`hotqueue server`: it serves, waits for its clients when it is stopped, and leaves nothing but the data."""

import os
import re
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest
import redis

from hotqueue import __version__
from hotqueue.loopback import answers
from tests.support.commands import Running, run, start
from tests.support.servers import LiveServer, free_port
from tests.support.waiting import wait_until


@pytest.fixture
def port() -> int:
    return free_port()


def server_command(folder: Path, port: int, *options: str) -> Running:
    return start("hotqueue", "server", str(folder), "--port", str(port), *options)


def is_serving(command: Running, port: int) -> None:
    wait_until(lambda: "serving" in command.stderr_text(), 30, "the server is announced")
    assert answers("127.0.0.1", port) == "redis"


def client(port: int) -> "closing[redis.Redis]":
    return closing(redis.Redis(port=port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_stop_is_clean_leaves_no_process_and_the_data_are_there_again(
    private_folder: Path, port: int, number: signal.Signals
) -> None:
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        with client(port) as redis_client:
            redis_client.rpush("hotqueue:q", "kept")
        command.signal(number)
        assert command.wait() == 0
        assert command.left() == set()
        assert answers("127.0.0.1", port) == "nothing"
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        with client(port) as redis_client:
            assert redis_client.lrange("hotqueue:q", 0, -1) == [b"kept"]


def test_it_waits_for_a_client_that_has_still_something_to_settle(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port, "--grace", "60") as command:
        is_serving(command, port)
        with client(port) as redis_client:
            redis_client.ping()
            command.signal(signal.SIGTERM)
            wait_until(lambda: "1 connected" in command.stderr_text(), what="it says that it waits")
            assert redis_client.rpush("hotqueue:q", "settled") == 1
        assert command.wait() == 0


def test_ctrl_c_and_the_term_that_follows_it_at_once_are_one_wish(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port, "--grace", "60") as command:
        is_serving(command, port)
        with client(port) as redis_client:
            redis_client.ping()
            command.signal_group(signal.SIGINT)
            command.signal(signal.SIGTERM)
            wait_until(lambda: "1 connected" in command.stderr_text(), what="it says that it waits")
            assert redis_client.ping()
        assert command.wait() == 0


def test_a_client_that_stays_is_not_waited_for_beyond_the_grace(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port, "--grace", "0.1") as command, client(port) as redis_client:
        is_serving(command, port)
        redis_client.ping()
        command.signal(signal.SIGTERM)
        assert command.wait() == 0
        assert answers("127.0.0.1", port) == "nothing"


def test_who_asks_again_is_not_kept_waiting(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port, "--grace", "600") as command, client(port) as redis_client:
        is_serving(command, port)
        redis_client.ping()

        def asked_until_gone() -> bool:
            command.signal(signal.SIGINT)
            return command.process.poll() is not None

        wait_until(asked_until_gone, 30, "it has stopped")
        assert command.wait() == 0
        assert command.left() == set()


def test_a_server_whose_command_was_killed_is_taken_over_by_the_next(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        with client(port) as redis_client:
            redis_client.rpush("hotqueue:q", "kept")
            pid = redis_client.info()["process_id"]
        command.signal(signal.SIGKILL)
        command.wait()
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        with client(port) as redis_client:
            assert redis_client.info()["process_id"] == pid
            assert redis_client.lrange("hotqueue:q", 0, -1) == [b"kept"]
        command.signal(signal.SIGTERM)
        assert command.wait() == 0
    assert answers("127.0.0.1", port) == "nothing"


def test_a_server_that_ends_by_itself_is_a_failure_with_its_last_words(
    private_folder: Path, port: int
) -> None:
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        with client(port) as redis_client:
            os.kill(redis_client.info()["process_id"], signal.SIGTERM)
        assert command.wait() == 1
        assert re.search(
            r"^hotqueue: the server in .* has ended by itself: .+$", command.stderr_text(), re.MULTILINE
        )


def test_a_port_that_is_taken_is_one_line_and_code_2(server: LiveServer, private_folder: Path) -> None:
    done = run("hotqueue", "server", str(private_folder), "--port", str(server.port))
    assert done.returncode == 2
    expected = f"port {server.port} is taken by another Redis server: use that one, or choose another port"
    assert done.stderr == f"hotqueue: {expected}\n"


def test_a_folder_in_use_is_one_line_and_code_2(private_folder: Path, port: int) -> None:
    with server_command(private_folder, port) as command:
        is_serving(command, port)
        done = run("hotqueue", "server", str(private_folder), "--port", str(free_port()))
    assert done.returncode == 2
    assert re.fullmatch(r"hotqueue: .* belongs to another hotqueue process: .*\n", done.stderr)


def test_a_folder_that_is_gone_from_under_it_is_one_line_and_code_2(tmp_path: Path, port: int) -> None:
    (tmp_path / "gone").mkdir()
    command = f'cd gone && rmdir ../gone && exec "$0" -m hotqueue server --port {port}'
    done = run("sh", "-c", command, sys.executable, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "hotqueue: there is no folder .hotqueue: it was started in one that is gone\n"


def test_without_a_port_it_is_where_hotqueue_url_says(private_folder: Path, port: int) -> None:
    url = f"redis://localhost:{port}/2"
    with start("hotqueue", "server", str(private_folder), env={"HOTQUEUE_URL": url}) as command:
        is_serving(command, port)


def test_a_url_of_another_machine_is_refused(private_folder: Path) -> None:
    url = {"REDIS_URL": "redis://redis.example:6379/0"}
    done = run("hotqueue", "server", str(private_folder), env=url)
    assert done.returncode == 2
    assert done.stderr == (
        "hotqueue: a private server serves redis:// URLs of this machine only, not redis://redis.example\n"
    )


def test_the_variables_of_a_kubernetes_service_named_hotqueue_mean_nothing(
    private_folder: Path, port: int
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        injected = {
            "HOTQUEUE_SERVER_PORT": f"tcp://10.0.0.1:{bound.getsockname()[1]}",
            "HOTQUEUE_VERSION": "7",
        }
        url = {"HOTQUEUE_URL": f"redis://localhost:{port}"}
        with start("hotqueue", "server", str(private_folder), env=injected | url) as command:
            is_serving(command, port)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["serve"], r"No such command 'serve'\. Did you mean 'server'\? See hotqueue --help"),
        (["frobnicate"], r"No such command 'frobnicate'\. See hotqueue --help"),
        (
            ["server", "--gracee", "1"],
            r"No such option .*--grace.* See hotqueue server --help",
        ),
        (["server", "--prt", "1"], r"No such option.*--prt.* See hotqueue server --help"),
        (["server", "--port", "0"], r"Invalid value for '--port': .* See hotqueue server --help"),
        (["pause", "x", "--for", "5y"], r".*: use 30s, 10m, 2h or 1d\. See hotqueue pause --help"),
        (["server", "--grace", "-1"], r"Invalid value for '--grace': .*"),
        (["server", sys.executable], r"Invalid value for '\[DIR\]': .*"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(words: list[str], expected: str) -> None:
    done = run("hotqueue", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"hotqueue: {expected}\n", done.stderr)


def test_the_version_and_the_help_are_on_stdout() -> None:
    assert run("hotqueue", "--version").stdout == f"hotqueue {__version__}\n"
    alone = run("hotqueue")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == run("hotqueue", "-h").stdout
    assert "server" in alone.stdout
