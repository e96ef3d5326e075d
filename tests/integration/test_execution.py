"""One delivery, from the bytes to the end of its handler: whatever either does, it has one outcome."""

import asyncio
import contextvars
import functools
import gc
import logging
import pickle
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Self

import pytest
import redis

from hotqueue import Delivery, HotQueue, current, keys
from hotqueue.delivery import Unwatched
from hotqueue.ending import LINE_CHARACTERS, one_line
from hotqueue.envelope import noted, trail_of
from hotqueue.errors import NotSent
from hotqueue.events import Event
from hotqueue.execution import CANCEL_S, Executor
from hotqueue.frame import id_text, unpack, wrap
from hotqueue.trail import Trail
from hotqueue.wakeup import Forced


class Bench:
    """One queue and an executor, to run single messages on."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        self.queue = HotQueue("q", url=url)
        self.client = client
        self.lane = self.queue.lane("at-least-once", Unwatched())
        self.executor: Executor | None = None

    def handled_by(self, function: Callable[..., Any]) -> "Bench":
        self.executor = Executor([self.queue.assignment(self.queue.worker(retries=0)(function))])
        return self

    def run(self, *messages: object) -> list[str]:
        """Enqueue and execute them; return their outcomes."""
        self.queue.enqueue(*messages)
        return [self.run_next() for _ in messages]

    def run_next(self) -> str:
        delivery = self.lane.take("q")
        assert delivery is not None
        assert self.executor is not None
        run = self.executor.run(delivery)
        outcome = run.outcome
        self.executor.settle(run)
        return outcome

    def push(self, raw: bytes) -> None:
        self.client.rpush(self.queue.key, raw)

    @property
    def dead(self) -> list[bytes]:
        return self.client.zrange(keys.dead("q"), 0, -1)

    def reason(self) -> dict[str, Any]:
        """Why the only dead one is dead."""
        (raw,) = self.dead
        return dict(trail_of(raw).reason)

    def close(self) -> None:
        if self.executor:
            self.executor.close()
        self.lane.close()


@pytest.fixture
def bench(redis_url: str, client: redis.Redis) -> Iterator[Bench]:
    with closing(Bench(redis_url, client)) as bench:
        yield bench


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Event]]:
    caplog.set_level(logging.INFO, "hotqueue")
    return lambda: [record.msg for record in caplog.records if isinstance(record.msg, Event)]


def test_what_the_handler_is_given_is_what_was_sent_and_current_tells_the_rest(bench: Bench) -> None:
    seen: list[tuple[Any, Delivery | None]] = []

    def greet(message: Any) -> None:
        seen.append((message, current()))

    bench.handled_by(greet)
    message_id = bench.queue.send({"name": "Ada"}, headers={"tenant": 7})
    assert bench.run_next() == "done"
    ((message, delivery),) = seen
    assert message == {"name": "Ada"}
    assert delivery is not None
    assert (delivery.id, delivery.queue, delivery.handler) == (message_id, "q", "greet")
    assert (delivery.attempt, delivery.headers) == (1, {"tenant": 7})
    assert delivery.enqueued_at is not None
    assert current() is None
    assert bench.dead == []


def test_a_bare_body_has_no_id_and_no_time(bench: Bench) -> None:
    seen: list[Delivery | None] = []
    bench.handled_by(lambda message: seen.append(current()))
    bench.push(pickle.dumps("from HotQueue 0.2"))
    assert bench.run_next() == "done"
    (delivery,) = seen
    assert delivery is not None
    assert (delivery.id, delivery.enqueued_at, delivery.headers) == (None, None, {})


def test_a_wrapped_bare_body_is_unwrapped_and_keeps_its_count(bench: Bench) -> None:
    seen: list[Any] = []
    bench.handled_by(lambda message: seen.append((message, current().id, current().attempt)))  # type: ignore[union-attr]
    bench.push(noted(pickle.dumps("bare"), Trail().crashed(1).crashed(2)))
    assert bench.run_next() == "done"
    assert seen == [("bare", None, 3)]


def test_a_wrapped_message_that_fails_is_buried_under_its_old_wrapping(bench: Bench) -> None:
    bench.handled_by(_fail)
    wrapped = wrap(pickle.dumps("bare"))
    bench.push(wrapped)
    assert bench.run_next() == "failed"
    (dead,) = bench.dead
    assert unpack(dead).signed_part == wrapped


def _fail(message: object) -> None:
    raise ValueError(message)


class Rude(BaseException):
    """Not even its text can be had."""

    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


class Uncooperative(Exception):
    """It does not want to be handled as others are."""

    def with_traceback(self, traceback: object) -> Self:
        raise SystemExit(5)


class Impostor(Exception):
    """It says that it is something else."""

    @property
    def __class__(self) -> Any:
        return SystemExit


class Nameless(Exception):
    """It does not even say that."""

    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError


ERRORS = [
    ValueError("no"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(),
    asyncio.CancelledError(),
    BaseException("base"),
    Rude(),
    Uncooperative(),
    ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    NotSent("the handler's own Redis is away"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_it_has_failed_and_the_next_one_runs(
    bench: Bench, error: BaseException
) -> None:
    def handle(message: str) -> None:
        if message == "bad":
            raise error

    assert bench.handled_by(handle).run("bad", "good") == ["failed", "done"]
    reason = bench.reason()
    assert (reason["kind"], reason["handler"]) == ("failed", "handle")
    assert reason["error"].startswith(type(error).__name__)
    assert "in handle" in reason["traceback"]
    assert trail_of(bench.dead[0]).failures == 1
    assert bench.client.llen(bench.queue.key) == 0


@pytest.mark.parametrize(
    "error",
    [error for error in ERRORS if not isinstance(error, StopIteration)],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_coroutine_raises_it_has_failed_and_the_next_one_runs(
    bench: Bench, error: BaseException
) -> None:
    async def handle(message: str) -> None:
        await asyncio.sleep(0)
        if message == "bad":
            raise error

    assert bench.handled_by(handle).run("bad", "good") == ["failed", "done"]
    assert bench.reason()["error"].startswith(type(error).__name__)


@pytest.mark.parametrize("kind", [Impostor, Nameless])
@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_an_error_that_does_not_say_what_it_is_has_failed_as_any_other(
    bench: Bench, caplog: pytest.LogCaptureFixture, kind: type[Exception], *, is_async: bool
) -> None:
    caplog.set_level(logging.CRITICAL, "hotqueue")  # Python's own traceback asks for its class, too

    def handle(message: str) -> None:
        if message == "bad":
            raise kind

    async def handle_async(message: str) -> None:
        handle(message)

    assert bench.handled_by(handle_async if is_async else handle).run("bad", "good") == ["failed", "done"]
    assert bench.reason()["error"] == kind.__name__


def test_the_log_says_what_became_of_each(bench: Bench, events: Callable[[], list[Event]]) -> None:
    bench.handled_by(lambda message: 1 / message)
    bench.run(1, 0)
    bench.push(b"garbage")
    bench.run_next()
    done, failed, unreadable = events()
    assert (done.name, failed.name, unreadable.name) == ("message.done", *["message.buried"] * 2)
    assert done.fields["queue"] == "q"
    assert failed.fields["reason"] == "failed: ZeroDivisionError: division by zero"
    assert str(unreadable.fields["reason"]).startswith("unreadable: BadMessage: ")
    assert unreadable.fields.get("id") is None


class Bomb:
    """A message that does something while it is unpickled."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.expression,)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("raise SystemExit(5)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise MemoryError", "BadMessage"),
        ("import no_such_module", "BadMessage"),
    ],
)
def test_whatever_unpickling_raises_the_message_is_unreadable_and_the_next_one_runs(
    bench: Bench, expression: str, name: str
) -> None:
    ran: list[object] = []
    assert bench.handled_by(ran.append).run(Bomb(expression), "good") == ["unreadable", "done"]
    assert ran == ["good"]
    assert bench.reason()["kind"] == "unreadable"
    assert bench.reason()["error"].startswith(name)
    assert trail_of(bench.dead[0]).failures == 0


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_a_frame_that_is_cut_short_is_kept_as_it_was(bench: Bench, cut: int) -> None:
    bench.queue.enqueue("message")
    raw = bench.client.lpop(bench.queue.key)[:-cut]
    bench.push(raw)
    assert bench.handled_by(print).run_next() == "unreadable"
    (dead,) = bench.dead
    assert unpack(dead).body == raw


def test_equal_garbage_is_buried_as_often_as_it_came(bench: Bench) -> None:
    bench.handled_by(print)
    for _ in range(5):
        bench.push(b"\x00garbage")
        assert bench.run_next() == "unreadable"
    assert len(bench.dead) == 5


def test_the_id_of_an_unreadable_message_is_logged(bench: Bench, events: Callable[[], list[Event]]) -> None:
    bench.handled_by(print).run(Bomb("raise SystemExit"))
    assert events()[0].fields["id"] == id_text(unpack(bench.dead[0]).message_id)


def test_coroutines_share_one_event_loop_and_what_they_leave_on_it_lives_on(bench: Bench) -> None:
    ticks: list[int] = []
    loops: set[Any] = set()

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    tasks: list[Any] = []

    async def handle(message: str) -> None:
        loops.add(asyncio.get_running_loop())
        if message == "begin":
            tasks.append(asyncio.create_task(tick()))
        for _ in range(5):
            await asyncio.sleep(0)

    bench.handled_by(handle).run("begin")
    before = len(ticks)
    bench.run("go on")
    assert len(ticks) > before > 0
    assert len(loops) == 1
    assert bench.executor
    bench.executor.close()
    assert tasks[0].cancelled()
    assert loops.pop().is_closed()


def test_a_coroutine_sees_its_own_delivery_and_so_do_its_tasks(bench: Bench) -> None:
    seen: list[Any] = []

    async def look(message: str) -> None:
        seen.append((message, current().headers))  # type: ignore[union-attr]

    async def handle(message: str) -> None:
        await look(message)
        await asyncio.gather(look(message), asyncio.to_thread(lambda: asyncio.run(look(message))))

    bench.handled_by(handle)
    for message in ("a", "b"):
        bench.queue.send(message, headers={"for": message})
        assert bench.run_next() == "done"
    assert seen == [(message, {"for": message}) for message in "aaabbb"]
    assert current() is None


def test_what_a_plain_handler_sets_in_its_context_is_there_for_the_next_message(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def handle(message: str) -> None:
        seen.append(variable.get())
        variable.set(message)

    bench.handled_by(handle).run("a", "b")
    assert seen == ["unset", "a"]


def test_what_an_async_handler_sets_in_its_context_stays_out_of_the_next_message(bench: Bench) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def handle(message: str) -> None:
        seen.append(variable.get())
        variable.set(message)

    bench.handled_by(handle).run("a", "b")
    assert seen == ["unset", "unset"]


class Waitable:
    """An awaitable that is no coroutine."""

    def __init__(self, ran: list[str], message: str) -> None:
        self.ran, self.message = ran, message

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        self.ran.append(self.message)


def test_what_a_function_returns_to_be_awaited_is_awaited(bench: Bench) -> None:
    ran: list[str] = []
    assert bench.handled_by(lambda message: Waitable(ran, message)).run("a") == ["done"]
    assert ran == ["a"]


def test_an_object_with_an_async_call_is_a_handler(bench: Bench) -> None:
    ran: list[str] = []

    class Mailer:
        async def __call__(self, message: str) -> None:
            await asyncio.sleep(0)
            ran.append(message)
            assert current().handler == "Mailer"  # type: ignore[union-attr]

    assert bench.handled_by(Mailer()).run("a") == ["done"]
    assert ran == ["a"]


def test_a_method_is_called_with_its_object_and_named_by_its_name(bench: Bench) -> None:
    ran: list[Any] = []

    class Shop:
        @bench.queue.worker
        def sell(self, message: str) -> None:
            ran.append((self, message, current().handler))  # type: ignore[union-attr]

    shop = Shop()
    bench.executor = Executor([bench.queue.assignment(shop.sell)])
    assert bench.run("a") == ["done"]
    assert ran == [(shop, "a", "sell")]


def _generator(message: str) -> Iterator[str]:
    yield message


async def _async_generator(message: str) -> Any:
    yield message


def _call(function: Callable[[str], Any], message: str) -> Any:
    return function(message)


@pytest.mark.parametrize("function", [_generator, _async_generator])
def test_a_handler_that_returns_a_generator_has_failed_because_nothing_of_it_ran(
    bench: Bench, function: Callable[..., Any]
) -> None:
    assert bench.handled_by(functools.partial(_call, function)).run("a") == ["failed"]
    assert "the handler has a yield" in bench.reason()["error"]


def test_a_task_that_ends_the_loop_fails_the_message_and_nothing_of_it_runs_on(bench: Bench) -> None:
    ended: list[str] = []

    async def give_up() -> None:
        raise SystemExit(6)

    async def handle(message: str) -> None:
        if message == "good":
            return
        task = asyncio.create_task(give_up())
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(message)
            task.cancel()

    assert bench.handled_by(handle).run("bad", "good") == ["failed", "done"]
    assert ended == ["bad"]


def test_a_coroutine_that_refuses_to_be_cancelled_holds_the_next_message_up_for_a_moment_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CANCEL_S <= 1
    monkeypatch.setattr("hotqueue.execution.CANCEL_S", 0.02)
    free = asyncio.Event()

    async def handle(message: str) -> None:
        if message == "good":
            free.set()
            return
        asyncio.get_running_loop().stop()
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    assert bench.handled_by(handle).run("stubborn", "good") == ["failed", "done"]


def test_a_loop_that_somebody_closed_is_made_again(bench: Bench) -> None:
    loops: list[Any] = []

    async def handle(message: str) -> None:
        loops.append(asyncio.get_running_loop())

    bench.handled_by(handle).run("a")
    loops[0].close()
    assert bench.run("b") == ["done"]
    assert loops[1] is not loops[0]
    loops[1].close()
    assert bench.executor
    bench.executor.close()


def test_a_coroutine_beside_a_loop_that_runs_already_fails_and_says_why(bench: Bench) -> None:
    async def handle(message: str) -> None:
        raise AssertionError

    async def main() -> list[str]:
        return bench.handled_by(handle).run("a")

    assert asyncio.run(main()) == ["failed"]
    assert "inside of a running event loop: consume in a thread" in bench.reason()["error"]


def test_only_a_second_ctrl_c_goes_through_and_the_message_is_not_settled(bench: Bench) -> None:
    def handle(message: str) -> None:
        raise Forced

    bench.queue.enqueue("a")
    delivery = bench.lane.take("q")
    assert delivery
    with pytest.raises(Forced):
        bench.handled_by(handle).executor.run(delivery)  # type: ignore[union-attr]
    assert current() is None
    bench.lane.close()
    assert len(bench.queue) == 1


def test_a_failed_message_is_not_kept_alive(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "hotqueue")  # a record that is kept keeps its error

    class Big:
        pass

    big = Big()
    seen = weakref.ref(big)

    def handle(message: str, thing: list[Big] = [big]) -> None:  # noqa: B006
        local = thing.pop()
        raise ValueError(local)

    del big
    gc.disable()
    try:
        bench.handled_by(handle).run("a")
        assert seen() is None
    finally:
        gc.enable()


def test_the_line_of_an_error_is_one_and_bounded() -> None:
    assert one_line(ValueError("two\nlines \t and more")) == "ValueError: two lines and more"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(Rude()) == "Rude"
    assert len(one_line(ValueError("x" * 10_000_000))) <= len("ValueError: ") + LINE_CHARACTERS
