"""Procfile.example under a real honcho: a request becomes a greeting, TERM ends everything."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Honcho:
    """A running honcho; `wait_for` reads on until a line of its output matches."""

    def __init__(self, folder: Path) -> None:
        self.web_port = free_port()
        environment = os.environ | {
            "HOTQUEUE_URL": f"redis://127.0.0.1:{free_port()}/0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(self.web_port),
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "honcho",
                "-f",
                str(ROOT / "Procfile.example"),
                "-d",
                str(folder),
                "start",
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line)
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"no line matched {pattern!r} in:\n{''.join(self.output)}")

    def kill(self) -> None:
        for pid in self.pids():
            if alive(pid):
                os.killpg(pid, signal.SIGKILL)
        self.process.kill()

    def pids(self) -> list[int]:
        """The process groups that honcho started, one a line of the Procfile."""
        return [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", "".join(self.output))]


@pytest.fixture
def honcho(tmp_path: Path) -> Iterator[Honcho]:
    running = Honcho(tmp_path)
    watchdog = threading.Timer(PATIENCE_S, running.kill)
    watchdog.start()
    yield running
    watchdog.cancel()
    running.kill()
    running.process.communicate()


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_request_is_greeted_by_the_worker_and_term_ends_every_process_cleanly(honcho: Honcho) -> None:
    honcho.wait_for(r"child\.ready")
    with urllib.request.urlopen(f"http://127.0.0.1:{honcho.web_port}/Ada") as answer:
        assert answer.status == 202
    assert honcho.wait_for(r"Hello, (\w+)!")[1] == "Ada"

    honcho.process.send_signal(signal.SIGTERM)
    rest, _ = honcho.process.communicate()
    codes = dict(re.findall(r"(\w+) stopped \(rc=(-?\d+)\)", "".join(honcho.output) + rest))

    assert codes == {"web": "0", "worker": "0", "redis": "0"}
    assert honcho.process.returncode == 128 + signal.SIGTERM  # what honcho always says after TERM
    assert len(honcho.pids()) == 3
    assert not [pid for pid in honcho.pids() if alive(pid)]
