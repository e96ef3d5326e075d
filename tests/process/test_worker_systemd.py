"""Under `Type=notify`: what systemd hears of a worker, on a socket that stands in for its own."""

import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from hotqueue.worker.roll import Census
from hotqueue.worker.systemd import Notifier
from tests.support.commands import Running, run, start
from tests.support.processes import state_of
from tests.support.servers import fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

HANDLER = """
    @queue.worker
    def handle(message):
        note(sorted({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys()))
        wait_for("go")
"""
CENSUS = Census(wanted=1, size=1, busy=0, ready=1)


class Ear:
    """The socket, and all that came in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        try:
            while True:
                self._lines += self._socket.recv(4096, socket.MSG_DONTWAIT).decode().split("\n")
        except BlockingIOError:
            return self._lines

    def hear(self, line: str) -> None:
        wait_until(lambda: line in self.lines(), 30, f"systemd hears {line}")

    def last_of(self, worker: Running) -> str:
        """What was said last. It is listened to all the time: ten messages are too many for who does not."""
        wait_until(lambda: (self.lines(), worker.process.poll())[1] is not None, 60, "the worker has ended")
        return self.lines()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        if self.name.startswith("/"):
            Path(self.name).unlink()


def at_a_path() -> Ear:
    return Ear(f"/tmp/hotqueue-test-{uuid.uuid4().hex}")  # a short one: a socket takes some 100 bytes


@pytest.fixture(params=["a path", "an abstract name"])
def ear(request: pytest.FixtureRequest) -> Iterator[Ear]:
    if request.param != "a path" and not Path("/proc/net/unix").exists():
        pytest.skip("only Linux has abstract names")
    with at_a_path() if request.param == "a path" else Ear(f"@hotqueue-test-{uuid.uuid4().hex}") as found:
        yield found


def test_systemd_hears_when_a_worker_is_ready_that_it_lives_and_that_it_stops(shop: Shop, ear: Ear) -> None:
    shop.write("note('importing')\nwait_for('import')", HANDLER)
    with shop.open("-c1", env={"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "400000"}) as worker:
        shop.wait_for_notes("importing")
        ear.hear("WATCHDOG=1")
        assert "READY=1" not in ear.lines()
        shop.allow("import")
        ear.hear("READY=1")
        ear.hear("STATUS=running, 0 of 1 children busy")
        shop.queue.enqueue("a")
        shop.wait_for_notes("importing", "[]")  # the variables are not for handlers
        ear.hear("STATUS=running, 1 of 1 children busy")
        assert "STOPPING=1" not in ear.lines()
        worker.signal(signal.SIGTERM)
        ear.hear("STOPPING=1")
        asked = ear.lines().count("EXTEND_TIMEOUT_USEC=30000000")
        wait_until(lambda: ear.lines().count("EXTEND_TIMEOUT_USEC=30000000") > asked, 30, "again and again")
        shop.allow("go")
        assert worker.wait() == 0
        assert (ear.lines().count("READY=1"), ear.lines().count("STOPPING=1")) == (1, 1)


def test_the_watchdog_is_not_fed_by_a_supervisor_that_hangs(shop: Shop) -> None:
    shop.write(HANDLER)
    with (
        at_a_path() as ear,
        shop.open("-c1", env={"NOTIFY_SOCKET": ear.name, "WATCHDOG_USEC": "20000"}) as worker,
    ):
        ready(worker)
        ear.hear("WATCHDOG=1")
        worker.signal(signal.SIGSTOP)
        wait_until(lambda: state_of(worker.pid) == "T", 20, "it hangs")
        fed = ear.lines().count("WATCHDOG=1")
        end = time.monotonic() + 0.2
        wait_until(lambda: time.monotonic() > end)
        assert ear.lines().count("WATCHDOG=1") == fed
        worker.signal(signal.SIGCONT)
        wait_until(lambda: ear.lines().count("WATCHDOG=1") > fed, 20, "it is fed again")


def test_a_worker_whose_systemd_went_away_goes_on(shop: Shop, tmp_path: Path) -> None:
    shop.write(HANDLER)
    shop.allow("go")
    shop.queue.enqueue("a")
    done = shop.run("-b", env={"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000"})
    assert done.returncode == 0
    assert shop.notes() == ["[]"]


@pytest.mark.parametrize(
    ("variables", "times"),
    [
        ({"WATCHDOG_USEC": "2000000000"}, 1),
        ({"WATCHDOG_USEC": "2000000000", "WATCHDOG_PID": str(os.getpid())}, 1),
        ({"WATCHDOG_USEC": "2000000000", "WATCHDOG_PID": str(os.getpid() + 1)}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({}, 0),
    ],
    ids=["for all", "for us", "for another", "off", "nonsense", "not there"],
)
def test_the_watchdog_is_fed_if_it_waits_for_this_process(
    ear: Ear, variables: dict[str, str], times: int
) -> None:
    environment = {"NOTIFY_SOCKET": ear.name, "HOME": "/", **variables}
    notifier = Notifier(environment)
    notifier.feed()
    notifier.feed()  # not yet again
    assert ear.lines() == ["WATCHDOG=1"] * times
    assert environment == {"HOME": "/"}
    notifier.close("")


def test_what_systemd_was_too_busy_to_take_is_said_again() -> None:
    with at_a_path() as ear:
        notifier = Notifier({"NOTIFY_SOCKET": ear.name})
        for _ in range(1000):  # more than the kernel holds for a socket that nobody reads
            notifier.tell("starting", replace(CENSUS, ready=0), None)
        notifier.tell("running", CENSUS, None)
        assert "READY=1" not in ear.lines()
        for _ in range(2):
            notifier.tell("running", CENSUS, None)
        assert ear.lines().count("READY=1") == 1
        notifier.close("")


def test_a_reload_begins_with_a_moment_and_ends_with_ready(shop: Shop, ear: Ear) -> None:
    shop.write(HANDLER)
    with shop.open("-c1", env={"NOTIFY_SOCKET": ear.name}) as worker:
        ear.hear("READY=1")
        before = time.monotonic_ns() // 1000
        shop.write("wait_for('import')", HANDLER)
        worker.signal(signal.SIGHUP)
        ear.hear("RELOADING=1")
        begun = next(line for line in ear.lines() if line.startswith("MONOTONIC_USEC="))
        assert before <= int(begun.partition("=")[2]) <= time.monotonic_ns() // 1000
        told = len(ear.lines())
        wait_until(lambda: len(ear.lines()) > told, 30, "it goes on telling")
        assert ear.lines().count("READY=1") == 1
        shop.allow("import")
        wait_until(lambda: ear.lines().count("READY=1") == 2, 30, "it is ready again")
        wait_until(lambda: worker.events("supervisor.reloaded"), 30, "a thread of its own writes the log")


def test_the_status_says_why_a_reload_failed_until_one_succeeds(shop: Shop) -> None:
    shop.write(HANDLER)
    idle = "STATUS=running, 0 of 1 children busy"
    with at_a_path() as ear, shop.open("-c1", env={"NOTIFY_SOCKET": ear.name}) as worker:
        ear.hear("READY=1")
        shop.write("raise ValueError('first\\nsecond' + 1000 * '!')")
        worker.signal(signal.SIGHUP)
        said = f"{idle}; the last reload failed: cannot import tasks: ValueError: first second!!!"
        wait_until(lambda: any(line.startswith(said) for line in ear.lines()), 30, "it is told why")
        wait_until(lambda: ear.lines().count("READY=1") == 2, 30, "systemd waits no longer")
        assert max(map(len, ear.lines())) < 600
        shop.write(HANDLER)
        worker.signal(signal.SIGHUP)
        wait_until(lambda: worker.events("supervisor.reloaded"), 30, "it is mended")
        told = len(ear.lines())
        wait_until(lambda: idle in ear.lines()[told:], 30, "it is forgotten")


def test_the_status_says_that_redis_is_away(shop: Shop, tmp_path: Path) -> None:
    shop.write(HANDLER)
    with (
        fresh_server(tmp_path / "own") as server,
        at_a_path() as ear,
        shop.open("-c1", "-u", server.url, env={"NOTIFY_SOCKET": ear.name}) as worker,
    ):
        ear.hear("READY=1")
        server.stop()
        ear.hear("STATUS=running, 0 of 1 children busy; Redis is not reached")
        worker.signal(signal.SIGQUIT)
        worker.wait()


def test_the_last_status_says_why_there_is_no_worker(shop: Shop) -> None:
    shop.write("import nothing_like_it")
    with at_a_path() as ear, shop.open("-c1", env={"NOTIFY_SOCKET": ear.name}) as worker:
        last = ear.last_of(worker)
        said = worker.stderr_text().strip().removeprefix("hotqueue-worker: ")
        assert (worker.wait(), last) == (2, f"STATUS={said}")


def test_the_last_status_says_that_a_stop_had_to_kill(shop: Shop) -> None:
    shop.write(HANDLER)
    shop.queue.enqueue("a")
    with at_a_path() as ear, shop.open("-c1", "-t0", env={"NOTIFY_SOCKET": ear.name}) as worker:
        shop.wait_for_notes("[]")
        worker.signal(signal.SIGTERM)
        assert ear.last_of(worker) == "STATUS=stopped with code 1, messages killed: 1"
        assert worker.wait() == 1


def test_journald_is_told_how_bad_each_line_is(shop: Shop, tmp_path: Path) -> None:
    """Its stream is known by the device and inode of stderr: here a file's."""
    shop.write("import logging", HANDLER.replace('wait_for("go")', "logging.warning('watch out'); 1 / 0"))
    shop.queue.enqueue("a")
    stderr = tmp_path / "journal"
    stderr.touch()
    stream = f"JOURNAL_STREAM={stderr.stat().st_dev}:{stderr.stat().st_ino}"
    script = f"exec env {stream} {sys.executable} -m hotqueue.worker $0 -c1 2>{stderr}"

    def marked(word: str) -> bool:
        return any(line.startswith(word) for line in stderr.read_text().splitlines())

    with start("sh", "-c", script, "tasks", env=shop.env, cwd=shop.folder) as worker:
        wait_until(lambda: marked('<4>{"event":"message.retried"'), 30, "the handler has failed")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert marked('<6>{"event":"supervisor.started"')
    assert marked('<7>{"event":"child.ready"')
    assert marked('<4>{"event":"watch out"')
    assert run("sh", "-c", script, "nothing_like_it", env=shop.env, cwd=shop.folder).returncode == 2
    assert marked("<3>hotqueue-worker: there is no module 'nothing_like_it'")


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": "vsock:2:1"}], ids=["none", "another kind"])
def test_without_a_socket_nothing_is_said(variables: dict[str, str]) -> None:
    notifier = Notifier({**variables, "WATCHDOG_USEC": "1"})
    notifier.tell("running", CENSUS, None)
    notifier.feed()
    assert notifier.feed_at_s == float("inf")
