"""Children: who takes the place of one that ended, and when nobody does."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.support.commands import Running
from tests.support.shop import Shop, gone, ready
from tests.support.waiting import wait_until

SIMPLE = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note(message)
"""
GATED = """
    @queue.worker(delivery=DELIVERY)
    def handle(message):
        note("began", message, current().attempt)
        wait_for("go")
        note("ended", message)
"""


def parts(worker: Running) -> dict[str, int]:
    """The processes of a worker by their titles, as `ps` shows them."""
    found = {}
    for pid in worker.left():
        with contextlib.suppress(OSError):
            found[Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()] = pid
    return found


def template(worker: Running) -> int:
    return wait_until(lambda: parts(worker).get("hotqueue: template tasks", 0), 20, "there is a template")


def test_the_place_of_a_killed_child_is_filled_and_its_message_handed_back(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        os.kill(ready(worker)[0], signal.SIGKILL)
        shop.wait_for_notes("began a 1", "began a 2")
        shop.allow("go")
        wait_until(lambda: worker.events("message.done"))
        (exited,) = wait_until(lambda: worker.events("child.exited"), what="the death is logged")
        (released,) = wait_until(lambda: worker.events("message.released"), what="the release is logged")
        assert (exited["cause"], exited["handler"], exited["queue"]) == ("SIGKILL", "handle", "jobs")
        assert released["id"] == exited["id"]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert [line["child"] for line in worker.events("child.started")] == [1, 1]


def test_an_end_with_code_0_that_nobody_asked_for_is_a_crash(shop: Shop, parent: str) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note(message, len(current().trail.crashes))
            if not current().trail.crashes:
                os._exit(0)
    """)
    shop.queue.enqueue("a")
    done = shop.run("-c1", "-b")
    assert done.returncode == 0
    assert shop.notes() == ["a 0", "a 1"]


def test_nobody_takes_the_place_of_a_child_that_was_told_to_stop(shop: Shop, parent: str) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a")
    with shop.open("-c2") as worker:
        shop.wait_for_notes("began a 1")
        pids = ready(worker, 2)
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: worker.events("child.exited"))
        shop.allow("go")
        assert worker.wait() == 0
        assert worker.events("supervisor.stopping")[0]["reason"] == "every child was told to stop"
        assert len(worker.events("child.started")) == 2
        assert worker.left() == set()
    assert shop.notes() == ["began a 1", "ended a"]


def test_while_the_template_is_dead_the_children_go_on(shop: Shop) -> None:
    shop.write(GATED)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        os.kill(template(worker), signal.SIGKILL)
        wait_until(lambda: worker.events("template.exited"))
        shop.allow("go")
        shop.wait_for_notes("began a 1", "ended a")
        wait_until(lambda: worker.events("supervisor.reloaded"), 20, "the next template has come")
        os.kill(ready(worker, 2)[1], signal.SIGKILL)  # the next one is forked by it
        shop.queue.enqueue("b")
        shop.wait_for_notes("began a 1", "ended a", "began b 1", "ended b")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.left() == set()


def test_children_that_are_the_template_s_own_are_replaced_with_it(shop: Shop) -> None:
    shop.env["HOTQUEUE_NO_PRCTL"] = "1"
    shop.write(GATED)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("began a 1")
        before = ready(worker)
        os.kill(template(worker), signal.SIGKILL)
        wait_until(lambda: "began a 2" in shop.notes(), 20, "the message was handed back")
        assert ready(worker, 2)[:1] == before
        shop.allow("go")
        wait_until(lambda: "ended a" in shop.notes())
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        gone(worker)


def test_a_template_that_cannot_come_back_is_tried_again_and_children_go_on(shop: Shop) -> None:
    shop.write(SIMPLE)
    with shop.open("-c1") as worker:
        ready(worker)
        first = template(worker)
        shop.write("1 / 0")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(worker.events("supervisor.reload_failed")) >= 2, 20, "it was tried again")
        assert [line["cause"] for line in worker.events("template.exited")] == ["SIGKILL"]
        assert "ZeroDivisionError" in worker.events("supervisor.reload_failed")[0]["reason"]
        shop.queue.enqueue("a")
        shop.wait_for_notes("a")
        shop.write(SIMPLE)
        wait_until(lambda: worker.events("supervisor.reloaded"), 20, "the mended application was imported")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_threads_of_an_import_are_warned_of_and_children_work_without_them(shop: Shop) -> None:
    shop.write(
        """
        import threading
        threading.Thread(target=time.sleep, args=(1000,), name="ticker", daemon=True).start()
        """,
        SIMPLE,
    )
    shop.queue.enqueue("a")
    done = shop.run("-c1", "-b")
    assert done.returncode == 0
    assert shop.notes() == ["a"]
    assert '"threads":"ticker"' in done.stderr


def test_sockets_that_an_import_leaves_open_are_named_before_the_first_fork(shop: Shop) -> None:
    shop.write(
        """
        import socket
        from hotqueue import hooks
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        closed = socket.create_connection(server.getsockname())
        closed.close()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        named = socket.socket(socket.AF_UNIX)
        named.bind(str(HERE / "unix"))
        note(server.getsockname()[1])

        @hooks.on_start
        def connect():
            global pair
            pair = socket.socketpair()
        """,
        SIMPLE,
    )
    with shop.open("-c2") as worker:
        ready(worker, 2)
        (warned,) = worker.events("template.sockets")
        (port,) = shop.notes()
        here = f"127.0.0.1:{port}"
        expected = [
            f"IPv4 at {here}",
            f"IPv4 to {here}",
            f"unix at {shop.folder}/unix",
            "unix pair",
            "unix pair",
        ]
        assert warned["sockets"].split(", ") == expected
        first = next(index for index, line in enumerate(worker.lines()) if line["event"] == "child.started")
        assert worker.lines().index(warned) < first


def test_an_import_that_leaves_nothing_open_is_not_warned_of(shop: Shop) -> None:
    shop.write(SIMPLE)
    with shop.open("-c1") as worker:
        ready(worker)
        assert not worker.events("template.sockets")


def test_no_two_children_draw_the_same_random_numbers(shop: Shop) -> None:
    shop.write("""
        import random

        @queue.worker
        def handle(message):
            note(random.random())
            wait_for("go")
    """)
    shop.queue.enqueue("a", "b")
    with shop.open("-c2"):
        wait_until(lambda: len(shop.notes()) == 2)
        assert len(set(shop.notes())) == 2


def test_children_close_their_copies_of_what_is_the_template_s(shop: Shop) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note("ready")
            wait_for("go")
    """)
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("ready")
        (pid,) = ready(worker)
        kinds = [path.readlink().name.partition(":")[0] for path in Path(f"/proc/{pid}/fd").iterdir()]
        assert kinds.count("socket") == 1  # to Redis
        assert kinds.count("pipe") == 2  # the two ends of its wake-up pipe


def test_without_its_supervisor_a_child_stuck_in_c_is_killed_after_the_grace_and_the_template_leaves(
    shop: Shop, parent: str
) -> None:
    shop.write("""
        @queue.worker
        def handle(message):
            note("began")
            sum(range(10**12))  # no Python handler of a signal runs meanwhile
    """)
    shop.queue.enqueue("a")
    with shop.open("-c2", "-t0.5") as worker:
        shop.wait_for_notes("began")
        ready(worker, 2)
        worker.signal(signal.SIGKILL)
        worker.wait()
        gone(worker)
    assert shop.in_flight() == 1


def test_a_supervisor_killed_while_the_application_is_imported_leaves_nobody(shop: Shop) -> None:
    shop.write("note('importing')\nwait_for('never')")
    with shop.open() as worker:
        shop.wait_for_notes("importing")
        worker.signal(signal.SIGKILL)
        worker.wait()
        gone(worker)


def test_a_fork_of_a_handler_is_no_second_consumer_and_obeys_term(shop: Shop) -> None:
    shop.write("""
        import multiprocessing

        @queue.worker
        def handle(message):
            if os.fork() == 0:
                return  # a mistake: the copy comes back as well
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
            process.start()
            process.terminate()
            process.join()
            note(message, process.exitcode)
    """)
    shop.queue.enqueue(*range(5))
    with shop.open("-c1", "-b") as worker:
        assert worker.wait() == 0
        gone(worker)
        assert len(worker.events("message.done")) == 5
        assert worker.events("claim.lost") == []
    assert shop.notes() == [f"{n} -15" for n in range(5)]


MEDDLES = {
    "writes into sockets": """
        import stat
        for number in range(3, 20):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, b"?\\n")
            except OSError:
                pass
    """,
    "asks for orphans": "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)",
}


@pytest.mark.parametrize("how", MEDDLES)
def test_an_import_that_meddles_with_what_is_ours_harms_nobody(shop: Shop, how: str) -> None:
    shop.write(
        MEDDLES[how],
        """
        @queue.worker
        def handle(message):
            note(message)
        """,
    )
    shop.queue.enqueue("a")
    with shop.open("-c1") as worker:
        shop.wait_for_notes("a")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
