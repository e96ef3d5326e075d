"""``hotqueue doctor``: whether Redis is set up so that nothing is lost, and the ACL rules for it."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict

import click

from hotqueue import keys
from hotqueue.cli.access import Access, as_json, echo_json, with_access
from hotqueue.cli.checks import Finding, examine
from hotqueue.cli.rights import ROLES
from hotqueue.cli.text import printable, screen_width
from hotqueue.errors import Refused

_A_QUEUE = "default"
_INDENT = " " * 16


@click.command()
@click.option(
    "--acl",
    "role",
    type=click.Choice(list(ROLES)),
    help="Print the command that makes a Redis user with just the rights for this, and end.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="For this queue; may be repeated.  [default: every queue]",
)
@as_json
@with_access
def doctor(access: Access, *, role: str | None, queues: tuple[str, ...], as_json: bool) -> int:
    """Check whether Redis is set up right for HotQueue.

    Each line says ok, warn or bad, and what to do. Ends with code 1 if anything is bad.
    """
    for queue in queues:
        keys.check_name(queue)
    if role is not None:
        rule = ROLES[role].rule(queues)
        if as_json:
            echo_json({"role": role, "rule": rule})
        else:
            click.echo(rule)
        return 0
    findings = _examine(access, queues)
    if as_json:
        echo_json({"address": str(access.address), "findings": [asdict(each) for each in findings]})
    else:
        click.echo("\n".join(line for each in findings for line in _lines(each, screen_width())))
    return int(any(each.level == "bad" for each in findings))


def _examine(access: Access, queues: Sequence[str]) -> list[Finding]:
    with access.pool.lent() as connection:
        try:
            queue = next(iter(queues or access.known()), _A_QUEUE)
        except Refused:
            queue = _A_QUEUE
        return [Finding("ok", "redis", f"reached at {access.address}"), *examine(connection, queue)]


def _lines(finding: Finding, width: int | None) -> list[str]:
    todo = f" -> {finding.todo}" if finding.todo else ""
    line = printable(f"{finding.level:5} {finding.check:9} {finding.text}{todo}")
    return (
        [line]
        if width is None
        else textwrap.wrap(line, width, subsequent_indent=_INDENT, break_on_hyphens=False)
    )
