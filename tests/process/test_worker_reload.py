"""HUP: new code takes over while the old finishes what it runs. No gap, nothing lost or run twice."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pexpect
import pytest

from tests.support.commands import Running, start
from tests.support.processes import members, started
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until
from tests.support.watchdog import watchdog

QUICK = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(VERSION, message)
        time.sleep(0.001)
"""
GATED = """
    @queue.worker
    def handle(message):
        note(VERSION, message)
        wait_for(message)
        note(VERSION, message, "ended")
"""
HURRIED = """
from hotqueue.worker import generations
generations.IMPORT_S, generations.IMPORT_TIMES = 8.0, 0
from hotqueue.worker.cli import main
main(["tasks", "-c1"])
"""
IMPATIENT = """
from hotqueue.worker import watchdog
watchdog.START_S = 10.0
from hotqueue.worker.cli import main
main(["tasks", "-c1"])
"""


@pytest.fixture(autouse=True)
def _no_bytecode(shop: Shop) -> None:
    """Two versions within one second would be one for the cache of bytecode."""
    shop.env["PYTHONDONTWRITEBYTECODE"] = "1"


def write(shop: Shop, version: int, source: str) -> None:
    shop.write(f"VERSION = {version}", source)


def reloaded(worker: Running, times: int = 1) -> None:
    wait_until(
        lambda: len(worker.events("supervisor.reloaded")) >= times, 30, f"it was reloaded {times} times"
    )


def last_word(worker: Running) -> str:
    """What it has said last of a reload."""
    return str([line["event"] for line in worker.lines() if "supervisor.reload" in line["event"]][-1])


def reload(shop: Shop, worker: Running, source: str) -> None:
    """Have version 2 take over."""
    write(shop, 2, source)
    worker.signal(signal.SIGHUP)
    reloaded(worker)


def failed(worker: Running) -> str:
    wait_until(lambda: worker.events("supervisor.reload_failed"), 30, "the reload has failed")
    (line,) = worker.events("supervisor.reload_failed")
    return str(line["reason"])


def most(worker: Running) -> int:
    """How many children there were at the most, by the log."""
    counts, alive = [], 0
    for line in worker.lines():
        alive += {"child.started": 1, "child.exited": -1}.get(line["event"], 0)
        counts.append(alive)
    return max(counts)


def old_ones_are_gone(worker: Running, wanted: int) -> None:
    """Wait until there are just the children that are wanted, one template and the supervisor."""
    wait_until(lambda: len(worker.left()) == wanted + 2, 30, "what was replaced is gone")


@pytest.mark.parametrize(
    ("delivery", "prefetch"),
    [("at-least-once", 4), ("at-most-once", 1)],
    ids=["at-least-once", "at-most-once"],
)
def test_under_load_nothing_is_lost_or_run_twice_and_the_new_code_serves(
    shop: Shop, delivery: str, prefetch: int
) -> None:
    shop.env["DELIVERY"] = delivery
    write(shop, 1, QUICK)
    with shop.open("-c3", f"--prefetch={prefetch}") as worker:
        ready(worker, 3)
        shop.queue.enqueue(*range(1000))
        for version in (2, 3):
            seen = len(shop.notes())
            wait_until(lambda seen=seen: len(shop.notes()) > seen, 20, "it is at work")
            write(shop, version, QUICK)
            worker.signal(signal.SIGHUP)
            reloaded(worker, version - 1)
            shop.queue.enqueue(*range(1000 * (version - 1), 1000 * version))
        wait_until(lambda: len(shop.notes()) >= 3000, 60, "all are done")
        old_ones_are_gone(worker, 3)
        assert most(worker) == 4
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)
        assert worker.events("message.released") == worker.events("claim.lost") == []
    versions, messages = zip(*(line.split() for line in shop.notes()), strict=True)
    assert sorted(map(int, messages)) == list(range(3000))
    assert {"1", "3"} <= set(versions)
    assert len(shop.queue) == shop.in_flight() == shop.consumers() == 0


def test_what_runs_is_finished_by_the_old_code_while_the_new_runs_the_rest(shop: Shop, parent: str) -> None:
    write(shop, 1, GATED)
    with shop.open("-c2", "-t0.1") as worker:  # a reload has no deadline
        ready(worker, 2)
        shop.queue.enqueue("long")
        shop.wait_for_notes("1 long")
        reload(shop, worker, GATED)
        shop.queue.enqueue("b", "c")
        shop.wait_for_notes("1 long", "2 b", "2 c")
        assert most(worker) == 3
        for name in ("long", "b", "c"):
            shop.allow(name)
        wait_until(lambda: len(worker.events("message.done")) == 3, 20, "all are done")
        old_ones_are_gone(worker, 2)
        assert {line["cause"] for line in worker.events("child.exited")} == {"exit code 0"}
        assert shop.notes()[3:].count("1 long ended") == 1


def test_children_that_run_long_do_not_hold_up_each_other_s_or_the_next_reload(shop: Shop) -> None:
    write(shop, 1, GATED)
    with shop.open("-c3") as worker:
        ready(worker, 3)
        shop.queue.enqueue("long", "x", "y")
        shop.wait_for_notes("1 long", "1 x", "1 y")
        reload(shop, worker, GATED)
        for name in ("x", "y"):
            shop.allow(name)
        ready(worker, 6)
        write(shop, 3, GATED)
        worker.signal(signal.SIGHUP)  # all places are taken: one child of the second code makes room
        reloaded(worker, 2)
        wait_until(lambda: len(worker.events("child.exited")) == 5, 30, "all but one are replaced")
        shop.queue.enqueue("b", "c", "d")
        wait_until(lambda: {"3 b", "3 c", "3 d"} <= set(shop.notes()), 20, "the newest code runs all")
        assert most(worker) == 4
        shop.allow("long")
        wait_until(lambda: "1 long ended" in shop.notes(), 20, "it was finished")


def test_term_during_a_reload_gives_old_children_the_deadline_too(shop: Shop, parent: str) -> None:
    write(shop, 1, GATED)
    with shop.open("-c2", "-t8") as worker:  # enough for a child that is coming up
        ready(worker, 2)
        shop.queue.enqueue("old")
        shop.wait_for_notes("1 old")
        reload(shop, worker, GATED)
        shop.queue.enqueue("new")
        shop.wait_for_notes("1 old", "2 new")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert worker.left() == set()
        assert len(worker.events("child.killed")) == 2
    assert len(shop.queue) == 2
    assert shop.in_flight() == shop.consumers() == 0


BROKEN = {
    "an import error": ("1 / 0", "cannot import tasks: ZeroDivisionError: division by zero"),
    "an import that ends the interpreter": (
        "os._exit(3)",
        "importing tasks ended the interpreter (exit code 3)",
    ),
    "a redis that is not there": (
        """
        other = HotQueue("other", url="redis://127.0.0.1:1/0")

        @other.worker
        def handle(message): ...
        """,
        "Redis at 127.0.0.1:1",
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_code_that_cannot_serve_leaves_the_old_at_work_and_one_line_says_why(shop: Shop, why: str) -> None:
    source, reason = BROKEN[why]
    write(shop, 1, QUICK)
    with shop.open("-c2", "--connect-timeout=0.5") as worker:
        before = ready(worker, 2)
        write(shop, 2, source)
        worker.signal(signal.SIGHUP)
        assert reason in failed(worker)
        shop.queue.enqueue("a")
        shop.wait_for_notes("1 a")
        assert ready(worker, 2) == before
        assert not worker.events("child.exited")
        old_ones_are_gone(worker, 2)
        write(shop, 3, QUICK)
        worker.signal(signal.SIGHUP)
        reloaded(worker)
        old_ones_are_gone(worker, 2)
        shop.queue.enqueue("b")
        shop.wait_for_notes("1 a", "3 b")


def test_code_whose_first_child_ends_at_once_leaves_the_old_at_work(shop: Shop, parent: str) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.write("VERSION = 2", "os.register_at_fork(after_in_child=lambda: os._exit(7))", QUICK)
        worker.signal(signal.SIGHUP)
        assert "exit code 7" in failed(worker)
        shop.queue.enqueue("a")
        shop.wait_for_notes("1 a")
        old_ones_are_gone(worker, 2)


HANGS = """
import threading
os.register_at_fork(after_in_child=lambda: (note("hangs"), threading.Event().wait()))

@queue.worker
def handle(message): ...
"""


def test_code_whose_first_child_never_becomes_ready_leaves_the_old_at_work(shop: Shop) -> None:
    shop.env["HOTQUEUE_NO_PRCTL"] = "1"  # so that it is the child that hangs, not its template
    write(shop, 1, QUICK)
    with start(sys.executable, "-c", IMPATIENT, env=shop.env, cwd=shop.folder) as worker:
        ready(worker, 1)
        write(shop, 2, HANGS)
        worker.signal(signal.SIGHUP)
        assert "SIGKILL" in failed(worker)
        shop.queue.enqueue("a")
        wait_until(lambda: "1 a" in shop.notes(), 20, "the old code is at work")
        old_ones_are_gone(worker, 1)


def test_a_second_hup_takes_the_newest_code_even_if_the_one_before_hangs_in_its_first_child(
    shop: Shop,
) -> None:
    shop.env["HOTQUEUE_NO_PRCTL"] = "1"
    write(shop, 1, QUICK)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        write(shop, 2, HANGS)
        worker.signal(signal.SIGHUP)
        wait_until(lambda: len(worker.events("child.started")) == 2, 20, "the child hangs")
        write(shop, 3, QUICK)
        worker.signal(signal.SIGHUP)
        reloaded(worker)
        old_ones_are_gone(worker, 1)
        shop.queue.enqueue("a")
        wait_until(lambda: "3 a" in shop.notes(), 20, "the newest code is at work")
        assert not worker.events("supervisor.reload_failed")


def test_a_hup_during_an_import_begins_again_with_the_code_as_it_is_then(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.write("note('importing')\nwait_for('never')")
        worker.signal(signal.SIGHUP)
        shop.wait_for_notes("importing")
        write(shop, 3, QUICK)
        worker.signal(signal.SIGHUP)
        reloaded(worker)
        old_ones_are_gone(worker, 2)
        assert len(worker.events("supervisor.reloading")) == 2
        assert not worker.events("supervisor.reload_failed")


def test_a_hup_before_the_first_import_is_done_begins_again(shop: Shop) -> None:
    shop.write("note('importing')\nwait_for('never')")
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("importing")
        write(shop, 2, QUICK)
        worker.signal(signal.SIGHUP)
        shop.wait_for_notes("importing", "2 a")
        old_ones_are_gone(worker, 1)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_many_hups_in_a_row_leave_one_template_and_the_children_that_are_wanted(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        for version in range(2, 7):
            write(shop, version, QUICK)
            worker.signal(signal.SIGHUP)
            wait_until(
                lambda version=version: len(worker.events("supervisor.reloading")) == version - 1,
                20,
                "it begins",
            )
        wait_until(lambda: last_word(worker) == "supervisor.reloaded", 30, "the last one has taken over")
        old_ones_are_gone(worker, 2)
        shop.queue.enqueue("a")
        shop.wait_for_notes("6 a")
        assert most(worker) <= 3


def test_an_import_that_hangs_is_given_up_and_the_old_code_serves(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with start(sys.executable, "-c", HURRIED, env=shop.env, cwd=shop.folder) as worker:
        ready(worker, 1)
        shop.write("note('importing')\nwait_for('never')")
        worker.signal(signal.SIGHUP)
        assert failed(worker) == "importing tasks was not done after 8 s"
        old_ones_are_gone(worker, 1)
        shop.queue.enqueue("a")
        shop.wait_for_notes("importing", "1 a")
        write(shop, 2, QUICK)
        worker.signal(signal.SIGHUP)
        reloaded(worker)


def descriptors(worker: Running) -> int:
    return len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))


def test_what_a_reload_replaces_leaves_no_descriptor_open(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c1") as worker:
        ready(worker)
        before = descriptors(worker)
        for times in (1, 2, 3):
            worker.signal(signal.SIGHUP)
            reloaded(worker, times)
            old_ones_are_gone(worker, 1)
        wait_until(lambda: descriptors(worker) <= before, 20, f"it has {before} open again")


def test_term_during_an_import_stops_at_once(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.write("note('importing')\nwait_for('never')")
        worker.signal(signal.SIGHUP)
        shop.wait_for_notes("importing")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left() == set()


def test_a_hup_while_it_stops_does_nothing(shop: Shop) -> None:
    write(shop, 1, GATED)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        shop.wait_for_notes("1 a")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.events("supervisor.stopping"))
        worker.signal(signal.SIGHUP)
        shop.allow("a")
        assert worker.wait() == 0
        assert worker.left() == set()
        assert not worker.events("supervisor.reloading")


def test_queues_come_go_and_change_with_the_code(shop: Shop) -> None:
    shop.write("""
        going = HotQueue("going")

        @queue.worker
        def handle(message):
            note("1", message)

        @going.worker
        def go(message):
            note("going", message)
            wait_for("go")
    """)
    shop.queue_named("going").enqueue("a")
    with shop.open("-c2") as worker:
        shop.wait_for_notes("going a")
        shop.write("""
            coming = HotQueue("coming")

            @queue.worker(delivery="at-most-once")
            def handle(message):
                note("2", message)

            @coming.worker
            def come(message):
                note("coming", message)
        """)
        worker.signal(signal.SIGHUP)
        reloaded(worker)
        (line,) = worker.events("supervisor.reloaded")
        assert set(line["queues"].split(",")) == {"jobs", "coming"}
        ready(worker, 4)
        shop.queue.enqueue("b")
        shop.queue_named("coming").enqueue("c")
        shop.queue_named("going").enqueue("d")
        shop.wait_for_notes("going a", "2 b", "coming c")
        (busy,) = set(ready(worker, 4)[:2]) & worker.left()
        os.kill(
            busy, signal.SIGKILL
        )  # its queue is served by nobody else: what it ran goes back all the same
        wait_until(lambda: len(shop.queue_named("going")) == 2, 20, "it is handed back")
        old_ones_are_gone(worker, 2)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert shop.in_flight() == shop.consumers("going") == shop.consumers() == 0


def templates(worker: Running) -> list[int]:
    """The pids of its templates, the oldest first; pids begin anew now and then."""
    found = []
    for pid in worker.left():
        command = Path(f"/proc/{pid}/cmdline")
        if command.exists() and command.read_bytes().startswith(b"hotqueue: template"):
            found.append(pid)
    return sorted(found, key=started)


def test_a_new_template_that_is_killed_leaves_the_old_at_work(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.write("note('importing')\nwait_for('never')")
        worker.signal(signal.SIGHUP)
        shop.wait_for_notes("importing")
        os.kill(templates(worker)[-1], signal.SIGKILL)
        assert failed(worker) == "importing tasks ended the interpreter (SIGKILL)"
        shop.queue.enqueue("a")
        shop.wait_for_notes("importing", "1 a")
        assert not worker.events("child.exited")


def test_an_old_template_that_is_killed_during_a_reload_does_not_disturb_it(shop: Shop, parent: str) -> None:
    write(shop, 1, GATED)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.enqueue("a")
        shop.wait_for_notes("1 a")
        shop.write("note('importing')\nwait_for('import')", "VERSION = 2", GATED)
        worker.signal(signal.SIGHUP)
        shop.wait_for_notes("1 a", "importing")
        os.kill(templates(worker)[0], signal.SIGKILL)
        wait_until(lambda: worker.events("template.exited"), 20, "it is seen")
        shop.allow("import")
        reloaded(worker)
        shop.allow("a")
        wait_until(lambda: any(line.endswith("a ended") for line in shop.notes()), 20, "it is finished")
        old_ones_are_gone(worker, 2)
        by = "1" if parent == "adopted" else "2"  # the others die with their parent, and it is handed back
        assert f"{by} a ended" in shop.notes()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


def test_without_its_supervisor_old_and_new_children_finish_and_leave(shop: Shop, parent: str) -> None:
    write(shop, 1, GATED)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        shop.wait_for_notes("1 a")
        reload(shop, worker, GATED)
        shop.queue.enqueue("b")
        shop.wait_for_notes("1 a", "2 b")
        worker.signal(signal.SIGKILL)
        worker.wait()
        shop.allow("a")
        shop.allow("b")
        gone(worker)
    assert {"1 a ended", "2 b ended"} <= set(shop.notes())


def test_a_quiet_worker_stays_quiet_with_the_new_code(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        worker.signal(signal.SIGTSTP)
        wait_until(lambda: worker.events("supervisor.quiet"), 20, "it is quiet")
        reload(shop, worker, QUICK)
        old_ones_are_gone(worker, 1)
        shop.queue.enqueue("a")
        worker.signal(signal.SIGHUP)
        reloaded(worker, 2)
        assert shop.notes() == []
        worker.signal(signal.SIGCONT)
        shop.wait_for_notes("2 a")


def test_a_hotqueue_of_another_version_is_refused(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c1", env={"PYTHONPATH": str(shop.folder)}) as worker:
        ready(worker, 1)
        (shop.folder / "sitecustomize.py").write_text("import hotqueue\nhotqueue.__version__ = '9.9'\n")
        worker.signal(signal.SIGHUP)
        assert failed(worker).endswith(" to 9.9: start the worker again")


def test_a_folder_that_is_gone_is_a_reason_to_start_again(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        shutil.rmtree(shop.folder)
        worker.signal(signal.SIGHUP)
        assert failed(worker) == "the folder in which the worker was started is gone: start it again"
        shop.folder.mkdir()  # pytest wants to clean it up


def test_new_code_for_which_there_can_be_no_thread_leaves_the_old_at_work(shop: Shop) -> None:
    (shop.folder / "sitecustomize.py").write_text("""
import threading
real, keepers = threading.Thread.start, []

def start(self):
    if self.name == "hotqueue-keeper":
        keepers.append(self)
        if len(keepers) == 2:
            raise RuntimeError("can't start new thread")
    real(self)

threading.Thread.start = start
""")
    shop.write("VERSION = 1", GATED)
    with shop.open("-c1", env={"PYTHONPATH": str(shop.folder)}) as worker:
        ready(worker)
        worker.signal(signal.SIGHUP)
        wait_until(lambda: worker.events("supervisor.reload_failed"), 20, "it is said")
        assert failed(worker).endswith("there can be no more: can't start new thread")
        shop.allow("a")
        shop.queue.enqueue("a")
        wait_until(lambda: worker.events("message.done"), 20, "the old code works")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("how", ["HUP", "the terminal is closed"])
def test_hup_stops_a_worker_that_has_a_terminal(shop: Shop, how: str) -> None:
    write(shop, 1, QUICK)
    command = ["-m", "hotqueue.worker", "tasks", "-c1"]
    worker = pexpect.spawn(sys.executable, command, cwd=shop.folder, env=os.environ | shop.env, timeout=120)
    watchdog().watch(worker.pid)
    worker.expect_exact("child.ready")
    if how == "HUP":
        worker.kill(signal.SIGHUP)
        worker.expect_exact("supervisor.stopped")
    else:
        worker.ptyproc.fileobj.close()
    worker.ptyproc.wait()
    watchdog().forget(worker.pid)
    assert worker.ptyproc.exitstatus == 0
    assert members([worker.pid]) == set()


def test_with_reload_a_changed_file_is_enough(shop: Shop) -> None:
    write(shop, 1, QUICK)
    with shop.open("-c1", "--reload") as worker:
        ready(worker, 1)

        def changes() -> bool:
            write(shop, 2, QUICK)
            return bool(worker.events("supervisor.reloading"))

        wait_until(changes, 20, "the change is seen")
        reloaded(worker)
        assert worker.events("supervisor.reloading")[0]["reason"] == "changed: tasks.py"
        shop.queue.enqueue("a")
        shop.wait_for_notes("2 a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_reload_without_its_library_is_one_line_that_names_the_extra(shop: Shop) -> None:
    write(shop, 1, QUICK)
    (shop.folder / "watchfiles.py").write_text("raise ImportError")
    done = shop.run("--reload", env={"PYTHONPATH": str(shop.folder)})
    assert done.returncode == 2
    assert done.stderr == "hotqueue-worker: --reload needs watchfiles: pip install 'hotqueue[reload]'\n"
