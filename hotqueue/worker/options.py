"""What options of `hotqueue-worker` take: on the command line, in the environment, in pyproject.toml."""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from hotqueue import durations, status
from hotqueue.embedded import DEFAULT_DIR
from hotqueue.errors import ConfigurationError
from hotqueue.pace import MOST
from hotqueue.worker import policy
from hotqueue.worker.settings import QueueChoice, parse_queues

MOST_CHILDREN = 1000
MOST_PORT = 65535
LOOPBACK = "127.0.0.1"
LONGEST_NAME = 100
PREFIX = "HOTQUEUE_"
_READ_BY_LIBRARY = {"ENVELOPE", "SECRET", "STRICT"}
_ALIKE = 0.8  # of 1; Kubernetes injects HOTQUEUE_METRICS_PORT, and applications have variables of their own
USUAL_DIR = str(DEFAULT_DIR)
_SWITCH = {"1": USUAL_DIR, "true": USUAL_DIR, "yes": USUAL_DIR, "0": None, "false": None, "no": None}


class Seconds(click.FloatRange):
    """A length of time, within limits."""

    name = "number of seconds: write 30, or 30s, 10m, 2h, 1d"  # what click would tell a user it is not

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        seconds = durations.parsed(str(value))
        return super().convert(value if seconds is None else seconds, param, ctx)


def concurrency(_context: click.Context, _option: click.Parameter, value: object) -> tuple[int, str]:
    """Read a number from 1, `auto`, or nothing; return the number and why it is that."""
    if value is None:
        return policy.default_concurrency()
    text = str(value)
    if text == "auto":
        return policy.usable_cpus()
    digits = text.lstrip("0")
    if not text.isdecimal() or not digits:
        msg = f"{text!r} is neither a whole number from 1 nor auto"
        raise click.BadParameter(msg)
    if len(digits) > len(str(MOST_CHILDREN)) or int(digits) > MOST_CHILDREN:
        msg = f"one worker has {MOST_CHILDREN} children at most: start several"
        raise click.BadParameter(msg)
    return int(digits), "as told"


def prefetch(_context: click.Context, _option: click.Parameter, value: object) -> int | None:
    """Read a number from 1, or `auto`, which is None."""
    text = "auto" if value is None else str(value)
    if text == "auto":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        msg = f"{text!r} is neither a whole number from 1 to {MOST} nor auto"
        raise click.BadParameter(msg)
    return int(text)


def queues(_context: click.Context, _option: click.Parameter, value: object) -> QueueChoice:
    """Read `a,b` or `critical=5,default=1`."""
    if value is None:
        return QueueChoice()
    try:
        return parse_queues(str(value))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def number(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    """Refuse nan: nothing compares with it, so it would be no limit at all."""
    if value is not None and math.isnan(value):
        msg = "nan is no number"
        raise click.BadParameter(msg)
    return value


def name(_context: click.Context, _option: click.Parameter, value: str | None) -> str:
    """Read what a file can be called; nothing is the name of the host."""
    if value is None:
        return status.default_name()
    if not value.isprintable() or "/" in value or value.startswith(".") or not 0 < len(value) <= LONGEST_NAME:
        msg = f"{value!r} cannot name a file: letters, digits, - and _ can"
        raise click.BadParameter(msg)
    return value


def address(_context: click.Context, _option: click.Parameter, value: object) -> tuple[str, int] | None:
    """Read `9100`, `0.0.0.0:9100` or `[::1]:9100`."""
    if value is None:
        return None
    host, _, port = str(value).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        port = ""
    if not port.isdecimal() or len(port) > len(str(MOST_PORT)) or not 0 < int(port) <= MOST_PORT:
        msg = f"{value!r} is no address: write a port, as 9100, or 0.0.0.0:9100, or [::]:9100"
        raise click.BadParameter(msg)
    return host or LOOPBACK, int(port)


def of_itself(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a worker is known to others."""
    path = click.Path(dir_okay=False)
    pid = click.option("--pid", type=path, metavar="FILE", help="Write the supervisor's pid there.")
    named = click.option(
        "-n",
        "--name",
        callback=name,
        metavar="NAME",
        help="What this worker is called in the status file and by hotqueue workers.  [default: the host's]",
    )
    status_file = click.option(
        "--status-file",
        type=path,
        metavar="PATH",
        help="Where hotqueue health finds how it is.  [default: NAME.json in the runtime folder]",
    )
    served = click.option(
        "--metrics",
        type=click.UNPROCESSED,
        callback=address,
        metavar="[HOST:]PORT",
        help="Serve /metrics for Prometheus, /live and /ready there; HOST is 127.0.0.1 if it is left out."
        "  [default: off]",
    )
    return named(status_file(pid(served(command))))


def folder(_context: click.Context, _option: click.Parameter, value: object) -> str | None:
    """Read a folder, or a yes for the usual one: a variable cannot be set without a value."""
    return None if value is None else _SWITCH.get(str(value).lower(), str(value))


def misspelled(environment: Iterable[str], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield variables that nothing reads and that look like one of these options', and which that is."""
    read = {name.upper() for name in names} | _READ_BY_LIBRARY
    for variable in sorted(environment):
        word = variable.removeprefix(PREFIX)
        if word == variable or word in read:
            continue
        for near in difflib.get_close_matches(word, read, n=1, cutoff=_ALIKE):
            yield variable, f"{PREFIX}{near}"
