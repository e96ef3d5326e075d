"""Row 33: standard streams that are closed, that nobody reads, or that a full disk is behind."""

import sys

import pytest

from tests.support.commands import start
from tests.support.shop import Shop
from tests.support.waiting import wait_until

STREAMS = [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "2>&1 | true", "2>&1 | head -c1"]


@pytest.mark.parametrize("streams", STREAMS)
def test_work_goes_on_when_nobody_takes_the_output(shop: Shop, streams: str) -> None:
    shop.write("""
        other = HotQueue("other")

        def handle(message):
            print("printed", message)
            print("and there", file=sys.stderr)
            note(message)

        queue.worker(handle)
        other.worker(delivery="at-most-once")(lambda message: handle(message))
    """)
    shop.queue.enqueue(*range(50))
    shop.queue_named("other").enqueue(*range(50, 100))
    command = f'"$0" -m hotqueue.worker tasks -c2 -b {streams}'
    with start("sh", "-c", command, sys.executable, env=shop.env, cwd=shop.folder) as shell:
        assert shell.wait() == 0
        wait_until(lambda: not shell.left(), 20, "the worker has left")
    assert sorted(map(int, shop.notes())) == list(range(100))
    assert shop.dead() == shop.dead("other") == []
