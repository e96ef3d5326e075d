"""The scoreboard: what a child writes, others read, at any moment."""

import os
import signal
from collections.abc import Iterator

import pytest

from hotqueue.delivery import Delivery
from hotqueue.frame import id_text, new_id, pack, peek_id
from hotqueue.worker import scoreboard
from hotqueue.worker.scoreboard import (
    BUSY,
    IDLE,
    NO_CLAIM,
    STARTING,
    STOPPING,
    Scoreboard,
    Slot,
    new_file,
    size,
)

QUEUES = ["emails", "images"]


@pytest.fixture
def descriptor() -> Iterator[int]:
    number = new_file(size(len(QUEUES), 3))
    yield number
    os.close(number)


@pytest.fixture
def board(descriptor: int) -> Scoreboard:
    return Scoreboard(descriptor, QUEUES, 3)


def seated(board: Scoreboard, number: int = 2) -> Slot:
    slot = Slot(board, number)
    assert slot.take(board.invite(number))
    return slot


def delivery(queue: str, *, framed: bool = True) -> Delivery:
    raw = pack(b"x", 1, message_id=new_id()) if framed else b"x"
    return Delivery(queue, raw, lane=None)  # type: ignore[arg-type]


def run(slot: Slot, one: Delivery, index: int = 0) -> None:
    slot.running(one, "handler")
    slot.started(one.queue, index)


def test_an_empty_slot_reads_as_nothing(board: Scoreboard) -> None:
    reading = board.read(1)
    assert (reading.state, reading.ended, reading.running) == (0, 0, None)
    assert [place.incarnation for place in reading.places] == [0, 0]


def test_states_follow_each_other(board: Scoreboard) -> None:
    slot = seated(board)
    assert board.state(2) == STARTING
    slot.idle()
    assert board.state(2) == IDLE
    run(slot, delivery("emails"))
    assert board.state(2) == BUSY
    slot.stopping()
    assert board.state(2) == STOPPING
    assert board.state(1) == board.state(3) == 0


def test_what_runs_is_shown_until_it_has_ended(board: Scoreboard) -> None:
    slot, one = seated(board), delivery("images")
    run(slot, one)
    running = board.read(2).running
    assert running
    assert (running.queue, running.id) == ("images", id_text(peek_id(one.raw)))
    assert board.read(2).ended == 0
    slot.finished("images", 0)
    assert board.read(2).running is None
    assert board.read(2).ended == 1


def test_a_bare_body_has_no_id(board: Scoreboard) -> None:
    slot = seated(board)
    run(slot, delivery("emails", framed=False))
    running = board.read(2).running
    assert running
    assert running.id is None


def test_an_at_most_once_message_runs_though_it_is_the_first_again(board: Scoreboard) -> None:
    slot = seated(board)
    for _ in range(2):
        run(slot, delivery("emails"))
        assert board.read(2).running
        slot.finished("emails", 0)
        assert not board.read(2).running


def test_a_place_shows_the_claim_and_how_far_it_got(board: Scoreboard) -> None:
    slot = seated(board)
    slot.registered("images", incarnation=2**64 - 1, client_id=7)
    assert board.read(2).places[1].claim == NO_CLAIM
    slot.claimed("images", 3)
    slot.started("images", 0)
    slot.finished("images", 0)
    slot.started("images", 1)
    place = board.read(2).places[1]
    assert (place.queue, place.incarnation, place.client_id) == ("images", 2**64 - 1, 7)
    assert (place.claim, place.started, place.finished, place.is_running) == (3, 2, 1, True)
    assert board.incarnations(1) == [2**64 - 1]
    assert board.incarnations(0) == []


def test_a_new_claim_is_believed_only_when_all_of_it_is_there(board: Scoreboard) -> None:
    slot = seated(board)
    slot.registered("emails", 5, 1)
    slot.claimed("emails", 1)
    slot.started("emails", 4)
    seen = []
    real = slot._words

    class Watched:
        def __getitem__(self, word: int) -> int:
            return real[word]

        def __setitem__(self, word: int, value: int) -> None:
            real[word] = value
            place = board.read(2).places[0]
            seen.append((place.claim, place.started))

    slot._words = Watched()  # type: ignore[assignment]
    slot.claimed("emails", 2)
    assert seen == [(NO_CLAIM, 5), (NO_CLAIM, 0), (NO_CLAIM, 0), (2, 0)]


def test_a_ticket_is_good_for_one_child(board: Scoreboard) -> None:
    first, second = board.invite(1), board.invite(1)
    assert not Slot(board, 1).take(first)
    assert board.state(1) == 0
    assert Slot(board, 1).take(second)


def test_withdrawing_a_ticket_tells_who_has_used_it(board: Scoreboard) -> None:
    unused = board.invite(1)
    assert board.withdraw(1) == 0
    assert not Slot(board, 1).take(unused)
    seated(board, 2)
    assert board.withdraw(2) == os.getpid()


def test_a_cleared_slot_has_nothing_of_the_last_child(board: Scoreboard) -> None:
    slot = seated(board)
    slot.registered("emails", 5, 1)
    run(slot, delivery("emails"))
    board.clear(2)
    assert board.read(2) == board.read(1)


def test_a_reader_never_sees_a_mixture_of_two_messages(board: Scoreboard, descriptor: int) -> None:
    """A process of its own writes as fast as it can; the id of a message ends in the number of its queue."""
    raws = [pack(b"x", 1, message_id=bytes([1] * 8 + [number] * 8)) for number in (1, 2)]
    writer = os.fork()
    if writer == 0:
        slot = Slot(Scoreboard(descriptor, QUEUES, 3), 1)
        both = [Delivery(name, raw, lane=None) for name, raw in zip(QUEUES, raws, strict=True)]  # type: ignore[arg-type]
        for queue in QUEUES:
            slot.started(queue, 0)
        while True:
            for one in both:
                slot.running(one, "handler")
    try:
        seen = set()
        for _ in range(20_000):
            running = board.read(1).running
            if running:
                assert running.id
                seen.add((running.queue, running.id[-1]))
        assert seen == {("emails", "1"), ("images", "2")}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)


def test_a_record_that_its_child_died_in_writing_reads_as_none(board: Scoreboard) -> None:
    slot = seated(board)
    run(slot, delivery("emails"))
    board.words[board.slot(2) + scoreboard._VERSION] += 1
    assert board.read(2).running is None
