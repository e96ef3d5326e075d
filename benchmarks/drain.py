"""How fast a queue is drained whose messages need no work.

By a loop of redis-py, by HotQueue in one process, and by the worker with one child and with four.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from support.course import Course
from support.options import parser
from support.processes import cpu_s, family
from support.report import Contender, alternately, print_commands, print_table, print_versions
from support.server import private_server
from support.stopwatch import Measure

_FOLDER = Path(__file__).resolve().parent
_STOP_S = 30.0
_TERMINATED = (0, -15)
_LOOP = (sys.executable, "-m", "support.application")
_WORKER = (sys.executable, "-m", "hotqueue.worker", "--log-format", "json")


def main() -> None:
    options = parser(__doc__, messages=10_000).parse_args()
    with (
        private_server(options.server, options.aof) as server,
        tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder,
    ):
        print_versions(server.version, options.aof, f"{options.messages} messages of {options.payload} bytes")
        contenders = _contenders(Course(server, Path(folder), options.payload, options.messages))
        measures = alternately(contenders, options.rounds)
    counts = dict.fromkeys(contenders, options.messages)
    title = f"medians of {options.rounds} runs in turn; client: all processes of the contender"
    print_table(title, measures, counts, "msg")
    print_commands(measures, counts, "message")


def _contenders(course: Course) -> dict[str, Contender]:
    found: dict[str, Contender] = {
        "redis-py, BLPOP loop": partial(_run, course, (*_LOOP, "bare"), bare=True),
        "the claim script, 256 at once": partial(_run, course, (*_LOOP, "claim")),
        "queue.consume()": partial(_run, course, (*_LOOP, "consume")),
        "handler.run(), at-least-once": partial(_run, course, (*_LOOP, "run")),
    }
    for children in (1, 4):
        for mode in ("at-most-once", "at-least-once"):
            name = f"worker -c {children}, {mode}"
            found[name] = _worker(course, mode, children, "error")
            found[f"{name}, logged"] = _worker(course, mode, children, "info")
    found["worker -c 1 --prefetch 1"] = _worker(course, "at-least-once", 1, "error", "--prefetch", "1")
    return found


def _worker(course: Course, mode: str, children: int, level: str, *more: str) -> Contender:
    handler = f"support.application:{mode.replace('-', '_')}"
    command = (*_WORKER, handler, "--concurrency", str(children), "--log-level", level, *more)
    return partial(_run, course, command, consumers=children)


def _run(course: Course, command: tuple[str, ...], consumers: int = 1, *, bare: bool = False) -> Measure:
    """Log lines, if there are any, go to a file, as they would in real life."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=_FOLDER,
            env={**os.environ, **course.environment},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            measure = course.run(consumers, lambda: cpu_s(family(process.pid)), bare=bare)
        finally:
            process.terminate()
            code = process.wait(_STOP_S)
        if code not in _TERMINATED:
            log.seek(0)
            msg = f"{' '.join(command)} ended with code {code}: {log.read().decode()}"
            raise SystemExit(msg)
    return measure


if __name__ == "__main__":
    main()
