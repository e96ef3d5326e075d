"""Logs of the worker: one line on stderr is one event. JSON in a pipe, calm colours on a terminal.

The library logs to the standard `hotqueue` logger. Here a handler renders that, the application's own
standard-library lines, and structlog's, all in one way; unless the application has configured logging itself.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable

import structlog
from structlog.typing import EventDict, Processor

from hotqueue import events
from hotqueue.delivery import current
from hotqueue.events import Event

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_STDERR = 2


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


def configure(level: str, form: str) -> None:
    """Render everything that is logged in this process to stderr. `form` is json, console or auto."""
    logging.raiseExceptions = False
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_delivery,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *chain,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*chain, _unfold_event],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def respect_application(level: str, form: str) -> None:
    """Configure unless the application has: then its own configuration gets our events."""
    if structlog.is_configured():
        events.log.addHandler(_ToStructlog())
        events.log.setLevel(level.upper())
        events.log.propagate = False
    elif logging.getLogger().handlers or events.log.handlers:
        if events.log.level == logging.NOTSET:
            events.log.setLevel(level.upper())
    else:
        configure(level, form)


def bind(**fields: object) -> None:
    """Put fields on every line of this process."""
    structlog.contextvars.bind_contextvars(**fields)


class _ToStructlog(logging.Handler):
    """Hands our events to an application's structlog, which knows nothing of the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.msg.fields if isinstance(record.msg, Event) else {}
        name = record.msg.name if isinstance(record.msg, Event) else record.getMessage()
        with contextlib.suppress(Exception):
            structlog.get_logger("hotqueue").log(record.levelno, name, exc_info=record.exc_info, **fields)


def _renderers(form: str) -> list[Processor]:
    if form == "console" or (form == "auto" and sys.stderr is not None and sys.stderr.isatty()):
        colors = not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()
        return [_short_time, structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=18, sort_keys=False)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]


def _json(fields: EventDict, default: Callable[[object], object] = repr) -> str:
    if orjson is not None:
        with contextlib.suppress(TypeError):  # such as an integer of more than 64 bits
            return orjson.dumps(fields, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
    return json.dumps(fields, default=default, ensure_ascii=False)


def _add_delivery(_logger: object, _method: str, fields: EventDict) -> EventDict:
    delivery = current()
    if delivery is not None:
        fields.setdefault("queue", delivery.queue)
        fields.setdefault("handler", delivery.handler)
        if delivery.id is not None:
            fields.setdefault("id", delivery.id)
    return fields


def _unfold_event(_logger: object, _method: str, fields: EventDict) -> EventDict:
    record: logging.LogRecord = fields["_record"]
    if isinstance(record.msg, Event):
        fields.update(record.msg.fields)
        fields["event"] = record.msg.name
        del fields["logger"]
    fields.setdefault("pid", record.process)
    return fields


def _short_time(_logger: object, _method: str, fields: EventDict) -> EventDict:
    fields["timestamp"] = str(fields["timestamp"])[11:19]
    fields.pop("pid", None)
    return fields
