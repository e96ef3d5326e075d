"""What the seats of a child have in common: one waits for all, and a suspect runs alone."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from hotqueue.worker.company import Company
from tests.support.waiting import wait_until


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def begin(company: Company) -> Iterator[Callable[..., Future[bool]]]:
    """Have another thread do something."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit
        company.end()


def waiting(company: Company) -> int:
    return len(company._lead._waiters) + len(company._room._waiters)  # type: ignore[attr-defined]


Begin = Callable[..., "Future[bool]"]


def test_one_leads_and_the_others_follow_one_after_the_other(company: Company, begin: Begin) -> None:
    assert company.lead()
    assert not company.lead(within_s=0.001)
    followers = [begin(company.lead) for _ in range(2)]
    wait_until(lambda: waiting(company) == 2)
    company.pass_on()
    wait_until(lambda: sum(each.done() for each in followers) == 1)
    assert waiting(company) == 1
    company.pass_on()
    assert all(each.result(60) for each in followers)


def test_who_must_be_alone_waits_for_those_that_run_and_nobody_else_begins(
    company: Company, begin: Begin
) -> None:
    assert company.enter(alone=False)
    assert company.enter(alone=False)
    alone = begin(company.enter, alone=True)
    wait_until(lambda: waiting(company) == 1)
    assert not company.enter(alone=False)
    assert not company.enter(alone=True)
    looking = begin(company.has_room)
    company.leave(alone=False)
    assert not alone.done()
    company.leave(alone=False)
    assert alone.result(60)
    assert not company.enter(alone=False)
    assert not looking.done()
    company.leave(alone=True)
    assert looking.result(60)
    assert company.enter(alone=False)


def test_the_end_ends_all_waits(company: Company, begin: Begin) -> None:
    assert company.lead()
    assert company.enter(alone=False)
    waits = [begin(company.lead), begin(company.enter, alone=True)]
    wait_until(lambda: waiting(company) == 2)
    waits.append(begin(company.has_room))
    company.end()
    assert [each.result(60) for each in waits] == [False] * 3
    company.leave(alone=False)


def test_a_loss_is_told_by_the_first_and_its_end_by_the_last(company: Company) -> None:
    assert [company.lost(), company.lost(), company.back(), company.back()] == [True, False, False, True]


def test_never_does_anything_run_beside_one_that_is_alone(company: Company) -> None:
    running: list[bool] = []
    beside = threading.Event()

    def seat(number: int) -> None:
        for turn in range(300):
            alone = (turn + number) % 7 == 0
            if company.enter(alone=alone):
                running.append(alone)
                if len(running) > 1 and any(running):
                    beside.set()
                running.remove(alone)
                company.leave(alone=alone)
            else:
                company.has_room()

    threads = [threading.Thread(target=seat, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not beside.is_set()
