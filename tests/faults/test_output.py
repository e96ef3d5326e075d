"""Row 33: standard streams that are closed, that nobody reads, or that a full disk is behind."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.commands import Running, start
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


SAYS_WHO_COMES = """
    from hotqueue.hooks import on_child_start

    @on_child_start
    def come():
        note(os.getpid())

    @queue.worker
    def handle(message):
        print("x" * 100_000)
"""


def into_a_pipe(shop: Shop, path: Path, *options: str) -> Running:
    """Start a worker whose log goes into a named pipe."""
    words = ["-m", "hotqueue.worker", "tasks", *options]
    return start(
        "sh", "-c", f'exec "$0" "$@" 2>{path}', sys.executable, *words, env=shop.env, cwd=shop.folder
    )


def test_33_a_log_that_nobody_reads_does_not_hold_up_the_supervisor(shop: Shop) -> None:
    shop.write(SAYS_WHO_COMES)
    path = shop.folder / "log"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    while True:
        try:
            os.write(pipe, b"\n")
        except BlockingIOError:
            break
    with into_a_pipe(shop, path, "-c2", "--log-level=info") as worker:
        wait_until(lambda: len(shop.notes()) == 2, 20, "children have come up")
        os.kill(int(shop.notes()[0]), signal.SIGKILL)
        wait_until(lambda: len(shop.notes()) == 3, 20, "the dead one is replaced")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    os.close(pipe)


def test_33_a_pipe_that_does_not_block_gets_whole_lines_all_the_same(shop: Shop) -> None:
    shop.write("""
        import logging
        os.set_blocking(2, False)

        @queue.worker
        def handle(message):
            logging.warning("x" * 100_000)
    """)
    path = shop.folder / "log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    shop.queue.enqueue(*range(9))
    with into_a_pipe(shop, path, "-c1", "--log-level=warning") as worker:
        text = b""

        def all_is_read() -> bool:
            nonlocal text
            with suppress(BlockingIOError):
                text += os.read(reader, 4096)
            return text.count(b"x" * 100_000) == 9

        wait_until(all_is_read, 20, "every line has come")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    os.close(reader)
