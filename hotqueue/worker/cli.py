"""The `hotqueue-worker` command: options in, exit code out."""

import logging
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from hotqueue import __version__, embedded, events
from hotqueue.address import DEFAULT_URL, Address
from hotqueue.errors import ConfigurationError, HotQueueError
from hotqueue.worker import logs, policy
from hotqueue.worker.keeper import Served
from hotqueue.worker.settings import QueueChoice, Settings, parse_queues
from hotqueue.worker.supervisor import ExitCode, Supervisor

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("auto", "json", "console")
SERVER_GRACE_S = 5.0


class Concurrency(click.ParamType[tuple[int, str]]):
    """A number from 1, or `auto`."""

    name = "N|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        """Return the number and why it is that."""
        if isinstance(value, tuple):
            return value
        if str(value) == "auto":
            return policy.usable_cpus()
        if not str(value).isdecimal() or int(str(value)) < 1:
            self.fail(f"{value!r} is neither a whole number from 1 nor auto", param, ctx)
        return int(str(value)), "as told"


class Queues(click.ParamType[QueueChoice]):
    """`a,b` or `critical=5,default=1`."""

    name = "a,b|a=5,b=1"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> QueueChoice:
        """Return the choice."""
        if isinstance(value, QueueChoice):
            return value
        try:
            return parse_queues(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


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
    type=Concurrency(),
    help="Child processes; auto is all the CPUs the cgroup allows.  [default: usable CPUs, at most 8]",
)
@click.option(
    "-Q",
    "--queues",
    type=Queues(),
    help="Queues to serve: in strict order, or by weight.  [default: all that have a handler, in turn]",
)
@click.option(
    "-u", "--url", help=f"Redis for queues without an address.  [default: $REDIS_URL, {DEFAULT_URL}]"
)
@click.option(
    "-t",
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a running message may finish at a stop, before it is killed and handed back.",
)
@click.option(
    "--connect-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
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
@click.option("-b", "--burst", is_flag=True, help="End when nothing is waiting or in flight here.")
@click.option(
    "--embedded",
    is_flag=False,
    flag_value=str(embedded.DEFAULT_DIR),
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
@click.version_option(__version__, prog_name="hotqueue-worker", message="%(prog)s %(version)s")
def command(
    targets: tuple[str, ...],
    concurrency: tuple[int, str] | None,
    embedded: str | None,
    **options: Any,
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
    number, why = concurrency or policy.default_concurrency()
    options["queues"] = options["queues"] or QueueChoice()
    settings = Settings(targets=targets, concurrency=number, concurrency_why=why, **options)
    if settings.url is not None:
        Address.from_url(settings.url)
    logs.configure(settings.log_level, settings.log_format)
    return _run(settings, embedded)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command; a mistake of the user's is one line and an exit code, never a traceback."""
    try:
        code = command.main(
            args=list(sys.argv[1:] if arguments is None else arguments),
            prog_name="hotqueue-worker",
            standalone_mode=False,
            default_map=_from_pyproject(Path("pyproject.toml")),
        )
    except click.ClickException as error:
        code = _complain(error.format_message())
    except HotQueueError as error:
        code = _complain(str(error))
    except click.Abort:
        code = ExitCode.UNCLEAN
    sys.exit(int(code or 0))


def _run(settings: Settings, directory: str | None) -> int:
    server = None
    if directory is not None:
        url = settings.url or os.environ.get("REDIS_URL") or DEFAULT_URL
        server = embedded.ensure(url, Path(directory))
    if server is not None:
        events.emit(logging.INFO, events.SERVER_STARTED, port=server.port, folder=str(server.folder.path))
    try:
        supervisor = Supervisor(settings, _list)
        code = supervisor.run()
    finally:
        if server is not None:
            server.stop(SERVER_GRACE_S)
            events.emit(logging.INFO, events.SERVER_STOPPED, port=server.port)
    if supervisor.problem is not None:
        _complain(supervisor.problem)
    return code


def _list(served: Sequence[Served]) -> None:
    for each in served:
        click.echo(f"{each.queue}  {each.handler}  {each.delivery}  {each.address}  {each.where}")


def _complain(problem: str) -> ExitCode:
    click.echo(f"hotqueue-worker: {' '.join(problem.split())}", err=True)
    return ExitCode.USAGE


def _from_pyproject(path: Path) -> dict[str, Any]:
    """Return [tool.hotqueue] as defaults. Raises ConfigurationError for a name that is no option."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("hotqueue", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"cannot read {path.resolve()}: {error}"
        raise ConfigurationError(msg) from error
    options = {parameter.name for parameter in command.params if isinstance(parameter, click.Option)}
    options -= {"version", "check"}
    chosen = {name.replace("-", "_"): value for name, value in found.items()}
    for name in chosen:
        if name not in options:
            msg = f"[tool.hotqueue] in {path.resolve()}: there is no option {name!r}"
            raise ConfigurationError(msg)
    return chosen
