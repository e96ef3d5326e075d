"""What the worker writes to stderr, and how it keeps out of an application's own logging."""

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from hotqueue import events
from hotqueue.delivery import CURRENT, Delivery
from hotqueue.frame import id_text
from hotqueue.worker import journal, logs

log = logging.getLogger("shop.orders")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put back what `configure` and applications change."""
    root, raising = logging.getLogger(), logging.raiseExceptions
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    events.shortcut = None
    root.setLevel(level)
    events.log.handlers.clear()
    events.log.filters.clear()
    events.log.setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def done(**fields: object) -> None:
    events.emit(logging.INFO, events.MESSAGE_DONE, **fields)


ID = bytes(15) + b"\x07"


@contextmanager
def in_a_message() -> Iterator[None]:
    delivery = Delivery("emails", b"", lane=None, handler="send", message_id=ID)  # type: ignore[arg-type]
    token = CURRENT.set(delivery)
    yield
    CURRENT.reset(token)


def test_a_line_is_written_to_its_end_also_where_somebody_has_made_stderr_non_blocking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    monkeypatch.setattr(logs, "_STDERR", write)
    logs.configure("info", "json")
    long = "x" * 200_000  # more than a pipe holds
    with ThreadPoolExecutor() as pool, os.fdopen(read) as reader:
        line = pool.submit(reader.readline)
        log.info(long)
        os.close(write)
        assert json.loads(line.result())["event"] == long


def test_an_event_is_one_json_object_that_begins_with_what_and_when(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    logs.bind(child=3)
    done(queue="emails", duration_ms=1.5, handler=None)
    (line,) = lines(capfd)
    assert list(line) == ["event", "level", "timestamp", "child", "queue", "duration_ms", "pid"]
    assert line["timestamp"].endswith("Z")
    assert (line["event"], line["level"], line["child"]) == ("message.done", "info", 3)
    assert line["pid"] == os.getpid()


def test_an_event_may_name_another_process(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    events.emit(logging.INFO, events.CHILD_STARTED, pid=4711)
    assert lines(capfd)[0]["pid"] == 4711


def test_the_application_s_lines_come_out_in_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log.warning("%d orders", 7, extra={"customer": "Ada"})
    structlog.get_logger("shop").info("ordered", customer="Ada")
    standard, structured = lines(capfd)
    assert (standard["event"], standard["level"], standard["customer"]) == ("7 orders", "warning", "Ada")
    assert (standard["logger"], structured["logger"]) == ("shop.orders", "shop")
    assert (structured["event"], structured["level"], structured["customer"]) == ("ordered", "info", "Ada")
    assert standard["pid"] == structured["pid"] == os.getpid()


def test_within_a_message_the_application_s_lines_say_which(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    logs.bind(child=3)
    with in_a_message():
        log.info("standard")
        structlog.get_logger().info("structured")
        structlog.get_logger().info("its own word", queue="at the post office")
    log.info("outside")
    standard, structured, own, outside = lines(capfd)
    message = {"queue": "emails", "handler": "send", "id": id_text(ID), "child": 3}
    assert message.items() <= standard.items()
    assert message.items() <= structured.items()
    assert own["queue"] == "at the post office"
    assert "queue" not in outside


def test_an_exception_is_a_field(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("no such order")  # noqa: EM101, TRY003, TRY301
    except ValueError as error:
        events.emit(logging.ERROR, events.MESSAGE_BURIED, error=error)
        log.exception("standard")
        structlog.get_logger().exception("structured")
    for line in lines(capfd):
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ValueError: no such order")


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_a_value_that_json_does_not_know_is_shown_as_python_shows_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    done(queue={1}, number=2**80, keys={3: "three"}, text="\udcff")
    (line,) = lines(capfd)
    assert (line["queue"], line["number"], line["keys"]) == ("{1}", 2**80, {"3": "three"})


def test_a_line_that_cannot_be_rendered_says_so_and_nothing_is_raised(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    log.info("what", extra={"value": Unspeakable()})
    log.info("%s", Unspeakable())
    log.info("%d", "no number")
    said = capfd.readouterr().err.splitlines()
    assert said == ["a log line of shop.orders could not be rendered"] * 3


@pytest.mark.parametrize("kind", ["a pipe without a reader", "a full disk"])
def test_what_cannot_be_written_is_dropped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "a full disk":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    logs.configure("info", "json")
    monkeypatch.setattr(logs, "_STDERR", target)
    done()
    log.info("standard")
    os.close(target)


def test_what_lies_below_the_level_is_not_said(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    done()
    log.info("standard")
    structlog.get_logger().info("structured")
    log.warning("loud")
    assert [line["event"] for line in lines(capfd)] == ["loud"]


def test_warnings_are_lines_too(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines(capfd)
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


def test_the_console_form_is_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    done(queue="emails", duration_ms=1.5)
    log.info("standard")
    event, standard = capfd.readouterr().err.splitlines()
    assert event[8:] == " [info     ] message.done       queue=emails duration_ms=1.5"
    assert standard[8:] == " [info     ] standard           [shop.orders]"


def test_by_itself_a_pipe_gets_json(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "auto")
    done()
    assert lines(capfd)[0]["event"] == "message.done"


@pytest.mark.parametrize(
    ("stream", "marks"), [("{0}:{1}", ["<6>", "<3>", "<3>"]), ("{0}:1{1}", ["", "", ""])]
)
def test_journald_alone_is_told_how_bad_each_line_is(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str, marks: list[str]
) -> None:
    stderr = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", stream.format(stderr.st_dev, stderr.st_ino))
    logs.configure("info", "console")
    done()
    log.error("one\ntwo")
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(">")[0] + ">" if line.startswith("<") else "" for line in said] == marks


@pytest.mark.parametrize(
    ("level", "mark"),
    [(50, "<2>"), (40, "<3>"), (35, "<4>"), (30, "<4>"), (20, "<6>"), (10, "<7>"), (0, "<7>")],
)
def test_a_level_has_the_priority_that_syslog_gives_it(level: int, mark: str) -> None:
    assert journal.priority(level) == mark


def test_an_application_that_configured_nothing_gets_our_form(capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers.clear()  # those of pytest
    logs.respect_application("info", "json")
    log.info("standard")
    assert lines(capfd)[0]["event"] == "standard"


def test_an_application_s_structlog_gets_the_events_with_their_fields() -> None:
    said: list[dict[str, Any]] = []

    def keep(_logger: object, method: str, fields: dict[str, Any]) -> str:
        said.append({"method": method, **fields})
        raise structlog.DropEvent

    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    logs.respect_application("info", "json")
    done(queue="emails")
    events.emit(logging.DEBUG, events.CHILD_READY)
    assert said == [{"method": "info", "event": "message.done", "queue": "emails"}]


def test_an_application_s_structlog_that_ends_in_the_standard_library_says_each_event_once() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logging.getLogger().handlers[:] = [handler]
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logs.respect_application("info", "json")
    done(queue="emails")
    assert stream.getvalue() == "hotqueue INFO event='message.done' queue='emails'\n"


def test_a_processor_of_the_application_s_that_raises_does_no_harm() -> None:
    def fail(_logger: object, _method: str, _fields: dict[str, Any]) -> str:
        raise RuntimeError

    structlog.configure(processors=[fail])
    logs.respect_application("info", "json")
    done()


@pytest.mark.parametrize("name", [None, "hotqueue"])
def test_an_application_s_own_handler_gets_the_events_as_text(
    name: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    logging.getLogger().handlers.clear()
    logging.getLogger(name).addHandler(logging.StreamHandler(stream))
    logs.respect_application("info", "json")
    done(queue="emails", duration_ms=1.5)
    events.emit(logging.DEBUG, events.CHILD_READY)
    assert stream.getvalue() == "message.done queue=emails duration_ms=1.5\n"
    assert capfd.readouterr().err == ""
    assert not structlog.is_configured()


def test_a_level_that_the_application_chose_for_us_stays() -> None:
    stream = io.StringIO()
    events.log.addHandler(logging.StreamHandler(stream))
    events.log.setLevel(logging.ERROR)
    logs.respect_application("info", "json")
    done()
    assert stream.getvalue() == ""
