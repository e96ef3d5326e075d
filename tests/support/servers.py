"""Real servers for the tests: each on a free loopback port, in a folder of its own, gone with pytest.

`hotqueue.embedded` is what some of these tests test, so nothing here rests on it.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hotqueue.binary import find_binary
from tests.support.waiting import wait_until
from tests.support.watchdog import watchdog

Directives = dict[str, str | list[str]]

_DEFAULTS: Directives = {"bind": "127.0.0.1", "save": "", "appendonly": "no"}
_START_TRIES = 5
_EMPTY = '""'
# A share for each worker of pytest-xdist, and no port twice: one that was chosen may not be in use yet.
# All are below those that the system gives to outgoing connections.
_SHARE = 2000
_FIRST = 10_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 11 * _SHARE
_PORTS = iter(random.sample(range(_FIRST, _FIRST + _SHARE), _SHARE))


def kinds() -> dict[str, Path]:
    """The servers to test with: Valkey always, Redis where it is installed."""
    found = {"valkey": find_binary()}
    if path := shutil.which("redis-server"):
        found["redis"] = Path(path)
    return found


def usual_kind() -> str:
    """The kind of server for tests that do not ask for one: Valkey, or what TEST_SERVER says."""
    kind = os.environ.get("TEST_SERVER", "valkey")
    if kind not in kinds():
        msg = f"TEST_SERVER={kind} is not installed: there are {', '.join(kinds())}"
        raise pytest.UsageError(msg)
    return kind


def free_port() -> int:
    """A port nobody listens on."""
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    msg = "all ports were given out"
    raise AssertionError(msg)


class LiveServer:
    """A server process that a test may stop, kill and start again: same port, same folder."""

    def __init__(self, kind: str, folder: Path, config: Directives) -> None:
        self.kind = kind
        self.folder = folder
        self.config = _DEFAULTS | {key.replace("_", "-"): value for key, value in config.items()}
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[redis.Redis] = []
        self._admin: redis.Redis | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process, "the server is not running"
        return self._process.pid

    @property
    def info(self) -> dict[str, Any]:
        """What INFO says now."""
        return self.admin.info("everything")

    @property
    def admin(self) -> redis.Redis:
        """A client of the fixtures' own, to empty the server and to look at it."""
        self._admin = self._admin or self.client()
        return self._admin

    def client(self, **settings: Any) -> redis.Redis:
        """A client that is closed with the server; `settings` are those of `redis.Redis`."""
        client = redis.Redis(host="127.0.0.1", port=self.port, **settings)
        self._clients.append(client)
        return client

    def start(self) -> None:
        """On a port of its own choice the first time, on the same one later. Returns when it answers."""
        for _ in range(1 if self.port else _START_TRIES):
            port = self.port or free_port()
            if self._try(port):
                self.port = port
                return
        msg = f"the server did not start:\n{(self.folder / 'log').read_text()}"
        raise AssertionError(msg)

    def stop(self) -> None:
        """End it in order, with what its settings say of the data."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it and close the clients."""
        for client in self._clients:
            client.close()
        if self._process:
            self.kill()

    def _try(self, port: int) -> bool:
        lines = [
            f"{key} {value or _EMPTY}" for key, values in self.config.items() for value in _as_list(values)
        ]
        config = self.folder / "server.conf"
        config.write_text("\n".join([*lines, f"port {port}", f"dir {self.folder}", ""]))
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [kinds()[self.kind], config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        watchdog().watch(process.pid)
        wait_until(
            lambda: process.poll() is not None or _ready(port), 60, f"{self.kind} answers on port {port}"
        )
        if process.poll() is not None:
            self._end(signal.SIGKILL)
            return False
        return True

    def _end(self, number: int) -> None:
        assert self._process, "the server is not running"
        self._process.send_signal(number)
        self._process.wait(30)
        watchdog().forget(self._process.pid)
        self._process = None


def _as_list(values: str | list[str]) -> list[str]:
    return values if isinstance(values, list) else [values]


def _ready(port: int) -> bool:
    """Whether something there would serve us, or would if we had the password."""
    with redis.Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0), socket_timeout=5) as probe:
        try:
            return bool(probe.ping())
        except redis.exceptions.BusyLoadingError:
            return False
        except (redis.exceptions.AuthenticationError, redis.exceptions.ResponseError):
            return True
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            return False


@contextmanager
def fresh_server(folder: Path, kind: str | None = None, **config: str | list[str]) -> Iterator[LiveServer]:
    """A server of the test's own, to stop, kill or configure; by default one of the usual kind.

    `config` are directives of its configuration file with `_` for `-`, a list for several lines of one:
    `fresh_server(tmp_path, appendonly="yes", maxmemory="10mb", user=["alice on >secret ~* &* +@all"])`.
    """
    server = LiveServer(kind or usual_kind(), folder / f"server-{random.getrandbits(32):08x}", config)
    try:
        server.start()
        yield server
    finally:
        server.close()
