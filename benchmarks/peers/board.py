"""Counters in a file that all processes map: a handler counts what it runs without a system call.

Used in every peer's environment, so it needs nothing but the standard library.
"""

import fcntl
import mmap
import os
import threading
from pathlib import Path

_CELLS = 8192  # RQ forks a process for each message, and each takes one
_STRIDE = 8  # words of 8 bytes: no two processes write to the same cache line


class Board:
    """Cell 0 holds how many cells are taken; each process and thread counts in a cell of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self._local = threading.local()
        os.register_at_fork(after_in_child=self._forget)

    @staticmethod
    def create(path: Path) -> None:
        with path.open("wb") as made:
            made.truncate(_CELLS * _STRIDE * 8)

    def count(self) -> None:
        """One message more."""
        try:
            self._words[self._local.place] += 1
        except AttributeError:
            self._local.place = self._take()
            self._words[self._local.place] += 1

    @property
    def takers(self) -> int:
        """How many processes and threads have counted so far."""
        return self._words[0]

    @property
    def total(self) -> int:
        end = (self.takers + 1) * _STRIDE
        return sum(self._words[_STRIDE:end:_STRIDE])

    def clear(self) -> None:
        """To be called while nobody counts."""
        for place in range(0, (self.takers + 1) * _STRIDE, _STRIDE):
            self._words[place] = 0

    def _take(self) -> int:
        with self._path.open("rb") as own:  # a lock belongs to an open file, which forks share
            fcntl.flock(own, fcntl.LOCK_EX)
            self._words[0] += 1
            taken = self._words[0]
        if taken >= _CELLS:
            msg = f"more than {_CELLS} processes have run messages"
            raise RuntimeError(msg)
        return taken * _STRIDE

    def _forget(self) -> None:
        self._local = threading.local()
