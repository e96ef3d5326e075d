"""Where Redis is and how to get in: read from a URL, from keyword arguments or from a client of redis-py."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import connection as redis_connection
from redis.exceptions import RedisError

from hotqueue.errors import ConfigurationError

DEFAULT_URL = "redis://localhost:6379/0"

_KINDS: dict[str, Any] = {
    "tcp": redis_connection.Connection,
    "tls": redis_connection.SSLConnection,
    "unix": redis_connection.UnixDomainSocketConnection,
}
_SCHEMES = {"redis", "rediss", "unix"}
_NOT_YET = {"redis+cluster", "redis+sentinel"}
_KEEPALIVE = "socket_keepalive_options"
_KEPT = {
    "host", "port", "path", "db", "username", "password", "client_name",
    "socket_type", "credential_provider", _KEEPALIVE,
}  # fmt: skip
_TIMEOUTS = {"socket_timeout", "socket_connect_timeout"}
_LONGEST_TIMEOUT_S = 1e9  # about as much as a socket takes
_OF_POOLS = {"max_connections", "timeout"}  # redis-py's own; for nothing here
_HIGHEST_PORT = 65_535
# Spares the CLIENT SETINFO round trips at each connect, in whichever way this redis-py wants to be told.
_QUIET: dict[str, Any] = (
    {"driver_info": None}
    if hasattr(redis_connection, "DriverInfo")
    else {"lib_name": None, "lib_version": None}
)


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """The kind of connection, and the options that redis-py needs to make it."""

    kind: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        """Raise ConfigurationError if no connection can be made of this, whatever answers there."""
        try:
            self.make(1.0)
            self.host.encode("idna")
        except (TypeError, ValueError, RedisError) as error:
            raise ConfigurationError(_unusable(error)) from error
        if self.port > _HIGHEST_PORT:
            raise ConfigurationError(_unusable(f"there is no port {self.port}"))
        for option in _TIMEOUTS & self.options.keys():
            _check_timeout(option, self.options[option])
        if self.kind == "unix" and not self.options.get("path"):
            raise ConfigurationError(_unusable("a unix socket needs a path, as in unix:///run/redis.sock"))

    @classmethod
    def of(cls, url: str | None, client: Any, options: dict[str, Any]) -> "Address | None":
        """Read what a user gave: a URL, a client, or redis-py's keyword arguments. None if nothing."""
        if sum((url is not None, client is not None, bool(options))) > 1:
            msg = "give one of url=, client= and keyword arguments for Redis, not several"
            raise ConfigurationError(msg)
        if url is not None:
            return cls.from_url(url)
        if client is not None:
            return cls._from_client(client)
        return cls._from_options(options) if options else None

    @classmethod
    def default(cls) -> "Address":
        """Read HOTQUEUE_URL, else REDIS_URL, else take localhost."""
        return cls.from_url(os.environ.get("HOTQUEUE_URL") or os.environ.get("REDIS_URL") or DEFAULT_URL)

    @classmethod
    def from_url(cls, url: str) -> "Address":
        """Read a redis://, rediss:// or unix:// URL. Raises ConfigurationError for anything else."""
        scheme, separator, _ = url.partition("://")
        if scheme in _NOT_YET:
            msg = f"{scheme}:// is not supported yet: give the address of one server, as redis://HOST:PORT/DB"
            raise ConfigurationError(msg)
        if scheme not in _SCHEMES or not separator:
            # Without a scheme the first word may be a secret, so it is not shown.
            raise ConfigurationError(_no_url(f"unknown scheme {scheme!r}" if separator else "no scheme"))
        try:
            database = "" if scheme == "unix" else urlsplit(url).path.strip("/")
            found = redis_connection.parse_url(url)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ConfigurationError(_no_url(str(error))) from error
        if database and not database.isdecimal():  # redis-py takes it for database 0
            raise ConfigurationError(_no_url(f"database {database!r} is not a number"))
        made = found.pop("connection_class", redis_connection.Connection)
        try:
            made(**{option: value for option, value in found.items() if option not in _OF_POOLS})
        except (TypeError, ValueError, AttributeError, RedisError) as error:
            raise ConfigurationError(_unknown(error)) from error
        return cls._made(made, found, found)

    @classmethod
    def from_portable(cls, portable: dict[str, Any]) -> "Address":
        """Read what `portable` wrote."""
        options = dict(portable)
        kind = options.pop("kind")
        if _KEEPALIVE in options:
            options[_KEEPALIVE] = dict(options[_KEEPALIVE])
        return cls(kind, options)

    def portable(self) -> dict[str, Any]:
        """Return it, with the password, so that JSON can carry it to another process.

        Raises ConfigurationError naming the option that cannot be handed over.
        """
        options = dict(self.options)
        for option, value in options.items():
            plain = value.values() if option == _KEEPALIVE else [value]
            if not all(isinstance(each, str | int | float | None) for each in plain):
                msg = (
                    f"{option} of the Redis at {self} is a {type(value).__name__}, which cannot be handed"
                    " to another process: give text or a number, or a URL"
                )
                raise ConfigurationError(msg)
        if _KEEPALIVE in options:
            options[_KEEPALIVE] = list(options[_KEEPALIVE].items())  # JSON would make text of its keys
        return {"kind": self.kind, **options}

    def make(self, timeout_s: float) -> Any:
        """Return a redis-py connection, not yet connected, that waits `timeout_s` at most for each step.

        By itself it sends nothing: no retry, no health check, no word about this library.
        """
        options = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, **self.options}
        if self.kind != "unix":
            options["socket_keepalive"] = True
        return _KINDS[self.kind](**options, **_QUIET, protocol=2, retry=None, health_check_interval=0)

    def __str__(self) -> str:
        """Say host, port and database; never a user or a password."""
        if self.kind == "unix":
            return f"unix:{self.options.get('path')}/{self.options.get('db', 0)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.options.get('db', 0)}"

    def __repr__(self) -> str:
        """Show no more than `str`."""
        return f"<Address {self.kind} {self}>"

    @property
    def host(self) -> str:
        """The host, empty for a unix socket."""
        return "" if self.kind == "unix" else str(self.options.get("host", "localhost"))

    @property
    def port(self) -> int:
        """The TCP port, 0 for a unix socket."""
        return 0 if self.kind == "unix" else int(self.options.get("port", 6379))

    @classmethod
    def _from_client(cls, client: Any) -> "Address":
        pool = getattr(client, "connection_pool", None)
        if pool is None:
            msg = f"client= takes a redis.Redis, not a {type(client).__name__} (Cluster is not supported yet)"
            raise ConfigurationError(msg)
        return cls._made(pool.connection_class, pool.connection_kwargs, {})

    @classmethod
    def _from_options(cls, options: dict[str, Any]) -> "Address":
        try:
            # With single_connection_client redis-py would connect at once.
            pool = redis.Redis(**options | {"single_connection_client": False}).connection_pool
        except (TypeError, ValueError, RedisError) as error:
            raise ConfigurationError(_unusable(error)) from error
        return cls._made(pool.connection_class, pool.connection_kwargs, options)

    @classmethod
    def _made(cls, made: Any, found: dict[str, Any], explicit: dict[str, Any]) -> "Address":
        """Keep what says where and who, and of the timeouts those that were given explicitly."""
        kind = next((name for name, known in _KINDS.items() if known is made), None)
        if kind is None:
            msg = f"{made.__name__} is not a kind of connection that HotQueue can make itself: give a URL"
            raise ConfigurationError(msg)
        options = {
            option: os.fspath(value) if isinstance(value, os.PathLike) else value
            for option, value in found.items()
            if value is not None and (option in _KEPT or (kind == "tls" and option.startswith("ssl_")))
        }
        options |= {option: explicit[option] for option in _TIMEOUTS & explicit.keys()}
        if not isinstance(options.get(_KEEPALIVE, {}), dict):  # redis-py's mark for "not given"
            del options[_KEEPALIVE]
        return cls(kind, options)


def _no_url(problem: str) -> str:
    return f"not a Redis URL ({problem}): use redis://HOST:PORT/DB, rediss:// or unix:///PATH"


def _unknown(error: Exception) -> str:
    """Name what redis-py does not know: it may be mistyped, and would be ignored."""
    _, found, option = str(error).partition("unexpected keyword argument ")
    return _no_url(f"it has no parameter {option}") if found else _unusable(error)


def _check_timeout(option: str, given: Any) -> None:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if given is not None and not (is_number and 0 < given <= _LONGEST_TIMEOUT_S):
        raise ConfigurationError(_unusable(f"{option} must be seconds, more than 0, got {given!r:.60}"))


def _unusable(problem: object) -> str:
    return f"no connection to Redis can be made with these settings: {' '.join(str(problem).split())}"
