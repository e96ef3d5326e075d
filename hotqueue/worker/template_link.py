"""The supervisor's end of a template: start it, ask it for forks, read what it reports."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from hotqueue.worker import processes, signals
from hotqueue.worker.settings import Settings


class TemplateLink:
    """One template process and the socket to it."""

    def __init__(self, settings: Settings, board: int, slots: int, *, adopting: bool) -> None:
        """Start a fresh interpreter. Its arguments are descriptors; the settings travel over the socket."""
        ours, theirs = socket.socketpair()
        environment = dict(os.environ)
        if settings.url is not None:
            environment["HOTQUEUE_URL"] = settings.url
        words = [str(word) for word in (theirs.fileno(), board, int(adopting))]
        with signals.blocked():  # until it has handlers of its own
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "hotqueue.worker.template", *words],
                pass_fds=(theirs.fileno(), board),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        theirs.close()
        self._socket = ours
        self._unread = b""
        self.is_ready = False
        self._say({"settings": settings.dump(), "slots": slots})

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor to poll for reports."""
        return self._socket.fileno()

    def fork(self, slot: int) -> None:
        """Ask for a child; the answer is a report."""
        self._say({"fork": slot})

    def reports(self) -> list[dict[str, Any]]:
        """Return what it has said since the last time, without waiting."""
        try:
            while data := self._socket.recv(65536, socket.MSG_DONTWAIT):
                self._unread += data
        except (BlockingIOError, ConnectionError):
            pass
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines]

    def ended(self, status: int) -> None:
        """Note that it was reaped."""
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._socket.close()

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""
        processes.kill(self.pid, number)

    def close(self) -> None:
        """Have it end: it sees off children that are left, then exits."""
        self._socket.close()

    def _say(self, request: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended, and that is about to be noticed
            self._socket.sendall(json.dumps(request).encode() + b"\n")
