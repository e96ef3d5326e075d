"""Leftovers of an import: what an application has begun that a fork does not copy, or copies too well.

And what it has closed that is not its own.
"""

import contextlib
import logging
import os
import socket
import stat
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from hotqueue import events
from hotqueue.worker import output, policy

MOST = 10  # sockets that are named
_OPEN = Path("/dev/fd")
_STDERR = 2
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6", socket.AF_UNIX: "unix"}


class Own:
    """Descriptors of ours. If user code closes them, their numbers may be those of its files next."""

    def __init__(self, *numbers: int) -> None:
        """They are open."""
        self._files = {number: os.fstat(number) for number in numbers}

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """End this process after the block if that has closed any: there is no other way left to say so."""
        try:
            yield
        finally:
            if not self._are_whole():
                output.flush()
                os._exit(policy.DEAF)

    def _are_whole(self) -> bool:
        try:
            return all(os.path.samestat(os.fstat(number), file) for number, file in self._files.items())
        except OSError:
            return False


def sockets() -> set[int]:
    """Return the descriptors of the sockets that are open, but for stdin, stdout and stderr."""
    numbers = (int(path.name) for path in _OPEN.iterdir())
    return {number for number in numbers if number > _STDERR and _is_socket(number)}


def warn(known: Collection[int]) -> None:
    """Warn of threads and sockets that there are before the first fork; `known` are our own sockets."""
    if threading.active_count() > 1:
        names = ", ".join(t.name for t in threading.enumerate() if t is not threading.main_thread())
        reason = "threads started by an import do not exist in the children, and may harm their forks"
        events.emit(logging.WARNING, events.TEMPLATE_THREADS, threads=names, reason=reason)
    found = [name for number in sorted(sockets() - set(known)) for name in _named(number)]
    if found:
        more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
        reason = "all children share what an import leaves open: open it in an on_child_start hook"
        names = ", ".join([*found[:MOST], *more])
        events.emit(logging.WARNING, events.TEMPLATE_SOCKETS, sockets=names, reason=reason)


def _named(number: int) -> Iterator[str]:
    """Yield what a socket is connected to, or how else it may be known. Datagrams can well be shared."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:  # a thread may close it
        if copy.type == socket.SOCK_DGRAM:
            return
        family = _FAMILIES.get(copy.family, str(copy.family))
        own = _address(copy.getsockname())
        try:
            peer = _address(copy.getpeername())
        except OSError:  # it is connected to nobody
            yield f"{family} at {own}" if own else family
            return
        yield f"{family} to {peer}" if peer else f"{family} at {own}" if own else f"{family} pair"


def _address(address: object) -> str:
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return os.fsdecode(address) if isinstance(address, bytes | str) else str(address)


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # the folder itself
        return False
