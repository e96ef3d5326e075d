"""``hotqueue server``: a private server in the foreground, for Procfiles and terminals."""

import os
import select
import signal
import time
from pathlib import Path
from types import FrameType

import click

from hotqueue.cli.access import Duration
from hotqueue.embedded import DEFAULT_DIR, Server
from hotqueue.errors import HotQueueError
from hotqueue.loopback import DEFAULT_PORT, HERE, address
from hotqueue.wakeup import Wakeup

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 0.5
_LOOK_SOON_S = 0.05
_AGAIN_S = (
    1.0  # Ctrl-C reaches a whole group, and what started us may then send TERM as well: that is one wish
)


@click.command()
@click.argument(
    "directory", metavar="[DIR]", default=DEFAULT_DIR, type=click.Path(file_okay=False, path_type=Path)
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    allow_from_autoenv=False,  # Kubernetes sets variables that end in _PORT
    help=f"Where to listen.  [default: the port of HOTQUEUE_URL or REDIS_URL, else {DEFAULT_PORT}]",
)
@click.option(
    "--grace",
    type=Duration(),
    default=4.5,
    show_default=True,
    metavar="SECONDS",
    help="How long clients may take to leave. honcho and foreman kill after 5 seconds.",
)
def server(directory: Path, port: int | None, grace: float) -> None:
    """Run a private server for development and tests.

    It serves this machine only and keeps its data in DIR (.hotqueue). TERM and Ctrl-C stop it once its
    clients have left, so that workers stopped at the same moment can settle what they have done; a second
    one stops it at once.
    """
    wishes = _Wishes()
    host, port = _address(port)
    private = Server(directory, port, host)
    private.start()
    try:
        _serve(private, wishes)
        _let_clients_leave(private, wishes, grace)
    finally:
        private.stop()
        wishes.ignore()


class _Wishes:
    """The signals that ask us to stop: the handler records them, the loops below decide."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self._wakeup = Wakeup()
        for number in _SIGNALS:
            signal.signal(number, self._record)
        self._wakeup.on_signals()

    def _record(self, _number: int, _frame: FrameType | None) -> None:
        self.came.append(time.monotonic())

    def ignore(self) -> None:
        """Let no later one spoil the exit code: on its way out the interpreter has no handlers any more."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @property
    def pressing(self) -> bool:
        return bool(self.came) and self.came[-1] - self.came[0] >= _AGAIN_S

    def wait(self, seconds: float) -> None:
        """Wait for the next one."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if poll.poll(seconds * 1000):
            self._wakeup.drain()


def _address(port: int | None) -> tuple[str, int]:
    url = os.environ.get("HOTQUEUE_URL") or os.environ.get("REDIS_URL")
    if port is None and url:
        return address(url)
    return HERE, port or DEFAULT_PORT


def _serve(private: Server, wishes: _Wishes) -> None:
    """Return when we are asked to stop."""
    while not private.ready():
        if wishes.came:
            return
        wishes.wait(_LOOK_SOON_S)
    _say(f"serving redis://{HERE}:{private.port}/0, data in {private.folder.path}")
    while not wishes.came:
        wishes.wait(_LOOK_S)
        if not private.running():
            msg = f"the server in {private.folder.path} has ended by itself: {private.folder.last_words()}"
            raise HotQueueError(msg)


def _let_clients_leave(private: Server, wishes: _Wishes, grace_s: float) -> None:
    """Return when nobody is connected, after `grace_s` seconds, or when we are asked again."""
    deadline = time.monotonic() + grace_s
    told = False
    while private.running() and (clients := private.clients()) and not wishes.pressing:
        if not told:
            _say(f"waiting up to {grace_s:g} s for clients to leave, {clients} connected")
            told = True
        if time.monotonic() > deadline:
            return
        wishes.wait(_LOOK_SOON_S)


def _say(what: str) -> None:
    click.echo(f"hotqueue: {what}", err=True)
