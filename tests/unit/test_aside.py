"""What is set aside when a lane fails: for how long, and what with it."""

import time

import pytest

from hotqueue.address import Address
from hotqueue.aside import LONGEST_S, SHORTEST_S, Aside
from hotqueue.at_least_once import AtLeastOnce
from hotqueue.connection import Connection
from hotqueue.delivery import Unwatched

HERE, THERE = (Address.from_url(f"redis://{host}") for host in ("here", "there"))


def lane(address: Address) -> AtLeastOnce:
    return AtLeastOnce("jobs", Connection(address, 1.0), Unwatched())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_fails_at_once_is_set_aside_alone_until_it_is_asked_again(clock: list[float]) -> None:
    broken, fine = lane(HERE), lane(HERE)
    aside = Aside([broken, fine])
    assert aside.put(broken, 0.001)
    assert (aside.is_due(broken), aside.is_due(fine)) == (False, True)
    clock[0] += SHORTEST_S
    assert aside.is_due(broken)
    assert broken in aside  # until it works
    aside.works(broken)
    assert not aside


def test_what_failed_in_a_wait_is_asked_in_its_turn_and_not_known_to_work_until_then(
    clock: list[float],
) -> None:
    del clock
    broken, fine = lane(HERE), lane(THERE)
    aside = Aside([broken, fine])
    aside.doubt(broken)
    assert (broken in aside, aside.is_due(broken)) == (True, True)
    aside.works(broken)
    aside.doubt(fine)
    aside.doubt(broken)
    assert not aside  # nothing else is left


@pytest.mark.parametrize(("took_s", "expected_s"), [(2.0, 20.0), (5.0, LONGEST_S)])
def test_what_had_to_be_waited_for_is_set_aside_with_all_of_its_server_and_for_longer(
    clock: list[float], took_s: float, expected_s: float
) -> None:
    first, second, elsewhere = lane(HERE), lane(HERE), lane(THERE)
    aside = Aside([first, second, elsewhere])
    assert aside.put(first, took_s)
    clock[0] += expected_s - 0.1
    assert [aside.is_due(each) for each in (first, second, elsewhere)] == [False, False, True]
    clock[0] += 0.2
    assert aside.is_due(second)


def test_when_nothing_is_left_nothing_is_set_aside(clock: list[float]) -> None:
    del clock
    one, other = lane(HERE), lane(THERE)
    aside = Aside([one, other])
    assert aside.put(one, 0.0)
    assert not aside.put(other, 0.0)
    assert not aside
    assert not Aside([one]).put(one, 5.0)
