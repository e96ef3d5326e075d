"""A flag that can be polled, so that a wait on Redis also ends when somebody says stop."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType


class Forced(KeyboardInterrupt):
    """A second Ctrl-C: whoever sent it does not want to wait for the running message."""


class Wakeup:
    """A flag with a pipe behind it: `set` is safe in signal handlers and threads, `fileno` can be polled.

    The pipe also wakes for signals that set nothing, so ask `is_set` after each wake and `drain` before each wait.
    """

    def __init__(self) -> None:
        """Open the pipe; both ends are closed on exec and never block."""
        self.is_set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def set(self) -> None:
        """Raise the flag and wake whoever polls."""
        self.is_set = True
        self.wake()

    def wake(self) -> None:
        """Wake whoever polls, without the flag."""
        with contextlib.suppress(OSError):  # a full pipe wakes just as well
            os.write(self._write, b"\0")

    def fileno(self) -> int:
        """Return the end to poll for reading."""
        return self._read

    def drain(self) -> None:
        """Forget the wakes so far; the flag stays as it is."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)

    def on_signals(self) -> int:
        """Make every signal with a Python handler wake this pipe as well; return what did so before.

        The C level writes here at once. A Python handler alone would run too late for a signal
        that arrives between the last look at the flag and the start of the wait.
        """
        return signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)


@contextlib.contextmanager
def listening(wakeup: Wakeup, signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Record `signals` in `wakeup` for the time of the block, then put back the handlers that were there.

    A second SIGINT raises `Forced`. Outside the main thread this
    does nothing: only the main thread receives signals in Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(number: int, _frame: FrameType | None) -> None:
        if wakeup.is_set and number == signal.SIGINT:
            raise Forced
        wakeup.set()

    before = {number: signal.signal(number, record) for number in signals}
    descriptor = wakeup.on_signals()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
