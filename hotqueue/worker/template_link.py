"""The supervisor's end of a template: start it, ask it for forks, read what it reports, end it."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from hotqueue.wakeup import Wakeup
from hotqueue.worker import processes, signals
from hotqueue.worker.settings import Settings

END_S = 2.0
POLL_S = 0.05


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
        self.is_ready = False
        self._say({"settings": settings.dump()})

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    @property
    def lived_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started_s

    def fileno(self) -> int:
        """Return the descriptor to poll for reports."""
        return self._socket.fileno()

    def fork(self, slot: int, ticket: int) -> None:
        """Ask for a child; the answer is a report."""
        self._say({"fork": slot, "ticket": ticket})

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

    def kill(self) -> None:
        """Kill it."""
        processes.kill(self.pid, signal.SIGKILL)

    def end(self, wakeup: Wakeup) -> None:
        """Have it end, and reap it; `wakeup` wakes at each SIGCHLD."""
        self._socket.close()
        if not self.is_ready:  # it imports, and has no ear for us
            self.kill()
        kill_s = time.monotonic() + END_S
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        while self.pid not in dict(processes.reap()) and time.monotonic() < kill_s + END_S:
            if time.monotonic() > kill_s:
                self.kill()
            poll.poll(POLL_S * 1000)
            wakeup.drain()
        self._process.returncode = 0  # it is reaped, or will never be

    def _say(self, request: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended, and that is about to be noticed
            self._socket.sendall(json.dumps(request).encode() + b"\n")
