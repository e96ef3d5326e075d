"""The pid file: it names the supervisor, and is locked as long as that lives, whatever pid is used again."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hotqueue.errors import ConfigurationError, HotQueueError


class PidFileInUse(HotQueueError):
    """A living worker has it."""


@contextlib.contextmanager
def held(path: str | None) -> Iterator[None]:
    """Hold a pid file, which is gone afterwards if we may remove it; None is none.

    Raises PidFileInUse, or ConfigurationError if there can be no file there.
    """
    if path is None:
        yield
        return
    descriptor = _locked(Path(path))
    try:
        _write(descriptor, path)
        yield
    finally:
        if _is_at(descriptor, Path(path)):  # else it is another's by now
            with contextlib.suppress(OSError):  # who may write a file may not write in its folder
                Path(path).unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unfit(path, error.strerror) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it would be removed in the end, even /dev/null
            os.close(descriptor)
            raise _unfit(path, "it is no regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            msg = f"{path} is in use by the worker with pid {pid}: stop that, or name another file with --pid"
            raise PidFileInUse(msg) from None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder took the file away between our two steps


def _write(descriptor: int, path: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
    except OSError as error:
        raise _unfit(path, error.strerror) from error


def _unfit(path: str | Path, why: str | None) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be the pid file: {why}")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
