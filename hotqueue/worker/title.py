"""Process titles, as `ps` shows them. No secrets: setproctitle also hides what stood in argv."""

import time

from setproctitle import setproctitle

from hotqueue.delivery import Delivery

EVERY_S = 0.1  # for messages of one kind: a title costs a few microseconds, a fast handler less


def supervisor(targets: str, busy: int, children: int) -> None:
    """Show how many children are busy."""
    setproctitle(f"hotqueue: supervisor {targets} [{busy}/{children} busy]")


def template(targets: str) -> None:
    """Show that this process only forks."""
    setproctitle(f"hotqueue: template {targets}")


class ChildTitle:
    """The title of one child. It shows since when a message runs: time passes without anybody's help."""

    def __init__(self, number: int) -> None:
        """`number` counts from 1."""
        self._number = number
        self._shown: tuple[str, str] | None = None
        self._next_s = 0.0

    def idle(self) -> None:
        """Show that the child waits."""
        self._show("idle")

    def stopping(self) -> None:
        """Show that the child leaves."""
        self._show("stopping")

    def running(self, delivery: Delivery, handler: str) -> None:
        """Show what runs, unless that stands there since just before."""
        what, now_s = (delivery.queue, handler), time.monotonic()
        if what != self._shown or now_s >= self._next_s:
            self._show(f"{delivery.queue} {handler} since {time.strftime('%H:%M:%S')}")
            self._shown, self._next_s = what, now_s + EVERY_S

    def _show(self, what: str) -> None:
        setproctitle(f"hotqueue: child {self._number} {what}")
        self._shown = None
