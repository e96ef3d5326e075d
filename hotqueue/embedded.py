"""A private server for development and tests, so that nobody has to install one: the extra ``embedded``."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hotqueue.binary import find_binary, spawn
from hotqueue.datadir import DataDir
from hotqueue.errors import ConfigurationError
from hotqueue.loopback import HERE, address, answers, ask, info

DEFAULT_DIR = Path(".hotqueue")
STOP_S = 5.0
_START_S = 60.0  # to read a long append-only file; a server that cannot start ends at once
_SETTLE_S = 5.0  # for somebody else's server to come up, or for one that was left behind to go
_POLL_S = 0.01


def ensure(url: str, directory: Path) -> "Server | None":
    """See to it that a server answers at `url`; if none does, start a private one with its data in a folder.

    Returns the server to `stop` in the end, started or taken over from an owner that was killed; None where
    somebody else runs the one that answers. Raises ``ConfigurationError`` if that cannot be.
    """
    host, port = address(url)
    server = Server(directory, port, host)
    deadline = time.monotonic() + _SETTLE_S
    while True:
        found = answers(host, port)
        if found == "other":
            raise ConfigurationError(_taken(port, found))
        if found == "redis":
            if not server.adopt():
                return None
            break
        # While the folder is somebody else's, their server may be about to answer us.
        if server.folder.claim() or time.monotonic() > deadline:
            server.start()
            break
        time.sleep(_POLL_S)
    server.wait_ready()
    return server


class Server:
    """One server process with one folder and one port of the loopback interface; ours until `stop`."""

    def __init__(self, directory: Path, port: int, host: str = HERE) -> None:
        """`host` is one more loopback address to listen on besides 127.0.0.1 and, where there is one, ::1."""
        self.port = port
        self.pid = 0
        self.folder = DataDir(directory)
        self._host = host
        self._is_child = False

    def start(self) -> None:
        """Start the server, or take over the one that a killed owner left behind, and do not wait for it.

        Raises ``ConfigurationError`` if folder or port are not free, or there is no program.
        """
        if not self.folder.claim():
            msg = f"{self.folder.path} belongs to another hotqueue process: use its server, or another folder"
            raise ConfigurationError(msg)
        try:
            data = self._lock_data()
            if data is not None:
                self._spawn(data)
        except BaseException:
            self.stop()
            raise

    def adopt(self) -> bool:
        """Take over the server that answers on our port if a killed owner of this folder left it behind."""
        if not self.folder.was_owned() or not self.folder.claim():
            return False
        pid, port = self._left_behind()
        if port != self.port:
            self.folder.release()
            return False
        self.pid = pid
        return True

    def ready(self) -> bool:
        """Say whether it serves. Raises ``ConfigurationError`` with the end of its log if it has ended."""
        if not self.running():
            msg = f"the server in {self.folder.path} has ended: {self.folder.last_words()}"
            raise ConfigurationError(msg)
        said = info(self.port)
        return said.get("process_id") == str(self.pid) and said.get("loading") == "0"

    def wait_ready(self) -> None:
        """Wait until it serves. Stops it and raises ``ConfigurationError`` if it does not."""
        try:
            served = _within(_START_S, self.ready)
        except BaseException:
            self.stop()
            raise
        if not served:
            self.stop(grace_s=0)
            msg = f"the server in {self.folder.path} did not answer: {self.folder.last_words()}"
            raise ConfigurationError(msg)

    def running(self) -> bool:
        """Say whether the process lives."""
        if self.pid and not (self._child_lives() if self._is_child else self._adopted_lives()):
            self.pid = 0  # from now on the number may be anybody's
        return self.pid != 0

    def clients(self) -> int:
        """Return how many clients are connected; one if it cannot be told."""
        ours = 1
        return int(info(self.port).get("connected_clients", 1 + ours)) - ours

    def stop(self, grace_s: float = STOP_S) -> None:
        """End the server, in order or after `grace_s` seconds by force. Its data stay."""
        ours = self.running()
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, STOP_S)):
            if self.running():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
                _within(patience_s, lambda: not self.running())
        if ours:
            self.folder.forget()
        self.folder.release()

    def _lock_data(self) -> int | None:
        """Return the lock on the data for a new server; None if the server that holds it is now ours."""
        deadline = time.monotonic() + _SETTLE_S
        while (data := self.folder.lock_data()) is None:
            pid, port = self._left_behind()
            if port == self.port:
                self.pid = pid
                return None
            if pid:  # on another port, where nobody would look for it
                os.kill(pid, signal.SIGTERM)
            if time.monotonic() > deadline:
                holder = self.folder.named()[0]
                msg = f"a server left behind holds {self.folder.path} and does not answer: kill -9 {holder}"
                raise ConfigurationError(msg)
            time.sleep(_POLL_S)
        return data

    def _left_behind(self) -> tuple[int, int]:
        """Return pid and port of the server that was named last; zeros if it does not serve this folder."""
        pid, port = self.folder.named()
        if not pid or info(port).get("process_id") != str(pid):
            return 0, 0
        where = b"\r\n%b\r\n" % os.fsencode(self.folder.path)
        return (pid, port) if where in ask(HERE, port, "CONFIG GET dir") else (0, 0)

    def _spawn(self, data: int) -> None:
        try:
            if (found := answers(HERE, self.port)) != "nothing":
                raise ConfigurationError(_taken(self.port, found))
            self.pid = spawn([str(find_binary()), *self._settings()], stdin=data, output=self.folder.log)
        finally:
            os.close(data)
        self._is_child = True
        self.folder.name(self.pid, self.port)

    def _settings(self) -> list[str]:
        also = "-::1" if self._host in {"localhost", HERE} else self._host
        return [
            *("--port", str(self.port), "--bind", HERE, also, "--protected-mode", "yes"),
            *(
                "--dir",
                str(self.folder.path),
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ),
        ]

    def _child_lives(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def _adopted_lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        # One that has ended can be signalled until its parent has reaped it; but it listens no more.
        return answers(HERE, self.port) != "nothing"


def _taken(port: int, by: str) -> str:
    whom = (
        "another Redis server: use that one"
        if by == "redis"
        else "something that does not speak Redis: end it"
    )
    return f"port {port} is taken by {whom}, or choose another port"


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for the condition; say whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
