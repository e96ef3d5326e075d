"""From a message to what lies in Redis and back: serializer, frame, signature and size limit of one queue."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hotqueue.errors import BadMessage, ConfigurationError, TooLarge
from hotqueue.frame import (
    MAGIC,
    MAX_BODY,
    WRAPPED,
    Frame,
    id_text,
    new_id,
    pack,
    pack_all,
    parts_of,
    unpack,
    with_trail,
    wrap,
)
from hotqueue.serializers import RAW, Codec, codec_for_frame
from hotqueue.signing import Signer
from hotqueue.trail import Trail

MAX_SIZE = 64 << 20  # bytes
EXPIRES = "hotqueue-expires"  # header: seconds from the enqueue time after which a message is not run
NO_TRAIL = Trail()
_ON = {"1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}


@dataclass(slots=True)
class Opened:
    """What `read` found around a body. A bare body has no id, even if it came wrapped."""

    message_id: bytes | None
    serializer: int
    headers: Mapping[str, object]
    trail: Trail
    body: bytes


class Envelope:
    """Seals the messages of one queue and opens them again."""

    def __init__(
        self, queue: str, codec: Codec, *, framed: bool | None, signer: Signer | None, max_size: int
    ) -> None:
        """`framed` None leaves it to HOTQUEUE_ENVELOPE, then to the codec; a signature needs frames."""
        switch, framed = ("HOTQUEUE_ENVELOPE=0", _switch()) if framed is None else ("envelope=False", framed)
        if signer is not None and framed is False:
            msg = f"queue {queue!r} cannot sign bare bodies: leave out {switch} or the secret"
            raise ConfigurationError(msg)
        if max_size < 1:
            msg = f"max_size must be at least 1 byte, got {max_size}"
            raise ConfigurationError(msg)
        self.queue = queue
        self.codec = codec
        self.signer = signer
        self.max_size = max_size
        self._never_framed = framed is False
        self._framed = codec.framed if framed is None else framed

    def seal(self, message: object) -> bytes:
        """Return what lies in Redis for `message`. Raises BadMessage or TooLarge; nothing was sent then."""
        body = self._body(message)
        if not self._framed and self.signer is None:
            return body
        return pack(body, self.codec.code, message_id=new_id(), signer=self.signer, queue=self.queue)

    def seal_all(self, messages: Sequence[object]) -> list[bytes]:
        """Return what lies in Redis for each of them. Raises BadMessage or TooLarge; nothing was sent."""
        if len(messages) == 1:
            return [self.seal(messages[0])]
        bodies = list(map(self.codec.dumps, messages))
        largest = max(map(len, bodies), default=0)
        if largest > self.max_size:
            self._check_size(largest)
        if self.signer is not None or largest > MAX_BODY:
            code, signer, queue = self.codec.code, self.signer, self.queue
            return [pack(body, code, signer=signer, queue=queue) for body in bodies]
        return pack_all(bodies, self.codec.code) if self._framed else bodies

    def seal_with_id(
        self, message: object, headers: Mapping[str, object] | None, expires_s: float | None = None
    ) -> tuple[str, bytes]:
        """Return the id and the frame of `message`; a frame even where `seal_all` writes bare bodies.

        Once it is older than `expires_s` it is not run any more.
        """
        if self._never_framed:
            msg = f"queue {self.queue!r} writes bare bodies (envelope=False), which have no id: use enqueue()"
            raise ConfigurationError(msg)
        message_id = new_id()
        packed = pack(
            self._body(message),
            self.codec.code,
            headers=_dump_headers(headers or {}, expires_s),
            message_id=message_id,
            signer=self.signer,
            queue=self.queue,
        )
        return id_text(message_id), packed

    def read(self, raw: bytes) -> Opened:
        """Take apart and verify what lay in Redis, decoding nothing of the message. Raises BadMessage."""
        if not raw.startswith(MAGIC):
            self._check_size(len(raw))
            if self.signer is not None and self.signer.strict:
                msg = f"the message is not signed, and queue {self.queue!r} takes only signed ones"
                raise BadMessage(msg)
            return Opened(None, RAW, {}, NO_TRAIL, raw)
        parts = parts_of(raw)
        message_id, serializer, flags, headers, body, trail, _, _ = parts
        if len(body) > self.max_size:
            self._check_size(len(body))
        if self.signer is not None:
            self.signer.verify(self.queue, Frame(*parts))
        return Opened(
            None if flags & WRAPPED else message_id,
            serializer,
            _load_headers(headers) if headers else {},
            Trail.load(trail) if trail else NO_TRAIL,
            body,
        )

    def decode(self, opened: Opened) -> object:
        """Return the message. Raises BadMessage; code inside a pickle may raise anything."""
        codec = self.codec
        if opened.serializer != codec.code:
            codec = codec_for_frame(opened.serializer, codec)
        return codec.loads(opened.body)

    def _body(self, message: object) -> bytes:
        body = self.codec.dumps(message)
        if len(body) > self.max_size:
            self._check_size(len(body))
        return body

    def _check_size(self, size: int) -> None:
        if size > self.max_size:
            msg = (
                f"a message of {size} bytes is over the limit of queue {self.queue!r}, {self.max_size} bytes:"
                " store the data elsewhere and enqueue a reference, or raise max_size"
            )
            raise TooLarge(msg)


def trail_of(raw: bytes) -> Trail:
    """Return the trail of anything that lies in Redis; the empty one for what has none."""
    try:
        return Trail.load(unpack(raw).trail)
    except BadMessage:
        return NO_TRAIL


def noted(raw: bytes, trail: Trail) -> bytes:
    """Return `raw` with `trail`: its frame, or a wrapping frame where it is bare or broken."""
    try:
        return with_trail(raw, trail.dump())
    except BadMessage:
        return with_trail(wrap(raw), trail.dump())


def id_of(raw: bytes) -> str | None:
    """Return the id of a frame; None for what has none of its own."""
    try:
        frame = unpack(raw)
    except BadMessage:
        return None
    return None if frame.flags & WRAPPED else id_text(frame.message_id)


def _switch() -> bool | None:
    value = os.environ.get("HOTQUEUE_ENVELOPE", "").strip().lower()
    if not value:
        return None
    if value in _ON | _OFF:
        return value in _ON
    msg = f"HOTQUEUE_ENVELOPE is {value!r}: use 1 (always frames) or 0 (always bare bodies)"
    raise ConfigurationError(msg)


def _dump_headers(headers: Mapping[str, object], expires_s: float | None) -> bytes:
    if not headers and expires_s is None:
        return b""
    try:
        if EXPIRES in headers:
            msg = f"the header {EXPIRES!r} is HotQueue's own: use expires="
            raise ConfigurationError(msg)
        expiring = {} if expires_s is None else {EXPIRES: round(expires_s, 3)}
        text = json.dumps({**headers, **expiring}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"headers must be a JSON object: {error}"
        raise BadMessage(msg) from error


def _load_headers(raw: bytes) -> Mapping[str, object]:
    try:
        headers = json.loads(raw)
    except (ValueError, RecursionError) as error:
        msg = f"the headers are not JSON: {error}"
        raise BadMessage(msg) from error
    if not isinstance(headers, dict):
        msg = f"the headers are not a JSON object but {type(headers).__name__}"
        raise BadMessage(msg)
    return headers
