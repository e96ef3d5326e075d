"""The examples of the HotQueue 0.1 guide, typed into a real `python -i` on a terminal."""

import os
import re
import sys
from collections.abc import Iterator

import pexpect
import pytest

from hotqueue import HotQueue
from tests.support.servers import LiveServer
from tests.support.waiting import wait_until
from tests.support.watchdog import watchdog

PROMPT = ">>> "
ROUNDS = 30


class Repl:
    """A Python that somebody types into."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HOTQUEUE_", "PYTHON"))}
        environment |= {"TERM": "dumb", "PYTHON_BASIC_REPL": "1", "REDIS_URL": ""}
        self._child = pexpect.spawn(
            sys.executable, ["-i", "-q"], env=environment, encoding="utf-8", timeout=120, echo=False
        )
        watchdog().watch(self._child.pid)
        self._child.expect_exact(PROMPT)

    def type(self, *lines: str) -> str:
        """Type a statement and return what it prints until the next prompt."""
        self.begin(*lines)
        return self.end()

    def begin(self, *lines: str) -> None:
        for line in lines:
            self._child.sendline(line)

    def end(self) -> str:
        self._child.expect_exact(PROMPT)
        return re.sub(r"(\.\.\. )+|\r", "", self._child.before).strip()

    def ctrl_c(self) -> None:
        self._child.sendintr()

    def close(self) -> None:
        self._child.close(force=True)
        watchdog().forget(self._child.pid)


@pytest.fixture
def repl(server: LiveServer, redis_url: str) -> Iterator[Repl]:
    repl = Repl()
    assert repl.type("from hotqueue import HotQueue") == ""
    assert repl.type(f"queue = HotQueue('myqueue', host='localhost', port={server.port}, db=0)") == ""
    yield repl
    repl.close()


@pytest.fixture
def queue(redis_url: str) -> HotQueue:
    return HotQueue("myqueue", url=redis_url)


@pytest.mark.parametrize(("put", "get"), [("enqueue", "dequeue"), ("put", "get")])
def test_two_strings_go_in_and_come_out_and_then_none(repl: Repl, put: str, get: str) -> None:
    assert repl.type(f"queue.{put}('my message')") == ""
    assert repl.type(f"queue.{put}('another message')") == ""
    assert repl.type(f"queue.{get}()") == "'my message'"
    assert repl.type(f"queue.{get}()") == "'another message'"
    assert repl.type(f"print(queue.{get}())") == "None"


def test_a_dict_comes_out_as_a_dict(repl: Repl) -> None:
    repl.type("queue.enqueue({'name': 'Richard Henry', 'eyes': 'blue'})")
    assert repl.type("queue.dequeue()") == "{'name': 'Richard Henry', 'eyes': 'blue'}"


def test_an_instance_of_a_class_of_the_user_comes_out_as_one(repl: Repl) -> None:
    repl.type(
        "class Person(object):",
        "    def __init__(self, name):",
        "        self.name = name",
        "",
    )
    repl.type("queue.enqueue(Person('Richard'))")
    assert repl.type("queue.dequeue().name") == "'Richard'"


def test_consume_yields_four_colours_and_gives_up_after_its_timeout(repl: Repl) -> None:
    repl.type("queue.enqueue('blue', 'green', 'yellow', 'red')")
    shown = repl.type("for colour in queue.consume(timeout=0.1): print(colour)", "")
    assert shown.split() == ["blue", "green", "yellow", "red"]


def test_a_blocking_dequeue_gives_up_after_its_timeout(repl: Repl) -> None:
    assert repl.type("print(queue.dequeue(block=True, timeout=0.1))") == "None"


def test_ctrl_c_ends_an_endless_consume_quietly(repl: Repl, server: LiveServer, queue: HotQueue) -> None:
    repl.begin("for colour in queue.consume(): print(colour)", "")
    queue.enqueue("blue")
    wait_until(lambda: not queue and _waits(server))
    repl.ctrl_c()
    assert repl.end() == "blue"
    queue.enqueue("green")
    assert repl.type("queue.dequeue()") == "'green'"


def test_ctrl_c_in_a_blocking_dequeue_is_a_keyboard_interrupt(repl: Repl, server: LiveServer) -> None:
    repl.begin("queue.dequeue(block=True)")
    wait_until(lambda: _waits(server))
    repl.ctrl_c()
    assert repl.end().endswith("KeyboardInterrupt")


def test_a_message_enqueued_at_the_moment_of_ctrl_c_is_not_lost(
    repl: Repl, server: LiveServer, queue: HotQueue
) -> None:
    repl.type("seen = []")
    for number in range(ROUNDS):
        repl.begin("seen.extend(queue.consume())")
        wait_until(lambda: _waits(server))
        if number % 2:
            queue.enqueue(number)
            repl.ctrl_c()
        else:
            repl.ctrl_c()
            queue.enqueue(number)
        assert repl.end() == ""
    repl.type("seen.extend(queue.consume(block=False))")
    assert repl.type("seen") == str(list(range(ROUNDS)))


def _waits(server: LiveServer) -> bool:
    return bool(server.admin.info("clients")["blocked_clients"])
