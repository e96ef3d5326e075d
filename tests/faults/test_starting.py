"""Rows 12, 13, 26, 28, 31 and 34: a worker that cannot start, or not easily, or twice."""

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import start
from tests.support.servers import free_port, fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

SIMPLE = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)
"""


def test_a_worker_whose_children_never_come_up_gives_up_with_code_1_and_says_why(
    shop: Shop, parent: str
) -> None:
    shop.write("os.register_at_fork(after_in_child=lambda: os._exit(7))", SIMPLE)
    done = shop.run("-c2")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hotqueue-worker: no child became ready, the last one ended with: ")
    assert "exit code 7" in last


def test_a_fork_that_the_kernel_refuses_is_tried_again_later(shop: Shop, parent: str) -> None:
    (shop.folder / "sitecustomize.py").write_text("""
import errno, os
real, refusals = os.fork, [1, 2]

def fork():
    if refusals:
        refusals.pop()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return real()

os.fork = fork
""")
    shop.write(SIMPLE)
    shop.queue.enqueue("a")
    with shop.open("-c1", env={"PYTHONPATH": str(shop.folder)}) as worker:
        shop.wait_for_notes("a")
        wait_until(lambda: len(worker.events("fork.failed")) == 2)
        refused = worker.events("fork.failed")
        assert "Resource temporarily unavailable" in refused[0]["reason"]
        assert all(line["again_in_s"] >= 1 for line in refused)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_child_for_which_no_descriptor_is_left_is_tried_again_later_and_the_others_work(shop: Shop) -> None:
    shop.write(SIMPLE)
    shop.queue.enqueue("a")
    command = f"ulimit -n 40; exec {sys.executable} -m hotqueue.worker tasks -c60"
    with start("sh", "-c", command, env=shop.env, cwd=shop.folder) as worker:
        wait_until(lambda: worker.events("fork.failed"), 20, "there are no more children")
        shop.wait_for_notes("a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert "Too many open files" in worker.events("fork.failed")[0]["reason"]


BROKEN = {
    "an import error": "import nothing_of_the_kind",
    "no handler": "",
    "two handlers": """
        @queue.worker
        def one(message): ...

        @queue.worker
        def other(message): ...
    """,
}


@pytest.mark.parametrize("why", BROKEN)
def test_what_cannot_be_served_ends_with_code_2_before_any_fork(shop: Shop, why: str) -> None:
    shop.write("os.register_at_fork(before=lambda: note('forked'))", BROKEN[why])
    done = shop.run()
    assert done.returncode == 2
    assert shop.notes() == []
    assert "tasks" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_redis_that_may_throw_queues_away_is_warned_of_and_used(shop: Shop, tmp_path: Path) -> None:
    shop.write(SIMPLE)
    with fresh_server(tmp_path, maxmemory_policy="allkeys-lru") as server:
        done = shop.run("-b", env={"HOTQUEUE_URL": server.url})
    assert done.returncode == 0
    (warning,) = [json.loads(line) for line in done.stderr.splitlines() if "redis.evicts" in line]
    assert (warning["level"], warning["policy"]) == ("warning", "allkeys-lru")


def test_a_redis_that_is_full_of_clients_is_code_3_after_the_timeout(shop: Shop, tmp_path: Path) -> None:
    shop.write(SIMPLE)
    with fresh_server(tmp_path, maxclients="1") as server:
        assert server.admin.ping()
        done = shop.run("--connect-timeout=0.3", env={"HOTQUEUE_URL": server.url})
    assert done.returncode == 3
    assert "max number of clients reached" in done.stderr.splitlines()[-1]


def test_a_redis_that_comes_up_late_is_waited_for(shop: Shop, tmp_path: Path) -> None:
    shop.write(SIMPLE)
    with fresh_server(tmp_path) as server:
        server.stop()
        with shop.open("-b", env={"HOTQUEUE_URL": server.url}) as worker:
            wait_until(lambda: worker.events("redis.lost"))
            server.start()
            assert worker.wait() == 0
            said = [line["event"] for line in worker.lines() if line["pid"] == worker.pid]
            assert said[:2] == ["redis.lost", "redis.back"]


def test_a_redis_that_is_not_there_is_said_at_once_and_the_last_line_says_what_to_do(
    shop: Shop, tmp_path: Path
) -> None:
    shop.write(SIMPLE)
    done = shop.run("--connect-timeout=0.5", env={"HOTQUEUE_URL": f"redis://127.0.0.1:{free_port()}"})
    assert done.returncode == 3
    *before, last = done.stderr.splitlines()
    assert [json.loads(line)["event"] for line in before] == ["redis.lost"]
    assert last.startswith("hotqueue-worker: Redis at ")
    assert last.endswith(
        "refused: start it, say with --url where it is, or bring a private one with --embedded"
    )


def test_two_supervisors_share_the_work(shop: Shop, delivery: str) -> None:
    shop.write("""
        @queue.worker(delivery=DELIVERY)
        def handle(message):
            note(message)
            wait_for("go")
    """)
    with shop.open("-c1") as one, shop.open("-c1") as other:
        ready(one)
        ready(other)
        shop.queue.enqueue(*range(20))
        wait_until(lambda: len(shop.notes()) == 2, 20, "each has taken one")
        shop.allow("go")
        shop.wait_for_notes(*map(str, range(20)))
        for worker in (one, other):
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
