"""How many messages are claimed at once, by what they took."""

import pytest

from hotqueue.pace import MOST, Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def sizes(pace: Pace, clock: Clock, each_s: float, claims: int) -> list[int]:
    found = []
    for _ in range(claims):
        found.append(pace.size)
        pace.begin(pace.size)
        clock.now_s += pace.size * each_s
        pace.end()
    return found


def test_a_handler_that_is_not_known_gets_one_and_a_fast_one_soon_the_most() -> None:
    clock = Clock()
    assert sizes(Pace(None, 0.010, clock), clock, 10e-6, 10) == [1, 2, 4, 8, 16, 32, 64, 128, MOST, MOST]


@pytest.mark.parametrize(("each_s", "size"), [(1.0, 1), (0.006, 1), (0.003, 3), (0.001, 10), (0.0, MOST)])
def test_claimed_work_is_worth_the_budget(each_s: float, size: int) -> None:
    clock = Clock()
    assert sizes(Pace(None, 0.010, clock), clock, each_s, 20)[-1] == pytest.approx(size, abs=1)


def test_a_slower_claim_counts_at_once_and_faster_ones_little_by_little() -> None:
    clock = Clock()
    pace = Pace(None, 0.010, clock)
    sizes(pace, clock, 10e-6, 10)
    assert sizes(pace, clock, 0.004, 2) == [MOST, 2]
    assert sizes(pace, clock, 10e-6, 4) == [2, 4, 8, 16]


def test_after_an_overstay_it_is_one_again() -> None:
    clock = Clock()
    pace = Pace(None, 0.010, clock)
    sizes(pace, clock, 10e-6, 10)
    pace.overstay()
    pace.end()
    assert pace.size == 1


def test_a_fixed_number_stays_that() -> None:
    clock = Clock()
    pace = Pace(7, 0.010, clock)
    assert sizes(pace, clock, 10.0, 3) == [7, 7, 7]
    pace.overstay()
    assert pace.size == 7
