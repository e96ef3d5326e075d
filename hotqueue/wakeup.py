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

    The pipe also wakes for signals that set nothing: ask `is_set` after each wake, `drain` before each wait.
    """

    def __init__(self) -> None:
        """Open the pipe; both ends are closed on exec and never block."""
        self.is_set = False
        # While it is set a second Ctrl-C raises `Forced`: a handler runs, which may take for ever. All else
        # ends by itself, and an exception in the middle of it could tear a message off between two places.
        self.is_interruptible = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._pipe = os.fstat(self._read)

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

    def drain(self) -> bytes:
        """Forget the wakes so far and return them, a signal as its number; the flag stays as it is."""
        drained = b""
        with contextlib.suppress(BlockingIOError):
            while some := os.read(self._read, 4096):
                drained += some
        return drained

    def check(self) -> None:
        """Raise OSError if somebody has closed the pipe who does not own it.

        A new connection would get its number, and whoever drains it that one's replies.
        """
        if not os.path.samestat(os.fstat(self._read), self._pipe):
            msg = "a handler has closed descriptors that are not its own"
            raise OSError(msg)

    def close(self) -> None:
        """Close the pipe. A `set` that comes later writes into nothing, not into who has its number then."""
        read, write, self._write = self._read, self._write, -1
        os.close(read)
        os.close(write)

    def on_signals(self) -> int:
        """Make every signal with a Python handler wake this pipe as well; return what did so before.

        The C level writes here at once. A Python handler alone would run too late for a signal
        that arrives between the last look at the flag and the start of the wait.
        """
        return signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)


@contextlib.contextmanager
def listening(wakeup: Wakeup, signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Record `signals` in `wakeup` for the time of the block, then put back the handlers that were there.

    A second SIGINT raises `Forced` where the wake-up is interruptible. Outside the main thread this
    does nothing: only the main thread receives signals in Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def record(number: int, _frame: FrameType | None) -> None:
        if wakeup.is_set and wakeup.is_interruptible and number == signal.SIGINT:
            raise Forced
        wakeup.set()

    before = {number: signal.signal(number, record) for number in signals}
    descriptor = wakeup.on_signals()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            # None: it was not made in Python, and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
