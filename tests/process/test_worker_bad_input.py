"""Mistakes of a user's: one line that says what, where and what to do, and a code; never a traceback."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import app, run
from tests.support.servers import LiveServer, free_port, fresh_server
from tests.support.shop import Shop

GOOD = """
    from hotqueue import HotQueue
    queue = HotQueue("jobs")

    @queue.worker
    def handle(message): ...
"""


def complaint(done: Any, code: int) -> str:
    """The one line on stderr, which may be preceded by log events; `code` is what the exit code must be."""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert (done.returncode, len(said)) == (code, 1), done.stderr
    assert said[0].startswith("hotqueue-worker: ")
    return said[0].removeprefix("hotqueue-worker: ")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "no handler in tasks: decorate a function with @queue.worker"),
        ("import sys; sys.exit(3)", "cannot import tasks: SystemExit: 3 (HERE:1)"),
        ("import os; os._exit(3)", "importing tasks ended the interpreter (exit code 3)"),
        ("import os; os.closerange(3, 99)", "importing tasks closed descriptors that are not its own"),
        (
            "import os; os.closerange(3, 99); files = [open('x', 'w') for _ in range(9)]; raise ValueError",
            "importing tasks closed descriptors that are not its own",
        ),
        ("import os; os.abort()", "importing tasks ended the interpreter (SIGABRT)"),
        ("x = 1\0", "cannot import tasks: SyntaxError: source code string cannot contain null bytes"),
        ("def f(:", "cannot import tasks: SyntaxError: invalid syntax (HERE:1)"),
        (f"{GOOD}    handle.run()", "HERE:7: handle.run() would hold up the import of tasks"),
    ],
)
def test_a_module_that_cannot_be_served_is_named_with_file_and_line(
    tmp_path: Path, source: str, expected: str
) -> None:
    module = app(tmp_path, source)
    done = run("hotqueue-worker", "tasks", cwd=tmp_path)
    assert expected.replace("HERE", str(module)) in complaint(done, 2)
    assert done.stdout == ""


def test_a_module_that_is_no_text_is_refused(shop: Shop) -> None:
    refused = shop.run(target=os.fsdecode(b"t\xff"))
    assert complaint(refused, 2) == r"'t\udcff' is not the name of a module: write it as myapp.tasks"


@pytest.mark.parametrize("option", ["--reload", "--status-file=x"])
def test_a_folder_that_is_gone_is_said(shop: Shop, option: str) -> None:
    command = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -m hotqueue.worker tasks "$1"'
    refused = run("sh", "-c", command, sys.executable, option, env=shop.env, cwd=shop.folder)
    assert complaint(refused, 2) == "the folder in which the worker was started is gone: start it again"


def test_a_target_that_ends_in_a_colon_is_refused(tmp_path: Path) -> None:
    app(tmp_path, GOOD)
    done = run("hotqueue-worker", "tasks:", cwd=tmp_path)
    assert (
        complaint(done, 2) == "'tasks:' ends in a colon: write tasks:HANDLER for one handler, tasks for all"
    )


@pytest.mark.parametrize(
    ("decorator", "options"),
    [
        ("queue.worker(soft_time_limit=3, time_limit=2)", []),
        ("queue.worker(soft_time_limit=3)", ["--time-limit=3"]),
        ("queue.worker", ["--soft-time-limit=9", "--time-limit=8"]),
    ],
    ids=["handler", "both", "options"],
)
def test_a_soft_limit_that_would_come_too_late_is_refused(
    tmp_path: Path, decorator: str, options: list[str]
) -> None:
    app(tmp_path, GOOD.replace("queue.worker", decorator))
    said = complaint(run("hotqueue-worker", "tasks", *options, cwd=tmp_path), 2)
    assert ": a soft time limit of " in said
    assert " s is not below the time limit of " in said


def test_a_database_that_the_server_does_not_have_is_refused_at_once(shop: Shop) -> None:
    shop.write("@queue.worker\ndef handle(message): ...")
    url = shop.server.url.rpartition("/")[0] + "/999"
    done = shop.run("--connect-timeout=1000", f"--url={url}")
    assert complaint(done, 3).endswith("refused: DB index is out of range")


def test_an_unknown_queue_is_named_with_those_there_are(tmp_path: Path) -> None:
    app(tmp_path, GOOD)
    done = run("hotqueue-worker", "tasks", "-Qother", cwd=tmp_path)
    assert "no handler for queue 'other' of --queues; there are: jobs" in complaint(done, 2)


def test_a_private_server_for_another_machine_is_refused(tmp_path: Path) -> None:
    app(tmp_path, GOOD)
    done = run("hotqueue-worker", "tasks", "--embedded", "--url=redis://redis.example/0", cwd=tmp_path)
    assert "a private server serves redis:// URLs of this machine only" in complaint(done, 2)


@pytest.mark.parametrize(
    ("place", "url", "expected"),
    [
        ("option", "http://localhost", "not a Redis URL (unknown scheme 'http'): use redis://HOST:PORT/DB"),
        ("HOTQUEUE_URL", "hunter2@localhost", "not a Redis URL (no scheme)"),
        ("REDIS_URL", "redis://:hunter2@localhost:port/0", "not a Redis URL ("),
        ("HOTQUEUE_URL", "redis+sentinel://a/b", "redis+sentinel:// is not supported yet"),
    ],
)
def test_a_url_that_is_none_is_code_3_and_shows_no_secret(
    tmp_path: Path, place: str, url: str, expected: str
) -> None:
    app(tmp_path, GOOD)
    options = [f"--url={url}"] if place == "option" else []
    done = run("hotqueue-worker", "tasks", *options, cwd=tmp_path, env={place: url})
    said = complaint(done, 3)
    assert expected in said
    assert "hunter2" not in said


def test_a_redis_that_nobody_reaches_is_code_3_after_the_timeout(tmp_path: Path) -> None:
    app(tmp_path, GOOD)
    options = ["--connect-timeout=0.2", "--url=redis://127.0.0.1:1/0"]
    done = run("hotqueue-worker", "tasks", *options, cwd=tmp_path)
    assert "Redis at 127.0.0.1:1/0 is not reachable" in complaint(done, 3)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with passwords: one user may do all, one may not block, one may not run scripts."""
    users = [
        "default on >hunter2 ~* &* +@all",
        "noblock on >hunter2 ~* &* +@all -blmove -blpop",
        "noscript on >hunter2 ~* &* +@all -evalsha -eval",
        "elsewhere on >hunter2 ~other:* &* +@all",
    ]
    with fresh_server(tmp_path_factory.mktemp("guarded"), user=users) as server:
        yield server


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("default:wrong-hunter2", "WRONGPASS"),
        ("", "NOAUTH"),
        ("noblock:hunter2", "NOPERM"),
        ("noscript:hunter2", "NOPERM"),
        ("elsewhere:hunter2", "NOPERM"),
    ],
)
def test_a_redis_that_does_not_let_us_in_is_code_3_at_once(
    tmp_path: Path, guarded: LiveServer, who: str, expected: str
) -> None:
    app(tmp_path, GOOD)
    url = f"redis://{who}@127.0.0.1:{guarded.port}/0" if who else guarded.url
    done = run("hotqueue-worker", "tasks", "--connect-timeout=1000", cwd=tmp_path, env={"HOTQUEUE_URL": url})
    said = complaint(done, 3)
    assert expected in said
    assert f"Redis at 127.0.0.1:{guarded.port}/0 refused" in said
    assert "hunter2" not in done.stderr


def test_a_port_taken_by_something_else_is_named(tmp_path: Path) -> None:
    app(tmp_path, GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--embedded", f"--url=redis://127.0.0.1:{port}/0"]
        done = run("hotqueue-worker", "tasks", *options, cwd=tmp_path)
    assert f"port {port} is taken by something that does not speak Redis" in complaint(done, 2)


@pytest.mark.parametrize(("option", "thread"), [("--metrics", "metrics"), ("--reload", "watcher")])
def test_a_thread_that_cannot_be_had_for_an_option_ends_the_worker_at_its_start(
    shop: Shop, option: str, thread: str
) -> None:
    (shop.folder / "sitecustomize.py").write_text(f"""
import threading
real = threading.Thread.start

def start(self):
    if self.name == "hotqueue-{thread}":
        raise RuntimeError("can't start new thread")
    real(self)

threading.Thread.start = start
""")
    shop.write("note('imported')")
    value = [str(free_port())] if option == "--metrics" else []
    said = complaint(shop.run(option, *value, env={"PYTHONPATH": str(shop.folder)}), 1)
    assert said.endswith(" need a thread each, and there can be no more: can't start new thread")
    assert shop.notes() == []


def test_an_import_that_leaves_no_descriptor_is_one_line(shop: Shop) -> None:
    shop.write("""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (os.open(os.devnull, os.O_RDONLY), 64))

        @queue.worker
        def handle(message): ...
    """)
    assert "Too many open files" in complaint(shop.run(), 2)


def test_redefining_one_name_replaces_the_handler(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note("old")

        @queue.worker
        def handle(message):
            note("new")
    """)
    shop.queue.enqueue("a")
    assert shop.run("-b").returncode == 0
    assert shop.notes() == ["new"]
