"""``hotqueue top``: queues and workers of all hosts on one screen, until one has seen enough."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

import click

from hotqueue.cli.access import Access, with_access
from hotqueue.cli.scene import EVERY_S, Observer
from hotqueue.cli.screen import Kind, Line, lines
from hotqueue.errors import ConfigurationError

try:
    import rich.console
    import rich.live
    import rich.text
except ImportError:
    _has_rich = False
else:
    _has_rich = True

_FIRST_S = 0.1  # until the first look is there
_STYLES: dict[Kind, str] = {"head": "bold", "plain": "", "busy": "green", "quiet": "dim", "bad": "bold red"}


@click.command()
@with_access
def top(access: Access) -> None:
    """Watch queues and the workers of all hosts, until q or Ctrl-C.

    Of each child: what it runs and for how long, how many messages a second it does, what half of those of
    the last minute took at the most (p50), and all but one in twenty (p95), its memory, how many before it
    in its place have ended, and how long ago the last of them.
    """
    if not _has_rich:
        msg = "hotqueue top needs rich: pip install 'hotqueue[cli]'"
        raise ConfigurationError(msg)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        msg = "It needs a terminal; hotqueue info and hotqueue workers do not."
        raise click.UsageError(msg, click.get_current_context())
    access.known()  # whatever is wrong with the address is said before the screen is taken
    observer = Observer(access)
    observer.start()
    console = rich.console.Console()
    with (
        contextlib.suppress(KeyboardInterrupt),
        _keys_at_once(),
        rich.live.Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            shown = lines(observer.scene, str(access.address), console.width, console.height)
            live.update(_drawn(shown), refresh=True)
            if _is_over(_FIRST_S if observer.scene is None else EVERY_S):
                return


def _drawn(shown: Sequence[Line]) -> "rich.text.Text":
    return rich.text.Text("\n", no_wrap=True, overflow="crop").join(
        rich.text.Text(line.text, style=_STYLES[line.kind]) for line in shown
    )


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Have keys come without Enter, and not shown, for the time of the block."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_over(wait_s: float) -> bool:
    """Wait so long for a key; tell whether it was a q, or the terminal has gone."""
    if not select.select([sys.stdin], [], [], wait_s)[0]:
        return False
    keys = os.read(sys.stdin.fileno(), 100)
    return not keys or b"q" in keys.lower()
