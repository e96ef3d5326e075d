"""`hotqueue top` on a terminal: what it shows, how it ends, and what it says where it cannot run."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest
import redis

from hotqueue import HotQueue, keys
from hotqueue.cli.access import Access
from hotqueue.cli.info import Moving
from hotqueue.cli.scene import Crew, Observer, Scene, died_s, running_s, took
from hotqueue.cli.screen import lines
from hotqueue.cli.text import columns, duration
from hotqueue.stats import Stats
from hotqueue.supervisors import Child, Death, Supervisor
from tests.support.admin import Admin
from tests.support.commands import app, start
from tests.support.servers import LiveServer, fresh_server
from tests.support.waiting import wait_until

TO_SCREEN, FROM_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
NOW_MS = 1_700_000_000_000


@pytest.fixture
def admin(redis_url: str) -> Admin:
    return Admin(redis_url)


def test_queues_and_what_every_child_runs_are_shown_until_q(
    redis_url: str, admin: Admin, tmp_path: Path
) -> None:
    app(
        tmp_path,
        """
        import time
        from hotqueue import HotQueue
        @HotQueue("emails").worker
        def slow(message): time.sleep(600)
        """,
    )
    queue = HotQueue("emails", url=redis_url)
    message_id = queue.send("slow")
    queue.enqueue("waits")
    words = ("tasks", "-c1", "-t0", "-n", "mail")
    with start("hotqueue-worker", *words, env=admin.env, cwd=tmp_path) as worker:
        wait_until(lambda: queue.stats().in_flight == 1, 30, "it is taken")
        with admin.terminal("top", columns=120) as screen:
            screen.expect_exact(TO_SCREEN)
            screen.expect(r"emails +1 +1 +0 +0")
            screen.expect(rf":{worker.pid} mail")
            screen.expect(rf"1  busy +[\d.]+s .* emails {message_id}")
            screen.send("x")  # any other key does nothing
            screen.expect_exact("q quits")
            screen.send("q")
            screen.expect_exact(FROM_SCREEN)
            screen.expect(pexpect.EOF)
            screen.wait()
            assert screen.exitstatus == 0
        worker.signal(signal.SIGTERM)
        worker.wait()


def test_ctrl_c_ends_it_without_a_word(admin: Admin) -> None:
    with admin.terminal("top") as screen:
        screen.expect_exact("No worker is known there.")
        screen.sendintr()
        screen.expect_exact(FROM_SCREEN)
        said = screen.read()
        screen.wait()
        assert (screen.exitstatus, re.sub(r"\x1b\[\?25h|\^C|\s", "", said)) == (0, "")


def test_the_terminal_is_left_as_it_was(admin: Admin) -> None:
    with admin.terminal("top") as screen:
        screen.expect_exact("q quits")
        wait_until(lambda: not screen.getecho(), 20, "keys are not shown")
        screen.send("q")
        wait_until(screen.getecho, 20, "keys are shown again")


def test_while_redis_is_away_it_says_so_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with fresh_server(tmp_path) as server, Admin(server.url).terminal("top") as screen:
        screen.expect_exact("No worker is known there.")
        server.stop()
        screen.expect("is not reachable")
        server.start()
        screen.expect(r"q quits[\x1b\[0m\s]*No queue is known there")
        screen.send("q")
        screen.expect_exact(FROM_SCREEN)


def test_without_a_terminal_it_says_what_to_use(admin: Admin) -> None:
    assert "hotqueue info and hotqueue workers do not" in admin("top", code=2)


def test_without_rich_it_names_the_extra_and_other_commands_work(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError")
    admin = Admin(redis_url)
    path = f"{tmp_path}:{admin.env['PYTHONPATH']}"
    admin = Admin(redis_url, env={"PYTHONPATH": path})
    assert admin("top", code=2) == "hotqueue: hotqueue top needs rich: pip install 'hotqueue[cli]'\n"
    assert "top" in admin("--help")


def test_an_address_that_does_not_answer_is_one_line_and_no_screen(tmp_path: Path) -> None:
    with Admin("redis://127.0.0.1:1").terminal("top") as screen:
        said = screen.read()
        screen.wait()
    assert screen.exitstatus == 3
    assert TO_SCREEN not in said
    assert said.startswith("hotqueue: Redis at 127.0.0.1:1/0 is not reachable")


def test_watching_has_workers_tell_of_themselves_more_often(admin: Admin, client: redis.Redis) -> None:
    with admin.terminal("top") as screen:
        screen.expect_exact("q quits")
        wait_until(lambda: client.pttl(keys.WATCHED) > 0, 20, "it says that it watches")
        assert client.pttl(keys.WATCHED) <= 5000
        screen.send("q")
        screen.expect(pexpect.EOF)


@contextmanager
def acting_as(role: str, server: LiveServer) -> Iterator[Admin]:
    """A user who has just the rights of a role."""
    rule = Admin(server.url)("doctor", "--acl", role).strip().replace("PASSWORD", "x")
    server.admin.execute_command(*rule.split(" "))
    server.admin.execute_command("ACL", "LOG", "RESET")
    try:
        yield Admin(server.url.replace("redis://", f"redis://hotqueue-{role}:x@"))
    finally:
        server.admin.acl_deluser(f"hotqueue-{role}")


def test_who_may_only_read_can_watch(any_server: LiveServer) -> None:
    with acting_as("reader", any_server) as reader:
        with reader.terminal("top") as screen:
            screen.expect_exact("No worker is known there.")
            screen.expect_exact("No worker is known there.")
            screen.send("q")
            screen.expect(pexpect.EOF)
        refused = {entry["object"]: entry["count"] for entry in any_server.admin.acl_log()}
        assert refused == {"scan": 1, "set": 1}


def test_an_admin_has_the_rights_for_all_of_it(any_server: LiveServer) -> None:
    with acting_as("admin", any_server) as admin:
        with admin.terminal("top") as screen:
            screen.expect_exact("No worker is known there.")
            screen.send("q")
            screen.expect(pexpect.EOF)
        assert any_server.admin.acl_log() == []


# --- what stands on the screen


def moving(name: str, waiting: int = 0) -> Moving:
    return Moving(Stats(name, waiting, 0, 0, 0, 0, 0, 1, 2.0, None, NOW_MS), (1.0, 2.0))


def crew(children: int = 4) -> Crew:
    busy = Child(
        1, 11, "busy", 5, 32.5, 1, (0,) * 8 + (90, 0, 10),
        "emails", "0192f0c1-7a3b-7c4d-8e5f-0123456789ab", "send", 4000,
    )  # fmt: skip
    idle = [Child(number, 10 + number, "idle", 7, 31.0) for number in range(2, children + 1)]
    death = Death(NOW_MS - 60_000, 1, 9, "SIGKILL, out of memory", queue="emails", handler="send")
    supervisor = Supervisor(
        "web1", 7, "web1", "shop.tasks", "1", NOW_MS - 3600_000, NOW_MS, "running", children, children, 1,
        children, redis=True, heard_s=2.0, children=[busy, *idle], deaths=[death],
    )  # fmt: skip
    return Crew(supervisor, {11: 12.3})


def text(scene: Scene | None, width: int = 80, height: int = 24) -> list[str]:
    return [line.text for line in lines(scene, "localhost:6379/0", width, height)]


def test_a_screen_of_80_columns_has_all_of_it() -> None:
    assert text(Scene([moving("emails", 14)], [crew(2)])) == [
        "localhost:6379/0  1 worker, 2 children                                   q quits",
        "",
        "queue   waiting  in flight  delayed  dead  oldest      in/s     out/s",
        "emails       14          0        0     0    2.0s       1.0       2.0",
        "",
        "web1:7  running  2 of 2 ready  up 60m  shop.tasks",
        "  #  state      for   msg/s   p50   p95    MiB ends  last  message",
        "  1  busy      6.0s    12.3  39ms 175ms     32    1   62s  emails 0192f0c1-7a3b…",
        "  2  idle         -       -     -     -     31    -     -",
        "  last death 62s ago: child 1, SIGKILL, out of memory, ran send of emails",
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 5)])
def test_nothing_is_wider_or_longer_than_the_terminal(width: int, height: int) -> None:
    queues = [moving("emails of our customers in all countries", number) for number in range(50)]
    shown = text(Scene(queues, [crew(70), crew(3)], "Redis does not answer " * 9), width, height)
    assert len(shown) == height
    assert max(map(columns, shown)) <= width
    assert re.search(r"… and \d+ lines more", shown[-1])


def test_of_many_queues_the_fullest_are_shown() -> None:
    queues = [moving(f"q{number:02}", number) for number in range(50)]
    shown = text(Scene(queues, [crew()]))
    assert [line.split()[0] for line in shown[3:11]] == [f"q{number}" for number in range(42, 50)]
    assert shown[11] == "… and 42 queues with less"


def test_ages_count_on_by_the_clock_of_redis_and_of_the_worker_s_host() -> None:
    supervisor = crew().supervisor
    assert running_s(supervisor, supervisor.children[0]) == 6.0
    assert running_s(supervisor, supervisor.children[1]) is None
    assert (died_s(supervisor), died_s(supervisor, 1), died_s(supervisor, 2)) == (62.0, 62.0, None)


def test_rates_are_the_difference_of_what_two_records_say(redis_url: str, admin: Admin) -> None:
    observer = Observer(Access(redis_url))

    def told(at_ms: int, done: int, pid: int = 5) -> Crew:
        now = Supervisor(pid=1, at_ms=at_ms, children=[Child(1, pid, done=done)])
        observer._crews = {("?", 1, 0): observer._compared(now)}
        return observer._crews["?", 1, 0]

    assert told(1000, 10).rates == {}
    assert told(3000, 30).rates == {5: 10.0}
    assert told(3000, 30).rates == {5: 10.0}  # the same record once more
    assert told(4000, 2, pid=6).rates == {}  # another child


def test_durations_are_those_of_the_last_minute_or_of_all_a_child_has_run() -> None:
    observer = Observer(Access("redis://127.0.0.1:1"))

    def told(at_s: int, *lasted: int, pid: int = 5) -> list[int]:
        now = Supervisor(pid=1, at_ms=1000 * at_s, children=[Child(1, pid, took=lasted)])
        crew = observer._compared(now)
        observer._crews = {("?", 1, 0): crew}
        return list(took(crew, now.children[0]))

    assert told(0, 7) == [7]
    assert told(30, 9, 1) == [2, 1]
    assert told(60, 9, 2) == [2, 2]
    assert told(100, 9, 4) == [0, 2]
    assert told(200, 9, 4) == [9, 4]  # none in this minute
    assert told(201, 1, pid=6) == [1]  # another child


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.00005, "0.1ms"),
        (0.00994, "9.9ms"),
        (0.00995, "10ms"),
        (0.9994, "999ms"),
        (1.0, "1.0s"),
    ],
)
def test_a_duration_takes_few_characters(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_an_old_look_says_how_old_it_is() -> None:
    now = time.monotonic()
    assert "no answer for" not in " ".join(text(Scene([], [], at_s=now)))
    assert "Redis gives no answer for 8" in text(Scene([], [], at_s=now - 8.2))[1]
