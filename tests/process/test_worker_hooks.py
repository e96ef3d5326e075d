"""What an application has done around its processes and handlers."""

import os
import re
import shutil
import signal
import sys
from collections import Counter

import pytest

from hotqueue.worker.settings import Settings
from hotqueue.worker.template_link import TemplateLink
from tests.support.commands import COMMANDS, start
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

HOOKS = """
    from contextlib import contextmanager
    from hotqueue import hooks

    @hooks.on_start
    def load():
        note("start", os.getppid())

    @hooks.on_child_start
    def connect():
        note("child start", os.getpid())

    @hooks.on_child_stop
    def disconnect():
        note("child stop", os.getpid())

    @hooks.on_stop
    def unload():
        note("stop", os.getppid())

    @queue.worker
    def handle(message):
        note("handle", os.getpid())
"""


def test_hooks_run_once_in_the_template_and_once_in_each_child(shop: Shop, parent: str) -> None:
    shop.write(HOOKS)
    with shop.open("-c2") as worker:
        ready(worker, 2)
        shop.queue.enqueue(1, 2, 3)
        wait_until(lambda: sum("handle" in note for note in shop.notes()) == 3, 20, "all is handled")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        children = {str(line["pid"]) for line in worker.events("child.started")}
        pid = str(worker.pid)
    notes = shop.notes()
    assert (notes[0], notes[-1]) == (f"start {pid}", f"stop {pid}")
    expected = Counter(f"child {moment} {child}" for child in children for moment in ("start", "stop"))
    assert Counter(note for note in notes if note.startswith("child")) == expected
    begun = [notes.index(f"child start {child}") for child in children]
    ended = [notes.index(f"child stop {child}") for child in children]
    handled = [place for place, note in enumerate(notes) if note.startswith("handle")]
    assert max(begun) < min(handled)
    assert max(handled) < min(ended)


def test_a_check_runs_no_hooks(shop: Shop) -> None:
    shop.write(HOOKS)
    assert shop.run("--check").returncode == 0
    assert [note for note in shop.notes() if not note.startswith("stop")] == []


def test_an_error_at_the_start_refuses_it(shop: Shop) -> None:
    shop.write(HOOKS, "@hooks.on_start\ndef fail(): raise LookupError('no model')")
    done = shop.run()
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"hotqueue-worker: an on_start hook failed: LookupError: no model \(.*\.py:\d+\)", last
    )


def test_an_error_in_every_child_ends_the_worker_with_the_reason(shop: Shop) -> None:
    shop.write(HOOKS, "@hooks.on_child_start\ndef fail(): raise LookupError('no database')")
    shop.queue.enqueue(1)
    done = shop.run("-c1")
    assert done.returncode == 1
    assert "LookupError: no database" in done.stderr
    assert "no child became ready" in done.stderr.splitlines()[-1]
    assert len(shop.queue) == 1


def test_an_error_at_the_end_is_logged_and_keeps_no_other_hook_from_running(shop: Shop) -> None:
    fail = "@hooks.{}\ndef {}(): sys.exit('broken')"
    shop.write(
        "from hotqueue import hooks",
        fail.format("on_child_stop", "first"),
        fail.format("on_stop", "second"),
        HOOKS,
    )
    with shop.open("-c1") as worker:
        ready(worker, 1)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        failed = worker.events("hook.failed")
    assert [line["hook"] for line in failed] == ["tasks.first", "tasks.second"]
    assert [note.rpartition(" ")[0] for note in shop.notes()[-2:]] == ["child stop", "stop"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_is_around_a_message_sees_its_delivery_and_how_the_handler_ended(shop: Shop, kind: str) -> None:
    shop.write(
        """
        from contextlib import contextmanager
        from contextvars import ContextVar
        from hotqueue import hooks

        span = ContextVar("span", default="none")

        @hooks.around_message
        @contextmanager
        def outer(delivery):
            note("outer", delivery.handler, delivery.attempt, span.get())
            token = span.set("one")
            try:
                yield
            finally:
                span.reset(token)
            note("outer done")

        @hooks.around_message
        @contextmanager
        def inner(delivery):
            try:
                yield
            except ValueError as error:
                note("inner saw", error)
                raise
        """,
        f"""
        @queue.worker(delivery="at-most-once")
        {kind} handle(message):
            note("handle", message, span.get())
            if message == "bad":
                raise ValueError(message)
        """,
    )
    shop.queue.enqueue("good", "bad")
    assert shop.run("-c1", "--burst").returncode == 0
    good = ["outer handle 1 none", "handle good one", "outer done"]
    assert shop.notes() == [*good, "outer handle 1 none", "handle bad one", "inner saw bad"]
    assert len(shop.dead()) == 1


# As if by chance, the process in between lives until its child has looked who its parent is.
DROPPED = """
    import select
    from hotqueue import hooks

    looked, look = os.pipe()
    ask = os.getppid

    def asked():
        parent = ask()
        os.write(look, b".")
        return parent

    os.getppid = asked
    os.register_at_fork(after_in_parent=lambda: select.select([looked], [], []))

    @hooks.on_start
    def become_nobody():
        os.setgid(65534)
        os.setuid(65534)

    @queue.worker
    def handle(message):
        print("handled as", os.getuid())
"""
only_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may become another user"
)


@only_root
def test_an_application_may_become_another_user_when_it_starts(shop: Shop, parent: str) -> None:
    shop.write(DROPPED)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        wait_until(lambda: "handled as 65534" in worker.stdout_text(), 20, "it is handled")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert not worker.events("child.failed")


@only_root
def test_a_worker_that_may_not_signal_its_children_says_so_by_code_1_and_leaves_nobody(shop: Shop) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    shop.write(DROPPED)
    command = ["setpriv", "--bounding-set=-kill", *COMMANDS["hotqueue-worker"], "tasks", "-c1", "-t0.1"]
    with start(*command, env=shop.env, cwd=shop.folder) as worker:
        ready(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert worker.events("supervisor.stopped")[0]["code"] == 1
        gone(worker)


def test_an_async_hook_is_refused_where_it_is_registered(shop: Shop) -> None:
    shop.write(HOOKS, "@hooks.on_start\nasync def load(): ...")
    done = shop.run()
    assert done.returncode == 2
    assert "on_start takes a plain function, and tasks.load is async" in done.stderr


def test_an_on_stop_hook_that_does_not_end_is_killed_and_that_is_said(shop: Shop) -> None:
    shop.write(
        HOOKS,
        """
        @hooks.on_stop
        def hang():
            time.sleep(1000)

        @queue.worker
        def handle(message): ...
        """,
    )
    with shop.open("-c1") as worker:
        ready(worker)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        (said,) = worker.events("hook.failed")
        assert (said["hook"], said["reason"]) == ("on_stop", "it did not end within 5 s")
        assert worker.events("supervisor.stopped")[0]["code"] == 1


def test_a_template_that_was_killed_before_it_was_told_to_end_is_not_late() -> None:
    board = os.open(os.devnull, os.O_RDWR)
    link = TemplateLink(Settings(("tasks",)), board, adopting=False)
    os.close(board)
    link.is_ready = True
    link.kill()
    link.ended(os.waitpid(link.pid, 0)[1])
    link.close()
    assert not link.is_late
