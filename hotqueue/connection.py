"""One redis-py connection with our own timeouts and no blind retry, and a pool of them for short calls.

redis-py (6 and later) sends a command again by itself when no reply came: a push happens twice, a pop loses
what the first one took. Here nothing is ever sent twice, and every failure says whether anything happened.
"""

import contextlib
import os
import re
import select
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hotqueue.address import Address
from hotqueue.errors import ConfigurationError, NotSent, OutcomeUnknown, Refused

PRODUCER_TIMEOUT_S = 2.0
CONSUMER_TIMEOUT_S = 5.0
OLDEST = (6, 2)  # has LMOVE and BLMOVE

# redis-py takes the first word off the answers that it has a class for. A class stands before its parent.
_CODES: dict[type[RedisError], str] = {
    AuthenticationError: "WRONGPASS",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    MasterDownError: "MASTERDOWN",
    ClusterDownError: "CLUSTERDOWN",
    MovedError: "MOVED",
    AskError: "ASK",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}
_TOO_MANY_CLIENTS = "max number of clients reached"
# After these the name may lead to another server by now, so the next use connects again.
_WRONG_SERVER = {"READONLY", "MASTERDOWN", "UNBLOCKED"}


class Connection:
    """One connection for one caller at a time. It connects by itself: at first, after a loss or a fork."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Take the address and the longest time one reply may take; nothing is sent yet."""
        self.address = address
        self._timeout_s = timeout_s
        self._redis = address.make(timeout_s)
        self._pid = os.getpid()
        self._client_id: int | None = None
        self._due = 0  # replies
        self.times_connected = 0

    def open(self) -> None:
        """Connect and authenticate, unless that is done and the server has not hung up since.

        To be called while no reply is due. Raises NotSent, or Refused (a kind of it).
        """
        if self.is_open:
            if not _readable(self.fileno()):
                return
            self.close()  # at its end, or there is something that nobody asked for
        if self._pid != os.getpid():
            self._redis, self._pid = self.address.make(self._timeout_s), os.getpid()
        self._client_id = None
        self._due = 0
        try:
            self._redis.connect()
        except RedisError as error:
            raise self._refused(error) or self._unreachable(error) from error
        except BaseException:
            self.close()  # redis-py would leave it open, half way through its greeting
            raise
        self.times_connected += 1

    def call(self, *command: bytes | str | float) -> Any:
        """Send one command and return its reply. Raises NotSent, Refused or OutcomeUnknown."""
        self.send(*command)
        return self.read()

    def send(self, *command: bytes | str | float) -> None:
        """Send one command. An incomplete command is never run, so any failure here is NotSent."""
        if not self.is_open:
            self.open()
        self._due += 1
        try:
            self._redis.send_packed_command(self._redis.pack_command(*command), check_health=False)
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise self._unreachable(error) from error

    def read(self) -> Any:
        """Return the next reply. Raises Refused for an error reply, OutcomeUnknown when none comes."""
        try:
            reply = self._redis.read_response()
        except RedisError as error:
            if refused := self._refused(error):
                self._due -= 1
                if refused.code in _WRONG_SERVER:
                    self.close()
                raise refused from error
            self.close()
            msg = f"no reply from Redis at {self.address}, the command may or may not have been run: {error}"
            raise OutcomeUnknown(msg) from error
        self._due -= 1
        return reply

    def client_id(self) -> int:
        """Return the number by which other connections can unblock this one; 0 if the server forbids that."""
        self.open()
        if self._client_id is None:
            try:
                number = int(self.call("CLIENT", "ID"))
                self.call("CLIENT", "UNBLOCK", number)
            except Refused:
                number = 0
            self._client_id = number
        return self._client_id

    def fileno(self) -> int:
        """Return the descriptor to poll for the one reply that is due."""
        return self._socket.fileno() if self._socket else -1

    @property
    def is_open(self) -> bool:
        """Whether this process has connected it. The server may have hung up since."""
        return self._socket is not None and self._pid == os.getpid()

    @property
    def reply_due(self) -> bool:
        """Whether the reply to a command was not read, so that the next one would get it."""
        return self._due > 0

    def close(self) -> None:
        """Close the socket; the next use connects again."""
        self._redis.disconnect()
        self._due = 0

    @property
    def _socket(self) -> socket.socket | None:
        found: socket.socket | None = self._redis._sock  # the only way to poll it
        return found

    def _refused(self, error: RedisError) -> Refused | None:
        code = _code(error)
        if code is None:
            return None
        text = str(error).removeprefix(f"{code} ")
        return Refused(f"Redis at {self.address} refused: {code} {text}", code)

    def _unreachable(self, error: RedisError) -> NotSent:
        return NotSent(f"Redis at {self.address} is not reachable, nothing was sent: {error}")


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

    def call(self, *command: bytes | str | float) -> Any:
        """Send one command on an idle connection and return its reply."""
        with self.lent() as connection:
            return connection.call(*command)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend a connection for several commands."""
        connection = self.take()
        try:
            connection.open()
            yield connection
        finally:
            self.give(connection)


def check_version(connection: Connection) -> None:
    """Raise ConfigurationError if the server is too old for at-least-once; one that does not say passes.

    Raises what `Connection.call` raises, too.
    """
    try:
        said = connection.call("INFO", "server")
    except Refused as refused:
        if refused.code in {"NOPERM", "ERR"}:  # an ACL, or the command was renamed
            return
        raise
    found = re.search(rb"redis_version:((\d+)\.(\d+)\S*)", said)
    if found and (int(found[2]), int(found[3])) < OLDEST:
        msg = (
            f"Redis {found[1].decode()} at {connection.address} is too old for at-least-once, which needs"
            f" {'.'.join(map(str, OLDEST))}: upgrade, or use delivery='at-most-once'"
        )
        raise ConfigurationError(msg)


def _code(error: RedisError) -> str | None:
    """Return the first word of the server's answer; None for an error that is not its answer."""
    text = str(error)
    first = text.partition(" ")[0]
    if isinstance(error, AuthenticationError) and first == "Authentication":
        return "NOAUTH"
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, ResponseError):
        return first if first.isupper() else "ERR"
    return "ERR" if text == _TOO_MANY_CLIENTS else None


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
