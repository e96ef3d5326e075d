"""From an address to a connection: one redis-py connection, our own timeouts, and no blind retry.

redis-py (6 and later) sends a command again by itself when no reply came: a push happens twice, a pop loses
what the first one took. Here nothing is ever sent twice, and every failure says whether anything happened.
"""

import os
import select
from collections import deque
from dataclasses import dataclass
from typing import Any

import redis
from redis.connection import Connection as TcpConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hotqueue.errors import ConfigurationError, NotSent, OutcomeUnknown, Refused

PRODUCER_TIMEOUT_S = 2.0
CONSUMER_TIMEOUT_S = 5.0
DEFAULT_URL = "redis://localhost:6379/0"

_KINDS: dict[str, Any] = {"tcp": TcpConnection, "tls": SSLConnection, "unix": UnixDomainSocketConnection}
_KEPT = {
    "host", "port", "path", "db", "username", "password", "client_name",
    "socket_keepalive_options", "socket_type", "credential_provider",
}  # fmt: skip
_CODES: dict[type[RedisError], str] = {
    NoPermissionError: "NOPERM",
    AuthorizationError: "NOPERM",
    AuthenticationError: "WRONGPASS",
    BusyLoadingError: "LOADING",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoScriptError: "NOSCRIPT",
    MasterDownError: "MASTERDOWN",
}
# After these the name may lead to another server by now, so the next use connects again.
_WRONG_SERVER = {"READONLY", "MASTERDOWN", "UNBLOCKED"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis server is and how to get in: the kind of connection, and what redis-py needs to make it."""

    kind: str
    options: dict[str, Any]

    @classmethod
    def of(cls, url: str | None, client: "redis.Redis | None", options: dict[str, Any]) -> "Address | None":
        """Read what a user gave to HotQueue: a URL, a redis client, or its keyword arguments. None if nothing."""
        if sum((url is not None, client is not None, bool(options))) > 1:
            msg = "give one of url=, client= and keyword arguments for Redis, not several"
            raise ConfigurationError(msg)
        if url is not None:
            return cls.from_url(url)
        if client is not None:
            pool = getattr(client, "connection_pool", None)
            if pool is None:
                msg = f"client= takes a redis.Redis, not a {type(client).__name__} (Cluster is not supported yet)"
                raise ConfigurationError(msg)
            return cls._from_pool(pool, {})
        if not options:
            return None
        try:
            pool = redis.Redis(**options).connection_pool
        except (TypeError, RedisError) as error:
            msg = f"these keyword arguments make no Redis connection: {error}"
            raise ConfigurationError(msg) from error
        return cls._from_pool(pool, options)

    @classmethod
    def from_url(cls, url: str) -> "Address":
        """Read a redis://, rediss:// or unix:// URL; raise ConfigurationError in one line for anything else."""
        scheme = url.partition(":")[0]
        if scheme in {"redis+cluster", "redis+sentinel"}:
            msg = f"{scheme}:// is not supported yet: give the address of one server, as redis://HOST:PORT/DB"
            raise ConfigurationError(msg)
        try:
            found = parse_url(url)
        except ValueError as error:
            reason = str(error) if scheme in {"redis", "rediss", "unix"} else f"unknown scheme {scheme!r}"
            msg = f"not a Redis URL ({reason}): use redis://, rediss:// or unix://"
            raise ConfigurationError(msg) from error
        made = found.pop("connection_class", TcpConnection)
        return cls._from_parts(made, found, found)

    @classmethod
    def default(cls) -> "Address":
        """Read HOTQUEUE_URL, else REDIS_URL, else take localhost."""
        return cls.from_url(os.environ.get("HOTQUEUE_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL)

    @classmethod
    def _from_pool(cls, pool: Any, explicit: dict[str, Any]) -> "Address":
        return cls._from_parts(pool.connection_class, pool.connection_kwargs, explicit)

    @classmethod
    def _from_parts(cls, made: Any, found: dict[str, Any], explicit: dict[str, Any]) -> "Address":
        kind = next((name for name, known in _KINDS.items() if known is made), None)
        if kind is None:
            msg = f"{made.__name__} is not a kind of connection HotQueue can make itself: give a URL"
            raise ConfigurationError(msg)
        options = {
            key: value
            for key, value in found.items()
            if value is not None and (key in _KEPT or (kind == "tls" and key.startswith("ssl_")))
        }
        options |= {key: explicit[key] for key in ("socket_timeout", "socket_connect_timeout") if key in explicit}
        if type(options.get("socket_keepalive_options")) is object:  # redis-py's mark for "not given"
            del options["socket_keepalive_options"]
        return cls(kind, options)

    def portable(self) -> dict[str, Any]:
        """Return what JSON can carry to another process. Raises ConfigurationError for options it cannot."""
        for name, value in self.options.items():
            if not isinstance(value, str | int | float | bool | list):
                msg = f"the Redis option {name} cannot be handed to another process: give a URL instead"
                raise ConfigurationError(msg)
        return {"kind": self.kind, "options": self.options}

    @classmethod
    def from_portable(cls, found: dict[str, Any]) -> "Address":
        """Read what `portable` returned."""
        return cls(found["kind"], found["options"])

    def __str__(self) -> str:
        """Say host, port and database; never a user or a password."""
        place = self.options.get("path") or f"{self.host}:{self.port}"
        return f"{place}/{self.options.get('db', 0)}"

    @property
    def host(self) -> str:
        """The host, empty for a unix socket."""
        return "" if self.kind == "unix" else str(self.options.get("host", "localhost"))

    @property
    def port(self) -> int:
        """The TCP port, 0 for a unix socket."""
        return 0 if self.kind == "unix" else int(self.options.get("port", 6379))

    def make(self, timeout_s: float) -> Any:
        """Return a redis-py connection, not yet connected, that waits `timeout_s` at most for each step."""
        options = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, **self.options}
        if self.kind == "unix":
            options.pop("socket_connect_timeout")
        else:
            options["socket_keepalive"] = True
        return _KINDS[self.kind](**options, **_QUIET, protocol=2, retry=None, health_check_interval=0)


def _quiet_options() -> dict[str, Any]:
    """Spare the CLIENT SETINFO round trips at each connect, however this redis-py names them."""
    names = TcpConnection(**{"host": "x"}).__dict__
    return {"driver_info": None} if "driver_info" in names else {"lib_name": None, "lib_version": None}


_QUIET = _quiet_options()


class Connection:
    """One connection for one caller at a time. It connects when first used, and again after it was lost."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Take the address and the longest time one reply may take; nothing is sent yet."""
        self.address = address
        self._redis = address.make(timeout_s)
        self._pid = os.getpid()
        self._client_id: int | None = None

    def open(self) -> None:
        """Connect and authenticate, unless that is done. Raises NotSent, or Refused (a kind of it)."""
        if self._redis._sock is not None:
            return
        self._client_id = None
        try:
            self._redis.connect()
        except RedisError as error:
            raise self._refused(error) or self._unreachable(error) from error

    def call(self, *command: bytes | str | float) -> Any:
        """Send one command and return its reply. Raises NotSent, Refused or OutcomeUnknown."""
        self.send(*command)
        return self.read()

    def send(self, *command: bytes | str | float) -> None:
        """Send one command. An incomplete command is never run, so any failure here is NotSent."""
        self.open()
        try:
            self._redis.send_packed_command(self._redis.pack_command(*command), check_health=False)
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise self._unreachable(error) from error

    def read(self) -> Any:
        """Return the next reply. Raises Refused for an error reply, OutcomeUnknown when none comes."""
        try:
            return self._redis.read_response()
        except RedisError as error:
            if refused := self._refused(error):
                if refused.code in _WRONG_SERVER:
                    self.close()
                raise refused from error
            self.close()
            msg = f"no reply from Redis at {self.address}, the command may or may not have been run: {error}"
            raise OutcomeUnknown(msg) from error

    def client_id(self) -> int:
        """Return the number by which other connections can unblock this one; 0 if the server does not allow it."""
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
        return int(self._redis._sock.fileno())

    @property
    def is_open(self) -> bool:
        """Whether a socket is there. It may have been lost since."""
        return self._redis._sock is not None

    @property
    def belongs_here(self) -> bool:
        """Whether this process made it: a connection taken through a fork is its parent's."""
        return self._pid == os.getpid()

    def close(self) -> None:
        """Close the socket; the next use connects again."""
        self._redis.disconnect()

    def _refused(self, error: RedisError) -> Refused | None:
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
        if code is None:
            if not isinstance(error, ResponseError):
                return None
            first = str(error).partition(" ")[0]
            code = first if first.isupper() else "ERR"
        text = str(error).removeprefix(f"{code} ")
        return Refused(f"Redis at {self.address} refused: {code} {text}", code)

    def _unreachable(self, error: RedisError) -> NotSent:
        return NotSent(f"Redis at {self.address} is not reachable, nothing was sent: {error}")


def check_version(connection: Connection) -> None:
    """Raise ConfigurationError if the server is too old for at-least-once; the plain queue works with any."""
    try:
        info = connection.call("INFO", "server")
    except Refused:
        return
    version = next((line[14:] for line in info.decode().splitlines() if line.startswith("redis_version:")), "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < (6, 2):
        msg = (
            f"Redis {version} at {connection.address} is too old for at-least-once, which needs 6.2:"
            " upgrade it, or use delivery='at-most-once'"
        )
        raise ConfigurationError(msg)


class Pool:
    """Idle connections to one address, for short calls from any thread; empty again after a fork."""

    def __init__(self, address: Address, timeout_s: float = PRODUCER_TIMEOUT_S) -> None:
        """Take the address and the longest time one reply may take."""
        self.address = address
        self._timeout_s = timeout_s
        self._idle: deque[Connection] = deque()

    def take(self) -> Connection:
        """Return a connection for the caller alone; `give` it back after use."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return Connection(self.address, self._timeout_s)
            if not connection.belongs_here:
                continue
            if connection.is_open and _readable(connection.fileno()):
                connection.close()  # the server has closed it, or a reply nobody waits for is in it
            return connection

    def give(self, connection: Connection) -> None:
        """Take back what `take` returned."""
        self._idle.append(connection)

    def call(self, *command: bytes | str | float) -> Any:
        """Send one command on an idle connection and return its reply."""
        connection = self.take()
        try:
            return connection.call(*command)
        except BaseException as error:
            if not isinstance(error, (NotSent, OutcomeUnknown)):
                connection.close()  # interrupted between command and reply
            raise
        finally:
            self.give(connection)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
