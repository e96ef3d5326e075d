"""Row 23: a child, or all of a worker, that is frozen past its lease and thaws.

Frozen within a worker that goes on, just before it starts a message, is in `tests/process/test_overstays.py`.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import Running
from tests.support.leases import LAPSED_FOR_S, LEASE_S, on_another_machine, short_leases
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

GATED = """
    machine = os.environ.get("TEST_MACHINE", "here")

    @queue.worker
    def handle(message):
        note("began", message, machine)
        wait_for(f"go {machine}")
        note("ended", message, machine)
"""


@pytest.fixture
def short(shop: Shop, tmp_path: Path) -> Shop:
    """A shop where leases are short."""
    shop.env |= short_leases(tmp_path)
    shop.write(GATED)
    return shop


def all_of(worker: Running, number: int) -> None:
    for pid in worker.left() | {worker.pid}:
        os.kill(pid, number)


def leases_could_lapse() -> None:
    """A time in which something must not happen."""
    end = time.monotonic() + 2 * (LEASE_S + LAPSED_FOR_S)
    wait_until(lambda: time.monotonic() > end, 60)


def test_23_of_a_worker_frozen_past_its_lease_nothing_that_was_taken_over_is_started(short: Shop) -> None:
    short.queue.enqueue(*range(5))
    with short.open("-c1", "--prefetch=3", env=on_another_machine("a")) as first:
        short.wait_for_notes("began 0 a")
        all_of(first, signal.SIGSTOP)
        short.allow("go b")
        with short.open("-c1", env=on_another_machine("b")):
            wait_until(lambda: len(short.notes()) == 11, 30, "the other one does all of it")
            all_of(first, signal.SIGCONT)
            leases_could_lapse()  # the keeper goes on to renew, which must not deceive the child
            short.allow("go a")
            wait_until(lambda: "ended 0 a" in short.notes(), 20)
            wait_until(lambda: first.events("claim.lost"), 20, "the late word is noticed")
            wait_until(lambda: short.in_flight() == 0)
    assert [note for note in short.notes() if note.endswith("a")] == ["began 0 a", "ended 0 a"]
    assert len(short.queue) == 0
    assert short.dead() == []


def test_23_a_frozen_child_keeps_its_message_as_long_as_its_supervisor_renews(short: Shop) -> None:
    short.queue.enqueue("x", "y")
    with short.open("-c1", "--prefetch=2", env=on_another_machine("a")) as first:
        short.wait_for_notes("began x a")
        (child,) = ready(first)
        os.kill(child, signal.SIGSTOP)
        with short.open("-c1", env=on_another_machine("b")) as second:
            ready(second)
            leases_could_lapse()
            assert short.notes() == ["began x a"]
            os.kill(child, signal.SIGCONT)
            short.allow("go a")
            short.wait_for_notes(*[f"{word} {m} a" for m in "xy" for word in ("began", "ended")])
            wait_until(lambda: short.in_flight() == 0)
            assert first.events("claim.lost") == second.events("message.released") == []
