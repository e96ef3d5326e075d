"""Hundreds of real files through one queue: `python -m examples.demo`, or `make demo`.

Puts the path of every text of this repository and of Python's own library on a queue, lets
`hotqueue-worker` go through them with four children, and says what came out. The server is a private one, on
a port of its own and in a temporary folder: whatever else runs on this machine is not touched.
"""

import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.demo.report import report
from examples.demo.tasks import results, texts
from hotqueue import embedded

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(sysconfig.get_path("stdlib"))
TEXTS = {".lua", ".md", ".py", ".toml", ".yml"}
SKIPPED = {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site", "site-packages", "test"}
PORTS = range(10_000, 32_000)  # above the system's own services, below what outgoing connections get


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # all of them stop the demo as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="hotqueue-demo-") as folder:
        port = free_port()
        url = f"redis://127.0.0.1:{port}/0"
        os.environ["HOTQUEUE_URL"] = url
        os.environ.pop("DJANGO_SETTINGS_MODULE", None)  # of some other project

        paths = [*texts_below(ROOT), *texts_below(LIBRARY)]
        with server(url, folder):
            texts.enqueue(*paths)
            say(f"{len(texts):,} files are waiting in {texts.key}, on a private server at port {port}", "")

        code = work("examples.demo.tasks", "--concurrency", "4", "--burst", "--embedded", folder)

        with server(url, folder):  # another server with the same data
            done, waiting = len(results), len(texts)
            say("", *report(results.consume(block=False)))
            if waiting:
                say(f"stopped early: {waiting:,} files are still waiting")
    return code or int(done < len(paths))


def texts_below(top: Path) -> Iterator[str]:
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if name not in SKIPPED and not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix in TEXTS:
                yield str(Path(folder, name))


def free_port() -> int:
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def server(url: str, folder: str) -> Iterator[None]:
    private = embedded.ensure(url, Path(folder))
    try:
        yield
    finally:
        if private is not None:
            private.stop()


def work(*arguments: str) -> int:
    """Run hotqueue-worker to its end. Ctrl-C reaches it as well: it stops in order, and we wait for that."""
    say(f"$ {shlex.join(['hotqueue-worker', *arguments])}".replace(" --embedded", " \\\n    --embedded"))
    command = [sys.executable, "-m", "hotqueue.worker", *arguments]
    worker = subprocess.Popen(command, cwd=ROOT)  # noqa: S603 - our own command
    while True:
        try:
            return worker.wait()
        except KeyboardInterrupt:
            worker.terminate()


def say(*lines: str) -> None:
    """Print at once. Whoever reads may have left, as `head` does; the demo still ends in order."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
