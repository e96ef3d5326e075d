"""The template: a fresh interpreter that imports the application once and forks a child when asked to.

It has no threads and no Redis. Each line on its control socket is one JSON object. It outlives its supervisor
just long enough to see the children off.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn

from hotqueue import __version__, hooks
from hotqueue.errors import HotQueueError
from hotqueue.upkeep import LEASE_MS
from hotqueue.wakeup import Wakeup
from hotqueue.worker import (
    application,
    child,
    leftovers,
    logs,
    output,
    policy,
    processes,
    signals,
    tally,
    title,
)
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.seat import Slot
from hotqueue.worker.settings import Settings
from hotqueue.worker.stacks import write_to

ORPHANS_S = LEASE_MS / 1000 - 20  # at most: then nobody renews what the children hold, and others take it
POLL_S = 0.05
_UPGRADED = "HotQueue itself has changed from version"
MOST_DESCRIPTORS = 16  # that come with what is read at once: each request has one


class StillbornError(Exception):
    """User code ended a process within its fork."""


def main() -> NoReturn:
    """Run the template; argv has two descriptors, the supervisor's pid, and whether it adopts orphans."""
    control, board, supervisor, adopting = (int(word) for word in sys.argv[1:5])
    for descriptor in (control, board):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no keyword
    with socket.socket(fileno=control) as line:
        code = Template(line, board, supervisor, adopting=bool(adopting)).run()
    sys.exit(code)


class Template:
    """Reads requests, forks, reports."""

    def __init__(self, control: socket.socket, board: int, supervisor: int, *, adopting: bool) -> None:
        """`adopting`: the supervisor becomes the parent of the children; otherwise they stay ours."""
        self._control = control
        self._board_file = board
        self._supervisor = supervisor
        self._adopting = adopting
        self._wakeup = Wakeup()
        self._own = leftovers.Own(control.fileno(), board, self._wakeup.fileno())
        self._children: dict[int, processes.Handle] = {}
        self._unread = b""
        self._stacks: deque[int] = deque()  # descriptors that came with requests not yet obeyed
        signals.for_template(self._wakeup)

    def run(self) -> int:
        """Import, report, and fork on request until the supervisor closes the socket."""
        processes.die_with(self._supervisor, signal.SIGKILL)  # an import may hang
        first = next(self._requests(), None)
        if first is None:
            return 0
        if first["version"] != __version__:  # the two would read the scoreboard in different ways
            self._say({"refused": f"{_UPGRADED} {first['version']} to {__version__}: start the worker again"})
            return 0
        self._settings = Settings.load(first["settings"])
        title.template(" ".join(self._settings.targets))
        try:
            report = self._load()
        except (HotQueueError, OSError) as error:  # the import may have left no descriptor
            self._say({"refused": str(error)})
            return 0
        processes.outlive_parent()
        self._say({"ready": report})
        for request in self._requests():
            self._fork(int(request["fork"]), int(request["ticket"]))
        self._see_off()
        hooks.run_last(hooks.STOP)
        output.flush()
        return 0

    def _load(self) -> list[dict[str, object]]:
        """Import the application, make ready to fork, and describe the handlers. Raises HotQueueError."""
        output.make_lenient()
        own = leftovers.sockets()
        settings = self._settings
        with self._own.kept():
            self._handlers = application.load(settings.targets, settings.queues)
        report = [application.describe(handler, settings) for handler in self._handlers]
        queues = [handler.queue.name for handler in self._handlers]
        self._board = Scoreboard(self._board_file, queues, settings.most_children, settings.seats)
        tally.make_room(self._board_file, len(queues), settings.most_children)
        self._tally = tally.Tally(self._board_file, queues, settings.most_children)
        logs.respect_application(settings.log_level, settings.log_format)
        if not settings.check:
            with self._own.kept():
                application.start()
        signals.for_template(self._wakeup)  # again: the application may have set its own
        processes.leave_orphans()  # likewise
        leftovers.warn(own)
        output.flush()
        gc.collect()
        gc.freeze()  # what was imported is never looked at again, so its pages stay shared with the children
        return report

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
                    data, stacks, _, _ = socket.recv_fds(self._control, 65536, MOST_DESCRIPTORS)
                except ConnectionError:
                    data, stacks = b"", []
                for descriptor in stacks:
                    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no keyword
                self._stacks.extend(stacks)
                if not data:
                    return
                self._unread += data

    def _report_ended(self) -> None:
        if self._adopting:
            return
        for ended in processes.reap():
            if self._children.pop(ended.pid, None):
                self._say({"exited": asdict(ended)})

    def _fork(self, slot: int, ticket: int) -> None:
        self._forget_ended()
        try:
            with signals.blocked():
                pid = self._fork_orphan(slot, ticket) if self._adopting else self._fork_child(slot, ticket)
                self._children[pid] = processes.Handle(pid)
        except (OSError, StillbornError) as error:
            stillborn = isinstance(error, StillbornError)
            self._say({"fork_failed": slot, "error": str(error), "stillborn": stillborn})
        else:
            self._say({"forked": slot, "pid": pid})
        finally:
            os.close(self._stacks.popleft())

    def _fork_child(self, slot: int, ticket: int, *unneeded: int) -> int:
        parent = self._supervisor if self._adopting else os.getpid()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            self._wakeup.close()
            for handle in self._children.values():
                handle.close()
            stack, *others = self._stacks
            for descriptor in (self._board_file, *others, *unneeded):
                os.close(descriptor)
            write_to(stack)
            ring = partial(processes.tell, self._supervisor, signals.CLAIMED)
            own = Slot(self._board, slot, ring)
            child.main(own, ticket, parent, self._handlers, self._settings, tally=self._tally)
        return pid

    def _fork_orphan(self, slot: int, ticket: int) -> int:
        """Fork twice: the one in between ends, and the supervisor adopts the child."""
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as answers:
            try:
                between = os.fork()
                if between == 0:
                    self._stand_between(slot, ticket, reader, writer)
            finally:
                os.close(writer)
            answer = answers.readline()
        status = processes.wait_for(between)
        if not answer:
            msg = f"the forked process ended at once with {policy.how_it_ended(status)}"
            raise StillbornError(msg)
        pid = int(answer)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _stand_between(self, slot: int, ticket: int, reader: int, writer: int) -> NoReturn:
        try:
            os.close(reader)
            answer = self._fork_child(slot, ticket, writer)
        except OSError as error:
            answer = -(error.errno or 1)
        os.write(writer, b"%d\n" % answer)
        os._exit(0)

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
        end_s = time.monotonic() + min(self._settings.shutdown_timeout, ORPHANS_S)
        while (handles := [each for each in handles if not each.has_ended]) and time.monotonic() < end_s:
            time.sleep(POLL_S)
            if not self._adopting:
                list(processes.reap())
        for handle in handles:
            handle.kill(signal.SIGKILL)

    def _say(self, report: dict[str, object]) -> None:
        with contextlib.suppress(ConnectionError):  # the supervisor is gone, and that is about to be noticed
            self._control.sendall(json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main()
