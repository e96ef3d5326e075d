"""The scoreboard: what a child writes, others read, at any moment."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from hotqueue.delivery import Delivery
from hotqueue.frame import id_text, new_id, pack, peek_id
from hotqueue.worker import layout
from hotqueue.worker.layout import BUSY, IDLE, NO_CLAIM, STARTING, STOPPING, Layout, new_file
from hotqueue.worker.reading import Place, Running
from hotqueue.worker.scoreboard import Scoreboard
from hotqueue.worker.seat import FRESH_NS, Seat, Slot
from tests.support.waiting import wait_until

QUEUES = ["emails", "images"]


@pytest.fixture
def descriptor() -> Iterator[int]:
    number = new_file(Layout(len(QUEUES), 3).bytes)
    yield number
    os.close(number)


@pytest.fixture
def board(descriptor: int) -> Scoreboard:
    return Scoreboard(descriptor, QUEUES, 3)


def taken(board: Scoreboard, number: int = 2) -> Slot:
    board.renewed(0)
    board.renewed(1)
    slot = Slot(board, number)
    assert slot.take(board.invite(number))
    return slot


def seated(board: Scoreboard) -> Seat:
    return taken(board).seats[0]


def running(board: Scoreboard, number: int = 2) -> Running | None:
    found = board.read(number).running
    return found[0] if found else None


def place(board: Scoreboard, queue_index: int) -> Place:
    return board.read(2).places[0][queue_index]


def delivery(queue: str, *, framed: bool = True) -> Delivery:
    raw = pack(b"x", 1, message_id=new_id()) if framed else b"x"
    return Delivery(queue, raw, lane=None)  # type: ignore[arg-type]


def run(seat: Seat, one: Delivery, index: int = 0) -> None:
    one.index = index
    assert seat.started(one, time.monotonic_ns())


def test_an_empty_slot_reads_as_nothing(board: Scoreboard) -> None:
    reading = board.read(1)
    assert (reading.state, reading.ended, reading.running) == (0, 0, ())
    assert [place.incarnation for places in reading.places for place in places] == [0, 0]


def test_states_follow_each_other(board: Scoreboard) -> None:
    slot = taken(board)
    assert board.state(2) == STARTING
    slot.ready()
    assert board.state(2) == IDLE
    run(slot.seats[0], delivery("emails"))
    assert board.state(2) == BUSY
    slot.stopping()
    assert board.state(2) == STOPPING
    assert board.state(1) == board.state(3) == 0


def test_what_runs_is_shown_until_it_has_ended(board: Scoreboard) -> None:
    seat, one = seated(board), delivery("images")
    run(seat, one)
    found = running(board)
    assert found
    assert (found.queue, found.id) == ("images", id_text(peek_id(one.raw)))
    assert board.read(2).ended == 0
    seat.finished("images", 0)
    assert running(board) is None
    assert board.read(2).ended == 1


def test_a_bare_body_has_no_id(board: Scoreboard) -> None:
    seat = seated(board)
    run(seat, delivery("emails", framed=False))
    found = running(board)
    assert found
    assert found.id is None


def test_an_at_most_once_message_runs_though_it_is_the_first_again(board: Scoreboard) -> None:
    seat = seated(board)
    for _ in range(2):
        run(seat, delivery("emails"))
        assert running(board)
        seat.finished("emails", 0)
        assert not running(board)


def test_a_place_shows_the_claim_and_how_far_it_got(board: Scoreboard) -> None:
    seat = seated(board)
    seat.registered("images", incarnation=2**64 - 1, client_id=7)
    assert place(board, 1).claim == NO_CLAIM
    seat.connected("images", "[2001:db8::1]:50312")
    seat.claimed("images", 3, 2)
    run(seat, delivery("images"), 0)
    seat.finished("images", 0)
    run(seat, delivery("images"), 1)
    found = place(board, 1)
    assert (found.queue, found.incarnation, found.client_id) == ("images", 2**64 - 1, 7)
    assert found.seen_as == "[2001:db8::1]:50312"
    assert (found.claim, found.started, found.finished, found.is_running) == (3, 2, 1, True)
    assert board.incarnations(1) == [2**64 - 1]
    assert board.incarnations(0) == []


def test_a_new_claim_is_believed_only_when_all_of_it_is_there(board: Scoreboard) -> None:
    seat = seated(board)
    seat.registered("emails", 5, 1)
    seat.claimed("emails", 1, 0)
    run(seat, delivery("emails"), 4)
    seen = []
    real = seat._words

    class Watched:
        def __getitem__(self, word: int) -> int:
            return real[word]

        def __setitem__(self, word: int, value: int) -> None:
            real[word] = value
            now = place(board, 0)
            seen.append((now.claim, now.started))

    seat._words = Watched()  # type: ignore[assignment]
    seat.claimed("emails", 2, 0)
    assert seen == [(NO_CLAIM, 5), (NO_CLAIM, 0), (NO_CLAIM, 0), (NO_CLAIM, 0), (2, 0)]


def test_a_ticket_is_good_for_one_child(board: Scoreboard) -> None:
    first, second = board.invite(1), board.invite(1)
    assert not Slot(board, 1).take(first)
    assert board.state(1) == 0
    assert Slot(board, 1).take(second)


def test_withdrawing_a_ticket_tells_who_has_used_it(board: Scoreboard) -> None:
    unused = board.invite(1)
    assert board.withdraw(1) == 0
    assert not Slot(board, 1).take(unused)
    taken(board)
    assert board.withdraw(2) == os.getpid()


def test_a_cleared_slot_has_nothing_of_the_last_child(board: Scoreboard) -> None:
    seat = seated(board)
    seat.registered("emails", 5, 1)
    run(seat, delivery("emails"))
    board.clear(2)
    assert board.read(2) == board.read(1)


def test_a_reader_never_sees_a_mixture_of_two_messages(board: Scoreboard, descriptor: int) -> None:
    """A process of its own writes as fast as it can; the id of a message ends in the number of its queue."""
    raws = [pack(b"x", 1, message_id=bytes([1] * 8 + [number] * 8)) for number in (1, 2)]
    writer = os.fork()
    if writer == 0:
        seat = Slot(Scoreboard(descriptor, QUEUES, 3), 1).seats[0]
        both = [Delivery(name, raw, lane=None) for name, raw in zip(QUEUES, raws, strict=True)]  # type: ignore[arg-type]
        while True:
            for one in both:
                seat.started(one, time.monotonic_ns())
    try:
        seen = set()

        def has_seen_both() -> bool:
            for _ in range(20_000):
                found = running(board, 1)
                if found:
                    assert found.id
                    seen.add((found.queue, found.id[-1]))
            return len(seen) >= 2

        wait_until(has_seen_both)
        assert seen == {("emails", "1"), ("images", "2")}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def test_a_record_that_its_child_died_in_writing_reads_as_none(board: Scoreboard) -> None:
    seat = seated(board)
    run(seat, delivery("emails"))
    board.words[board.layout.seat(2, 0) + layout.VERSION] += 1
    assert running(board) is None


def claiming(board: Scoreboard, ring: Callable[[], None] = lambda: None) -> Seat:
    board.renewed(1)
    seat = Slot(board, 2, ring).seats[0]
    seat.registered("images", 5, 1)
    seat.claimed("images", 1, 3)
    return seat


def test_what_is_claimed_and_not_started_is_buffered_until_it_is_started_or_revoked(
    board: Scoreboard,
) -> None:
    seat = claiming(board)
    assert [board.buffered(number, 0) for number in board.numbers] == [[], [1], []]
    for index in range(3):
        run(seat, delivery("images"), index)
    assert board.buffered(2, 0) == []
    seat.claimed("images", 2, 3)
    assert board.buffered(2, 0) == [1]
    board.revoke(2, 0, 1)
    assert board.buffered(2, 0) == []
    seat.claimed("images", 3, 3)
    assert board.buffered(2, 0) == [1]


def test_nothing_of_a_revoked_claim_is_started_and_what_was_before_is_told(board: Scoreboard) -> None:
    seat = claiming(board)
    run(seat, delivery("images"))
    assert not seat.is_revoked("images")
    board.revoke(2, 0, 1)
    assert seat.is_revoked("images")
    found = board.revoked(2, 0, 1)
    assert found
    assert (found.incarnation, found.claim, found.started) == (5, 1, 1)
    two = delivery("images")
    two.index = 1
    assert not seat.started(two, time.monotonic_ns())
    assert board.read(2).ended == 1
    seat.claimed("images", 2, 1)
    assert not seat.is_revoked("images")
    assert board.revoked(2, 0, 1) is None
    run(seat, delivery("images"))


@pytest.mark.parametrize("why", ["lost", "not renewed", "paused", "quiet"])
def test_nothing_is_started_of_a_claim_that_is_no_longer_sure_or_of_a_queue_that_rests(
    board: Scoreboard, why: str
) -> None:
    seat = seated(board)
    seat.registered("images", 7, 70)
    seat.claimed("images", 1, 3)
    run(seat, delivery("images"))
    now_ns = time.monotonic_ns()
    if why == "lost":
        board.lost(1, [7])
    elif why == "not renewed":
        now_ns += FRESH_NS
    elif why == "paused":
        board.pause(1, paused=True)
    else:
        board.quiet(quiet=True)
    one = delivery("images")
    one.index = 1
    assert not seat.started(one, now_ns)
    found = place(board, 1)
    assert (found.started, found.finished) == (1, 1)


def test_a_child_rings_when_it_claims_several_and_nobody_watches(board: Scoreboard) -> None:
    rung: list[None] = []
    seat = claiming(board, lambda: rung.append(None))
    assert len(rung) == 1
    board.watch(watching=True)
    seat.claimed("images", 2, 3)
    board.watch(watching=False)
    seat.claimed("images", 3, 1)
    assert len(rung) == 1


def test_the_seats_of_a_child_are_told_apart_and_it_is_busy_while_one_of_them_is() -> None:
    board = Scoreboard(new_file(Layout(len(QUEUES), 2, 3).bytes), QUEUES, 2, 3)
    slot = taken(board)
    slot.ready()
    assert board.state(2) == IDLE
    first, second = delivery("emails"), delivery("images")
    run(slot.seats[2], first)
    run(slot.seats[0], second)
    found = board.read(2)
    assert found.state == BUSY
    assert [(each.seat, each.number, each.id) for each in found.running] == [
        (2, 1, id_text(peek_id(first.raw))),
        (0, 1, id_text(peek_id(second.raw))),
    ]
    board.warn(2, found.running[0])
    assert [seat.is_warned() for seat in slot.seats[1:]] == [True, True]  # nothing runs in the middle
    assert not slot.seats[0].is_warned()
    slot.seats[2].finished("emails", 0)
    slot.seats[2].idle()
    assert (board.state(2), board.read(2).ended, len(board.running(2))) == (BUSY, 1, 1)
    slot.seats[0].idle()
    assert board.state(2) == IDLE
    slot.stopping()
    assert board.state(2) == STOPPING
    board.clear(2)
    assert board.read(2) == board.read(1)


def test_only_at_a_stop_a_claim_of_one_message_is_taken_back() -> None:
    board = Scoreboard(new_file(Layout(1, 1).bytes), ["emails"], 1)
    seat = Slot(board, 1).seats[0]
    seat.registered("emails", 5, 1)
    seat.claimed("emails", 1, 1)
    assert (board.buffered(1, 0), board.buffered(1, 0, 2)) == ([0], [])
    assert not seat.has_behind(delivery("emails"))
    seat.claimed("emails", 2, 2)
    assert board.buffered(1, 0, 2) == [0]
    assert seat.has_behind(delivery("emails"))
