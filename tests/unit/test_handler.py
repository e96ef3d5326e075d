"""What a decorated function is: when a call calls, when it consumes, and what is refused at once."""

import asyncio
import copy
import functools
import importlib.util
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotqueue import HotQueue
from hotqueue import handler as handler_module
from hotqueue.errors import ConfigurationError
from hotqueue.handler import Handler, importing, registered
from tests.support.commands import app


@pytest.fixture
def queue() -> HotQueue:
    return HotQueue("myqueue", port=1)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the loop was started with, instead of a loop."""
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Handler, "run", lambda self, *args: started.append((*self.bound, *args)))
    return started


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_module, "_registry", {})


def test_with_its_message_it_is_the_plain_function(queue: HotQueue, loops: list[Any]) -> None:
    @queue.worker
    def square(n: int) -> int:
        return n * n

    assert square(3) == 9
    assert square(n=4) == 16
    assert loops == []


def test_without_its_message_it_is_the_loop(queue: HotQueue, loops: list[Any]) -> None:
    @queue.worker
    def square(n: int) -> int:
        return n * n

    assert square() is None
    assert loops == [()]


def test_the_last_of_several_arguments_is_the_message(queue: HotQueue, loops: list[Any]) -> None:
    @queue.worker
    def save(db: str, message: str) -> str:
        return db + message

    assert save("db ", "message") == "db message"
    assert save("db") is None
    assert loops == [("db",)]
    for too_few in [(), ("a", "b", "c")]:
        with pytest.raises(TypeError):
            save(*too_few)


def test_a_keyword_makes_it_a_plain_call(queue: HotQueue, loops: list[Any]) -> None:
    @queue.worker
    def save(db: str, message: str) -> str:
        return db + message

    assert save("db ", message="message") == "db message"
    with pytest.raises(TypeError, match="message"):
        save(db="db")
    assert loops == []


def test_what_other_libraries_call_it_is_no_name_of_ours_and_says_what_is(queue: HotQueue) -> None:
    handler = queue.worker(lambda message: message)
    for name, instead in [("delay", "delay=60"), ("apply_async", "delay=60"), ("enqueue", "queue.enqueue")]:
        with pytest.raises(AttributeError, match=rf"'Handler' object has no attribute '{name}': .*{instead}"):
            getattr(handler, name)
    with pytest.raises(AttributeError, match=r"no attribute 'dealy'$"):
        handler.dealy  # noqa: B018
    assert not hasattr(handler, "delay")
    assert copy.copy(handler).send == handler.send


class Mailer:
    queue = HotQueue("mails", port=1)

    def __init__(self, name: str) -> None:
        self.name = name

    @queue.worker
    def deliver(self, mail: str) -> str:
        """Deliver one mail."""
        return f"{self.name}: {mail}"


def test_a_method_on_its_object_needs_only_the_message(loops: list[Any]) -> None:
    mailer = Mailer("ours")
    assert mailer.deliver("hello") == "ours: hello"
    assert Mailer.deliver(mailer, "hello") == "ours: hello"
    assert mailer.deliver() is None
    assert Mailer.deliver(mailer) is None
    assert loops == [(mailer,), (mailer,)]


def test_a_bound_method_runs_messages_with_its_object() -> None:
    mailer = Mailer("ours")
    assignment = Mailer.queue.assignment(mailer.deliver)
    assert assignment.call("hello") == "ours: hello"
    assert (assignment.queue, assignment.handler) == ("mails", "deliver")


def test_with_defaults_or_any_number_of_arguments_a_call_always_calls(
    queue: HotQueue, loops: list[Any]
) -> None:
    assert queue.worker(lambda n=2: n * n)() == 4
    assert queue.worker(lambda *numbers: numbers)() == ()
    assert queue.worker(lambda a, *more: (a, more))(1) == (1, ())
    assert queue.worker(lambda a, b=2: (a, b))(1) == (1, 2)
    assert loops == []


def test_whatever_can_be_called_can_be_a_handler(queue: HotQueue, loops: list[Any]) -> None:
    class Callable:
        def __call__(self, message: str) -> str:
            return message.upper()

    for function in [str.upper, functools.partial(lambda db, message: message.upper(), "db"), Callable()]:
        handler = queue.worker(function)
        assert handler("a") == "A"
        assert handler() is None
    assert len(loops) == 3


def test_what_does_not_tell_its_arguments_is_always_called(queue: HotQueue, loops: list[Any]) -> None:
    handler = queue.worker(max)
    assert handler([1, 3, 2]) == 3
    with pytest.raises(TypeError):
        handler()
    handler.check_callable_with_message()
    assert (loops, handler.where) == ([], "?")


def test_it_looks_like_its_function(queue: HotQueue) -> None:
    def square(n: int) -> int:
        """Return n times n."""
        return n * n

    handler = queue.worker(square)
    assert handler.__name__ == "square"
    assert handler.__doc__ == "Return n times n."
    assert handler.function is square
    assert inspect.signature(handler) == inspect.signature(square)
    assert handler.where == f"{__file__}:{square.__code__.co_firstlineno}"
    assert "test_it_looks_like_its_function.<locals>.square for queue 'myqueue'" in repr(handler)


def test_a_function_without_an_argument_is_refused_where_it_is_decorated(queue: HotQueue) -> None:
    with pytest.raises(ConfigurationError, match=r"beat takes no message: give it one positional argument"):

        @queue.worker
        def beat() -> None: ...

    with pytest.raises(ConfigurationError, match="takes no message"):
        queue.worker(lambda *, message: message)


def test_a_function_with_a_yield_is_refused_where_it_is_decorated(queue: HotQueue) -> None:
    def rows(message: int) -> Iterator[int]:
        yield message

    async def pages(message: int) -> AsyncIterator[int]:
        yield message

    for function in (rows, pages):
        with pytest.raises(ConfigurationError, match=rf"{function.__name__} has a yield, so to call it"):
            queue.worker(function)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delivery": "exactly-once"}, "delivery='exactly-once': use 'at-least-once' or 'at-most-once'"),
        ({"retry": 3}, "@queue.worker got an unexpected keyword argument 'retry'"),
    ],
)
def test_an_unknown_option_is_refused_in_one_line(
    queue: HotQueue, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        queue.worker(**options)
    assert str(caught.value) == said


def test_an_option_without_its_name_is_refused(queue: HotQueue) -> None:
    with pytest.raises(ConfigurationError, match="takes keyword arguments only, got 5"):
        queue.worker(5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "options", [{}, {"timeout": 1}, {"block": False}, {"delivery": "at-most-once"}], ids=str
)
def test_the_decorator_takes_options_or_none(
    queue: HotQueue, loops: list[Any], options: dict[str, Any]
) -> None:
    handler = queue.worker(**options)(lambda n: n)
    assert handler(1) == 1
    assert {key: getattr(handler.options, key) for key in options} == options


def test_wrong_arguments_for_a_loop_are_refused_before_it_begins(queue: HotQueue) -> None:
    @queue.worker
    def save(db: str, message: str) -> None: ...

    @queue.worker
    def needy(message: str, *, db: str) -> None: ...

    for start in [save.run, lambda: save.run("db", "message"), needy.run, needy]:
        with pytest.raises(
            ConfigurationError, match=r"test_handler\.py:\d+\) cannot be called with"
        ) as caught:
            start()
        assert "\n" not in str(caught.value)


def test_handlers_are_remembered_in_order_and_one_of_the_same_name_replaces_another(tmp_path: Path) -> None:
    source = """
        from hotqueue import HotQueue
        queue = HotQueue("a", port=1)

        @queue.worker
        def first(message): return 1

        @HotQueue("b", port=1).worker
        def second(message): return 2

        @queue.worker
        def first(message): return 3
    """
    app(tmp_path, source, "tasks_of_handler")
    for _ in range(2):  # read again, as a reload does
        _import(tmp_path / "tasks_of_handler.py")
        assert [(handler.__name__, handler(0)) for handler in registered()] == [("first", 3), ("second", 2)]


def test_two_handlers_for_one_queue_are_no_error_yet(queue: HotQueue) -> None:
    queue.worker(str.upper)
    queue.worker(str.lower)
    assert len(registered()) == 2


def test_what_a_function_makes_for_two_queues_are_two_handlers() -> None:
    def listen(name: str) -> Handler[..., Any]:
        @HotQueue(name, port=1).worker
        def handle(message: object) -> None: ...

        return handle

    made = [listen("a"), listen("b")]
    assert registered() == made


def test_what_a_loop_decorates_for_several_queues_is_a_handler_for_each(tmp_path: Path) -> None:
    source = """
        from hotqueue import HotQueue
        for name in "abc":
            @HotQueue(name, port=1).worker
            def handle(message): ...
    """
    app(tmp_path, source, "tasks_of_a_loop")
    _import(tmp_path / "tasks_of_a_loop.py")
    assert [handler.queue.name for handler in registered()] == ["a", "b", "c"]


def test_an_async_handler_is_not_run_inside_of_an_event_loop(queue: HotQueue) -> None:
    @queue.worker
    async def fetch(url: str) -> None: ...

    async def main() -> None:
        fetch.run()

    with pytest.raises(ConfigurationError, match=r"fetch \(.*\) is async .* asyncio\.to_thread") as caught:
        asyncio.run(main())
    assert "\n" not in str(caught.value)


LOOPS: dict[str, str] = {
    "square()": "square()",
    "square.run()": "square.run(block=False)",
    "consume()": "next(queue.consume())",
    "dequeue(block=True)": "queue.get(True)",
}


@pytest.mark.parametrize("call", LOOPS)
def test_a_loop_at_import_is_refused_with_file_and_line(tmp_path: Path, call: str) -> None:
    path = app(
        tmp_path,
        f"""
        from hotqueue import HotQueue
        queue = HotQueue("a", port=1)
        @queue.worker
        def square(n): return n * n
        {LOOPS[call]}
        """,
        "loops_at_import",
    )
    with importing("loops_at_import"), pytest.raises(ConfigurationError) as caught:
        _import(path)
    named = "square.run()" if call == "square()" else call
    assert str(caught.value) == (
        f"{path}:6: {named} would hold up the import of loops_at_import:"
        ' put it under `if __name__ == "__main__":`'
    )


def test_calls_and_enqueues_are_allowed_while_importing(queue: HotQueue) -> None:
    with importing("tasks"):
        assert queue.worker(lambda n: n)(1) == 1
        assert queue.enqueue() is None


def test_after_an_import_that_failed_loops_are_allowed_again(queue: HotQueue, loops: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), importing("tasks"):
        raise ZeroDivisionError
    queue.worker(lambda n: n)()
    assert loops == [()]


def _import(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
