"""Standard output and error of user code: a reader that went away or a full disk must not fail a message."""

import contextlib
import io
import select
import sys
from typing import Any, TextIO


class _Lenient(io.FileIO):
    """Drops what cannot be written."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # somebody has made it non-blocking
                select.select((), (self,), ())
        except OSError:
            return memoryview(data).nbytes
        return written


def make_lenient() -> None:
    """Put streams that never raise, and write each line at once, in the place of stdout and stderr."""
    sys.stdout = _lenient(sys.stdout, 1)
    sys.stderr = _lenient(sys.stderr, 2)


def flush() -> None:
    """Write what is left: a fork would write it twice, and `os._exit` never."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # they may be the application's own
            stream.flush()


def _lenient(stream: TextIO, descriptor: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(_Lenient(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
