"""Serializers: how a message becomes bytes and is read back. Each failure is a ``BadMessage`` of one line."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from hotqueue.errors import BadMessage, ConfigurationError

RAW = 0
PICKLE = 1
JSON = 2
TEXT = 3
MSGPACK = 4
OTHER = 255

# Fixed rather than the highest of this Python: a newer one must not write what an older consumer cannot read
# while a fleet is being upgraded. Every supported Python reads and writes 5.
PICKLE_PROTOCOL = 5

_NAMES = {PICKLE: "pickle", JSON: "json", TEXT: "text", MSGPACK: "msgpack", OTHER: "a custom serializer"}
_LONGEST_CAUSE = 200  # characters
_JSON_BEGINS = (b"{", b"[", b'"')  # as no pickle does


@dataclass(frozen=True, slots=True)
class Codec:
    """One serializer: its code in frames, its name, whether it writes frames by default, its two functions.

    `dumps` and `loads` turn every ``Exception`` into ``BadMessage``.
    """

    code: int
    name: str
    framed: bool
    dumps: Callable[[object], bytes]
    loads: Callable[[bytes], object]


def codec_for(serializer: object) -> Codec:
    """Return the codec for what a user may give as `serializer`.

    That is the pickle or the json module, ``None`` for plain text, one of the names ``"pickle"``,
    ``"json"``, ``"text"`` and ``"msgpack"``, or anything with ``dumps`` and ``loads``.
    Raises ``ConfigurationError`` for everything else.
    """
    if isinstance(serializer, Codec):
        return serializer
    if serializer is None:
        return _TEXT_CODEC
    if serializer is pickle:
        return _PICKLE_CODEC
    if serializer is json:
        return _JSON_CODEC
    if isinstance(serializer, str):
        return _codec_named(serializer)
    return _custom(serializer)


def codec_for_frame(code: int, own: Codec) -> Codec:
    """Return the codec that reads a frame with `code` on a queue whose own codec is `own`.

    A queue reads what it writes, what came bare and was wrapped, and JSON, which can do no harm: whoever can
    write to Redis must not be able to choose pickle. Raises ``BadMessage`` for everything else.
    """
    if code in {own.code, RAW}:
        return own
    if code == JSON:
        return _JSON_CODEC
    framed = _NAMES.get(code, f"serializer {code}")
    msg = f"framed as {framed}, but this queue reads {own.name}: give both sides the same serializer"
    raise BadMessage(msg)


def _codec(
    code: int,
    name: str,
    dumps: Callable[[object], object],
    loads: Callable[[bytes], object],
    *,
    framed: bool,
) -> Codec:
    def checked_dumps(message: object) -> bytes:
        try:
            body = dumps(message)
            if type(body) is bytes:
                return body
            if isinstance(body, str):
                body = body.encode()
        except Exception as error:
            msg = f"cannot write a message of type {type(message).__name__} as {name}: {_cause(error)}"
            if callable(message):
                msg += " (a message is data: to have a handler run, call its send)"
            raise BadMessage(msg) from error
        if isinstance(body, bytes):
            return body
        msg = f"the dumps of {name} must return bytes or str, got {type(body).__name__}"
        raise BadMessage(msg)

    def checked_loads(body: bytes) -> object:
        try:
            return loads(body)
        except Exception as error:
            msg = f"cannot read {len(body)} bytes as {name}: {_cause(error)}"
            if name == "pickle":
                msg += _unpickling_hint(body, error)
            raise BadMessage(msg) from error

    return Codec(code, name, framed, checked_dumps, checked_loads)


def _unpickling_hint(body: bytes, error: Exception) -> str:
    if body.startswith(_JSON_BEGINS):
        return " (it may be JSON: give both sides the same serializer)"
    if isinstance(error, AttributeError) and b"__main__" in body:
        return " (its class is in the script that sent it: put it into a module that both sides import)"
    return ""


def _cause(error: Exception) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - its class may come out of a message and do anything
        text = ""
    return f"{type(error).__name__}: {text[:_LONGEST_CAUSE]}" if text else type(error).__name__


def _text_dumps(message: object) -> str:
    return str(message, "utf-8") if isinstance(message, bytes) else str(message)


def _text_loads(body: bytes) -> str:
    return body.decode()


_pickle_dumps = partial(pickle.dumps, protocol=PICKLE_PROTOCOL)
_json_dumps = json.JSONEncoder(separators=(",", ":")).encode
_PICKLE_CODEC = _codec(PICKLE, "pickle", _pickle_dumps, pickle.loads, framed=True)
_JSON_CODEC = _codec(JSON, "json", _json_dumps, json.loads, framed=False)
_TEXT_CODEC = _codec(TEXT, "text", _text_dumps, _text_loads, framed=False)


def _codec_named(name: str) -> Codec:
    known = {"pickle": _PICKLE_CODEC, "json": _JSON_CODEC, "text": _TEXT_CODEC}
    if name in known:
        return known[name]
    if name == "msgpack":
        return _msgpack()
    usable = "'pickle', 'json', 'text', 'msgpack' or an object with dumps and loads"
    msg = f"unknown serializer {name!r}: use {usable}"
    raise ConfigurationError(msg)


def _msgpack() -> Codec:
    try:
        msgpack = import_module("msgspec.msgpack")
    except ImportError as error:
        msg = "serializer 'msgpack' needs msgspec: pip install 'hotqueue[msgpack]'"
        raise ConfigurationError(msg) from error
    return _codec(MSGPACK, "msgpack", msgpack.encode, msgpack.decode, framed=True)


def _custom(serializer: object) -> Codec:
    dumps, loads = getattr(serializer, "dumps", None), getattr(serializer, "loads", None)
    name = getattr(serializer, "__name__", type(serializer).__name__)
    if callable(dumps) and callable(loads):
        return _codec(OTHER, name, dumps, loads, framed=True)
    msg = f"a serializer needs dumps and loads, {name} has not both: use 'pickle', 'json', or None for text"
    raise ConfigurationError(msg)
