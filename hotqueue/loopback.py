"""What listens on a port of this machine: a few words of the Redis protocol on a plain socket."""

import contextlib
import re
import socket
import time
from typing import Literal
from urllib.parse import urlsplit

from hotqueue.errors import ConfigurationError

HERE = "127.0.0.1"
DEFAULT_PORT = 6379
_ANSWER_S = 1.0
_REPLY_BYTES = 65_536


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL that a private server can serve: loopback, neither password nor TLS.

    Raises ``ConfigurationError`` for any other.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or DEFAULT_PORT
    except ValueError:
        msg = "the Redis URL has no usable host and port"  # not which: a mistyped one may show a password
        raise ConfigurationError(msg) from None
    if parts.scheme != "redis" or not re.fullmatch(r"localhost|127(\.\d+){3}|::1", host):
        msg = f"a private server serves redis:// URLs of this machine only, not {parts.scheme}://{host}"
        raise ConfigurationError(msg)
    if parts.password:
        msg = f"a private server has no password: leave it out of the URL of {host}:{port}"
        raise ConfigurationError(msg)
    return host, port


def answers(host: str, port: int) -> Literal["redis", "other", "nothing"]:
    """Say what listens there, within about a second. A server that wants a password speaks Redis too."""
    try:
        reply = ask(host, port, "PING")
    except TimeoutError:
        return "other"
    except OSError:
        return "nothing"
    return "redis" if re.match(rb"\+PONG|-[A-Z]+ ", reply) else "other"


def info(port: int) -> dict[str, str]:
    """Return what INFO says there; nothing if it says nothing."""
    try:
        lines = ask(HERE, port, "INFO").decode(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def ask(host: str, port: int, command: str) -> bytes:
    """Return the reply to an inline command, cut off after a second; OSError if there is no connection."""
    deadline = time.monotonic() + _ANSWER_S
    reply = b""
    with socket.create_connection((host, port), _ANSWER_S) as line:
        if line.getsockname() == line.getpeername():
            raise ConnectionRefusedError  # TCP connects a free port to itself if it happens to begin there
        with contextlib.suppress(OSError):
            line.sendall(f"{command}\r\nQUIT\r\n".encode())
            while (left := deadline - time.monotonic()) > 0 and len(reply) < _REPLY_BYTES:
                line.settimeout(left)
                chunk = line.recv(4096)
                if not chunk:
                    break
                reply += chunk
    return reply
