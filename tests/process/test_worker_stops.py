"""How a worker stops, and what it leaves: nobody, and nothing half done."""

import os
import signal
import sys
import time
from typing import Any

import pytest

from tests.support.commands import Running, start
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

BUSY = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message, current().attempt)
        wait_for("go")
        note("ended", message)
"""
STUCK = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message, current().attempt)
        if not (HERE / "go").exists():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1000)
"""
STOPS = [signal.SIGTERM, signal.SIGINT]


def stopped(worker: Running) -> list[dict[str, Any]]:
    """What the worker said of its end, which is to be said once."""
    return [line for line in worker.lines() if line["event"].startswith("supervisor.stop")]


@pytest.mark.parametrize("number", STOPS)
def test_an_idle_worker_leaves_with_code_0_and_nobody_is_left(
    shop: Shop, number: signal.Signals, parent: str
) -> None:
    shop.write(BUSY)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        worker.signal(number)
        assert worker.wait() == 0
        assert worker.left() == set()
        assert [line["event"] for line in stopped(worker)] == ["supervisor.stopping", "supervisor.stopped"]
        assert stopped(worker)[0]["reason"] == number.name
        assert shop.consumers() == 0


@pytest.mark.parametrize(
    ("number", "whom"), [(signal.SIGTERM, "the supervisor"), (signal.SIGINT, "the whole group")]
)
def test_a_busy_worker_ends_what_runs_takes_nothing_new_and_leaves_with_code_0(
    shop: Shop, number: signal.Signals, whom: str, parent: str
) -> None:
    shop.write(BUSY)
    shop.queue.enqueue("a", "b")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        (worker.signal if whom == "the supervisor" else worker.signal_group)(number)
        wait_until(lambda: worker.events("supervisor.stopping"))
        shop.allow("go")
        assert worker.wait() == 0
        assert worker.left() == set()
    assert shop.notes() == ["began a 1", "ended a"]
    assert len(shop.queue) == 1
    assert shop.in_flight() == shop.consumers() == 0


def test_a_worker_under_nohup_stays_when_its_terminal_goes(shop: Shop) -> None:
    shop.write(BUSY)
    shop.allow("go")
    command = 'trap "" HUP; exec "$0" -m hotqueue.worker tasks -c1'
    with start("sh", "-c", command, sys.executable, env=shop.env, cwd=shop.folder) as worker:
        ready(worker)
        worker.signal_group(signal.SIGHUP)
        shop.queue.enqueue("a")
        shop.wait_for_notes("began a 1", "ended a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.events("supervisor.stopping")[0]["reason"] == "SIGTERM"


def test_what_does_not_end_in_time_is_killed_and_handed_back_with_code_1(shop: Shop, parent: str) -> None:
    shop.write(STUCK)
    shop.queue.enqueue("a", "b")
    with shop.open("-c1", "-t0.2") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert worker.left() == set()
        (killed,) = worker.events("child.killed")
        assert killed["reason"] == "did not stop within 0.2 s"
    assert len(shop.queue) == 2
    assert shop.in_flight() == 0
    shop.allow("go")
    assert shop.run("-c1", "-b").returncode == 0
    assert shop.notes() == ["began a 1", "began a 2", "began b 1"]
    assert shop.dead() == []


def test_a_stop_reports_what_still_runs_and_until_when(shop: Shop) -> None:
    shop.write(BUSY)
    shop.queue.enqueue("a", "b")
    with shop.open("-c3", "-t25") as worker:
        shop.wait_for_notes("began a 1", "began b 1")
        worker.signal(signal.SIGTERM)
        (stopping,) = wait_until(lambda: worker.events("supervisor.stopping"))
        shop.allow("go")
        assert worker.wait() == 0
        (ended,) = worker.events("supervisor.stopped")
    assert (stopping["busy"], stopping["deadline_s"]) == (2, 25)
    assert 0 <= stopping["oldest_s"] < 30
    assert {"killed", "killed_ids", "handed_back", "handed_back_ids"} & ended.keys() == set()


def test_the_end_of_a_stop_names_what_was_killed_and_handed_back(shop: Shop, parent: str) -> None:
    shop.write(BUSY)
    first, _, third, _ = [shop.queue.send(each) for each in ("a", "b", "c", "d")]
    with shop.open("-c2", "--prefetch=2", "-t1000") as worker:
        shop.wait_for_notes("began a 1", "began c 1")  # each has one more
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 1
        assert worker.events("supervisor.stopping")[0]["deadline_s"] == 0
        (ended,) = worker.events("supervisor.stopped")
    assert (ended["killed"], sorted(ended["killed_ids"])) == (2, sorted([first, third]))
    assert {first, third} <= set(ended["handed_back_ids"])  # what was not begun may be back before
    assert ended["handed_back"] == len(ended["handed_back_ids"])
    assert len(shop.queue) == 4


def test_what_comes_bare_is_counted_without_an_id(shop: Shop) -> None:
    shop.write(BUSY.replace("current().attempt", "1"))
    shop.queue_named("jobs", envelope=False).enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 1
        (ended,) = worker.events("supervisor.stopped")
    assert (ended["killed"], ended["handed_back"]) == (1, 1)
    assert {"killed_ids", "handed_back_ids"} & ended.keys() == set()


def test_an_at_most_once_message_that_is_killed_is_lost_and_the_log_says_so(shop: Shop) -> None:
    shop.env["DELIVERY"] = "at-most-once"
    shop.write(STUCK)
    message_id = shop.queue.send("a")
    with shop.open("-c1", "-t0.2") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        (exited,) = worker.events("child.exited")
    assert (exited["level"], exited["lost"], exited["id"]) == ("error", 1, message_id)


def test_a_handler_that_put_the_default_of_term_back_is_interrupted_and_not_to_blame(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            note("began", current().trail.crashes)
            wait_for("go")
    """)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began ()")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    shop.allow("go")
    assert shop.run("-b").returncode == 0
    assert shop.notes() == ["began ()"] * 2


def test_a_second_ctrl_c_hands_back_at_once(shop: Shop, parent: str) -> None:
    shop.write(STUCK)
    shop.queue.enqueue("a")
    with shop.open("-c1", "-t1000") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal_group(signal.SIGINT)
        wait_until(lambda: worker.events("supervisor.stopping"))

        def ends_after_one_more() -> bool:
            worker.signal(signal.SIGINT)
            return worker.process.poll() is not None

        wait_until(ends_after_one_more, 30, "a Ctrl-C that comes later than the first is obeyed")
        assert worker.wait() == 1
        assert worker.left() == set()
        assert worker.events("child.killed")[0]["reason"] == "second SIGINT"
    assert len(shop.queue) == 1


def test_one_ctrl_c_that_arrives_twice_is_one(shop: Shop) -> None:
    shop.write(BUSY)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal_group(signal.SIGINT)
        worker.signal(signal.SIGINT)
        wait_until(lambda: worker.events("supervisor.stopping"))
        shop.allow("go")
        assert worker.wait() == 0
    assert shop.notes() == ["began a 1", "ended a"]


def test_quit_stops_at_once_and_hands_back(shop: Shop, parent: str) -> None:
    shop.write(BUSY)
    shop.queue.enqueue("a")
    with shop.open("-c1", "-t1000") as worker:
        shop.wait_for_notes("began a 1")
        worker.signal_group(signal.SIGQUIT)
        assert worker.wait() == 1
        assert worker.left() == set()
    assert len(shop.queue) == 1
    assert shop.in_flight() == 0


def test_a_child_frozen_in_the_middle_is_killed_like_any_other(shop: Shop) -> None:
    shop.write(BUSY)
    with shop.open("-c2", "-t8") as worker:  # enough for the other child
        pid = ready(worker, 2)[0]
        os.kill(pid, signal.SIGSTOP)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert [line["pid"] for line in worker.events("child.killed")] == [pid]
        assert worker.left() == set()


def test_a_stop_while_children_are_being_forked_is_clean(shop: Shop, parent: str) -> None:
    shop.write(BUSY)
    with shop.open("-c8") as worker:
        wait_until(lambda: worker.events("child.started"))
        worker.signal_group(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left() == set()


def test_ctrl_c_ends_an_import_that_takes_for_ever(shop: Shop) -> None:
    shop.write("note('importing')\nwait_for('never')")
    with shop.open() as worker:
        shop.wait_for_notes("importing")
        worker.signal_group(signal.SIGINT)
        assert worker.wait() == 0
        assert worker.left() == set()
        assert worker.stderr_text() == ""


def test_term_ends_the_wait_for_a_redis_that_is_not_there(shop: Shop) -> None:
    shop.write(BUSY)
    with shop.open("-u", "redis://127.0.0.1:1/0", "--connect-timeout=1000") as worker:
        wait_until(lambda: worker.events("redis.lost"))
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left() == set()


def test_a_template_that_hangs_in_a_fork_does_not_hold_up_a_stop(shop: Shop) -> None:
    shop.write("""
        os.register_at_fork(before=lambda: (note("forking"), time.sleep(1000)))

        @queue.worker
        def handle(message): ...
    """)
    with shop.open("-t0.2") as worker:
        shop.wait_for_notes("forking")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="children of a template that dies are killed with it")
def test_a_child_of_which_only_its_dead_template_knew_is_told_to_stop_as_well(shop: Shop) -> None:
    shop.write("""
        TEMPLATE = os.getpid()

        def freeze():
            if os.getpid() == TEMPLATE:
                os.kill(TEMPLATE, signal.SIGSTOP)

        os.register_at_fork(after_in_parent=freeze)
        note(TEMPLATE)

        @queue.worker
        def handle(message): ...
    """)
    with shop.open("-c1", "-t1000") as worker:
        wait_until(lambda: worker.events("child.ready"), 20, "the child is ready")
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.events("supervisor.stopping"), 20, "the worker stops")
        os.kill(int(shop.notes()[0]), signal.SIGKILL)
        assert worker.wait() == 0
        gone(worker)


def test_a_burst_ends_when_all_is_done_also_what_handlers_enqueued(shop: Shop, delivery: str) -> None:
    shop.write("""
        other = HotQueue("other")

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            other.enqueue(message)

        @other.worker(delivery=DELIVERY)
        def follow(message):
            if message:
                queue.enqueue(message - 1)
            note(message)
    """)
    shop.queue.enqueue(3, 2)
    done = shop.run("-c2", "-b")
    assert done.returncode == 0
    assert sorted(shop.notes()) == ["0", "0", "1", "1", "2", "2", "3"]
    assert len(shop.queue) == shop.in_flight() == 0


def test_a_burst_waits_for_what_runs(shop: Shop, delivery: str) -> None:
    shop.write(BUSY)
    shop.queue.enqueue("a")
    with shop.open("-c2", "-b") as worker:
        shop.wait_for_notes("began a 1")
        deadline = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > deadline or worker.process.poll() is not None)
        assert worker.process.poll() is None
        shop.allow("go")
        assert worker.wait() == 0
