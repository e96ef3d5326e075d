"""The stop of a worker: since when, until when its children may finish, and what its exit says."""

import logging
import time
from collections.abc import Iterable
from enum import IntEnum
from itertools import chain

from hotqueue import events
from hotqueue.worker import policy
from hotqueue.worker.policy import NEVER
from hotqueue.worker.reading import MOST_IDS, Running

UNKILLABLE_S = 5.0  # that a killed child may need to go: one that hangs in the kernel never does
SETTLE_S = 5.0  # at most, for the keepers to give back what dead children held
LAST_WORDS_S = 1.0  # of that, after the timeout: whoever wants us gone may not wait much longer


class ExitCode(IntEnum):
    """What the worker's exit says."""

    CLEAN = 0
    UNCLEAN = 1
    USAGE = 2
    REDIS = 3
    PID_FILE = 4


class Stopping:
    """Begins once; from then on the deadline can only come nearer."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s` is what running messages get."""
        self._timeout_s = timeout_s
        self._since_s: float | None = None
        self.code = ExitCode.CLEAN
        self.problem: str | None = None
        self.kill_at_s = NEVER
        self.kill_reason = f"did not stop within {timeout_s:g} s"
        self._killed: list[Running] = []
        self._handed_back = 0
        self._ids_back: list[str] = []

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun."""
        return self._since_s is not None

    @property
    def is_late(self) -> bool:
        """Whether what is left must be killed."""
        return time.monotonic() >= self.kill_at_s

    @property
    def is_hopeless(self) -> bool:
        """Whether what was killed will not go."""
        return time.monotonic() > self.kill_at_s + UNKILLABLE_S

    @property
    def verdict(self) -> str:
        """What to say of it when it is over."""
        killed = f", messages killed: {len(self._killed)}" if self._killed else ""
        return self.problem or f"stopped with code {int(self.code)}{killed}"

    @property
    def settle_s(self) -> float:
        """How long the keepers may take from now on."""
        now_s = time.monotonic()
        since_s = now_s if self._since_s is None else self._since_s
        return min(SETTLE_S, max(0.0, since_s + self._timeout_s - now_s) + LAST_WORDS_S)

    def begin(self) -> None:
        """Set the deadline."""
        self._since_s = time.monotonic()
        self.kill_at_s = min(self.kill_at_s, self._since_s + self._timeout_s)

    def announce(self, reason: str, busy: int, oldest_s: float | None, hint: str | None) -> None:
        """Log until when so many messages, of which the oldest has run for so long, may finish."""
        left_s = round(max(0.0, self.kill_at_s - (self._since_s or 0.0)), 1)
        oldest_s = None if oldest_s is None else round(oldest_s, 1)
        events.emit(
            logging.INFO, events.SUPERVISOR_STOPPING,
            reason=reason, busy=busy, oldest_s=oldest_s, deadline_s=left_s, hint=hint,
        )  # fmt: skip

    def killed(self, ran: Iterable[Iterable[Running]]) -> None:
        """Note what ran in children that were late."""
        self._killed += chain.from_iterable(ran)

    def handed_back(self, count: int, ids: Iterable[str]) -> None:
        """Note what dead children held, and is back at the head of its queue."""
        if self.is_under_way:
            self._handed_back += count
            self._ids_back += ids

    def report(self) -> None:
        """Log what came of it; there may be more messages than ids."""
        ids = [each.id for each in self._killed if each.id is not None]
        events.emit(
            logging.INFO, events.SUPERVISOR_STOPPED,
            code=int(self.code),
            killed=len(self._killed) or None, killed_ids=ids[:MOST_IDS] or None,
            handed_back=self._handed_back or None, handed_back_ids=self._ids_back[:MOST_IDS] or None,
        )  # fmt: skip

    def blame(self, code: ExitCode, problem: str | None = None) -> None:
        """Have the exit say what was wrong; the worst counts."""
        self.code = max(self.code, code)
        self.problem = self.problem or problem

    def insist(self) -> None:
        """Take another INT: at once, unless it is the same Ctrl-C, delivered twice."""
        if self._since_s is not None and policy.is_forced(self._since_s, time.monotonic()):
            self.at_once("second SIGINT")

    def at_once(self, reason: str) -> None:
        """Wait no more."""
        self.kill_at_s = min(self.kill_at_s, time.monotonic())
        self.kill_reason = reason
