"""Logs of the worker: one line on stderr is one event. JSON in a pipe, calm colours on a terminal.

The library logs to the standard `hotqueue` logger. Here a handler renders that, the application's own
standard-library lines, and structlog's, all in one way; unless the application has configured logging itself.
"""

import contextlib
import functools
import json
import logging
import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from hotqueue import events
from hotqueue.delivery import current
from hotqueue.events import Event
from hotqueue.worker import journal

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

_STDERR = 2
_EVENT_WIDTH = 18


class StderrHandler(logging.Handler):
    """Writes each line by itself. A closed pipe or a full disk must not stop the work."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` takes a line."""
        super().__init__()
        self._write = write
        self._for_journal = journal.is_listening()

    def emit(self, record: logging.LogRecord) -> None:
        """Render and write; what cannot be written is dropped."""
        self._put(record.levelno, self._text(record).encode("utf-8", "backslashreplace"))

    def _text(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except BaseException:  # noqa: BLE001 - a __str__ of the application's may raise anything
            if record.exc_info is None:
                return f"a log line of {record.name} could not be rendered"
            record.exc_info = None  # that may be what could not be
            return self._text(record)

    def write_json(self, level: int, name: str, fields: Mapping[str, object]) -> bool:
        """Write one of our own events without a log record, unless somebody else wants to see records."""
        root = logging.root
        if root.handlers != [self] or events.log.handlers or events.log.filters or self.filters:
            return False
        line = _line(name, logging.getLevelName(level), time.time(), fields)
        if "pid" not in line:
            line["pid"] = os.getpid()
        self._put(level, _json(line))
        return True

    def _put(self, level: int, line: bytes) -> None:
        if self._for_journal:
            mark = journal.priority(level).encode()
            line = mark + line.replace(b"\n", b"\n" + mark)  # to journald each is one of its own
        self._write(line + b"\n")


class _Lines(ProcessorFormatter):
    """Renders our own events on a short path: at full speed each message has one."""

    def format(self, record: logging.LogRecord) -> str:
        event = record.msg
        if not isinstance(event, Event):
            return super().format(record)
        fields = _line(event.name, record.levelname, record.created, event.fields)
        fields.setdefault("pid", record.process)  # an event of the supervisor's may name another
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        rendered: str = _rendered(self.processors[1:], fields)  # nothing to remove for the first one
        return rendered


def to_stderr(line: bytes) -> None:
    """Write a line, with one system call if all goes well."""
    try:
        while line:
            try:
                line = line[os.write(_STDERR, line) :]
            except BlockingIOError:  # for whoever shares it with us it must not block: we can wait
                select.select((), (_STDERR,), ())  # poll(2) of macOS knows no terminals
    except OSError:
        pass


def configure(level: str, form: str, write: Callable[[bytes], None] = to_stderr) -> None:
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
    handler = StderrHandler(write)
    meta = ProcessorFormatter.remove_processors_meta
    handler.setFormatter(_Lines(foreign_pre_chain=chain, processors=[meta, *_renderers(form)]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    events.shortcut = None if _is_for_people(form) else handler.write_json
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def respect_application(level: str, form: str) -> None:
    """Configure unless the application has: then its own configuration gets our events."""
    events.log.disabled = False  # by `dictConfig` and `fileConfig`, like every logger that is older than they
    if structlog.is_configured():
        processors = structlog.get_config()["processors"]
        if isinstance(processors, list):
            processors.insert(0, _add_message)  # in place: loggers that are bound already use this list
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


def _is_for_people(form: str) -> bool:
    return form == "console" or (form == "auto" and os.isatty(_STDERR))


def _renderers(form: str) -> list[Processor]:
    if _is_for_people(form):
        colors = os.isatty(_STDERR) and not os.environ.get("NO_COLOR")
        # Where rich is installed, structlog would else show local variables, and with them the message.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(
            _EVENT_WIDTH, colors=colors, sort_keys=False, exception_formatter=plain
        )
        return [_for_people, renderer]
    return [structlog.processors.format_exc_info, _json_line]


def _rendered(processors: Sequence[Processor], fields: EventDict) -> Any:
    rendered: Any = fields
    for processor in processors:
        rendered = processor(None, fields["level"], rendered)
    return rendered


def _json_line(_logger: object, _method: str, fields: EventDict) -> str:
    first = {name: fields.pop(name) for name in ("event", "level", "timestamp") if name in fields}
    return _json({**first, **fields}).decode()


def _json(fields: EventDict) -> bytes:
    if orjson is not None:
        try:
            return orjson.dumps(fields, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # such as an integer of more than 64 bits
            pass
    return json.dumps(fields, default=repr, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _line(name: str, level: str, at_s: float, fields: Mapping[str, object]) -> EventDict:
    return {
        "event": name,
        "level": level.lower(),
        "timestamp": f"{_second(int(at_s))}.{int(at_s % 1 * 1e6):06d}Z",
        **structlog.contextvars.get_contextvars(),
        **fields,
    }


@functools.lru_cache(maxsize=1)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()[: -len("+00:00")]


def _add_context(logger: object, method: str, fields: EventDict) -> EventDict:
    """Say in which process a line of the application's was written, and for which message."""
    _add_message(logger, method, fields)
    fields.setdefault("pid", os.getpid())
    return fields


def _add_message(_logger: object, _method: str, fields: EventDict) -> EventDict:
    delivery = current()
    if delivery is not None:
        fields.setdefault("queue", delivery.queue)
        fields.setdefault("handler", delivery.handler)
        if delivery.id is not None:
            fields.setdefault("id", delivery.id)
    return fields


def _for_people(_logger: object, _method: str, fields: EventDict) -> EventDict:
    fields["timestamp"] = str(fields["timestamp"])[11:19]
    if fields.get("pid") == os.getpid():
        del fields["pid"]
    return fields
