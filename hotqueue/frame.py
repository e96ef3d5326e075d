"""A frame: the bytes around a message body in Redis. `docs/reference/wire-format.md` describes each byte."""

import os
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hotqueue.errors import BadMessage, TooLarge
from hotqueue.serializers import RAW

if TYPE_CHECKING:
    from hotqueue.signing import Signer

# 0xC1 begins neither UTF-8 text nor JSON, pickle or MessagePack: a bare body is not taken for a frame.
MAGIC = b"\xc1HQ"
VERSION = 1
SIGNED, WRAPPED = 1, 2
MAX_HEADERS = 0xFFFF
MAX_BODY = 0xFFFF_FFFF
MAX_TRAIL = 16 * 1024

_FLAGS = frozenset({0, SIGNED, WRAPPED})
_HEAD = struct.Struct(">3sBBBH16sI")
_HEAD_SIZE = _HEAD.size
_KEY_ID, _TAG = 4, 32

# Version 7 and the variant of RFC 9562, in the first and third byte behind the 48 bits of the time.
_VERSIONED = bytes(byte & 0x0F | 0x70 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


class Frame(NamedTuple):
    """The parts of a frame."""

    message_id: bytes
    serializer: int
    flags: int
    headers: bytes
    body: bytes
    trail: bytes
    raw: bytes
    end: int  # of the signed part

    @property
    def signed_part(self) -> bytes:
        """What a signature covers: all from the first byte to the end of the body."""
        return self.raw[: self.end]

    @property
    def key_id(self) -> bytes:
        """Which key it is signed with; empty if it is not."""
        return self.raw[self.end : self.end + _KEY_ID] if self.flags & SIGNED else b""

    @property
    def tag(self) -> bytes:
        """The signature; empty if there is none."""
        start = self.end + _KEY_ID
        return self.raw[start : start + _TAG] if self.flags & SIGNED else b""


def new_id() -> bytes:
    """Return a UUIDv7: milliseconds of the wall clock, then random bits that no fork repeats."""
    random = os.urandom(10)
    first, third = random[0], random[2]
    version, variant = _VERSIONED[first : first + 1], _VARIANT[third : third + 1]
    return (time.time_ns() // 1_000_000).to_bytes(6, "big") + version + random[1:2] + variant + random[3:]


def new_ids(count: int) -> list[bytes]:
    """Return several at the cost of one question to the kernel."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    random = bytearray(os.urandom(10 * count))
    random[::10] = random[::10].translate(_VERSIONED)
    random[2::10] = random[2::10].translate(_VARIANT)
    return [stamp + random[at : at + 10] for at in range(0, 10 * count, 10)]


def id_text(message_id: bytes) -> str:
    """Return the canonical text of a UUID, such as ``0192f0c1-7a3b-7c4d-8e5f-0123456789ab``."""
    digits = message_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def enqueued_ms(message_id: bytes) -> int:
    """Return when the id was drawn, in milliseconds since 1970 by the producer's clock."""
    return int.from_bytes(message_id[:6], "big")


def is_frame(raw: bytes) -> bool:
    """Tell a frame, whole or broken, from a bare body."""
    return raw.startswith(MAGIC)


def pack(  # noqa: PLR0913 - one function knows the layout
    body: bytes,
    serializer: int,
    *,
    headers: bytes = b"",
    message_id: bytes | None = None,
    flags: int = 0,
    signer: "Signer | None" = None,
    queue: str = "",
) -> bytes:
    """Return a frame without a trail, signed for `queue` if there is a `signer`.

    `message_id` has 16 bytes and is drawn afresh by default; `headers` are a JSON object or nothing.
    Raises ``TooLarge`` for more than 64 KiB of headers or 4 GiB of body.
    """
    if signer is not None:
        flags |= SIGNED
    if len(headers) > MAX_HEADERS or len(body) > MAX_BODY:
        raise TooLarge(_unpackable(len(headers), len(body)))
    head = _HEAD.pack(MAGIC, VERSION, serializer, flags, len(headers), message_id or new_id(), len(body))
    signed_part = head + headers + body
    return signed_part if signer is None else signed_part + signer.sign(queue, signed_part)


def pack_all(bodies: Sequence[bytes], serializer: int) -> list[bytes]:
    """Return frames of bodies of at most 4 GiB, each with a fresh id, without headers and not signed."""
    head = _HEAD.pack
    return [
        head(MAGIC, VERSION, serializer, 0, 0, message_id, len(body)) + body
        for body, message_id in zip(bodies, new_ids(len(bodies)), strict=True)
    ]


Parts: TypeAlias = tuple[bytes, int, int, bytes, bytes, bytes, bytes, int]


def unpack(raw: bytes) -> Frame:
    """Take a frame apart. The signature is not verified and nothing is decoded.

    Raises ``BadMessage`` for what is no frame, is cut short, or has a version or flags unknown here.
    """
    return Frame(*parts_of(raw))


def parts_of(raw: bytes) -> Parts:
    """Return the fields of a frame without their names, which cost as much as all the rest; see `unpack`."""
    size = len(raw)
    if size < _HEAD_SIZE:
        raise BadMessage(_cut_short(raw, _HEAD_SIZE))
    magic, version, serializer, flags, headers_size, message_id, body_size = _HEAD.unpack_from(raw)
    if magic != MAGIC or version != VERSION or flags not in _FLAGS:
        raise BadMessage(_unreadable(magic, version, flags))
    body_at = _HEAD_SIZE + headers_size
    end = trail_at = body_at + body_size
    if flags & SIGNED:
        trail_at += _KEY_ID + _TAG
    if trail_at > size:
        raise BadMessage(_cut_short(raw, trail_at))
    return (
        message_id,
        serializer,
        flags,
        raw[_HEAD_SIZE:body_at] if headers_size else b"",
        raw[body_at:end],
        raw[trail_at:] if 0 < size - trail_at <= MAX_TRAIL else b"",
        raw,
        end,
    )


def peek_id(raw: bytes) -> bytes:
    """Return the 16 bytes of a frame's id without a look at the rest; zeros for a bare body."""
    return raw[8:24] if raw.startswith(MAGIC) and len(raw) >= _HEAD_SIZE else bytes(16)


def wrap(raw: bytes) -> bytes:
    """Return a frame with a fresh id around a bare body or a broken frame: no two of them are equal."""
    return pack(raw, RAW, flags=WRAPPED)


def with_trail(framed: bytes, trail: bytes) -> bytes:
    """Return the frame with `trail`, at most 16 KiB, in place of its own; what is signed stays as it is.

    Raises ``BadMessage`` if `framed` is not a whole frame, ``TooLarge`` for a longer trail.
    """
    if len(trail) > MAX_TRAIL:
        msg = f"a trail of {len(trail)} bytes is longer than the {MAX_TRAIL} that a reader accepts"
        raise TooLarge(msg)
    frame = unpack(framed)
    return frame.signed_part + frame.key_id + frame.tag + trail


def _unpackable(headers: int, body: int) -> str:
    sizes = f"{headers} bytes of headers and {body} bytes of body"
    return f"{sizes} do not fit in a frame: at most {MAX_HEADERS} and {MAX_BODY} do"


def _cut_short(raw: bytes, needed: int) -> str:
    if not is_frame(raw):
        return "not a frame: the magic bytes are missing"
    return f"the frame is cut short: {len(raw)} bytes of at least {needed}"


def _unreadable(magic: bytes, version: int, flags: int) -> str:
    if magic != MAGIC:
        return "not a frame: the magic bytes are missing"
    if version != VERSION:
        return f"the frame has version {version}; this HotQueue reads version {VERSION}: upgrade it"
    return f"the frame has flags {flags:#04x}, which this HotQueue does not know: upgrade it"
