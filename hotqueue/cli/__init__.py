"""The ``hotqueue`` command: look at queues and operate them. One file per subcommand."""

import io
import os
import sys
from collections.abc import Sequence

import click

from hotqueue import __version__
from hotqueue.cli.access import InOrder
from hotqueue.cli.clear import clear
from hotqueue.cli.dead import dead
from hotqueue.cli.doctor import doctor
from hotqueue.cli.info import info
from hotqueue.cli.pause import pause, resume
from hotqueue.cli.peek import peek
from hotqueue.cli.send import send
from hotqueue.cli.server import server
from hotqueue.cli.workers import workers
from hotqueue.errors import ConfigurationError, HotQueueError, NotSent, OutcomeUnknown

_FAILED, _USAGE, _REDIS = 1, 2, 3
_CODES = ((ConfigurationError, _USAGE), ((NotSent, OutcomeUnknown), _REDIS), (HotQueueError, _FAILED))
_COMMANDS = (info, workers, peek, send, pause, resume, clear, dead, doctor, server)


@click.group(
    cls=InOrder,
    context_settings={"auto_envvar_prefix": "HOTQUEUE", "help_option_names": ["-h", "--help"]},
    epilog="Workers are started by hotqueue-worker.",
)
@click.version_option(__version__, message="hotqueue %(version)s", allow_from_autoenv=False)
def hotqueue() -> None:
    """Look at the queues of HotQueue and operate them.

    Ends with code 0; 1 if something failed, 2 for a mistake in the command, 3 if Redis cannot be reached or
    refuses.
    """


for _command in _COMMANDS:
    hotqueue.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. A user's mistake is one line on stderr, not a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the locale cannot write
    try:
        code = hotqueue.main(words or ["--help"], prog_name="hotqueue", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hotqueue"
        return _fail(f"{error.format_message()} See {path} --help", _USAGE)
    except click.Abort:
        return _fail("interrupted", _FAILED)
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except HotQueueError as error:
        return _fail(str(error), next(code for kinds, code in _CODES if isinstance(error, kinds)))
    return code if isinstance(code, int) else 0


def _fail(why: str, code: int) -> int:
    click.echo(f"hotqueue: {' '.join(why.split())}", err=True)
    return code
