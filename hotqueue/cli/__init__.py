"""The ``hotqueue`` command: look at queues and operate them. One file per subcommand."""

import sys
from collections.abc import Sequence

import click

from hotqueue import __version__
from hotqueue.cli.server import server
from hotqueue.errors import ConfigurationError, HotQueueError

_FAILED, _USAGE = 1, 2


@click.group(
    context_settings={"auto_envvar_prefix": "HOTQUEUE", "help_option_names": ["-h", "--help"]},
    epilog="Workers are started by hotqueue-worker.",
)
@click.version_option(__version__, message="hotqueue %(version)s", allow_from_autoenv=False)
def hotqueue() -> None:
    """Look at the queues of HotQueue and operate them."""


hotqueue.add_command(server)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. A user's mistake is one line on stderr, not a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = hotqueue.main(words or ["--help"], prog_name="hotqueue", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hotqueue"
        return _fail(f"{error.format_message()} See {path} --help", _USAGE)
    except click.Abort:
        return _fail("interrupted", _FAILED)
    except HotQueueError as error:
        return _fail(str(error), _USAGE if isinstance(error, ConfigurationError) else _FAILED)
    return code if isinstance(code, int) else 0


def _fail(why: str, code: int) -> int:
    click.echo(f"hotqueue: {' '.join(why.split())}", err=True)
    return code
