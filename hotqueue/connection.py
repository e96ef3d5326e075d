"""One redis-py connection with our own timeouts and no blind retry.

redis-py (6 and later) sends a command again by itself when no reply came: a push happens twice, a pop loses
what the first one took. Here nothing is ever sent twice, and every failure says whether anything happened.
"""

import contextlib
import os
import re
import select
import socket
import struct
import weakref
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
from hotqueue.errors import NotSent, OutcomeUnknown, Refused
from hotqueue.resp import hung_up, number_or_error, packed

CONSUMER_TIMEOUT_S = 5.0
MOST_BYTES = 1 << 16  # of one `receive`; a TLS record is no larger, so none is left where a poll sees nothing

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
_TODO = {
    "NOAUTH": "give its password, in the URL as redis://:PASSWORD@HOST",
    "NOPERM": "hotqueue doctor --acl ROLE prints the rights that are needed",
    "WRONGPASS": "check the user and the password in its URL",
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
        self.seen_as = ""  # this end, as the server names it; known after `client_id`, if it says so
        self._due = 0  # replies
        self._poll = select.poll()
        self._at_the_end = weakref.finalize(self, int)  # of what is not closed; nothing yet
        self.times_connected = 0

    def open(self) -> None:
        """Connect and authenticate, unless that is done and the server has not hung up since.

        To be called while no reply is due. Raises NotSent, or Refused (a kind of it).
        """
        if self.is_well:
            return
        if self.is_open:
            self.close()
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
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)
        self._close_at_the_end()
        self._leave_timing_to_kernel()
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
            self._redis.send_packed_command((packed(command),), check_health=False)
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise self._unreachable(_cause(error, "writing to")) from error

    def read(self) -> Any:
        """Return the next reply. Raises Refused for an error reply, OutcomeUnknown when none comes."""
        try:
            reply = self._redis.read_response()
        except RedisError as error:
            raise self._failure(error) from error
        self._due -= 1
        return reply

    def _failure(self, error: RedisError) -> Refused | OutcomeUnknown:
        """Return what it means for the reply that was due."""
        refused = self._refused(error)
        if refused is None:
            self.close()
            return self._unanswered(_cause(error, "reading from"))
        self._due -= 1
        if refused.code in _WRONG_SERVER:
            self.close()
        return refused

    def count(self, command: bytes) -> int:
        """Send one packed command whose reply is a number, and return that. Raises what `call` raises.

        For producers, who feel what one costs: such a reply is read by hand, redis-py takes 2 µs more for
        it. To be called while no reply is due.
        """
        self.open()
        self._due = 1
        connected: socket.socket = self._redis._sock
        try:
            connected.sendall(command)
        except OSError as error:
            self.close()
            raise self._unreachable(_cause(error, "writing to")) from error
        try:
            kind, text = number_or_error(connected)
        except OSError as error:
            self.close()
            raise self._unanswered(_cause(error, "reading from")) from error
        self._due = 0
        if kind == b":":
            return int(text)
        raise self.refusal(text.decode(errors="replace"))

    def write(self, commands: bytes) -> None:
        """Send packed commands, for who reads all that comes by `receive` alone. Raises NotSent.

        To be called while it is open: what may have been said meanwhile is no reason to connect again.
        """
        try:
            self._redis._sock.sendall(commands)
        except OSError as error:
            self.close()
            raise self._unreachable(_cause(error, "writing to")) from error

    def receive(self) -> bytes:
        """Wait for something to come, and return it. Raises OutcomeUnknown when nothing does."""
        try:
            text: bytes = self._redis._sock.recv(MOST_BYTES)
            if not text:
                raise hung_up()
        except OSError as error:
            self.close()
            raise self._unanswered(_cause(error, "reading from")) from error
        return text

    def refusal(self, reply: str) -> Refused:
        """Return what an error reply means that was read by hand."""
        code, _, text = reply.partition(" ")
        if code in _WRONG_SERVER:
            self.close()
        return self._refusal(code, text)

    def client_id(self) -> int:
        """Return the number by which other connections can unblock this one; 0 if the server forbids that."""
        self.open()
        if self._client_id is None:
            try:
                number = self._introduce()
                self.call("CLIENT", "UNBLOCK", number)
            except Refused:
                number = 0
            self._client_id = number
        return self._client_id

    def _introduce(self) -> int:
        """Learn the number and the address under which the server knows this connection."""
        self.seen_as = ""
        with contextlib.suppress(Refused):  # not known before 6.2, or an ACL forbids it
            said = re.match(rb"id=(\d+) addr=(\S+)", self.call("CLIENT", "INFO"))
            if said is not None:
                self.seen_as = said[2].decode()
                return int(said[1])
        return int(self.call("CLIENT", "ID"))

    def fileno(self) -> int:
        """Return the descriptor to poll for the one reply that is due."""
        return self._socket.fileno() if self._socket else -1

    @property
    def is_open(self) -> bool:
        """Whether this process has connected it. The server may have hung up since."""
        return self._socket is not None and self._pid == os.getpid()

    @property
    def is_well(self) -> bool:
        """Whether it is open and the server has not hung up, nor said what nobody asked for.

        To be asked while no reply is due.
        """
        return self.is_open and not self._poll.poll(0)

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

    def _close_at_the_end(self) -> None:
        """Have the socket closed before it can be collected itself, which would be warned of as a leak."""
        self._at_the_end.detach()
        self._at_the_end = weakref.finalize(self, self._redis._sock.close)
        self._at_the_end.atexit = False

    def _leave_timing_to_kernel(self) -> None:
        """Spare the poll before each read and write by which Python keeps the time of a plain socket."""
        connected = self._socket
        if type(connected) is socket.socket:
            limit = struct.pack("@ll", int(self._timeout_s), int(self._timeout_s % 1 * 1_000_000))
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connected.settimeout(None)

    def _refused(self, error: RedisError) -> Refused | None:
        code = _code(error)
        if code is None:
            return None
        return self._refusal(code, str(error).removeprefix(f"{code} "))

    def _refusal(self, code: str, text: str) -> Refused:
        todo = f": {_TODO[code]}" if code in _TODO else ""
        return Refused(f"Redis at {self.address} refused: {code} {text.removesuffix('.')}{todo}", code)

    def _unanswered(self, error: object) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"no reply from Redis at {self.address}, the command may or may not have been run: {error}"
        )

    def _unreachable(self, error: object) -> NotSent:
        return NotSent(f"Redis at {self.address} is not reachable, nothing was sent: {error}")


def _cause(error: Exception, act: str) -> object:
    """Return what to say of it. The kernel, which keeps the time, calls it a try again when that is over."""
    is_late = isinstance(error, TimeoutError) or any(
        isinstance(each, BlockingIOError) for each in (error, error.__context__)
    )
    return f"Timeout {act} socket" if is_late else error


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
