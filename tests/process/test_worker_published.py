"""What workers tell in Redis of themselves and of their dead, as `hotqueue workers` shows it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hotqueue import keys, supervisors
from hotqueue.cli import crews
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.errors import Refused
from hotqueue.supervisors import Death, Supervisor
from hotqueue.upkeep import LEASE_MS
from hotqueue.worker.publication import Publication
from tests.support.admin import Admin
from tests.support.servers import LiveServer, fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

HANDLER = """
    @queue.worker
    def handle(message):
        note("began", message)
        wait_for("go")
"""
# The last word of a keeper gets a second, which on a busy machine is not long.
PATIENT = "from hotqueue.worker import keeper; keeper.GOODBYE_S = 60.0"
CRASHING = """
    import ctypes

    @queue.worker
    def handle(message):
        if message == "segfault":
            ctypes.string_at(0)
        os._exit(7)
"""
RECORD = {"host": "h", "pid": 5, "name": "n", "ready": 1, "wanted": 1}


@pytest.fixture
def admin(shop: Shop) -> Admin:
    return Admin(shop.server.url)


@pytest.fixture
def connection(shop: Shop) -> Any:
    found = Connection(shop.queue.address, CONSUMER_TIMEOUT_S)
    yield found
    found.close()


def published(admin: Admin) -> list[dict[str, Any]]:
    return [each for each in admin.json("workers") if each["kind"] == "supervisor"]


def test_the_workers_of_all_hosts_are_shown_with_what_their_children_run_until_they_stop(
    shop: Shop, admin: Admin
) -> None:
    shop.write(HANDLER)
    (shop.folder / "sitecustomize.py").write_text(PATIENT)
    shop.env["PYTHONPATH"] = str(shop.folder)
    message_id = shop.queue.send("a")
    with shop.open("-c2", "--name=one") as one, shop.open("-c1", "-n", "two") as two:
        shop.wait_for_notes("began a")

        def both_are_busy_or_ready() -> Any:
            found = {each["name"]: each for each in published(admin)}
            ready = sum(each["ready"] for each in found.values())
            return ready == 3 and sum(each["busy"] for each in found.values()) and found

        # What is published when children come up may be older than what they run; ten seconds are long.
        shop.server.admin.set(keys.WATCHED, 1)
        found = wait_until(both_are_busy_or_ready, 30, "both are published")
        assert {name: each["pid"] for name, each in found.items()} == {"one": one.pid, "two": two.pid}
        assert {each["host"] for each in found.values()} == {os.uname().nodename}
        children = [child for each in found.values() for child in each["children"]]
        assert sorted(each["child"] for each in children) == [1, 1, 2]
        (busy,) = [each for each in children if each["state"] == "busy"]
        assert (busy["queue"], busy["id"], busy["handler"]) == ("jobs", message_id, "handle")
        assert busy["running_ms"] >= 0
        head, *lines = admin("workers").partition("\n\n")[0].splitlines()
        assert head.split() == ["supervisor", "state", "ready", "busy", "up", "deaths", "runs"]
        assert [line.split()[1:6] for line in lines] == [
            ["one", "running", "2", "of", "2"], ["two", "running", "1", "of", "1"],
        ]  # fmt: skip
        shop.allow("go")
        for worker in (one, two):
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 0
    assert admin.json("workers") == []
    assert shop.server.admin.keys("{hotqueue:}:supervisor*") == []


def test_an_at_most_once_worker_is_seen_too(shop: Shop, admin: Admin) -> None:
    shop.env["DELIVERY"] = "at-most-once"
    shop.write(HANDLER.replace("queue.worker", "queue.worker(delivery=DELIVERY)"))
    with shop.open("-c1") as worker:
        found = wait_until(lambda: published(admin), 30, "it is published")
        assert found[0]["pid"] == worker.pid


def test_a_killed_worker_is_forgotten_within_a_minute(shop: Shop, admin: Admin) -> None:
    shop.write(HANDLER)
    with shop.open("-c1") as worker:
        wait_until(lambda: published(admin), 30, "it is published")
        worker.signal(signal.SIGKILL)
        worker.wait()
        (key,) = shop.server.admin.keys("{hotqueue:}:supervisor:*")
        assert 0 < shop.server.admin.pttl(key) <= LEASE_MS


def test_deaths_are_told_newest_first_with_what_was_run_and_where_it_crashed(
    shop: Shop, admin: Admin
) -> None:
    assert admin("workers", "--deaths") == "No death of a child is known.\n"
    shop.write(CRASHING)
    with shop.open("-c1", "--max-crashes=1", "-n", "mail") as worker:
        ready(worker)
        shop.server.admin.set(keys.WATCHED, 1)
        shop.queue.enqueue("exit")
        wait_until(lambda: worker.events("child.exited"), 20, "one has died")
        segfault = shop.queue.send("segfault")
        newest, older = wait_until(
            lambda: len(found := admin.json("workers", "--deaths")) == 2 and found, 30, "both are told"
        )
        assert (newest["cause"], older["cause"]) == ("SIGSEGV", "exit code 7")
        assert (newest["id"], newest["queue"], newest["handler"]) == (segfault, "jobs", "handle")
        assert (newest["supervisor"], newest["name"], newest["child"]) == (worker.pid, "mail", 1)
        assert "in handle" in newest["stack"]
        assert older["stack"] is None
        shown = admin("workers", "--deaths")
        assert f"child 1, pid {newest['pid']}: SIGSEGV\n    ran handle of jobs, {segfault}, for " in shown
        assert "Segmentation fault" in shown


def test_a_message_buried_for_crashes_says_where(shop: Shop, admin: Admin) -> None:
    shop.write(CRASHING)
    shop.queue.enqueue("exit", "segfault")
    done = shop.run("-c1", "-b", "--max-crashes=1")
    assert done.returncode == 0
    ended, crashed = shop.dead()
    assert (crashed.reason["kind"], crashed.reason["error"]) == ("crashed", "SIGSEGV")
    assert "in handle" in str(crashed.reason["traceback"])
    assert "traceback" not in ended.reason
    assert "Segmentation fault" in admin("dead", "show", "jobs")


def test_a_keeper_that_is_ahead_of_the_main_loop_tells_nothing(shop: Shop, connection: Connection) -> None:
    assert Publication().publish(connection) == 1
    assert supervisors.look(connection) == []


def test_while_somebody_watches_a_worker_tells_of_itself_every_second(
    shop: Shop, connection: Connection
) -> None:
    publication = Publication()
    publication.update(RECORD, [])
    assert publication.publish(connection) == 10
    shop.server.admin.set(keys.WATCHED, 1, px=60_000)
    assert publication.publish(connection) == 1
    shop.server.admin.delete(keys.WATCHED)
    publication.update({**RECORD, "ready": 0}, [])
    assert publication.publish(connection) == 1  # it will be different soon


def test_who_was_not_heard_of_is_forgotten_by_the_next_one(shop: Shop, connection: Connection) -> None:
    shop.server.admin.zadd(keys.SUPERVISORS, {"gone": 1000})
    publication = Publication()
    publication.update(RECORD, [])
    publication.publish(connection)
    assert shop.server.admin.zscore(keys.SUPERVISORS, "gone") is None
    (found,) = supervisors.look(connection)
    assert (found.host, found.pid, found.name) == ("h", 5, "n")
    publication.withdraw(connection)  # a keeper of old code ends
    assert len(supervisors.look(connection)) == 1
    publication.close()
    publication.withdraw(connection)
    assert supervisors.look(connection) == []


def test_a_full_server_takes_it(shop: Shop, connection: Connection) -> None:
    publication = Publication()
    publication.update(RECORD, [])
    admin = shop.server.admin
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(Refused, match="OOM"):
            connection.call("SET", "anything", 1)
        publication.publish(connection)
        assert len(supervisors.look(connection)) == 1
    finally:
        admin.config_set("maxmemory", 0)


def test_that_a_worker_may_not_tell_of_itself_harms_nobody(server: LiveServer, shop: Shop) -> None:
    admin = shop.server.admin
    rights = ("+@all", "-hset", "-zadd")
    admin.execute_command("ACL", "SETUSER", "mute", "reset", "on", ">x", "~*", *rights)
    try:
        connection = Connection(
            shop.queue_named("q").address.from_url(server.url.replace("//", "//mute:x@")), 5
        )
        publication = Publication()
        publication.update(RECORD, [])
        assert publication.publish(connection) is None
        connection.close()
    finally:
        admin.acl_deluser("mute")


def test_that_redis_refuses_to_be_told_of_a_worker_does_not_mean_that_it_is_back(
    shop: Shop, tmp_path: Path
) -> None:
    (shop.folder / "sitecustomize.py").write_text(f"""
from types import SimpleNamespace
from hotqueue.worker import keeper, publication

keeper.RENEW_EVERY_S = publication.RENEW_EVERY_S = publication.SOON_S = 0.01
real = publication.queue_scripts.publish

def publish(*told):
    try:
        return real(*told)
    except Exception:
        with open({str(tmp_path / "failures")!r}, "a") as file:
            file.write(".")
        raise

publication.queue_scripts = SimpleNamespace(publish=publish)
""")
    failures = tmp_path / "failures"
    shop.write(HANDLER)
    with (
        fresh_server(tmp_path) as server,
        shop.open("-c1", "-u", server.url, env={"PYTHONPATH": str(shop.folder)}) as worker,
    ):
        ready(worker)

        def changes() -> list[str]:
            own = [line for line in worker.lines() if line["pid"] == worker.pid]
            return [line["event"] for line in own if line["event"] in {"redis.lost", "redis.back"}]

        server.admin.config_set("requirepass", "x")
        server.admin.client_kill_filter(_type="normal", skipme=True)
        wait_until(changes, 30, "it is noticed")
        before = failures.stat().st_size if failures.exists() else 0
        wait_until(
            lambda: failures.exists() and failures.stat().st_size > before, 30, "it was not to be told"
        )
        server.admin.config_set("requirepass", "")
        wait_until(lambda: changes()[-1] == "redis.back", 30, "it is back")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert changes() == ["redis.lost", "redis.back"]


@pytest.mark.parametrize(
    ("status", "deaths"),
    [
        (b"", b""),
        (b"{", b"["),
        (b"[]", b"{}"),
        (b"\xff", b"\xff"),
        (b"[" * 100_000, b"null"),
        (b'{"pid": "x", "host": 1, "children": 5, "at_ms": 1e300}', b'[1, {"at_ms": 1e99}, {"stack": []}]'),
        (b'{"children": [5, {"child": "a"}], "started_ms": 99999999999999999999}', b'[{"at_ms": 1}]'),
    ],
    ids=["empty", "cut", "of other kinds", "no text", "deep", "wrong values", "huge"],
)
def test_garbage_that_somebody_put_there_is_shown_as_unknown(status: bytes, deaths: bytes) -> None:
    found = supervisors.load(status, deaths)
    assert (found.host, found.pid, found.at_ms, found.started_ms) == ("?", 0, 0, 0)
    assert len(crews.lines([found], 80)) == 2
    for each in found.deaths:
        assert crews.death_lines(found, each, 80)
        json.dumps(crews.death_fields(found, each))


def test_what_a_terminal_would_obey_is_shown_as_text() -> None:
    found = Supervisor(host="\x1b[31m", name="\x07", phase="\x1b]0;", targets="a\nb")
    shown = [*crews.lines([found], None), *crews.death_lines(found, Death(cause="\x1b", stack="\x07"), None)]
    assert all(line.isprintable() for line in shown)


def test_a_supervisor_that_was_not_heard_of_for_a_while_is_silent() -> None:
    assert crews.state(Supervisor(phase="running", heard_s=12.0)) == "running"
    assert crews.state(Supervisor(phase="running", heard_s=40.0)) == "silent 40s"
