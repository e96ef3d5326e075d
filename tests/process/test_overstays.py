"""A message that takes long makes none wait that was claimed with it: the rest goes to children that idle."""

import os
import signal
import sys
from collections import Counter

import pytest

from tests.support.processes import state_of
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="without membarrier each claim is of one")

MANY = 1000
FEW = 400

# One child stops itself once, in the middle of a claim: at the store that says what it starts, or at the look
# whether the claim was revoked, which comes after that.
FREEZES = """
    from hotqueue.worker import layout
    from hotqueue.worker.seat import Seat, Slot

    step = os.environ["TEST_STEP"]

    class Words:
        def __init__(self, words, place):
            self.words, self.place = words, place

        def __getitem__(self, at):
            if at == self.place + layout.REVOKED:
                self.freeze("looks", self.words[self.place + layout.STARTED] - 1)
            return self.words[at]

        def __setitem__(self, at, value):
            if at == self.place + layout.STARTED and value:
                self.freeze("says so", value - 1)
            self.words[at] = value

        def freeze(self, now, index):
            behind = self.words[self.place + layout.SIZE] - index
            if now == step and index > 0 and behind > 1:
                try:
                    (HERE / "frozen").touch(exist_ok=False)
                except FileExistsError:
                    return
                (HERE / "pid").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGSTOP)

    take, started = Slot.take, Seat.started

    def take_and_be_watched(slot, ticket):
        seat = slot.seats[0]
        seat._words = Words(seat._words, seat._places["jobs"])
        return take(slot, ticket)

    Slot.take = take_and_be_watched
    if "TEST_CONTROL" in os.environ:
        Seat.started = lambda seat, *what: started(seat, *what) or True

    @queue.worker
    def handle(message):
        note(message)
"""


def test_nobody_waits_behind_a_slow_message_while_others_idle_and_nothing_runs_twice(shop: Shop) -> None:
    shop.write(f"""
        @queue.worker
        def handle(message):
            note(message)
            if message == {MANY * 2 // 3}:
                wait_for("go")
                note("waited")
    """)
    with shop.open("-c4") as worker:
        ready(worker, 4)
        shop.queue.enqueue(*range(MANY))
        wait_until(lambda: len(shop.notes()) == MANY, 30, "all have begun, though one has not ended")
        assert "waited" not in shop.notes()
        shop.allow("go")
        wait_until(lambda: "waited" in shop.notes(), 20)
        wait_until(lambda: shop.in_flight() == 0, 20)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.events("claim.lost") == []
    assert sorted(shop.notes()) == sorted([*map(str, range(MANY)), "waited"])


def thaw(shop: Shop) -> None:
    pid = int((shop.folder / "pid").read_text())
    wait_until(lambda: state_of(pid) == "T", 20, "it has stopped itself")
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("step", ["says so", "looks"])
def test_23_of_a_child_frozen_just_before_a_message_the_rest_is_run_by_another_once(
    shop: Shop, step: str
) -> None:
    shop.write(FREEZES)
    shop.queue.enqueue(*range(FEW))
    with shop.open("-c2", env={"TEST_STEP": step}) as worker:
        told = step == "looks"  # that one alone stays with the child
        wait_until((shop.folder / "pid").exists, 20, "one is frozen")
        wait_until(lambda: len(shop.notes()) == FEW - told, 30, "the other one does the rest")
        thaw(shop)
        shop.wait_for_notes(*map(str, range(FEW)))
        wait_until(lambda: shop.in_flight() == 0, 20)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.events("claim.lost") == []
    assert sorted(shop.notes()) == sorted(map(str, range(FEW)))


def test_23_a_child_that_did_not_look_would_run_some_twice(shop: Shop) -> None:
    """So the test above can fail."""
    shop.write(FREEZES)
    shop.queue.enqueue(*range(FEW))
    with shop.open("-c2", env={"TEST_STEP": "says so", "TEST_CONTROL": "1"}):
        # Of a child that is slow the rest goes back as well, and runs twice.
        wait_until(lambda: len(set(shop.notes())) == FEW, 30, "the other one does the rest")
        thaw(shop)
        wait_until(lambda: max(Counter(shop.notes()).values()) > 1, 20, "it goes on as if nothing had been")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTSTP], ids=["stop", "quiet"])
def test_what_is_not_begun_goes_back_before_what_runs_has_ended(shop: Shop, number: int) -> None:
    shop.write("""
        @queue.worker(prefetch=4)
        def handle(message):
            note(message)
            wait_for("go")
    """)
    shop.queue.enqueue(0, 1, 2, 3, 4)
    with shop.open("-c1", "--prefetch=2") as worker:
        shop.wait_for_notes("0")
        assert len(shop.queue) == 1
        worker.signal(number)
        wait_until(lambda: len(shop.queue) == 4, 20, "the rest is back")
        assert shop.in_flight() == 1
        shop.allow("go")
        if number == signal.SIGTSTP:
            wait_until(lambda: shop.in_flight() == 0, 20)
            worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert shop.notes() == ["0"]
    assert [shop.queue.dequeue() for _ in range(4)] == [1, 2, 3, 4]
