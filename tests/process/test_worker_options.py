"""What a worker is told: on the command line, by variables, in pyproject.toml."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from hotqueue import __version__, keys
from tests.support.commands import Running, run
from tests.support.servers import fresh_server
from tests.support.shop import Shop, ready
from tests.support.waiting import wait_until

SIMPLE = """
    @queue.worker
    def handle(message): ...
"""
TWO_QUEUES = """
    a, b = HotQueue("a"), HotQueue("b")

    @a.worker(delivery=DELIVERY)
    def handle_a(message):
        note("a")

    @b.worker(delivery=DELIVERY)
    def handle_b(message):
        note("b")
"""


def fill(shop: Shop, **numbers: int) -> None:
    for name, number in numbers.items():
        shop.queue_named(name).enqueue(*range(number))


def command_lines(worker: Running) -> list[str]:
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in worker.left()]
    return sorted(line.replace(b"\0", b" ").decode().strip() for line in lines)


def test_queues_named_in_order_are_served_in_strict_order(shop: Shop, delivery: str) -> None:
    shop.write(TWO_QUEUES)
    fill(shop, a=5, b=5)
    assert shop.run("-c1", "-b", "-Q", "b,a").returncode == 0
    assert shop.notes() == ["b"] * 5 + ["a"] * 5


def test_queues_with_weights_share_by_weight(shop: Shop, delivery: str) -> None:
    shop.write(TWO_QUEUES)
    fill(shop, a=30, b=30)
    assert shop.run("-c1", "-b", "-Q", "a=1,b=3").returncode == 0
    assert shop.notes()[:20].count("b") == 15
    assert len(shop.notes()) == 60


def test_every_queue_that_is_served_is_known_to_who_looks_at_all(shop: Shop, delivery: str) -> None:
    shop.write(TWO_QUEUES)
    assert shop.run("-c1", "-b", "-Q", "b").returncode == 0
    assert shop.server.admin.smembers(keys.QUEUES) == {b"b"}


@pytest.mark.parametrize(
    ("limit", "left"),
    [("--max-dead=100", 100), ("--max-dead=0", 0), ("--max-dead-age=3600", 250), ("--max-crashes=3", 1250)],
)
def test_the_dead_list_is_shortened_only_by_a_limit_and_the_oldest_go_first(
    shop: Shop, limit: str, left: int
) -> None:
    shop.write(SIMPLE)
    admin, now_ms = shop.server.admin, int(time.time() * 1000)
    admin.zadd(keys.dead("jobs"), {b"old %04d" % n: n + 1 for n in range(1000)})
    admin.zadd(keys.dead("jobs"), {b"young %04d" % n: now_ms + n for n in range(250)})
    with shop.open("-c1", limit) as worker:
        ready(worker)
        wait_until(lambda: admin.zcard(keys.dead("jobs")) == left)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert sum(line["count"] for line in worker.events("dead.trimmed")) == 1250 - left
    assert admin.zcard(keys.dead("jobs")) == left
    assert int(admin.hget(keys.counters("jobs"), "trimmed") or 0) == 1250 - left
    assert not left or admin.zrange(keys.dead("jobs"), -1, -1) == [b"young 0249"]


def test_many_dead_are_warned_of_once(shop: Shop) -> None:
    shop.write(SIMPLE)
    shop.server.admin.zadd(keys.dead("jobs"), {b"%d" % n: n + 1 for n in range(10_000)})
    with shop.open("-c1") as worker:
        (warning,) = wait_until(lambda: worker.events("dead.many"))
    assert (warning["queue"], warning["count"]) == ("jobs", 10_000)


def test_without_a_choice_all_queues_take_turns(shop: Shop, delivery: str) -> None:
    shop.write(TWO_QUEUES)
    fill(shop, a=10, b=10)
    assert shop.run("-c1", "-b").returncode == 0
    assert shop.notes()[:10].count("a") == 5


def test_a_queue_that_is_not_chosen_is_left_alone(shop: Shop) -> None:
    shop.write(TWO_QUEUES)
    fill(shop, a=2, b=2)
    assert shop.run("-c1", "-b", "-Q", "a").returncode == 0
    assert shop.notes() == ["a", "a"]
    assert len(shop.queue_named("b")) == 2


@pytest.mark.parametrize(
    ("flag", "variable", "file", "concurrency"),
    [
        (["-c1"], {"HOTQUEUE_CONCURRENCY": "2"}, "concurrency = 3", 1),
        ([], {"HOTQUEUE_CONCURRENCY": "2"}, "concurrency = 3", 2),
        ([], {}, "concurrency = 3", 3),
    ],
)
def test_a_flag_comes_before_a_variable_before_the_file(
    shop: Shop, flag: list[str], variable: dict[str, str], file: str, concurrency: int
) -> None:
    shop.write(SIMPLE)
    (shop.folder / "pyproject.toml").write_text(f"[tool.hotqueue]\nburst = true\n{file}\n")
    done = shop.run(*flag, env=variable)
    assert done.returncode == 0
    assert f'"concurrency":{concurrency},"why":"as told"' in done.stderr


def test_the_file_knows_options_by_their_long_names(shop: Shop) -> None:
    shop.write(TWO_QUEUES)
    (shop.folder / "pyproject.toml").write_text(
        '[tool.hotqueue]\nqueues = "b"\nlog-format = "console"\nlog_level = "info"\nburst = true\n'
    )
    done = shop.run("-c1", env={"HOTQUEUE_LOG_LEVEL": ""})
    assert done.returncode == 0
    assert "supervisor.started queues=b " in done.stderr
    assert "debug" not in done.stderr


def test_check_lists_queues_and_handlers_connects_and_ends(shop: Shop) -> None:
    shop.write(TWO_QUEUES)
    fill(shop, a=1)
    done = shop.run("--check", env={"DELIVERY": "at-most-once"})
    where = shop.folder / "tasks.py"
    lines = where.read_text().splitlines()
    a, b = (lines.index(f"@{name}.worker(delivery=DELIVERY)") + 1 for name in "ab")
    address = shop.server.url.removeprefix("redis://")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"a  handle_a  at-most-once  {address}  {where}:{a}",
        f"b  handle_b  at-most-once  {address}  {where}:{b}",
    ]
    assert shop.notes() == []


def test_before_it_begins_no_queue_is_waited_for(shop: Shop, delivery: str) -> None:
    """A wait of the least takes a server a tenth of a second, so hundreds of queues took half a minute."""
    shop.write(TWO_QUEUES)
    shop.server.admin.config_resetstat()
    assert shop.run("--check", env={"DELIVERY": delivery}).returncode == 0
    spent = shop.server.admin.info("commandstats")
    wait = spent["cmdstat_blmove" if delivery == "at-least-once" else "cmdstat_blpop"]
    assert wait["calls"] == wait["failed_calls"] == 2


@pytest.mark.parametrize("option", ["--check", "--help"])
def test_a_closed_output_is_no_error(shop: Shop, option: str) -> None:
    shop.write(SIMPLE)
    command = f'"$0" -m hotqueue.worker tasks {option} >&-'
    done = run("sh", "-c", command, sys.executable, env=shop.env, cwd=shop.folder)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("option", ["--check", "--help", "--version"])
def test_an_output_that_cannot_be_written_is_said_in_one_line(shop: Shop, option: str) -> None:
    shop.write(SIMPLE)
    command = f'"$0" -m hotqueue.worker tasks {option} >/dev/full'
    done = run("sh", "-c", command, sys.executable, env=shop.env, cwd=shop.folder)
    expected = "hotqueue-worker: the output could not be written: No space left on device\n"
    assert (done.stderr, done.returncode) == (expected, 1)


def test_the_version_is_that_of_the_package() -> None:
    assert run("hotqueue-worker", "--version").stdout == f"hotqueue-worker {__version__}\n"


def test_a_variable_that_an_image_has_of_its_own_is_no_option(shop: Shop) -> None:
    shop.write(SIMPLE)
    done = shop.run("--check", env={"HOTQUEUE_VERSION": "1.2.3", "HOTQUEUE_PORT": "tcp://10.0.0.1:6379"})
    assert done.returncode == 0


def test_a_variable_that_is_misspelled_is_warned_of(shop: Shop) -> None:
    shop.write(SIMPLE)
    done = shop.run("--check", env={"HOTQUEUE_CONCURENCY": "4"})
    assert done.returncode == 0
    warned = [json.loads(line) for line in done.stderr.splitlines() if "variable.unknown" in line]
    assert [(each["variable"], each["meant"], each["level"]) for each in warned] == [
        ("HOTQUEUE_CONCURENCY", "HOTQUEUE_CONCURRENCY", "warning")
    ]


def test_a_queue_py_in_the_folder_of_the_application_is_no_harm(shop: Shop) -> None:
    (shop.folder / "queue.py").write_text("raise ImportError('not the one of the standard library')")
    shop.write(SIMPLE)
    command = [
        sys.executable,
        "-P",
        "-m",
        "hotqueue.worker",
    ]  # as the installed script, which has no such folder
    done = run(*command, "tasks", "-b", env=shop.env, cwd=shop.folder)
    assert done.returncode == 0, done.stderr


def test_titles_say_who_does_what_and_no_secret(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message)
            wait_for("go")
    """)
    url = shop.server.url.replace("redis://", "redis://default:hunter2@")
    shop.queue.enqueue("a")
    with shop.open("-c2", "-u", url) as worker:
        shop.wait_for_notes("a")
        ready(worker, 2)
        wait_until(lambda: "hotqueue: supervisor tasks [1/2 busy]" in command_lines(worker))
        wait_until(lambda: any(line.endswith(" idle") for line in command_lines(worker)))
        busy, idle, supervisor, template = command_lines(worker)
        if "idle" in busy:
            busy, idle = idle, busy
        assert busy.startswith("hotqueue: child ")
        assert " jobs handle since " in busy
        assert idle.startswith("hotqueue: child ")
        assert idle.endswith(" idle")
        assert (supervisor, template) == (
            "hotqueue: supervisor tasks [1/2 busy]",
            "hotqueue: template tasks",
        )
        shop.allow("go")
        wait_until(lambda: sum(line.endswith(" idle") for line in command_lines(worker)) == 2)
        assert "hunter2" not in worker.stderr_text()


def test_the_url_of_the_option_reaches_handlers_too(shop: Shop, tmp_path: Path) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            HotQueue("answers").enqueue(message)
    """)
    with fresh_server(tmp_path) as other:
        there = other.client()
        there.rpush("hotqueue:jobs", b"\x80\x04K\x01.")
        done = shop.run("-b", "-u", other.url)
        assert done.returncode == 0
        assert there.llen("hotqueue:answers") == 1
