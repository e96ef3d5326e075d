"""``hotqueue dead``: the messages that ended badly, to look at, to retry and to drop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import click

from hotqueue.cli import dead_entry
from hotqueue.cli.access import Access, InOrder, as_json, echo_json, make_sure, with_access, yes
from hotqueue.cli.dead_choice import Choice, choosing
from hotqueue.cli.text import screen_width, some
from hotqueue.dead import DeadLetters, DeadMessage

_SHOWN_BY_DRY_RUN = 20

_dry_run = click.option("--dry-run", is_flag=True, help="Only show what would be done.")
_queue = click.argument("queue")


@click.group(cls=InOrder, invoke_without_command=True)
@click.pass_context
def dead(context: click.Context) -> None:
    """Look at dead messages, retry them and drop them.

    A message is dead when its handler failed for the last time or rejected it, when it crashed its worker too
    often, when it came too late or cannot be read. It stays until somebody decides.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@dead.command("ls")
@_queue
@choosing(limit=20)
@as_json
@with_access
def list_(access: Access, queue: str, *, choice: Choice, as_json: bool) -> None:
    """List the dead messages of QUEUE, the newest first."""
    letters = access.queue(access.check(queue)).dead
    shown = 0
    for message in choice.newest_first(letters):
        shown += 1
        if as_json:
            echo_json(dead_entry.fields(message))
        else:
            click.echo("\n".join(dead_entry.summary(message, screen_width())))
    if not as_json:
        click.echo(f"{shown:,} of {some(len(letters), 'dead message')} of {queue}.")


@dead.command()
@_queue
@choosing(limit=1)
@click.option(
    "--decode", is_flag=True, help="Decode the body, which unpickles: only if you trust who sent it."
)
@as_json
@with_access
def show(access: Access, queue: str, *, choice: Choice, decode: bool, as_json: bool) -> None:
    """Show everything about dead messages of QUEUE, the newest first.

    The body is not decoded without --decode.
    """
    letters = access.queue(access.check(queue)).dead
    shown = 0
    for message in choice.newest_first(letters):
        shown += 1
        if as_json:
            echo_json(dead_entry.all_fields(message, decode=decode))
            continue
        if shown > 1:
            click.echo()
        click.echo("\n".join(dead_entry.details(message, screen_width(), decode=decode)))
    if not shown and not as_json:
        click.echo(f"No such dead message in {queue}.")


@dead.command()
@_queue
@choosing(limit=None)
@_dry_run
@yes
@as_json
@with_access
def retry(access: Access, queue: str, *, choice: Choice, **options: bool) -> None:
    """Put dead messages of QUEUE back at its tail, the oldest first.

    Their counters start anew, and what came without an id goes back without one. Of several messages it says
    how many they are, and asks.
    """
    letters = access.queue(access.check(queue)).dead
    _Deed("retry", "retried", letters.retry, letters, choice, queue).do(**options)


@dead.command()
@_queue
@choosing(limit=None)
@_dry_run
@yes
@as_json
@with_access
def drop(access: Access, queue: str, *, choice: Choice, **options: bool) -> None:
    """Delete dead messages of QUEUE for good.

    Of several messages it says how many they are, and asks.
    """
    letters = access.queue(access.check(queue)).dead
    _Deed("drop", "dropped", letters.drop, letters, choice, queue).do(**options)


@dataclass(frozen=True, slots=True)
class _Deed:
    """Something done to the chosen ones: many are counted first, and somebody is asked."""

    verb: str
    done: str
    act: Callable[[Iterable[DeadMessage] | None], int]
    letters: DeadLetters
    choice: Choice
    queue: str

    def do(self, *, dry_run: bool, yes: bool, as_json: bool) -> None:
        """Do it, or only show what would be done."""
        if dry_run:
            self._rehearse(as_json=as_json)
            return
        # Those with an id are looked for in all of the list, so once is enough.
        named = list(self.choice.oldest_first(self.letters)) if self.choice.ids else None
        if not yes and (count := self._count() if named is None else len(named)) > 1:
            make_sure(f"{self.verb.capitalize()} {some(count, 'dead message')} of {self.queue}?", yes=False)
        every = None if self.choice.is_all else self.choice.oldest_first(self.letters)
        done = self.act(every if named is None else named)
        if as_json:
            echo_json({"queue": self.queue, self.done: done})
        else:
            click.echo(f"{self.done.capitalize()} {some(done, 'message')} of {self.queue}.")

    def _rehearse(self, *, as_json: bool) -> None:
        count = 0
        for message in self.choice.oldest_first(self.letters):
            count += 1
            if not as_json and count <= _SHOWN_BY_DRY_RUN:
                click.echo("\n".join(dead_entry.summary(message, screen_width())))
        if as_json:
            echo_json({"queue": self.queue, self.done: 0, f"would_be_{self.done}": count})
            return
        if count > _SHOWN_BY_DRY_RUN:
            click.echo(f"… and {count - _SHOWN_BY_DRY_RUN:,} more")
        click.echo(f"Would {self.verb} {some(count, 'message')} of {self.queue}; nothing was done.")

    def _count(self) -> int:
        if self.choice.is_all:
            return len(self.letters)
        return sum(1 for _ in self.choice.oldest_first(self.letters))
