"""``hotqueue clear``: delete what a queue holds."""

import click

from hotqueue import keys, queue_scripts, stats
from hotqueue.cli.access import Access, make_sure, with_access, yes
from hotqueue.cli.text import some


@click.command()
@click.argument("queue")
@click.option("--all", "everything", is_flag=True, help="Delayed and dead messages as well.")
@yes
@with_access
def clear(access: Access, queue: str, *, everything: bool, yes: bool) -> None:
    """Delete the waiting messages of QUEUE.

    What is in flight is left to its consumers. Unique keys stay taken.
    """
    names = [keys.key_for_name(access.check(queue))]
    if everything:
        names += [keys.delayed(queue), keys.dead(queue)]
    with access.pool.lent() as connection:
        here = stats.look(connection, queue)
    counts = [here.waiting, here.delayed, here.dead][: len(names)]
    if any(counts):
        make_sure(f"Delete {_listed(counts)} of {queue}?", yes=yes)
    with access.pool.lent() as connection:
        counts = queue_scripts.clear(connection, names)
    click.echo(f"Deleted {_listed(counts)} of {queue}.")


def _listed(counts: list[int]) -> str:
    if len(counts) == 1:
        return some(counts[0], "waiting message")
    waiting, delayed, dead = counts
    return f"{waiting:,} waiting, {delayed:,} delayed and {some(dead, 'dead message')}"
