"""How messages are run in a child with several seats: each in a thread, or its coroutine on one event loop.

Only the main thread of a process receives signals, so what overruns its soft limit is interrupted otherwise.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from hotqueue.ending import Assignment, Run
from hotqueue.errors import SoftTimeLimit
from hotqueue.execution import Count, Executor


class ThreadExecutor(Executor):
    """Runs one message after the other in the thread of a seat, and may be interrupted by another thread.

    Python lets one thread raise an exception in another by PyThreadState_SetAsyncExc (the C API of CPython,
    "Initialization, finalization, and threads"). It is raised between two steps of Python code: not while the
    thread waits in C code, as in `time.sleep` or for a socket, but when that returns.
    """

    def __init__(self, assignments: list[Assignment], count: Count) -> None:
        """As `Executor`."""
        super().__init__(assignments, count)
        self._guard = threading.Lock()
        self._thread = 0
        self._may_be_asked = self._was_asked = False

    def interrupt_if(self, is_due: Callable[[], bool]) -> None:
        """Have SoftTimeLimit raised in the handler that runs, if one does and it is due; once in a run."""
        with self._guard:
            if self._may_be_asked and not self._was_asked and is_due():
                self._was_asked = True
                self._ask()

    def _ask(self) -> None:
        if self._task is None:
            _raise_in(self._thread, SoftTimeLimit)
        else:
            self.interrupt(SoftTimeLimit())

    def _run_handler(self, run: Run) -> None:
        self._thread = threading.get_ident()
        with self._guard:
            self._may_be_asked, self._was_asked = True, False
        try:
            super()._run_handler(run)
        finally:
            self._leave()

    def _leave(self) -> None:
        """From here on nothing is asked for; what was, and has not come yet, is taken back.

        It may also come in here: then this is left by it, and nothing more can come.
        """
        with self._guard:
            self._may_be_asked = False
        if self._was_asked:
            _raise_in(self._thread, None)


class SharedLoop:
    """One event loop in a thread of its own, for the coroutines of all seats of a child."""

    def __init__(self) -> None:
        """Start it."""
        self._loops = concurrent.futures.Future[asyncio.AbstractEventLoop]()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="hotqueue-loop", daemon=True)
        self._thread.start()
        self.loop = self._loops.result()

    def close(self) -> None:
        """Cancel what handlers have left there, and end it."""
        self._is_over = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            self._loops.set_result(loop)
            while not self._is_over:
                with contextlib.suppress(BaseException):  # of a task that exits: it is told so, others go on
                    loop.run_forever()


class TaskExecutor(ThreadExecutor):
    """Runs what can be awaited on the shared loop, and plain functions in the thread of its seat."""

    def __init__(self, assignments: list[Assignment], shared: SharedLoop, count: Count) -> None:
        """As `Executor`; `shared` outlives this."""
        super().__init__(assignments, count)
        self._loop = shared.loop
        self._is_awaiting = False

    def _ask(self) -> None:
        if self._is_awaiting:
            self._interruption = SoftTimeLimit()
            self._loop.call_soon_threadsafe(self._cancel)
        else:
            super()._ask()

    def _cancel(self) -> None:
        """In the thread of the loop, where the task was begun before."""
        if self._task is not None:
            self._task.cancel()

    def _await(self, awaitable: Awaitable[Any]) -> None:
        """The task gets the context of this thread: `hotqueue.current()`, what its log lines begin with."""
        outcome = concurrent.futures.Future[None]()

        def begin() -> None:
            try:
                self._task = asyncio.ensure_future(awaitable, loop=self._loop)
            except Exception as error:  # noqa: BLE001 - an `__await__` of the user's may raise anything
                outcome.set_exception(error)
            else:
                self._task.add_done_callback(lambda task: _copy(task, outcome))

        self._is_awaiting = True
        try:
            self._loop.call_soon_threadsafe(begin)
            outcome.result()
        except asyncio.CancelledError:
            if self._interruption is not None:
                raise self._interruption from None
            raise
        finally:
            self._is_awaiting = False
            self._task = self._interruption = None


def _copy(task: asyncio.Future[Any], outcome: "concurrent.futures.Future[None]") -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Have `kind` raised in a thread soon; None takes back what was to be raised and has not been."""
    what = ctypes.py_object() if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
