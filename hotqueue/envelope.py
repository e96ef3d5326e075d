"""From a message to what lies in Redis and back: serializer, frame, signature and size limit of one queue."""

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from hotqueue.errors import BadMessage, ConfigurationError, TooLarge
from hotqueue.frame import WRAPPED, Frame, id_text, is_frame, new_id, pack, unpack, with_trail, wrap
from hotqueue.serializers import Codec, codec_for_frame
from hotqueue.signing import Signer
from hotqueue.trail import Trail

MAX_SIZE = 64 << 20  # bytes
EXPIRES = "hotqueue-expires"  # header: seconds from the enqueue time after which a message is not run
_ON = {"1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}


class Opened(NamedTuple):
    """What `read` found around a body. A bare body has no frame, and no headers."""

    frame: Frame | None
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
        if self._framed or self.signer is not None:
            return pack(body, self.codec.code, signer=self.signer, queue=self.queue)
        return body

    def seal_with_id(
        self, message: object, headers: Mapping[str, object] | None, expires_s: float | None = None
    ) -> tuple[str, bytes]:
        """Return the id and the frame of `message`; a frame even where `seal` writes bare bodies.

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
        if not is_frame(raw):
            self._check_size(len(raw))
            if self.signer is not None and self.signer.strict:
                msg = f"the message is not signed, and queue {self.queue!r} takes only signed ones"
                raise BadMessage(msg)
            return Opened(None, {}, _NO_TRAIL, raw)
        frame = unpack(raw)
        self._check_size(len(frame.body))
        if self.signer is not None:
            self.signer.verify(self.queue, frame)
        trail = Trail.load(frame.trail) if frame.trail else _NO_TRAIL
        return Opened(frame, _load_headers(frame.headers) if frame.headers else {}, trail, frame.body)

    def decode(self, opened: Opened) -> object:
        """Return the message. Raises BadMessage; code inside a pickle may raise anything."""
        codec = self.codec if opened.frame is None else codec_for_frame(opened.frame.serializer, self.codec)
        return codec.loads(opened.body)

    def _body(self, message: object) -> bytes:
        body = self.codec.dumps(message)
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
        return _NO_TRAIL


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


_NO_TRAIL = Trail()


def _switch() -> bool | None:
    value = os.environ.get("HOTQUEUE_ENVELOPE", "").strip().lower()
    if not value:
        return None
    if value in _ON | _OFF:
        return value in _ON
    msg = f"HOTQUEUE_ENVELOPE is {value!r}: use 1 (always frames) or 0 (always bare bodies)"
    raise ConfigurationError(msg)


def _dump_headers(headers: Mapping[str, object], expires_s: float | None) -> bytes:
    try:
        if EXPIRES in headers:
            msg = f"the header {EXPIRES!r} is HotQueue's own: use expires="
            raise ConfigurationError(msg)
        expiring = {} if expires_s is None else {EXPIRES: round(expires_s, 3)}
        if not headers and not expiring:
            return b""
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
