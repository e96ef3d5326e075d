"""A worker, by default of four children, that a benchmark starts, looks at and stops."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.server import Server

CHILDREN = 4
_FOLDER = Path(__file__).resolve().parents[1]
_PATIENCE_S = 60.0


class Worker:
    """One run of `hotqueue-worker`; times are those of the monotonic clock."""

    def __init__(self, server: Server, *options: str, target: str, children: int) -> None:
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hotqueue.worker",
                target,
                f"-c{children}",
                "-lerror",
                "-u",
                server.url,
                *options,
            ],
            cwd=_FOLDER,
            stdin=subprocess.DEVNULL,
        )

    def stop(self) -> tuple[float, float]:
        """Send TERM; return when that was, and when the worker was gone."""
        sent_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_PATIENCE_S)
        ended_s = time.monotonic()
        if code:
            msg = f"the worker ended with code {code}"
            raise SystemExit(msg)
        return sent_s, ended_s

    def members(self) -> dict[str, int]:
        """Return the pids of supervisor, template and children."""
        found = {"supervisor": self.process.pid}
        for pid in _descendants(self.process.pid):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().split()
            if title[:1] == ["hotqueue:"]:
                found["template" if title[1] == "template" else f"child {title[2]}"] = pid
        return found


def wait_until_idle(server: Server, consumers: int = CHILDREN) -> None:
    """Wait until so many wait for messages."""
    with server.client() as client:
        end = time.monotonic() + _PATIENCE_S
        while client.info("clients")["blocked_clients"] != consumers:
            if time.monotonic() > end:
                msg = "the children did not come up"
                raise SystemExit(msg)
            time.sleep(0.01)


@contextmanager
def worker(
    server: Server, *options: str, target: str = "support.timed", children: int = CHILDREN
) -> Iterator[Worker]:
    """Start one, and see to it that it is gone in the end."""
    one = Worker(server, *options, target=target, children=children)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(_PATIENCE_S)


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in map(int, children) for each in (child, *_descendants(child))]
