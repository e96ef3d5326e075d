"""Files that change: with `--reload` a thread watches them, and each change brings a reload."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from hotqueue import events
from hotqueue.ending import one_line
from hotqueue.errors import ConfigurationError

END_S = 1.0


class Watcher:
    """Watches the Python files of the current folder."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called in another thread. Raises ConfigurationError without the library for it."""
        try:
            self._library = import_module("watchfiles")
        except ImportError as error:
            msg = "--reload needs watchfiles: pip install 'hotqueue[reload]'"
            raise ConfigurationError(msg) from error
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        self._wake = wake
        self._here = Path.cwd()
        self._changed: deque[str] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hotqueue-watcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def take(self) -> list[str]:
        """Return the files that have changed since the last time, each of them once."""
        return list(dict.fromkeys(self._changed.popleft() for _ in range(len(self._changed))))

    def stop(self) -> None:
        """End the thread: it must not be in foreign code when the interpreter goes."""
        self._stop.set()
        if self._thread.is_alive():  # there may have been no room for it
            self._thread.join(END_S)

    def _run(self) -> None:
        is_python = self._library.PythonFilter()
        try:
            for changes in self._library.watch(self._here, watch_filter=is_python, stop_event=self._stop):
                self._changed.extend(sorted(str(Path(path).relative_to(self._here)) for _, path in changes))
                self._wake()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker goes on without it
            reason = f"files are not watched any more: {one_line(error)}"
            events.emit(logging.ERROR, events.SUPERVISOR_RELOAD_FAILED, reason=reason)
