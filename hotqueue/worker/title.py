"""Process titles, as `ps` shows them. No secrets: setproctitle also hides what stood in argv."""

import time

from setproctitle import setproctitle

from hotqueue.delivery import Delivery

EVERY_S = 0.1  # at most; a title costs a few microseconds, a fast handler less


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
        self._next_s = 0.0

    def idle(self) -> None:
        """Show that the child waits."""
        setproctitle(f"hotqueue: child {self._number} idle")
        self._next_s = 0.0

    def stopping(self) -> None:
        """Show that the child leaves."""
        setproctitle(f"hotqueue: child {self._number} stopping")

    def running(self, delivery: Delivery, handler: str) -> None:
        """Show what runs, unless the title was set just before."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            since = time.strftime("%H:%M:%S")
            setproctitle(f"hotqueue: child {self._number} {delivery.queue} {handler} since {since}")
