"""Rows 27 and 27b: a Redis that is there and refuses, and a slot of a cluster that is moved.

Every state is one that a real server is brought into. A URL for a whole cluster is not supported yet, so
what is shown of row 27b is a worker at one node, which goes on once the slot is back.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from hotqueue import keys
from tests.faults.conftest import ServerWith
from tests.support.commands import Running
from tests.support.servers import LiveServer, free_port, fresh_server
from tests.support.shop import NAME, Shop, ready
from tests.support.waiting import wait_until

SLOT = key_slot(keys.key_for_name(NAME).encode())
GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message)
        if message == "held":
            wait_for("go")
        note("ended", message)
"""
Refusing = Callable[[LiveServer], None]


def is_a_replica(server: LiveServer) -> None:
    server.admin.replicaof("127.0.0.1", free_port())


def is_a_stale_replica(server: LiveServer) -> None:
    server.admin.config_set("replica-serve-stale-data", "no")
    is_a_replica(server)


def is_none(server: LiveServer) -> None:
    server.admin.replicaof("NO", "ONE")


def cannot_save(server: LiveServer) -> None:
    (server.folder / "dump.rdb").mkdir()
    (server.folder / "dump.rdb" / "in the way").touch()
    server.admin.config_set("save", "100000 1")
    server.admin.bgsave()
    wait_until(lambda: server.info["rdb_last_bgsave_status"] == "err")


def need_not_save(server: LiveServer) -> None:
    server.admin.config_set("save", "")


def serves_no_slot(server: LiveServer) -> None:
    server.admin.execute_command("CLUSTER DELSLOTS", SLOT)


def serves_it_again(server: LiveServer) -> None:
    server.admin.execute_command("CLUSTER ADDSLOTS", SLOT)
    wait_until(lambda: server.admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


STATES: dict[str, tuple[Refusing, Refusing]] = {
    "READONLY": (is_a_replica, is_none),
    "MASTERDOWN": (is_a_stale_replica, is_none),
    "MISCONF": (cannot_save, need_not_save),
    "CLUSTERDOWN": (serves_no_slot, serves_it_again),
}


@pytest.mark.parametrize("code", STATES)
def test_27_a_worker_waits_while_redis_refuses_and_goes_on_with_one_log_line_a_change(
    shop: Shop, server_with: ServerWith, delivery: str, code: str
) -> None:
    shop.write(GATED)
    begin, end = STATES[code]
    with server_with(cluster_enabled="yes" if "CLUSTER" in code else "no") as own:
        if "CLUSTER" in code:
            own.admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: own.admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        with shop.open("-c2") as worker:
            first = ready(worker, 2)
            shop.queue.enqueue("held")
            shop.wait_for_notes("began held")
            wait_until(lambda: own.admin.info()["blocked_clients"] == 1)
            begin(own)
            shop.allow("go")
            wait_until(
                lambda: lost_by(worker) >= {first[0]} or lost_by(worker) >= {first[1]}, 20, "it is noticed"
            )
            end(own)
            shop.queue.enqueue("a", "b")
            ended = {"ended held", "ended a", "ended b"}
            wait_until(lambda: ended <= set(shop.notes()), 60, "it goes on")
            wait_until(lambda: not len(shop.queue) + shop.in_flight(), 60, "all is acknowledged")
            wait_until(
                lambda: lost_by(worker) == lost_by(worker, "redis.back"), 60, "each knows that it is back"
            )
            assert ready(worker, 2) == first, "no child had to die for it"
            for pid in lost_by(worker):
                changes = [line["event"] for line in worker.lines() if line["pid"] == pid and is_change(line)]
                assert changes == ["redis.lost", "redis.back"] * (len(changes) // 2)
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
    assert sorted(shop.notes()) == sorted(
        f"{word} {m}" for m in ("held", "a", "b") for word in ("began", "ended")
    )


def is_change(line: dict[str, object]) -> bool:
    return line["event"] in {"redis.lost", "redis.back"}


def lost_by(worker: Running, event: str = "redis.lost") -> set[int]:
    return {line["pid"] for line in worker.events(event)}


def test_27_a_worker_waits_for_a_redis_that_is_loading(
    shop: Shop, server_with: ServerWith, delivery: str
) -> None:
    shop.write(GATED)
    with server_with() as own:
        own.admin.mset({f"other{number}": os.urandom(2000) for number in range(400)})
        shop.queue.enqueue("a")
        with shop.open("-c1") as worker:
            ready(worker)
            wait_until(lambda: "ended a" in shop.notes() and not shop.in_flight())
            wait_until(lambda: own.info["blocked_clients"])
            own.admin.save()
            own.config |= {"key-load-delay": "5000", "loading-process-events-interval-bytes": "1024"}
            own.stop()
            starting = threading.Thread(target=own.start)
            starting.start()
            wait_until(lambda: is_loading(own), 20)
            starting.join()
            shop.queue.enqueue("b")
            wait_until(lambda: "ended b" in shop.notes(), 60, "it goes on")
            wait_until(lambda: worker.events("redis.back"))
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
        assert shop.in_flight() == len(shop.queue) == 0
    assert shop.notes() == ["began a", "ended a", "began b", "ended b"]


def is_loading(server: LiveServer) -> bool:
    try:
        server.client(retry=Retry(NoBackoff(), 0)).llen("x")
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.exceptions.ConnectionError:
        pass
    return False


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[LiveServer, LiveServer]]:
    """Of which the first serves all slots."""
    with (
        fresh_server(folder, cluster_enabled="yes") as first,
        fresh_server(folder, cluster_enabled="yes") as second,
    ):
        first.admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        second.admin.execute_command("CLUSTER MEET", "127.0.0.1", first.port)
        for node in (first, second):
            wait_until(
                lambda node=node: node.admin.execute_command("CLUSTER INFO")["cluster_known_nodes"] == "2", 60
            )
            wait_until(
                lambda node=node: node.admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 60
            )
        yield first, second


def test_27b_while_a_slot_is_being_moved_away_and_back_nothing_is_lost(shop: Shop, tmp_path: Path) -> None:
    shop.write(GATED)
    with two_nodes(tmp_path) as (first, second):
        shop.server = first
        shop.env["HOTQUEUE_URL"] = first.url
        here, there = (node.admin.execute_command("CLUSTER MYID").decode() for node in (first, second))
        shop.queue.enqueue("held", *range(50))
        with shop.open("-c1", "--prefetch=3") as worker:
            shop.wait_for_notes("began held")
            first.admin.execute_command("CLUSTER SETSLOT", SLOT, "MIGRATING", there)
            second.admin.execute_command("CLUSTER SETSLOT", SLOT, "IMPORTING", here)
            shop.allow("go")  # keys that are not there yet are asked for at the other node: ASK or TRYAGAIN
            wait_until(lambda: worker.events("redis.lost"), 20, "it is noticed")
            first.admin.execute_command("CLUSTER SETSLOT", SLOT, "STABLE")
            second.admin.execute_command("CLUSTER SETSLOT", SLOT, "STABLE")
            expected = {"ended held", *(f"ended {number}" for number in range(50))}
            wait_until(lambda: expected <= set(shop.notes()), 60, "it goes on")
            wait_until(lambda: len(shop.queue) == shop.in_flight() == 0)
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
    assert len(shop.notes()) == 2 * len(expected)
