"""How what runs in a seat is interrupted by another thread."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hotqueue import SoftTimeLimit, current
from hotqueue.delivery import Delivery
from hotqueue.ending import Assignment, Run
from hotqueue.envelope import Envelope
from hotqueue.retries import Retries
from hotqueue.serializers import codec_for
from hotqueue.worker.executors import SharedLoop, TaskExecutor, ThreadExecutor
from tests.support.waiting import wait_until


class Lane:
    """Lets everything begin."""

    def begin(self, delivery: Delivery) -> bool:
        return True


def assignments(call: Callable[[Any], Any]) -> list[Assignment]:
    envelope = Envelope("jobs", codec_for("json"), framed=False, signer=None, max_size=100)
    return [Assignment("jobs", "handle", call, lambda: envelope, Retries(0, ()))]


def count(ended: Run, outcome: str) -> None:
    pass


def run(executor: ThreadExecutor) -> Run:
    return executor.run(Delivery("jobs", b"1", Lane()))  # type: ignore[arg-type]


@pytest.fixture
def shared() -> Iterator[SharedLoop]:
    loop = SharedLoop()
    yield loop
    loop.close()


def test_a_thread_is_interrupted_once_in_its_handler_and_never_outside_of_it() -> None:
    """What is asked for at the last moment is raised in the handler, or not at all."""
    each_pass_may_be_interrupted = assignments(lambda _: [n for n in range(300) if n])
    executor = ThreadExecutor(each_pass_may_be_interrupted, count)
    over = threading.Event()
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that they meet everywhere
    asked: list[int] = []

    def ask() -> None:
        while not over.is_set():
            executor.interrupt_if(lambda: not asked.append(1))  # type: ignore[func-returns-value]

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        runs = [run(executor) for _ in range(1000)]
        end_s = time.monotonic() + 60
        while all(each.outcome == "done" for each in runs) and time.monotonic() < end_s:
            runs.append(run(executor))
    finally:
        over.set()
        asking.join()
        sys.setswitchinterval(usual_s)
    outcomes = {(each.outcome, type(each.error)) for each in runs}
    assert outcomes <= {("done", type(None)), ("failed", SoftTimeLimit)}
    interrupted = sum(each.outcome == "failed" for each in runs)
    assert 0 < interrupted <= len(asked)
    assert run(executor).outcome == "done"


def test_nothing_is_interrupted_that_is_not_due_or_does_not_run() -> None:
    executor = ThreadExecutor(assignments(lambda _: executor.interrupt_if(lambda: False)), count)
    executor.interrupt_if(lambda: True)
    assert run(executor).outcome == "done"


@pytest.mark.parametrize("kind", ["thread", "tasks"])
def test_a_coroutine_is_cancelled_and_may_clean_up_in_its_own_time(shared: SharedLoop, kind: str) -> None:
    seen: list[object] = []

    async def handle(message: object) -> None:
        seen.append(message)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            seen.append(current())

    calls = assignments(handle)
    executor = TaskExecutor(calls, shared, count) if kind == "tasks" else ThreadExecutor(calls, count)
    found: list[Run] = []
    running = threading.Thread(target=lambda: found.append(run(executor)))
    running.start()
    wait_until(lambda: seen)
    executor.interrupt_if(lambda: True)
    executor.interrupt_if(lambda: True)
    running.join()
    executor.close()
    assert (found[0].outcome, type(found[0].error)) == ("failed", SoftTimeLimit)
    assert seen == [1, found[0].delivery]


def test_a_coroutine_that_is_cancelled_by_somebody_else_has_failed_with_that(shared: SharedLoop) -> None:
    async def handle(_: object) -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(60)

    ended = run(TaskExecutor(assignments(handle), shared, count))
    assert (ended.outcome, type(ended.error)) == ("failed", asyncio.CancelledError)


def test_coroutines_of_all_seats_share_one_loop_and_plain_functions_their_thread(shared: SharedLoop) -> None:
    loops: set[int] = set()

    async def handle(_: object) -> None:
        await asyncio.sleep(0.01)
        loops.add(id(asyncio.get_running_loop()))

    seats = [TaskExecutor(assignments(handle), shared, count) for _ in range(3)]
    threads = [threading.Thread(target=run, args=(seat,)) for seat in seats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loops == {id(shared.loop)}
    names: list[str] = []
    plain = TaskExecutor(assignments(lambda _: names.append(threading.current_thread().name)), shared, count)
    assert run(plain).outcome == "done"
    assert names == [threading.current_thread().name]


def test_a_thread_that_waits_in_c_code_is_interrupted_when_that_returns() -> None:
    begun, gate = threading.Event(), threading.Lock()
    gate.acquire()

    def handle(_: object) -> None:
        begun.set()
        gate.acquire()
        begun.clear()

    executor = ThreadExecutor(assignments(handle), count)
    found: list[Run] = []
    running = threading.Thread(target=lambda: found.append(run(executor)))
    running.start()
    begun.wait()
    executor.interrupt_if(lambda: True)
    gate.release()
    running.join()
    assert (found[0].outcome, type(found[0].error)) == ("failed", SoftTimeLimit)
    assert begun.is_set()
