"""What options of `hotqueue-worker` take: on the command line, in the environment, in pyproject.toml."""

import math

import click

from hotqueue.embedded import DEFAULT_DIR
from hotqueue.errors import ConfigurationError
from hotqueue.worker import policy
from hotqueue.worker.settings import QueueChoice, parse_queues

USUAL_DIR = str(DEFAULT_DIR)
_SWITCH = {"1": USUAL_DIR, "true": USUAL_DIR, "yes": USUAL_DIR, "0": None, "false": None, "no": None}


def concurrency(_context: click.Context, _option: click.Parameter, value: object) -> tuple[int, str]:
    """Read a number from 1, `auto`, or nothing; return the number and why it is that."""
    if value is None:
        return policy.default_concurrency()
    text = str(value)
    if text == "auto":
        return policy.usable_cpus()
    if not text.isdecimal() or int(text) < 1:
        msg = f"{text!r} is neither a whole number from 1 nor auto"
        raise click.BadParameter(msg)
    return int(text), "as told"


def queues(_context: click.Context, _option: click.Parameter, value: object) -> QueueChoice:
    """Read `a,b` or `critical=5,default=1`."""
    if value is None:
        return QueueChoice()
    if not isinstance(value, str):
        msg = f"{value!r} is not text: write it as on the command line"
        raise click.BadParameter(msg)
    try:
        return parse_queues(value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Refuse nan: nothing compares with it, so it would be no limit at all."""
    if math.isnan(value):
        msg = "nan is not a number of seconds"
        raise click.BadParameter(msg)
    return value


def folder(_context: click.Context, _option: click.Parameter, value: object) -> str | None:
    """Read a folder, or a yes for the usual one: a variable cannot be set without a value."""
    return None if value is None else _SWITCH.get(str(value).lower(), str(value))
