"""Rows 4 and 5: the supervisor is killed, alone or with everybody."""

import os
import signal

import pytest

from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message)
        wait_for("go")
        note("ended", message)
"""


def test_4_without_a_supervisor_children_end_what_they_run_and_nobody_stays(
    shop: Shop, delivery: str, parent: str
) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a", "b")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a")
        worker.signal(signal.SIGKILL)
        worker.wait()
        shop.allow("go")
        gone(worker)
    notes = shop.notes()
    assert notes in (["began a", "ended a"], ["began a", "ended a", "began b", "ended b"])  # until told
    assert len(shop.queue) == 2 - notes.count("ended a") - notes.count("ended b")
    assert shop.in_flight() == shop.consumers() == 0


def test_4_idle_children_of_a_killed_supervisor_leave_at_once(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        worker.signal(signal.SIGKILL)
        worker.wait()
        gone(worker)
    assert shop.consumers() == 0


def test_4_a_supervisor_killed_while_it_starts_leaves_nobody(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    with shop.open("-c8") as worker:
        wait_until(lambda: worker.events("child.started"))
        worker.signal(signal.SIGKILL)
        worker.wait()
        gone(worker)


def test_5_a_child_of_which_the_kernel_tells_nothing_leaves_when_it_has_no_more_to_do(
    shop: Shop, delivery: str
) -> None:
    shop.env["HOTQUEUE_NO_PRCTL"] = "1"  # as on macOS
    shop.write(GATED)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        (child,) = ready(worker)
        shop.wait_for_notes("began a")
        for pid in (worker.pid, *(worker.left() - {worker.pid, child})):
            os.kill(pid, signal.SIGKILL)
        worker.wait()
        wait_until(lambda: worker.left() == {child}, 20, "only the child is left")
        shop.allow("go")
        gone(worker)
    assert shop.notes() == ["began a", "ended a"]
    assert shop.in_flight() == shop.consumers() == 0


@pytest.mark.usefixtures("anywhere")
def test_5_when_all_are_killed_what_ran_is_kept_or_lost_and_the_rest_is_there(
    shop: Shop, delivery: str
) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a", "b", "c")
    with shop.open("-c2") as worker:
        shop.wait_for_notes("began a", "began b")
        worker.signal_group(signal.SIGKILL)
        worker.wait()
        gone(worker)
    assert len(shop.queue) == 1
    assert shop.in_flight() == (2 if delivery == "at-least-once" else 0)
    shop.allow("go")
    with shop.open("-c1"):  # another supervisor of this host sees at once whose owners are gone
        ended = {f"ended {message}" for message in ("abc" if delivery == "at-least-once" else "c")}
        wait_until(lambda: ended <= set(shop.notes()), 20, "all that is not lost was done")
        wait_until(lambda: shop.in_flight() == 0, 20, "and Redis knows")
