"""The `hotqueue-worker` command: options in, exit code out."""

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from hotqueue import __version__, embedded, events, stdout
from hotqueue.address import DEFAULT_URL, Address
from hotqueue.errors import ConfigurationError, HotQueueError
from hotqueue.worker import journal, logs, options, pid_file, processes, signals
from hotqueue.worker.recovery import Served
from hotqueue.worker.scribe import Scribe
from hotqueue.worker.settings import Settings, from_pyproject, here
from hotqueue.worker.stopping import ExitCode
from hotqueue.worker.supervisor import Supervisor

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("auto", "json", "console")
SERVER_GRACE_S = 5.0
MOST_SEATS = 100  # of a child: each has a thread, and connections of its own
MOST_S = 1e11  # beyond it there were no milliseconds in a sorted set


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
    type=options.Seconds(min=0),
    callback=options.number,
    metavar="SECONDS",
    default=25.0,
    show_default=True,
    help="How long a running message may finish at a stop, before it is killed and handed back.",
)
@click.option(
    "--connect-timeout",
    type=options.Seconds(min=0),
    callback=options.number,
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
    "--max-dead",
    type=click.IntRange(min=0),
    metavar="N",
    help="Dead messages of a queue to keep; the oldest are deleted.  [default: all]",
)
@click.option(
    "--max-dead-age",
    type=options.Seconds(min=0, max=MOST_S),
    callback=options.number,
    metavar="SECONDS",
    help="Delete messages that have been dead for longer.  [default: never]",
)
@click.option(
    "--time-limit",
    type=options.Seconds(min=0, min_open=True),
    callback=options.number,
    metavar="SECONDS",
    help="Kill the child of a message that runs longer; it has failed.  [default: none]",
)
@click.option(
    "--soft-time-limit",
    type=options.Seconds(min=0, min_open=True),
    callback=options.number,
    metavar="SECONDS",
    help="Raise SoftTimeLimit in a handler that runs longer.  [default: none]",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help="Replace a child that has run about so many messages.  [default: no limit]",
)
@click.option(
    "--max-memory",
    type=click.FloatRange(min=1),
    callback=options.number,
    metavar="MIB",
    help="Replace a child that holds more memory, when its message is done.  [default: no limit]",
)
@click.option(
    "--prefetch",
    type=click.UNPROCESSED,
    callback=options.prefetch,
    metavar="N|auto",
    help="Messages that a child claims at once, at most 256; auto follows the handler, see --prefetch-ms."
    "  [default: auto]",
)
@click.option(
    "--prefetch-ms",
    type=click.FloatRange(min=0, max=1000),
    callback=options.number,
    metavar="MS",
    default=10.0,
    show_default=True,
    help="How long what a child claims at once should take to run, by the handler's last messages.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, MOST_SEATS),
    default=1,
    show_default=True,
    metavar="N",
    help="Messages that a child runs at once, each in a thread; for handlers that wait."
    f" At most {MOST_SEATS}.",
)
@click.option(
    "--tasks",
    type=click.IntRange(1, MOST_SEATS),
    default=1,
    show_default=True,
    metavar="N",
    help=f"The same for async handlers, on one event loop of the child. At most {MOST_SEATS}.",
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
@options.of_itself
@click.option("--check", is_flag=True, help="Import, list queues and handlers, connect, and exit.")
@click.option("--reload", is_flag=True, help="Reload when a Python file below this folder changes.")
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
) -> tuple[Settings, str | None]:
    """Run the handlers of MODULE in child processes until told to stop.

    ATTRIBUTE is a handler, a HotQueue, a list of them, or object.method; without it everything that
    MODULE registers runs. The current folder is importable.

    \b
    TERM, INT   stop: running messages finish within the shutdown timeout
    QUIT        stop at once; what runs is handed back
    HUP         reload: new code, no gap; on a terminal it stops
    TTIN, TTOU  one child more, one fewer
    TSTP, CONT  begin nothing new; go on
    USR1        log the Python stack of every child
    """  # noqa: D301 - click wants the very character
    if not targets:
        hint = (
            f" ({embedded!r} was read as the folder of --embedded: put the module first)" if embedded else ""
        )
        msg = f"name a module, as in: hotqueue-worker myapp.tasks{hint}"
        raise click.UsageError(msg)
    if others["threads"] > 1 and others["tasks"] > 1:
        msg = "--threads and --tasks exclude each other: with --tasks, plain functions run in threads too"
        raise click.UsageError(msg)
    number, why = concurrency
    return Settings(targets=targets, concurrency=number, concurrency_why=why, **others), embedded


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command; a mistake of the user's is one line and an exit code, never a traceback."""
    processes.open_standard_descriptors()
    stdout.ensure()
    gc.freeze()  # what was imported: to collect it takes most of the time of an exit
    try:
        code = _obey(list(sys.argv[1:] if arguments is None else arguments))
    except click.NoSuchOption as error:
        code = _complain(f"{error.format_message()} See hotqueue-worker --help", ExitCode.USAGE)
    except click.ClickException as error:
        code = _complain(error.format_message(), ExitCode.USAGE)
    except pid_file.PidFileInUse as error:
        code = _complain(str(error), ExitCode.PID_FILE)
    except HotQueueError as error:
        code = _complain(str(error), ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):  # told to stop before anything had begun
        code = ExitCode.CLEAN
    sys.exit(int(code))


def _obey(arguments: list[str]) -> ExitCode:
    try:
        asked = command.main(
            args=arguments,
            prog_name="hotqueue-worker",
            standalone_mode=False,
            default_map=from_pyproject(Path("pyproject.toml"), _names()),
        )
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return _run(*asked) if isinstance(asked, tuple) else ExitCode.CLEAN  # --help and --version


def _run(settings: Settings, directory: str | None) -> ExitCode:
    here()
    try:
        Address.from_url(_url(settings))
    except ConfigurationError as error:
        return _complain(str(error), ExitCode.REDIS)
    scribe = Scribe(logs.to_stderr)
    logs.configure(settings.log_level, settings.log_format, scribe.put)
    for variable, meant in options.misspelled(os.environ, _names() | {"check"}):
        events.emit(logging.WARNING, events.VARIABLE_UNKNOWN, variable=variable, meant=meant)
    with contextlib.ExitStack() as ending:
        ending.callback(scribe.flush)
        ending.enter_context(pid_file.held(None if settings.check else settings.pid))
        problem, code = _supervise(settings, directory)
    return code if problem is None else _complain(problem, code)


def _supervise(settings: Settings, directory: str | None) -> tuple[str | None, ExitCode]:
    checked: list[Served] = []
    supervisor = Supervisor(settings, checked.extend)
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
    try:
        _list(checked)
        sys.stdout.flush()
    except OSError as error:
        return stdout.given_up(error) or None, ExitCode.UNCLEAN
    return supervisor.stopping.problem, code


def _url(settings: Settings) -> str:
    return settings.url or os.environ.get("REDIS_URL") or DEFAULT_URL


def _names() -> set[str]:
    """Return the options that a project may set."""
    names = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
    return {name for name in names if name} - {"version", "check"}


def _list(served: Sequence[Served]) -> None:
    for each in served:
        click.echo(f"{each.queue}  {each.handler}  {each.delivery}  {each.address}  {each.where}")


def _unwritten(error: OSError) -> ExitCode:
    said = stdout.given_up(error)
    return _complain(said, ExitCode.UNCLEAN) if said else ExitCode.UNCLEAN


def _complain(problem: str, code: ExitCode) -> ExitCode:
    mark = journal.priority(logging.ERROR) if journal.is_listening() else ""
    scribe = Scribe(_say)
    scribe.put(f"{mark}hotqueue-worker: {' '.join(problem.split())}\n".encode(errors="backslashreplace"))
    scribe.flush()
    return code


def _say(line: bytes) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, nl=False, err=True)
