"""The subcommands of ``hotqueue`` as one command, and what becomes of their errors."""

import difflib
import io
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from hotqueue import __version__, stdout

_FAILED, _USAGE, _REDIS = 1, 2, 3
_COMMANDS = {  # name → module; what one needs most comes first
    **{name: name for name in ("info", "top", "workers", "peek", "send", "pause")},
    "resume": "pause",
    **{name: name for name in ("clear", "dead", "doctor", "health", "server")},
}


_MEANT = {  # words of other tools → what does that here
    **dict.fromkeys(("ls", "list", "queues", "stats", "status"), "info"),
    **dict.fromkeys(("delete", "empty", "flush", "purge"), "clear"),
    **dict.fromkeys(("enqueue", "push", "put"), "send"),
    **dict.fromkeys(("failed", "requeue", "retry"), "dead"),
    **dict.fromkeys(("run", "start", "worker"), "hotqueue-worker"),
    "help": "--help",
}


class Commands(click.Group):
    """Imports a command when it is asked for: each of them, and the library, takes its time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one; None if there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"hotqueue.cli.{_COMMANDS[cmd_name]}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names; for one that there is not, suggest what is meant."""
        word = args[0]
        near = [_MEANT[word]] if word in _MEANT else difflib.get_close_matches(word, _COMMANDS, n=1)
        if near and near[0] != word:
            ctx.fail(f"No such command {word!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "HOTQUEUE", "help_option_names": ["-h", "--help"]},
    epilog="Workers are started by hotqueue-worker.",
)
@click.version_option(__version__, message="hotqueue %(version)s", allow_from_autoenv=False)
def hotqueue() -> None:
    """Look at the queues of HotQueue and operate them.

    Ends with code 0; 1 if something failed, 2 for a mistake in the command, 3 if Redis cannot be reached or
    refuses.
    """


def run(words: Sequence[str]) -> int:
    """Run the command and return its exit code. A user's mistake is one line on stderr, not a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the locale cannot write
    try:
        code = hotqueue.main(list(words) or ["--help"], prog_name="hotqueue", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _fail(_mistake(error, words), _USAGE)
    except click.Abort:
        return _fail("interrupted", _FAILED)
    except OSError as error:
        said = stdout.given_up(error)
        return _fail(said, _FAILED) if said else _FAILED
    except Exception as error:
        failed = _code_of(error)
        if failed is None:
            raise
        return _fail(str(error), failed)
    return code if isinstance(code, int) else 0


def _mistake(error: click.UsageError, words: Sequence[str]) -> str:
    """Return what was wrong, and where to read how it is done."""
    said = error.format_message().strip()
    if not said.endswith((".", "?")):
        said += "."
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and error.ctx.parent is None:
        said += " Options of a command stand behind it."
    if error.ctx is not None:
        path = error.ctx.command_path
    else:  # the parser does not tell
        path = " ".join(["hotqueue", *(word for word in words[:1] if word in _COMMANDS)])
    return f"{said} See {path} --help"


def _code_of(error: Exception) -> int | None:
    """Return the exit code for an error of ours, None for any other."""
    from hotqueue import errors  # noqa: PLC0415 - only here: it takes ten times as long as a probe

    codes = (
        (errors.ConfigurationError, _USAGE),
        ((errors.NotSent, errors.OutcomeUnknown), _REDIS),
        (errors.HotQueueError, _FAILED),
    )
    return next((code for kinds, code in codes if isinstance(error, kinds)), None)


def _fail(why: str, code: int) -> int:
    click.echo(f"hotqueue: {' '.join(why.split())}", err=True)
    return code
