"""The templates of a supervisor: one at a time, and another one when it ends."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from hotqueue import events
from hotqueue.wakeup import Wakeup
from hotqueue.worker import policy
from hotqueue.worker.settings import Settings
from hotqueue.worker.template_link import TemplateLink


class Templates:
    """Starts templates. Children live on without one, so the next one has all the time it needs."""

    def __init__(self, settings: Settings, board: int, wakeup: Wakeup, *, adopting: bool) -> None:
        """`board` is the descriptor of the scoreboard; `wakeup` wakes at each SIGCHLD."""
        self._settings = settings
        self._board = board
        self._wakeup = wakeup
        self._adopting = adopting
        self._link: TemplateLink | None = None
        self._ever_ready = False
        self._refusal: str | None = None
        self._deaths = 0  # in a row
        self._after_s = 0.0
        self.problem: str | None = None  # why the application cannot be had, if it never could

    @property
    def pid(self) -> int:
        """The pid of the current one, 0 if there is none."""
        return self._link.pid if self._link is not None else 0

    @property
    def is_ready(self) -> bool:
        """Whether it has imported the application, and forks."""
        return self._link is not None and self._link.is_ready

    @property
    def next_s(self) -> float:
        """When the next one may be started; infinite while there is one."""
        return self._after_s if self._link is None else float("inf")

    def keep(self) -> None:
        """Start one if there is none and its time has come."""
        if time.monotonic() < self.next_s:
            return
        try:
            self._link = TemplateLink(self._settings, self._board, adopting=self._adopting)
        except OSError as error:
            self._back_off(f"it could not be started: {error}", lived_s=0.0)

    def filenos(self) -> list[int]:
        """Return the descriptors to poll for reports."""
        return [self._link.fileno()] if self._link is not None else []

    def fork(self, slot: int, ticket: int) -> None:
        """Ask for a child. The answer is a report, or the end of the template."""
        if self._link is not None:
            self._link.fork(slot, ticket)

    def reports(self) -> Iterator[dict[str, Any]]:
        """Yield what it has said since the last time, without waiting."""
        link = self._link
        for report in link.reports() if link is not None else ():
            match report:
                case {"refused": str(cause)}:
                    self._refusal = cause
                case {"ready": _} if link is not None:
                    link.is_ready = self._ever_ready = True
                    yield report
                case _:
                    yield report

    def ended(self, status: int) -> None:
        """Note that the current one was reaped, and what it had to say was heard."""
        link, self._link = self._link, None
        if link is None:
            return
        link.ended(status)
        cause, self._refusal = self._refusal, None
        how = policy.how_it_ended(status)
        if self._ever_ready:
            self._back_off(cause or how, link.lived_s)
        else:
            targets = " ".join(self._settings.targets)
            self.problem = cause or f"importing {targets} ended the interpreter ({how})"

    def kill(self) -> None:
        """Kill it."""
        if self._link is not None:
            self._link.kill()

    def end(self) -> None:
        """Have it end, and reap it."""
        if self._link is not None:
            self._link.end(self._wakeup)
            self._link = None

    def _back_off(self, cause: str, lived_s: float) -> None:
        self._deaths = policy.crashes_in_a_row(self._deaths, lived_s=lived_s)
        self._after_s = time.monotonic() + policy.respawn_delay_s(self._deaths)
        events.emit(logging.ERROR, events.TEMPLATE_EXITED, cause=cause)
