"""``hotqueue pause`` and ``hotqueue resume``."""

import click

from hotqueue import keys
from hotqueue.cli.access import Access, Duration, with_access
from hotqueue.cli.text import age


@click.command()
@click.argument("queue")
@click.option(
    "--for", "seconds", type=Duration(), metavar="TIME", help="End by itself after 30s, 10m, 2h, 1d."
)
@with_access
def pause(access: Access, queue: str, *, seconds: float | None) -> None:
    """Have workers take nothing more from QUEUE.

    What runs is finished, and producers go on. It takes effect within about a second, and concerns handlers
    only: dequeue() and consume() know no pause. A queue may be paused before anything has used it.
    """
    if seconds is not None and seconds < 1:
        msg = "--for must be at least a second; hotqueue resume ends a pause"
        raise click.UsageError(msg, click.get_current_context())
    unused = "" if access.exists(queue) else f"Nothing has used it yet: {access.instead_of(queue)}"
    access.queue(queue).pause(seconds)
    until = f"until hotqueue resume {queue}" if seconds is None else f"for {age(seconds)}"
    click.echo(f"{queue} is paused {until}.")
    if unused:
        click.echo(unused)


@click.command()
@click.argument("queue")
@with_access
def resume(access: Access, queue: str) -> None:
    """End the pause of QUEUE."""
    was_paused = access.pool.call("DEL", keys.paused(access.check(queue)))
    click.echo(f"{queue} goes on." if was_paused else f"{queue} was not paused.")
