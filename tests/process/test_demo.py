"""`make demo`: real work from end to end, whatever else runs on the machine, and nothing of it is left."""

import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.commands import start
from tests.support.processes import inhabitants, kill_all
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "examples.demo"]


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its folder; whatever server is left there is killed."""
    yield tmp_path
    kill_all(lambda: inhabitants(tmp_path))


@contextlib.contextmanager
def something_else_on_6379() -> Iterator[None]:
    """Somebody holds the port of Redis: we do, unless somebody does already."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 6379)))
        yield


def test_every_file_is_worked_on_once_by_children_while_the_port_of_redis_is_taken(temporary: Path) -> None:
    with something_else_on_6379(), start(*DEMO, env={"TMPDIR": str(temporary)}, cwd=ROOT) as demo:
        assert demo.wait(120) == 0
        said = demo.stdout_text()
        done = demo.events("message.done")
        assert demo.left() == set()

    waiting = re.match(r"([\d,]+) files are waiting", said)
    assert waiting
    number = int(waiting[1].replace(",", ""))
    assert 300 <= number == len(done) == len({event["id"] for event in done})
    rows = dict(re.findall(r"^pid (\d+) +([\d,]+) ", said, re.MULTILINE))
    assert sum(int(files.replace(",", "")) for files in rows.values()) == number
    assert set(rows) == {str(event["pid"]) for event in done}
    assert f"\n{number:,} files in " in said
    assert list(temporary.iterdir()) == []


def test_a_redis_of_the_developer_is_not_touched(temporary: Path, redis_url: str, server: LiveServer) -> None:
    server.admin.rpush("hotqueue:demo-texts", "mine")
    before = server.info["total_connections_received"]
    environment = {"TMPDIR": str(temporary), "HOTQUEUE_URL": redis_url, "REDIS_URL": redis_url}
    with start(*DEMO, env=environment, cwd=ROOT) as demo:
        assert demo.wait(120) == 0
    assert server.info["total_connections_received"] == before
    assert server.admin.lrange("hotqueue:demo-texts", 0, -1) == [b"mine"]


def test_on_a_terminal_ctrl_c_stops_it_in_order_and_it_says_how_far_it_came(temporary: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HOTQUEUE_")}
    environment |= {"TMPDIR": str(temporary), "NO_COLOR": "1"}
    demo = pexpect.spawn(
        DEMO[0], DEMO[1:], cwd=ROOT, env=environment, dimensions=(24, 80), encoding="utf-8", timeout=120
    )
    try:
        demo.expect("message.done")
        demo.sendintr()
        demo.expect("stopped early: [0-9,]+ files are still waiting\r\n")
        report = demo.before.rpartition("supervisor.stopped")[2].splitlines()[1:]
        demo.expect(pexpect.EOF)
        demo.wait()
    finally:
        demo.close(force=True)
    assert demo.exitstatus == 1
    assert any(line.startswith("together ") for line in report), report
    assert max(map(len, report)) <= 80
    assert list(temporary.iterdir()) == []


def test_term_stops_it_and_leaves_nothing(temporary: Path) -> None:
    with start(*DEMO, env={"TMPDIR": str(temporary)}, cwd=ROOT) as demo:
        wait_until(lambda: demo.events("message.done"), 60, "work is under way")
        demo.signal(signal.SIGTERM)
        assert demo.wait(60) in {0, 1}  # 0 if it was done before the signal came
        assert "Traceback" not in demo.stderr_text()
        assert demo.left() == set()
    assert list(temporary.iterdir()) == []
