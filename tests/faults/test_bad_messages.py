"""Rows 14 to 18: handlers that raise anything, and messages that are none."""

import json
import pickle

import pytest

from hotqueue.errors import TooLarge
from tests.support.shop import Shop

SIMPLE = """
    @queue.worker(delivery=DELIVERY, retries=0)
    def handle(message):
        note(message)
"""
LIMIT = 64 << 20


def served(shop: Shop, *options: str) -> list[str]:
    """Run one child until all is done; return the reasons in the dead list, as kind: error."""
    done = shop.run("-c1", "-b", *options)
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    ends = {line["cause"] for line in lines if line["event"] == "child.exited"}
    assert ends == {"exit code 0"}, "the child lived until it was told to leave"
    buried = [line for line in lines if line["event"] == "message.buried"]
    assert all(line["level"] == "error" for line in buried)
    assert sorted(line["reason"] for line in buried) == sorted(reasons(shop))
    assert len(shop.queue) == shop.in_flight() == 0
    return reasons(shop)


def reasons(shop: Shop) -> list[str]:
    return [f"{trail.reason['kind']}: {trail.reason['error']}" for trail in shop.dead()]


RAISED = {
    "raise ValueError('no')": "failed: ValueError: no",
    "raise SystemExit(3)": "failed: SystemExit: 3",
    "sys.exit()": "failed: SystemExit",
    "raise KeyboardInterrupt": "failed: KeyboardInterrupt",
    "raise BaseException('base')": "failed: BaseException: base",
    "raise GeneratorExit": "failed: GeneratorExit",
    "raise type('Meta', (type,), {'__name__': property(lambda own: 1 / 0)})('X', (Exception,), {})": (
        "failed: an error without a name"
    ),
    "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})": "failed: Mute",
    "(lambda f: f(f))(lambda f: f(f))": "failed: RecursionError: maximum recursion depth exceeded",
}


def test_14_whatever_a_handler_raises_is_a_failure_and_the_child_lives(shop: Shop, delivery: str) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY, retries=0)
        def handle(act):
            exec(act)
            note("lived")
    """)
    shop.queue.enqueue(*RAISED, "pass")
    assert sorted(served(shop)) == sorted(RAISED.values())
    assert shop.notes() == ["lived"]


def test_15_bytes_that_are_no_message_are_kept_each_and_the_loop_goes_on(shop: Shop, delivery: str) -> None:
    shop.write(SIMPLE)
    frame = shop.queue._envelope.seal_all(["whole"])[0]
    garbage = [b"\xc1\xc1\xc1", b"", b"\x80\x04", frame[:-1], frame[:12], frame[:3] + b"\x63" + frame[4:]]
    garbage += [b"five equal ones"] * 5
    shop.server.admin.rpush(shop.queue.key, *garbage)
    shop.queue.enqueue("good")
    found = served(shop)
    assert len(found) == len(garbage)
    assert all(reason.startswith("unreadable: ") for reason in found)
    assert shop.notes() == ["good"]


def test_16_in_strict_mode_what_is_not_signed_or_by_another_is_never_unpickled(
    shop: Shop, delivery: str
) -> None:
    shop.env |= {"HOTQUEUE_SECRET": "ours-ours-ours-ours", "HOTQUEUE_STRICT": "1"}
    shop.write(SIMPLE)
    trap = f"__import__('pathlib').Path({str(shop.folder / 'sprung')!r}).touch()"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return eval, (trap,)

    shop.server.admin.rpush(shop.queue.key, pickle.dumps(Trap()))
    shop.queue.enqueue(Trap())
    shop.queue_named("jobs", secret="theirs-theirs-theirs").enqueue(Trap())
    shop.queue_named("other", secret="ours-ours-ours-ours").enqueue(Trap())
    shop.server.admin.lmove("hotqueue:other", "hotqueue:jobs", "LEFT", "RIGHT")
    shop.queue_named("jobs", secret="ours-ours-ours-ours").enqueue("good")
    found = served(shop)
    assert len(found) == 4
    assert all(reason.startswith("unreadable: BadMessage") for reason in found)
    assert not (shop.folder / "sprung").exists()
    assert shop.notes() == ["good"]


def test_17_a_class_that_is_gone_can_be_put_back_and_the_message_run(shop: Shop, delivery: str) -> None:
    shop.write(SIMPLE)
    shop.server.admin.rpush(shop.queue.key, b"ctasks\nOrder\n.")  # pickle for: the class tasks.Order
    (reason,) = served(shop)
    assert reason.startswith("unreadable: ")
    assert "Order" in reason
    shop.write(SIMPLE, "class Order: ...")
    (dead,) = shop.server.admin.zrange("{hotqueue:jobs}:dead", 0, -1)
    shop.server.admin.rpush(shop.queue.key, dead)
    shop.server.admin.delete("{hotqueue:jobs}:dead")
    assert served(shop) == []
    assert shop.notes() == ["<class 'tasks.Order'>"]


def test_18_a_pickle_200_000_deep_and_one_over_the_limit_do_no_harm(shop: Shop, delivery: str) -> None:
    shop.write(SIMPLE)
    depth = 200_000
    shop.server.admin.rpush(shop.queue.key, b"]" * depth + b"a" * (depth - 1) + b".")
    shop.server.admin.rpush(shop.queue.key, bytes(LIMIT + 1))
    shop.queue.enqueue("good")
    found = served(shop)
    assert [reason.partition(": ")[2].partition(":")[0] for reason in found] == ["RecursionError", "TooLarge"]
    assert shop.notes() == ["good"]


def test_18_a_message_over_the_limit_is_refused_before_it_is_sent(shop: Shop) -> None:
    with pytest.raises(TooLarge):
        shop.queue.enqueue("small", bytes(LIMIT))
    assert len(shop.queue) == 0
