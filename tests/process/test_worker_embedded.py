"""A worker with a private server: started, found by others, stopped last, and there again."""

import signal
from pathlib import Path

import pytest

from hotqueue import HotQueue
from hotqueue.datadir import DataDir
from hotqueue.loopback import answers
from tests.support.processes import kill_all
from tests.support.servers import free_port
from tests.support.shop import Shop, gone
from tests.support.waiting import wait_until

GATED = """
    @queue.worker
    def handle(message):
        note("began", message)
        wait_for("go")
        note("ended", message)
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def private(shop: Shop, port: int, private_folder: Path) -> Shop:
    """A shop whose Redis is yet to be started."""
    shop.env |= {"HOTQUEUE_URL": f"redis://127.0.0.1:{port}/0", "HOTQUEUE_EMBEDDED": str(private_folder)}
    return shop


def queue(port: int) -> HotQueue:
    return HotQueue("jobs", port=port)


def test_others_find_the_server_and_it_stops_after_the_last_child(private: Shop, port: int) -> None:
    private.write(GATED)
    with private.open("-c2") as worker:
        wait_until(lambda: worker.events("supervisor.started"), 30)
        queue(port).enqueue("a")
        private.wait_for_notes("began a")
        worker.signal_group(signal.SIGINT)
        wait_until(lambda: worker.events("supervisor.stopping"))
        private.allow("go")
        assert worker.wait() == 0
        events = [line["event"] for line in worker.lines()]
        assert events.index("server.started") < events.index("supervisor.started")
        assert events.index("supervisor.stopped") < events.index("server.stopped")
        assert worker.left() == set()
    assert private.notes() == ["began a", "ended a"]
    assert answers("127.0.0.1", port) == "nothing"


def test_what_was_enqueued_is_there_at_the_next_start(private: Shop, port: int) -> None:
    private.write(GATED)
    with private.open("-c1") as worker:
        wait_until(lambda: worker.events("supervisor.started"), 30)
        queue(port).enqueue("a", "b")
        private.wait_for_notes("began a")
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 1
    private.allow("go")
    assert private.run("-c1", "-b").returncode == 0
    assert private.notes() == ["began a", "began a", "ended a", "began b", "ended b"]


def test_a_server_left_behind_by_kill_9_of_all_others_is_adopted_and_stopped(
    private: Shop, port: int, private_folder: Path
) -> None:
    private.write(GATED)
    with private.open("-c1") as first:
        wait_until(lambda: first.events("supervisor.started"), 30)
        queue(port).enqueue("a", "b")
        private.wait_for_notes("began a")
        server = DataDir(private_folder).named()[0]
        first.signal_group(signal.SIGKILL)  # at once, or one would take the place of another
        kill_all(lambda: first.left() - {server})
        private.allow("go")
        with private.open("-c1", "-b") as second:
            assert second.wait() == 0
            assert DataDir(private_folder).named() == (0, 0)
        assert first.left() == set()
    # What the killed child held comes back at once: its process is gone from this machine.
    assert sorted(private.notes()) == ["began a", "began a", "began b", "ended a", "ended b"]


def test_term_while_the_server_comes_up_leaves_none_behind(private: Shop, port: int) -> None:
    private.write(GATED)
    with private.open() as worker:
        wait_until(lambda: answers("127.0.0.1", port) != "nothing", 30)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)
    assert answers("127.0.0.1", port) == "nothing"
