"""The template: a fresh interpreter that imports the application once and forks a child when asked to.

It has no threads and no Redis. Each line on its control socket is one JSON object. It outlives its supervisor
just long enough to see the children off.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from hotqueue.errors import HotQueueError
from hotqueue.wakeup import Wakeup
from hotqueue.worker import application, child, logs, processes, signals, title
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.settings import Settings


def main() -> NoReturn:
    """Run the template; argv has two descriptors, and whether the supervisor adopts orphans."""
    control, board, adopting = (int(word) for word in sys.argv[1:4])
    sys.exit(Template(socket.socket(fileno=control), board, adopting=bool(adopting)).run())


class Template:
    """Reads requests, forks, reports."""

    def __init__(self, control: socket.socket, board: int, *, adopting: bool) -> None:
        """`adopting`: the supervisor becomes the parent of the children; otherwise they stay ours."""
        self._control = control
        self._board_file = board
        self._adopting = adopting
        self._supervisor = os.getppid()
        self._wakeup = Wakeup()
        self._children: dict[int, processes.Handle] = {}
        self._unread = b""
        signals.for_template(self._wakeup)
        signals.unblock()

    def run(self) -> int:
        """Import, report, and fork on request until the supervisor closes the socket."""
        first = next(self._requests())
        self._settings = Settings.load(first["settings"])
        title.template(" ".join(self._settings.targets))
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        try:
            handlers = application.load(self._settings.targets, self._settings.queues)
            report = [self._describe(handler) for handler in handlers]
        except HotQueueError as error:
            self._say({"refused": str(error)})
            return 0
        logs.respect_application(self._settings.log_level, self._settings.log_format)
        self._handlers = handlers
        self._slots = int(first["slots"])
        self._board = Scoreboard(self._board_file, [handler.queue.name for handler in handlers], self._slots)
        gc.collect()
        gc.freeze()  # what was imported is never looked at again, so its pages stay shared with the children
        self._say({"ready": report})
        for request in self._requests():
            self._fork(int(request["fork"]))
        self._see_off()
        return 0

    def _describe(self, handler: application.AnyHandler) -> dict[str, object]:
        return {
            "queue": handler.queue.name,
            "handler": handler.__name__,
            "where": handler.where,
            "delivery": handler.options.delivery,
            "address": handler.queue.address.portable(),
        }

    def _requests(self) -> Iterator[dict[str, Any]]:
        """Yield requests until the supervisor is gone; report ended children, where they are ours."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                yield json.loads(line)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wakeup.fileno() in ready:
                self._wakeup.drain()
                self._report_ended()
            if self._control.fileno() in ready:
                try:
                    data = self._control.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return
                self._unread += data

    def _report_ended(self) -> None:
        if self._adopting:
            return
        for pid, status in processes.reap():
            if self._children.pop(pid, None):
                self._say({"exited": pid, "status": status})

    def _fork(self, slot: int) -> None:
        self._forget_ended()
        with signals.blocked():
            try:
                pid = self._fork_orphan(slot) if self._adopting else self._fork_child(slot)
            except OSError as error:
                self._say({"fork_failed": slot, "error": str(error)})
                return
            if not self._adopting:
                self._children[pid] = processes.Handle(pid)
        self._say({"forked": slot, "pid": pid})

    def _fork_child(self, slot: int, *unneeded: int) -> int:
        template = os.getpid()
        pid = os.fork()
        if pid == 0:
            parent = self._supervisor if self._adopting else template
            self._control.close()
            for handle in self._children.values():
                handle.close()
            for descriptor in unneeded:
                os.close(descriptor)
            child.main(slot, parent, self._board, self._handlers, self._settings)
        return pid

    def _fork_orphan(self, slot: int) -> int:
        """Fork twice: the one in between ends, and the supervisor adopts the child."""
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            answer = b""
            try:
                os.close(reader)
                answer = b"%d\n" % self._fork_child(slot, writer)
            except OSError as error:
                answer = b"-%d\n" % (error.errno or 1)
            finally:
                os.write(writer, answer)
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            pid = int(pipe.readline() or -1)
            if pid > 0:
                self._children[pid] = processes.Handle(pid)
        processes.wait_for(between)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _forget_ended(self) -> None:
        if self._adopting:
            for pid in [pid for pid, handle in self._children.items() if handle.has_ended]:
                self._children.pop(pid).close()

    def _see_off(self) -> None:
        """The supervisor is gone: have the children finish within the grace, then kill those that do not.

        After an orderly stop none are left. Otherwise the kernel tells them of the supervisor's death, where
        it can; one that is stuck in C code or ignores it can only be ended from outside.
        """
        handles = list(self._children.values())
        for handle in handles:
            handle.kill(signal.SIGTERM)
        end = time.monotonic() + self._settings.shutdown_timeout
        while (handles := [handle for handle in handles if not handle.has_ended]) and time.monotonic() < end:
            self._report_quietly()
            time.sleep(0.05)
        for handle in handles:
            handle.kill(signal.SIGKILL)

    def _report_quietly(self) -> None:
        if not self._adopting:
            for pid, _status in processes.reap():
                self._children.pop(pid, None)

    def _say(self, report: dict[str, object]) -> None:
        self._control.sendall(json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main()
