"""Where contenders drain a queue: all its messages are there at once, and the last one stops the watch."""

import os
import pickle
import select
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from support.noop import ENDED, QUEUE, WARM_UP
from support.server import Server
from support.stopwatch import Measure, Stopwatch

from hotqueue import HotQueue
from hotqueue.keys import key_for_name

_PATIENCE_S = 60.0
_AT_ONCE = 500  # messages enqueued in one call
_STAGED = "benchmark-staged"


class Course:
    """The queue of one server, and the pipe by which a consumer tells that it has seen the last message."""

    def __init__(self, server: Server, folder: Path, payload: int, messages: int) -> None:
        self._server = server
        self._payload = b"x" * payload
        self._messages = messages
        self._client = server.client()
        self._staged = HotQueue(_STAGED, url=server.url)
        path = folder / "ended"
        os.mkfifo(path)
        self._pipe = os.open(path, os.O_RDWR)  # also to write, so that a writer never waits for this reader
        self.environment = {ENDED: str(path), "HOTQUEUE_URL": server.url}

    def run(self, consumers: int, cpu_s: Callable[[], float], *, bare: bool) -> Measure:
        """Have `consumers` that are being started drain the queue, once to warm up and once measured."""
        self._drain(consumers, self._messages // WARM_UP, lambda: None, bare=bare)
        watch = Stopwatch(self._server.port, cpu_s)
        self._drain(consumers, self._messages, watch.press, bare=bare)
        assert watch.measure is not None
        return _without_own(watch.measure)

    def _drain(self, consumers: int, messages: int, press: Callable[[], None], *, bare: bool) -> None:
        self._fill([self._payload] * messages + [None], bare=bare)
        self.wait_until_idle(consumers)
        press()
        self._client.rename(key_for_name(_STAGED), key_for_name(QUEUE))
        if not select.select([self._pipe], [], [], _PATIENCE_S)[0]:
            msg = f"after {_PATIENCE_S:g} s nobody has seen the last message"
            raise SystemExit(msg)
        press()
        os.read(self._pipe, 1)
        self.wait_until_idle(consumers)
        if left := self._client.llen(key_for_name(QUEUE)):
            msg = f"{left} messages came after the last one"
            raise SystemExit(msg)

    def _fill(self, messages: list[bytes | None], *, bare: bool) -> None:
        for start in range(0, len(messages), _AT_ONCE):
            some = messages[start : start + _AT_ONCE]
            if bare:
                self._client.rpush(key_for_name(_STAGED), *map(pickle.dumps, some))
            else:
                self._staged.enqueue(*some)

    def wait_until_idle(self, consumers: int) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while self._client.info("clients")["blocked_clients"] != consumers:
            if time.monotonic() > end_s:
                msg = "the consumers do not wait for messages"
                raise SystemExit(msg)
            time.sleep(0.01)


def _without_own(measure: Measure) -> Measure:
    """Leave out the RENAME that started it."""
    commands = {name: calls for name, calls in measure.commands.items() if name != "rename"}
    return replace(measure, round_trips=measure.round_trips - 1, commands=commands)
