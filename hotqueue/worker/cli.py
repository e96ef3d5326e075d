"""The `hotqueue-worker` command: options in, exit code out."""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from hotqueue import __version__, embedded, events
from hotqueue.address import DEFAULT_URL, Address
from hotqueue.errors import ConfigurationError, HotQueueError
from hotqueue.worker import logs, options, processes, signals
from hotqueue.worker.recovery import Served
from hotqueue.worker.settings import Settings, from_pyproject
from hotqueue.worker.supervisor import ExitCode, Supervisor

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("auto", "json", "console")
SERVER_GRACE_S = 5.0


@click.command(
    context_settings={
        "auto_envvar_prefix": "HOTQUEUE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Every option may also be set as HOTQUEUE_… in the environment, or in [tool.hotqueue] of"
    " pyproject.toml.",
)
@click.argument("targets", metavar="MODULE[:ATTRIBUTE]...", nargs=-1)
@click.option(
    "-c",
    "--concurrency",
    type=click.UNPROCESSED,
    callback=options.concurrency,
    metavar="N|auto",
    help="Child processes; auto is all the CPUs the cgroup allows.  [default: usable CPUs, at most 8]",
)
@click.option(
    "-Q",
    "--queues",
    type=click.UNPROCESSED,
    callback=options.queues,
    metavar="a,b|a=5,b=1",
    help="Queues to serve: in strict order, or by weight.  [default: all that have a handler, in turn]",
)
@click.option(
    "-u", "--url", help=f"Redis for queues without an address.  [default: $REDIS_URL, {DEFAULT_URL}]"
)
@click.option(
    "-t",
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    callback=options.seconds,
    metavar="SECONDS",
    default=25.0,
    show_default=True,
    help="How long a running message may finish at a stop, before it is killed and handed back.",
)
@click.option(
    "--connect-timeout",
    type=click.FloatRange(min=0),
    callback=options.seconds,
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="How long to wait for Redis at the start.",
)
@click.option(
    "--max-crashes",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Bury a message that crashed its child this often within 72 hours.",
)
@click.option(
    "--prefetch",
    type=click.IntRange(min=1, max=256),
    default=1,
    show_default=True,
    metavar="N",
    help="Messages that a child claims at once.",
)
@click.option("-b", "--burst", is_flag=True, help="End when nothing is waiting or in flight here.")
@click.option(
    "--embedded",
    type=click.UNPROCESSED,
    callback=options.folder,
    is_flag=False,
    flag_value=options.USUAL_DIR,
    metavar="[DIR]",
    help="Start a private server if nothing answers at the URL (loopback only), with its data in DIR.",
)
@click.option("--check", is_flag=True, help="Import, list queues and handlers, connect, and exit.")
@click.option(
    "-l", "--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="auto is console on a terminal, else JSON.",
)
@click.version_option(
    __version__,
    prog_name="hotqueue-worker",
    message="%(prog)s %(version)s",
    allow_from_autoenv=False,  # HOTQUEUE_VERSION is a name that images use
)
def command(
    targets: tuple[str, ...],
    concurrency: tuple[int, str],
    embedded: str | None,
    **others: Any,
) -> int:
    """Run the handlers of MODULE in child processes until told to stop.

    ATTRIBUTE is a handler, a HotQueue, a list of them, or object.method; without it everything that
    MODULE registers runs. The current folder is importable.

    \b
    TERM, INT   stop: running messages finish within the shutdown timeout
    QUIT        stop at once; what runs is handed back
    """  # noqa: D301 - click wants the very character
    if not targets:
        hint = (
            f" ({embedded!r} was read as the folder of --embedded: put the module first)" if embedded else ""
        )
        msg = f"name a module, as in: hotqueue-worker myapp.tasks{hint}"
        raise click.UsageError(msg)
    number, why = concurrency
    settings = Settings(targets=targets, concurrency=number, concurrency_why=why, **others)
    logs.configure(settings.log_level, settings.log_format)
    try:
        Address.from_url(_url(settings))
    except ConfigurationError as error:
        return _complain(str(error), ExitCode.REDIS)
    return _run(settings, embedded)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command; a mistake of the user's is one line and an exit code, never a traceback."""
    processes.open_standard_descriptors()
    gc.freeze()  # what was imported: to collect it takes most of the time of an exit
    try:
        code = command.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="hotqueue-worker",
            standalone_mode=False,
            default_map=from_pyproject(Path("pyproject.toml"), _names()),
        )
    except click.ClickException as error:
        code = _complain(error.format_message(), ExitCode.USAGE)
    except HotQueueError as error:
        code = _complain(str(error), ExitCode.USAGE)
    except click.Abort:  # told to stop before anything had begun
        code = ExitCode.CLEAN
    sys.exit(int(code or 0))


def _run(settings: Settings, directory: str | None) -> ExitCode:
    supervisor = Supervisor(settings, _list)
    server = None
    if directory is not None:
        with signals.raised():
            server = embedded.ensure(_url(settings), Path(directory))
    if server is not None:
        events.emit(logging.INFO, events.SERVER_STARTED, port=server.port, folder=str(server.folder.path))
    try:
        code = supervisor.run()
    finally:
        if server is not None:
            server.stop(SERVER_GRACE_S)
            events.emit(logging.INFO, events.SERVER_STOPPED, port=server.port)
    signals.ignore()
    return code if supervisor.problem is None else _complain(supervisor.problem, code)


def _url(settings: Settings) -> str:
    return settings.url or os.environ.get("REDIS_URL") or DEFAULT_URL


def _names() -> set[str]:
    """Return the options that a project may set."""
    names = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
    return {name for name in names if name} - {"version", "check"}


def _list(served: Sequence[Served]) -> None:
    for each in served:
        click.echo(f"{each.queue}  {each.handler}  {each.delivery}  {each.address}  {each.where}")


def _complain(problem: str, code: ExitCode) -> ExitCode:
    click.echo(f"hotqueue-worker: {' '.join(problem.split())}", err=True)
    return code
