"""Which dead messages a command is about: the options that choose them."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import click

from hotqueue.cli.access import Duration
from hotqueue.cli.dead_entry import error_line
from hotqueue.dead import DeadLetters, DeadMessage
from hotqueue.errors import ConfigurationError, HotQueueError


@dataclass(frozen=True, slots=True)
class Choice:
    """What all chosen messages have in common; `limit` None is any number."""

    error: str | None = None
    handler: str | None = None
    since: datetime | None = None
    ids: tuple[UUID, ...] = ()
    limit: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == _ALL

    def oldest_first(self, dead: DeadLetters) -> Iterator[DeadMessage]:
        """Yield what is chosen, as it is to be retried."""
        found = self._by_id(dead) if self.ids else dead.since(self.since)
        return islice(filter(self.matches, found), self.limit)

    def newest_first(self, dead: DeadLetters) -> Iterator[DeadMessage]:
        """Yield what is chosen, as it is to be looked at."""
        found = self._by_id(dead) if self.ids else self._newest(dead)
        return islice(filter(self.matches, found), self.limit)

    def matches(self, message: DeadMessage) -> bool:
        """Tell whether it is one of them."""
        if self.since is not None and message.buried_at < self.since:
            return False
        if self.error is None and self.handler is None:
            return True
        reason = message.reason
        return (self.handler is None or reason.get("handler") == self.handler) and (
            self.error is None or self.error.casefold() in error_line(reason).casefold()
        )

    def _newest(self, dead: DeadLetters) -> Iterator[DeadMessage]:
        for message in reversed(dead):
            if self.since is not None and message.buried_at < self.since:
                return
            yield message

    def _by_id(self, dead: DeadLetters) -> list[DeadMessage]:
        """Return all of them or none: a list with a mistake in it is not worked off by half."""
        found = []
        for wanted in dict.fromkeys(self.ids):
            message = dead.get(str(wanted))
            if message is None:
                msg = f"no dead message has the id {wanted}"
                raise HotQueueError(msg)
            found.append(message)
        return found


_ALL = Choice()


def choosing(limit: int | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options, and its function a Choice; `limit` is the default of --limit."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--error", metavar="TEXT", help="With TEXT in the error, in any case.")
        @click.option("--handler", metavar="NAME", help="Of this handler.")
        @click.option(
            "--since", type=Since(), metavar="TIME", help="Buried in the last 2h, or since 2026-01-31T12:00."
        )
        @click.option(
            "--id", "ids", type=click.UUID, multiple=True, metavar="ID", help="This one; may be repeated."
        )
        @click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=limit is not None,
            metavar="N",
            help="So many at most.",
        )
        @functools.wraps(command)
        def run(*args: Any, **options: Any) -> Any:
            choice = Choice(
                **{name: options.pop(name) for name in ("error", "handler", "since", "ids", "limit")}
            )
            return command(*args, choice=choice, **options)

        return run

    return decorate


class Since(click.ParamType[datetime]):
    """A time span before now, or a moment; without a zone in it, the zone of this machine."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment."""
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            pass
        try:
            return datetime.now(UTC) - timedelta(seconds=Duration().convert(value, param, ctx))
        except (click.UsageError, ConfigurationError, OverflowError):
            self.fail(
                f"{value!r} is neither a time span such as 2h nor a moment such as 2026-01-31T12:00",
                param,
                ctx,
            )
