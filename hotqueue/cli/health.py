"""``hotqueue health``: whether a worker on this host is alive, and whether it is ready; for probes."""

import click

from hotqueue import probe


@click.command()
@click.option("--live", "question", flag_value="live", help="Does its supervisor run, and not hang?")
@click.option(
    "--ready", "question", flag_value="ready", help="Is a child ready for messages, and Redis reached?"
)
@click.option(
    "-n",
    "--name",
    envvar="HOTQUEUE_NAME",
    metavar="NAME",
    help="The worker that was started with this --name.  [default: the host's name]",
)
@click.option(
    "--status-file",
    "path",
    envvar="HOTQUEUE_STATUS_FILE",
    metavar="PATH",
    help="The worker that was started with this --status-file.",
)
def health(question: str | None, name: str | None, path: str | None) -> int:
    """Tell whether a worker on this host is alive, or ready.

    Ends with code 0 if so, else with 1; one line says why. It reads the file that the supervisor writes every
    second, and asks neither Redis nor your application.
    """
    if question is None:
        msg = "Ask for --live or --ready."
        raise click.UsageError(msg, click.get_current_context())
    answer = probe.answer(question, name, path)
    click.echo(answer.line)
    return answer.code
