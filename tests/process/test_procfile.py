"""Procfile.example under a real honcho: a request becomes a greeting, TERM ends everything."""

import os
import re
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.commands import start
from tests.support.servers import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = Path(sys.executable).parent
# The real command kills after five seconds what has not stopped; on a busy machine those are not long.
HONCHO = "import honcho.manager; honcho.manager.KILL_WAIT = 60; from honcho.command import main; main()"


def accepted(url: str) -> bool:
    """Whether web took the request; it cannot until it listens, and until the server does."""
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 202)
    except urllib.error.URLError:
        return False


def test_a_request_is_greeted_by_the_worker_and_term_ends_every_process_cleanly(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        "HOTQUEUE_URL": f"redis://127.0.0.1:{free_port()}/0",
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", HONCHO, "-f", str(ROOT / "Procfile.example"), "start"]
    with start(*command, env=environment, cwd=tmp_path) as honcho:
        wait_until(lambda: accepted(f"http://127.0.0.1:{port}/Ada"), 30, "web takes a request")
        wait_until(lambda: "Hello, Ada!" in honcho.stdout_text(), 30, "Ada is greeted")

        honcho.signal(signal.SIGTERM)
        code = honcho.wait()
        stopped = dict(re.findall(r"(\w+)\.1 stopped \(rc=(-?\d+)\)", honcho.stdout_text()))

        assert stopped == {"web": "0", "worker": "0", "redis": "0"}, honcho.stdout_text()
        assert code == 128 + signal.SIGTERM  # what honcho always says after TERM
        assert honcho.left() == set()
