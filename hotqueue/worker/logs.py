"""Logs of the worker: one line on stderr is one event. JSON in a pipe, calm colours on a terminal.

The library logs to the standard `hotqueue` logger. Here a handler renders that, the application's own
standard-library lines, and structlog's, all in one way; unless the application has configured logging itself.
"""

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from hotqueue import events
from hotqueue.delivery import current
from hotqueue.events import Event

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_STDERR = 2
_EVENT_WIDTH = 18


class StderrHandler(logging.Handler):
    """Writes each line with one system call. A closed pipe or a full disk must not stop the work."""

    def emit(self, record: logging.LogRecord) -> None:
        """Render and write; what cannot be written is dropped."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a __str__ of the application's may raise anything
            line = f"a log line of {record.name} could not be rendered\n".encode()
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(_STDERR, line) :]


class _Lines(ProcessorFormatter):
    """Renders our own events on a short path: at full speed each message has one."""

    def format(self, record: logging.LogRecord) -> str:
        event = record.msg
        if not isinstance(event, Event):
            return super().format(record)
        fields: EventDict = {
            "event": event.name,
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat()[: -len("+00:00")] + "Z",
            **structlog.contextvars.get_contextvars(),
            **event.fields,
        }
        fields.setdefault("pid", record.process)  # an event of the supervisor's may name another
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        rendered: str = _rendered(self.processors[1:], fields)  # nothing to remove for the first one
        return rendered


def configure(level: str, form: str) -> None:
    """Render everything that is logged in this process to stderr. `form` is json, console or auto."""
    logging.raiseExceptions = False
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *chain, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = StderrHandler()
    meta = ProcessorFormatter.remove_processors_meta
    handler.setFormatter(_Lines(foreign_pre_chain=chain, processors=[meta, *_renderers(form)]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def respect_application(level: str, form: str) -> None:
    """Configure unless the application has: then its own configuration gets our events."""
    if structlog.is_configured():
        events.log.addFilter(_to_structlog)
        events.log.setLevel(level.upper())
    elif logging.getLogger().handlers or events.log.handlers:
        if events.log.level == logging.NOTSET:
            events.log.setLevel(level.upper())
    else:
        configure(level, form)


def bind(**fields: object) -> None:
    """Put fields on every line of this process."""
    structlog.contextvars.bind_contextvars(**fields)


def _to_structlog(record: logging.LogRecord) -> bool:
    """Hand our events to an application's structlog, which may know nothing of the standard library.

    If it ends there all the same, the event comes by once more, by then as a line of text.
    """
    if not isinstance(record.msg, Event):
        return True
    fields = dict(record.msg.fields)
    if record.exc_info:
        fields["exc_info"] = record.exc_info
    with contextlib.suppress(Exception):  # a processor of the application's may raise anything
        getattr(structlog.get_logger("hotqueue"), record.levelname.lower())(record.msg.name, **fields)
    return False


def _renderers(form: str) -> list[Processor]:
    on_terminal = os.isatty(_STDERR)
    if form == "console" or (form == "auto" and on_terminal):
        colors = on_terminal and not os.environ.get("NO_COLOR")
        return [_for_people, structlog.dev.ConsoleRenderer(_EVENT_WIDTH, colors=colors, sort_keys=False)]
    return [structlog.processors.format_exc_info, _json_line]


def _rendered(processors: Sequence[Processor], fields: EventDict) -> Any:
    rendered: Any = fields
    for processor in processors:
        rendered = processor(None, fields["level"], rendered)
    return rendered


def _json_line(_logger: object, _method: str, fields: EventDict) -> str:
    first = {name: fields.pop(name) for name in ("event", "level", "timestamp") if name in fields}
    ordered = {**first, **fields}
    if orjson is not None:
        with contextlib.suppress(TypeError):  # such as an integer of more than 64 bits
            return orjson.dumps(ordered, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    return json.dumps(ordered, default=repr, ensure_ascii=False)


def _add_context(_logger: object, _method: str, fields: EventDict) -> EventDict:
    """Say in which process a line of the application's was written, and for which message."""
    delivery = current()
    if delivery is not None:
        fields.setdefault("queue", delivery.queue)
        fields.setdefault("handler", delivery.handler)
        if delivery.id is not None:
            fields.setdefault("id", delivery.id)
    fields.setdefault("pid", os.getpid())
    return fields


def _for_people(_logger: object, _method: str, fields: EventDict) -> EventDict:
    fields["timestamp"] = str(fields["timestamp"])[11:19]
    if fields.get("pid") == os.getpid():
        del fields["pid"]
    return fields
