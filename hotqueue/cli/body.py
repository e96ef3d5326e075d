"""The body of a message for people. It is decoded only on request: unpickling runs what somebody wrote."""

import json
import pprint
import sys
from pathlib import Path

from hotqueue.cli.text import printable
from hotqueue.ending import one_line
from hotqueue.envelope import Envelope
from hotqueue.errors import BadMessage, ConfigurationError
from hotqueue.frame import WRAPPED, Frame
from hotqueue.serializers import JSON, MSGPACK, OTHER, PICKLE, TEXT, codec_for
from hotqueue.signing import signer_from

_NAMES = {PICKLE: "pickle", JSON: "json", TEXT: "text", MSGPACK: "msgpack", OTHER: "other"}
_LONGEST = 100_000  # characters of a decoded message
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def serializer_name(frame: Frame | None) -> str:
    """Return what wrote the body; `bare` for one that came without a frame."""
    if frame is None or frame.flags & WRAPPED:
        return "bare"
    return _NAMES.get(frame.serializer, str(frame.serializer))


def readable(frame: Frame | None, body: bytes) -> str | None:
    """Return a body, or its beginning, as text if it is meant to be text; None otherwise."""
    name = serializer_name(frame)
    if name not in {"json", "text", "bare"}:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        if name == "bare" and error.start < len(body) - 3:  # else it was cut within a character
            return None
        text = body.decode(errors="replace")
    return printable(text) if name != "bare" or text.isprintable() or text.lstrip()[:1] in "{[" else None


def headers_of(frame: Frame | None) -> dict[str, object]:
    """Return the headers; none where they cannot be read."""
    try:
        found = json.loads(frame.headers) if frame is not None and frame.headers else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def decoded_lines(queue: str, raw: bytes, frame: Frame | None, width: int | None) -> list[str]:
    """Return the decoded message, indented and of bounded length, or why it cannot be decoded."""
    try:
        text = pprint.pformat(
            _decode(queue, raw, frame), width=max(20, (width or 120) - 4), compact=True, sort_dicts=False
        )
    except KeyboardInterrupt:
        raise
    except BadMessage as error:
        text = f"cannot be decoded: {error}"
    except BaseException as error:  # noqa: BLE001 - a pickle may raise anything
        text = f"cannot be shown: {one_line(error)}"
    return [f"    {printable(line)}" for line in text[:_LONGEST].splitlines()]


def decoded_field(queue: str, raw: bytes, frame: Frame | None) -> dict[str, object]:
    """Return the decoded message for a JSON object, its repr where JSON has nothing like it, or the error."""
    try:
        message = _decode(queue, raw, frame)
        return {"message": message if _fits_json(message) else repr(message)[:_LONGEST]}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the same
        return {"message": None, "decode_error": one_line(error)}


def _fits_json(message: object) -> bool:
    try:
        return bool(json.dumps(message, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False


def _decode(queue: str, raw: bytes, frame: Frame | None) -> object:
    """Return the message, once the signature is verified if there is a secret (HOTQUEUE_SECRET).

    The current folder is importable, for the classes in a pickle.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    if frame is not None and frame.flags & WRAPPED:
        raw, frame = frame.body, None
    name = serializer_name(frame)
    try:
        codec = codec_for(_guess(raw) if frame is None else name)
    except ConfigurationError as error:
        msg = f"it was written by a serializer that this command does not know ({name})"
        raise BadMessage(msg) from error
    envelope = Envelope(queue, codec, framed=True, signer=signer_from(None, None), max_size=sys.maxsize)
    return envelope.decode(envelope.read(raw))


def _guess(body: bytes) -> str:
    if body.startswith(_PICKLES):
        return "pickle"
    return "json" if _is_json(body) else "text"


def _is_json(body: bytes) -> bool:
    try:
        codec_for("json").loads(body)
    except BadMessage:
        return False
    return True
