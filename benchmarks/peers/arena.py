"""One contestant at a server: its workers are started, given messages, looked at, and gone in the end."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from peers.board import Board
from peers.contestants import Contestant
from peers.environments import Unavailable, last_line, python_of
from support.processes import adopt_orphans, family
from support.server import Server

BENCHMARKS = Path(__file__).resolve().parents[1]
PAYLOAD = 100  # bytes
START_S = 60.0
STOP_S = 15.0
_POLL_S = 0.005
_DRIVER = ("-m", "peers.driver")


class Arena:
    """A folder for what a contestant notes, and the environment that its processes get."""

    def __init__(self, contestant: Contestant, server: Server, handler: str, folder: Path) -> None:
        adopt_orphans()
        self._contestant = contestant
        self._server = server
        self._python = str(python_of(contestant))
        self.notes = folder / "notes"
        self.notes.touch()
        Board.create(folder / "board")
        self.board = Board(folder / "board")
        self._log = folder / "log"
        self._sent = 0
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(BENCHMARKS),
            "BENCHMARK_URL": server.url,
            "BENCHMARK_VARIANT": contestant.variant,
            "BENCHMARK_HANDLER": handler,
            "BENCHMARK_BOARD": str(folder / "board"),
            "BENCHMARK_NOTES": str(self.notes),
            "BENCHMARK_PAYLOAD": str(PAYLOAD),
        }
        self._roots: list[subprocess.Popen[bytes]] = []

    def start(self, processes: int) -> None:
        """Start workers with so many processes in all that run messages."""
        alone = self._contestant.one_process_a_command
        for _ in range(processes if alone else 1):
            with self._log.open("ab") as log:
                argv = (
                    self._python,
                    *_DRIVER,
                    self._contestant.adapter,
                    "work",
                    str(1 if alone else processes),
                )
                self._roots.append(
                    subprocess.Popen(
                        argv,
                        cwd=BENCHMARKS,
                        env=self._environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def send(self, count: int) -> dict[str, float]:
        """Put so many messages on the queue; return what each cost that was sent alone."""
        first, self._sent = self._sent, self._sent + count
        said: dict[str, float] = self._drive("send", count, BENCHMARK_FIRST=str(first))
        return said

    def probe(self, count: int) -> list[float]:
        """Return in ms how long it took so many messages to begin, one at a time and all idle before."""
        took: list[float] = self._drive("probe", count)
        return took

    def wait(self, reached: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until then. Raises Unavailable if the workers have ended, or after so many seconds."""
        end_s = time.monotonic() + seconds
        while not reached():
            if all(root.poll() is not None for root in self._roots):
                msg = f"the worker ended: {self._last_words()}"
                raise Unavailable(msg)
            if time.monotonic() > end_s:
                msg = f"after {seconds:g} s still not {what}: {self._last_words()}"
                raise Unavailable(msg)
            time.sleep(_POLL_S)

    def members(self) -> list[int]:
        """Return all processes of the workers."""
        return [pid for root in self._roots if root.poll() is None for pid in family(root.pid)]

    def stop(self) -> None:
        """End all of them, by TERM and then by force."""
        for root in self._roots:
            root.terminate()
        end_s = time.monotonic() + STOP_S
        for root in self._roots:
            with suppress(subprocess.TimeoutExpired):
                root.wait(max(0.1, end_s - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """Kill all of them at once, as when the host is gone, and those that were being started."""
        while strays := self._strays():
            for pid in strays:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for root in self._roots:
                root.wait()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that were adopted
                    pass
        self._roots = []

    def _strays(self) -> list[int]:
        """Return all that descends from this process but the server; orphans do."""
        return [pid for pid in family(os.getpid()) if pid not in (os.getpid(), self._server.pid)]

    def _drive(self, act: str, number: int, **more: str) -> Any:
        argv = (self._python, *_DRIVER, self._contestant.adapter, act, str(number))
        ended = subprocess.run(
            argv, cwd=BENCHMARKS, env=self._environment | more, capture_output=True, text=True, check=False
        )
        if ended.returncode:
            msg = f"its producer failed: {last_line(ended.stderr)}"
            raise Unavailable(msg)
        return json.loads(ended.stdout)

    def _last_words(self) -> str:
        return last_line(self._log.read_text(errors="replace")) or "it said nothing"


@contextmanager
def arena(contestant: Contestant, server: Server, handler: str) -> Iterator[Arena]:
    """An empty server, and afterwards no process of the contestant. Raises Unavailable."""
    with server.client() as client:
        client.flushall()
        client.config_resetstat()
    with tempfile.TemporaryDirectory(prefix="hotqueue-benchmark-") as folder:
        made = Arena(contestant, server, handler, Path(folder))
        try:
            yield made
        finally:
            made.stop()
