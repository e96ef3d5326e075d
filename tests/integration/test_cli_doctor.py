"""`hotqueue doctor`, and each rule that it prints, held by a user that has just those rights."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from hotqueue import HotQueue, NotSent, OutcomeUnknown, keys
from hotqueue.cli import checks, rights
from hotqueue.cli.access import Access
from tests.support.admin import Admin
from tests.support.commands import app, run, start
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

PASSWORD = "a-password-for-tests"


@pytest.fixture
def client(any_server: LiveServer) -> Iterator[redis.Redis]:
    yield any_server.admin
    users = [name for name in any_server.admin.acl_users() if name != "default"]
    if users:
        any_server.admin.acl_deluser(*users)


def become(role: str, server: LiveServer, *queues: str) -> str:
    """Make the user that `hotqueue doctor --acl` describes; return the URL by which it connects."""
    options = [word for queue in queues for word in ("--queue", queue)]
    rule = Admin(server.url)("doctor", "--acl", role, *options).strip()
    assert server.admin.execute_command(*rule.replace("PASSWORD", PASSWORD).split(" ")) in {b"OK", True}
    server.admin.execute_command("ACL", "LOG", "RESET")
    return server.url.replace("redis://", f"redis://hotqueue-{role}:{PASSWORD}@")


def refused(server: LiveServer) -> list[str]:
    """What the server has denied anybody, for lack of rights, since the last `become`."""
    return [f"{each['username']} {each['reason']} {each['object']}" for each in server.admin.acl_log()]


# --- the rules


def test_a_producer_can_send_in_every_way_and_nothing_else(
    any_server: LiveServer, client: redis.Redis
) -> None:
    url = become("producer", any_server, "q")
    queue = HotQueue("q", url=url)
    queue.enqueue("a", "b")
    for terms in ({"delay": 5}, {"unique": "k"}, {"front": True}, {"expires": 60}, {"headers": {"x": 1}}):
        queue.send("c", **terms)
    HotQueue("q", url=url, max_length=100).enqueue("d")
    HotQueue("q", url=url, max_length=100).send("e")
    assert len(queue) == 8
    assert refused(any_server) == []
    for forbidden in (
        queue.dequeue,
        queue.clear,
        lambda: queue.dead.get("0192f0c1-7a3b-7c4d-8e5f-0123456789ab"),
    ):
        with pytest.raises((NotSent, OutcomeUnknown)):
            forbidden()
    with pytest.raises(NotSent):
        HotQueue("another", url=url).enqueue("a")


def test_a_producer_can_wait_for_the_disk(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes") as server:
        HotQueue("q", url=become("producer", server)).send("a", durable=True)
        assert refused(server) == []


def test_a_producer_can_send_by_the_command_without_making_the_queue_known(
    any_server: LiveServer, client: redis.Redis
) -> None:
    admin = Admin(become("producer", any_server, "q"))
    admin("send", "q", "1", "--delay", "5", "--unique", "k")
    assert client.zcard(keys.delayed("q")) == 1
    assert client.smembers(keys.QUEUES) == set()


@pytest.mark.parametrize("names", [["q", "other", "once"], []], ids=["these queues", "every queue"])
def test_a_worker_can_do_its_work(
    any_server: LiveServer, client: redis.Redis, tmp_path: Path, names: list[str]
) -> None:
    url = become("worker", any_server, *names)
    app(
        tmp_path,
        """
        import os, signal
        from hotqueue import HotQueue, current
        q, other, once = HotQueue("q"), HotQueue("other"), HotQueue("once")
        @q.worker(retries=1, backoff=0.1)
        def work(message):
            if message == "crash" and current().attempt == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if message == "fail":
                raise ValueError
            other.send(message, delay=0.1, unique=message)
            other.enqueue(message)
        @other.worker
        def count(message): open("done", "a").write(f"{message}\\n")
        @once.worker(delivery="at-most-once")
        def once_only(message): open("done", "a").write(f"{message}\\n")
        """,
    )
    queue = HotQueue("q", url=any_server.url)
    queue.enqueue("good", "crash", "fail")
    HotQueue("once", url=any_server.url).enqueue("once", "more")
    env = Admin(url).env
    with start("hotqueue-worker", "tasks", "-c", "2", env=env, cwd=tmp_path) as worker:
        done = tmp_path / "done"
        wait_until(lambda: done.exists() and done.read_text().count("\n") == 6, 60, "all is done")
        wait_until(lambda: queue.stats().dead == 1, 30, "the failed one is dead")
        queue.pause()
        queue.enqueue("later")
        queue.resume()
        wait_until(lambda: done.read_text().count("later") == 2, 60, "what came later is done")
        worker.signal(15)
        assert worker.wait() == 0
    words = sorted(done.read_text().split())
    assert words == sorted(["good", "good", "crash", "crash", "once", "more", "later", "later"])
    assert refused(any_server) == []


def test_a_worker_in_burst_drains_with_just_its_rights(
    any_server: LiveServer, client: redis.Redis, tmp_path: Path
) -> None:
    url = become("worker", any_server, "q")
    app(tmp_path, 'from hotqueue import HotQueue\n@HotQueue("q").worker\ndef work(message): pass\n')
    queue = HotQueue("q", url=any_server.url)
    queue.enqueue(*range(20))
    ended = run("hotqueue-worker", "tasks", "--burst", env=Admin(url).env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (queue.stats().total, queue.stats().done) == (0, 20)
    assert refused(any_server) == []
    for command in (["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "SET", "maxmemory", "1"], ["ACL", "LIST"],
                    ["RPUSH", "hotqueue:another", "x"], ["DEL", "anything"]):  # fmt: skip
        with redis.Redis.from_url(url) as worker, pytest.raises(redis.exceptions.NoPermissionError):
            worker.execute_command(*command)


def fill(queue: HotQueue, client: redis.Redis) -> str:
    queue.enqueue(1, 2)
    queue.send("later", delay=600)
    client.sadd(keys.QUEUES, queue.name)
    client.zadd(keys.dead(queue.name), {b"one": 1, b"two": 2})
    return str(queue.name)


def test_a_reader_can_look_at_everything_and_change_nothing(
    any_server: LiveServer, client: redis.Redis
) -> None:
    fill(HotQueue("q", url=any_server.url), client)
    admin = Admin(become("reader", any_server, "q"))
    assert admin.json("info", "q")[0]["queues"][0]["waiting"] == 2
    for words in (["peek", "q"], ["workers"], ["workers", "--deaths"], ["dead", "ls", "q"],
                  ["dead", "show", "q"], ["dead", "retry", "q", "--dry-run"]):  # fmt: skip
        admin(*words)
    assert refused(any_server) == []
    assert "SCAN is refused" in admin("info")
    for words in (["pause", "q"], ["clear", "q", "--yes"], ["dead", "drop", "q", "--yes"],
                  ["dead", "retry", "q", "--yes"], ["send", "q", "1"]):  # fmt: skip
        assert re.search("NOPERM|can't run|ACL failure", admin(*words, code=3))
    assert HotQueue("q", url=any_server.url).stats().total == 5


def test_who_may_not_look_for_queues_does_not_ask_again_and_again(
    any_server: LiveServer, client: redis.Redis
) -> None:
    access = Access(become("reader", any_server, "q"))
    client.sadd(keys.QUEUES, "q")
    for _ in range(5):
        assert access.all() == ["q"]
    assert [(entry["object"], entry["count"]) for entry in client.acl_log()] == [("scan", 1)]


def test_an_admin_can_do_all_that_the_command_does(any_server: LiveServer, client: redis.Redis) -> None:
    queue = HotQueue("q", url=any_server.url)
    fill(queue, client)
    admin = Admin(become("admin", any_server))
    for words in (["info"], ["workers"], ["peek", "q"], ["send", "q", "1", "--delay", "5"], ["pause", "q"],
                  ["resume", "q"], ["dead", "ls", "q"], ["dead", "show", "q"],
                  ["dead", "retry", "q", "--limit", "1"], ["dead", "drop", "q", "--limit", "1", "--yes"],
                  ["clear", "q", "--all", "--yes"], ["doctor"]):  # fmt: skip
        admin(*words)
    assert queue.stats().total == 0
    assert refused(any_server) == []


@pytest.mark.parametrize("name", ["a*b", "a?b", "a[b]", "a\\b", "with space", "日本語", "ns:q"])
def test_a_rule_for_a_queue_with_an_odd_name_is_for_that_queue(
    any_server: LiveServer, client: redis.Redis, name: str
) -> None:
    url = become("producer", any_server, name)
    HotQueue(name, url=url).enqueue(1)
    HotQueue(name, url=url).send(1, delay=5)
    with pytest.raises(NotSent):
        HotQueue("axxb", url=url).enqueue(1)


def test_a_rule_for_a_name_that_no_queue_can_have_is_refused(any_server: LiveServer) -> None:
    Admin(any_server.url)("doctor", "--acl", "worker", "--queue", "a{b", code=2)


def test_every_script_belongs_to_a_role() -> None:
    found = {name for role in rights.ROLES.values() for name in role.scripts}
    assert found == {path.stem for path in Path(rights.__file__).parents[1].joinpath("lua").glob("*.lua")}


def test_a_rule_needs_no_redis() -> None:
    assert Admin("redis://127.0.0.1:1")("doctor", "--acl", "reader").startswith(
        "ACL SETUSER hotqueue-reader "
    )


# --- the findings


def levels(admin: Admin, code: int = 0) -> dict[str, str]:
    lines = (line for line in admin("doctor", code=code).splitlines())
    return {check: level for level, check, *_ in map(str.split, lines)}


def test_a_server_as_it_should_be_is_ok(tmp_path: Path) -> None:
    with fresh_server(tmp_path, appendonly="yes") as server:
        found = levels(Admin(server.url))
        found.pop("latency")
        assert set(found.values()) == {"ok"}
        assert found.keys() == {
            "redis", "version", "role", "eviction", "disk", "clock", "rights", "embedded",
        }  # fmt: skip


def test_a_server_that_loses_queues_is_bad_and_code_1(tmp_path: Path) -> None:
    with fresh_server(tmp_path, maxmemory="100mb", maxmemory_policy="allkeys-lru") as server:
        done = run("hotqueue", "doctor", "-j", env={"HOTQUEUE_URL": server.url})
        assert done.returncode == 1
        assert '"level": "bad", "check": "eviction"' in done.stdout
        assert '"level": "warn", "check": "disk"' in done.stdout


def test_a_user_that_cannot_work_is_told_what_it_lacks(any_server: LiveServer, client: redis.Redis) -> None:
    url = become("worker", any_server, "q")
    client.execute_command("ACL", "SETUSER", "hotqueue-worker", "-blmove", "-lmove")
    done = run("hotqueue", "doctor", "--queue", "q", env={"HOTQUEUE_URL": url})
    assert done.returncode == 1
    assert re.search(
        r"^bad +rights +a worker of 'q' may not run BLMOVE, LMOVE -> ", done.stdout, re.MULTILINE
    )


def test_a_user_of_another_queue_is_told_so(any_server: LiveServer, client: redis.Redis) -> None:
    url = become("worker", any_server, "q")
    done = run("hotqueue", "doctor", "--queue", "other", env={"HOTQUEUE_URL": url})
    assert done.returncode == 1
    assert "a worker of 'other' may not run" in done.stdout


def test_a_right_that_a_worker_can_do_without_is_a_warning(
    any_server: LiveServer, client: redis.Redis
) -> None:
    url = become("worker", any_server, "q")
    client.execute_command("ACL", "SETUSER", "hotqueue-worker", "-client", "-info")
    done = run("hotqueue", "doctor", "--queue", "q", env={"HOTQUEUE_URL": url})
    assert done.returncode == 0
    assert re.search(r"^warn +rights +without CLIENT ID", done.stdout, re.MULTILINE)
    assert re.search(r"^warn +server +this user may not run INFO", done.stdout, re.MULTILINE)


def test_a_user_that_may_next_to_nothing_is_no_traceback(any_server: LiveServer, client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "poor", "on", f">{PASSWORD}", "+select")
    url = any_server.url.replace("redis://", f"redis://poor:{PASSWORD}@")
    done = run("hotqueue", "doctor", env={"HOTQUEUE_URL": url})
    assert (done.returncode, done.stderr) == (1, "")
    assert "may not run scripts" in done.stdout


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({"redis_version": "6.0.16"}, "bad"),
        ({"redis_version": "6.2.0"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.0"}, "ok"),
        ({"redis_version": "255.255.255"}, "ok"),
        ({}, "bad"),
    ],
)
def test_an_old_version_is_bad(facts: dict[str, str], level: str) -> None:
    assert checks.version(facts).level == level


@pytest.mark.parametrize(("role", "level"), [("master", "ok"), ("slave", "bad")])
def test_a_replica_is_bad(role: str, level: str) -> None:
    assert checks.role({"role": role, "master_host": "h", "master_port": "1"}).level == level


@pytest.mark.parametrize(
    ("policy", "limit", "level"),
    [
        ("noeviction", "0", "ok"),
        ("noeviction", "1000", "ok"),
        ("volatile-lru", "1000", "warn"),
        ("allkeys-lru", "0", "warn"),
        ("allkeys-lru", "1000", "bad"),
    ],
)
def test_what_is_evicted_decides(policy: str, limit: str, level: str) -> None:
    assert checks.eviction({"maxmemory_policy": policy, "maxmemory": limit}).level == level


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({"aof_enabled": "1", "aof_last_write_status": "ok"}, "ok"),
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, "bad"),
        ({"aof_enabled": "0"}, "warn"),
    ],
)
def test_what_survives_a_crash_decides(facts: dict[str, str], level: str) -> None:
    assert checks.persistence(facts).level == level


@pytest.mark.parametrize(
    ("apart_s", "level"),
    [(0.2, "ok"), (-0.2, "ok"), (5, "warn"), (-5, "warn"), (-3600, "bad"), (3600, "bad")],
)
def test_clocks_that_are_apart_are_noticed(apart_s: float, level: str) -> None:
    found = checks.clocks(apart_s)
    assert found.level == level
    assert bool(found.todo) == (level != "ok")


def test_clocks_that_agree_have_no_negative_zero() -> None:
    assert checks.clocks(-0.0002).text == "+0 ms apart"
