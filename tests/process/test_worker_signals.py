"""Orders by signal: more or fewer children, quiet, and what everybody is doing."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import Running, run, start
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

HANDLER = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)
        wait_for("go")
"""


def alive(worker: Running) -> int:
    return len(worker.events("child.started")) - len(worker.events("child.exited"))


def test_ttin_and_ttou_make_one_child_more_and_one_fewer(shop: Shop, parent: str) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        worker.signal(signal.SIGTTIN)
        ready(worker, 2)
        shop.queue.enqueue("a", "b")
        shop.wait_for_notes("a", "b")  # both at the same time
        worker.signal(signal.SIGTTOU)
        shop.allow("go")
        wait_until(lambda: alive(worker) == 1, 20, "one child has left")
        assert [line["concurrency"] for line in worker.events("supervisor.resized")] == [2, 1]
        worker.signal(signal.SIGTTOU)  # the last one stays
        shop.queue.enqueue("c")
        shop.wait_for_notes("a", "b", "c")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


def test_ttou_prefers_a_child_that_waits_and_what_runs_is_finished(shop: Shop) -> None:
    shop.write(HANDLER)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        busy = worker_of(worker, shop)
        worker.signal(signal.SIGTTOU)
        wait_until(lambda: worker.events("child.exited"), 20, "a child has left")
        assert worker.events("child.exited")[0]["child"] != busy
        shop.allow("go")
        wait_until(lambda: worker.events("message.done"), 20, "what ran is finished")


def worker_of(worker: Running, shop: Shop) -> int:
    """The number of the child that runs something."""
    worker.signal(signal.SIGUSR1)
    wait_until(lambda: any("id" in line for line in worker.events("child.stack")), 20, "stacks are told")
    return next(int(line["child"]) for line in worker.events("child.stack") if "id" in line)


def test_after_tstp_nothing_new_begins_until_cont(shop: Shop, delivery: str) -> None:
    shop.write(HANDLER)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        worker.signal(signal.SIGCONT)  # a shell's fg: there is nothing to resume
        worker.signal(signal.SIGTSTP)
        wait_until(lambda: worker.events("supervisor.quiet"), 20, "it is quiet")
        assert not worker.events("supervisor.resumed")
        shop.allow("go")
        shop.queue.enqueue("b", "c")
        wait_until(lambda: worker.events("message.done"), 20, "what ran is finished")
        wait_until(lambda: len(shop.queue) == 2, 20, "what a waiting child caught is back")
        assert shop.notes() == ["a"]
        worker.signal(signal.SIGCONT)
        shop.wait_for_notes("a", "b", "c")
        assert alive(worker) == 2


def test_a_quiet_worker_stops_like_any_other(shop: Shop) -> None:
    shop.write(HANDLER)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        worker.signal(signal.SIGTSTP)
        wait_until(lambda: worker.events("supervisor.quiet"), 20, "it is quiet")
        shop.queue.enqueue("a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert len(shop.queue) == 1


def test_usr1_logs_the_stack_of_every_child_and_what_it_runs(shop: Shop, parent: str) -> None:
    shop.write(HANDLER)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.send("secret")
        shop.wait_for_notes("secret")
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: len(worker.events("child.stack")) == 2, 20, "both stacks are told")
        (busy,) = [line for line in worker.events("child.stack") if "id" in line]
        assert "in wait_for" in busy["stack"]
        assert "in handle" in busy["stack"]
        assert busy["queue"] == "jobs"
        assert busy["running_ms"] >= 0
        assert "secret" not in str(busy)
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: len(worker.events("child.stack")) == 4, 20, "it can be asked again")
        shop.allow("go")
        wait_until(lambda: worker.events("message.done"), 20, "nothing was disturbed")


def test_a_stack_is_logged_also_where_the_application_wanted_it_elsewhere(shop: Shop) -> None:
    shop.write("import faulthandler", "faulthandler.register(signal.SIGUSR1)", HANDLER)
    with shop.open("-c1") as worker:
        ready(worker, 1)
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: worker.events("child.stack"), 20, "the stack is told")
        assert "in run" in worker.events("child.stack")[0]["stack"]


def test_a_child_that_is_stopped_has_no_stack_to_tell(shop: Shop) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        (pid,) = ready(worker, 1)
        os.kill(pid, signal.SIGSTOP)
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: worker.events("child.stack"), 20, "it is told all the same")
        assert worker.events("child.stack")[0]["stack"].startswith("none")
        os.kill(pid, signal.SIGCONT)


def test_stacks_are_told_also_while_a_worker_stops(shop: Shop) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        ready(worker)
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.events("supervisor.stopping"), 20, "it stops")
        worker.signal(signal.SIGUSR1)
        wait_until(lambda: worker.events("child.stack"), 20, "the stack is told")
        shop.allow("go")
        assert worker.wait() == 0


EARLY = """
import os, signal
from hotqueue.worker import signals, start

def hold_and_get_one():
    before()
    os.kill(os.getpid(), {number})

before, signals.hold = signals.hold, hold_and_get_one
start.main()
"""


@pytest.mark.parametrize(
    ("number", "event"),
    [
        (signal.SIGTTIN, "supervisor.resized"),
        (signal.SIGTSTP, "supervisor.quiet"),
        (signal.SIGHUP, "supervisor.reloading"),
        (signal.SIGUSR1, "child.ready"),
        (signal.SIGUSR2, "child.ready"),
        (signal.SIGTERM, "supervisor.stopped"),
        (signal.SIGINT, "supervisor.stopped"),
    ],
)
def test_a_signal_that_comes_while_a_worker_begins_is_heard_when_it_can_be(
    shop: Shop, number: signal.Signals, event: str
) -> None:
    shop.write(HANDLER)
    source = EARLY.format(number=int(number))
    with start(sys.executable, "-c", source, "tasks", "-c1", env=shop.env, cwd=shop.folder) as worker:
        wait_until(lambda: worker.events(event) or worker.process.poll() is not None, 20, "it is heard")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert all(line.startswith("{") for line in worker.stderr_text().splitlines())


AT_ONCE = """
import ctypes, signal
from hotqueue.wakeup import Wakeup
from hotqueue.worker.signals import Inbox

inbox = Inbox(Wakeup())
for sent in ([signal.SIGTSTP, signal.SIGCONT], [signal.SIGCONT, signal.SIGTSTP]):
    list(map(ctypes.CDLL(None)["raise"], sent))  # Python calls no handler in between
    print(list(inbox.take()) == sent)
"""


def test_signals_that_come_close_together_are_heard_in_their_order(tmp_path: Path) -> None:
    heard = run(sys.executable, "-c", AT_ONCE, cwd=tmp_path)
    assert (heard.stdout, heard.stderr) == ("True\nTrue\n", "")


def test_an_order_to_a_job_of_a_shell_stops_none_of_its_processes(shop: Shop) -> None:
    shop.write(HANDLER)
    job = f"set -m; {sys.executable} -m hotqueue.worker tasks -c1 & wait"  # a group that has a parent
    with start("bash", "-c", job, env=shop.env, cwd=shop.folder) as shell:
        ready(shell)
        supervisor = int(shell.events("supervisor.started")[0]["pid"])
        os.killpg(supervisor, signal.SIGTTIN)
        ready(shell, 2)
        os.killpg(supervisor, signal.SIGTTOU)
        wait_until(lambda: alive(shell) == 1, 20, "one child has left")
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        shop.allow("go")
        os.kill(supervisor, signal.SIGTERM)
        gone(shell)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTSTP, signal.SIGUSR2])
def test_an_order_that_reaches_the_whole_group_harms_nobody(shop: Shop, number: signal.Signals) -> None:
    shop.write(HANDLER)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        worker.signal_group(number)
        worker.signal_group(signal.SIGCONT)
        shop.allow("go")
        shop.queue.enqueue("b")
        shop.wait_for_notes("a", "b")
        assert not worker.events("child.exited")


def test_a_crash_is_told_with_the_stack_and_what_the_child_had_used(shop: Shop, parent: str) -> None:
    shop.write("""
        import ctypes

        @queue.worker
        def handle(message):
            ctypes.string_at(0)
    """)
    with shop.open("-c1", "--max-crashes", "1") as worker:
        ready(worker, 1)
        shop.queue.enqueue("a")
        wait_until(lambda: worker.events("message.buried"), 20, "it is buried")
        (death,) = worker.events("child.exited")
        assert death["cause"] == "SIGSEGV"
        assert death["handler"] == "handle"
        assert death["peak_mib"] > 1
        assert death["cpu_s"] >= 0
        assert "Segmentation fault" in death["stack"]
        assert "in handle" in death["stack"]
