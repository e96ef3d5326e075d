"""A worker with more queues than a child has connections to wait on."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.shop import Shop, ready
from tests.support.waiting import passes, wait_until

SOCKETS = Path("/proc/net/tcp")
CHILDREN, PARKED = 2, 6
SERVE = """
    def serve(number):
        @HotQueue(f"q{number:02}").worker(delivery=DELIVERY if number else "at-least-once")
        def handle(message):
            note(current().queue, message)

    for number in range(int(os.environ["QUEUES"])):
        serve(number)
"""


def blocked(shop: Shop) -> int:
    return int(shop.server.admin.info("clients")["blocked_clients"])


def connections_of(shop: Shop, pid: int) -> int:
    """How many of the connections at the server lead to this process."""
    ends = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    inodes = {end[8:-1] for end in ends if end.startswith("socket:[")}
    rows = [line.split() for line in SOCKETS.read_text().splitlines()[1:]]
    ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes}
    return sum(int(each["addr"].rpartition(":")[2]) in ports for each in shop.server.admin.client_list())


@pytest.mark.skipif(not SOCKETS.exists(), reason="looks at open sockets by /proc")
@pytest.mark.parametrize("queues", [9, 20, 50])
def test_each_queue_is_served_and_a_child_waits_on_eight_connections(shop: Shop, queues: int) -> None:
    shop.write(SERVE)
    names = [f"q{number:02}" for number in range(queues)]
    expected: list[str] = []

    def send(word: str) -> None:
        for name in names:
            shop.queue_named(name).enqueue(word)
            expected.append(f"{name} {word}")
            shop.wait_for_notes(*expected)  # so that each comes to a worker that waits

    with shop.open("-c", str(CHILDREN), env={"QUEUES": str(queues)}) as worker:
        children = ready(worker, CHILDREN)
        wait_until(lambda: blocked(shop) == PARKED * CHILDREN)
        assert [connections_of(shop, pid) for pid in children] == [8] * CHILDREN
        send("a")
        wait_until(lambda: blocked(shop) == PARKED * CHILDREN)
        assert max(connections_of(shop, pid) for pid in children) == 9
        os.kill(children[0], signal.SIGKILL)
        wait_until(lambda: len(ready(worker, CHILDREN)) == CHILDREN + 1)
        wait_until(lambda: blocked(shop) == PARKED * CHILDREN)
        send("b")
        worker.process.terminate()
        assert worker.wait() == 0
    assert shop.in_flight() == 0
    assert [shop.consumers(name) for name in names] == [0] * queues


def test_many_queues_of_both_kinds_and_a_paused_one(shop: Shop) -> None:
    shop.write(SERVE.replace('if number else "at-least-once"', 'if number % 5 else "at-most-once"'))
    names = [f"q{number:02}" for number in range(20)]
    expected = [f"{name} a" for name in names]
    with shop.open("-c2", env={"QUEUES": "20"}) as worker:
        ready(worker, 2)
        for name in names:
            shop.queue_named(name).enqueue("a")
        shop.wait_for_notes(*expected)
        paused = shop.queue_named(names[-1])
        paused.pause()
        passes(4)  # until the children know
        paused.enqueue("b")
        for name in names[:-1]:
            shop.queue_named(name).enqueue("b")
        expected += [f"{name} b" for name in names[:-1]]
        shop.wait_for_notes(*expected)
        wait_until(lambda: shop.in_flight() == 0, what="all of the others is acknowledged")
        passes(0.3)
        assert len(paused) == 1
        paused.resume()
        shop.wait_for_notes(*expected, f"{names[-1]} b")
        worker.process.terminate()
        assert worker.wait() == 0
    assert shop.in_flight() == 0


def test_a_user_who_may_not_watch_is_warned_and_served_more_slowly(shop: Shop) -> None:
    shop.write(SERVE)
    rights = ["+@all", "-client|tracking"]
    shop.server.admin.acl_setuser("few", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
    try:
        shop.env["HOTQUEUE_URL"] = shop.server.url.replace("://", "://few:secret@")
        with shop.open("-c1", env={"QUEUES": "9"}) as worker:
            (refused,) = wait_until(lambda: worker.events("wait.refused"))
            assert "doctor --acl" in refused["reason"]
            for word in "ab":
                shop.queue_named("q08").enqueue(word)
            shop.wait_for_notes("q08 a", "q08 b")
            worker.process.terminate()
            assert worker.wait() == 0
            assert len(worker.events("wait.refused")) == 1
    finally:
        shop.server.admin.acl_deluser("few")


def test_threads_wait_on_as_few_connections(shop: Shop) -> None:
    shop.write(SERVE)
    names = [f"q{number:02}" for number in range(20)]
    with shop.open("-c1", "--threads", "4", env={"QUEUES": "20"}) as worker:
        ready(worker)
        wait_until(lambda: blocked(shop) == PARKED)
        for word in "abc":
            for name in names:
                shop.queue_named(name).enqueue(word)
        shop.wait_for_notes(*(f"{name} {word}" for name in names for word in "abc"))
        wait_until(lambda: blocked(shop) == PARKED)
        worker.process.terminate()
        assert worker.wait() == 0
    assert shop.in_flight() == 0
