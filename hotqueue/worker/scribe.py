"""The scribe: a thread of the supervisor that writes its log.

A pipe that nobody reads, or a terminal after Ctrl-S, takes nothing more: whoever writes there waits.
"""

import logging
import queue
import threading
from collections.abc import Callable

from hotqueue import events
from hotqueue.worker import signals

MOST_LINES = 10_000  # that wait to be written; then the newest are dropped
END_S = 1.0


class Scribe:
    """Takes lines without waiting. Where there can be no thread it writes them itself."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` may wait for as long as it likes."""
        self._write = write
        self._lines: queue.Queue[bytes] = queue.Queue(MOST_LINES)
        self._dropped = 0
        self._is_done = threading.Condition()
        try:
            threading.Thread(target=self._run, name="hotqueue-scribe", daemon=True).start()
        except RuntimeError:
            self.put = write  # type: ignore[assignment, method-assign]

    def put(self, line: bytes) -> None:
        """Have a line written soon."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self, within_s: float = END_S) -> None:
        """Wait until all is written, or it seems that nothing will be."""
        with self._is_done:
            self._is_done.wait_for(lambda: not self._lines.unfinished_tasks, within_s)

    def _run(self) -> None:
        signals.leave_to_main()
        while True:
            self._write(self._lines.get())
            dropped, self._dropped = self._dropped, 0
            if dropped:
                events.emit(logging.WARNING, events.LOG_DROPPED, count=dropped, reason="nobody read the log")
            with self._is_done:
                self._lines.task_done()
                self._is_done.notify_all()
