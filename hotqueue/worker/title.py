"""Process titles, as `ps` shows them. No secrets: setproctitle also hides what stood in argv."""

import time
from collections.abc import Mapping, Sequence

from setproctitle import setproctitle

from hotqueue.delivery import Delivery
from hotqueue.worker.reading import Running

EVERY_NS = 100_000_000  # for messages of one kind: a title costs a few microseconds, a fast handler less


def supervisor(targets: str, busy: int, children: int) -> None:
    """Show how many children are busy."""
    setproctitle(f"hotqueue: supervisor {_shown(targets)} [{busy}/{children} busy]")


def template(targets: str) -> None:
    """Show that this process only forks."""
    setproctitle(f"hotqueue: template {_shown(targets)}")


def _shown(targets: str) -> str:
    """What was no text in the terminal is none here."""
    return targets.encode(errors="backslashreplace").decode()


class ChildTitle:
    """The title of one child. It shows since when a message runs: time passes without anybody's help."""

    def __init__(self, number: int) -> None:
        """`number` counts from 1."""
        self._number = number
        self._shown: str | None = None  # a queue, which has one handler
        self._next_ns = 0

    def idle(self) -> None:
        """Show that the child waits."""
        self._show("idle")

    def stopping(self) -> None:
        """Show that the child leaves."""
        self._show("stopping")

    def running(self, delivery: Delivery, now_ns: int) -> None:
        """Show what runs, unless that stands there since just before; `now_ns` is monotonic."""
        if now_ns >= self._next_ns or delivery.queue != self._shown:
            self._show(f"{delivery.queue} {delivery.handler} since {time.strftime('%H:%M:%S')}")
            self._shown, self._next_ns = delivery.queue, now_ns + EVERY_NS

    def several(self, running: Sequence[Running], names: Mapping[str, str]) -> None:
        """Show how many run, and the oldest of them; `names` are those of the handlers of the queues."""
        if not running:
            self.idle()
            return
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - running[0].for_ms / 1000))
        count = f"{len(running)} running, " if len(running) > 1 else ""
        self._show(f"{count}{running[0].queue} {names[running[0].queue]} since {since}")

    def _show(self, what: str) -> None:
        setproctitle(f"hotqueue: child {self._number} {what}")
        self._shown = None
