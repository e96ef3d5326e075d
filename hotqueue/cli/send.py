"""``hotqueue send``: one message from the command line."""

import contextlib
import json
import sys
from typing import Any, NoReturn

import click

from hotqueue import keys
from hotqueue.cli.access import Access, Duration, with_access
from hotqueue.errors import ConfigurationError, Refused


@click.command()
@click.argument("queue")
@click.argument("text", metavar="JSON")
@click.option("--delay", type=Duration(), metavar="SECONDS", help="Not before then: 30, 10m, 2h, 1d.")
@click.option("--front", is_flag=True, help="At the head of the queue.")
@click.option(
    "--unique", metavar="KEY", help="Nothing is sent if a message with this KEY was, within the last hour."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=TEXT", help="A header; may be repeated.")
@with_access
def send(access: Access, queue: str, text: str, *, headers: tuple[str, ...], **terms: Any) -> None:
    """Send a message to QUEUE and print its id.

    JSON may be - to read it from stdin. Handlers get what Python makes of it, whatever the serializer of the
    queue is. With --unique the id may be that of the first message with this KEY.
    """
    keys.check_name(queue)
    message = parse(sys.stdin.buffer.read() if text == "-" else text)
    if terms["front"] and terms["delay"] is not None:
        msg = "--front is for messages that are due now: leave out --delay"
        raise click.UsageError(msg, click.get_current_context())
    message_id = access.queue(queue, "json").send(message, headers=dict(map(_header, headers)), **terms)
    with contextlib.suppress(Refused):  # a producer's user need not be allowed to make it known
        access.pool.call("SADD", keys.QUEUES, queue)
    click.echo(message_id)


def parse(text: str | bytes) -> object:
    """Return what JSON says. Raises ConfigurationError for what is not JSON, NaN and Infinity included."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON ({error}): a text needs double quotes, as in '\"hello\"'"
        raise ConfigurationError(msg) from error


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _header(words: str) -> tuple[str, str]:
    name, equals, text = words.partition("=")
    if not name or not equals:
        msg = f"--header {words!r}: write NAME=TEXT"
        raise click.UsageError(msg, click.get_current_context())
    return name, text
