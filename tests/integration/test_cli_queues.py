"""`hotqueue info`, `workers`, `pause`, `resume`, `clear`, and what all subcommands have in common."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import redis

from hotqueue import HotQueue, keys, scripts
from hotqueue.address import Address
from hotqueue.cli import finder, group
from hotqueue.cli.access import Access
from hotqueue.cli.info import rates
from hotqueue.cli.scene import Observer
from hotqueue.connection import CONSUMER_TIMEOUT_S, Connection
from hotqueue.stats import Stats
from tests.support.admin import Admin
from tests.support.commands import app, run, start
from tests.support.waiting import wait_until

NOW_MS = 1_700_000_000_000


@pytest.fixture
def admin(redis_url: str) -> Admin:
    return Admin(redis_url)


def look(waiting: int = 0, dead: int = 0, done: int = 0, trimmed: int = 0, at_s: float = 0.0) -> Stats:
    at_ms = NOW_MS + int(at_s * 1000)
    return Stats("q", waiting, 0, 0, dead, done, trimmed, 0, None, None, at_ms)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, look(5), (None, None)),
        (look(5), look(5), (None, None)),
        (look(5), look(5, at_s=2), (0, 0)),
        (look(5), look(25, at_s=2), (10, 0)),
        (look(5), look(5, done=20, at_s=2), (10, 10)),
        (look(25), look(5, done=20, at_s=2), (0, 10)),
        (look(5), look(3, dead=2, at_s=1), (0, 0)),
        (look(20), look(0, at_s=2), (0, 10)),
        (look(dead=20), look(dead=10, done=4, trimmed=10, at_s=2), (2, 7)),
    ],
)
def test_rates_are_the_difference_of_two_looks(
    before: Stats | None, now: Stats, expected: tuple[float | None, float | None]
) -> None:
    assert rates(before, now) == expected


def test_info_counts_every_known_queue_in_a_table(redis_url: str, admin: Admin, client: redis.Redis) -> None:
    for name, count in (("emails", 1234), ("thumbs", 2)):
        queue = HotQueue(name, url=redis_url)
        queue.enqueue(*range(count))
        queue.send("later", delay=3600)
        client.sadd(keys.QUEUES, name)
    client.zadd(keys.dead("thumbs"), {b"dead": 1})
    head, emails, thumbs = admin("info").splitlines()
    assert head.split() == [
        "queue",
        "waiting",
        "in",
        "flight",
        "delayed",
        "dead",
        "oldest",
        "in/s",
        "out/s",
        "consumers",
    ]
    assert emails.split()[:5] == ["emails", "1,234", "0", "1", "0"]
    assert thumbs.split()[:5] == ["thumbs", "2", "0", "1", "1"]
    assert len(head) == len(emails) == len(thumbs) <= 80


def test_info_in_json_is_one_object(redis_url: str, admin: Admin) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue("a")
    queue.pause(600)
    (found,) = admin.json("info", "emails")
    (emails,) = found["queues"]
    assert emails["paused"] is True
    assert 0 < emails.pop("paused_s") <= 600
    assert emails.pop("oldest_s") >= 0
    assert emails == {
        "queue": "emails", "waiting": 1, "in_flight": 0, "delayed": 0, "dead": 0, "in_per_s": 0.0,
        "out_per_s": 0.0, "done": 0, "trimmed": 0, "consumers": 0, "paused": True,
    }  # fmt: skip


def test_info_says_how_many_dead_a_limit_has_deleted(
    redis_url: str, admin: Admin, client: redis.Redis
) -> None:
    HotQueue("emails", url=redis_url).enqueue("a")
    client.hset(keys.counters("emails"), "trimmed", 1250)
    last = admin("info", "emails").splitlines()[-1]
    assert last == "Of emails 1,250 dead messages went by --max-dead or --max-dead-age so far."
    (found,) = admin.json("info", "emails")
    assert found["queues"][0]["trimmed"] == 1250


def test_info_looks_again_and_again_until_it_is_interrupted(redis_url: str, admin: Admin) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue("a")
    env = admin.env
    with start("hotqueue", "info", "emails", "-i", "0.1", "-j", env=env) as command:
        wait_until(lambda: command.stdout_text().count("\n") >= 2, what="two looks")
        queue.enqueue(*range(50))
        wait_until(lambda: '"waiting": 51' in command.stdout_text(), what="what came is seen")
        command.signal(signal.SIGINT)
        assert command.wait() == 0
        looks = [json.loads(line)["queues"][0] for line in command.stdout_text().splitlines()]
    assert looks[0]["in_per_s"] is None
    assert any(each["in_per_s"] for each in looks)


def test_on_a_terminal_a_look_takes_the_place_of_the_one_before(redis_url: str, admin: Admin) -> None:
    HotQueue("emails", url=redis_url).enqueue("a")
    with admin.terminal("info", "-i", "0.1", "emails") as terminal:
        terminal.expect_exact("emails")
        terminal.expect_exact("\x1b[3F\x1b[J")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0


def test_where_there_is_no_queue_info_says_so(admin: Admin) -> None:
    assert admin("info") == "No queue was found there.\n"
    (found,) = admin.json("info")
    assert (found["queues"], found["complete"]) == ([], True)


def test_info_lists_queues_that_only_producers_have_used(
    redis_url: str, admin: Admin, client: redis.Redis
) -> None:
    HotQueue("emails", url=redis_url).enqueue("a", "b")
    HotQueue("later:on", url=redis_url).send("c", delay=600)
    client.sadd(keys.QUEUES, "served")
    client.set("hotqueue:lock", "of another program")
    client.set("another:hotqueue:x", "y")
    (found,) = admin.json("info")
    counts = {each["queue"]: (each["waiting"], each["delayed"]) for each in found["queues"]}
    assert counts == {"emails": (2, 0), "later:on": (0, 1), "served": (0, 0)}
    assert found["complete"] is True
    assert [each.stats.queue for each in Observer(Access(redis_url)).look().queues] == sorted(counts)


@pytest.mark.usefixtures("few_keys_at_once")
def test_where_there_are_too_many_keys_to_look_at_info_says_so(
    redis_url: str,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client.mset({f"session:{number}": "x" for number in range(1000)})
    monkeypatch.setenv("HOTQUEUE_URL", redis_url)
    assert group.run(["info"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Queues may be missing: too many keys to scan. `hotqueue info QUEUE` counts any."
    )
    assert group.run(["info", "-j"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False


@pytest.mark.usefixtures("few_keys_at_once")
def test_each_look_goes_on_where_the_one_before_was_until_all_keys_were_looked_at(
    redis_url: str, client: redis.Redis
) -> None:
    client.mset({f"session:{number}": "x" for number in range(1000)})
    names = [f"q{number}" for number in range(20)]
    for name in names:
        HotQueue(name, url=redis_url).enqueue("a")
    access = Access(redis_url)
    looks = 0
    while access.finder.lacks:
        found = access.all()
        looks += 1
    assert 10 < looks < 200
    assert found == sorted(names)


@pytest.fixture
def few_keys_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "_KEYS", 10)
    monkeypatch.setattr(finder, "_FIRST_CALLS", 2)


def test_not_more_queues_are_found_than_can_be_counted_in_a_moment(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "_MOST_FOUND", 10)
    monkeypatch.setattr(finder, "_KEYS", 5)
    for number in range(200):
        client.rpush(keys.key_for_name(f"q{number}"), "a")
    access = Access(redis_url)
    assert 10 <= len(access.all()) < 100
    assert access.finder.lacks


def test_a_name_that_nobody_should_have_put_there_is_passed_over(admin: Admin, client: redis.Redis) -> None:
    client.sadd(keys.QUEUES, "bad{name", b"\xff\xfe", "good")
    (found,) = admin.json("info")
    assert [each["queue"] for each in found["queues"]] == ["good"]


def test_a_name_cannot_play_with_the_terminal_and_is_cut_to_fit_it(admin: Admin, client: redis.Redis) -> None:
    client.sadd(keys.QUEUES, "red\x1b[31m", "long-" * 30)
    with admin.terminal("info") as terminal:
        terminal.expect(pexpect.EOF)
    lines = terminal.before.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in terminal.before
    assert "long-" in lines[1]
    assert "…" in lines[1]


@pytest.mark.parametrize("command", ["info", "peek", "resume", "clear", "dead ls", "dead show", "dead retry"])
def test_a_queue_that_does_not_exist_is_said_with_those_that_do(
    admin: Admin, client: redis.Redis, command: str
) -> None:
    client.sadd(keys.QUEUES, "emails", "thumbs")
    client.rpush(keys.key_for_name("texts"), "a")
    said = admin(*command.split(), "jobs", code=2)
    assert said.count("\n") == 1
    assert "there is no queue 'jobs'" in said
    assert said.endswith("there are emails, texts, thumbs\n")
    assert admin(*command.split(), "emial", code=2).endswith(": did you mean 'emails'?\n")


@pytest.mark.parametrize("name", ["", "a{b", "a,b"])
@pytest.mark.parametrize("command", ["info", "peek", "pause", "clear", "dead ls", "dead drop", "send"])
def test_a_name_that_no_queue_can_have_is_one_line(admin: Admin, command: str, name: str) -> None:
    words = [*command.split(), name, *(["1"] if command == "send" else [])]
    said = admin(*words, code=2)
    assert said.startswith("hotqueue: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["info"], ["send", "q", "1"], ["workers"], ["doctor"], ["dead", "ls", "q"]]
)
def test_a_redis_that_is_not_there_is_one_line_and_code_3(words: list[str]) -> None:
    said = Admin("redis://127.0.0.1:1/0")(*words, code=3)
    assert said.startswith("hotqueue: Redis at 127.0.0.1:1/0 is not reachable")
    assert said.count("\n") == 1


def test_a_wrong_password_is_one_line_and_code_3_and_is_not_shown(redis_url: str) -> None:
    said = Admin(redis_url.replace("redis://", "redis://user:secret@"))("info", code=3)
    assert "WRONGPASS" in said
    assert "secret" not in said
    assert said.count("\n") == 1


def test_the_url_may_stand_on_the_command_line(redis_url: str) -> None:
    HotQueue("emails", url=redis_url).enqueue("a")
    done = run("hotqueue", "info", "emails", "--url", redis_url, env={"HOTQUEUE_URL": "redis://127.0.0.1:1"})
    assert done.returncode == 0
    assert run("hotqueue", "info", "-u", "http://x").returncode == 2


def test_who_reads_only_the_beginning_gets_no_traceback(admin: Admin, client: redis.Redis) -> None:
    client.sadd(keys.QUEUES, "emails")
    client.zadd(keys.dead("emails"), {b"%d" % n: n for n in range(20_000)})
    argv = [sys.executable, "-m", "hotqueue", "dead", "ls", "emails", "--limit", "20000"]
    env = os.environ | admin.env
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as reader:
        assert reader.stdout
        assert reader.stderr
        assert reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr.read() == b""
        assert reader.wait(30) == 1


@pytest.mark.parametrize("words", [[], ["dead"], ["info", "-h"], ["dead", "retry", "--help"]])
def test_help_fits_a_terminal(admin: Admin, words: list[str]) -> None:
    said = admin(*words)
    assert said.startswith("Usage: hotqueue")
    assert max(map(len, said.splitlines())) <= 80


def test_workers_shows_processes_with_their_queues_and_what_they_hold(
    redis_url: str, admin: Admin, client: redis.Redis, tmp_path: Path
) -> None:
    folder = app(
        tmp_path,
        """
        import time
        from hotqueue import HotQueue
        emails, thumbs = HotQueue("emails"), HotQueue("thumbs")
        @emails.worker
        def slow(message): time.sleep(600)
        @thumbs.worker
        def quick(message): pass
        """,
    ).parent
    message_id = HotQueue("emails", url=redis_url).send("slow")
    env = admin.env
    with start("hotqueue-worker", "tasks", "-c", "1", "-t", "0", env=env, cwd=folder) as worker:
        wait_until(lambda: HotQueue("emails", url=redis_url).stats().in_flight == 1, 30, "it is taken")
        (process,) = [each for each in admin.json("workers") if each["kind"] == "process"]
        assert (process["supervisor"], process["gone"]) == (worker.pid, False)
        (emails,) = [each for each in process["queues"] if each["queue"] == "emails"]
        assert (emails["in_flight"], emails["first_id"]) == (1, message_id)
        assert 0 < emails["lease_s"] <= 60
        shown = admin("workers")
        assert f":{process['pid']}" in shown
        assert f"1 of emails: {message_id}" in shown


def test_workers_shows_a_process_that_is_gone_and_a_lease_that_is_over(
    redis_url: str, admin: Admin, client: redis.Redis
) -> None:
    assert admin("workers") == "No consumer is registered.\n"
    client.sadd(keys.QUEUES, "q")
    connection = Connection(Address.from_url(redis_url), CONSUMER_TIMEOUT_S)
    with subprocess.Popen(
        [sys.executable, "-c", "from hotqueue import identity; print(identity.owner())"],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout
        owner = child.stdout.read().decode().strip()
    scripts.register(connection, "q", "00000000000000a1", 60_000, owner)
    scripts.register(connection, "q", "00000000000000a2", -5000, '{"host":"far","pid":7}')
    scripts.register(connection, "q", "00000000000000a3", 60_000, "not JSON")
    connection.close()
    by_pid = {each["pid"]: each for each in admin.json("workers")}
    assert by_pid[7]["queues"][0]["lease_s"] < 0
    assert by_pid[json.loads(owner)["pid"]]["gone"] is (sys.platform == "linux")
    assert by_pid[0]["host"] == "?"
    assert "far:7" in admin("workers")


def test_a_pause_lasts_as_long_as_it_says(redis_url: str, admin: Admin, client: redis.Redis) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue("a")
    assert admin("pause", "emails", "--for", "10m") == "emails is paused for 10m.\n"
    assert 590 < client.ttl(keys.paused("emails")) <= 600
    assert "emails is paused for 10m more." in admin("info", "emails")
    admin("pause", "emails")
    assert client.ttl(keys.paused("emails")) == -1
    assert admin("resume", "emails") == "emails goes on.\n"
    assert queue.stats().paused_s is None
    assert admin("resume", "emails") == "emails was not paused.\n"


def test_a_queue_may_be_paused_before_anything_has_used_it_and_a_typo_is_noticed(
    redis_url: str, admin: Admin
) -> None:
    assert admin("pause", "emails", "--for", "10m").splitlines() == [
        "emails is paused for 10m.",
        "Nothing has used it yet: none is known there",
    ]
    assert "emails is paused for 10m more." in admin("info")
    assert HotQueue("emails", url=redis_url).stats().paused_s is not None
    assert admin("pause", "emials").endswith("Nothing has used it yet: did you mean 'emails'?\n")
    assert admin("resume", "emials") == "emials goes on.\n"
    admin("resume", "emials", code=2)


@pytest.mark.parametrize("time", ["ten", "-1", "5w", "0", "1e3", ""])
def test_a_time_that_is_none_is_a_mistake(redis_url: str, admin: Admin, time: str) -> None:
    HotQueue("emails", url=redis_url).enqueue("a")
    admin("pause", "emails", f"--for={time}", code=2)


def test_clear_deletes_what_waits_and_with_all_the_rest_too(
    redis_url: str, admin: Admin, client: redis.Redis
) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue(1, 2, 3)
    queue.send("later", delay=3600)
    client.zadd(keys.dead("emails"), {b"dead": 1})
    assert admin("clear", "emails", "--yes") == "Deleted 3 waiting messages of emails.\n"
    assert (queue.stats().waiting, queue.stats().total) == (0, 2)
    queue.enqueue(4)
    said = admin("clear", "emails", "--all", "--yes")
    assert said == "Deleted 1 waiting, 1 delayed and 1 dead message of emails.\n"
    assert queue.stats().total == 0


def test_without_a_terminal_clear_needs_yes(redis_url: str, admin: Admin) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue(1, 2, 3)
    said = admin("clear", "emails", code=2)
    assert "Delete 3 waiting messages of emails?" in said
    assert "--yes" in said
    assert len(queue) == 3


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 3), ("", 1, 3)])
def test_on_a_terminal_clear_asks_with_the_count(
    redis_url: str, admin: Admin, answer: str, code: int, left: int
) -> None:
    queue = HotQueue("emails", url=redis_url)
    queue.enqueue(1, 2, 3)
    question = "Delete 3 waiting messages of emails? [y/N]"
    assert admin.answered("clear", "emails", question=question, answer=answer) == code
    assert len(queue) == left


def test_a_closed_output_is_no_error(redis_url: str) -> None:
    done = run("sh", "-c", f'"$0" -m hotqueue info --url {redis_url} >&-', sys.executable)
    assert (done.stderr, done.returncode) == ("", 0)


def test_an_output_that_cannot_be_written_is_said_in_one_line(redis_url: str) -> None:
    command = f'"$0" -m hotqueue info --url {redis_url} >/dev/full'
    done = run("sh", "-c", command, sys.executable)
    expected = "hotqueue: the output could not be written: No space left on device\n"
    assert (done.stderr, done.returncode) == (expected, 1)
