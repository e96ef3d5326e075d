"""Rows 32 and 36: programs that handlers start and leave behind, and a worker that is pid 1. Linux."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import COMMANDS, Running, start
from tests.support.processes import alive
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

AS_PID_1 = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]

FAMILY = """
    import subprocess

    def daemonise(kind, *command):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(kind, os.getpid())
                os.execvp(command[0], command)
            os._exit(0)
        os.wait()

    @queue.worker(delivery=DELIVERY)
    def handle(message):
        if message == "short":
            daemonise("short", "true")
        if message == "long":
            daemonise("long", "sleep", "1000")
        if message == "deaf":
            daemonise("deaf", sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN);"
                " open('deaf', 'w').close(); time.sleep(1000)")
            wait_for("deaf")
        if message == "own":
            note("own", subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
        note("done", message)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no subreaper, and no /proc")


def daemons(shop: Shop, *kinds: str) -> set[int]:
    noted = [note.split() for note in shop.notes()]
    return {int(pid) for kind, pid in noted if kind in kinds}


def zombies_of(pid: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if (state, int(parent)) == ("Z", pid):
            found.append(stat.parent.name)
    return found


@linux
def test_32_what_handlers_leave_behind_is_reaped_when_it_ends_and_ended_with_the_worker(
    shop: Shop, delivery: str
) -> None:
    shop.write(FAMILY)
    shop.queue.enqueue("short", "long", "deaf", "own", "short")
    with shop.open("-c1") as worker:
        ready(worker)
        wait_until(lambda: sum(note.startswith("done") for note in shop.notes()) == 5, 20)
        wait_until(lambda: len(daemons(shop, "short", "long", "deaf", "own")) == 5, 20)
        wait_until(lambda: not daemons(shop, "short") & {entry.pid for entry in alive()}, 20, "those ended")
        wait_until(lambda: not zombies_of(worker.pid), 20, "and were reaped")
        stay = daemons(shop, "long", "deaf", "own")
        assert stay <= worker.left()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert {line["pid"] for line in worker.events("orphan.ended")} == stay
        assert worker.left() == set()


@linux
def test_32_what_was_there_before_the_worker_is_not_its_own(shop: Shop, tmp_path: Path) -> None:
    shop.write(FAMILY)
    worker = " ".join(COMMANDS["hotqueue-worker"])
    with start(
        "sh", "-c", f"sleep 1000 & echo $!; exec {worker} tasks -c1 -b", env=shop.env, cwd=shop.folder
    ) as shell:
        assert shell.wait() == 0
        assert int(shell.stdout_text()) in shell.left()


def can_be_pid_1() -> bool:
    try:
        return (
            subprocess.run([*AS_PID_1, "true"], check=False, capture_output=True, timeout=30).returncode == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def first_child_of(worker: Running) -> int:
    return wait_until(lambda: next((e.pid for e in alive() if e.parent == worker.pid), 0), 20)


@linux
def test_36_a_worker_that_is_pid_1_reaps_and_stops_on_term(shop: Shop, delivery: str) -> None:
    if not can_be_pid_1():
        pytest.skip("this user may not make a pid namespace")
    shop.write(FAMILY)
    shop.queue.enqueue("short", "own", "short")
    command = [*AS_PID_1, *COMMANDS["hotqueue-worker"], "tasks", "-c1"]
    with start(*command, env=shop.env, cwd=shop.folder) as outside:
        wait_until(lambda: sum(note.startswith("done") for note in shop.notes()) == 3, 20)
        wait_until(lambda: len(daemons(shop, "short")) == 2, 20)
        (started,) = wait_until(lambda: outside.events("supervisor.started"))
        assert started["pid"] == 1
        worker = first_child_of(outside)
        wait_until(lambda: not zombies_of(worker), 20, "all that ended was reaped")
        os.kill(worker, signal.SIGTERM)
        assert outside.wait() == 0
        gone(outside)
    assert len(shop.queue) == shop.in_flight() == 0
