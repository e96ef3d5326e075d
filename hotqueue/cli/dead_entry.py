"""A dead message for people, and for other programs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hotqueue.cli import body
from hotqueue.cli.text import age, fit, moment, printable, size, some
from hotqueue.dead import DeadMessage
from hotqueue.frame import enqueued_ms
from hotqueue.trail import Scalar, Trail

_FIRST_BYTES = 200


def error_line(reason: Mapping[str, Scalar]) -> str:
    """Return in one line why a message is dead."""
    kind, error = str(reason.get("kind", "")), str(reason.get("error", ""))
    if kind in {"", "failed"}:
        return printable(error or kind or "no reason is noted")
    return printable(f"{kind}: {error}" if error else kind)


def attempts(trail: Trail) -> int:
    """Return how often a handler began."""
    return trail.attempt - 1


def summary(message: DeadMessage, width: int | None) -> list[str]:
    """Return two lines: id, when, handler, attempts; and the error."""
    trail = message.trail
    facts = [message.id, moment(message.buried_at), some(attempts(trail), "attempt")]
    if handler := trail.reason.get("handler"):
        facts.insert(2, str(handler))
    return [fit(printable("  ".join(facts)), width), fit(f"    {error_line(trail.reason)}", width)]


def details(message: DeadMessage, width: int | None, *, decode: bool) -> list[str]:
    """Return everything that is known."""
    trail, frame = message.trail, message.frame
    rows = [
        ("id", message.id + (" (given at its burial: it came bare)" if message.is_bare else "")),
        ("queue", message.queue),
        ("enqueued", "" if message.is_bare else _since(message)),
        ("buried", moment(message.buried_at)),
        ("handler", str(trail.reason.get("handler", ""))),
        ("attempts", _attempts(trail)),
        ("error", error_line(trail.reason)),
        *((name, str(value)) for name, value in trail.reason.items() if name not in _SHOWN),
        *(("header", f"{name}={value}") for name, value in body.headers_of(frame).items()),
        ("body", f"{size(len(frame.body))}, {body.serializer_name(frame)}"),
        ("", _first_bytes(frame.body)),
    ]
    lines = [f"{printable(name):10} {printable(value)}" for name, value in rows if value]
    if decode:
        lines += ["decoded", *body.decoded_lines(message.queue, message.raw, frame, width)]
    if traceback := trail.reason.get("traceback"):
        lines += [printable(line) for line in str(traceback).splitlines()]
    return lines


def fields(message: DeadMessage) -> dict[str, Any]:
    """Return what stands in the JSON object of a list."""
    trail = message.trail
    return {
        "id": message.id,
        "queue": message.queue,
        "buried_at": message.buried_at.isoformat(),
        "kind": trail.reason.get("kind"),
        "handler": trail.reason.get("handler"),
        "attempts": attempts(trail),
        "error": trail.reason.get("error"),
        "size": len(message.frame.body),
    }


def all_fields(message: DeadMessage, *, decode: bool) -> dict[str, Any]:
    """Return what stands in the JSON object of one message."""
    trail, frame = message.trail, message.frame
    more = body.decoded_field(message.queue, message.raw, frame) if decode else {}
    return {
        **fields(message),
        "bare": message.is_bare,
        "enqueued_at": None if message.is_bare else _enqueued(message).astimezone(UTC).isoformat(),
        "failures": trail.failures,
        "crashes": [datetime.fromtimestamp(at / 1000, UTC).isoformat() for at in trail.crashes],
        "interruptions": trail.interruptions,
        "reason": dict(trail.reason),
        "headers": body.headers_of(frame),
        "serializer": body.serializer_name(frame),
        "body": _first_bytes(frame.body),
        **more,
    }


_SHOWN = {"kind", "error", "handler", "traceback", "at"}


def _attempts(trail: Trail) -> str:
    kinds = {"failure": trail.failures, "crash": len(trail.crashes), "interruption": trail.interruptions}
    counted = ", ".join(some(n, name, "crashes" if name == "crash" else "") for name, n in kinds.items() if n)
    return f"{attempts(trail)} ({counted})" if counted else str(attempts(trail))


def _enqueued(message: DeadMessage) -> datetime:
    return datetime.fromtimestamp(enqueued_ms(message.frame.message_id) / 1000, UTC)


def _since(message: DeadMessage) -> str:
    before = (message.buried_at - _enqueued(message)).total_seconds()
    return f"{moment(_enqueued(message))}, {age(before)} before"


def _first_bytes(raw: bytes) -> str:
    return repr(raw[:_FIRST_BYTES]) + ("…" if len(raw) > _FIRST_BYTES else "")
