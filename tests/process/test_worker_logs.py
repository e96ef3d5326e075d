"""What is seen of a worker: its lines in a pipe and on a terminal, and those of the application."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping

import pexpect
import pytest

from tests.support.commands import COMMANDS
from tests.support.shop import Shop
from tests.support.watchdog import watchdog

TALKING = """
    import logging
    import structlog

    log = logging.getLogger("shop")
    structured = structlog.get_logger("shop")

    @queue.worker(retries=0)
    def handle(message):
        log.info("standard")
        structured.info("structured", message="hidden" if message == "secret" else message)
        print("printed")
        if message == "bad":
            1 / 0
"""
IN_A_TERMINAL = re.compile(r"^(?:\x1b\[[0-9;]*m)*\d\d:\d\d:\d\d")


def on_terminal(shop: Shop, *options: str, env: Mapping[str, str] | None = None) -> str:
    """What a terminal shows of a worker that runs to its end."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    process = subprocess.Popen(
        [*COMMANDS["hotqueue-worker"], "tasks", *options],
        env=environment | shop.env | {"HOTQUEUE_LOG_LEVEL": "info", "TERM": "xterm"} | dict(env or {}),
        cwd=shop.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells that nobody holds the other end any more
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait(30) == 0
    return shown.decode()


def test_in_a_pipe_each_line_is_a_json_object_and_prints_go_to_stdout(shop: Shop) -> None:
    shop.write(TALKING)
    shop.queue.enqueue("good", "bad")
    done = shop.run("-c1", "-b", "-linfo")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(line.keys() >= {"event", "level", "timestamp", "pid"} for line in lines)
    by_child = ["standard", "structured", "message.done", "standard", "structured", "message.buried"]
    by_supervisor = [
        "supervisor.started", "child.started", "child.exited", "supervisor.stopping", "supervisor.stopped",
    ]  # fmt: skip
    said = [line["event"] for line in lines]
    assert [event for event in said if event.startswith(("supervisor.", "child."))] == by_supervisor
    assert [event for event in said if not event.startswith(("supervisor.", "child."))] == by_child
    assert done.stdout == "printed\nprinted\n"


def test_lines_of_a_handler_say_which_message_it_runs_in_which_child(shop: Shop) -> None:
    shop.write(TALKING)
    shop.env["HOTQUEUE_LOG_LEVEL"] = "info"
    ids = [shop.queue.send(message) for message in ("one", "two")]
    done = shop.run("-c1", "-b")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    for event in ("standard", "structured", "message.done"):
        found = [line for line in lines if line["event"] == event]
        assert [line["id"] for line in found] == ids
        assert all((line["queue"], line["handler"], line["child"]) == ("jobs", "handle", 1) for line in found)


def test_a_failure_is_logged_and_kept_from_the_handler_on(shop: Shop) -> None:
    shop.write(TALKING)
    shop.queue.enqueue("bad")
    done = shop.run("-c1", "-b")
    (buried,) = [json.loads(line) for line in done.stderr.splitlines() if "message.buried" in line]
    assert buried["reason"] == "failed: ZeroDivisionError: division by zero"
    first = f'Traceback (most recent call last):\n  File "{shop.folder}/tasks.py"'
    assert buried["exception"].startswith(first)
    (trail,) = shop.dead()
    assert str(trail.reason["traceback"]).startswith(first)


def test_a_payload_is_never_logged(shop: Shop) -> None:
    shop.write(TALKING)
    shop.queue.enqueue("secret")
    done = shop.run("-c1", "-b", "-ldebug")
    assert done.returncode == 0
    assert "secret" not in done.stderr


def test_on_a_terminal_lines_are_for_people_and_have_colours(shop: Shop) -> None:
    shop.write(TALKING)
    shop.queue.enqueue("good")
    shown = on_terminal(shop, "-c1", "-b")
    lines = [line for line in shown.splitlines() if line != "printed"]
    assert "\x1b[" in shown
    assert all(IN_A_TERMINAL.match(line) for line in lines), shown
    assert not any(line.startswith("{") for line in lines)


def test_no_color_is_honoured(shop: Shop) -> None:
    shop.write(TALKING)
    shown = on_terminal(shop, "-c1", "-b", env={"NO_COLOR": "1"})
    assert "supervisor.started" in shown
    assert "\x1b[" not in shown


def test_json_may_be_asked_for_on_a_terminal(shop: Shop) -> None:
    shop.write(TALKING)
    shown = on_terminal(shop, "-c1", "-b", "--log-format=json")
    assert all(json.loads(line) for line in shown.splitlines())


@pytest.mark.parametrize("form", ["console", "json"])
def test_after_ctrl_c_people_are_told_what_another_one_does(shop: Shop, form: str) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note("began")
            wait_for("go")
    """)
    shop.queue.enqueue("a")
    command = ["-m", "hotqueue.worker", "tasks", "-c1", f"--log-format={form}"]
    worker = pexpect.spawn(sys.executable, command, cwd=shop.folder, env=os.environ | shop.env, timeout=120)
    watchdog().watch(worker.pid)
    shop.wait_for_notes("began")
    worker.sendintr()
    worker.expect_exact("supervisor.stopping")
    worker.expect_exact("\n")
    assert (b"Ctrl-C again stops at once" in worker.before) is (form == "console")
    shop.allow("go")
    worker.expect(pexpect.EOF)
    worker.wait()
    watchdog().forget(worker.pid)
    assert worker.exitstatus == 0


CONFIGURED = {
    "structlog": """
        import structlog
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.LogfmtRenderer()],
            logger_factory=structlog.PrintLoggerFactory(),
        )
    """,
    "structlog over the standard library": """
        import logging, structlog
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, structlog.processors.LogfmtRenderer()],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    """,
    "the root logger": """
        import logging
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
    """,
    "a dictionary": """
        import logging.config
        logging.config.dictConfig({
            "version": 1,
            "formatters": {"plain": {"format": "%(message)s"}},
            "handlers": {
                "out": {
                    "class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "plain",
                },
            },
            "root": {"level": "INFO", "handlers": ["out"]},
        })
    """,
}


@pytest.mark.parametrize("how", CONFIGURED)
def test_an_application_that_configures_its_log_gets_what_its_children_say(shop: Shop, how: str) -> None:
    shop.env["HOTQUEUE_LOG_LEVEL"] = "info"
    shop.write(
        CONFIGURED[how],
        """
        @queue.worker
        def handle(message): ...
        """,
    )
    message_id = shop.queue.send("a")
    done = shop.run("-c1", "-b")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if "message.done" in line]
    assert f"id={message_id}" in line
    assert "queue=jobs" in line
    assert ("child=1" in line) == how.startswith("structlog")
    assert "message.done" not in done.stderr
    assert "supervisor.started" in done.stderr


@pytest.mark.parametrize("how", [how for how in CONFIGURED if how.startswith("structlog")])
def test_lines_that_a_handler_writes_with_the_application_s_structlog_say_which_message_it_runs(
    shop: Shop, how: str
) -> None:
    shop.write(
        CONFIGURED[how],
        """
        log = structlog.get_logger("shop")
        log.info("imported")

        @queue.worker
        def handle(message):
            log.info("handled", handler="mine")
        """,
    )
    message_id = shop.queue.send("a")
    done = shop.run("-c1", "-b")
    (line,) = [line for line in done.stdout.splitlines() if "event=handled" in line]
    assert {f"id={message_id}", "queue=jobs", "handler=mine", "child=1"} <= set(line.split())
