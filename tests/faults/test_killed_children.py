"""Rows 1, 2, 3, 11 and 35: children that are killed, kill themselves, or are maltreated by a handler."""

import os
import signal
from typing import Any

import pytest

from tests.support.commands import Running
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until


def stop(worker: Running) -> None:
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def after_a_death(worker: Running) -> list[dict[str, Any]]:
    """What was released then. Under load, what waits behind a message that takes long is as well."""
    return [line for line in worker.events("message.released") if line["level"] == "warning"]


@pytest.mark.usefixtures("anywhere")
def test_1_a_child_killed_in_a_handler_is_replaced_and_its_message_runs_again_or_is_lost_and_logged(
    shop: Shop, delivery: str
) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message, current().attempt, len(current().trail.crashes))
            if message == "bad" and current().attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
    """)
    bad = shop.queue.send("bad")
    shop.queue.enqueue("good")
    with shop.open("-c1") as worker:
        wait_until(lambda: "good 1 0" in shop.notes(), 20, "the next message is handled")
        (exited,) = wait_until(lambda: worker.events("child.exited"), what="the death is logged")
        assert (exited["cause"], exited["id"], exited["level"]) == ("SIGKILL", bad, "error")
        if delivery == "at-least-once":
            shop.wait_for_notes("bad 1 0", "bad 2 1", "good 1 0")
            wait_until(
                lambda: [line.get("id") for line in after_a_death(worker)] == [bad], 20, "it is logged"
            )
        else:
            assert exited["lost"] == 1
            shop.wait_for_notes("bad 1 0", "good 1 0")
        stop(worker)


def test_2_what_is_enqueued_after_an_idle_child_was_killed_is_not_lost(shop: Shop, delivery: str) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message)
    """)
    blocked = shop.server.admin.info
    with shop.open("-c2") as worker:
        first = ready(worker, 2)
        wait_until(lambda: blocked()["blocked_clients"] == 2)
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(worker.events("child.exited")) == 2)
        ready(worker, 4)
        wait_until(lambda: blocked()["blocked_clients"] == 2)
        shop.queue.enqueue(*range(10))
        shop.wait_for_notes(*map(str, range(10)))
        stop(worker)


STEPS = {
    # Call, side of it, and which one of its kind → how often "b" runs, and with how many crashes in the end.
    "when it was claimed, not begun": ("take", "after", 2, 1, 0),
    "when it was begun, the handler not called": ("begin", "after", 2, 1, 1),
    "when the handler was done, nobody told": ("ack", "before", 2, 2, 1),
    "when it was done, Redis not told": ("ack", "after", 2, 1, 0),
    "when the next one was claimed": ("take", "after", 3, 1, 0),
}


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("step", STEPS)
def test_3_a_child_killed_between_two_steps_loses_nothing_and_only_what_ran_is_blamed(
    shop: Shop, step: str
) -> None:
    name, side, number, runs, crashes = STEPS[step]
    shop.write(f"""
        from hotqueue import scripts
        from hotqueue.at_least_once import AtLeastOnce

        home = scripts if {name!r} == "take" else AtLeastOnce
        real, calls = getattr(home, {name!r}), []

        def fatal(*args, **options):
            calls.append(1)
            now = len(calls) == {number} and not (HERE / "died").exists()
            result = None if now and {side!r} == "before" else real(*args, **options)
            if now:
                (HERE / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(home, {name!r}, fatal)

        @queue.worker
        def handle(message):
            note(message, len(current().trail.crashes))
    """)
    shop.queue.enqueue("a", "b", "c")
    assert shop.run("-c1", "-b", "--prefetch=1").returncode == 0
    assert (shop.folder / "died").exists()
    ran = [note for note in shop.notes() if note.startswith("b")]
    assert (len(ran), ran[-1]) == (runs, f"b {crashes}")
    assert [note for note in shop.notes() if not note.startswith("b")] == ["a 0", "c 0"]
    assert len(shop.queue) == shop.in_flight() == 0
    assert shop.dead() == []


@pytest.mark.parametrize("order", ["pab", "apb", "abp"])
def test_11_a_message_that_kills_each_child_is_buried_and_no_neighbour_is_blamed(
    shop: Shop, delivery: str, order: str
) -> None:
    shop.write("""
        import ctypes

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message, current().attempt)
            if message == "p":
                ctypes.string_at(0)
    """)
    shop.queue.enqueue(*order)
    assert shop.run("-c1", "-b", "--prefetch=3").returncode == 0
    assert [note for note in shop.notes() if not note.startswith("p")] == ["a 1", "b 1"]
    if delivery == "at-least-once":
        assert [note for note in shop.notes() if note.startswith("p")] == ["p 1", "p 2", "p 3"]
        (trail,) = shop.dead()
        assert len(trail.crashes) == 3
        assert (trail.reason["kind"], trail.reason["error"]) == ("crashed", "SIGSEGV")
        assert trail.reason["handler"] == "handle"
    else:
        assert [note for note in shop.notes() if note.startswith("p")] == ["p 1"]
        assert shop.dead() == []


@pytest.mark.parametrize("seats", ["--threads=1", "--threads=3"])
def test_11_a_message_whose_failure_breaks_the_loop_is_buried_like_one_that_kills(
    shop: Shop, seats: str
) -> None:
    shop.write("""
        from hotqueue.execution import Executor

        @queue.worker
        def handle(message):
            note(message, current().attempt)
            if message == "p":
                Executor.settle = None  # whatever it is that nobody thought of
    """)
    shop.queue.enqueue("p")
    assert shop.run("-c1", "-b", seats).returncode == 0
    assert shop.notes() == ["p 1", "p 2", "p 3"]
    (trail,) = shop.dead()
    assert (len(trail.crashes), trail.reason["kind"], trail.reason["error"]) == (3, "crashed", "exit code 1")
    shop.queue.enqueue("a")
    assert shop.run("-c1", "-b", seats).returncode == 0
    assert shop.notes() == ["p 1", "p 2", "p 3", "a 1"]


def test_11_how_many_crashes_bury_a_message_may_be_chosen(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message)
            os._exit(9)
    """)
    shop.queue.enqueue("p")
    assert shop.run("-c1", "-b", "--max-crashes=1").returncode == 0
    assert shop.notes() == ["p"]
    assert [trail.reason["error"] for trail in shop.dead()] == ["exit code 9"]


MALTREATED = {
    "forks and comes back twice": "os.fork()",
    "forks and lets the copy exit": "os.fork() or sys.exit(3)",
    "leaves a thread behind": "threading.Thread(target=time.sleep, args=(1000,)).start()",
    "enqueues to its own queue": "queue.enqueue('more')",
    "closes all descriptors": "os.closerange(3, 1000)",
    "takes signals away": "[signal.signal(n, signal.SIG_DFL) for n in (signal.SIGTERM, signal.SIGINT)]",
    "changes its folder": "os.chdir('/')",
    "limits its recursion": "sys.setrecursionlimit(80)",
}


@pytest.mark.parametrize("how", MALTREATED)
def test_35_a_child_that_its_handler_maltreats_survives_or_is_replaced(
    shop: Shop, delivery: str, how: str
) -> None:
    shop.write(f"""
        import threading

        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message)
            if message == "bad":
                {MALTREATED[how]}
    """)
    shop.queue.enqueue("a", "bad", "b", "c")
    with shop.open("-c1") as worker:
        more = ["more"] if "enqueues" in how else []
        shop.wait_for_notes("a", "b", "bad", "c", *more)
        wait_until(lambda: len(worker.events("message.done")) == 4 + len(more), 20, "each is done once")
        stop(worker)
        wait_until(lambda: not worker.left(), 20, "nobody is left")
        assert worker.events("claim.lost") == []
    assert len(shop.queue) == shop.in_flight() == 0
    assert shop.dead() == []
