"""Idle connections to one address, for short calls from any thread."""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

from hotqueue.address import Address
from hotqueue.connection import Connection

PRODUCER_TIMEOUT_S = 2.0


class Pool:
    """Idle connections to one address, for short calls from any thread."""

    def __init__(self, address: Address, timeout_s: float = PRODUCER_TIMEOUT_S) -> None:
        """Take the address and the longest time one reply may take."""
        self.address = address
        self._timeout_s = timeout_s
        self._idle: deque[Connection] = deque()

    def take(self) -> Connection:
        """Return a connection for the caller alone; `give` it back after use."""
        try:
            return self._idle.pop()
        except IndexError:
            return Connection(self.address, self._timeout_s)

    def give(self, connection: Connection) -> None:
        """Take back what `take` returned."""
        if connection.reply_due:
            connection.close()
        self._idle.append(connection)

    def count(self, command: bytes) -> int:
        """Send one packed command on an idle connection and return its reply, a number."""
        connection = self.take()
        try:
            return connection.count(command)
        finally:
            self.give(connection)

    def call(self, *command: bytes | str | float) -> Any:
        """Send one command on an idle connection and return its reply."""
        connection = self.take()
        try:
            connection.open()
            return connection.call(*command)
        finally:
            self.give(connection)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend a connection for several commands."""
        connection = self.take()
        try:
            connection.open()
            yield connection
        finally:
            self.give(connection)
