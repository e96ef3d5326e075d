"""The supervisor's end of a template: start it, ask it for forks, read what it reports, have it end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from hotqueue import __version__
from hotqueue.worker import processes, signals
from hotqueue.worker.settings import Settings

END_S = 5.0


class TemplateLink:
    """One template process and the socket to it."""

    def __init__(self, settings: Settings, board: int, *, adopting: bool) -> None:
        """Start a fresh interpreter. Its arguments are numbers; the settings travel over the socket.

        Raises OSError if the kernel refuses.
        """
        ours, theirs = socket.socketpair()
        environment = dict(os.environ)
        if settings.url is not None:
            environment["HOTQUEUE_URL"] = settings.url
        words = [str(word) for word in (theirs.fileno(), board, os.getpid(), int(adopting))]
        try:
            with signals.blocked():  # until it has handlers of its own
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    # -P: a queue.py in the current folder is the application's, not what we import
                    [sys.executable, "-P", "-m", "hotqueue.worker.template", *words],
                    pass_fds=(theirs.fileno(), board),
                    stdin=subprocess.DEVNULL,
                    env=environment,
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._unread = b""
        self._started_s = time.monotonic()
        self._kill_s = 0.0
        self.import_s: float | None = None  # how long it took to become ready
        self.is_ready = False
        self.is_closed = False
        self.has_ended = False
        self.is_late = False  # with its end, for a hook of the application's
        self._say({"settings": settings.dump(), "version": __version__})

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    @property
    def lived_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started_s

    @property
    def can_fork(self) -> bool:
        """Whether it has imported the application, and nobody has ended it."""
        return self.is_ready and not self.is_closed

    def fileno(self) -> int:
        """Return the descriptor to poll for reports, -1 once it is closed."""
        return self._socket.fileno()

    def fork(self, slot: int, ticket: int, stack: int) -> None:
        """Ask for a child, which gets the descriptor `stack`; the answer is a report."""
        self._say({"fork": slot, "ticket": ticket}, stack)

    def reports(self) -> list[dict[str, Any]]:
        """Return what it has said since the last time, without waiting."""
        if self.is_closed:
            return []
        try:
            while data := self._socket.recv(65536, socket.MSG_DONTWAIT):
                self._unread += data
        except (BlockingIOError, ConnectionError):
            pass
        *lines, self._unread = self._unread.split(b"\n")
        reports: list[dict[str, Any]] = []
        for line in lines:
            with contextlib.suppress(ValueError):  # user code may have written there
                reports.append(json.loads(line))
        if not self.is_ready and any("ready" in report for report in reports):
            self.is_ready, self.import_s = True, self.lived_s
        return reports

    def ended(self, status: int) -> None:
        """Note that it was reaped."""
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.is_late = self.is_late and os.WIFSIGNALED(status)
        self._socket.close()
        self.is_closed = self.has_ended = True

    def kill(self) -> None:
        """Kill it."""
        if not self.has_ended:
            processes.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Have it end; call this again until it has. It must have no children: it would see them off."""
        if not self.is_closed:
            self.is_closed = True
            self._socket.close()
            # While it imports, it has no ear for us.
            self._kill_s = time.monotonic() + (END_S if self.is_ready else 0.0)
        if not self.has_ended and time.monotonic() >= self._kill_s:
            self.is_late = self.is_ready
            self.kill()

    def _say(self, request: dict[str, object], *descriptors: int) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended, and that is about to be noticed
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], descriptors)
