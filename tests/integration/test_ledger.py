"""The ledger can fail: each falsified account is found, and the true one balances."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.ledger import Account, Verdict, judge, table, told
from hotqueue import HotQueue

TRUE = ["began 1", "done 1", "began 2", "began 3"]


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    """Where 1 was done, 2 was rejected and 3 killed its consumers."""
    queue = HotQueue("ledger", url=redis_url)
    for kind, number in (("rejected", 2), ("poison", 3)):
        bury(queue, kind, number)
    return queue


def bury(queue: HotQueue, kind: str, number: int) -> None:
    queue.enqueue((kind, number))
    for delivery in queue.deliveries(timeout=5):
        delivery.reject("always")
        break


def true_account() -> Account:
    return Account(accepted={1: "plain", 2: "rejected", 3: "poison"})


def look(tmp_path: Path, notes: list[str], account: Account, queue: HotQueue) -> Verdict:
    path = tmp_path / "notes"
    path.write_text("\n".join(notes))
    return judge(path, 1, account, queue)


def test_a_true_account_balances(tmp_path: Path, queue: HotQueue) -> None:
    account = true_account()
    account.unknown = {7}  # whether it was accepted is not known, so it may be done or not
    account.faults["child killed"] = 1
    assert look(tmp_path, [*TRUE, "done 1"], account, queue).balances, "one repeat is allowed"


LIES: dict[str, Callable[[list[str], Account, HotQueue], object]] = {
    "lost       1 [1]": lambda notes, _, __: notes.remove("done 1"),
    "lost       1 [8]": lambda _, account, __: account.accepted.update({8: "plain"}),
    "unexpected 1 [9]": lambda notes, _, __: notes.append("done 9"),
    "unexpected 1 [6]": lambda _, __, queue: bury(queue, "poison", 6),
    "waiting    1": lambda _, __, queue: queue.enqueue(("plain", 1)),
    "delayed    1": lambda _, __, queue: queue.send(("plain", 1), delay=60),
    "repeated   1": lambda notes, _, __: notes.append("done 1"),
    "(innocent: [1])": lambda _, __, queue: bury(queue, "plain", 1),
}


@pytest.mark.parametrize("said", LIES)
def test_a_false_account_does_not_balance_and_says_why(tmp_path: Path, queue: HotQueue, said: str) -> None:
    notes, account = list(TRUE), true_account()
    LIES[said](notes, account, queue)
    verdict = look(tmp_path, notes, account, queue)
    assert not verdict.balances
    assert said in told(account, verdict)


def test_a_message_that_is_stuck_on_a_consumer_s_list_is_found(tmp_path: Path, queue: HotQueue) -> None:
    queue.enqueue(("plain", 1))
    deliveries = queue.deliveries()
    next(deliveries)
    account = true_account()
    verdict = look(tmp_path, TRUE, account, queue)
    assert not verdict.balances
    assert "in flight  1" in told(account, verdict)


def test_the_table_says_what_was_lost_stuck_and_repeated_by_each_kind_of_fault(
    tmp_path: Path, queue: HotQueue
) -> None:
    account = true_account()
    account.faults["child killed"] = 2
    account.accepted[8] = "plain"
    queue.enqueue(("plain", 1))
    path = tmp_path / "notes"
    path.write_text("\n".join([*TRUE, "done 1"]))
    assert "| child killed | 2 | 4 | 1 | 1 | 1 |" in table(
        {"child killed": (account, judge(path, 1, account, queue))}
    )
