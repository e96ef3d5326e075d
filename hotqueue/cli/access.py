"""What the subcommands have in common: the way to Redis, the queues there, and options that many take."""

import difflib
import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from hotqueue import HotQueue, durations, keys
from hotqueue.address import DEFAULT_URL, Address
from hotqueue.cli.finder import Finder, queue_name
from hotqueue.cli.text import printable
from hotqueue.connection import CONSUMER_TIMEOUT_S
from hotqueue.errors import ConfigurationError, HotQueueError
from hotqueue.pool import Pool

_MOST_NAMED = 20


class Access:
    """One Redis server, as the command line names it."""

    def __init__(self, url: str | None) -> None:
        """Raises ConfigurationError for a URL that cannot be used."""
        self.url = url
        self.address = Address.default() if url is None else Address.from_url(url)
        self.pool = Pool(self.address, CONSUMER_TIMEOUT_S)
        self.finder = Finder(self.pool)

    def known(self) -> list[str]:
        """Return the names of the queues that a worker or `hotqueue send` has used, in order."""
        return sorted(filter(None, map(queue_name, self.pool.call("SMEMBERS", keys.QUEUES))))

    def all(self) -> list[str]:
        """Return those names and what else the finder has found until now, in order."""
        known = self.known()
        return sorted({*known, *self.finder.look(known)})

    def check(self, name: str) -> str:
        """Return the name of a queue that exists. Raises ConfigurationError for any other."""
        if self.exists(name):
            return name
        msg = f"there is no queue {printable(name)!r} at {self.address}: {self.instead_of(name)}"
        raise ConfigurationError(msg)

    def exists(self, name: str) -> bool:
        """Tell whether there is a trace of that queue. Raises ConfigurationError for what cannot be one."""
        keys.check_name(name)
        traces = (
            keys.key_for_name(name),
            keys.delayed(name),
            keys.dead(name),
            keys.counters(name),
            keys.paused(name),
        )
        return bool(self.pool.call("EXISTS", *traces) or self.pool.call("SISMEMBER", keys.QUEUES, name))

    def instead_of(self, name: str) -> str:
        """Return what to say of a name that no queue has: which one is meant, or which there are."""
        names = self.all()
        if near := difflib.get_close_matches(name, names, n=1):
            return f"did you mean {printable(near[0])!r}?"
        if not names:
            return "none is known there"
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return printable(f"there are {', '.join(names[:_MOST_NAMED])}{more}")

    def queue(self, name: str, serializer: object = "pickle") -> HotQueue:
        """Return that queue."""
        return HotQueue(name, serializer, url=self.url, envelope=True)


class InOrder(click.Group):
    """Lists its commands as they were added: what one needs most comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        del ctx
        return list(self.commands)


def with_access(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --url, and its function an Access as first argument."""

    @click.option(
        "-u",
        "--url",
        metavar="URL",
        allow_from_autoenv=False,
        help=f"Where Redis is.  [default: HOTQUEUE_URL, REDIS_URL, then {DEFAULT_URL}]",
    )
    @functools.wraps(command)
    def run(*args: Any, url: str | None, **options: Any) -> Any:
        return command(Access(url), *args, **options)

    return run


as_json = click.option("-j", "--json", "as_json", is_flag=True, help="Write JSON.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


def echo_json(value: object) -> None:
    """Write one line of JSON in ASCII, safe for any terminal."""
    click.echo(json.dumps(value, default=repr))


def make_sure(question: str, *, yes: bool) -> None:
    """Ask on a terminal; without one, --yes has to stand on the command line."""
    if yes:
        return
    if not sys.stdin.isatty():
        msg = f"{question} Without a terminal to ask on, say --yes."
        raise click.UsageError(msg, click.get_current_context())
    if not click.confirm(question, err=True):
        msg = "nothing was done"
        raise HotQueueError(msg)


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: 30s, 10m, 2h, 1d."""

    name = "duration"

    def __init__(self, least: float = 0.0) -> None:
        """`least` is in seconds."""
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        seconds = durations.parsed(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no time span: use 30s, 10m, 2h or 1d", param, ctx)
        if seconds < self._least:
            self.fail(f"{value!r} is too short: {self._least:g}s is the least", param, ctx)
        return seconds
