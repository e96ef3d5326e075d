"""How fast one process drains a queue whose messages need no work, beside a plain BLPOP loop of redis-py."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from support import placement
from support.noop import QUEUE, handler, presser, work
from support.options import parser
from support.report import Contender, alternately, print_commands, print_table, print_versions
from support.server import Server, private_server
from support.stopwatch import Measure, Stopwatch

from hotqueue import HotQueue
from hotqueue.handler import Mode

_AT_ONCE = 500  # messages enqueued in one call
_WORKER_S = 120.0
_LOGGED = ("--log-level", "info", "--log-format", "json")
_QUIET = ("--log-level", "error")


def main() -> None:
    options = parser(__doc__, messages=5000).parse_args()
    with private_server(options.server, options.aof) as server:
        print_versions(server.version, options.aof, f"{options.messages} messages of {options.payload} bytes")
        messages = work(options.payload, options.messages)
        contenders = _contenders(server, messages)
        counts = dict.fromkeys(contenders, options.messages)
        for where in placement.possible():
            with placement.placed(where, server.pid):
                measures = alternately(contenders, options.rounds)
            print_table(f"server and client: {where}", measures, counts, "msg")
        print_commands(measures, counts, "message")


def _contenders(server: Server, messages: list[bytes | None]) -> dict[str, Contender]:
    return {
        "redis-py, BLPOP loop": partial(_plain_loop, server, messages),
        "own loop, at-most-once": partial(_own_loop, server, messages, "at-most-once"),
        "own loop, at-least-once": partial(_own_loop, server, messages, "at-least-once"),
        "worker, at-most-once": partial(_worker, server, messages, "at-most-once", _QUIET),
        "worker, at-most-once, logged": partial(_worker, server, messages, "at-most-once", _LOGGED),
        "worker, at-least-once": partial(_worker, server, messages, "at-least-once", _QUIET),
        "worker, at-least-once, logged": partial(_worker, server, messages, "at-least-once", _LOGGED),
    }


def _plain_loop(server: Server, messages: list[bytes | None]) -> Measure:
    """As one would write it by hand: pop, unpickle, call."""
    watch = Stopwatch(server.port)
    no_op = presser(watch)
    with server.client() as client:
        for start in range(0, len(messages), _AT_ONCE):
            client.rpush(QUEUE, *map(pickle.dumps, messages[start : start + _AT_ONCE]))
        while watch.measure is None:
            _, body = client.blpop(QUEUE)
            no_op(pickle.loads(body))
    return watch.measure


def _own_loop(server: Server, messages: list[bytes | None], delivery: Mode) -> Measure:
    _enqueue(server, messages)
    watch = Stopwatch(server.port)
    handler(server.url, delivery, presser(watch)).run(block=False)
    return _measured(watch.measure, f"own loop, {delivery}")


def _worker(
    server: Server, messages: list[bytes | None], delivery: Mode, logs: tuple[str, ...]
) -> Measure:  # fmt: skip
    """One child, until nothing is left. Its child measures, so that starting and stopping do not count."""
    _enqueue(server, messages)
    command = [sys.executable, "-m", "hotqueue.worker", "support.application:drain"]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        told = {
            "BENCHMARK_URL": server.url,
            "BENCHMARK_DELIVERY": delivery,
            "BENCHMARK_RESULT": str(result),
        }
        subprocess.run(
            [*command, "--url", server.url, "--concurrency", "1", "--burst", *logs],
            cwd=Path(__file__).parent,
            env={**os.environ, **told},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if logs is _LOGGED else None,
            timeout=_WORKER_S,
            check=True,
        )
        found = json.loads(result.read_text()) if result.exists() else None
    return _measured(found and Measure(**found), f"worker, {delivery}")


def _enqueue(server: Server, messages: list[bytes | None]) -> None:
    queue = HotQueue(QUEUE, url=server.url)
    for start in range(0, len(messages), _AT_ONCE):
        queue.enqueue(*messages[start : start + _AT_ONCE])


def _measured(measure: Measure | None, contender: str) -> Measure:
    if measure is None:
        msg = f"{contender} ended before it had gone through all messages"
        raise SystemExit(msg)
    return measure


if __name__ == "__main__":
    main()
