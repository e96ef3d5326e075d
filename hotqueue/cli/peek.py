"""``hotqueue peek``: the next messages of a queue, left where they are."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from hotqueue import queue_scripts
from hotqueue.cli import body
from hotqueue.cli.access import Access, as_json, echo_json, with_access
from hotqueue.cli.text import age, fit, printable, screen_width, size
from hotqueue.envelope import id_of, trail_of
from hotqueue.errors import BadMessage
from hotqueue.frame import Frame, enqueued_ms, unpack

_MOST = 1000
_BODY_BYTES = 500
_WHOLE = 1 << 40


@click.command()
@click.argument("queue")
@click.option(
    "-n", "count", type=click.IntRange(1, _MOST), default=10, show_default=True, metavar="N", help="How many."
)
@click.option(
    "--decode",
    is_flag=True,
    help="Decode the bodies, which unpickles: do that only if you trust who sent them.",
)
@as_json
@with_access
def peek(access: Access, queue: str, *, count: int, decode: bool, as_json: bool) -> None:
    """Show the next messages of QUEUE and leave them there.

    Bodies that are text are shown as they are, cut short. Nothing is decoded without --decode.
    """
    access.check(queue)
    with access.pool.lent() as connection:
        found = queue_scripts.peek(connection, queue, count, _WHOLE if decode else _BODY_BYTES)
    if not found and not as_json:
        click.echo(f"Nothing is waiting in {queue}.")
    for raw, body_bytes in found:
        waiting = Waiting.of(queue, raw, body_bytes)
        if as_json:
            echo_json(waiting.fields() | (body.decoded_field(queue, raw, waiting.frame) if decode else {}))
        else:
            click.echo("\n".join(waiting.lines(screen_width(), decode=decode)))


@dataclass(frozen=True, slots=True)
class Waiting:
    """A waiting message; `raw` may have a shortened body, of `size` bytes in truth."""

    queue: str
    raw: bytes
    size: int
    frame: Frame | None

    @classmethod
    def of(cls, queue: str, raw: bytes, size: int) -> "Waiting":
        """Take apart what `peek` returned."""
        try:
            return cls(queue, raw, size, unpack(raw))
        except BadMessage:
            return cls(queue, raw, size, None)

    @property
    def body(self) -> bytes:
        """The body, or its beginning."""
        return self.raw if self.frame is None else self.frame.body

    @property
    def id(self) -> str | None:
        """None for a bare body."""
        return id_of(self.raw)

    @property
    def enqueued_ms(self) -> int | None:
        """By the producer's clock; None for a bare body."""
        return None if self.id is None or self.frame is None else enqueued_ms(self.frame.message_id)

    @property
    def text(self) -> str | None:
        """The body, or its beginning, if it is text."""
        text = body.readable(self.frame, self.body)
        return f"{text}…" if text is not None and len(self.body) < self.size else text

    def lines(self, width: int | None, *, decode: bool) -> list[str]:
        """Return one line of facts, then headers and body as far as there are any."""
        since = None if self.enqueued_ms is None else time.time() - self.enqueued_ms / 1000
        facts = (
            f"{self.id or '-':36}",
            f"{age(since):>5}",
            f"attempt {trail_of(self.raw).attempt}",
            f"{size(self.size):>8}",
            body.serializer_name(self.frame),
        )
        lines = ["  ".join(facts)]
        if headers := body.headers_of(self.frame):
            lines.append("    " + "  ".join(f"{name}={text}" for name, text in headers.items()))
        if decode:
            lines += body.decoded_lines(self.queue, self.raw, self.frame, width)
        elif self.text is not None:
            lines.append(f"    {self.text}")
        return [fit(printable(line), width) for line in lines]

    def fields(self) -> dict[str, Any]:
        """Return what stands in the JSON object."""
        ms = self.enqueued_ms
        return {
            "id": self.id,
            "enqueued_at": None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(),
            "attempt": trail_of(self.raw).attempt,
            "size": self.size,
            "serializer": body.serializer_name(self.frame),
            "headers": body.headers_of(self.frame),
            "text": self.text,
        }
